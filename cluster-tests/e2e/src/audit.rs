//! Compares what a node holds with what was sent and acknowledged. All by SQL, as a user could.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::client::Client;
use crate::ledger::{BatchId, Ledger, Sent};
use crate::rows;

/// What an audit looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Audited {
    /// Rows of the stream.
    pub rows: u64,
    /// Batches, whole or in part.
    pub batches: u64,
    /// Sealed files at this moment.
    pub segments: u64,
}

/// A violation list is cut here: the first ones say what is wrong.
const VIOLATIONS_MAX: usize = 20;

/// The part of one batch in one partition, as stored.
struct Part {
    partition: u32,
    rows: u64,
    first: u64,
    last: u64,
}

/// Checks a stream; what is wrong goes into the ledger's violations.
///
/// Nothing may be appended meanwhile, except what a killed node still held in flight.
pub async fn audit(client: &Client, stream: &str, ledger: &mut Ledger) -> Result<Audited> {
    let mut violations = Vec::new();
    let rows = offsets(client, stream, ledger, &mut violations).await?;
    let stored = parts(client, stream).await?;
    for (&id, parts) in &stored {
        match ledger.batches().get(&id) {
            Some(sent) => check_batch(id, sent, parts, &mut violations),
            None => violations.push(format!("batch {id:?} was never sent")),
        }
    }
    for (id, sent) in ledger.batches() {
        if sent.acked && !stored.contains_key(id) {
            violations.push(format!("batch {id:?} was acknowledged and is gone"));
        }
    }
    let damaged = client.query(&rows::damaged_rows(stream)).await?.single()?;
    if damaged != 0 {
        violations.push(format!("{damaged} rows are not what was sent"));
    }
    let disordered = client.query(&disordered_rows(stream)).await?.single()?;
    if disordered != 0 {
        violations.push(format!("{disordered} rows stand before an earlier one of their producer"));
    }
    violations.truncate(VIOLATIONS_MAX);
    ledger.violations.append(&mut violations);
    let segments = client
        .query(&format!("SELECT count(*) FROM system.segments WHERE stream = '{stream}'"))
        .await?
        .single()?;
    Ok(Audited { rows, batches: u64::try_from(stored.len())?, segments: u64::try_from(segments)? })
}

/// Offsets are dense from 0, and nothing acknowledged lies behind the end.
async fn offsets(
    client: &Client,
    stream: &str,
    ledger: &Ledger,
    violations: &mut Vec<String>,
) -> Result<u64> {
    let answer = client
        .query(&format!(
            "SELECT _partition, count(*), count(DISTINCT _offset), min(_offset), max(_offset) \
             FROM {stream} GROUP BY _partition"
        ))
        .await?;
    let mut total = 0;
    let mut ends = BTreeMap::new();
    for [partition, count, distinct, min, max] in answer.integer_rows()? {
        total += u64::try_from(count)?;
        ends.insert(u32::try_from(partition)?, u64::try_from(max + 1)?);
        if distinct != count || min != 0 || max + 1 != count {
            violations.push(format!(
                "partition {partition}: {count} rows, {distinct} offsets from {min} to {max}"
            ));
        }
    }
    for (partition, &end) in &answer.as_of(stream)?.offsets {
        let stored = ends.get(partition).copied().unwrap_or(0);
        if stored != end {
            violations.push(format!("partition {partition}: as of {end}, rows end at {stored}"));
        }
    }
    for (partition, &acked) in ledger.frontier() {
        let stored = ends.get(partition).copied().unwrap_or(0);
        if stored < acked {
            violations.push(format!("partition {partition}: acked to {acked}, ends at {stored}"));
        }
    }
    Ok(total)
}

async fn parts(client: &Client, stream: &str) -> Result<BTreeMap<BatchId, Vec<Part>>> {
    let answer = client
        .query(&format!(
            "SELECT producer, sequence, _partition, count(*), min(_offset), max(_offset) \
             FROM {stream} GROUP BY producer, sequence, _partition"
        ))
        .await?;
    let mut stored: BTreeMap<BatchId, Vec<Part>> = BTreeMap::new();
    for [producer, sequence, partition, rows, first, last] in answer.integer_rows()? {
        let id = (u32::try_from(producer)?, u64::try_from(sequence)?);
        stored.entry(id).or_default().push(Part {
            partition: u32::try_from(partition)?,
            rows: u64::try_from(rows)?,
            first: u64::try_from(first)?,
            last: u64::try_from(last)?,
        });
    }
    Ok(stored)
}

/// An acknowledged batch is there once and where its ack said; another one at most once.
fn check_batch(id: BatchId, sent: &Sent, parts: &[Part], violations: &mut Vec<String>) {
    let expected = u64::from(rows::batch_rows(id.0, id.1));
    let stored: u64 = parts.iter().map(|part| part.rows).sum();
    if expected < stored {
        violations.push(format!("batch {id:?}: {expected} rows were sent, {stored} are stored"));
    }
    if sent.acked && stored < expected {
        let attempts = sent.attempts;
        violations.push(format!(
            "batch {id:?} (sent {attempts} times) was acknowledged, {stored} of {expected} rows \
             are stored"
        ));
    }
    for part in parts {
        let (partition, first, end) = (part.partition, part.first, part.last + 1);
        if end - first != part.rows {
            let rows = part.rows;
            violations.push(format!("batch {id:?}: {rows} rows spread over {first}..{end}"));
        }
        if let Some(&acked) = sent.ranges.get(&partition)
            && acked != (first, end)
        {
            violations.push(format!(
                "batch {id:?}: acked at {acked:?} of partition {partition}, is at {first}..{end}"
            ));
        }
    }
}

/// Rows that do not follow the row before them of the same producer in the same partition. Zero
/// also proves that no row is stored twice.
fn disordered_rows(stream: &str) -> String {
    format!(
        "SELECT count(*) FROM (SELECT sequence * 10000 + place AS mark, \
         lag(sequence * 10000 + place) OVER (PARTITION BY _partition, producer ORDER BY _offset) \
         AS before FROM {stream}) AS marks WHERE before IS NOT NULL AND mark <= before"
    )
}
