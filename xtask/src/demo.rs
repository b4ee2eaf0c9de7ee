//! `cargo xtask demo`: what Alluvium is for, shown on real events.
//!
//! Runs the program a user runs, with the arguments a user gives: a node, `alluvium sql`,
//! `alluvium ingest`. Knows nothing of the node's insides; what it shows anybody can do by hand.

use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{cargo, setup, toml};

/// A node promises to be ready in seconds; a machine busy with builds may need more.
const READY_WAIT_MAX: Duration = Duration::from_secs(60);
/// How often the ready file is looked for.
const READY_POLL: Duration = Duration::from_millis(20);
/// How often a view is shown while it changes.
const LIVE_INTERVAL: Duration = Duration::from_secs(1);
/// The end of the node's log shown when something goes wrong.
const LOG_LINES_SHOWN: usize = 20;

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
    let demo = Demo { program, example, scratch };
    let shown = demo.show();
    if shown.is_err() {
        demo.print_log_end();
    }
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

/// An example: its streams, the files that feed them, and what to ask.
struct Example {
    dir: PathBuf,
    feeds: Vec<Feed>,
    questions: Vec<Question>,
    /// What is asked again and again while events come in.
    live: Option<Question>,
}

struct Feed {
    stream: String,
    file: String,
    /// Rows a second at which a person can watch a view follow; none: as fast as it goes.
    rate: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Question {
    asked: String,
    sql: String,
}

impl Example {
    fn read(root: &Path, name: &str) -> Result<Example> {
        let dir = root.join("examples").join(name);
        let read = |file: &str| {
            let path = dir.join(file);
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        let mut feeds = Vec::new();
        for table in toml::tables(&read("example.toml")?) {
            if table.name != "feed" {
                continue;
            }
            let stream = table.text("stream").context("a feed names a stream")?.to_string();
            let file = table.text("file").context("a feed names a file")?.to_string();
            let rate = table.text("rate").map(str::to_string);
            feeds.push(Feed { stream, file, rate });
        }
        let asked = questions(&read("questions.sql")?);
        if feeds.is_empty() || asked.is_empty() {
            bail!("examples/{name} has {} feeds, {} questions", feeds.len(), asked.len());
        }
        let live = match dir.join("live.sql").is_file() {
            true => questions(&read("live.sql")?).pop(),
            false => None,
        };
        Ok(Example { dir, feeds, questions: asked, live })
    }
}

/// Statements, each with the comment above it. A statement ends with a `;` at the end of a line.
fn questions(text: &str) -> Vec<Question> {
    let mut questions = Vec::new();
    let (mut asked, mut sql) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("--") {
            asked.push_str(comment.trim());
            continue;
        }
        sql.push_str(line);
        sql.push('\n');
        if line.trim_end().ends_with(';') {
            let sql = std::mem::take(&mut sql).trim().to_string();
            questions.push(Question { asked: std::mem::take(&mut asked), sql });
        }
    }
    questions
}

struct Demo {
    program: PathBuf,
    example: Example,
    scratch: Scratch,
}

impl Demo {
    fn show(&self) -> Result<()> {
        heading("A node starts on an empty directory");
        let mut node = self.start()?;

        heading("Streams are created");
        self.sql_file(&node, &self.example.dir.join("streams.sql"))?;
        self.sql(&node, "SHOW STREAMS")?;

        let views = self.example.dir.join("views.sql");
        if views.is_file() {
            heading("Views are created: aggregates that follow every event");
            self.sql_file(&node, &views)?;
            self.sql(&node, "SHOW VIEWS")?;
        }

        heading("Real events go in, acknowledged only when they are on disk");
        for feed in &self.example.feeds {
            self.feed(&node, feed)?;
        }

        let count = self.example.questions.len();
        heading(&format!("{count} questions"));
        let mut before = Vec::new();
        for (number, question) in self.example.questions.iter().enumerate() {
            println!("\n{}. {}", number + 1, question.asked);
            self.sql(&node, &question.sql)?;
            before.push(self.answer(&node, question)?);
        }

        let views = self.maintained_views(&node)?;
        self.audit(&node, &views)?;

        heading("The node is killed (SIGKILL), as if the power had gone, and starts again");
        node.kill()?;
        println!("killed process {}", node.child.id());
        let node = self.start()?;

        heading(&format!("The same {count} questions"));
        let mut different = 0;
        for ((number, question), before) in self.example.questions.iter().enumerate().zip(&before) {
            let same = self.answer(&node, question)? == *before;
            different += usize::from(!same);
            let verdict = if same { "the same answer" } else { "A DIFFERENT ANSWER" };
            println!("{}. {}\n   {verdict}", number + 1, question.asked);
        }
        if different != 0 {
            bail!("{different} of {count} answers changed over the crash");
        }
        println!("\nAll {count} answers are the same: nothing acknowledged was lost or doubled.");
        self.audit(&node, &views)?;
        println!("Yours to try: alluvium start, then alluvium sql ({}).", self.program.display());
        Ok(())
    }

    /// Ingests one file. Where it goes slowly enough to watch, a view is shown as it changes.
    fn feed(&self, node: &Node, feed: &Feed) -> Result<()> {
        let what = format!("ingest {} into {}", feed.file, feed.stream);
        let mut ingest = self.client(node, "ingest");
        ingest.args(["--producer", "demo"]).arg(&feed.stream);
        ingest.arg(self.example.dir.join(&feed.file));
        let (Some(rate), Some(live)) = (&feed.rate, &self.example.live) else {
            return check(&mut ingest, &what);
        };
        println!("\n{} (asked every second, while {rate} events a second come in)", live.asked);
        ingest.args(["--quiet", "--rate", rate]).stdin(Stdio::null());
        let mut ingest = ingest.spawn().with_context(|| what.clone())?;
        loop {
            std::thread::sleep(LIVE_INTERVAL);
            let ended = ingest.try_wait().with_context(|| what.clone())?;
            self.sql(node, &live.sql)?;
            match ended {
                None => {}
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{what}: {status}"),
            }
        }
    }

    /// Names of the views that keep groups of their own.
    fn maintained_views(&self, node: &Node) -> Result<Vec<String>> {
        let sql = "SELECT DISTINCT view FROM system.views WHERE stream IS NOT NULL ORDER BY view";
        let question = Question { asked: "which views are maintained?".into(), sql: sql.into() };
        let answer = String::from_utf8(self.answer(node, &question)?).context("names are UTF-8")?;
        Ok(answer.lines().skip(1).map(str::to_string).collect())
    }

    /// Lets each view prove itself.
    fn audit(&self, node: &Node, views: &[String]) -> Result<()> {
        if views.is_empty() {
            return Ok(());
        }
        heading("Each view is compared with the same query over the whole log");
        for view in views {
            println!("\n{view}");
            self.sql(node, &format!("AUDIT VIEW {view}"))?;
        }
        Ok(())
    }

    /// Starts a node on the demo's directory and waits until it answers.
    fn start(&self) -> Result<Node> {
        let started = Instant::now();
        let ready_file = self.scratch.path.join("ready.json");
        if ready_file.exists() {
            std::fs::remove_file(&ready_file).context("remove the former ready file")?;
        }
        let log = File::options().create(true).append(true).open(self.log_path());
        let log = log.context("open the node's log")?;
        let mut command = self.command();
        command.arg("start").arg("--data-dir").arg(self.scratch.path.join("data"));
        for listen in ["--listen", "--peer-listen", "--http-listen", "--pg-listen"] {
            command.args([listen, "127.0.0.1:0"]);
        }
        command.arg("--ready-file").arg(&ready_file);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut node = Node { child: command.spawn().context("start the node")?, addr: None };
        while started.elapsed() < READY_WAIT_MAX {
            if let Some(status) = node.child.try_wait()? {
                bail!("the node ended before it was ready ({status})");
            }
            if let Some(addr) = ready_addr(&ready_file) {
                let millis = started.elapsed().as_millis();
                println!("ready after {millis} ms, listening on {addr}");
                node.addr = Some(addr);
                return Ok(node);
            }
            std::thread::sleep(READY_POLL);
        }
        bail!("the node was not ready within {} s", READY_WAIT_MAX.as_secs())
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

    fn client(&self, node: &Node, subcommand: &str) -> Command {
        let mut command = self.command();
        command.arg(subcommand).args(["--addr", node.addr.as_deref().unwrap_or_default()]);
        command
    }

    fn sql_file(&self, node: &Node, file: &Path) -> Result<()> {
        check(self.client(node, "sql").arg("-f").arg(file), "create the streams")
    }

    fn sql(&self, node: &Node, sql: &str) -> Result<()> {
        check(self.client(node, "sql").args(["-e", sql]), "ask the node")
    }

    /// The rows of an answer, without what differs from run to run.
    fn answer(&self, node: &Node, question: &Question) -> Result<Vec<u8>> {
        let mut command = self.client(node, "sql");
        command.args(["--format", "csv", "-e", &question.sql]);
        let output = command.output().context("start alluvium sql")?;
        if !output.status.success() || output.stdout.is_empty() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("ask {:?}: {} {}", question.asked, output.status, said.trim());
        }
        Ok(output.stdout)
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path.join("node.log")
    }

    fn print_log_end(&self) {
        let log = std::fs::read(self.log_path()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        eprintln!("\nthe node's log ends:");
        for line in &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..] {
            eprintln!("  {line}");
        }
    }
}

/// A running node; killed when dropped, so that a failing demo leaves none behind.
struct Node {
    child: Child,
    addr: Option<String>,
}

impl Node {
    fn kill(&mut self) -> Result<()> {
        self.child.kill().context("kill the node")?;
        self.child.wait().context("wait for the killed node")?;
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Both fail only when the process is gone already, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
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

/// The client address, once the node has written it.
fn ready_addr(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    value["client"].as_str().map(str::to_string)
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

#[cfg(test)]
mod tests {
    use super::{Example, questions};

    #[test]
    fn a_question_is_a_comment_and_a_statement() {
        let found =
            questions("-- Who won?\nSELECT a,\n  b FROM c;\n\n-- And who lost?\nSELECT 1;\n");
        let asked: Vec<&str> = found.iter().map(|question| question.asked.as_str()).collect();
        assert_eq!(asked, ["Who won?", "And who lost?"]);
        assert_eq!(found[0].sql, "SELECT a,\n  b FROM c;");
        assert_eq!(found[1].sql, "SELECT 1;");
    }

    #[test]
    fn every_example_can_be_shown() {
        let root = crate::cargo::root();
        let folders = std::fs::read_dir(root.join("examples")).expect("the examples");
        let mut count = 0;
        for folder in folders.flatten().filter(|entry| entry.path().is_dir()) {
            let name = folder.file_name().to_string_lossy().into_owned();
            let example = Example::read(&root, &name).expect("an example that can be read");
            assert_eq!(example.questions.len(), 5, "{name}");
            for feed in &example.feeds {
                assert!(example.dir.join(&feed.file).is_file(), "{name}: {}", feed.file);
            }
            count += 1;
        }
        assert!(0 < count, "no example");
    }
}
