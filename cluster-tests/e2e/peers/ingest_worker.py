"""Ingest into an embedded peer, driven over stdin and stdout: a line in, a JSON line out.

ingest_worker.py ENGINE EVENTS.arrow STATE_DIR BATCH_ROWS ROWS

ENGINE is duckdb or clickhouse (chdb). Each line of input asks for one run into a fresh table: rows are
given as Arrow batches of BATCH_ROWS, each committed by itself and synced before it counts. The answer
names rows, seconds, and the latency of a batch. Rows are read from the file before the clock starts.
"""
import json
import os
import shutil
import sys
import time

import pyarrow as pa

ENGINE, SOURCE, STATE = sys.argv[1:4]
BATCH_ROWS, ROWS = int(sys.argv[4]), int(sys.argv[5])


def batches():
    with pa.memory_map(SOURCE) as source:
        table = pa.ipc.open_file(source).read_all().slice(0, ROWS).combine_chunks()
    return [table.slice(first, BATCH_ROWS) for first in range(0, table.num_rows, BATCH_ROWS)]


class DuckDb:
    """Own tables in a file; every insert is a transaction, synced to the write-ahead log."""

    def __init__(self):
        import duckdb
        self.name = f"DuckDB {duckdb.__version__}, Arrow in process, 1 client"
        self.connection = duckdb.connect(os.path.join(STATE, "peer.duckdb"))

    def create(self):
        self.connection.execute("DROP TABLE IF EXISTS events")
        self.connection.execute(
            "CREATE TABLE events (ts TIMESTAMP, host VARCHAR, service VARCHAR, region VARCHAR, "
            "method VARCHAR, status SMALLINT, url VARCHAR, user_id BIGINT, latency_ms DOUBLE, bytes BIGINT)")

    def insert(self, batch):
        self.connection.register("batch", batch)
        self.connection.execute("INSERT INTO events SELECT * FROM batch")

    def count(self):
        return self.connection.execute("SELECT count(*) FROM events").fetchone()[0]


class ClickHouse:
    """A MergeTree that syncs every inserted part."""

    def __init__(self):
        import chdb
        from chdb import session
        self.name = f"ClickHouse (chdb {chdb.__version__}), Arrow in process, fsync_after_insert, 1 client"
        self.session = session.Session(os.path.join(STATE, "clickhouse"))
        self.session.query("CREATE DATABASE IF NOT EXISTS peer ENGINE = Atomic")

    def create(self):
        self.session.query("DROP TABLE IF EXISTS peer.events SYNC")
        self.session.query(
            "CREATE TABLE peer.events (ts DateTime64(6, 'UTC'), host LowCardinality(String), "
            "service LowCardinality(String), region LowCardinality(String), method LowCardinality(String), "
            "status Int16, url String, user_id Int64, latency_ms Float64, bytes Int64) ENGINE = MergeTree "
            "ORDER BY (toStartOfHour(ts), service, host) "
            "SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, default_compression_codec = 'LZ4'")

    def insert(self, batch):
        # The engine finds Arrow tables of the calling frame by name.
        self.session.query("INSERT INTO peer.events SELECT * FROM Python(batch)")

    def count(self):
        return int(str(self.session.query("SELECT count() FROM peer.events", "TSV")).strip())


def run(engine, prepared):
    engine.create()
    latencies = []
    begun = time.perf_counter()
    for batch in prepared:
        sent = time.perf_counter()
        engine.insert(batch)
        latencies.append(time.perf_counter() - sent)
    seconds = time.perf_counter() - begun
    latencies.sort()
    rows = sum(batch.num_rows for batch in prepared)
    if engine.count() != rows:
        raise RuntimeError(f"{rows} rows were sent, {engine.count()} are there")
    return {
        "what": f"{engine.name}, batches of {BATCH_ROWS}",
        "rows": rows,
        "seconds": seconds,
        "p50_ms": latencies[len(latencies) // 2] * 1e3,
        "p99_ms": latencies[int((len(latencies) - 1) * 0.99)] * 1e3,
    }


def main():
    os.makedirs(STATE, exist_ok=True)
    prepared = batches()
    engine = {"duckdb": DuckDb, "clickhouse": ClickHouse}[ENGINE]()
    print(json.dumps({"ready": engine.name}), flush=True)
    for _ in sys.stdin:
        try:
            answer = run(engine, prepared)
        except Exception as error:  # whatever a peer raises is an answer for the table
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), flush=True)
    shutil.rmtree(STATE, ignore_errors=True)
    # An embedded engine's threads may outlive the interpreter's own end.
    os._exit(0)


main()
