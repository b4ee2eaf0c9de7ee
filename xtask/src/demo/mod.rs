//! `cargo xtask demo`: what Alluvium is for, shown on real events.
//!
//! Runs the program a user runs, with the arguments a user gives: nodes, `alluvium sql`, `alluvium
//! ingest`. Knows nothing of the node's insides; what it shows anybody can do by hand.
//!
//! In reading order: [`example`] is what is shown, [`nodes`] are the processes, and here is the
//! order in which it goes.

mod example;
mod nodes;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::example::{Example, Feed, Question};
use self::nodes::Nodes;
use crate::{cargo, setup};

/// How many nodes there are.
const NODES: usize = 3;
/// The node that events go to and questions are asked of: another one is killed.
const ASKED: usize = 0;
/// How often a view is shown while it changes.
const LIVE_INTERVAL: Duration = Duration::from_secs(1);
/// So often it is shown before an owner is killed.
const LIVE_BEFORE_KILL: u32 = 2;
/// A cluster that has lost one node of three answers again within seconds.
const AGAIN_WAIT_MAX: Duration = Duration::from_secs(60);

/// Runs the demo over one example, `us-flights` when none is named.
pub fn run(root: &Path, args: &[String]) -> Result<()> {
    let keep = args.iter().any(|arg| arg == "--keep");
    let names: Vec<&String> = args.iter().filter(|arg| *arg != "--keep").collect();
    let name = match names.as_slice() {
        [] => "us-flights",
        [name] if !name.starts_with('-') => name.as_str(),
        other => bail!("cargo xtask demo [EXAMPLE] [--keep], not {other:?}"),
    };
    let example = Example::read(root, name)?;
    let program = program(root)?;
    let scratch = Scratch::new(keep)?;
    let nodes = Nodes::new(program.clone(), &scratch.path);
    let mut demo = Demo { program, example, nodes };
    let shown = demo.show();
    if shown.is_err() {
        demo.nodes.print_log_ends();
    }
    // The processes end before their directories go.
    drop(demo);
    drop(scratch);
    shown
}

/// The program to show: the one `ALLUVIUM_BIN` names, else it is built.
fn program(root: &Path) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ALLUVIUM_BIN") {
        return Ok(PathBuf::from(path));
    }
    setup::ensure_build()?;
    Ok(cargo::build(root, &["alluvium"])?.join("alluvium"))
}

struct Demo {
    program: PathBuf,
    example: Example,
    nodes: Nodes,
}

impl Demo {
    fn show(&mut self) -> Result<()> {
        heading(&format!("{NODES} nodes start on empty directories: one, and two that join it"));
        for _ in 0..NODES {
            self.nodes.add()?;
        }

        heading("Streams are created");
        self.sql_file(&self.example.dir.join("streams.sql"))?;
        self.sql("SHOW STREAMS")?;

        let views = self.example.dir.join("views.sql");
        if views.is_file() {
            heading("Views are created: aggregates that follow every event");
            self.sql_file(&views)?;
            self.sql("SHOW VIEWS")?;
        }

        heading("Real events go in, acknowledged only when they are on disk of most nodes");
        for place in 0..self.example.feeds.len() {
            self.feed(place)?;
        }

        let count = self.example.questions.len();
        heading(&format!("{count} questions"));
        let mut before = Vec::new();
        for (number, question) in self.example.questions.iter().enumerate() {
            println!("\n{}. {}", number + 1, question.asked);
            self.sql(&question.sql)?;
            before.push(self.answer(ASKED, question)?);
        }

        let views = self.maintained_views()?;
        self.audit(&views)?;

        heading("Every node is killed, as if the power had gone, and starts again");
        self.nodes.start_all()?;
        for node in 0..self.nodes.count() {
            self.nodes.kill(node)?;
        }
        self.nodes.start_all()?;

        heading(&format!("The same {count} questions, asked of every node"));
        let mut different = 0;
        for ((number, question), before) in self.example.questions.iter().enumerate().zip(&before) {
            println!("{}. {}", number + 1, question.asked);
            for node in 0..self.nodes.count() {
                let same = self.answer(node, question)? == *before;
                different += usize::from(!same);
                let verdict = if same { "the same answer" } else { "A DIFFERENT ANSWER" };
                println!("   {}: {verdict}", self.nodes.name(node));
            }
        }
        if different != 0 {
            bail!("{different} answers changed over the crash");
        }
        println!("\nAll {count} answers are the same: nothing acknowledged was lost or doubled.");
        self.audit(&views)?;
        println!("Yours to try: alluvium start, then alluvium sql ({}).", self.program.display());
        Ok(())
    }

    /// Ingests one file. Where it goes slowly enough to watch, a view is shown as it changes, and
    /// an owner of what is being written is killed meanwhile.
    fn feed(&mut self, place: usize) -> Result<()> {
        let Feed { stream, file, rate } = self.example.feeds[place].clone();
        let what = format!("ingest {file} into {stream}");
        let mut ingest = self.nodes.client(ASKED, "ingest");
        ingest.args(["--producer", "demo", &stream]).arg(self.example.dir.join(&file));
        let (Some(rate), Some(live)) = (rate, self.example.live.clone()) else {
            return check(&mut ingest, &what);
        };
        println!("\n{} (asked every second, while {rate} events a second come in)", live.asked);
        ingest.args(["--quiet", "--rate", &rate]).stdin(Stdio::null());
        let mut ingest = ingest.spawn().with_context(|| what.clone())?;
        let mut shown = 0;
        loop {
            std::thread::sleep(LIVE_INTERVAL);
            let ended = ingest.try_wait().with_context(|| what.clone())?;
            self.sql(&live.sql)?;
            shown += 1;
            if shown == LIVE_BEFORE_KILL && ended.is_none() {
                self.kill_an_owner(&stream, &live)?;
            }
            match ended {
                None => {}
                Some(status) if status.success() => return self.count(&stream),
                Some(status) => bail!("{what}: {status}"),
            }
        }
    }

    /// Kills a node that owns partitions of this stream, and measures how long it takes until the
    /// whole stream is answered for again.
    fn kill_an_owner(&mut self, stream: &str, live: &Question) -> Result<()> {
        let sql = format!(
            "SELECT n.name, count(*) AS owned FROM system.partitions AS p \
             JOIN system.nodes AS n ON n.node = p.owner \
             WHERE p.stream = '{stream}' GROUP BY n.name ORDER BY owned DESC, n.name"
        );
        let owners = self.text(&sql)?;
        let asked = self.nodes.name(ASKED);
        let mut owners = owners.lines().skip(1).filter_map(|line| line.split_once(','));
        let Some((name, owned)) = owners.find(|(name, _)| *name != asked) else {
            println!("{asked} owns every partition of {stream}: nobody else can be killed");
            return Ok(());
        };
        let node = (0..self.nodes.count()).find(|node| self.nodes.name(*node) == name);
        let node = node.with_context(|| format!("there is no node {name:?}"))?;
        let title = format!("{name}, which owns {owned} of the partitions of {stream}, is killed");
        heading(&title);
        self.nodes.kill(node)?;
        let killed = Instant::now();
        // Everything acknowledged is in an answer, so it takes an owner of every partition.
        while let Err(error) = self.answer(ASKED, live) {
            if AGAIN_WAIT_MAX < killed.elapsed() {
                return Err(error.context("no answer since a node of three was killed"));
            }
        }
        println!("everything is answered for again after {} ms", killed.elapsed().as_millis());
        Ok(())
    }

    fn count(&self, stream: &str) -> Result<()> {
        self.sql(&format!("SELECT count(*) AS {stream} FROM {stream}"))
    }

    /// Names of the views that keep groups of their own.
    fn maintained_views(&self) -> Result<Vec<String>> {
        let sql = "SELECT DISTINCT view FROM system.views WHERE stream IS NOT NULL ORDER BY view";
        Ok(self.text(sql)?.lines().skip(1).map(str::to_string).collect())
    }

    /// Lets each view prove itself.
    fn audit(&self, views: &[String]) -> Result<()> {
        if views.is_empty() {
            return Ok(());
        }
        heading("Each view is compared with the same query over the whole log");
        for view in views {
            println!("\n{view}");
            self.sql(&format!("AUDIT VIEW {view}"))?;
        }
        Ok(())
    }

    fn sql_file(&self, file: &Path) -> Result<()> {
        check(self.nodes.client(ASKED, "sql").arg("-f").arg(file), "create the streams")
    }

    fn sql(&self, sql: &str) -> Result<()> {
        check(self.nodes.client(ASKED, "sql").args(["-e", sql]), "ask the node")
    }

    fn text(&self, sql: &str) -> Result<String> {
        let question = Question { asked: sql.to_owned(), sql: sql.to_owned() };
        String::from_utf8(self.answer(ASKED, &question)?).context("answers are UTF-8")
    }

    /// The rows of an answer, without what differs from run to run.
    fn answer(&self, node: usize, question: &Question) -> Result<Vec<u8>> {
        let mut command = self.nodes.client(node, "sql");
        command.args(["--format", "csv", "-e", &question.sql]);
        let output = command.output().context("start alluvium sql")?;
        if !output.status.success() || output.stdout.is_empty() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("ask {:?}: {} {}", question.asked, output.status, said.trim());
        }
        Ok(output.stdout)
    }
}

/// A temporary directory that goes with the demo unless it is to be kept.
struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    fn new(keep: bool) -> Result<Scratch> {
        let path = std::env::temp_dir().join(format!("alluvium-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Scratch { path, keep })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep {
            println!("kept: {}", self.path.display());
        } else {
            std::fs::remove_dir_all(&self.path).ok();
        }
    }
}

fn check(command: &mut Command, what: &str) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| what.to_string())?;
    if !status.success() {
        bail!("{what}: {status}");
    }
    Ok(())
}

fn heading(text: &str) {
    if std::io::stdout().is_terminal() {
        println!("\n\x1b[1m== {text}\x1b[0m");
    } else {
        println!("\n== {text}");
    }
}
