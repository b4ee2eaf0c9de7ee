//! Compares views with the stream they fold. All by SQL, as a user could.
//!
//! Two things hold at every moment, however far a view is: every event it has passed is counted
//! once, and what it answers is what its definition answers over the same events.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::client::Client;

/// How often a view that is behind is looked at again.
const POLL: Duration = Duration::from_millis(50);

/// Doubles of two plans may differ by this much of themselves: they were added up in another order.
const DOUBLE_DIFFERENCE_MAX: f64 = 1e-12;

/// What `system.views` says in place of a state of what other nodes hold.
const ELSEWHERE: &str = "parked: other nodes hold this partition";

/// Differences named; the first ones say what is wrong.
const DIFFERENCES_MAX: usize = 5;

/// A view and what it is compared with.
#[derive(Clone, Debug)]
pub struct ViewCase {
    /// Its name.
    pub name: String,
    /// What stands in `WITH (…)`; may be empty.
    pub options: String,
    /// Its definition.
    pub query: String,
    /// The same question to the stream itself.
    pub batch: String,
}

/// How far a view is in one partition.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Which partition.
    pub partition: i64,
    /// `serving`, `building`, or why it is parked.
    pub state: String,
    /// The offset after the last event it has passed.
    pub next: i64,
    /// Events it has not passed yet.
    pub lag: i64,
    /// Events in its groups.
    pub folded: i64,
    /// Events its `WHERE` leaves out.
    pub filtered: i64,
    /// Events of windows that were gone already.
    pub expired: i64,
    /// Events it has set aside.
    pub quarantined: i64,
}

impl ViewCase {
    /// A view without options.
    pub fn new(name: &str, query: impl Into<String>) -> ViewCase {
        let query = query.into();
        ViewCase { name: name.into(), options: String::new(), batch: query.clone(), query }
    }

    /// The same, compared with another question than its definition.
    pub fn compared_with(mut self, batch: impl Into<String>) -> ViewCase {
        self.batch = batch.into();
        self
    }

    /// The same with options, as they stand in `WITH (…)`.
    pub fn with(mut self, options: &str) -> ViewCase {
        self.options = options.into();
        self
    }

    /// The statement that makes it.
    pub fn create(&self) -> String {
        let ViewCase { name, options, query, .. } = self;
        let with = if options.is_empty() { String::new() } else { format!("WITH ({options}) ") };
        format!("CREATE MATERIALIZED VIEW {name} {with}AS {query}")
    }

    /// How far it is on this node, by partition.
    pub async fn progress(&self, client: &Client) -> Result<Vec<Progress>> {
        let answer = client
            .query(&format!(
                "SELECT partition, next_offset, lag_events, folded, filtered, expired, \
                 quarantined, state FROM system.views \
                 WHERE view = '{}' AND state <> '{ELSEWHERE}' ORDER BY partition",
                self.name
            ))
            .await?;
        let numbers = answer.integer_rows::<7>()?;
        let rows = numbers.into_iter().zip(answer.texts(7)?);
        let progress = rows.map(|(numbers, state)| {
            let [partition, next, lag, folded, filtered, expired, quarantined] = numbers;
            Progress { partition, state, next, lag, folded, filtered, expired, quarantined }
        });
        Ok(progress.collect())
    }

    /// Every event that it has passed is folded, filtered, expired or quarantined: what is wrong
    /// with that, of a stream that keeps all its events; and how many it has not passed.
    pub async fn check_counts(&self, client: &Client) -> Result<(i64, Vec<String>)> {
        let progress = self.progress(client).await?;
        let wrong = progress.iter().filter(|part| {
            part.folded + part.filtered + part.expired + part.quarantined != part.next
        });
        let name = &self.name;
        let wrong = wrong.map(|part| format!("{name}: the counts do not add up: {part:?}"));
        Ok((progress.iter().map(|part| part.lag).sum(), wrong.collect()))
    }

    /// Waits until it has passed every event that was there when this was called.
    pub async fn wait(&self, client: &Client, wait_max: Duration) -> Result<()> {
        let deadline = Instant::now() + wait_max;
        let mut poll = tokio::time::interval(POLL);
        loop {
            poll.tick().await;
            let progress = self.progress(client).await?;
            let done = |part: &Progress| part.lag == 0 && part.state == "serving";
            if !progress.is_empty() && progress.iter().all(done) {
                return Ok(());
            }
            if let Some(part) = progress.iter().find(|part| part.state.starts_with("parked")) {
                bail!("{} is parked: {part:?}", self.name);
            }
            if deadline < Instant::now() {
                bail!("{} is not there after {wait_max:?}: {progress:?}", self.name);
            }
        }
    }

    /// What it answers beside what its definition answers, while nothing is appended: differences.
    pub async fn check_answer(&self, client: &Client) -> Result<Vec<String>> {
        let found = client.query(&format!("SELECT * FROM {}", self.name)).await?;
        let expected = client.query(&self.batch).await?;
        let differences = differences(&found.lines()?, &expected.lines()?);
        Ok(differences.into_iter().map(|text| format!("{}: {text}", self.name)).collect())
    }

    /// `AUDIT VIEW`: the node's own comparison of its state with the log; what it finds.
    pub async fn audit(&self, client: &Client) -> Result<Vec<String>> {
        let answer = client.query(&format!("AUDIT VIEW {}", self.name)).await?;
        let verdicts = answer.texts(answer.column("verdict")?)?;
        if verdicts.is_empty() {
            bail!("AUDIT VIEW {} looked at nothing", self.name);
        }
        let lines = answer.lines()?;
        let wrong = lines.iter().zip(&verdicts).filter(|(_, verdict)| *verdict != "equal");
        Ok(wrong.map(|(line, _)| format!("AUDIT VIEW {}: {line}", self.name)).collect())
    }

    /// All of it: waits, then counts, answer and audit.
    pub async fn check(&self, client: &Client, wait_max: Duration) -> Result<Vec<String>> {
        self.wait(client, wait_max).await.context("wait for the view")?;
        let (_, mut wrong) = self.check_counts(client).await?;
        wrong.append(&mut self.check_answer(client).await?);
        wrong.append(&mut self.audit(client).await?);
        Ok(wrong)
    }
}

/// Where two answers differ that should hold the same rows in any order.
pub fn differences(found: &[String], expected: &[String]) -> Vec<String> {
    let (mut found, mut expected) = (found.to_vec(), expected.to_vec());
    found.sort_unstable();
    expected.sort_unstable();
    let mut differences = Vec::new();
    if found.len() != expected.len() {
        differences.push(format!("it has {} rows, not {}", found.len(), expected.len()));
    }
    for (found, expected) in found.iter().zip(&expected) {
        if DIFFERENCES_MAX <= differences.len() {
            break;
        }
        if !same_row(found, expected) {
            differences.push(format!("it has {found}, not {expected}"));
        }
    }
    differences
}

fn same_row(found: &str, expected: &str) -> bool {
    if found == expected {
        return true;
    }
    let (mut found, mut expected) = (found.split('|'), expected.split('|'));
    loop {
        match (found.next(), expected.next()) {
            (None, None) => return true,
            (Some(found), Some(expected)) if same_cell(found, expected) => {}
            (Some(_), Some(_)) | (Some(_), None) | (None, Some(_)) => return false,
        }
    }
}

/// Only what is written as a double may differ, and that little.
fn same_cell(found: &str, expected: &str) -> bool {
    let is_double = |cell: &str| cell.contains(['.', 'e']);
    let (Ok(one), Ok(other)) = (found.parse::<f64>(), expected.parse::<f64>()) else {
        return found == expected;
    };
    if !is_double(found) || !is_double(expected) {
        return found == expected;
    }
    (one - other).abs() <= DOUBLE_DIFFERENCE_MAX * one.abs().max(other.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_doubles_may_differ_and_only_by_rounding() {
        let lines =
            |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let check = |found: &[&str], expected: &[&str]| {
            differences(&lines(found), &lines(expected)).is_empty()
        };
        assert!(check(&["b|2", "a|1"], &["a|1", "b|2"]));
        assert!(check(&["a|0.1|x"], &["a|0.10000000000000002|x"]));
        assert!(!check(&["a|0.1|x"], &["a|0.1000001|x"]));
        assert!(!check(&["a|10000000000000001"], &["a|10000000000000002"]));
        assert!(!check(&["a|1"], &["a|1", "a|1"]));
        assert!(!check(&["a|1.5"], &["b|1.5"]));
        assert!(!check(&["a|1.5|"], &["a|1.5"]));
    }
}
