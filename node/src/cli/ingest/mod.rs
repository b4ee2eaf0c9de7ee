//! `alluvium ingest`: appends the rows of files to a stream, each exactly once.
//!
//! The input is one sequence of rows: the files in the order given. It is cut into batches; the
//! position of a batch is the number of rows up to its end, and the node keeps it with the batch.
//! With `--producer NAME` a later run asks for that position and goes on from there, so a run that
//! was cut off is finished by running it again, and a finished one adds nothing.
//!
//! Invariant: where a batch ends is a function of where it begins, of the rows and of
//! `--batch-rows`, never of time or of the run: a batch that some partitions hold already is sent
//! again exactly as it was.

pub mod batches;
pub mod input;
pub mod progress;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use alluvium_core::schema::StreamSchema;
use alluvium_query::files::FileFormat;
use clap::Args;

use self::batches::Batches;
use self::input::Input;
use self::progress::Progress;
use super::status::format_count;
use super::{CliError, ConnectArgs, freshness};
use crate::clock::{self, Stopwatch};
use crate::grpc::client::{Ack, Appender, Batch, Client, Freshness, Part, Producer};

/// What may be typed after `ingest`.
#[derive(Clone, Debug, Args)]
pub struct IngestArgs {
    /// Which node.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// The stream to append to
    pub stream: String,
    /// NDJSON, CSV, Parquet or Arrow, also as .gz or .zst; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Makes runs resumable: run again under the same name, and only what is missing is appended
    #[arg(long, value_name = "NAME")]
    pub producer: Option<String>,
    /// Rows in a batch; keep it the same for all runs of one producer
    #[arg(long, value_name = "ROWS", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub batch_rows: u64,
    /// Append at most so many rows a second
    #[arg(long, value_name = "ROWS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// What the files hold, where their names do not say it
    #[arg(long, value_name = "FORMAT", value_parser = input::file_formats())]
    pub file_format: Option<FileFormat>,
    /// Show no progress
    #[arg(long, short)]
    pub quiet: bool,
}

/// Appends all rows and says how it went.
pub async fn run(args: &IngestArgs) -> Result<(), CliError> {
    input::check(&args.files)?;
    let client = args.connect.connect().await?;
    let schema = stream_schema(&client, &args.stream).await?;
    let name = match &args.producer {
        Some(name) => name.clone(),
        // Nobody resumes it, but within this run retries must be told from batches.
        None => format!("ingest-{:016x}", clock::random_id()),
    };
    let producer = client.open_producer(&name, &args.stream).await?;
    let input = Input::new(&args.files, args.file_format, schema);
    let mut run = Run {
        progress: Progress::new(&args.stream, input.bytes_total(), args.quiet),
        batches: Batches::new(input, args.batch_rows),
        appender: Appender::new(&client, &args.stream, producer),
        watch: Stopwatch::start(),
        rate: args.rate,
    };
    run.resume(&name, producer)?;
    let skipped = run.batches.position();
    let appended = run.append_all(producer).await;
    run.progress.end();
    appended?;
    let summary = run.summary(&args.stream, skipped);
    writeln!(std::io::stdout().lock(), "{summary}")?;
    Ok(())
}

/// The columns of the stream, as the node shows them.
async fn stream_schema(client: &Client, stream: &str) -> Result<StreamSchema, CliError> {
    let quoted = stream.replace('"', "\"\"");
    let sql = format!("SELECT * FROM \"{quoted}\" LIMIT 0");
    let mut answer = client.query(&sql, &Freshness::Latest).await?;
    let mut schema = None;
    while let Some(part) = answer.next().await? {
        if let Part::Schema(bytes) = part {
            schema = Some(input::stream_schema(bytes)?);
        }
    }
    schema.ok_or_else(|| CliError::Failed(format!("the node shows no columns of {stream}")))
}

/// Why no more batches are sent.
enum Ended {
    AtTheEnd,
    AtABadRow(CliError),
}

struct Run {
    progress: Progress,
    batches: Batches,
    appender: Appender,
    watch: Stopwatch,
    /// Rows a second, where the user bounds them.
    rate: Option<u64>,
}

impl Run {
    /// Passes over the rows that the stream holds already.
    fn resume(&mut self, name: &str, producer: Producer) -> Result<(), CliError> {
        let skipped = self.batches.skip(producer.position)?;
        if skipped < producer.position {
            return Err(CliError::Failed(format!(
                "producer {name} has appended {} rows, but the input has only {}: it is not the \
                 input of the earlier runs; use another --producer for it",
                format_count(producer.position),
                format_count(skipped)
            )));
        }
        self.progress.skip(skipped, self.batches.input().bytes_read());
        if let Some(next_position) = producer.next_position {
            self.batches.end_next_at(next_position);
        }
        Ok(())
    }

    async fn append_all(&mut self, producer: Producer) -> Result<(), CliError> {
        let ended = self.send_all(producer).await?;
        // What was sent before a bad row was found is on its way all the same.
        loop {
            let appended = self.appender.next_ack().await;
            if !self.acked(appended)? {
                break;
            }
        }
        match ended {
            Ended::AtTheEnd => Ok(()),
            Ended::AtABadRow(error) => Err(CliError::Failed(format!(
                "{error}; {} events before were appended",
                format_count(self.progress.tally().events)
            ))),
        }
    }

    /// Sends batches until the input ends. An error here is one of sending.
    async fn send_all(&mut self, producer: Producer) -> Result<Ended, CliError> {
        let mut sequence = producer.next_sequence;
        let begin = self.batches.position();
        loop {
            self.wait_turn(self.batches.position() - begin).await;
            let cut = match self.batches.next_cut() {
                Ok(Some(cut)) => cut,
                Ok(None) => return Ok(Ended::AtTheEnd),
                Err(error) => return Ok(Ended::AtABadRow(error)),
            };
            let batch = Batch {
                sequence,
                position: self.batches.position(),
                event_count: cut.event_count,
                rows: cut.rows,
            };
            self.progress.sent(batch.position, self.batches.input().bytes_read());
            let appended = self.appender.append(batch).await;
            self.acked(appended)?;
            sequence = sequence.next();
        }
    }

    /// Waits until this many rows are due.
    async fn wait_turn(&self, rows: u64) {
        let Some(rate) = self.rate else { return };
        let due = Duration::from_secs_f64(rows as f64 / rate as f64);
        tokio::time::sleep(due.saturating_sub(self.watch.elapsed())).await;
    }

    /// Counts an ack; false where there was none.
    fn acked(
        &mut self,
        appended: Result<Option<Ack>, crate::grpc::client::appender::AppendFailed>,
    ) -> Result<bool, CliError> {
        match appended {
            Ok(Some(ack)) => {
                self.progress.acked(&ack, self.watch.elapsed());
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(failed) => {
                let end = failed.batch.position;
                let first = end - failed.batch.event_count;
                let rows = self.batches.input().place(first, end);
                let acked = format_count(self.progress.tally().events);
                Err(CliError::Failed(format!(
                    "{rows} (the first is row 0): {}; {acked} events before were appended",
                    failed.reason
                )))
            }
        }
    }

    fn summary(&self, stream: &str, skipped: u64) -> String {
        let tally = self.progress.tally();
        if tally.events == 0 && tally.duplicates == 0 {
            return match skipped {
                0 => "the input has no rows: nothing appended".to_owned(),
                _ => format!("all {} rows are in already: nothing appended", format_count(skipped)),
            };
        }
        let seconds = self.watch.elapsed().as_secs_f64().max(0.001);
        let mut text = format!(
            "{} events in {seconds:.1} s, {} events/s",
            format_count(tally.events),
            format_count((tally.events as f64 / seconds) as u64)
        );
        let earlier = skipped + tally.duplicates;
        if earlier != 0 {
            text.push_str(&format!(", {} rows were in already", format_count(earlier)));
        }
        text.push_str(&format!(", as of {}", freshness::format(stream, &tally.frontier)));
        text
    }
}
