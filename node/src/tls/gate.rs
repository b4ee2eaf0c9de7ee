//! Where connections come in: counted, given a moment to say something, encrypted.
//!
//! What takes time happens beside the accepting, so that a slow or hostile connection delays
//! nobody. Connections beyond the limits are closed at once and without a word: to answer each
//! would be what an attacker wants.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::conn::Conn;
use super::identity::Caller;
use super::{Door, Tls};

/// Connections one listener holds: each costs a task and some tens of kilobytes.
pub const CONNECTIONS_MAX: usize = 1_000;

/// Of them from one other machine. This machine's own may be a proxy before all clients.
pub const CONNECTIONS_PER_HOST_MAX: usize = 100;

/// A connection that says nothing for this long is let go.
const FIRST_BYTE_MAX: Duration = Duration::from_secs(10);

/// A handshake is two round trips and some milliseconds of arithmetic.
pub(super) const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// Connections that wait to be served.
const WAITING_MAX: usize = 64;

/// After an error that has to do with this node, such as no descriptor being left.
const PAUSE: Duration = Duration::from_millis(100);

/// The connections of one listener, by where they come from.
#[derive(Debug, Default)]
struct Places {
    taken: Mutex<(usize, BTreeMap<IpAddr, usize>)>,
}

/// The right of one connection to be there. Given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    host: IpAddr,
}

impl Places {
    fn take(self: &Arc<Places>, host: IpAddr) -> Option<Place> {
        let host = host.to_canonical();
        let mut taken = self.taken.lock();
        let (all, by_host) = &mut *taken;
        let here = by_host.get(&host).copied().unwrap_or(0);
        let crowded = !host.is_loopback() && CONNECTIONS_PER_HOST_MAX <= here;
        if CONNECTIONS_MAX <= *all || crowded {
            return None;
        }
        *all += 1;
        by_host.insert(host, here + 1);
        Some(Place { places: self.clone(), host })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        let (all, by_host) = &mut *taken;
        *all -= 1;
        if let Some(count) = by_host.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                by_host.remove(&self.host);
            }
        }
    }
}

/// A listener whose connections are ready to be served. Listens until it is dropped.
#[derive(Debug)]
pub struct Gate {
    ready: mpsc::Receiver<Conn>,
}

impl Gate {
    /// Opens a door. Must be called on the runtime that shall serve it.
    pub fn open(listener: TcpListener, door: Door, tls: Arc<Tls>) -> Gate {
        let (out, ready) = mpsc::channel(WAITING_MAX);
        tokio::spawn(accept(listener, door, tls, out));
        Gate { ready }
    }

    /// The next connection. None only when the runtime is shut down.
    pub async fn accept(&mut self) -> Option<Conn> {
        self.ready.recv().await
    }
}

async fn accept(listener: TcpListener, door: Door, tls: Arc<Tls>, out: mpsc::Sender<Conn>) {
    let places = Arc::new(Places::default());
    loop {
        let accepted = tokio::select! {
            () = out.closed() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_the_other_side(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = places.take(remote.ip()) else {
            tracing::debug!(%remote, ?door, "too many connections");
            continue;
        };
        let (tls, out) = (tls.clone(), out.clone());
        tokio::spawn(async move {
            match receive(stream, remote, place, door, &tls).await {
                // Nobody serves any more.
                Ok(conn) => drop(out.send(conn).await),
                Err(error) => tracing::debug!(%remote, ?door, %error, "turned away"),
            }
        });
    }
}

/// A connection that failed before it was accepted concerns nobody else.
fn is_of_the_other_side(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

async fn receive(
    stream: TcpStream,
    remote: SocketAddr,
    place: Place,
    door: Door,
    tls: &Tls,
) -> io::Result<Conn> {
    // Answers go out at once: gathered, a short one would wait for the client's delayed
    // acknowledgement.
    stream.set_nodelay(true)?;
    match (door, tls.server(door)) {
        // Encrypts later, when it is asked to, and has a time of its own for the first words.
        (Door::Postgres, _) => {}
        (Door::Clients | Door::Peers | Door::Http, Some(_)) => {
            return tls.encrypt(stream, remote, Some(place), door).await;
        }
        (Door::Clients | Door::Peers | Door::Http, None) => {
            tokio::time::timeout(FIRST_BYTE_MAX, stream.readable()).await??;
        }
    }
    Ok(Conn::plain(stream, Caller::new(remote, false, None), Some(place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_run_out_and_come_back() {
        let places = Arc::new(Places::default());
        let far: IpAddr = "192.0.2.1".parse().unwrap();
        let near: IpAddr = "127.0.0.1".parse().unwrap();
        let mut held: Vec<Place> = (0..CONNECTIONS_PER_HOST_MAX)
            .map(|_| places.take(far).expect("there is room"))
            .collect();
        assert!(places.take(far).is_none());
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert!(places.take(mapped).is_none(), "the same host, spelled differently");
        held.extend(
            (CONNECTIONS_PER_HOST_MAX..CONNECTIONS_MAX)
                .map(|_| places.take(near).expect("this machine may have them all")),
        );
        assert!(places.take(near).is_none());
        held.swap_remove(0);
        assert!(places.take(far).is_some());
        held.clear();
        assert_eq!(*places.taken.lock(), (0, BTreeMap::new()));
    }
}
