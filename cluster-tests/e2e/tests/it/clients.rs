//! Real clients of other makers against a node: psycopg, SQLAlchemy, pandas, the ADBC driver for
//! Flight SQL, pyarrow and psql. A browser on the console is run by hand (`clients/console.py`).
//!
//! The programs are in `clients/`. Their Python is the one in `clients-venv` beside the folder of
//! build results, which `cargo xtask test` makes; where it is missing, this is left out and said.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cluster_e2e::node::Addresses;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;

use crate::{node, skip};

/// A Python that has the packages in `clients/requirements.txt`.
fn python() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    // The cache, its folder of build results, `debug`, `deps`, this program.
    let python = program.ancestors().nth(4)?.join("clients-venv/bin/python");
    python.is_file().then_some(python)
}

/// A program that is not done by then stands still.
const RUN_MAX: Duration = Duration::from_secs(240);

/// A program with everything it starts: nothing of it is left once this is dropped.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // Mostly nobody is left in it.
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

/// Runs one program to its end; what it printed is part of the error.
async fn run(script: &str, addresses: &[&str]) -> Result<()> {
    let Some(python) = python() else {
        skip(&format!("{script}: no clients-venv with clients/requirements.txt"));
        return Ok(());
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(script);
    // To a file: a pipe stays open for as long as any process that the program started.
    let said = tempfile::NamedTempFile::new()?;
    let out: File = said.reopen()?;
    let err = out.try_clone()?;
    let mut command = Command::new(python);
    command.arg(&path).args(addresses).process_group(0).kill_on_drop(true);
    let mut child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn()?;
    let id = child.id().with_context(|| format!("{script} has ended at once"))?;
    let _group = Group(Pid::from_raw(i32::try_from(id)?));
    let ended = tokio::time::timeout(RUN_MAX, child.wait()).await;
    let said = std::fs::read_to_string(said.path())?;
    let status =
        ended.with_context(|| format!("{script} is not done in {RUN_MAX:?}\n{said}"))??;
    ensure!(status.success(), "{script}: {status}\n{said}");
    Ok(())
}

async fn with_node(test: impl AsyncFnOnce(&Addresses) -> Result<()>) -> Result<()> {
    let (node, _client) = node().await;
    let addresses = node.addresses()?.clone();
    test(&addresses).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_postgres_protocol() -> Result<()> {
    with_node(async |at| run("postgres.py", &[&at.pg]).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn flight_sql() -> Result<()> {
    with_node(async |at| run("flight.py", &[&at.client]).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn http() -> Result<()> {
    with_node(async |at| run("web.py", &[&at.http]).await).await
}

/// Debian's place for the driver (libpostgresql-jdbc-java).
const JDBC: &str = "/usr/share/java/postgresql.jar";

#[tokio::test(flavor = "multi_thread")]
async fn the_jdbc_driver() -> Result<()> {
    let has_java = Command::new("java").arg("-version").stderr(Stdio::null()).status().await;
    if !has_java.is_ok_and(|status| status.success()) || !Path::new(JDBC).is_file() {
        skip("jdbc.py: no java, or no driver (default-jre-headless, libpostgresql-jdbc-java)");
        return Ok(());
    }
    with_node(async |at| run("jdbc.py", &[&at.pg, JDBC]).await).await
}

/// Every answer of the SQL corpus, by two protocols.
#[tokio::test(flavor = "multi_thread")]
async fn the_sql_corpus() -> Result<()> {
    with_node(async |at| run("corpus.py", &[&at.pg, &at.http, &at.client]).await).await
}

/// What people type into psql.
#[tokio::test(flavor = "multi_thread")]
async fn psql_shows_what_there_is() -> Result<()> {
    let is_there = Command::new("psql").arg("--version").stdout(Stdio::null()).status().await;
    if !is_there.is_ok_and(|status| status.success()) {
        skip("psql is not installed (postgresql-client)");
        return Ok(());
    }
    with_node(async |at| {
        let (host, port) = at.pg.rsplit_once(':').context("an address has a port")?;
        let script = "CREATE STREAM rides (id BIGINT NOT NULL, cost NUMERIC(8, 2)); \
                      CREATE MATERIALIZED VIEW costs AS SELECT id, sum(cost) AS cost FROM rides \
                      GROUP BY id; INSERT INTO rides VALUES (1, 2.50), (1, 3);";
        let mut psql = Command::new("psql");
        psql.args(["--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", port, "-U", "me"]);
        psql.args(["-d", "alluvium", "-c", script, "-c", "SELECT * FROM costs"]);
        psql.args(["-c", "\\d", "-c", "\\dt", "-c", "\\dv", "-c", "\\dm", "-c", "\\d rides"]);
        psql.args(["-c", "\\d costs", "-c", "\\l", "-c", "\\dn", "-c", "\\du", "-c", "\\df"]);
        let output = psql.stdin(Stdio::null()).output().await.context("start psql")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "psql: {}\n{said}\n{complained}", output.status);
        for part in ["1 | 5.50", "| rides | table", "numeric(8,2)", "not null", "costs"] {
            ensure!(said.contains(part), "psql does not show {part:?}:\n{said}");
        }
        Ok(())
    })
    .await
}
