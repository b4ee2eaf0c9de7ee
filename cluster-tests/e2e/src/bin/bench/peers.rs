//! Peers that live in a Python process: found, started, asked.

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cluster_e2e::events::{BLOCK_ROWS, Events};
use cluster_e2e::measure;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::postgres::Postgres;

/// No peer may take longer for one answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(300);

/// What one run of a peer gave.
pub struct Figures {
    pub what: String,
    pub rows: u64,
    pub seconds: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub cpu_seconds: f64,
}

/// Somebody to compare ingest with.
pub enum Peer {
    /// In a Python process.
    Worker(Box<Worker>),
    /// A server of its own.
    Postgres(Postgres),
}

impl Peer {
    /// Ingests into a fresh table.
    pub async fn run(&mut self) -> Result<Figures> {
        match self {
            Peer::Worker(worker) => worker.ingest().await,
            Peer::Postgres(postgres) => postgres.ingest().await,
        }
    }

    /// Ends its processes.
    pub async fn stop(self) {
        match self {
            Peer::Worker(worker) => worker.stop().await,
            Peer::Postgres(postgres) => postgres.stop().await,
        }
    }
}

/// Where this package lies now, which need not be where it was compiled.
fn package_dir() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// A Python process that answers each line with a line.
pub struct Worker {
    child: Child,
    requests: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    // The files it reads and writes.
    _scratch: tempfile::TempDir,
}

impl Worker {
    /// Starts a script of `peers/` and waits until it is ready.
    pub async fn start(
        script: &str,
        arguments: &[&str],
        scratch: tempfile::TempDir,
    ) -> Result<Worker> {
        let path = package_dir().join("peers").join(script);
        let mut child = Command::new(python().await?)
            .arg(path)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let requests = child.stdin.take().context("stdin is piped")?;
        let answers = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let mut worker = Worker { child, requests, answers, _scratch: scratch };
        worker.read().await.with_context(|| format!("start {script} {}", arguments[0]))?;
        Ok(worker)
    }

    /// One question, one answer.
    pub async fn ask(&mut self, request: &Value) -> Result<Value> {
        self.requests.write_all(format!("{request}\n").as_bytes()).await?;
        self.requests.flush().await?;
        self.read().await
    }

    async fn read(&mut self) -> Result<Value> {
        let line = tokio::time::timeout(ANSWER_WAIT_MAX, self.answers.next_line())
            .await
            .context("the peer does not answer")??
            .context("the peer has ended")?;
        let value: Value = serde_json::from_str(&line)?;
        if let Some(error) = value.get("error") {
            bail!("the peer says {error}");
        }
        Ok(value)
    }

    async fn ingest(&mut self) -> Result<Figures> {
        let pid = self.child.id().context("the peer has ended")?;
        let used = measure::tree_cpu_seconds(pid);
        let answer = self.ask(&Value::Null).await?;
        let number = |key: &str| answer[key].as_f64().with_context(|| format!("no {key}"));
        Ok(Figures {
            what: answer["what"].as_str().unwrap_or_default().to_owned(),
            rows: answer["rows"].as_u64().context("no rows")?,
            seconds: number("seconds")?,
            p50_ms: number("p50_ms")?,
            p99_ms: number("p99_ms")?,
            cpu_seconds: measure::tree_cpu_seconds(pid) - used,
        })
    }

    async fn stop(mut self) {
        drop(self.requests);
        if tokio::time::timeout(Duration::from_secs(10), self.child.wait()).await.is_err() {
            drop(self.child.kill().await);
        }
    }
}

/// The embedded engines that are there, each ready to ingest `rows`.
pub async fn python_ingest(rows: u64) -> Result<Vec<Peer>> {
    let mut found = Vec::new();
    for (engine, batch_rows) in [("duckdb", 10_000), ("duckdb", 1_000), ("clickhouse", 10_000)] {
        let scratch = tempfile::tempdir()?;
        let source = scratch.path().join("events.arrow");
        write_arrow(rows, &source)?;
        let state = scratch.path().join("state");
        // Small batches are slow everywhere: a tenth of the rows says as much.
        let asked = if batch_rows < BLOCK_ROWS { rows / 10 } else { rows };
        let (batch_rows, asked) = (batch_rows.to_string(), asked.to_string());
        let arguments =
            [engine, &source.to_string_lossy(), &state.to_string_lossy(), &batch_rows, &asked];
        match Worker::start("ingest_worker.py", &arguments, scratch).await {
            Ok(worker) => found.push(Peer::Worker(Box::new(worker))),
            Err(error) => eprintln!("  skipped {engine}: {error:#}"),
        }
    }
    Ok(found)
}

fn write_arrow(rows: u64, path: &Path) -> Result<()> {
    let events = Events::new(rows);
    let file = BufWriter::new(std::fs::File::create(path)?);
    let mut writer = arrow::ipc::writer::FileWriter::try_new(file, events.schema())?;
    for number in 0..events.blocks() {
        writer.write(&events.block(number))?;
    }
    Ok(writer.finish()?)
}

/// A Python that has what the scripts need, made where it is missing.
async fn python() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let venv = Path::new(&home).join(".cache/alluvium/venv");
    let python = venv.join("bin/python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv)).await?;
    }
    let check = Command::new(&python).args(["-c", "import duckdb, pyarrow"]).output().await?;
    if !check.status.success() {
        let mut pip = Command::new(&python);
        run(pip.args(["-m", "pip", "install", "--quiet", "duckdb", "pyarrow"])).await?;
    }
    Ok(python)
}

/// Runs a helper to its end.
pub async fn run(command: &mut Command) -> Result<()> {
    let output = command.output().await.with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} fails: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
