//! The PostgreSQL protocol, version 3: the simple and the extended way of asking, portals with row
//! limits, `COPY … FROM STDIN`, and requests to cancel.
//!
//! `message` reads and writes messages, `wire` is a connection of them, `session` what one client
//! has said so far, `local` the statements about the connection itself, `values` the form of
//! rows. Everything about streams goes to the engine through [`crate::sql::run`].
//!
//! Transactions are accepted and mean nothing, which a notice says: each statement stands for
//! itself. Where callers have to say who they are, `login` makes them prove it. Where the node has
//! a certificate, connections are encrypted, or refused.
//!
//! Written here rather than taken from a library: those there are bring features of the engine's
//! own dependencies that nothing else needs, and a catalogue with writes, files and no limits.

mod copy;
mod local;
mod login;
mod message;
mod numbers;
mod session;
mod startup;
mod values;
mod wire;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use self::message::Fault;
use self::session::Session;
use self::startup::Begun;
use self::wire::Wire;
use crate::access::Origin;
use crate::bootstrap::Doors;
use crate::clock;
use crate::tls::{Conn, Door, Gate};

/// Connections of one node: each costs a task and some tens of kilobytes.
pub const CONNECTIONS_MAX: usize = 500;

/// A client that does not say who it is for this long is let go.
const STARTUP_MAX: Duration = Duration::from_secs(10);

/// The connections there are, by what a request to cancel must say.
#[derive(Debug, Default)]
struct Keys(Mutex<BTreeMap<(i32, i32), Arc<Notify>>>);

impl Keys {
    /// Gives a key to a new connection.
    fn give(&self) -> ((i32, i32), Arc<Notify>) {
        let [a, b, c, d, e, f, g, h] = clock::random_id().to_be_bytes();
        let key = (i32::from_be_bytes([a, b, c, d]), i32::from_be_bytes([e, f, g, h]));
        let cancel = Arc::new(Notify::new());
        self.0.lock().insert(key, cancel.clone());
        (key, cancel)
    }

    /// Stops what a connection runs now, if anything.
    fn cancel(&self, key: (i32, i32)) {
        if let Some(cancel) = self.0.lock().get(&key) {
            cancel.notify_waiters();
        }
    }
}

/// Serves clients that come in at `gate` until `stop` is done.
pub async fn serve(
    doors: Arc<Doors>,
    mut gate: Gate,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let keys = Arc::new(Keys::default());
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stopping, stopped) = watch::channel(false);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => {
                stopping.send_replace(true);
                return Ok(());
            }
            accepted = gate.accept() => {
                // The runtime is being shut down.
                let Some(conn) = accepted else { return Ok(()) };
                let place = places.clone().try_acquire_owned().ok();
                let client = Client {
                    doors: doors.clone(),
                    keys: keys.clone(),
                    stopped: stopped.clone(),
                    place,
                };
                let served = client.serve(conn);
                match doors.node() {
                    // Rows are written where statements run, not where appends come in.
                    Some(node) => drop(node.query_runtime.spawn(served)),
                    None => drop(tokio::spawn(served)),
                }
            }
        }
    }
}

/// A connection that has not said anything yet.
struct Client {
    doors: Arc<Doors>,
    keys: Arc<Keys>,
    stopped: watch::Receiver<bool>,
    /// None where there are too many already.
    place: Option<OwnedSemaphorePermit>,
}

impl Client {
    /// A connection that breaks has nobody left to be told.
    async fn serve(self, conn: Conn) {
        let begun = startup::begin(Wire::new(conn), self.doors.tls());
        match tokio::time::timeout(STARTUP_MAX, begun).await {
            Ok(Ok(Begun::Session(wire, asked))) => {
                let _ = self.session(*wire, asked).await;
            }
            // Clients ask to cancel in the clear whatever they do else; the key is secret.
            Ok(Ok(Begun::Cancel(key))) => self.keys.cancel(key),
            Ok(Ok(Begun::Left) | Err(_)) | Err(_) => {}
        }
    }

    async fn session(self, mut wire: Wire, asked: startup::Asked) -> io::Result<()> {
        let refused = match (self.doors.node(), &self.place) {
            (_, None) => Fault::fatal(
                "53300",
                format!("there are {CONNECTIONS_MAX} connections already, as many as are taken"),
            ),
            (_, Some(_)) if !wire.is_encrypted() && self.doors.tls().encrypts(Door::Postgres) => {
                let reason = "this node takes encrypted connections only: say sslmode=require, \
                              or verify-full with sslrootcert";
                Fault::fatal("28000", reason)
            }
            (None, _) => {
                let reason = self.doors.readiness().err().unwrap_or_default();
                Fault::fatal("57P03", format!("the node is not ready: it {reason}"))
            }
            (Some(node), Some(_)) => {
                let origin = Origin::of(wire.caller());
                let proved = login::login(&mut wire, &node.guard, &asked, &origin);
                let caller = match tokio::time::timeout(STARTUP_MAX, proved).await {
                    Ok(Ok(Ok(caller))) => caller,
                    Ok(Ok(Err(fault))) => {
                        wire.out.error(&fault);
                        return wire.flush().await;
                    }
                    Ok(Err(error)) => return Err(error),
                    Err(_) => return Ok(()),
                };
                let (key, cancel) = self.keys.give();
                let session =
                    Session::new(node.clone(), caller, wire, cancel, self.stopped.clone());
                let ended = session.serve(asked, key).await;
                self.keys.0.lock().remove(&key);
                return ended;
            }
        };
        wire.out.error(&refused);
        wire.flush().await
    }
}
