//! Deals the rows of a batch out to the partitions of its stream.

use alluvium_core::ids::PartitionNumber;
use alluvium_core::routing::KeyBytes;
use alluvium_core::stream::StreamDefinition;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;

use super::key::KeyColumn;

/// The rows of each partition that gets any, in partition order; inside a partition in the order
/// they came. Without a key all go to one partition, which `round_robin` chooses.
///
/// The batches share their memory: they are meant to be encoded and let go. Nothing is copied where
/// all rows go to one partition.
#[must_use]
pub fn split(
    definition: &StreamDefinition,
    batch: &RecordBatch,
    round_robin: u32,
) -> Vec<(PartitionNumber, RecordBatch)> {
    if batch.num_rows() == 0 {
        return Vec::new();
    }
    let partition_count = definition.partitions;
    if partition_count == 1 || definition.partition_by.is_empty() {
        return vec![(PartitionNumber(round_robin % partition_count), batch.clone())];
    }
    deal(definition, batch, &partitions_by_key(definition, batch))
}

/// The partition of each row, as [`split`] chooses it.
#[must_use]
pub fn partitions_of(
    definition: &StreamDefinition,
    batch: &RecordBatch,
    round_robin: u32,
) -> Vec<PartitionNumber> {
    if definition.partitions == 1 || definition.partition_by.is_empty() {
        return vec![PartitionNumber(round_robin % definition.partitions); batch.num_rows()];
    }
    partitions_by_key(definition, batch)
}

/// The rows of each partition that gets any, in partition order, when the partition of each row is
/// known.
#[must_use]
pub fn deal(
    definition: &StreamDefinition,
    batch: &RecordBatch,
    partitions: &[PartitionNumber],
) -> Vec<(PartitionNumber, RecordBatch)> {
    let Some(&first) = partitions.first() else {
        return Vec::new();
    };
    let mut counts = vec![0_usize; definition.partitions as usize];
    for partition in partitions {
        counts[partition.0 as usize] += 1;
    }
    if counts[first.0 as usize] == batch.num_rows() {
        return vec![(first, batch.clone())];
    }
    // One pass that puts the rows of each partition side by side; the batches are slices of it.
    let taken = take_record_batch(batch, &in_partition_order(partitions, &counts))
        .expect("the rows of a batch can be taken from it");
    let mut split = Vec::new();
    let mut start = 0;
    for (number, count) in (0..).map(PartitionNumber).zip(counts) {
        if count != 0 {
            split.push((number, taken.slice(start, count)));
        }
        start += count;
    }
    split
}

fn partitions_by_key(definition: &StreamDefinition, batch: &RecordBatch) -> Vec<PartitionNumber> {
    let columns: Vec<_> =
        definition.partition_by.iter().map(|&place| KeyColumn::new(batch.column(place))).collect();
    let mut key = KeyBytes::new();
    let partition_of = |row| {
        key.clear();
        for column in &columns {
            column.push(row, &mut key);
        }
        key.partition(definition.partitions)
    };
    (0..batch.num_rows()).map(partition_of).collect()
}

/// The numbers of the rows, sorted by partition, stable.
fn in_partition_order(partitions: &[PartitionNumber], counts: &[usize]) -> UInt32Array {
    let mut next = Vec::with_capacity(counts.len());
    let mut start = 0;
    for count in counts {
        next.push(start);
        start += count;
    }
    let mut rows = vec![0_u32; partitions.len()];
    for (row, partition) in (0..).zip(partitions) {
        let place = &mut next[partition.0 as usize];
        rows[*place] = row;
        *place += 1;
    }
    UInt32Array::from(rows)
}
