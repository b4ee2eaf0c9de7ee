//! Words that may not stand in the repository: unfinished work, waiting by the clock in tests, and
//! what belongs to one developer's machine.

use super::Finding;
use super::source::Source;

/// In code, anywhere.
const UNFINISHED: [(&str, &str); 4] = [
    ("todo!", "finish it, or return an error that says what is missing"),
    ("unimplemented!", "finish it, or return an error that says what is missing"),
    ("dbg!", "remove it"),
    ("#[ignore", "a test that does not run proves nothing: mend it or delete it"),
];

/// In code of tests. Waiting by the clock is slow where it works and wrong where it does not.
const WAITING: [(&str, &str); 2] = [
    ("thread::sleep", "wait for what you need (a channel, a file, an answer), with a deadline"),
    ("time::sleep", "wait for what you need (a channel, a file, an answer), with a deadline"),
];

/// In every text file. Written in two halves, or this file would find itself.
const FOREIGN: [(&str, &str); 7] = [
    (concat!("/ro", "ot/"), "a path of one machine: use a relative one or a variable"),
    (concat!("/wo", "rk/"), "a path of one machine: use a relative one or a variable"),
    (concat!("crates", ".io"), "a registry's host: the tools know where packages come from"),
    (concat!("pypi", ".org"), "a registry's host: the tools know where packages come from"),
    (concat!("npm", "js.com"), "a registry's host: the tools know where packages come from"),
    (concat!("<<<", "<<<<"), "finish the merge"),
    (concat!(">>>", ">>>>"), "finish the merge"),
];

/// Files whose text is not ours.
const NOT_OURS: [&str; 2] = ["Cargo.lock", "LICENSE"];

/// Words that may not stand in code.
pub fn check_code(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, code) in source.code.iter().enumerate() {
        let waiting = if source.test[line] { WAITING.as_slice() } else { &[] };
        for (word, advice) in UNFINISHED.iter().chain(waiting) {
            if code.contains(word) {
                let what = format!("`{word}`: {advice}");
                findings.push(Finding::new(&source.path, line + 1, what));
            }
        }
    }
    findings
}

/// Words and characters that may not stand in any text file.
pub fn check_text(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if NOT_OURS.contains(&path) {
        return findings;
    }
    let mut add = |line: usize, what: String| findings.push(Finding::new(path, line, what));
    for (number, line) in text.lines().enumerate() {
        for (word, advice) in FOREIGN {
            if holds(line, word) {
                add(number + 1, format!("`{word}`: {advice}"));
            }
        }
        if line.ends_with([' ', '\t', '\r']) && !path.ends_with(".patch") {
            add(number + 1, "blanks at the end of the line".to_string());
        }
        if line.contains('\t') && path.ends_with(".rs") {
            add(number + 1, "a tab: four spaces here".to_string());
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        add(text.lines().count(), "the last line has no end".to_string());
    }
    findings
}

/// True when `word` stands in the line and does not merely continue a longer path or name.
fn holds(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(place, _)| {
        let before = line[..place].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | '~'))
    })
}
