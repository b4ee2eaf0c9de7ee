//! What the system tables show of the views of [`MemHost`](super::MemHost).

use alluvium_core::ids::PartitionNumber;
use alluvium_core::time::Time;
use arrow::array::RecordBatch;
use arrow::json::LineDelimitedWriter;

use super::views::{StreamsOnly, count};
use super::{Streams, unavailable};
use crate::host::{HostError, QuarantineRow, ViewRow};

impl Streams {
    pub(super) fn view_rows(&mut self) -> Result<Vec<ViewRow>, HostError> {
        let mut rows = Vec::new();
        let streams = StreamsOnly { by_name: &self.by_name, settings: &self.settings };
        for (name, kept) in &mut self.views {
            kept.advance(&streams, None)?;
            let Some((maintained, foldings)) = &kept.folding else {
                continue;
            };
            let stream = maintained.stream.definition.name.clone();
            for (number, folding) in (0..).map(PartitionNumber).zip(foldings) {
                let progress = folding.state.progress();
                let state = match &folding.parked {
                    Some(reason) => format!("parked: {reason}"),
                    None => "serving".into(),
                };
                let end = streams.by_name[&stream].partitions[count(u64::from(number.0))].end;
                rows.push(ViewRow {
                    view: name.clone(),
                    stream: Some(stream.clone()),
                    partition: number,
                    state,
                    next_offset: progress.next,
                    lag_events: end.since(progress.next),
                    lag: std::time::Duration::ZERO,
                    groups: progress.groups,
                    state_bytes: u64::try_from(progress.resident_bytes).unwrap_or(u64::MAX),
                    folded: progress.counts.folded,
                    filtered: progress.counts.filtered,
                    expired: progress.counts.expired,
                    quarantined: progress.counts.quarantined,
                    watermark: progress.watermark.map(Time),
                    last_error: folding.parked.clone(),
                    id: kept.entry.current.id.0,
                });
            }
        }
        Ok(rows)
    }

    pub(super) fn quarantine_rows(&mut self) -> Result<Vec<QuarantineRow>, HostError> {
        let streams = StreamsOnly { by_name: &self.by_name, settings: &self.settings };
        let mut rows = Vec::new();
        for (name, kept) in &mut self.views {
            kept.advance(&streams, None)?;
            let Some((maintained, foldings)) = &mut kept.folding else {
                continue;
            };
            for (number, folding) in (0..).map(PartitionNumber).zip(foldings) {
                folding.checkpoint()?;
                for event in &folding.quarantined {
                    rows.push(QuarantineRow {
                        view: name.clone(),
                        stream: maintained.stream.definition.name.clone(),
                        partition: number,
                        offset: event.offset,
                        reason: event.reason.clone(),
                        event: json(&event.event)?,
                    });
                }
            }
        }
        Ok(rows)
    }
}

fn json(event: &RecordBatch) -> Result<String, HostError> {
    let mut text = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut text);
    writer.write(event).map_err(unavailable)?;
    writer.finish().map_err(unavailable)?;
    Ok(String::from_utf8_lossy(&text).trim().to_string())
}
