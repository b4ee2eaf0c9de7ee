//! The licences of what we use, against the list in deny.toml; and libraries that may be there only
//! once, because two versions of their types do not fit each other.
//!
//! The same file serves `cargo deny check`; this needs no tool beside cargo.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::metadata::{self, Resolved};
use crate::toml::{self, Table};

/// Prints what does not keep to deny.toml; an error when anything does not.
pub fn run(root: &Path) -> Result<()> {
    let text = std::fs::read_to_string(root.join("deny.toml")).context("read deny.toml")?;
    let policy = Policy::read(&text)?;
    let packages = metadata::resolved(root)?;
    let findings = policy.check(&packages);
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("licences: {} packages, all as deny.toml allows", packages.len());
        return Ok(());
    }
    bail!("licences: {} packages do not keep to deny.toml", findings.len())
}

#[derive(Debug, Default)]
struct Policy {
    allowed: Vec<String>,
    once: Vec<String>,
}

impl Policy {
    fn read(text: &str) -> Result<Policy> {
        let tables = toml::tables(text);
        let find = |name: &str| tables.iter().find(|table: &&Table| table.name == name);
        let licences = find("licenses").context("deny.toml has no [licenses]")?;
        let allowed = licences.values.get("allow").context("[licenses] has no allow")?.clone();
        let bans = find("bans").context("deny.toml has no [bans]")?;
        let once = bans.values.get("deny").context("[bans] has no deny")?.clone();
        Ok(Policy { allowed, once })
    }

    fn check(&self, packages: &[Resolved]) -> Vec<String> {
        let mut findings = Vec::new();
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for package in packages {
            versions.entry(&package.name).or_default().push(&package.version);
            let holds = package.licence.as_deref().is_some_and(|licence| self.allows(licence));
            if !holds {
                let licence = package.licence.as_deref().unwrap_or("no licence");
                findings.push(format!("{} {}: {licence}", package.name, package.version));
            }
        }
        for name in &self.once {
            let found = versions.get(name.as_str()).map_or(&[][..], Vec::as_slice);
            if 1 < found.len() {
                findings.push(format!("{name} is there {} times: {found:?}", found.len()));
            }
        }
        findings
    }

    /// True when the expression can be met with allowed licences alone.
    fn allows(&self, expression: &str) -> bool {
        let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let mut words = spaced.split_whitespace().peekable();
        self.either(&mut words)
    }

    fn either<'a>(&self, words: &mut Peekable<impl Iterator<Item = &'a str>>) -> bool {
        let mut holds = self.both(words);
        while words.next_if(|word| *word == "OR").is_some() {
            holds |= self.both(words);
        }
        holds
    }

    fn both<'a>(&self, words: &mut Peekable<impl Iterator<Item = &'a str>>) -> bool {
        let mut holds = self.one(words);
        while words.next_if(|word| *word == "AND").is_some() {
            holds &= self.one(words);
        }
        holds
    }

    fn one<'a>(&self, words: &mut Peekable<impl Iterator<Item = &'a str>>) -> bool {
        match words.next() {
            Some("(") => {
                let holds = self.either(words);
                words.next_if(|word| *word == ")");
                holds
            }
            Some(licence) => {
                let mut name = licence.to_string();
                if words.next_if(|word| *word == "WITH").is_some() {
                    name = format!("{name} WITH {}", words.next().unwrap_or(""));
                }
                self.allowed.contains(&name)
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        let text = "[licenses]\nallow = [\"MIT\", \"Apache-2.0\", \"Apache-2.0 WITH X\"]\n\
                    [bans]\ndeny = [\n  { crate = \"arrow\", deny-multiple-versions = true },\n]\n";
        Policy::read(text).expect("a policy")
    }

    #[test]
    fn expressions() {
        let policy = policy();
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("MIT/Apache-2.0", true),
            ("MIT AND GPL-3.0", false),
            ("(GPL-3.0 OR MIT) AND Apache-2.0", true),
            ("Apache-2.0 WITH X OR GPL-3.0", true),
            ("GPL-3.0 WITH X", false),
            ("", false),
        ] {
            assert_eq!(policy.allows(expression), expected, "{expression}");
        }
    }

    #[test]
    fn a_second_version_and_a_missing_licence_are_found() {
        let package = |name: &str, version: &str, licence: Option<&str>| Resolved {
            name: name.to_string(),
            version: version.to_string(),
            licence: licence.map(str::to_string),
        };
        let packages = [
            package("arrow", "1.0.0", Some("MIT")),
            package("arrow", "2.0.0", Some("MIT")),
            package("mute", "1.0.0", None),
        ];
        let findings = policy().check(&packages);
        assert_eq!(findings.len(), 2, "{findings:?}");
    }
}
