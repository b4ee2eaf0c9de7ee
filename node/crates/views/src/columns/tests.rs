//! Tests of the forms of columns.

use std::sync::Arc;

use alluvium_core::ids::{Offset, PartitionNumber};
use alluvium_core::schema::{Column, ColumnType, StreamSchema};
use alluvium_core::time::Time;
use arrow::array::{AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, TimestampMicrosecondType};

use super::{
    TYPE_KEY, column_type_of, column_type_of_field, log_schema, log_type, scan_schema,
    segment_schema, to_scan, with_hidden,
};

fn schema() -> StreamSchema {
    let column =
        |name: &str, column_type, nullable| Column { name: name.into(), column_type, nullable };
    StreamSchema::new(vec![
        column("id", ColumnType::BigInt, false),
        column("note", ColumnType::Text, true),
        column("extra", ColumnType::Json, true),
        column("tags", ColumnType::List(Box::new(ColumnType::Json)), true),
    ])
    .expect("a schema")
}

#[test]
fn the_three_forms() {
    let log = log_schema(&schema());
    let names = |schema: &arrow::datatypes::SchemaRef| {
        let describe = |field: &Arc<Field>| format!("{} {}", field.name(), field.data_type());
        schema.fields().iter().map(describe).collect::<Vec<_>>()
    };
    let item = "List(Utf8, metadata: {\"alluvium.type\": \"json\"})";
    assert_eq!(names(&log)[..3], ["id Int64", "note Utf8", "extra Utf8"]);
    assert!(names(&log)[3].starts_with("tags List("), "{} or so, {}", item, names(&log)[3]);
    assert_eq!(log.field(2).metadata()[TYPE_KEY], "json");
    assert!(!log.field(0).is_nullable());
    assert_eq!(
        names(&segment_schema(&log))[4..],
        ["_offset Int64", "_appended_at Timestamp(µs, \"UTC\")"]
    );
    let scan = scan_schema(&schema());
    assert_eq!(names(&scan)[..3], ["id Int64", "note Utf8View", "extra Utf8View"]);
    assert_eq!(names(&scan)[4], "_partition Int32");
    assert_eq!(scan.field(2).metadata()[TYPE_KEY], "json");
}

#[test]
fn rows_go_from_form_to_form() {
    let schema = schema();
    let log = log_schema(&schema);
    let long = "a text that is longer than twelve bytes";
    let notes = StringArray::from(vec![Some(long), None]);
    let rows = RecordBatch::try_new(
        Arc::clone(&log),
        vec![
            Arc::new(Int64Array::from(vec![7, 8])),
            Arc::new(notes.clone()),
            arrow::array::new_null_array(&DataType::Utf8, 2),
            arrow::array::new_null_array(log.field(3).data_type(), 2),
        ],
    )
    .expect("rows of the log");

    let segment = with_hidden(&rows, Offset(40), Time(1_000));
    assert_eq!(segment.schema(), segment_schema(&log));
    assert_eq!(segment.column(4).as_primitive::<Int64Type>().values(), &[40, 41]);
    let appended_at = segment.column(5).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(appended_at.values(), &[1_000, 1_000]);

    let scan = to_scan(&segment, PartitionNumber(3), &scan_schema(&schema));
    assert_eq!(scan.column(4).as_primitive::<Int32Type>().values(), &[3, 3]);
    assert_eq!(scan.column(5).as_primitive::<Int64Type>().values(), &[40, 41]);
    let views = scan.column(1).as_string_view();
    assert_eq!(views.iter().collect::<Vec<_>>(), [Some(long), None]);
    assert_eq!(views.data_buffers()[0].as_ptr(), notes.values().as_ptr(), "texts are shared");
}

#[test]
fn a_type_of_the_log_is_its_own_column_type() {
    let fields = vec![Column { name: "a".into(), column_type: ColumnType::Date, nullable: true }];
    let types = [
        ColumnType::Boolean,
        ColumnType::SmallInt,
        ColumnType::Integer,
        ColumnType::BigInt,
        ColumnType::Real,
        ColumnType::Double,
        ColumnType::Numeric { precision: 38, scale: 38 },
        ColumnType::Text,
        ColumnType::Bytes,
        ColumnType::Date,
        ColumnType::Time,
        ColumnType::Timestamp,
        ColumnType::TimestampTz,
        ColumnType::Interval,
        ColumnType::List(Box::new(ColumnType::Json)),
        ColumnType::Struct(fields),
    ];
    for column_type in types {
        assert_eq!(column_type_of(&log_type(&column_type)), Some(column_type));
    }
    let log = log_schema(&schema());
    assert_eq!(column_type_of_field(log.field(2)), Some(ColumnType::Json));
    assert_eq!(column_type_of(&DataType::Null), None);
    assert_eq!(column_type_of(&DataType::Decimal256(76, 0)), None);
    assert_eq!(column_type_of(&DataType::Decimal128(5, -2)), None);
    assert_eq!(column_type_of(&DataType::UInt16), Some(ColumnType::Integer));
}
