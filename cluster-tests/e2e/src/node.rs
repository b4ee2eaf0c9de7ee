//! One `alluvium` process: start, wait until ready, kill, stop, start again on the same directory.
//!
//! Not a supervisor: nothing is restarted unless a caller says so. Dropping a [`Node`] kills it.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::client::Client;

/// A start that takes longer is a failure: the promise is one second, the machine may be busy.
pub const READY_WAIT_MAX: Duration = Duration::from_secs(60);

/// How often the ready file is looked for.
const READY_POLL: Duration = Duration::from_millis(2);

/// How a node is started.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// `ALLUVIUM_…` variables, for example `("ALLUVIUM_SEGMENT_BYTES", "65536")`.
    pub settings: Vec<(String, String)>,
    /// Where the data lies. `None`: a temporary directory that goes with the [`Node`].
    pub data_dir: Option<PathBuf>,
    /// Where it listens. `None`: on free ports of loopback, others at each start.
    pub place: Option<Place>,
    /// Further words after `start`, for example `--name n2`.
    pub flags: Vec<String>,
}

/// Where a node stands, the same at each start.
#[derive(Clone, Debug)]
pub struct Place {
    /// The network namespace that has the addresses. `None`: this process's.
    pub namespace: Option<String>,
    /// What it listens on.
    pub addresses: Addresses,
}

impl NodeOptions {
    /// Adds one variable.
    pub fn set(mut self, name: &str, value: impl ToString) -> NodeOptions {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// Uses this directory.
    pub fn data_dir(mut self, dir: &Path) -> NodeOptions {
        self.data_dir = Some(dir.to_owned());
        self
    }

    /// Listens there.
    pub fn place(mut self, place: Place) -> NodeOptions {
        self.place = Some(place);
        self
    }

    /// Adds one word after `start`.
    pub fn flag(mut self, flag: impl Into<String>) -> NodeOptions {
        self.flags.push(flag.into());
        self
    }
}

/// What the ready file says.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// gRPC, for clients.
    pub client: String,
    /// gRPC, for other nodes.
    pub peer: String,
    /// Health and metrics.
    pub http: String,
    /// PostgreSQL's protocol.
    pub pg: String,
}

/// A process, or the directory of one that was killed.
#[derive(Debug)]
pub struct Node {
    // Holds the temporary directory; the paths below lie in it or where the options say.
    _scratch: tempfile::TempDir,
    options: NodeOptions,
    data_dir: PathBuf,
    ready_file: PathBuf,
    log_file: PathBuf,
    running: Option<Running>,
    /// How long the last start took, from spawn to ready.
    pub started_in: Duration,
}

#[derive(Debug)]
struct Running {
    child: Child,
    launched_at: Instant,
    // Known from the start where the options say them, else once it is ready.
    addresses: Option<Addresses>,
}

impl Node {
    /// Starts a node and waits until it is ready.
    pub async fn start(options: NodeOptions) -> Result<Node> {
        let mut node = Node::new(options)?;
        node.restart().await?;
        Ok(node)
    }

    /// Prepares a directory without starting anything.
    pub fn new(options: NodeOptions) -> Result<Node> {
        let scratch = tempfile::Builder::new().prefix("alluvium-e2e-").tempdir()?;
        let data_dir = options.data_dir.clone().unwrap_or_else(|| scratch.path().join("data"));
        let ready_file = scratch.path().join("ready.json");
        let log_file = scratch.path().join("node.log");
        let started_in = Duration::ZERO;
        Ok(Node {
            _scratch: scratch,
            options,
            data_dir,
            ready_file,
            log_file,
            running: None,
            started_in,
        })
    }

    /// Changes what the next start is told.
    pub fn settings(&mut self, settings: Vec<(String, String)>) {
        self.options.settings = settings;
    }

    /// Starts the stopped node again on its directory and waits until it is ready.
    pub async fn restart(&mut self) -> Result<()> {
        self.launch()?;
        self.wait_ready().await
    }

    /// Starts the stopped node and waits for nothing.
    pub fn launch(&mut self) -> Result<()> {
        if self.running.is_some() {
            bail!("the node runs already");
        }
        let launched_at = Instant::now();
        let child = self.spawn()?;
        let addresses = self.options.place.as_ref().map(|place| place.addresses.clone());
        self.running = Some(Running { child, launched_at, addresses });
        Ok(())
    }

    /// Waits until a launched node says that it is ready. One that fails to is killed.
    pub async fn wait_ready(&mut self) -> Result<()> {
        let mut running = self.running.take().context("the node does not run")?;
        match self.read_ready_file(&mut running.child).await {
            Ok(addresses) => {
                self.started_in = running.launched_at.elapsed();
                running.addresses = Some(addresses);
                self.running = Some(running);
                Ok(())
            }
            Err(error) => Err(error.context(format!("the node's log ends:\n{}", self.log_end()))),
        }
    }

    /// Starts the node and expects it to give up: its exit status and all it logged.
    pub async fn start_refused(&mut self, wait_max: Duration) -> Result<(ExitStatus, String)> {
        let mut child = self.spawn()?;
        let status = tokio::time::timeout(wait_max, child.wait())
            .await
            .with_context(|| format!("the node still runs:\n{}", self.log_end()))??;
        Ok((status, self.log()))
    }

    /// Starts the node and kills it after this long, ready or not.
    pub async fn restart_and_kill(&mut self, after: Duration) -> Result<()> {
        let mut child = self.spawn()?;
        if let Ok(status) = tokio::time::timeout(after, child.wait()).await {
            bail!("the node ended by itself: {}; its log ends:\n{}", status?, self.log_end());
        }
        child.start_kill()?;
        child.wait().await?;
        Ok(())
    }

    fn spawn(&self) -> Result<Child> {
        match std::fs::remove_file(&self.ready_file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log_file)?;
        let binary = binary()?;
        let mut command = match self.namespace() {
            // Becomes the node: the process id stays.
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(&binary);
                command
            }
            None => Command::new(&binary),
        };
        command.arg("start").arg("--data-dir").arg(&self.data_dir);
        let free = || "127.0.0.1:0".to_owned();
        let listen = self.options.place.as_ref().map(|place| place.addresses.clone());
        let listen = listen.unwrap_or_else(|| Addresses {
            client: free(),
            peer: free(),
            http: free(),
            pg: free(),
        });
        command
            .args(["--listen", &listen.client, "--peer-listen", &listen.peer])
            .args(["--http-listen", &listen.http, "--pg-listen", &listen.pg])
            .arg("--ready-file")
            .arg(&self.ready_file)
            .args(&self.options.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ours, not the node's: it refuses variables that it does not know.
            .env_remove("ALLUVIUM_BIN")
            .kill_on_drop(true);
        for (name, value) in &self.options.settings {
            command.env(name, value);
        }
        command.spawn().with_context(|| format!("start {}", binary.display()))
    }

    fn namespace(&self) -> Option<&str> {
        self.options.place.as_ref()?.namespace.as_deref()
    }

    async fn read_ready_file(&self, child: &mut Child) -> Result<Addresses> {
        let deadline = Instant::now() + READY_WAIT_MAX;
        let mut poll = tokio::time::interval(READY_POLL);
        while Instant::now() < deadline {
            poll.tick().await;
            // Read before the process is looked at: one that got ready and died is then seen below.
            if let Ok(text) = std::fs::read_to_string(&self.ready_file)
                && let Some(addresses) = read_addresses(&text)
            {
                return Ok(addresses);
            }
            if let Some(status) = child.try_wait()? {
                bail!("the node ended before it was ready: {status}");
            }
        }
        bail!("the node was not ready within {READY_WAIT_MAX:?}")
    }

    /// A new connection to the running node.
    pub async fn client(&self) -> Result<Client> {
        Client::connect(&self.addresses()?.client).await
    }

    /// Where the running node listens.
    pub fn addresses(&self) -> Result<&Addresses> {
        let running = self.running.as_ref().context("the node does not run")?;
        running.addresses.as_ref().context("the node is not ready")
    }

    /// Whether a process was started and not ended from here.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// How the process ended, where it has ended by itself.
    pub fn has_ended(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.running {
            Some(running) => Ok(running.child.try_wait()?),
            None => Ok(None),
        }
    }

    /// Sends the running process a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()?)?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to {pid}"))
    }

    /// The process id of the running node.
    pub fn pid(&self) -> Result<u32> {
        self.running.as_ref().and_then(|running| running.child.id()).context("the node has ended")
    }

    /// SIGKILL, and waits until the process is gone.
    pub async fn kill(&mut self) -> Result<()> {
        let mut running = self.running.take().context("the node does not run")?;
        running.child.start_kill()?;
        running.child.wait().await?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(&mut self, wait_max: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait_end(wait_max).await
    }

    /// Waits for a node that ends by itself.
    pub async fn wait_end(&mut self, wait_max: Duration) -> Result<ExitStatus> {
        let mut running = self.running.take().context("the node does not run")?;
        match tokio::time::timeout(wait_max, running.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => {
                running.child.start_kill()?;
                running.child.wait().await?;
                bail!("the node did not end within {wait_max:?}; its log ends:\n{}", self.log_end())
            }
        }
    }

    /// Where the data lies.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// All the process said, over all its starts.
    pub fn log(&self) -> String {
        std::fs::read(&self.log_file)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last lines of [`Node::log`].
    pub fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Node {
    /// The process is gone before its directory is: it would write into what is being removed.
    fn drop(&mut self) {
        let Some(running) = &mut self.running else { return };
        let deadline = Instant::now() + Duration::from_secs(2);
        // A process that has ended already cannot be killed, which is as good.
        let _ = running.child.start_kill();
        while matches!(running.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}

/// The program under test: `ALLUVIUM_BIN`, or the one built beside the running test.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ALLUVIUM_BIN") {
        return Ok(path.into());
    }
    let this = std::env::current_exe()?;
    let mut dir = this.parent().context("a program lies in a directory")?;
    if dir.ends_with("deps") {
        dir = dir.parent().context("deps lies in a profile's directory")?;
    }
    let path = dir.join("alluvium");
    if !path.exists() {
        bail!("{} is missing: build it with `cargo build -p alluvium`", path.display());
    }
    Ok(path)
}

fn read_addresses(text: &str) -> Option<Addresses> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let address = |key: &str| value.get(key)?.as_str().map(str::to_owned);
    Some(Addresses {
        client: address("client")?,
        peer: address("peer")?,
        http: address("http")?,
        pg: address("pg")?,
    })
}
