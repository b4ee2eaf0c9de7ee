//! Rows from JSON.

use alluvium_core::schema::ColumnType;

use super::super::{BATCH_BYTES_MAX, InvalidRows, decode_json};
use super::{every_type, json, list, log_of, rows_of_every_type, schema, show};

#[test]
fn every_type_is_read() {
    assert_eq!(
        show(&rows_of_every_type()),
        [
            "true | -5 | 7 | 9007199254740993 | 1.5 | 0.1 | 19.99 | grüße \"é😀 | 00ff | \
             2026-11-21 | 14:05:09.250 | 2026-11-21T14:05:09 | 2026-11-21T13:05:09Z | \
             1 mons 2 days 3 hours 4 mins 5.000000000 secs | {\"a\": [1, 2.50, null]} | \
             [a, ∅, ] | {city: Ulm, zip: 89073} | [[1, 2], [], ∅, [3]]",
            "∅ | ∅ | ∅ | ∅ | ∅ | ∅ | ∅ | ∅ | ∅ | ∅ | ∅ | ∅ | ∅ | ∅ | ∅ | ∅ | ∅ | []",
            "∅ | ∅ | ∅ | ∅ | ∅ | ∅ | ∅ |  | ∅ | ∅ | ∅ | ∅ | ∅ | ∅ | ∅ | ∅ | \
             {city: Bonn, zip: ∅} | ∅",
        ]
    );
}

/// Values of one column, good ones as they are shown, bad ones with their reason.
fn check(column_type: ColumnType, cases: &[(&str, &str)]) {
    let schema = schema([("c", column_type.clone())]);
    for (value, expected) in cases {
        let text = format!("{{\"c\": {value}}}");
        let found = match json(&schema, &text) {
            Ok(batch) => show(&batch).join("\n"),
            Err(InvalidRows::Value { row: 0, column, reason }) => {
                assert!(column.starts_with('c'), "{column}");
                format!("{}: {reason}", &column[1..])
            }
            Err(other) => panic!("{column_type} {value}: {other}"),
        };
        assert_eq!(found.trim_start_matches(": "), *expected, "{column_type} from {value}");
    }
}

#[test]
fn numbers() {
    check(
        ColumnType::SmallInt,
        &[
            ("32767", "32767"),
            ("-32768", "-32768"),
            ("5.0", "5"),
            ("\"12\"", "12"),
            ("32768", "32768 is out of range for SMALLINT"),
            ("5.5", "5.5 has more digits after the point than SMALLINT keeps"),
            ("true", "true is a boolean, the column is not"),
            ("\"x\"", "\"x\" cannot be read as SMALLINT"),
            ("[1]", "expected a single value, found [1]"),
        ],
    );
    check(
        ColumnType::BigInt,
        &[
            ("9223372036854775807", "9223372036854775807"),
            ("9223372036854775808", "9223372036854775808 is out of range for BIGINT"),
            ("1e3", "1000"),
        ],
    );
    check(
        ColumnType::Double,
        &[
            ("1", "1.0"),
            ("-2.5e-3", "-0.0025"),
            ("\"NaN\"", "NaN"),
            ("\"Infinity\"", "inf"),
            ("1e400", "1e400 is out of range for DOUBLE PRECISION"),
        ],
    );
    check(
        ColumnType::Numeric { precision: 6, scale: 2 },
        &[
            ("1234.56", "1234.56"),
            ("\"0.10\"", "0.10"),
            ("10000", "10000 is out of range for NUMERIC(6, 2)"),
            ("0.001", "0.001 has more digits after the point than NUMERIC(6, 2) keeps"),
        ],
    );
}

#[test]
fn texts_and_times() {
    check(
        ColumnType::Text,
        &[
            (r#""a\tb\n\/\\""#, "a\tb\n/\\"),
            ("1", "1 is a number, the column is TEXT"),
            ("false", "false is a boolean, the column is not"),
        ],
    );
    check(
        ColumnType::Bytes,
        &[
            (r#""\\x616263""#, "616263"),
            ("\"abc\"", "\"abc\" cannot be read as BYTEA (\\x and hex)"),
        ],
    );
    check(
        ColumnType::TimestampTz,
        &[
            ("\"2026-11-21 14:05:09+02\"", "2026-11-21T12:05:09Z"),
            ("1000000", "1970-01-01T00:00:01Z"),
            ("\"yesterday\"", "\"yesterday\" cannot be read as TIMESTAMP"),
        ],
    );
    check(
        ColumnType::Date,
        &[
            ("\"2026-02-30\"", "\"2026-02-30\" cannot be read as DATE"),
            ("\"2024-02-29\"", "2024-02-29"),
        ],
    );
}

#[test]
fn nested_values() {
    check(
        list(ColumnType::Integer),
        &[
            ("[]", "[]"),
            ("[1, null, 2]", "[1, ∅, 2]"),
            ("[1, \"x\"]", "[1]: \"x\" cannot be read as INTEGER"),
            ("{}", "expected an array, found {}"),
        ],
    );
    check(
        ColumnType::Json,
        &[
            ("\"text\"", "\"text\""),
            ("[1,  {\"a\": null}]", "[1,  {\"a\": null}]"),
            ("1.500", "1.500"),
            ("null", "∅"),
        ],
    );
}

#[test]
fn a_refusal_names_row_and_column() {
    let schema = schema([
        ("id!", ColumnType::BigInt),
        ("Name", ColumnType::Text),
        ("tags", list(ColumnType::SmallInt)),
    ]);
    let good = "{\"id\": 1}\n{\"id\": 2}\n{\"id\": 3}\n";
    let cases = [
        ("{\"id\": \"x\"}", "row 3, column \"id\": \"x\" cannot be read as BIGINT"),
        ("{\"id\": null}", "row 3, column \"id\": null in a column that is NOT NULL"),
        ("{\"name\": \"x\"}", "row 3, column \"id\": null in a column that is NOT NULL"),
        ("{\"id\": 4, \"nmae\": 1}", "row 3: there is no column \"nmae\"; did you mean \"Name\"?"),
        ("{\"id\": 4, \"qqqq\": 1}", "row 3: there is no column \"qqqq\""),
        ("{\"id\": 4, \"id\": 4}", "row 3: column \"id\" is given twice"),
        ("{\"id\": 4, \"ID\": 4}", "row 3: column \"id\" is given twice"),
        (
            "{\"id\": 4, \"tags\": [0, 99999]}",
            "row 3, column \"tags[1]\": 99999 is out of range for SMALLINT",
        ),
        ("{\"id\": 4", "row 3: expected '}', found the end of the text"),
        ("{\"id\" 4}", "row 3: expected ':', found \"4}\""),
        ("{\"id\": 4,}", "row 3: expected '\"', found \"}\""),
        ("[1]", "row 3: expected '{', found \"[1]\""),
        ("{\"id\": 4} x", "row 4: expected '{', found \"x\""),
        ("{\"id\": 04}", "row 3: expected '}', found \"4}\""),
        ("{\"id\": -}", "row 3, column \"id\": expected a digit, found \"}\""),
        ("{\"Name\": \"a\nb\"}", "row 3, column \"Name\": a control character in a string"),
        ("{\"Name\": \"\\ud800\"}", "row 3, column \"Name\": half of a surrogate pair"),
        ("{\"Name\": \"\\q\"}", "row 3, column \"Name\": an escape that JSON does not have"),
        ("{\"Name\": \"a", "row 3, column \"Name\": a string without an end"),
    ];
    for (bad, expected) in cases {
        let refused = json(&schema, &format!("{good}{bad}")).expect_err(bad);
        assert_eq!(refused.to_string(), expected, "{bad}");
    }
}

#[test]
fn keys_may_come_in_any_order_and_case() {
    let schema = schema([("a", ColumnType::Integer), ("B", ColumnType::Integer)]);
    let text = "{\"a\":1,\"B\":2}{\"b\":3,\"a\":4} {\"\\u0061\":5}\n\n\r\n{}";
    let batch = json(&schema, text).expect("good rows");
    assert_eq!(show(&batch), ["1 | 2", "4 | 3", "5 | ∅", "∅ | ∅"]);
}

#[test]
fn no_rows_are_a_batch() {
    for text in ["", " \n\n"] {
        assert_eq!(json(&every_type(), text).expect("no rows").num_rows(), 0);
    }
}

#[test]
fn bad_utf8_names_its_row() {
    let schema = schema([("a", ColumnType::Text)]);
    let bytes = b"{\"a\": \"x\"}\n{\"a\": \"\xff\"}";
    let refused = decode_json(&schema, &log_of(&schema), bytes).expect_err("not UTF-8");
    assert_eq!(refused.to_string(), "row 1: the text is not UTF-8");
}

#[test]
fn limits() {
    let schema = schema([("a", ColumnType::Integer)]);
    let long = vec![b' '; BATCH_BYTES_MAX + 1];
    let refused = decode_json(&schema, &log_of(&schema), &long).expect_err("too long");
    assert_eq!(refused, InvalidRows::TooManyBytes { bytes: BATCH_BYTES_MAX + 1 });

    let many = "{}".repeat(1_000_001);
    let refused = json(&schema, &many).expect_err("too many");
    assert_eq!(refused, InvalidRows::TooManyEvents { count: 1_000_001 });

    let json_column = super::schema([("a", ColumnType::Json)]);
    let deep = format!("{{\"a\": {}1{}}}", "[".repeat(500), "]".repeat(500));
    let refused = json(&json_column, &deep).expect_err("too deep").to_string();
    assert_eq!(refused, "row 0, column \"a\": a value nests more than 128 deep");
}
