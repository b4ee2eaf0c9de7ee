//! `approx_percentile_cont`: counts of values in buckets that widen with the values.
//!
//! A bucket holds the doubles that agree in sign, exponent and the first six bits of the fraction:
//! 64 buckets from each power of two to the next, found by a shift and the same on every machine.
//! A bucket's ends are less than 1.6 % apart, so the value that stands for it (the harmonic mean of
//! its ends) is within [`RELATIVE_ERROR_MAX`] of each value in it. Values nearer to zero than the
//! smallest normal double count as zero. The smallest and the largest value are kept exactly.
//!
//! The quantile `q` of `n` values is the value at place `ceil(q * n)`, at least the first: the
//! smallest value that at least this share of the values is not above. There is no interpolation
//! between values. NaN is above all other values.
//!
//! The state does not depend on the order of values or of merges. It has at most one count for each
//! bucket: some hundred for values of a few orders of magnitude, never more than 262,144.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::codec::{Reader, put_varint};
use super::grouped::{Kernel, Picked};
use super::moments::doubles;
use super::rows::Rows;
use super::words::Word;
use super::{StateError, tag};

/// How far a quantile may be from the value it stands for, relative to it.
pub const RELATIVE_ERROR_MAX: f64 = 0.01;

/// Bits of a word that are not told apart.
const DROPPED_BITS: u32 = 46;
/// One more than the last bucket.
const BUCKETS: u32 = 1 << (64 - DROPPED_BITS);
const PLACES_MIN: usize = 4;

/// Counts by bucket.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    /// The bucket plus one, and its count, at the place that the bucket hashes to or the next free
    /// one; 0 is free.
    places: Vec<(u32, u64)>,
    used: usize,
    count: u64,
    /// The words of the smallest and the largest value.
    ends: (u64, u64),
}

impl Buckets {
    #[inline]
    fn add(&mut self, value: f64, heap: &mut usize) {
        let value = if value.abs() < f64::MIN_POSITIVE { 0.0 } else { value };
        let word = value.word();
        self.widen((word, word));
        self.count = self.count.wrapping_add(1);
        let counted = self.bucket((word >> DROPPED_BITS) as u32, heap);
        *counted = counted.wrapping_add(1);
    }

    /// Before `count` grows.
    #[inline]
    fn widen(&mut self, ends: (u64, u64)) {
        self.ends = match self.count {
            0 => ends,
            _ => (self.ends.0.min(ends.0), self.ends.1.max(ends.1)),
        };
    }

    /// The count of a bucket.
    #[inline]
    fn bucket(&mut self, bucket: u32, heap: &mut usize) -> &mut u64 {
        let mut place = find(&self.places, bucket + 1);
        if place.is_none_or(|place| self.places[place].0 == 0) {
            if self.places.len() * 3 < (self.used + 1) * 4 {
                self.grow(heap);
                place = find(&self.places, bucket + 1);
            }
            self.used += 1;
        }
        let place = place.expect("there is a free place");
        self.places[place].0 = bucket + 1;
        &mut self.places[place].1
    }

    #[cold]
    fn grow(&mut self, heap: &mut usize) {
        let count = (self.places.len() * 2).max(PLACES_MIN);
        *heap += (count - self.places.len()) * size_of::<(u32, u64)>();
        let old = std::mem::replace(&mut self.places, vec![(0, 0); count]);
        for (key, counted) in old.into_iter().filter(|(key, _)| *key != 0) {
            let place = find(&self.places, key).expect("the table is not full");
            self.places[place] = (key, counted);
        }
    }

    /// Buckets with their counts, smallest values first.
    fn sorted(&self) -> Vec<(u32, u64)> {
        let used = self.places.iter().filter(|(key, _)| *key != 0);
        let mut buckets: Vec<_> = used.map(|(key, counted)| (key - 1, *counted)).collect();
        buckets.sort_unstable();
        buckets
    }

    fn quantile(&self, quantile: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let place = (quantile * self.count as f64).ceil().max(1.0) as u64;
        if place == 1 {
            return Some(f64::from_word(self.ends.0));
        }
        if self.count <= place {
            return Some(f64::from_word(self.ends.1));
        }
        let mut before = 0_u64;
        for (bucket, counted) in self.sorted() {
            before = before.saturating_add(counted);
            if place <= before {
                let word = middle(bucket).word();
                return Some(f64::from_word(word.clamp(self.ends.0, self.ends.1)));
            }
        }
        Some(f64::from_word(self.ends.1))
    }
}

#[inline]
fn find(places: &[(u32, u64)], key: u32) -> Option<usize> {
    let mask = places.len().checked_sub(1)?;
    let mut place = key as usize & mask;
    while places[place].0 != 0 && places[place].0 != key {
        place = (place + 1) & mask;
    }
    Some(place)
}

/// The value that stands for a bucket.
fn middle(bucket: u32) -> f64 {
    let start = u64::from(bucket) << DROPPED_BITS;
    let (first, last) = (f64::from_word(start), f64::from_word(start | ((1 << DROPPED_BITS) - 1)));
    if first == 0.0 || last == 0.0 {
        return 0.0;
    }
    // Where one of them is not finite, the bucket holds the infinity or NaN among its values alone.
    match (first.is_finite(), last.is_finite()) {
        (true, true) => last * (2.0 / (1.0 + last / first)),
        _ if first.is_infinite() => first,
        _ if last.is_infinite() => last,
        _ => f64::NAN,
    }
}

/// `approx_percentile_cont`.
#[derive(Debug)]
pub(super) struct ApproxQuantile {
    pub quantile: f64,
    pub output_type: DataType,
}

impl Kernel for ApproxQuantile {
    type Cell = Buckets;

    const TAG: u8 = tag::APPROX_QUANTILE;
    const WHAT: &'static str = "approx_percentile_cont";

    fn update(
        &self,
        cells: &mut [Buckets],
        rows: Rows<'_>,
        arguments: &[ArrayRef],
        heap: &mut usize,
    ) -> Result<(), StateError> {
        let values = doubles(&arguments[0])?;
        let values = values.values();
        rows.each(&arguments[..1], |row, slot| cells[slot].add(values[row], heap));
        Ok(())
    }

    fn encode(&self, cell: &Buckets, out: &mut Vec<u8>) {
        let buckets = cell.sorted();
        put_varint(buckets.len() as u64, out);
        if buckets.is_empty() {
            return;
        }
        out.extend_from_slice(&cell.ends.0.to_le_bytes());
        out.extend_from_slice(&cell.ends.1.to_le_bytes());
        let mut before = 0;
        for (bucket, counted) in buckets {
            put_varint(u64::from(bucket - before), out);
            put_varint(counted, out);
            before = bucket;
        }
    }

    fn merge(
        &self,
        cell: &mut Buckets,
        bytes: &mut Reader<'_>,
        heap: &mut usize,
    ) -> Result<(), StateError> {
        let used = bytes.count(2)?;
        if used == 0 {
            return Ok(());
        }
        cell.widen((u64::from_le_bytes(bytes.array()?), u64::from_le_bytes(bytes.array()?)));
        if cell.ends.1 < cell.ends.0 {
            return Err(bytes.malformed("its smallest value is above its largest"));
        }
        let mut bucket = 0_u64;
        for _ in 0..used {
            bucket = bucket.saturating_add(bytes.varint()?);
            let counted = bytes.varint()?;
            let known = u32::try_from(bucket).ok().filter(|bucket| *bucket < BUCKETS);
            let (Some(known), true) = (known, counted != 0) else {
                return Err(bytes.malformed("there is no such bucket"));
            };
            let total = cell.count.checked_add(counted);
            cell.count = total.ok_or_else(|| bytes.malformed("it counts more than 2^64 rows"))?;
            let sum = cell.bucket(known, heap);
            *sum = sum.saturating_add(counted);
        }
        Ok(())
    }

    fn finish(&self, cells: &Picked<'_, Buckets>) -> Result<ArrayRef, StateError> {
        let values = cells.iter().map(|cell| cell.quantile(self.quantile));
        let values: ArrayRef = Arc::new(values.collect::<Float64Array>());
        match self.output_type {
            DataType::Float64 => Ok(values),
            _ => cast(&values, &self.output_type)
                .map_err(|error| Reader::new(&[], Self::WHAT).malformed(error.to_string())),
        }
    }

    fn heap_bytes(&self, cell: &Buckets) -> usize {
        size_of_val(cell.places.as_slice())
    }
}
