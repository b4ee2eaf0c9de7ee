//! Rows from Arrow.

use std::sync::Arc;

use alluvium_core::schema::{ColumnType, StreamSchema};
use arrow::array::{
    Array, ArrayRef, BinaryViewArray, Date64Array, Decimal128Array, DictionaryArray, Float32Array,
    Float64Array, Int8Array, Int32Array, Int64Array, LargeStringArray, ListArray, NullArray,
    RecordBatch, StringArray, StringViewArray, StructArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;

use super::super::{InvalidRows, UNPACKED_BYTES_MAX, conform, decode_ipc};
use super::{column, every_type, list, log_of, rows_of_every_type, schema, show};

fn stream(batches: &[RecordBatch], options: IpcWriteOptions) -> Bytes {
    let mut bytes = Vec::new();
    let schema = batches[0].schema();
    let mut writer = StreamWriter::try_new_with_options(&mut bytes, &schema, options).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap();
    Bytes::from(bytes)
}

fn decode(schema: &StreamSchema, batches: &[RecordBatch]) -> Result<RecordBatch, InvalidRows> {
    decode_ipc(schema, &log_of(schema), stream(batches, IpcWriteOptions::default()))
}

fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(
        columns.map(|(name, array)| (name.to_owned(), array, true)),
    )
    .expect("columns of one length")
}

/// What a column of one type becomes in a column of another, or why not.
fn check(column_type: ColumnType, sent: ArrayRef, expected: &str) {
    let schema = schema([("c", column_type.clone())]);
    let sent_type = sent.data_type().clone();
    let found = match decode(&schema, &[batch([("c", sent)])]) {
        Ok(batch) => show(&batch).join(","),
        Err(refused) => refused.to_string(),
    };
    assert_eq!(found, expected, "{sent_type} in {column_type}");
}

#[test]
fn every_type_is_read() {
    let rows = rows_of_every_type();
    assert_eq!(decode(&every_type(), std::slice::from_ref(&rows)).expect("good rows"), rows);
    for compression in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let options = IpcWriteOptions::default().try_with_compression(Some(compression)).unwrap();
        let bytes = stream(&[rows.clone(), rows.slice(1, 1)], options);
        let found = decode_ipc(&every_type(), &log_of(&every_type()), bytes).expect("good rows");
        assert_eq!(found.num_rows(), rows.num_rows() + 1);
        assert_eq!(found.slice(0, rows.num_rows()), rows);
    }
}

#[test]
fn numbers_fit_or_are_refused() {
    check(ColumnType::BigInt, Arc::new(Int8Array::from(vec![Some(-3), None])), "-3,∅");
    check(
        ColumnType::SmallInt,
        Arc::new(Int64Array::from(vec![1, 40_000])),
        "row 1, column \"c\": 40000 does not fit SMALLINT",
    );
    let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    check(
        ColumnType::BigInt,
        Arc::clone(&large),
        "row 0, column \"c\": 18446744073709551615 does not fit BIGINT",
    );
    check(ColumnType::Numeric { precision: 20, scale: 0 }, large, "18446744073709551615");
    check(ColumnType::Double, Arc::new(Float32Array::from(vec![1.5])), "1.5");
    check(ColumnType::Double, Arc::new(Int32Array::from(vec![3])), "3.0");
    let fractions: ArrayRef = Arc::new(Float64Array::from(vec![2.0, -0.0, 2.5]));
    check(
        ColumnType::Integer,
        Arc::clone(&fractions),
        "row 2, column \"c\": 2.5 does not fit INTEGER",
    );
    check(ColumnType::Integer, fractions.slice(0, 2), "2,0");
    let money = ColumnType::Numeric { precision: 8, scale: 2 };
    check(money.clone(), Arc::new(Int32Array::from(vec![7])), "7.00");
    check(money.clone(), Arc::new(Float64Array::from(vec![19.99])), "19.99");
    let precise =
        Decimal128Array::from(vec![1_000, 1_005]).with_precision_and_scale(10, 3).unwrap();
    check(
        money.clone(),
        Arc::new(precise),
        "row 1, column \"c\": 1.005 does not fit NUMERIC(8, 2)",
    );
    let wide = Decimal128Array::from(vec![10_000_000]).with_precision_and_scale(38, 0).unwrap();
    check(
        money.clone(),
        Arc::new(wide),
        "row 0, column \"c\": 10000000 does not fit NUMERIC(8, 2)",
    );
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["1.5", "x"]));
    check(money, texts, "row 1, column \"c\": \"x\" cannot be read as NUMERIC(8, 2)");
    check(
        ColumnType::Boolean,
        Arc::new(Int32Array::from(vec![1])),
        "column \"c\" is BOOLEAN and cannot take Int32",
    );
}

#[test]
fn texts_come_in_any_form() {
    let expected = "a,∅,grüße";
    let texts = vec![Some("a"), None, Some("grüße")];
    check(ColumnType::Text, Arc::new(StringViewArray::from(texts.clone())), expected);
    check(ColumnType::Text, Arc::new(LargeStringArray::from(texts.clone())), expected);
    let dictionary: DictionaryArray<Int32Type> = texts.into_iter().collect();
    check(ColumnType::Text, Arc::new(dictionary), expected);
    check(ColumnType::Bytes, Arc::new(BinaryViewArray::from(vec![b"a".as_ref()])), "61");
    check(ColumnType::Text, Arc::new(NullArray::new(2)), "∅,∅");
    check(
        ColumnType::Text,
        Arc::new(Int32Array::from(vec![1])),
        "column \"c\" is TEXT and cannot take Int32",
    );
    let json: ArrayRef = Arc::new(StringArray::from(vec!["{\"a\": 1}", "{a}"]));
    check(
        ColumnType::Json,
        Arc::clone(&json),
        "row 1, column \"c\": not JSON: expected '\"', found \"a}\"",
    );
    check(ColumnType::Json, json.slice(0, 1), "{\"a\": 1}");
}

#[test]
fn times_come_in_any_unit_and_zone() {
    let nanos = || TimestampNanosecondArray::from(vec![1_500, -1]);
    let shown = "1970-01-01T00:00:00.000001,1969-12-31T23:59:59.999999";
    check(ColumnType::Timestamp, Arc::new(nanos()), shown);
    let zoned = nanos().with_timezone("Europe/Berlin");
    let shown_in_utc = shown.replace(',', "Z,") + "Z";
    check(ColumnType::TimestampTz, Arc::new(zoned.clone()), &shown_in_utc);
    check(ColumnType::Timestamp, Arc::new(zoned), shown);
    let seconds = TimestampSecondArray::from(vec![Some(60), None]);
    check(ColumnType::TimestampTz, Arc::new(seconds), "1970-01-01T00:01:00Z,∅");
    check(
        ColumnType::Timestamp,
        Arc::new(TimestampMillisecondArray::from(vec![0, i64::MAX])),
        "row 1, column \"c\": the value does not fit TIMESTAMP",
    );
    check(ColumnType::Date, Arc::new(Date64Array::from(vec![86_400_000])), "1970-01-02");
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["2026-11-21T10:00:00Z", "now"]));
    check(ColumnType::Timestamp, texts, "row 1, column \"c\": \"now\" cannot be read as TIMESTAMP");
}

#[test]
fn nested_values_say_where_they_are() {
    let item = Arc::new(Field::new("element", DataType::Int64, true));
    let values = Arc::new(Int64Array::from(vec![1, 2, 3, 99_999, 5]));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([2, 0, 3]);
    let lists = ListArray::new(item, offsets, values, None);
    check(
        list(ColumnType::SmallInt),
        Arc::new(lists.clone()),
        "row 2, column \"c[1]\": 99999 does not fit SMALLINT",
    );
    check(list(ColumnType::SmallInt), Arc::new(lists.slice(1, 1)), "[]");
    check(list(ColumnType::Double), Arc::new(lists.slice(1, 2)), "[],[3.0, 99999.0, 5.0]");

    let address = ColumnType::Struct(vec![
        column("city!", ColumnType::Text),
        column("zip", ColumnType::Integer),
    ]);
    let cities: ArrayRef = Arc::new(StringViewArray::from(vec![Some("Ulm"), None]));
    let fields = vec![Field::new("City", DataType::Utf8View, true)];
    let sent =
        |nulls| Arc::new(StructArray::new(fields.clone().into(), vec![Arc::clone(&cities)], nulls));
    check(
        address.clone(),
        sent(None),
        "row 1, column \"c.city\": null in a column that is NOT NULL",
    );
    let nulls = arrow::buffer::NullBuffer::from(vec![true, false]);
    check(address, sent(Some(nulls)), "{city: Ulm, zip: ∅},∅");
}

#[test]
fn columns_are_found_by_name() {
    let schema = schema([("id!", ColumnType::BigInt), ("Name", ColumnType::Text)]);
    let ids = || Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef;
    let names = || Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef;
    let decode = |batch| match decode(&schema, &[batch]) {
        Ok(batch) => show(&batch).join(","),
        Err(refused) => refused.to_string(),
    };
    assert_eq!(decode(batch([("Name", names()), ("id", ids())])), "1 | a,2 | b");
    assert_eq!(decode(batch([("NAME", names()), ("ID", ids())])), "1 | a,2 | b");
    assert_eq!(decode(batch([("id", ids())])), "1 | ∅,2 | ∅");
    assert_eq!(decode(batch([("Name", names())])), "column \"id\" is NOT NULL and is missing");
    assert_eq!(
        decode(batch([("id", ids()), ("nmae", names())])),
        "there is no column \"nmae\"; did you mean \"Name\"?"
    );
    assert_eq!(decode(batch([("id", ids()), ("ID", ids())])), "column \"id\" is given twice");
    let nulls: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    assert_eq!(
        decode(batch([("id", nulls)])),
        "row 1, column \"id\": null in a column that is NOT NULL"
    );
}

#[test]
fn rows_count_over_all_batches_of_a_stream() {
    let schema = schema([("a", ColumnType::SmallInt)]);
    let column = |values: Vec<i64>| batch([("a", Arc::new(Int64Array::from(values)) as ArrayRef)]);
    let good = decode(&schema, &[column(vec![1, 2]), column(vec![]), column(vec![3])]);
    assert_eq!(show(&good.expect("good rows")), ["1", "2", "3"]);
    let refused = decode(&schema, &[column(vec![1, 2]), column(vec![3, 40_000])]);
    assert_eq!(refused.expect_err("too large").row(), Some(3));
}

#[test]
fn a_stream_without_rows_is_a_batch() {
    let schema = schema([("a", ColumnType::SmallInt)]);
    let sent = Schema::new(vec![Field::new("a", DataType::Int64, true)]);
    let mut bytes = Vec::new();
    StreamWriter::try_new(&mut bytes, &sent).unwrap().finish().unwrap();
    let found = decode_ipc(&schema, &log_of(&schema), Bytes::from(bytes)).expect("no rows");
    assert_eq!(found.num_rows(), 0);
    assert_eq!(found.schema(), log_of(&schema));

    for bytes in [&b""[..], b"hello world", &[0xff; 64], &[0; 64]] {
        let refused = decode_ipc(&schema, &log_of(&schema), Bytes::copy_from_slice(bytes));
        assert!(matches!(refused, Err(InvalidRows::Malformed { .. })), "{bytes:?}: {refused:?}");
    }
}

/// A few bytes that stand for very many.
#[test]
fn bombs_are_refused() {
    let text_schema = schema([("c", ColumnType::Text)]);
    let long = "x".repeat(100_000);
    let too_large = |refused: Result<RecordBatch, InvalidRows>| match refused {
        Err(InvalidRows::TooManyUnpackedBytes { bytes }) => {
            assert!(UNPACKED_BYTES_MAX as u64 <= bytes);
        }
        other => panic!("{other:?}"),
    };

    let keys = Int32Array::from(vec![0; 10_000]);
    let values = Arc::new(StringArray::from(vec![long.as_str()]));
    let dictionary = DictionaryArray::new(keys, values);
    too_large(decode(&text_schema, &[batch([("c", Arc::new(dictionary))])]));

    let views = StringViewArray::from(vec![long.as_str()]);
    let rows = arrow::array::UInt32Array::from(vec![0; 10_000]);
    let views = arrow::compute::take(&views, &rows, None).unwrap();
    too_large(decode(&text_schema, &[batch([("c", views)])]));

    let zeroes: ArrayRef = Arc::new(StringArray::from(vec!["\0".repeat(UNPACKED_BYTES_MAX)]));
    let options =
        IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD)).unwrap();
    let bytes = stream(&[batch([("c", Arc::clone(&zeroes))])], options);
    assert!(bytes.len() < 1_000_000);
    too_large(decode_ipc(&text_schema, &log_of(&text_schema), bytes));

    // LZ4 unpacks whatever there is, so that a lie about the size changes nothing.
    let options =
        IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).unwrap();
    let long: ArrayRef = Arc::new(StringArray::from(vec!["\0".repeat(9 * UNPACKED_BYTES_MAX)]));
    let mut bytes = stream(&[batch([("c", long)])], options).to_vec();
    assert!(bytes.len() < 8_000_000);
    let said = (9 * UNPACKED_BYTES_MAX as u64).to_le_bytes();
    let at = bytes.windows(8).position(|window| window == said).expect("the size it says");
    bytes[at..at + 8].copy_from_slice(&1_000_u64.to_le_bytes());
    too_large(decode_ipc(&text_schema, &log_of(&text_schema), Bytes::from(bytes)));

    let numbers = ["a", "b", "d", "e", "f"].map(|name| column(name, ColumnType::BigInt));
    let wide = [numbers.to_vec(), vec![column("c", ColumnType::Text)]].concat();
    let wide = StreamSchema::new(wide).expect("a schema");
    let nothing = batch([("c", Arc::new(NullArray::new(900_000)) as ArrayRef)]);
    too_large(conform(&log_of(&wide), &wide, nothing));
}
