//! Frontiers as people write and read them: `flights=0:41230,1:41199`.
//!
//! What is printed after an answer can be given back with `--at-least` or `--as-of`.

use std::collections::BTreeMap;
use std::fmt::Write;

use alluvium_core::ids::{Offset, PartitionNumber};
use alluvium_core::stream::Frontier;
use clap::Args;

use crate::grpc::client::{Freshness, StreamFrontier};

/// How fresh answers must be.
#[derive(Clone, Debug, Default, Args)]
pub struct FreshnessArgs {
    /// Wait until these events are there; repeat for several streams
    #[arg(long, value_name = "STREAM=P:O,…", value_parser = parse, conflicts_with = "as_of")]
    pub at_least: Vec<StreamFrontier>,
    /// Answer from exactly the events before these offsets; repeat for several streams
    #[arg(long, value_name = "STREAM=P:O,…", value_parser = parse)]
    pub as_of: Vec<StreamFrontier>,
}

impl FreshnessArgs {
    /// What to ask of each statement.
    pub fn freshness(&self) -> Freshness {
        if !self.as_of.is_empty() {
            return Freshness::AsOf(self.as_of.clone());
        }
        if !self.at_least.is_empty() {
            return Freshness::AtLeast(self.at_least.clone());
        }
        Freshness::Latest
    }
}

/// Reads `stream=partition:offset,partition:offset`.
pub fn parse(text: &str) -> Result<StreamFrontier, String> {
    let form = "a frontier is STREAM=PARTITION:OFFSET,…, such as flights=0:41230,1:41199";
    let Some((stream, offsets)) = text.split_once('=') else {
        return Err(form.to_owned());
    };
    let mut frontier = BTreeMap::new();
    for pair in offsets.split(',') {
        let numbers = pair.trim().split_once(':');
        let numbers = numbers.and_then(|(partition, offset)| {
            Some((partition.trim().parse().ok()?, offset.trim().parse().ok()?))
        });
        let Some((partition, offset)) = numbers else {
            return Err(format!("\"{pair}\" is not PARTITION:OFFSET; {form}"));
        };
        if frontier.insert(PartitionNumber(partition), Offset(offset)).is_some() {
            return Err(format!("partition {partition} is given twice"));
        }
    }
    if stream.trim().is_empty() {
        return Err(form.to_owned());
    }
    Ok(StreamFrontier { stream: stream.trim().to_owned(), frontier: Frontier(frontier) })
}

/// Writes what [`parse`] reads.
pub fn format(stream: &str, frontier: &Frontier) -> String {
    let mut text = format!("{stream}=");
    for (place, (partition, offset)) in frontier.0.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        write!(text, "{comma}{partition}:{offset}").expect("a string takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["flights=0:41230,1:41199", "a=0:0", "b=7:18446744073709551615"] {
            let read = parse(text).unwrap();
            assert_eq!(format(&read.stream, &read.frontier), text);
        }
    }

    #[test]
    fn what_is_no_frontier_is_refused() {
        let cases = [
            ("flights", "a frontier is STREAM="),
            ("flights=", "\"\" is not PARTITION:OFFSET"),
            ("flights=1", "\"1\" is not PARTITION:OFFSET"),
            ("flights=1:-2", "\"1:-2\" is not"),
            ("flights=0:1,0:2", "partition 0 is given twice"),
            ("=0:1", "a frontier is STREAM="),
        ];
        for (text, reason) in cases {
            let message = parse(text).unwrap_err();
            assert!(message.contains(reason), "{text}: {message}");
        }
    }
}
