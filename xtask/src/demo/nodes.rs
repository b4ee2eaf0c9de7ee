//! The nodes that the demo starts, kills and speaks to: the program a user runs, with the arguments
//! a user gives. All on loopback, on ports that were free a moment before.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A node promises to be ready in seconds; a machine busy with builds may need more.
const READY_WAIT_MAX: Duration = Duration::from_secs(60);
/// How often the ready file is looked for.
const READY_POLL: Duration = Duration::from_millis(20);
/// The end of a node's log shown when something goes wrong.
const LOG_LINES_SHOWN: usize = 20;

/// A cluster in a folder.
pub struct Nodes {
    program: PathBuf,
    dir: PathBuf,
    nodes: Vec<Node>,
}

/// A node; killed when dropped, so that a failing demo leaves none behind.
struct Node {
    name: String,
    ports: [String; 4],
    launched_at: Instant,
    child: Option<Child>,
}

impl Nodes {
    /// None yet.
    pub fn new(program: PathBuf, dir: &Path) -> Nodes {
        Nodes { program, dir: dir.to_path_buf(), nodes: Vec::new() }
    }

    /// Adds a node, which joins the first one by its address alone.
    pub fn add(&mut self) -> Result<()> {
        let bound = (0..4).map(|_| TcpListener::bind("127.0.0.1:0"));
        let bound = bound.collect::<Result<Vec<_>, _>>().context("find free ports")?;
        let ports = bound.iter().map(|port| Ok(port.local_addr()?.to_string()));
        let ports = ports.collect::<Result<Vec<_>>>()?.try_into().expect("four were bound");
        drop(bound);
        let name = format!("n{}", self.nodes.len() + 1);
        self.nodes.push(Node { name, ports, launched_at: Instant::now(), child: None });
        self.start(self.nodes.len() - 1)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// What a node is called.
    pub fn name(&self, node: usize) -> &str {
        &self.nodes[node].name
    }

    /// Starts nodes that do not run, all at once, and waits until each answers.
    pub fn start_all(&mut self) -> Result<()> {
        let dead = |node: &usize| self.nodes[*node].child.is_none();
        let dead: Vec<usize> = (0..self.nodes.len()).filter(dead).collect();
        for &node in &dead {
            self.spawn(node)?;
        }
        dead.into_iter().try_for_each(|node| self.wait_ready(node))
    }

    fn start(&mut self, node: usize) -> Result<()> {
        self.spawn(node)?;
        self.wait_ready(node)
    }

    fn spawn(&mut self, node: usize) -> Result<()> {
        let dir = self.dir.join(&self.nodes[node].name);
        std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let ready_file = self.ready_file(node);
        if ready_file.exists() {
            std::fs::remove_file(&ready_file).context("remove the former ready file")?;
        }
        let log = File::options().create(true).append(true).open(self.log_path(node));
        let log = log.context("open the node's log")?;
        let [client, peer, http, pg] = &self.nodes[node].ports;
        let mut command = self.command();
        command.args(["start", "--name", &self.nodes[node].name]);
        command.arg("--data-dir").arg(dir.join("data"));
        command.args(["--listen", client, "--peer-listen", peer]);
        command.args(["--http-listen", http, "--pg-listen", pg]);
        if node != 0 {
            command.args(["--seeds", &self.nodes[0].ports[1]]);
        }
        command.arg("--ready-file").arg(&ready_file);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.nodes[node].launched_at = Instant::now();
        self.nodes[node].child = Some(command.spawn().context("start the node")?);
        Ok(())
    }

    fn wait_ready(&mut self, node: usize) -> Result<()> {
        let ready_file = self.ready_file(node);
        let Node { name, ports, launched_at, child } = &mut self.nodes[node];
        let child = child.as_mut().context("the node was started")?;
        while launched_at.elapsed() < READY_WAIT_MAX {
            if let Some(status) = child.try_wait()? {
                bail!("{name} ended before it was ready ({status})");
            }
            if ready_file.is_file() {
                let millis = launched_at.elapsed().as_millis();
                println!("{name} is ready after {millis} ms, listening on {}", ports[0]);
                return Ok(());
            }
            std::thread::sleep(READY_POLL);
        }
        bail!("{name} was not ready within {} s", READY_WAIT_MAX.as_secs())
    }

    /// SIGKILL.
    pub fn kill(&mut self, node: usize) -> Result<()> {
        let Node { name, child, .. } = &mut self.nodes[node];
        let mut child = child.take().with_context(|| format!("{name} does not run"))?;
        child.kill().with_context(|| format!("kill {name}"))?;
        child.wait().with_context(|| format!("wait for the killed {name}"))?;
        println!("killed {name}, process {}", child.id());
        Ok(())
    }

    /// The program, free of settings that happen to be in the environment.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ALLUVIUM_") {
                command.env_remove(&name);
            }
        }
        command
    }

    /// The program as a client of this node.
    pub fn client(&self, node: usize, subcommand: &str) -> Command {
        let mut command = self.command();
        command.args([subcommand, "--addr", &self.nodes[node].ports[0]]);
        command
    }

    fn ready_file(&self, node: usize) -> PathBuf {
        self.dir.join(&self.nodes[node].name).join("ready.json")
    }

    fn log_path(&self, node: usize) -> PathBuf {
        self.dir.join(&self.nodes[node].name).join("node.log")
    }

    /// What the nodes said at last.
    pub fn print_log_ends(&self) {
        for node in 0..self.nodes.len() {
            let log = std::fs::read(self.log_path(node)).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("\nthe log of {} ends:", self.nodes[node].name);
            for line in &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..] {
                eprintln!("  {line}");
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Both fail only when the process is gone already, which is what is wanted.
            child.kill().ok();
            child.wait().ok();
        }
    }
}
