//! Where the nodes of a cluster stand: a network namespace each, joined by one bridge, where this
//! process may make them; else loopback.
//!
//! Every name carries this process's id, so that what a run that died left behind can be told from
//! what lives. Nothing else is touched: no route, no rule, no interface that is not ours.
//!
//! Invariant: what was made is deleted by name when [`Namespaces`] is dropped, or by the next run.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use crate::measure::is_root;
use crate::node::{Addresses, Place};

/// Begins every name of ours; then come the process id, `x`, and a number.
const PREFIX: &str = "av";

/// Ports of a node with addresses of its own.
const CLIENT_PORT: u16 = 7_400;
/// The only port that nodes speak to each other on.
pub const PEER_PORT: u16 = 7_401;
const HTTP_PORT: u16 = 7_402;
const PG_PORT: u16 = 7_432;

/// Nodes of one cluster; names and addresses have room for more.
const NODES_MAX: usize = 50;

/// Clusters of one process, for the same reason.
const RUNS_MAX: u32 = 100;

/// The networks 10.77.1.0/24 to 10.77.254.0/24 are tried.
const NETWORKS: u32 = 254;

/// Two clusters of one process must not choose the same network.
static CHOOSING: Mutex<()> = Mutex::new(());
static RUNS: AtomicU32 = AtomicU32::new(0);

/// Which side of a split a client stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// That of the majority.
    Near,
    /// That of the nodes which are split off.
    Far,
}

/// Where nodes stand.
#[derive(Debug)]
pub enum Network {
    /// A namespace each: links can be cut.
    Namespaces(Namespaces),
    /// All on loopback, on ports of their own.
    Loopback,
}

/// A bridge and the namespaces joined to it.
#[derive(Debug)]
pub struct Namespaces {
    base: String,
    net: u8,
    nodes: usize,
}

impl Network {
    /// Namespaces where this process may make them; else loopback and the reason.
    pub fn best() -> (Network, Option<String>) {
        match Namespaces::new() {
            Ok(namespaces) => (Network::Namespaces(namespaces), None),
            Err(error) => (Network::Loopback, Some(format!("{error:#}"))),
        }
    }

    /// A place for one more node.
    pub fn add(&mut self) -> Result<Place> {
        match self {
            Network::Namespaces(namespaces) => namespaces.add(),
            Network::Loopback => loopback(),
        }
    }

    /// The address that a client of this side speaks from; `None` where there are no sides.
    pub fn client(&self, side: Side) -> Option<IpAddr> {
        match self {
            Network::Namespaces(namespaces) => Some(namespaces.client(side)),
            Network::Loopback => None,
        }
    }
}

/// A place on loopback. Its ports were free a moment ago; another process could take them before
/// the node does, which then says so.
fn loopback() -> Result<Place> {
    let bound = (0..4).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    let addresses = bound.iter().map(|socket| Ok(socket.local_addr()?.to_string()));
    let addresses = addresses.collect::<Result<Vec<String>>>()?;
    let [client, peer, http, pg] = <[String; 4]>::try_from(addresses).expect("four were bound");
    Ok(Place { namespace: None, addresses: Addresses { client, peer, http, pg } })
}

impl Namespaces {
    fn new() -> Result<Namespaces> {
        if !is_root() {
            bail!("network namespaces need root");
        }
        run("nft", &["--version"]).context("nftables is not installed")?;
        remove_leftovers()?;
        let number = RUNS.fetch_add(1, Ordering::SeqCst);
        if RUNS_MAX <= number {
            bail!("this process has made {RUNS_MAX} clusters");
        }
        let base = format!("{PREFIX}{}x{number}", std::process::id());
        let bridge = format!("{base}b");
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        // From here on, dropping it deletes the bridge.
        let mut namespaces = Namespaces { base, net: 0, nodes: 0 };
        namespaces.net = namespaces.choose_net()?;
        let far = format!("{}/24", namespaces.client(Side::Far));
        ip(&["addr", "add", &far, "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        Ok(namespaces)
    }

    /// Takes the first network that no interface has, by giving the bridge an address in it.
    fn choose_net(&self) -> Result<u8> {
        let _one_at_a_time = CHOOSING.lock().expect("nobody panics while choosing");
        let bridge = format!("{}b", self.base);
        for offset in 0..NETWORKS {
            let net = 1 + (std::process::id().wrapping_add(offset)) % NETWORKS;
            let net = u8::try_from(net).expect("at most 254");
            let whole = format!("10.77.{net}.0/24");
            let users = || Ok(ip(&["-o", "-4", "addr", "show", "to", &whole])?.lines().count());
            let taken: Result<usize> = users();
            if taken? != 0 {
                continue;
            }
            let address = format!("{}/24", address(net, 1));
            ip(&["addr", "add", &address, "dev", &bridge])?;
            // Another process may have chosen it at the same moment.
            let users: Result<usize> = users();
            if users? == 1 {
                return Ok(net);
            }
            ip(&["addr", "del", &address, "dev", &bridge])?;
        }
        bail!("every network 10.77.N.0/24 is in use")
    }

    fn add(&mut self) -> Result<Place> {
        if NODES_MAX <= self.nodes {
            bail!("a cluster here has at most {NODES_MAX} nodes");
        }
        let node = self.nodes;
        let (namespace, cable) = (self.namespace(node), format!("{}h{node}", self.base));
        let bridge = format!("{}b", self.base);
        ip(&["netns", "add", &namespace])?;
        self.nodes += 1;
        let link = ["link", "add", &cable, "type", "veth", "peer", "name", "eth0"];
        ip(&[&link[..], &["netns", &namespace]].concat())?;
        ip(&["link", "set", &cable, "master", &bridge, "up"])?;
        let host = self.address(node);
        ip(&["-n", &namespace, "addr", "add", &format!("{host}/24"), "dev", "eth0"])?;
        ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
        ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        let at = |port: u16| format!("{host}:{port}");
        let addresses = Addresses {
            client: at(CLIENT_PORT),
            peer: at(PEER_PORT),
            http: at(HTTP_PORT),
            pg: at(PG_PORT),
        };
        Ok(Place { namespace: Some(namespace), addresses })
    }

    /// The address of a node, by the order in which they were added.
    pub fn address(&self, node: usize) -> IpAddr {
        address(self.net, 10 + u8::try_from(node).expect("below NODES_MAX"))
    }

    /// The address that clients of this side speak from.
    pub fn client(&self, side: Side) -> IpAddr {
        match side {
            Side::Near => address(self.net, 1),
            Side::Far => address(self.net, 2),
        }
    }

    /// Runs nftables in a node's namespace.
    pub fn nft(&self, node: usize, script: &str) -> Result<()> {
        run("ip", &["netns", "exec", &self.namespace(node), "nft", script]).map(drop)
    }

    fn namespace(&self, node: usize) -> String {
        format!("{}n{node}", self.base)
    }
}

impl Drop for Namespaces {
    #[allow(clippy::print_stderr, reason = "a drop has nobody to return an error to")]
    fn drop(&mut self) {
        for node in 0..self.nodes {
            // Its cable goes with it, at once or when its last process has ended.
            if let Err(error) = ip(&["netns", "del", &self.namespace(node)]) {
                eprintln!("left behind: {error:#}");
            }
        }
        if let Err(error) = ip(&["link", "del", &format!("{}b", self.base)]) {
            eprintln!("left behind: {error:#}");
        }
    }
}

fn address(net: u8, host: u8) -> IpAddr {
    Ipv4Addr::new(10, 77, net, host).into()
}

/// Deletes what runs left that died: their nodes, namespaces and bridges.
fn remove_leftovers() -> Result<()> {
    for line in ip(&["netns", "list"])?.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        if !is_leftover(name) {
            continue;
        }
        for pid in ip(&["netns", "pids", name])?.lines() {
            if let Ok(pid) = pid.trim().parse() {
                let pid = nix::unistd::Pid::from_raw(pid);
                // One that has ended meanwhile is what we want.
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
        ip(&["netns", "del", name])?;
    }
    for line in ip(&["-brief", "link", "show", "type", "bridge"])?.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        if is_leftover(name) {
            ip(&["link", "del", name])?;
        }
    }
    Ok(())
}

/// Whether a name is one of ours whose process is gone.
fn is_leftover(name: &str) -> bool {
    owner(name).is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
}

/// The process that gave something this name, where it is one of ours.
fn owner(name: &str) -> Option<u32> {
    let (pid, rest) = name.strip_prefix(PREFIX)?.split_once('x')?;
    let number = rest.trim_end_matches(|c: char| c.is_ascii_digit());
    let is_kind = |text: &str| matches!(text.as_bytes(), [.., b'b' | b'n']);
    if !is_kind(number) || !rest.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    pid.parse().ok()
}

fn ip(args: &[&str]) -> Result<String> {
    run("ip", args)
}

fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", args.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_ours() {
        assert_eq!(owner("av4711x0b"), Some(4711));
        assert_eq!(owner("av4711x12n3"), Some(4711));
        for name in ["av4711", "avx0b", "eth0", "docker0", "av4711x0", "av4711xb", "avax0n1"] {
            assert_eq!(owner(name), None, "{name}");
        }
        let longest = format!("{PREFIX}{}x{}h{}", 4_194_304, RUNS_MAX - 1, NODES_MAX - 1);
        assert!(longest.len() <= 15, "the kernel's bound: {longest}");
    }
}
