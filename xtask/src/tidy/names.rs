//! Who may name what: a large dependency is named in one place and spoken of in our words
//! elsewhere.
//!
//! The table stands in docs/ARCHITECTURE.md under [`HEADING`]; this file holds no names of its own.
//! Columns: the names, the only places they may stand in, the places they may not stand in, and
//! whether tests are held to it too.

use anyhow::{Context, Result, bail};

use super::source::{Source, is_word};
use super::{Finding, markdown};

/// Where the table stands.
pub const HEADING: &str = "## Who may name what";

/// One row of the table.
#[derive(Debug)]
pub struct Rule {
    names: Vec<String>,
    only_in: Vec<String>,
    never_in: Vec<String>,
    tests: Tests,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tests {
    Held,
    Free,
}

/// Reads the table.
pub fn rules(architecture: &str) -> Result<Vec<Rule>> {
    let rows = markdown::table(architecture, HEADING).context("the table of names is missing")?;
    let mut rules = Vec::new();
    for row in rows {
        let [names, only_in, never_in, tests, ..] = row.as_slice() else {
            bail!("a row of the table of names has {} columns, not 4: {row:?}", row.len());
        };
        let tests = match tests.as_str() {
            "yes" => Tests::Held,
            "no" => Tests::Free,
            other => bail!("the fourth column says yes or no, not {other:?}"),
        };
        let rule = Rule {
            names: markdown::quoted(names),
            only_in: markdown::quoted(only_in),
            never_in: markdown::quoted(never_in),
            tests,
        };
        if rule.names.is_empty() || (rule.only_in.is_empty() && rule.never_in.is_empty()) {
            bail!("a row of the table of names forbids nothing: {row:?}");
        }
        rules.push(rule);
    }
    Ok(rules)
}

/// Places in the table that are no longer in the repository.
pub fn check_places(rules: &[Rule], exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let places = rules.iter().flat_map(|rule| rule.only_in.iter().chain(&rule.never_in));
    places
        .filter(|place| !exists(place))
        .map(|place| {
            let what = format!("the table of names speaks of `{place}`, which does not exist");
            Finding::new("docs/ARCHITECTURE.md", 0, what)
        })
        .collect()
}

/// Names in places where they may not stand.
pub fn check(rules: &[Rule], source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in rules {
        if rule.allows(&source.path) {
            continue;
        }
        for (line, code) in source.code.iter().enumerate() {
            if rule.tests == Tests::Free && source.test[line] {
                continue;
            }
            for name in rule.names.iter().filter(|name| names(code, name)) {
                let what = format!("`{name}` may not be named here: {}", rule.advice());
                findings.push(Finding::new(&source.path, line + 1, what));
            }
        }
    }
    findings
}

/// Dependencies in a manifest whose folder holds no place where they may be named.
pub fn check_manifest(
    rules: &[Rule],
    package: &str,
    dir: &str,
    dependencies: &[String],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in rules.iter().filter(|rule| !rule.only_in.is_empty()) {
        let folder = format!("{dir}/");
        let home =
            rule.only_in.iter().any(|place| place.starts_with(&folder) || under(&folder, place));
        for name in rule.names.iter().filter(|name| !home && dependencies.contains(name)) {
            let what = format!("{package} depends on `{name}` but may not name it");
            findings.push(Finding::new(&format!("{dir}/Cargo.toml"), 0, what));
        }
    }
    findings
}

impl Rule {
    fn allows(&self, path: &str) -> bool {
        if self.never_in.iter().any(|place| under(path, place)) {
            return false;
        }
        self.only_in.is_empty() || self.only_in.iter().any(|place| under(path, place))
    }

    fn advice(&self) -> String {
        if self.only_in.is_empty() {
            format!("never in {}", self.never_in.join(", "))
        } else {
            format!("only in {}", self.only_in.join(", "))
        }
    }
}

/// A place ending with `/` is a folder, every other one file.
fn under(path: &str, place: &str) -> bool {
    if place.ends_with('/') { path.starts_with(place) } else { path == place }
}

/// True when code names `name` as itself: not as part of a longer word, and, for crates (which are
/// lower case), not as a module of ours. `arrow` is also named by `arrow_schema`.
fn names(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(place, _)| {
        let before = &code[..place];
        let after = code[place + name.len()..].chars().next();
        let starts_word = name.starts_with(is_word);
        if starts_word && before.chars().next_back().is_some_and(is_word) {
            return false;
        }
        let is_crate = name.starts_with(|c: char| c.is_ascii_lowercase());
        let inside_path = before.strip_suffix("::").is_some_and(|rest| rest.ends_with(is_word));
        if is_crate && (inside_path || before.ends_with('.')) {
            return false;
        }
        let ends_word = name.ends_with(is_word);
        !(ends_word && after.is_some_and(|c| c.is_alphanumeric()))
    })
}
