//! Rows as people read them.

use arrow::array::RecordBatch;
use arrow::json::LineDelimitedWriter;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// The rows as JSON objects, a line each, without a line end after the last. A type that JSON has
/// no form for makes the whole line plain text.
#[must_use]
pub fn to_json(rows: &RecordBatch) -> Vec<u8> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    if writer.write(rows).and_then(|()| writer.finish()).is_ok() {
        let mut lines = writer.into_inner();
        while lines.last() == Some(&b'\n') {
            lines.pop();
        }
        return lines;
    }
    let options = FormatOptions::default();
    let lines = (0..rows.num_rows()).map(|row| {
        let cells = rows.columns().iter().zip(rows.schema_ref().fields()).map(|(column, field)| {
            let value = ArrayFormatter::try_new(column, &options)
                .map_or_else(|error| error.to_string(), |values| values.value(row).to_string());
            format!("{}: {value}", field.name())
        });
        cells.collect::<Vec<_>>().join(", ")
    });
    lines.collect::<Vec<_>>().join("\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringViewArray};

    use super::*;

    #[test]
    fn a_row_becomes_an_object() {
        let columns: [(&str, ArrayRef); 2] = [
            ("a", Arc::new(Int64Array::from(vec![1, 2]))),
            ("b", Arc::new(StringViewArray::from(vec![Some("x"), None]))),
        ];
        let rows = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        )
        .expect("two columns of two rows");
        let shown = String::from_utf8(to_json(&rows)).expect("JSON is UTF-8");
        assert_eq!(shown, "{\"a\":1,\"b\":\"x\"}\n{\"a\":2}");
    }
}
