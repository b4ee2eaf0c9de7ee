#!/usr/bin/env python3
"""Writes or checks the expected results of the .slt files, and the answers of the examples, by asking
DuckDB the same questions over the same rows.

    python3 -m venv venv && venv/bin/pip install -r node/crates/query/slt/requirements.txt
    venv/bin/python node/crates/query/slt/duckdb.py --check    # exit code 1 on any difference
    venv/bin/python node/crates/query/slt/duckdb.py --write    # after changing a statement

A statement may carry DuckDB's spelling of itself in comment lines (`-- duckdb: SELECT …`), where the
dialects differ; what is asked must stay the same. Each statement runs twice, over the rows as fed and
over the rows in another order: a result that depends on the order of rows is an error of the statement.
"""

import argparse
import datetime
import decimal
import math
import pathlib
import re
import sys
import tomllib

# This script's own folder comes first there, and its own name is the package's.
sys.path.pop(0)

import duckdb  # noqa: E402  (after the line above)

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLES = HERE.parents[3] / "examples"
INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT",
            "UINTEGER", "UBIGINT", "UHUGEINT"}
DIALECT = """
    SET TimeZone = 'UTC';
    SET default_null_order = 'postgres';
    SET integer_division = true;
"""


def tables(example):
    """Name and DuckDB definition of each stream of an example."""
    text = re.sub(r"--[^\n]*", "", (example / "streams.sql").read_text())
    for statement in filter(str.strip, text.split(";")):
        match = re.match(r"\s*CREATE STREAM (\w+) \((.*?)\n\)[^)]*", statement, re.DOTALL)
        yield match[1], f"CREATE TABLE {match[1]} ({match[2]})"


def reader(connection, path, stream):
    """The table function that reads a file with the stream's types."""
    if path.suffix == ".parquet":
        return f"read_parquet('{path}')"
    described = connection.execute(f"DESCRIBE {stream}").fetchall()
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind, *_ in described)
    if ".csv" in path.suffixes:
        return f"read_csv('{path}', header = true, columns = {{{columns}}})"
    return f"read_json('{path}', format = 'newline_delimited', columns = {{{columns}}})"


def load(order=""):
    """A database that holds all examples; `order` is put behind each SELECT that fills it."""
    connection = duckdb.connect()
    connection.execute(DIALECT)
    for config in sorted(EXAMPLES.glob("*/example.toml")):
        for _, definition in tables(config.parent):
            connection.execute(definition)
        for feed in tomllib.loads(config.read_text())["feed"]:
            source = reader(connection, config.parent / feed["file"], feed["stream"])
            connection.execute(
                f"INSERT INTO {feed['stream']} BY NAME SELECT * FROM {source} AS fed {order}")
    return connection


def letter(kind):
    """The sqllogictest letter of a DuckDB type."""
    if kind in INTEGERS:
        return "I"
    return "R" if kind in ("FLOAT", "DOUBLE") or kind.startswith("DECIMAL") else "T"


def number(value):
    """A float as its shortest decimal digits, without exponent; whole ones without a point."""
    if math.isnan(value) or math.isinf(value):
        return {"nan": "NaN"}.get(str(value), str(value))
    text = format(decimal.Decimal(repr(value)), "f").removesuffix(".0")
    return "0" if text == "-0" else text


def show(value):
    """A value as the runner in tests/slt shows it."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return number(value)
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, list):
        return "[" + ", ".join(show(item) for item in value) + "]"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (datetime.datetime, datetime.time)):
        text, zone = str(value.replace(tzinfo=None)), "Z" if value.tzinfo else ""
        return (text.rstrip("0") if "." in text else text) + zone
    return str(value) or "(empty)"


def ask(connection, sql):
    """Column names, type letters and shown rows."""
    cursor = connection.execute(sql)
    names = [column[0] for column in cursor.description]
    letters = "".join(letter(str(column[1])) for column in cursor.description)
    return names, letters, [[show(value) for value in row] for row in cursor.fetchall()]


def spelling(lines):
    """What DuckDB is asked: its own spelling where the statement carries one."""
    own = [line.removeprefix("-- duckdb:") for line in lines if line.startswith("-- duckdb:")]
    return "\n".join(own or lines)


def answer(connections, lines, sort):
    """Type letters and result lines; fails if the order of rows shows in them."""
    results = []
    for connection in connections:
        names, letters, rows = ask(connection, spelling(lines))
        if sort == "rowsort":
            rows.sort(key=lambda row: [value.encode() for value in row])
        results.append((names, letters, ["|".join(row) for row in rows]))
    if results[0] != results[1]:
        raise ValueError("the result depends on the order of rows")
    return results[0]


def answered_query(connections, lines):
    """The lines of a query with type letters and results; a failure stands where the results would."""
    sort = (lines[0].split() + [""])[2]
    sql = lines[1:lines.index("----") if "----" in lines else len(lines)]
    try:
        _, letters, rows = answer(connections, sql, sort)
    except (duckdb.Error, ValueError) as error:
        letters, rows = "?", [f"failed: {error}".split("\n")[0]]
    return [f"query {letters} {sort}".rstrip()] + sql + ["----"] + rows


def answered_slt(connections, text):
    """The text of an .slt file with type letters and results as DuckDB gives them."""
    records = []
    for record in re.split(r"\n\n+", text.strip()):
        lines = record.split("\n")
        marks = [line for line in lines if line == "skipif alluvium"]
        lines = lines[len(marks):]
        if lines[0] == "statement ok":
            for connection in connections:
                connection.execute(spelling(lines[1:]))
        elif lines[0].startswith("query "):
            lines = answered_query(connections, lines)
        elif not all(line.startswith("#") for line in lines):
            raise ValueError(f"neither statement, query nor comment:\n{record}")
        records.append("\n".join(marks + lines))
    return "\n\n".join(records) + "\n"


def questions(text):
    """Comment and statement of each question."""
    for statement in filter(str.strip, text.split(";\n")):
        lines = statement.strip().split("\n")
        comment = [line for line in lines if line.startswith("--")]
        yield "\n".join(comment), [line for line in lines if not line.startswith("--")]


def answered_questions(connections, text):
    """The questions with column names and rows in place of the SQL."""
    answers = []
    for comment, lines in questions(text):
        names, _, rows = answer(connections, lines, "")
        answers.append("\n".join([comment, "|".join(names)] + rows))
    return "\n\n".join(answers) + "\n"


def main():
    """Goes through all files; reports those that differ, or rewrites them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--check", action="store_true")
    mode.add_argument("--write", action="store_true")
    parser.add_argument("file", nargs="*", type=pathlib.Path, help="only these .slt files")
    options = parser.parse_args()
    connections = [load(), load("ORDER BY hash(fed)")]
    wanted = []
    for path in options.file or sorted(HERE.glob("*.slt")):
        wanted.append((path, answered_slt(connections, path.read_text())))
    for path in sorted(EXAMPLES.glob("*/questions.sql")):
        wanted.append((path.with_name("answers.txt"),
                       answered_questions(connections, path.read_text())))
    different = [(path, text) for path, text in wanted
                 if not path.exists() or path.read_text() != text]
    for path, text in different:
        print("written:" if options.write else "differs from DuckDB:", path)
        if options.write:
            path.write_text(text)
    failures = [f"{path}: {line}" for path, text in wanted for line in text.split("\n")
                if line.startswith("failed: ")]
    for failure in failures:
        print(failure)
    count = sum(text.count("\n----") for _, text in wanted)
    print(f"{count} statements in {len(wanted)} files, {len(different)} of them different")
    sys.exit(1 if failures or different and options.check else 0)


if __name__ == "__main__":
    main()
