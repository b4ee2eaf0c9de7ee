"""Asks DuckDB, driven over stdin and stdout: {"sql": …} in, one JSON line out.

query_worker.py parquet|tables EVENTS.parquet HOSTS.parquet STATE_DIR

With `parquet` the events are read from the file at every question; with `tables` they are loaded into
DuckDB's own storage first. The clock covers execution and the answer as an Arrow table; turning it into
JSON is outside.
"""
import datetime
import decimal
import json
import os
import resource
import sys
import time

import duckdb

MODE, EVENTS, HOSTS, STATE = sys.argv[1:5]


def connect():
    os.makedirs(STATE, exist_ok=True)
    connection = duckdb.connect(os.path.join(STATE, "peer.duckdb") if MODE == "tables" else ":memory:")
    connection.execute(f"SET threads = {os.cpu_count()}")
    kind = "TABLE" if MODE == "tables" else "VIEW"
    connection.execute(f"CREATE {kind} events AS SELECT * FROM read_parquet('{EVENTS}')")
    connection.execute(f"CREATE TABLE hosts AS SELECT * FROM read_parquet('{HOSTS}')")
    if MODE == "tables":
        connection.execute("CHECKPOINT")
    return connection


def cell(value):
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ")[:19]
    return value


def ask(connection, sql):
    used = resource.getrusage(resource.RUSAGE_SELF)
    begun = time.perf_counter()
    table = connection.sql(sql).to_arrow_table()
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    columns = [column.to_pylist() for column in table.columns]
    rows = [[cell(value) for value in row] for row in zip(*columns)]
    return {"seconds": seconds, "cpu_seconds": cpu, "rows": rows}


def main():
    connection = connect()
    print(json.dumps({"ready": f"DuckDB {duckdb.__version__}, {MODE}"}), flush=True)
    for line in sys.stdin:
        try:
            answer = ask(connection, json.loads(line)["sql"])
        except Exception as error:  # whatever a peer raises is an answer for the table
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), flush=True)
    os._exit(0)


main()
