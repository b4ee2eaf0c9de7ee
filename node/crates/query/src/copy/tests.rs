//! Rows of each form, in pieces of every size; and what is wrong with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::engine::Engine;
use crate::host::{Catalogue, Freshness};
use crate::session::EngineOptions;
use crate::testing::MemHost;

use super::*;

fn catalogue() -> (tempfile::TempDir, Catalogue) {
    let dir = tempfile::tempdir().unwrap();
    let host: Arc<MemHost> = Arc::new(MemHost::new(dir.path()));
    let engine = Engine::new(host.clone(), EngineOptions::new(dir.path())).unwrap();
    let create = "CREATE STREAM t (a BIGINT, b TEXT, c DOUBLE)";
    futures::executor::block_on(engine.run(create, Freshness::default())).unwrap();
    let catalogue: BTreeMap<_, _> = engine.host().catalogue().as_ref().clone();
    (dir, Arc::new(catalogue))
}

/// Reads `input` in pieces of each size, and gives the rows: values between bars, null as ∅.
fn read(sql: &str, input: &[u8]) -> Result<String, SqlError> {
    let (_dir, catalogue) = catalogue();
    let copy = CopyIn::parse(sql, &catalogue, &|_| Ok(()))?;
    let mut texts = Vec::new();
    for size in [1, 2, 3, 7, input.len().max(1)] {
        let mut rows = CopyRows::new(copy.clone());
        let mut batches = Vec::new();
        for piece in input.chunks(size) {
            batches.extend(rows.push(piece)?);
        }
        batches.extend(rows.finish()?);
        texts.push(batches.iter().map(shown).collect::<String>());
    }
    assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "pieces matter: {texts:?}");
    Ok(texts.pop().unwrap())
}

fn shown(batch: &RecordBatch) -> String {
    let options = FormatOptions::new().with_null("∅");
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
        .collect();
    let row = |row: usize| {
        let values: Vec<_> = columns.iter().map(|column| column.value(row).to_string()).collect();
        values.join("|") + "\n"
    };
    (0..batch.num_rows()).map(row).collect()
}

#[test]
fn csv_with_quotes_and_nulls() {
    let input = b"a,b,c\r\n1,\"x, \"\"y\"\"\n\",2.5\r\n2,,\n3,\"\",-1e3";
    let rows = read("COPY t FROM STDIN WITH (FORMAT csv, HEADER)", input).unwrap();
    assert_eq!(rows, "1|x, \"y\"\n|2.5\n2|∅|∅\n3||-1000.0\n");
}

#[test]
fn text_with_escapes() {
    let input = b"1\tx\\ty\\\\\\x41\\101\t\\N\n\\N\t\\N\t2\n\\.\nnever read";
    let rows = read("COPY t FROM STDIN", input).unwrap();
    assert_eq!(rows, "1|x\ty\\AA|∅\n∅|∅|2.0\n");
}

#[test]
fn columns_may_be_named() {
    let rows = read("copy public.t (c, a) from stdin csv delimiter ';'", b"2.5;1\n").unwrap();
    assert_eq!(rows, "1|∅|2.5\n");
}

#[test]
fn the_binary_form() {
    let mut input = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    input.extend([0, 2, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 2, b'h', b'i']);
    input.extend([0, 2, 255, 255, 255, 255, 0, 0, 0, 0, 255, 255]);
    let rows = read("COPY t (a, b) FROM STDIN WITH (FORMAT binary)", &input).unwrap();
    assert_eq!(rows, "7|hi|∅\n∅||∅\n");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let csv = "COPY t FROM STDIN CSV";
    let message = |sql: &str, input: &[u8]| read(sql, input).unwrap_err().to_string();
    assert_eq!(message(csv, b"1,2\n"), "COPY, line 1: a row has 2 values, 3 are wanted");
    assert_eq!(message(csv, b"1,x,2\n1,\"x,2"), "COPY, line 2: a quote is not closed");
    assert!(message(csv, b"q,x,2\n").contains("column \"a\""), "{}", message(csv, b"q,x,2\n"));
    assert!(message("COPY t FROM '/etc/passwd'", b"").contains("FROM STDIN"));
    assert!(message("COPY t TO STDOUT", b"").contains("COPY … TO"));
    assert!(message("COPY nowhere FROM STDIN", b"").contains("does not exist"));
}
