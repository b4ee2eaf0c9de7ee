"""The SQL corpus and the examples' questions over the PostgreSQL protocol and Arrow Flight SQL.

Usage: corpus.py PG HTTP FLIGHT, each HOST:PORT of one node without streams. Loads all examples, each
kind of file through another door, then compares every answer with the stored ones, which are
DuckDB's. Exits with 0 when all are equal.
"""

import datetime
import decimal
import gzip
import math
import pathlib
import re
import sys
import tomllib
import urllib.request

import adbc_driver_flightsql.dbapi as dbapi
import psycopg
import pyarrow
import pyarrow.parquet

PG, HTTP, FLIGHT = sys.argv[1:4]
ROOT = pathlib.Path(__file__).resolve().parents[3]
CORPUS = ROOT / "node/crates/query/slt"
EXAMPLES = ROOT / "examples"

# Lines of one request over HTTP.
LINES = 20_000


def load(pg, flight):
    for config in sorted(EXAMPLES.glob("*/example.toml")):
        text = re.sub(r"--[^\n]*", "", (config.parent / "streams.sql").read_text())
        for statement in filter(str.strip, text.split(";")):
            pg.execute(statement)
        for feed in tomllib.loads(config.read_text())["feed"]:
            path, stream = config.parent / feed["file"], feed["stream"]
            if path.suffix == ".parquet":
                table = pyarrow.parquet.read_table(path)
                with flight.cursor() as cur:
                    count = cur.adbc_ingest(stream, table, mode="append")
                assert count == table.num_rows, (stream, count)
            elif ".csv" in path.suffixes:
                text = gzip.open(path).read()
                names = text.split(b"\n")[0].decode().strip()
                copy_into = f"COPY {stream} ({names}) FROM STDIN (FORMAT csv, HEADER)"
                with pg.cursor() as cur, cur.copy(copy_into) as copy:
                    copy.write(text)
            else:
                lines = gzip.open(path).read().splitlines(keepends=True)
                for sequence, first in enumerate(range(0, len(lines), LINES)):
                    events(stream, b"".join(lines[first : first + LINES]), sequence)
                    # Sent twice, there once.
                    events(stream, b"".join(lines[first : first + LINES]), sequence)
            print(f"   {stream} is loaded", flush=True)


def events(stream, body, sequence):
    headers = {
        "content-type": "application/x-ndjson",
        "alluvium-producer": "corpus",
        "alluvium-sequence": str(sequence),
    }
    url = f"http://{HTTP}/v1/streams/{stream}/events"
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as response:
        assert response.status == 200


def number(value):
    if math.isnan(value) or math.isinf(value):
        return {"nan": "NaN"}.get(str(value), str(value))
    text = format(decimal.Decimal(repr(value)), "f").removesuffix(".0")
    return "0" if text == "-0" else text


def show(value):
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


def microseconds(table):
    """Times with nanoseconds have no Python value."""
    fields = []
    for field in table.schema:
        if pyarrow.types.is_timestamp(field.type):
            field = field.with_type(pyarrow.timestamp("us", field.type.tz))
        fields.append(field)
    return table.cast(pyarrow.schema(fields), safe=False)


def doors(pg, flight):
    def ask_pg(sql, binary):
        with pg.cursor(binary=binary) as cur:
            cur.execute(sql)
            names = [column.name for column in cur.description]
            return names, cur.fetchall()

    def ask_flight(sql):
        with flight.cursor() as cur:
            cur.execute(sql)
            table = microseconds(cur.fetch_arrow_table())
            columns = [column.to_pylist() for column in table.columns]
            return table.column_names, list(zip(*columns))

    return {
        "postgres, text": lambda sql: ask_pg(sql, False),
        "postgres, binary": lambda sql: ask_pg(sql, True),
        "flight": ask_flight,
    }


def records():
    """Where, the statement, whether rows are sorted first, and the wanted lines."""
    for path in sorted(CORPUS.glob("*.slt")):
        for record in re.split(r"\n\n+", path.read_text().strip()):
            lines = record.split("\n")
            if lines[0] == "statement ok":
                yield path.name, "\n".join(lines[1:]), False, None
            if not lines[0].startswith("query "):
                continue
            is_sorted = lines[0].endswith("rowsort")
            end = lines.index("----")
            sql = "\n".join(line for line in lines[1:end] if not line.startswith("-- duckdb:"))
            yield path.name, sql, is_sorted, lines[end + 1 :]
    for path in sorted(EXAMPLES.glob("*/questions.sql")):
        answers = path.with_name("answers.txt").read_text().strip().split("\n\n")
        questions = [text for text in path.read_text().split(";\n") if text.strip()]
        for question, answer in zip(questions, answers, strict=True):
            lines = answer.split("\n")
            skipped = sum(line.startswith("--") for line in lines)
            yield path.parent.name, question, False, lines[skipped + 1 :]


def main():
    host, port = PG.rsplit(":", 1)
    pg = psycopg.connect(host=host, port=port, user="corpus", autocommit=True)
    flight = dbapi.connect(f"grpc://{FLIGHT}", autocommit=True)
    load(pg, flight)
    differences, count = [], 0
    for where, sql, is_sorted, wanted in records():
        if wanted is None:
            pg.execute(sql)
            continue
        for door, ask in doors(pg, flight).items():
            count += 1
            try:
                _, rows = ask(sql)
                found = [[show(value) for value in row] for row in rows]
                if is_sorted:
                    found.sort(key=lambda row: [value.encode() for value in row])
                found = ["|".join(row) for row in found]
            except Exception as error:  # any failure is a difference
                found = [f"failed: {error}"]
            if found != wanted:
                differences.append((where, door, sql, wanted[:3], found[:3]))
    for where, door, sql, wanted, found in differences:
        print(f"{where}, {door}:\n{sql}\n  wanted {wanted}\n  found  {found}")
    print(f"{count} answers, {len(differences)} different")
    sys.exit(1 if differences else 0)


main()
