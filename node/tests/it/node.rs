//! Runs the program and reads what it prints.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The program under test.
pub fn alluvium() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alluvium"));
    // What the machine's owner set for nodes of his own must not reach this one.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ALLUVIUM_")) {
        command.env_remove(name);
    }
    command
}

/// A node on a data directory that outlives it.
pub struct Node {
    child: Child,
    ready: serde_json::Value,
}

impl Node {
    /// Starts on free ports; returns when it answers.
    pub fn start(data_dir: &Path) -> Node {
        Node::start_with(data_dir, &[])
    }

    /// The same with further flags.
    pub fn start_with(data_dir: &Path, flags: &[&str]) -> Node {
        let ready_file = data_dir.with_extension("ready");
        let mut child = alluvium()
            .args(["start", "--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"])
            .args(["--http-listen", "127.0.0.1:0", "--pg-listen", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(data_dir)
            .arg("--ready-file")
            .arg(&ready_file)
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the node");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut log = String::new();
        let is_ready = lines.by_ref().map_while(Result::ok).any(|line| {
            log.push_str(&line);
            log.push('\n');
            line.contains("ready") && line.contains("took_ms")
        });
        assert!(is_ready, "the node ended before it was ready:\n{log}");
        // The rest is read so that the node never waits for its own log.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let ready = std::fs::read_to_string(&ready_file).expect("the ready file is written first");
        Node { child, ready: serde_json::from_str(&ready).expect("the ready file is JSON") }
    }

    /// One address of the ready file.
    pub fn address(&self, key: &str) -> &str {
        self.ready[key].as_str().unwrap_or_else(|| panic!("no {key} in {}", self.ready))
    }

    /// Runs a client command against this node.
    pub fn client(&self, args: &[&str]) -> Output {
        let mut command = alluvium();
        let output = command.env("ALLUVIUM_ADDR", self.address("client")).args(args).output();
        output.expect("run the client")
    }

    /// Runs a client command with this standard input.
    pub fn client_with_input(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child = alluvium()
            .env("ALLUVIUM_ADDR", self.address("client"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run the client");
        child.stdin.take().expect("piped").write_all(input).expect("the client reads its input");
        child.wait_with_output().expect("the client ends")
    }

    /// Statements that must succeed; their answers as CSV.
    pub fn sql(&self, sql: &str) -> String {
        let output = self.client(&["sql", "--format", "csv", "-e", sql]);
        assert!(output.status.success(), "{sql}\n{}", text(&output.stderr));
        text(&output.stdout)
    }

    /// A statement that must fail; what is said about it.
    pub fn sql_error(&self, sql: &str) -> String {
        let output = self.client(&["sql", "-e", sql]);
        assert_eq!(output.status.code(), Some(1), "{sql}\n{}", text(&output.stdout));
        text(&output.stderr)
    }

    /// Tells it to read its files again.
    pub fn hang_up(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("process ids fit"));
        kill(pid, Signal::SIGHUP).expect("signal the node");
    }

    /// Ends it as a power cut would end the process.
    pub fn kill(mut self) {
        self.child.kill().expect("kill the node");
        self.child.wait().expect("the node ends");
    }

    /// Ends it as an operator does; its exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("process ids fit"));
        kill(pid, Signal::SIGTERM).expect("signal the node");
        self.child.wait().expect("the node ends").code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Already gone where the test ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program printed.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A data directory for one test.
pub fn data_dir() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("data");
    (dir, path)
}
