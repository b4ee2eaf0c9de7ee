//! `cargo xtask fuzz`: the targets of fuzzing, two at a time, and a table of what they did.
//!
//! A target is a test in a module `fuzz` of a crate of ours, which runs for as long as it is told
//! (`cluster-tests/fuzz`). Several may share one kind of input, and then its time. `--guided`
//! builds them once more with counters in the crate under test, so that inputs which reach
//! something new are changed further; without it they are changed blindly, and nothing has to be
//! built again.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cargo;
use crate::test::{Counts, Program, build_tests};

/// Kinds of input, and the targets that share the time of each.
const KINDS: [(&str, &[&str]); 3] = [
    ("wire", &["peer_message"]),
    ("log entry", &["meta_command", "partition_command"]),
    ("snapshot", &["checkpoint"]),
];

/// Packages with targets, as their crates are called.
const CRATES: [&str; 1] = ["alluvium_core"];

/// Targets that run beside each other: as many as the smallest machine has processors.
const BESIDE: usize = 2;

/// For each kind, in the tests.
const USUAL: Duration = Duration::from_secs(60);

/// Set while cargo is told to have this program call the compiler.
const COUNTERS: &str = "ALLUVIUM_FUZZ_COUNTERS";

/// What to run, and for how long.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    each: Duration,
    only: Option<String>,
    guided: bool,
}

/// A target, and how to run it.
#[derive(Clone, Debug)]
struct Target {
    name: &'static str,
    kind: &'static str,
    /// Its path in the test program.
    test: String,
    program: PathBuf,
    dir: PathBuf,
    time: Duration,
}

/// The command.
pub fn run(root: &Path, args: &[String]) -> Result<()> {
    let plan = Plan::parse(args)?;
    let programs = if plan.guided { build_guided(root)? } else { build_tests(root)? };
    run_all(&plan, &programs).map(drop)
}

/// The step of the tests.
pub fn step(root: &Path) -> Result<Counts> {
    let plan = Plan { each: USUAL, only: None, guided: false };
    let passed = run_all(&plan, &build_tests(root)?)?;
    Ok(Counts { passed, ..Counts::default() })
}

impl Plan {
    fn parse(args: &[String]) -> Result<Plan> {
        let mut plan = Plan { each: USUAL, only: None, guided: false };
        let mut args = args.iter();
        let number = |text: Option<&String>| {
            let number = text.and_then(|text| text.parse::<u64>().ok());
            number.context("a number follows")
        };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--minutes" => plan.each = Duration::from_secs(60 * number(args.next())?),
                "--seconds" => plan.each = Duration::from_secs(number(args.next())?),
                "--only" => plan.only = Some(args.next().context("name a target")?.clone()),
                "--guided" => plan.guided = true,
                other => bail!(
                    "cargo xtask fuzz [--minutes N] [--only TARGET] [--guided], not {other:?}"
                ),
            }
        }
        Ok(plan)
    }
}

fn run_all(plan: &Plan, programs: &[Program]) -> Result<u64> {
    let mut targets = find(programs, plan.each)?;
    if let Some(only) = &plan.only {
        targets.retain(|target| target.name == only);
        if targets.is_empty() {
            bail!("there is no target {only:?}");
        }
    }
    let count = targets.len() as u64;
    let waiting = Mutex::new(targets);
    let lines = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let worker = || -> Result<()> {
            loop {
                let next = waiting.lock().expect("no worker panics").pop_front();
                let Some(target) = next else { return Ok(()) };
                let line = run_one(&target)?;
                println!("{line}");
                lines.lock().expect("no worker panics").push((target.kind, line));
            }
        };
        let workers: Vec<_> = (0..BESIDE).map(|_| scope.spawn(worker)).collect();
        let ended = workers.into_iter().map(|it| it.join().expect("no worker panics"));
        ended.collect::<Vec<_>>().into_iter().collect::<Result<()>>()
    })?;
    print_table(lines.into_inner().expect("no worker panics"));
    Ok(count)
}

/// Every target of the table, each with its program; an error where one is missing there or here.
fn find(programs: &[Program], each: Duration) -> Result<VecDeque<Target>> {
    let mut found = Vec::new();
    for program in programs {
        let crate_name = program.target.replace('-', "_");
        let is_library = crate_name == program.package.replace('-', "_");
        if !is_library || !CRATES.contains(&crate_name.as_str()) {
            continue;
        }
        for test in tests_of(program)? {
            found.push((test, program));
        }
    }
    let mut targets = VecDeque::new();
    for (kind, names) in KINDS {
        for name in names {
            let end = format!("fuzz::{name}");
            let place = found.iter().position(|(test, _)| test.ends_with(&end));
            let (test, program) = found.swap_remove(place.with_context(|| {
                format!("no test {end:?}; the table in xtask/src/fuzz.rs names it")
            })?);
            let time = each / u32::try_from(names.len()).expect("a few");
            targets.push_back(Target {
                name,
                kind,
                test,
                program: program.path.clone(),
                dir: program.dir.clone(),
                time,
            });
        }
    }
    if let Some((test, _)) = found.first() {
        bail!("the table in xtask/src/fuzz.rs does not name {test}");
    }
    Ok(targets)
}

/// The tests of a program that are targets.
fn tests_of(program: &Program) -> Result<Vec<String>> {
    let output = Command::new(&program.path).arg("--list").output().context("list the tests")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    let is_target = |name: &&str| name.rsplit("::").nth(1) == Some("fuzz");
    Ok(names.filter(is_target).map(str::to_owned).collect())
}

/// Runs a target to its end; what it says of itself.
fn run_one(target: &Target) -> Result<String> {
    let output = Command::new(&target.program)
        .args(["--exact", &target.test, "--nocapture"])
        .current_dir(&target.dir)
        .env("CARGO_MANIFEST_DIR", &target.dir)
        .env("ALLUVIUM_FUZZ_SECONDS", target.time.as_secs().max(1).to_string())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", target.program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let trouble = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = std::env::temp_dir().join(format!("alluvium-fuzz-{}.last", target.name));
        bail!(
            "{} failed ({}); its last input is in {}\n{said}\n{trouble}",
            target.name,
            output.status,
            last.display()
        );
    }
    let start = format!("fuzz {}: kept ", target.name);
    let line = said.lines().find(|line| line.starts_with(&start));
    line.map(str::to_owned).with_context(|| format!("{} did not say what it did", target.name))
}

/// The lines as rows of a document: kind, target, inputs tried, minutes, edges reached.
fn print_table(mut lines: Vec<(&str, String)>) {
    lines.sort();
    println!("\n| kind | target | inputs tried | seconds | a second | edges |");
    println!("|---|---|---|---|---|---|");
    for (kind, line) in lines {
        let name = line.split([' ', ':']).nth(1).unwrap_or_default();
        let value = |what: &str| {
            let rest = line.split(what).nth(1).unwrap_or_default();
            rest.split([' ', ',']).next().unwrap_or_default().to_owned()
        };
        let edges = match value("counters ").as_str() {
            "0" => "not counted".to_owned(),
            edges => edges.to_owned(),
        };
        let (tried, seconds, rate) = (value("tried "), value("seconds "), value("a second "));
        println!("| {kind} | `{name}` | {tried} | {seconds} | {rate} | {edges} |");
    }
}

/// Builds the targets with counters: only what cargo calls the workspace's own is built again, and
/// of that only the tests of a library are changed.
fn build_guided(root: &Path) -> Result<Vec<Program>> {
    let this = std::env::current_exe().context("where this program lies")?;
    let mut command = cargo::command(root);
    command.args(["test", "--locked", "--workspace", "--lib", "--no-run"]);
    command.env("RUSTC_WORKSPACE_WRAPPER", this).env(COUNTERS, "1");
    crate::test::programs_of(&mut command)
}

/// Whether cargo calls this program in place of the compiler.
pub fn is_compiler() -> bool {
    std::env::var_os(COUNTERS).is_some()
}

/// Calls the compiler, with counters where the tests of a crate with targets are built.
pub fn compile(args: &[String]) -> Result<ExitCode> {
    let (compiler, rest) = args.split_first().context("cargo names the compiler")?;
    let mut command = Command::new(compiler);
    command.args(rest);
    let name = rest.iter().skip_while(|arg| *arg != "--crate-name").nth(1);
    let is_under_test = rest.iter().any(|arg| arg == "--test");
    if is_under_test && name.is_some_and(|name| CRATES.contains(&name.as_str())) {
        command.args(["-Cpasses=sancov-module", "-Cllvm-args=-sanitizer-coverage-level=3"]);
        command.arg("-Cllvm-args=-sanitizer-coverage-inline-8bit-counters");
    }
    let status = command.status().context("start the compiler")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_how_long() {
        let parse = |words: &[&str]| {
            Plan::parse(&words.iter().map(|word| word.to_string()).collect::<Vec<_>>())
        };
        let plan = parse(&["--minutes", "60", "--guided"]).expect("a plan");
        assert_eq!((plan.each, plan.guided), (Duration::from_secs(3_600), true));
        assert_eq!(parse(&[]).expect("a plan").each, USUAL);
        assert!(parse(&["--minutes"]).is_err());
        assert!(parse(&["--hours", "1"]).is_err());
    }
}
