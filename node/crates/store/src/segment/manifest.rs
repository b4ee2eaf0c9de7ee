//! The manifest row of a segment.
//!
//! version 1 u8 | first u64 | end u64 | file bytes u64 | level u32 | created i64 |
//! oldest appended i64 | newest appended i64 | optional event times (i64, i64) |
//! CRC32 of the file u32 | CRC32 of the footer u32 | footer bytes u64 |
//! columns: list of [`super::statistics`] | CRC32
//!
//! Group and id are in the key, the path follows from them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use alluvium_core::codec::{Malformed, Reader, Writer};
use alluvium_core::ids::{GroupId, Offset, SegmentId};
use alluvium_core::time::Time;

use super::{Checksums, Segment, file_name, statistics};
use crate::keys::{seal, unseal};

const VERSION: u8 = 1;

pub(crate) fn encode(segment: &Segment) -> Vec<u8> {
    let mut row = Writer::with_capacity(128 + 64 * segment.columns.len());
    row.u8(VERSION);
    row.u64(segment.first.0);
    row.u64(segment.end.0);
    row.u64(segment.file_bytes);
    row.u32(segment.level);
    row.i64(segment.created_at.0);
    row.i64(segment.oldest_appended_at.0);
    row.i64(segment.newest_appended_at.0);
    row.flag(segment.event_times.is_some());
    if let Some((oldest, newest)) = segment.event_times {
        row.i64(oldest.0);
        row.i64(newest.0);
    }
    row.u32(segment.checksums.file);
    row.u32(segment.checksums.footer);
    row.u64(segment.checksums.footer_bytes);
    row.count(segment.columns.len());
    for column in segment.columns.iter() {
        statistics::encode(column, &mut row);
    }
    seal(&row.finish())
}

pub(crate) fn decode(
    group: GroupId,
    id: SegmentId,
    dir: &Path,
    sealed: &[u8],
) -> Result<Segment, Malformed> {
    let mut row = Reader::new(unseal(sealed)?);
    row.version(VERSION)?;
    let first = Offset(row.u64()?);
    let end = Offset(row.u64()?);
    if end <= first {
        return Err(Malformed::inconsistent(format!("{id} holds no events")));
    }
    let file_bytes = row.u64()?;
    let level = row.u32()?;
    let created_at = Time(row.i64()?);
    let oldest_appended_at = Time(row.i64()?);
    let newest_appended_at = Time(row.i64()?);
    let event_times = if row.flag()? { Some((Time(row.i64()?), Time(row.i64()?))) } else { None };
    let checksums = Checksums { file: row.u32()?, footer: row.u32()?, footer_bytes: row.u64()? };
    let count = row.count(statistics::ENCODED_BYTES_MIN)?;
    let mut columns = Vec::with_capacity(count);
    for _ in 0..count {
        columns.push(statistics::decode(&mut row)?);
    }
    row.end()?;
    Ok(Segment {
        group,
        id,
        first,
        end,
        file_bytes,
        level,
        created_at,
        oldest_appended_at,
        newest_appended_at,
        event_times,
        columns: Arc::new(columns),
        path: dir.join(file_name(id)),
        checksums,
        condemned: AtomicBool::new(false),
        verified: AtomicBool::new(false),
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array,
        Float64Array, Int16Array, Int32Array, Int64Array, StringArray, Time64MicrosecondArray,
        TimestampMicrosecondArray,
    };

    use super::super::ColumnStatistics;
    use super::*;

    fn columns() -> Vec<ColumnStatistics> {
        let utc = TimestampMicrosecondArray::from(vec![i64::MIN, 5]).with_timezone("UTC");
        let money = Decimal128Array::from(vec![-1, i128::MAX / 2]);
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(BooleanArray::from(vec![false, true])),
            Arc::new(Int16Array::from(vec![i16::MIN, 1])),
            Arc::new(Int32Array::from(vec![-7, i32::MAX])),
            Arc::new(Int64Array::from(vec![i64::MIN, i64::MAX])),
            Arc::new(Float32Array::from(vec![-0.0, f32::INFINITY])),
            Arc::new(Float64Array::from(vec![f64::NEG_INFINITY, 0.1])),
            Arc::new(money.with_precision_and_scale(38, 4).unwrap()),
            Arc::new(StringArray::from(vec!["", "grüße"])),
            Arc::new(BinaryArray::from(vec![&b"\0"[..], &b"\xff"[..]])),
            Arc::new(Date32Array::from(vec![-1, 20_000])),
            Arc::new(Time64MicrosecondArray::from(vec![0, 86_399_999_999])),
            Arc::new(TimestampMicrosecondArray::from(vec![-1, 1])),
            Arc::new(utc),
        ];
        let mut columns = Vec::new();
        for (place, array) in arrays.into_iter().enumerate() {
            columns.push(ColumnStatistics {
                name: format!("c{place}"),
                min: Some(array.slice(0, 1)),
                max: (place != 3).then(|| array.slice(1, 1)),
                null_count: place as u64,
            });
        }
        columns.push(ColumnStatistics { name: "n".into(), min: None, max: None, null_count: 9 });
        columns
    }

    #[test]
    fn rows_are_read_back() {
        for event_times in [None, Some((Time(-3), Time(4)))] {
            let dir = Path::new("/nowhere/7");
            let segment = Segment {
                group: GroupId(7),
                id: SegmentId(12),
                first: Offset(100),
                end: Offset(200),
                file_bytes: 4_711,
                level: 2,
                created_at: Time(1),
                oldest_appended_at: Time(2),
                newest_appended_at: Time(3),
                event_times,
                columns: Arc::new(columns()),
                path: dir.join(file_name(SegmentId(12))),
                checksums: Checksums { file: 1, footer: 2, footer_bytes: 3 },
                condemned: AtomicBool::new(false),
                verified: AtomicBool::new(false),
            };
            let row = encode(&segment);
            let read = decode(GroupId(7), SegmentId(12), dir, &row).unwrap();
            assert_eq!(format!("{read:?}"), format!("{segment:?}"));
            assert!(decode(GroupId(7), SegmentId(12), dir, &row[1..]).is_err());
        }
    }
}
