//! Cuts the input into batches, always in the same way.

use std::collections::VecDeque;

use alluvium_views::rows;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;

use super::input::{Input, RowSource};
use crate::cli::CliError;
use crate::grpc::client::appender::WINDOW_BATCHES;

/// Bytes of a batch on the wire: half of what the node takes, since a batch may be joined with the
/// names of its columns and those of its producer.
pub const BATCH_BYTES_MAX: usize = 4 << 20;

/// A batch, encoded.
#[derive(Debug)]
pub struct Cut {
    /// An Arrow IPC stream.
    pub rows: Bytes,
    /// How many.
    pub event_count: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Batches<S = Input> {
    source: S,
    batch_rows: u64,
    batch_bytes_max: usize,
    /// Rows read and not cut yet.
    read: VecDeque<RecordBatch>,
    read_rows: u64,
    /// Rows before the next batch.
    position: u64,
    /// Where the next batch must end, because part of it is in the stream.
    next_end: Option<u64>,
    /// How many rows an earlier run put into a batch, and how many more batches to cut like that.
    earlier: Option<(u64, usize)>,
}

impl<S: RowSource> Batches<S> {
    /// Batches of so many rows each; fewer where the rows are large or at an end.
    pub fn new(source: S, batch_rows: u64) -> Batches<S> {
        Batches {
            source,
            batch_rows,
            batch_bytes_max: BATCH_BYTES_MAX,
            read: VecDeque::new(),
            read_rows: 0,
            position: 0,
            next_end: None,
            earlier: None,
        }
    }

    /// Where the rows come from.
    pub fn input(&self) -> &S {
        &self.source
    }

    /// Rows up to the end of the batch that was cut last.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Passes over rows; says over how many, which is less only where the input ends before.
    pub fn skip(&mut self, rows: u64) -> Result<u64, CliError> {
        let mut left = rows;
        while left != 0 && self.read_up_to(1)? {
            let count = left.min(self.read_rows);
            self.take(count);
            left -= count;
        }
        self.position += rows - left;
        Ok(rows - left)
    }

    /// Ends the next batch at this position: some partitions hold it already, cut so by an earlier
    /// run. Where that is not how this run would cut it, the earlier run had another
    /// `--batch-rows`, and as many further batches as it may have had on their way are cut as it
    /// did.
    pub fn end_next_at(&mut self, position: u64) {
        if self.position < position {
            self.next_end = Some(position);
        }
    }

    /// The next batch; none at the end of the input.
    pub fn next_cut(&mut self) -> Result<Option<Cut>, CliError> {
        if let Some(end) = self.next_end.take() {
            return self.next_ending_at(end).map(Some);
        }
        let wanted = match self.earlier.take() {
            Some((rows, left)) => {
                self.earlier = (1 < left).then_some((rows, left - 1));
                rows
            }
            None => self.batch_rows,
        };
        if !self.read_up_to(wanted)? {
            return Ok(None);
        }
        let (batch, rows) = self.fitting(wanted.min(self.read_rows));
        Ok(Some(self.cut(&batch, rows)))
    }

    fn next_ending_at(&mut self, end: u64) -> Result<Cut, CliError> {
        let wanted = end - self.position;
        self.read_up_to(wanted.max(self.batch_rows))?;
        if self.read_rows < wanted {
            return Err(CliError::Failed(format!(
                "the input ends at row {}, but an earlier run of this producer sent rows up to \
                 {end}: it is not the input of the earlier run",
                self.position + self.read_rows
            )));
        }
        let (own, rows) = self.fitting(self.batch_rows.min(self.read_rows));
        if row_count(&own) == wanted {
            return Ok(self.cut(&own, rows));
        }
        self.put_back(own);
        self.earlier = Some((wanted, WINDOW_BATCHES - 1));
        let batch = self.take(wanted);
        let rows = rows::encode_payload(&batch);
        Ok(self.cut(&batch, rows))
    }

    fn cut(&mut self, batch: &RecordBatch, rows: Bytes) -> Cut {
        let event_count = row_count(batch);
        self.position += event_count;
        Cut { rows, event_count }
    }

    /// So many rows, which must be there, halved until they fit: where the batch ends depends on
    /// the rows alone. A single row that does not fit goes out as it is, for the node to say so.
    fn fitting(&mut self, rows: u64) -> (RecordBatch, Bytes) {
        let mut batch = self.take(rows);
        loop {
            let encoded = rows::encode_payload(&batch);
            let count = row_count(&batch);
            if encoded.len() <= self.batch_bytes_max || count <= 1 {
                return (batch, encoded);
            }
            let kept = count.div_ceil(2);
            self.put_back(batch.slice(to_usize(kept), to_usize(count - kept)));
            batch = batch.slice(0, to_usize(kept));
        }
    }

    /// Reads until so many rows are there; false when the input has none left at all.
    fn read_up_to(&mut self, rows: u64) -> Result<bool, CliError> {
        while self.read_rows < rows {
            let Some(batch) = self.source.next()? else {
                break;
            };
            self.read_rows += row_count(&batch);
            self.read.push_back(batch);
        }
        Ok(self.read_rows != 0)
    }

    /// Exactly so many of the rows read, which must be there.
    fn take(&mut self, rows: u64) -> RecordBatch {
        let mut taken = Vec::new();
        let mut left = rows;
        while left != 0 {
            let batch = self.read.pop_front().expect("the caller counted the rows");
            let count = row_count(&batch);
            if left < count {
                self.read.push_front(batch.slice(to_usize(left), to_usize(count - left)));
                taken.push(batch.slice(0, to_usize(left)));
                left = 0;
            } else {
                left -= count;
                taken.push(batch);
            }
        }
        self.read_rows -= rows;
        let schema = taken.first().expect("nobody asks for no rows").schema();
        rows::concat(&schema, &taken)
    }

    fn put_back(&mut self, batch: RecordBatch) {
        self.read_rows += row_count(&batch);
        self.read.push_front(batch);
    }
}

fn row_count(batch: &RecordBatch) -> u64 {
    batch.num_rows() as u64
}

fn to_usize(rows: u64) -> usize {
    usize::try_from(rows).expect("rows that are in memory are counted by usize")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    /// Rows 0.. in pieces of these sizes; every text is of the length given.
    #[derive(Debug)]
    struct Pieces {
        sizes: VecDeque<i64>,
        first: i64,
        text_bytes: usize,
    }

    impl RowSource for Pieces {
        fn next(&mut self) -> Result<Option<RecordBatch>, CliError> {
            let Some(size) = self.sizes.pop_front() else { return Ok(None) };
            let numbers: Vec<i64> = (self.first..self.first + size).collect();
            let texts = vec!["x".repeat(self.text_bytes); numbers.len()];
            self.first += size;
            let fields = vec![
                Field::new("n", DataType::Int64, false),
                Field::new("t", DataType::Utf8, false),
            ];
            let columns: Vec<Arc<dyn Array>> =
                vec![Arc::new(Int64Array::from(numbers)), Arc::new(StringArray::from(texts))];
            Ok(Some(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()))
        }
    }

    fn batches(sizes: &[i64], batch_rows: u64, text_bytes: usize) -> Batches<Pieces> {
        let pieces = Pieces { sizes: sizes.iter().copied().collect(), first: 0, text_bytes };
        let mut batches = Batches::new(pieces, batch_rows);
        batches.batch_bytes_max = 4_096;
        batches
    }

    /// The ends of all batches to come, having seen that the rows in them are the right ones.
    fn ends(batches: &mut Batches<Pieces>) -> Vec<u64> {
        let mut ends = Vec::new();
        let mut first = batches.position();
        while let Some(cut) = batches.next_cut().unwrap() {
            let end = batches.position();
            assert_eq!(end - first, cut.event_count);
            assert_eq!(numbers(cut.rows), (first..end).collect::<Vec<_>>());
            ends.push(end);
            first = end;
        }
        ends
    }

    fn numbers(rows: Bytes) -> Vec<u64> {
        let reader = arrow::ipc::reader::StreamReader::try_new(rows.as_ref(), None).unwrap();
        let mut numbers = Vec::new();
        for batch in reader {
            let batch = batch.unwrap();
            let column = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
            numbers.extend(column.values().iter().map(|&number| number as u64));
        }
        numbers
    }

    #[test]
    fn batches_are_cut_alike_however_the_rows_come() {
        for sizes in [&[25][..], &[1, 0, 9, 10, 5], &[10, 10, 5], &[24, 1]] {
            assert_eq!(ends(&mut batches(sizes, 10, 1)), [10, 20, 25], "{sizes:?}");
        }
        assert_eq!(ends(&mut batches(&[], 10, 1)), [] as [u64; 0]);
    }

    #[test]
    fn from_wherever_one_resumes_the_ends_are_the_same() {
        // 100 rows of 1,000 bytes: no batch of 10 fits into 4,096 bytes.
        let whole = ends(&mut batches(&[64, 36], 10, 1_000));
        assert!(whole.windows(2).all(|pair| pair[1] - pair[0] <= 3), "{whole:?}");
        for (place, &end) in whole.iter().enumerate() {
            let mut rest = batches(&[7; 15][..14], 10, 1_000);
            rest.source.sizes.push_back(2);
            assert_eq!(rest.skip(end).unwrap(), end);
            assert_eq!(ends(&mut rest), whole[place + 1..]);
        }
    }

    #[test]
    fn a_batch_that_is_partly_in_is_cut_as_it_was() {
        // As this run would cut it: then all others are, too.
        let mut same = batches(&[40], 10, 1);
        same.end_next_at(10);
        assert_eq!(ends(&mut same), [10, 20, 30, 40]);
        // As a run with batches of 3 cut it, of which 8 may have been on their way.
        let mut other = batches(&[64], 10, 1);
        assert_eq!(other.skip(3).unwrap(), 3);
        other.end_next_at(6);
        assert_eq!(ends(&mut other), [6, 9, 12, 15, 18, 21, 24, 27, 37, 47, 57, 64]);
        // Larger than what this run would send at all.
        let mut large = batches(&[40], 10, 1_000);
        large.end_next_at(20);
        assert_eq!(large.next_cut().unwrap().unwrap().event_count, 20);
        let mut short = batches(&[10], 10, 1);
        short.end_next_at(12);
        assert!(short.next_cut().unwrap_err().to_string().contains("ends at row 10"));
    }

    #[test]
    fn an_input_that_is_shorter_than_before_is_noticed() {
        let mut batches = batches(&[3, 4], 10, 1);
        assert_eq!(batches.skip(9).unwrap(), 7);
        assert_eq!(ends(&mut batches), [] as [u64; 0]);
    }
}
