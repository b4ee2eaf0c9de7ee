//! `cargo xtask test`: everything CI checks, cheapest first, so that a broken decision is known in
//! a minute while RocksDB and DataFusion would still be compiling.
//!
//! Stops at the first step that fails. What a step leaves out it counts, and the end says so.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cargo, fuzz, licences, peer, setup, tidy};

/// What needs neither RocksDB nor DataFusion.
const LIGHT_PACKAGES: [&str; 3] = ["alluvium-core", "cluster-sim", "xtask"];

/// Tests that ran, and did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// One step: a name to begin from, and what it does.
struct Step {
    name: &'static str,
    weight: Weight,
    run: fn(&Path) -> Result<Counts>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    Light,
    Heavy,
}

const STEPS: [Step; 17] = [
    Step { name: "format", weight: Weight::Light, run: format },
    Step { name: "tidy", weight: Weight::Light, run: |r| nothing_counted(tidy::run(r, &[])) },
    Step { name: "licences", weight: Weight::Light, run: |r| nothing_counted(licences::run(r)) },
    Step { name: "spelling", weight: Weight::Light, run: spelling },
    Step { name: "clippy-light", weight: Weight::Light, run: clippy_light },
    Step { name: "xtask", weight: Weight::Light, run: |root| package(root, "xtask") },
    Step { name: "core", weight: Weight::Light, run: |root| package(root, "alluvium-core") },
    Step { name: "sim", weight: Weight::Light, run: |root| package(root, "cluster-sim") },
    Step { name: "duckdb", weight: Weight::Light, run: duckdb },
    Step { name: "deploy", weight: Weight::Light, run: deploy },
    Step { name: "clippy", weight: Weight::Heavy, run: clippy },
    Step { name: "views", weight: Weight::Heavy, run: |root| built(root, "alluvium-views") },
    Step { name: "store", weight: Weight::Heavy, run: |root| built(root, "alluvium-store") },
    Step { name: "query", weight: Weight::Heavy, run: |root| built(root, "alluvium-query") },
    Step { name: "node", weight: Weight::Heavy, run: |root| built(root, "alluvium") },
    Step { name: "fuzz", weight: Weight::Heavy, run: fuzz::step },
    Step { name: "e2e", weight: Weight::Heavy, run: e2e },
];

/// What to run.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    light: bool,
    from: usize,
    end: usize,
}

/// Runs the steps and prints a table of them.
pub fn run(root: &Path, args: &[String]) -> Result<()> {
    let plan = Plan::parse(args)?;
    let started = Instant::now();
    let mut rows = Vec::new();
    let mut failure = None;
    setup::ensure_checkers()?;
    for step in &STEPS[plan.from..plan.end] {
        if step.weight == Weight::Heavy {
            if plan.light {
                break;
            }
            setup::ensure_build()?;
        }
        println!("\n==== {} [{} since the start]", step.name, minutes(started.elapsed()));
        let begun = Instant::now();
        let outcome = (step.run)(root);
        let counts = *outcome.as_ref().unwrap_or(&Counts::default());
        rows.push((step.name, begun.elapsed(), counts, outcome.is_ok()));
        if let Err(error) = outcome {
            failure = Some(error.context(format!("step {:?}", step.name)));
            break;
        }
    }
    print_summary(&rows, started.elapsed());
    failure.map_or(Ok(()), Err)
}

impl Plan {
    fn parse(args: &[String]) -> Result<Plan> {
        let mut plan = Plan { light: false, from: 0, end: STEPS.len() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--light" => plan.light = true,
                "--from" => plan.from = place(args.next())?,
                "--only" => {
                    plan.from = place(args.next())?;
                    plan.end = plan.from + 1;
                }
                other => {
                    bail!("cargo xtask test [--light] [--from STEP] [--only STEP], not {other:?}")
                }
            }
        }
        Ok(plan)
    }
}

/// The place of a step by its name.
fn place(name: Option<&String>) -> Result<usize> {
    let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
    let place = name.and_then(|name| names.iter().position(|step| step == name));
    place.with_context(|| format!("name a step: {}", names.join(", ")))
}

fn nothing_counted(result: Result<()>) -> Result<Counts> {
    result.map(|()| Counts::default())
}

fn format(root: &Path) -> Result<Counts> {
    nothing_counted(cargo::run(root, &["fmt", "--all", "--check"]))
}

/// Spelling, where the tool is there: it is a help, not a promise.
fn spelling(root: &Path) -> Result<Counts> {
    let Ok(status) = Command::new("typos").current_dir(root).status() else {
        println!("skipped: typos is not installed");
        return Ok(Counts { skipped: 1, ..Counts::default() });
    };
    if !status.success() {
        bail!("typos found some ({status})");
    }
    Ok(Counts::default())
}

/// The stored answers of the SQL corpus, against the peer that gave them.
fn duckdb(root: &Path) -> Result<Counts> {
    match peer::check(root)? {
        peer::Asked::Same => Ok(Counts { passed: 1, ..Counts::default() }),
        peer::Asked::Skipped { reason } => {
            println!("skipped: {reason}");
            Ok(Counts { skipped: 1, ..Counts::default() })
        }
    }
}

fn clippy_light(root: &Path) -> Result<Counts> {
    let mut args = vec!["clippy", "--locked", "--all-targets"];
    for package in &LIGHT_PACKAGES {
        args.extend(["--package", package]);
    }
    args.extend(["--", "-D", "warnings"]);
    nothing_counted(cargo::run(root, &args))
}

fn clippy(root: &Path) -> Result<Counts> {
    let args = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
    nothing_counted(cargo::run(root, &args))
}

/// Tests one package, with only what it needs compiled.
fn package(root: &Path, name: &str) -> Result<Counts> {
    let mut command = cargo::command(root);
    command.args(["test", "--locked", "--package", name, "--all-targets", "--", "--show-output"]);
    counted(&mut command)
}

/// Tests one package with programs built for the whole workspace. Built package by package, each
/// would compile DataFusion again with a slightly different set of features.
fn built(root: &Path, name: &str) -> Result<Counts> {
    built_with(root, name, &[])
}

fn built_with(root: &Path, name: &str, args: &[&str]) -> Result<Counts> {
    let programs = build_tests(root)?;
    let mut counts = Counts::default();
    for program in programs.iter().filter(|program| program.package == name) {
        println!("\n     running {} ({name})", program.target);
        let mut command = Command::new(&program.path);
        command.current_dir(&program.dir);
        command.env("CARGO_MANIFEST_DIR", &program.dir).arg("--show-output").args(args);
        counts.add(counted(&mut command)?);
    }
    Ok(counts)
}

/// Real processes, with network namespaces where this machine has them.
fn e2e(root: &Path) -> Result<Counts> {
    setup::try_network();
    let target = cargo::target_dir()?;
    setup::try_clients(root, target.parent().context("the build results lie in a folder")?);
    // A cluster under load takes all processors: beside another one its calls would come late.
    built_with(root, "cluster-e2e", &["--test-threads", "1"])
}

/// What machines are told about nodes: charts, modules, playbooks, and the commands of the
/// document. The scripts that boot hosts and apply modules take longer, and are run by hand.
fn deploy(root: &Path) -> Result<Counts> {
    setup::try_deploy();
    let mut counts = Counts::default();
    for (script, args) in [
        ("documents.sh", [].as_slice()),
        ("kubernetes.sh", &[]),
        ("ansible.sh", &["lint"]),
        ("terraform.sh", &["quick"]),
    ] {
        println!("\n     running deploy/test/{script}");
        let mut command = Command::new(root.join("deploy/test").join(script));
        counts.add(counted(command.args(args))?);
    }
    Ok(counts)
}

/// A test program as cargo built it.
pub struct Program {
    pub package: String,
    pub dir: PathBuf,
    pub target: String,
    pub path: PathBuf,
}

/// Builds every test of the workspace.
pub fn build_tests(root: &Path) -> Result<Vec<Program>> {
    let mut command = cargo::command(root);
    command.args(["test", "--locked", "--workspace", "--all-targets", "--no-run"]);
    programs_of(&mut command)
}

/// The test programs that a call of cargo builds.
pub fn programs_of(command: &mut Command) -> Result<Vec<Program>> {
    command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut child = command.spawn().context("start cargo")?;
    let stdout = child.stdout.take().context("its output is piped")?;
    let mut programs = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("read what cargo says")?;
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        programs.extend(program(&message));
    }
    let status = child.wait().context("wait for cargo")?;
    if !status.success() {
        bail!("building the tests failed ({status})");
    }
    Ok(programs)
}

/// A test program, if this message of cargo's is about one.
fn program(message: &Value) -> Option<Program> {
    let path = message["executable"].as_str()?;
    if message["profile"]["test"].as_bool() != Some(true) {
        return None;
    }
    let manifest = Path::new(message["manifest_path"].as_str()?);
    let dir = manifest.parent()?.to_path_buf();
    let target = message["target"]["name"].as_str()?.to_string();
    Some(Program { package: package_name(manifest)?, dir, target, path: PathBuf::from(path) })
}

/// The `name` in a manifest's `[package]`.
fn package_name(manifest: &Path) -> Option<String> {
    let text = std::fs::read_to_string(manifest).ok()?;
    let tables = crate::toml::tables(&text);
    let package = tables.iter().find(|table| table.name == "package")?;
    package.text("name").map(str::to_string)
}

/// Runs tests, shows their output as it comes, and counts what their closing lines say. What
/// passing tests print is shown too: seeds, coverage, and what was left out and why.
fn counted(command: &mut Command) -> Result<Counts> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("start the tests")?;
    let stdout = child.stdout.take().context("its output is piped")?;
    let mut counts = Counts::default();
    let mut shown = std::io::stdout().lock();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("read the tests' output")?;
        shown.write_all(&line)?;
        shown.write_all(b"\n")?;
        counts.add(closing_line(&String::from_utf8_lossy(&line)));
    }
    shown.flush()?;
    let status = child.wait().context("wait for the tests")?;
    if !status.success() {
        bail!("{} failed ({status})", if 0 < counts.failed { "tests" } else { "the test program" });
    }
    Ok(counts)
}

/// What a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …` counts. A test that
/// leaves something out prints a line that begins with `skipped:`.
fn closing_line(line: &str) -> Counts {
    if line.starts_with("skipped:") {
        return Counts { skipped: 1, ..Counts::default() };
    }
    let Some(rest) = line.strip_prefix("test result: ") else { return Counts::default() };
    let number = |what: &str| {
        let place = rest.find(what).unwrap_or(0);
        let before = rest[..place].trim_end().rsplit(' ').next().unwrap_or("");
        before.parse().unwrap_or(0)
    };
    Counts { passed: number("passed"), failed: number("failed"), skipped: number("ignored") }
}

fn print_summary(rows: &[(&str, Duration, Counts, bool)], whole: Duration) {
    println!("\n{:<14} {:>8} {:>8} {:>8} {:>8}", "step", "minutes", "passed", "failed", "skipped");
    let mut sum = Counts::default();
    for (name, time, counts, ok) in rows {
        let Counts { passed, failed, skipped } = counts;
        let mark = if *ok { "" } else { "  FAILED" };
        println!("{name:<14} {:>8} {passed:>8} {failed:>8} {skipped:>8}{mark}", minutes(*time));
        sum.add(*counts);
    }
    let Counts { passed, failed, skipped } = sum;
    println!("{:<14} {:>8} {passed:>8} {failed:>8} {skipped:>8}", "all", minutes(whole));
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_counted() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 4 filtered out";
        assert_eq!(closing_line(line), Counts { passed: 12, failed: 3, skipped: 1 });
        assert_eq!(closing_line("skipped: no DuckDB").skipped, 1);
        assert_eq!(closing_line("test a::b ... ok"), Counts::default());
    }

    #[test]
    fn a_plan_begins_where_it_is_told() {
        let parse = |words: &[&str]| {
            Plan::parse(&words.iter().map(|word| word.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(parse(&[]).expect("a plan"), Plan { light: false, from: 0, end: STEPS.len() });
        let plan = parse(&["--light", "--from", "core"]).expect("a plan");
        assert_eq!((plan.light, STEPS[plan.from].name), (true, "core"));
        let plan = parse(&["--only", "sim"]).expect("a plan");
        assert_eq!(plan.end - plan.from, 1);
        assert!(parse(&["--from", "nowhere"]).is_err());
        assert!(parse(&["--fast"]).is_err());
    }

    #[test]
    fn light_steps_come_first() {
        let heavy = STEPS.iter().position(|step| step.weight == Weight::Heavy);
        let light = STEPS.iter().rposition(|step| step.weight == Weight::Light);
        assert!(light < heavy);
    }
}
