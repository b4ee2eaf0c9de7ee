//! Rows from files of every kind.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use alluvium_core::schema::{Column, ColumnType, StreamSchema};
use alluvium_query::files::{FileFormat, infer, open};
use arrow::array::{Array, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use tempfile::TempDir;

fn schema() -> StreamSchema {
    let column =
        |name: &str, column_type, nullable| Column { name: name.into(), column_type, nullable };
    StreamSchema::new(vec![
        column("id", ColumnType::BigInt, false),
        column("name", ColumnType::Text, true),
    ])
    .unwrap()
}

fn read(path: &Path, chunk_rows: usize) -> Result<Vec<(i64, Option<String>)>, String> {
    let chunks = open(path.to_str().unwrap(), None, &schema(), chunk_rows)
        .map_err(|error| error.to_string())?;
    let progress = chunks.progress();
    let mut rows = Vec::new();
    for chunk in chunks {
        let chunk = chunk.map_err(|error| error.to_string())?;
        assert!(chunk.num_rows() <= chunk_rows && rows.len() % chunk_rows == 0);
        let names = chunk.column(1).as_string::<i32>();
        for (row, id) in chunk.column(0).as_primitive::<Int64Type>().values().iter().enumerate() {
            let name = names.is_valid(row).then(|| names.value(row).to_string());
            rows.push((*id, name));
        }
    }
    assert!(0 < progress.read_bytes());
    Ok(rows)
}

fn expected() -> Vec<(i64, Option<String>)> {
    (0..25_i64).map(|id| (id, (id % 5 != 0).then(|| format!("n, \"{id}\"")))).collect()
}

fn batch() -> RecordBatch {
    // Narrower ids and another order than the stream has.
    let ids = Int32Array::from_iter_values(0..25);
    let names = StringArray::from_iter(expected().into_iter().map(|(_, name)| name));
    let fields =
        vec![Field::new("name", DataType::Utf8, true), Field::new("id", DataType::Int32, false)];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(names), Arc::new(ids)])
        .unwrap()
}

fn text(format: FileFormat) -> Vec<u8> {
    let mut out = Vec::new();
    let batch = batch();
    match format {
        FileFormat::Csv => arrow::csv::Writer::new(&mut out).write(&batch).unwrap(),
        FileFormat::NdJson => {
            let mut writer = arrow::json::LineDelimitedWriter::new(&mut out);
            writer.write(&batch).unwrap();
            writer.finish().unwrap();
        }
        FileFormat::Json => {
            let mut writer = arrow::json::ArrayWriter::new(&mut out);
            writer.write(&batch).unwrap();
            writer.finish().unwrap();
            out = String::from_utf8(out).unwrap().replace("},{", "},\n {\n").into_bytes();
        }
        FileFormat::Parquet => {
            let writer = parquet::arrow::ArrowWriter::try_new(&mut out, batch.schema(), None);
            let mut writer = writer.unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
        }
        FileFormat::Arrow => {
            let mut writer =
                arrow::ipc::writer::FileWriter::try_new(&mut out, &batch.schema()).unwrap();
            writer.write(&batch).unwrap();
            writer.finish().unwrap();
        }
    }
    out
}

#[test]
fn every_format_gives_the_same_rows() {
    let dir = TempDir::new().unwrap();
    let formats = [
        ("a.ndjson", FileFormat::NdJson),
        ("a.json", FileFormat::Json),
        ("a.csv", FileFormat::Csv),
        ("a.parquet", FileFormat::Parquet),
        ("a.arrow", FileFormat::Arrow),
    ];
    for (name, format) in formats {
        let bytes = text(format);
        let path = dir.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        let gz = dir.path().join(format!("{name}.gz"));
        let mut encoder =
            flate2::write::GzEncoder::new(File::create(&gz).unwrap(), flate2::Compression::fast());
        encoder.write_all(&bytes).unwrap();
        encoder.finish().unwrap();
        let zst = dir.path().join(format!("{name}.zst"));
        std::fs::write(&zst, zstd::stream::encode_all(&bytes[..], 1).unwrap()).unwrap();
        for path in [&path, &gz, &zst] {
            for chunk_rows in [1, 7, 25, 1_000] {
                assert_eq!(read(path, chunk_rows).unwrap(), expected(), "{}", path.display());
            }
        }
    }
    let inferred = infer(dir.path().join("a.csv").to_str().unwrap(), None, 100).unwrap();
    let types: Vec<String> =
        inferred.columns().iter().map(|c| format!("{} {}", c.name, c.column_type)).collect();
    assert_eq!(types, ["name TEXT", "id BIGINT"]);
}

#[test]
fn what_does_not_fit_is_named() {
    let dir = TempDir::new().unwrap();
    let cases = [
        ("a.txt", "x", "what this file holds is not known by its name"),
        ("a.ndjson", "{\"id\": 1}\n{\"id\": \"x\"}\n", "id"),
        ("b.ndjson", "{\"id\": 1, \"nme\": \"x\"}\n", "nme"),
        ("c.ndjson", "{\"id\": 1}\n{\"name\": \"x\"}\n", "id"),
        ("a.json", "[{\"id\": 1}, 5]", "something else than JSON objects"),
        ("b.json", "[{\"id\": 1}, {\"id\": ", "ends inside an object"),
        ("a.csv", "id,nam\n1,x\n", "no column \"nam\"; did you mean \"name\"?"),
        ("b.csv", "id,name\n1,y\nx,y\n", "line 3, column \"id\""),
        ("c.csv", "", "no line of column names"),
        ("a.parquet", "nonsense", "a.parquet: "),
        ("a.arrow", "nonsense", "a.arrow: "),
    ];
    for (name, content, text) in cases {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let error = read(&path, 100).unwrap_err();
        assert!(error.contains(text), "{name}: {error}");
    }
    assert!(read(&dir.path().join("absent.csv"), 1).unwrap_err().contains("No such file"));
}
