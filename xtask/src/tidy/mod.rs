//! The rules of this repository that a machine can check. Runs as `cargo xtask tidy` and as a test.
//!
//! Each rule is a function from text to findings, with a test that a breach is found; only this
//! file reads the repository. What rustfmt, clippy and the compiler check already is not repeated
//! here.
//!
//! Reading order: [`source`] (code apart from comments and strings), [`names`] and [`directions`]
//! (borders), [`sizes`], [`words`], [`vocabulary`], [`documents`].

mod directions;
mod documents;
mod markdown;
mod names;
mod sizes;
mod source;
#[cfg(test)]
mod tests;
mod vocabulary;
mod words;
mod wrap;

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::metadata;
use source::Source;

/// Something to mend.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl Finding {
    /// `line` counts from 1; 0 means the file as a whole.
    fn new(path: &str, line: usize, what: String) -> Finding {
        Finding { path: path.to_string(), line, what }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line.max(1), self.what)
    }
}

/// Text files, by the end of their name.
const TEXT: [&str; 14] = [
    ".rs",
    ".md",
    ".toml",
    ".proto",
    ".sql",
    ".slt",
    ".sh",
    ".yaml",
    ".yml",
    ".tf",
    ".py",
    "/run",
    "LICENSE",
    ".gitignore",
];

/// Prints what there is to mend; an error when there is anything. `--fix` mends what it can first.
pub fn run(root: &Path, args: &[String]) -> Result<()> {
    match args {
        [] => {}
        [fix] if fix == "--fix" => fix_all(root, "")?,
        [fix, under] if fix == "--fix" => fix_all(root, under)?,
        other => bail!("cargo xtask tidy [--fix [FOLDER]], not {other:?}"),
    }
    let findings = check(root)?;
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: nothing to mend");
        return Ok(());
    }
    bail!("tidy: {} to mend", findings.len())
}

/// Wraps comments of the files whose path begins with `under`. Code is rustfmt's.
fn fix_all(root: &Path, under: &str) -> Result<()> {
    for path in files(root)?.iter().filter(|path| path.ends_with(".rs")) {
        if !path.starts_with(under) {
            continue;
        }
        let text = read(root, path)?;
        let fixed = wrap::wrap(path, &text);
        if fixed != text {
            std::fs::write(root.join(path), fixed).with_context(|| format!("write {path}"))?;
            println!("wrapped comments in {path}");
        }
    }
    Ok(())
}

/// Everything there is to mend, in order of path and line.
pub fn check(root: &Path) -> Result<Vec<Finding>> {
    let architecture = read(root, "docs/ARCHITECTURE.md")?;
    let rules = names::rules(&architecture)?;
    let words_of_ours = read(root, "docs/VOCABULARY.md")?;
    let avoided = vocabulary::table(&words_of_ours, vocabulary::NAMES)?;
    let avoided_files = vocabulary::table(&words_of_ours, vocabulary::FILES)?;
    let exists = |path: &str| root.join(path).exists();
    let document = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();

    let mut findings = names::check_places(&rules, exists);
    for path in files(root)? {
        if !TEXT.iter().any(|end| path.ends_with(end)) {
            continue;
        }
        let text = read(root, &path)?;
        findings.extend(words::check_text(&path, &text));
        if path.ends_with(".md") {
            findings.extend(documents::check(&path, &text, &crate::COMMANDS, exists));
        }
        if path.ends_with(".rs") {
            let source = Source::parse(&path, &text);
            findings.extend(names::check(&rules, &source));
            findings.extend(sizes::check(&source));
            findings.extend(words::check_code(&source));
            findings.extend(vocabulary::check_names(&avoided, &source));
            findings.extend(vocabulary::check_file(&avoided_files, &path));
            findings.extend(vocabulary::check_documents(&source, document));
        }
    }
    let packages = metadata::workspace(root)?;
    findings.extend(directions::check(&directions::table(&architecture)?, &packages));
    for package in &packages {
        let used = &package.dependencies;
        findings.extend(names::check_manifest(&rules, &package.name, &package.dir, used));
    }
    findings.sort_by(|a, b| (&a.path, a.line, &a.what).cmp(&(&b.path, b.line, &b.what)));
    findings.dedup();
    Ok(findings)
}

/// The files that are in the repository or would be with the next commit.
fn files(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("run git, which lists the files to check")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let listed = String::from_utf8(output.stdout).context("a path that is not UTF-8")?;
    let mut files: Vec<String> = listed.split('\0').map(str::to_string).collect();
    files.retain(|path| !path.is_empty() && root.join(path).is_file());
    files.sort();
    files.dedup();
    Ok(files)
}

fn read(root: &Path, path: &str) -> Result<String> {
    std::fs::read_to_string(root.join(path)).with_context(|| format!("read {path}"))
}
