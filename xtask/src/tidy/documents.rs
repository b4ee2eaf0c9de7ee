//! Documents tell the truth: what they point at exists, and the commands they give are commands.

use super::{Finding, markdown};

/// Folders at the top of the repository; a quoted path that begins with one must exist.
const TOP: [&str; 10] = [
    "node/",
    "proto/",
    "cluster-tests/",
    "docs/",
    "examples/",
    "xtask/",
    "deploy/",
    "ansible/",
    "terraform/",
    ".ci/",
];

/// Checks one Markdown document. `exists` answers for paths from the root of the repository.
pub fn check(
    path: &str,
    text: &str,
    commands: &[&str],
    exists: impl Fn(&str) -> bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        let mut add = |what: String| findings.push(Finding::new(path, number + 1, what));
        for command in words_after(line, "cargo xtask ") {
            if !commands.contains(&command.as_str()) {
                add(format!("there is no `cargo xtask {command}`"));
            }
        }
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            continue;
        }
        for target in markdown::links(line) {
            let target = target.split('#').next().unwrap_or("");
            if !target.is_empty() && !target.contains("://") && !exists(&join(folder, target)) {
                add(format!("the link to `{target}` leads nowhere"));
            }
        }
        for quoted in markdown::quoted(line) {
            let place = quoted.split_once(':').map_or(quoted.as_str(), |(place, _)| place);
            let is_path = TOP.iter().any(|top| place.starts_with(top))
                && !place.contains(|c: char| c.is_whitespace() || "*{}<>…,()".contains(c));
            if is_path && !exists(place) {
                add(format!("`{place}` does not exist"));
            }
        }
    }
    findings
}

/// The word after each place where `start` stands.
fn words_after(line: &str, start: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (place, _) in line.match_indices(start) {
        let rest = &line[place + start.len()..];
        let word: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
        if !word.is_empty() {
            found.push(word);
        }
    }
    found
}

/// A relative link as a path from the root.
fn join(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}
