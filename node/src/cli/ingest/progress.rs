//! How far an ingest is: a bar at a terminal, a line a second elsewhere.
//!
//! What counts is what the node acknowledged: events that were only sent are not in yet.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::Duration;

use alluvium_core::stream::Frontier;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::say;
use crate::cli::status::format_count;
use crate::config::size::format_bytes;
use crate::grpc::client::Ack;

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// What the node acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Events appended by this run.
    pub events: u64,
    /// Events of batches that had been there before.
    pub duplicates: u64,
    /// Bytes of the input behind them.
    pub bytes: u64,
    /// What a query must reflect to see them.
    pub frontier: Frontier,
}

/// See the module.
#[derive(Debug)]
pub struct Progress {
    stream: String,
    bytes_total: Option<u64>,
    tally: Tally,
    /// Position and bytes read of each batch on its way.
    sent: VecDeque<(u64, u64)>,
    /// Bytes that earlier runs brought in: they say nothing about this run's speed.
    skipped_bytes: u64,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Nothing,
    Bar(ProgressBar),
    Lines { last: Duration },
}

impl Progress {
    /// Begins at nothing. Without a total (standard input) there is no bar to fill and no ETA.
    pub fn new(stream: &str, bytes_total: Option<u64>, quiet: bool) -> Progress {
        let shown = if quiet {
            Shown::Nothing
        } else if std::io::stderr().is_terminal() {
            Shown::Bar(bar(bytes_total))
        } else {
            Shown::Lines { last: Duration::ZERO }
        };
        Progress {
            stream: stream.to_owned(),
            bytes_total,
            tally: Tally::default(),
            sent: VecDeque::new(),
            skipped_bytes: 0,
            shown,
        }
    }

    /// What was acknowledged so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The first rows are in from an earlier run.
    pub fn skip(&mut self, rows: u64, bytes: u64) {
        if rows == 0 {
            return;
        }
        self.tally.bytes = bytes;
        self.skipped_bytes = bytes;
        match &self.shown {
            Shown::Bar(bar) => {
                bar.set_position(bytes);
                bar.reset_eta();
            }
            Shown::Lines { .. } => {
                say(&format!("{}: {} rows are in already", self.stream, format_count(rows)));
            }
            Shown::Nothing => {}
        }
    }

    /// A batch up to this position went out; so much of the input was read by then.
    pub fn sent(&mut self, position: u64, bytes_read: u64) {
        self.sent.push_back((position, bytes_read));
    }

    /// A batch is in.
    pub fn acked(&mut self, ack: &Ack, elapsed: Duration) {
        if ack.duplicate {
            self.tally.duplicates += ack.batch.event_count;
        } else {
            self.tally.events += ack.batch.event_count;
        }
        self.tally.frontier.merge(&ack.frontier);
        while let Some(&(position, bytes)) = self.sent.front() {
            if ack.batch.position < position {
                break;
            }
            self.tally.bytes = bytes;
            self.sent.pop_front();
        }
        self.show(elapsed);
    }

    /// Takes the bar away.
    pub fn end(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
        self.shown = Shown::Nothing;
    }

    fn show(&mut self, elapsed: Duration) {
        let rate = self.tally.events as f64 / elapsed.as_secs_f64().max(0.001);
        let rate = format_count(rate as u64);
        let events = format_count(self.tally.events);
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => {
                bar.set_position(self.tally.bytes);
                bar.set_message(format!("{events} events, {rate} events/s"));
            }
            Shown::Lines { last } => {
                if elapsed < *last + LINE_EVERY {
                    return;
                }
                *last = elapsed;
                let line = self.line(&events, &rate, elapsed);
                say(&line);
            }
        }
    }

    fn line(&self, events: &str, rate: &str, elapsed: Duration) -> String {
        let mut line = format!("{}: {events} events, {rate} events/s", self.stream);
        line.push_str(&format!(", {}", format_bytes(self.tally.bytes)));
        if let Some(total) = self.bytes_total {
            line.push_str(&format!(" of {}", format_bytes(total)));
            let done = self.tally.bytes - self.skipped_bytes;
            if 0 < done && self.tally.bytes < total {
                let left = (total - self.tally.bytes) as f64 / done as f64;
                let seconds = (left * elapsed.as_secs_f64()).ceil();
                line.push_str(&format!(", {seconds} s to go"));
            }
        }
        line
    }
}

fn bar(bytes_total: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes_total {
        Some(total) => (
            ProgressBar::new(total),
            "{bar:30} {percent:>3} %  {msg}  {bytes} of {total_bytes}  {eta} to go",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}  {bytes}  {elapsed}"),
    };
    let style = ProgressStyle::with_template(template).expect("the templates are well formed");
    bar.with_style(style)
}

#[cfg(test)]
mod tests {
    use alluvium_core::ids::{Offset, PartitionNumber, Sequence};
    use bytes::Bytes;

    use super::*;
    use crate::grpc::client::Batch;

    fn ack(position: u64, event_count: u64, duplicate: bool, offset: u64) -> Ack {
        let batch = Batch { sequence: Sequence(0), position, event_count, rows: Bytes::new() };
        let mut frontier = Frontier::default();
        frontier.0.insert(PartitionNumber(0), Offset(offset));
        Ack { batch, frontier, duplicate }
    }

    #[test]
    fn only_what_is_acknowledged_counts() {
        let mut progress = Progress::new("s", Some(1_000), true);
        progress.skip(5, 100);
        progress.sent(15, 300);
        progress.sent(25, 500);
        progress.sent(35, 1_000);
        progress.acked(&ack(15, 10, true, 15), Duration::from_secs(1));
        progress.acked(&ack(25, 10, false, 25), Duration::from_secs(2));
        let tally = progress.tally();
        assert_eq!((tally.events, tally.duplicates, tally.bytes), (10, 10, 500));
        assert_eq!(tally.frontier.0[&PartitionNumber(0)], Offset(25));
        let line = progress.line("10", "5", Duration::from_secs(2));
        assert_eq!(line, "s: 10 events, 5 events/s, 500 B of 1000 B, 3 s to go");
    }
}
