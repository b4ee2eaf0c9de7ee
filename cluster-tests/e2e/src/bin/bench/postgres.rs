//! PostgreSQL in a temporary directory, fed by COPY from as many connections as the node has
//! producers: one commit, and so one fsync, for each batch.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cluster_e2e::events::{Events, TextForm, lines};
use cluster_e2e::measure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::peers::{self, Figures};

const TABLE: &str = "DROP TABLE IF EXISTS events; CREATE TABLE events (ts TIMESTAMP, host VARCHAR, \
     service VARCHAR, region VARCHAR, method VARCHAR, status SMALLINT, url VARCHAR, \
     user_id BIGINT, latency_ms DOUBLE PRECISION, bytes BIGINT)";

/// A running server.
pub struct Postgres {
    scratch: tempfile::TempDir,
    rows: u64,
    connections: usize,
}

impl Postgres {
    /// Makes a cluster and starts it, with Debian's defaults.
    pub async fn start(rows: u64, connections: usize) -> Result<Postgres> {
        let scratch = tempfile::Builder::new().prefix("alluvium-pg-").tempdir()?;
        let postgres = Postgres { scratch, rows, connections };
        if measure::is_root() {
            let owner = "postgres:postgres";
            let dir = postgres.scratch.path();
            peers::run(Command::new("chown").arg(owner).arg(dir)).await?;
        }
        let data = postgres.data();
        peers::run(
            postgres
                .server_tool("initdb")
                .arg("-D")
                .arg(&data)
                .args(["--auth", "trust", "-U"])
                .arg("peer"),
        )
        .await?;
        let options = format!("-c listen_addresses='' -k {}", postgres.scratch.path().display());
        let log = postgres.scratch.path().join("log");
        let mut start = postgres.server_tool("pg_ctl");
        start.arg("-D").arg(&data).arg("-o").arg(options).arg("-l").arg(log).args(["-w", "start"]);
        // Its children inherit pipes and would keep them open: wait for the end, not for the
        // output.
        let status = start.stdout(Stdio::null()).stderr(Stdio::null()).status().await?;
        if !status.success() {
            bail!("pg_ctl start: {status}");
        }
        Ok(postgres)
    }

    fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// The server refuses to run as root.
    fn server_tool(&self, name: &str) -> Command {
        if !measure::is_root() {
            return Command::new(name);
        }
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", name]).current_dir(self.scratch.path());
        command
    }

    fn psql(&self) -> Command {
        let mut command = Command::new("psql");
        command
            .args(["-q", "-X", "-v", "ON_ERROR_STOP=1", "-U", "peer", "-d", "postgres", "-h"])
            .arg(self.scratch.path());
        command
    }

    fn server_pid(&self) -> Result<u32> {
        let text = std::fs::read_to_string(self.data().join("postmaster.pid"))?;
        Ok(text.lines().next().context("a pid stands in the first line")?.parse()?)
    }

    /// Copies all rows into a fresh table.
    pub async fn ingest(&mut self) -> Result<Figures> {
        peers::run(self.psql().args(["-c", TABLE])).await?;
        let events = Events::new(self.rows);
        let mut dealt = vec![Vec::new(); self.connections];
        for number in 0..events.blocks() {
            let batch = lines(&events.block(number), TextForm::Csv);
            dealt[number as usize % self.connections].push(batch);
        }
        let (server, client) = (self.server_pid()?, std::process::id());
        let server_cpu = measure::tree_cpu_seconds(server);
        let client_cpu = measure::cpu_seconds(client)?;
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for batches in dealt {
            tasks.spawn(copy(self.psql(), batches));
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        let seconds = begun.elapsed().as_secs_f64();
        // psql and the backends have ended by now and count as children that were waited for.
        let cpu_seconds = measure::tree_cpu_seconds(server) - server_cpu
            + measure::cpu_seconds(client)?
            - client_cpu;
        let what =
            format!("PostgreSQL COPY of CSV, {} clients, batches of 10000", self.connections);
        // psql does not tell when it was answered.
        Ok(Figures {
            what,
            rows: self.rows,
            seconds,
            p50_ms: f64::NAN,
            p99_ms: f64::NAN,
            cpu_seconds,
        })
    }

    /// Stops the server.
    pub async fn stop(self) {
        let mut stop = self.server_tool("pg_ctl");
        stop.arg("-D").arg(self.data()).args(["-m", "immediate", "stop"]);
        let stopped = tokio::time::timeout(Duration::from_secs(30), stop.output()).await;
        if !matches!(stopped, Ok(Ok(output)) if output.status.success()) {
            eprintln!("  PostgreSQL did not stop");
        }
    }
}

async fn copy(mut psql: Command, batches: Vec<Vec<String>>) -> Result<()> {
    let mut child = psql
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    for batch in batches {
        stdin.write_all(b"COPY events FROM STDIN (FORMAT csv);\n").await?;
        stdin.write_all(batch.concat().as_bytes()).await?;
        stdin.write_all(b"\\.\n").await?;
    }
    drop(stdin);
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said).await?;
    }
    let status = child.wait().await?;
    if !status.success() {
        bail!("psql: {status}: {said}");
    }
    Ok(())
}
