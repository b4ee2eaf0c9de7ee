//! What must hold when a fault is over and every batch is acknowledged: on every node the same,
//! and that is what was sent.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use rand::seq::IteratorRandom;
use rand_chacha::ChaCha8Rng;

use crate::audit;
use crate::client::Client;
use crate::cluster::Cluster;
use crate::load::Shared;
use crate::rows;
use crate::views::{self, ViewCase};

/// The audited stream and the views over it.
#[derive(Clone, Debug)]
pub struct Work {
    /// The stream's name.
    pub stream: String,
    partitions: u32,
    views: [ViewCase; 2],
}

impl Work {
    /// Names only; nothing is made yet.
    pub fn new(stream: &str, partitions: u32) -> Work {
        let by_producer = format!(
            "SELECT producer, count(*) AS n, max(sequence) AS last FROM {stream} GROUP BY producer"
        );
        let by_customer = format!(
            "SELECT customer, count(*) AS n, sum(sequence) AS total, min(note) AS least \
             FROM {stream} GROUP BY customer"
        );
        let views = [
            ViewCase::new(&format!("{stream}_by_producer"), by_producer),
            ViewCase::new(&format!("{stream}_by_customer"), by_customer),
        ];
        Work { stream: stream.to_owned(), partitions, views }
    }

    /// The view of what each producer has.
    pub fn by_producer(&self) -> &str {
        &self.views[0].name
    }

    /// Makes stream and views.
    pub async fn create(&self, client: &Client) -> Result<()> {
        client.query(&rows::create_stream(&self.stream, self.partitions)).await?;
        for view in &self.views {
            client.query(&view.create()).await?;
        }
        Ok(())
    }

    /// Drops them.
    pub async fn drop(&self, client: &Client) -> Result<()> {
        for view in &self.views {
            client.query(&format!("DROP MATERIALIZED VIEW {}", view.name)).await?;
        }
        client.query(&format!("DROP STREAM {}", self.stream)).await?;
        Ok(())
    }
}

/// Checks everything; what is wrong goes into the ledger's violations. Nothing may be appended
/// meanwhile.
pub async fn check(
    cluster: &Cluster,
    work: &Work,
    shared: &Shared,
    rng: &mut ChaCha8Rng,
) -> Result<()> {
    let auditor = cluster.running().choose(rng).context("no node runs")?;
    let client = cluster.client(auditor).await?;
    let mut ledger = std::mem::take(&mut *shared.ledger());
    let audited = audit::audit(&client, &work.stream, &mut ledger).await;
    if let Some(history) = &ledger.history {
        let mut violations = history.check();
        ledger.violations.append(&mut violations);
    }
    *shared.ledger() = ledger;
    audited.with_context(|| format!("audit through {}", cluster.name(auditor)))?;
    for violation in same_everywhere(cluster, work).await? {
        shared.violation(violation);
    }
    Ok(())
}

/// Every node answers the same, and its views are what their definitions say.
async fn same_everywhere(cluster: &Cluster, work: &Work) -> Result<Vec<String>> {
    let mut violations = Vec::new();
    let sums = format!(
        "SELECT _partition, count(*), min(_offset), max(_offset), sum(producer), sum(sequence), \
         sum(place), sum(_offset * (customer + 1)), sum(length(note)) \
         FROM {} GROUP BY _partition",
        work.stream
    );
    let mut first: Option<Vec<String>> = None;
    let mut digests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in cluster.running() {
        let name = cluster.name(node);
        let client = cluster.client(node).await?;
        let found = client.query(&sums).await.with_context(|| format!("ask {name}"))?.lines()?;
        let expected = first.get_or_insert_with(|| found.clone());
        let differences = views::differences(&found, expected);
        violations.extend(differences.into_iter().map(|text| format!("{name}: {text}")));
        for view in &work.views {
            let checked = view_on(&client, view).await;
            let (wrong, found) = checked.with_context(|| format!("{} on {name}", view.name))?;
            violations.extend(wrong.into_iter().map(|text| format!("{name}: {text}")));
            let expected = digests.entry(view.name.clone()).or_insert_with(|| found.clone());
            let differences = views::differences(&found, expected);
            let text = |text| format!("{name}: digests of {}: {text}", view.name);
            violations.extend(differences.into_iter().map(text));
        }
    }
    Ok(violations)
}

/// What is wrong with a view on one node, and its digests by partition.
async fn view_on(client: &Client, view: &ViewCase) -> Result<(Vec<String>, Vec<String>)> {
    let (_, mut wrong) = view.check_counts(client).await?;
    wrong.append(&mut view.check_answer(client).await?);
    let audited = client.query(&format!("AUDIT VIEW {}", view.name)).await?;
    let column = |name: &str| audited.texts(audited.column(name)?);
    let (verdicts, lines) = (column("verdict")?, audited.lines()?);
    if verdicts.is_empty() {
        wrong.push(format!("AUDIT VIEW {} looked at nothing", view.name));
    }
    let bad = lines.iter().zip(&verdicts).filter(|(_, verdict)| *verdict != "equal");
    wrong.extend(bad.map(|(line, _)| format!("AUDIT VIEW {}: {line}", view.name)));
    let (partitions, ends) = (column("partition")?, column("to_offset")?);
    let digests = partitions.iter().zip(&ends).zip(column("digest")?);
    let digests = digests.map(|((part, end), digest)| format!("{part}|{end}|{digest}"));
    Ok((wrong, digests.collect()))
}
