"""The PostgreSQL protocol through psycopg 3, SQLAlchemy and pandas.

Usage: postgres.py HOST:PORT. Exits with 0 when everything is as it should be. Makes streams of its
own; what it inserts it reads back.
"""

import datetime
import decimal
import sys
import threading
import time

import pandas
import psycopg
import sqlalchemy

HOST, PORT = sys.argv[1].rsplit(":", 1)
DSN = f"host={HOST} port={PORT} user=test dbname=alluvium"

CREATE = """CREATE STREAM clients_pg (id BIGINT NOT NULL, small SMALLINT, ok BOOLEAN, ratio DOUBLE,
    price NUMERIC(10, 2), name TEXT, day DATE, at TIMESTAMP, seen TIMESTAMPTZ, raw BYTEA,
    tags TEXT[], note JSON) PARTITION BY (id) WITH (partitions = 2)"""

ROW = (
    1,
    -2,
    True,
    2.5,
    decimal.Decimal("35.95"),
    "it's \"one\"; --",
    datetime.date(2024, 2, 29),
    datetime.datetime(2024, 2, 29, 23, 59, 59, 123456),
    datetime.datetime(2024, 3, 1, 0, 0, tzinfo=datetime.timezone.utc),
    b"\x00\xff",
    ["a", None, "b,c"],
)


def section(name):
    print(f"-- {name}", flush=True)


def fails(state, run):
    try:
        run()
    except psycopg.Error as error:
        assert error.sqlstate == state, (error.sqlstate, state, str(error))
        return error
    raise AssertionError(f"no error {state}")


def values_and_types(conn):
    section("values of every type, text and binary")
    columns = "id, small, ok, ratio, price, name, day, at, seen, raw, tags"
    marks = ", ".join(["%s"] * len(ROW))
    with conn.cursor() as cur:
        cur.execute(f"INSERT INTO clients_pg ({columns}) VALUES ({marks})", ROW)
        assert cur.rowcount == 1, cur.rowcount
        cur.execute(f"INSERT INTO clients_pg ({columns}) VALUES ({marks})", (2,) + (None,) * 10)
    for binary in (False, True):
        with conn.cursor(binary=binary) as cur:
            rows = cur.execute(f"SELECT {columns} FROM clients_pg WHERE id < 10 ORDER BY id")
            first, second = rows.fetchall()
            assert first == ROW, (binary, first)
            assert second == (2,) + (None,) * 10, (binary, second)


def parameters(conn):
    section("parameters")
    one = conn.execute("SELECT name FROM clients_pg WHERE id = %s", (1,)).fetchone()
    assert one == (ROW[5],), one
    one = conn.execute("SELECT count(*) FROM clients_pg WHERE name = %s", (ROW[5],)).fetchone()
    assert one == (1,), one
    one = conn.execute("SELECT count(*) FROM clients_pg WHERE id = ANY(%s)", ([1, 2, 7],))
    assert one.fetchone() == (2,)
    one = conn.execute("SELECT %s::bigint + 1, %s::text, %s::date", (41, "x", ROW[6])).fetchone()
    assert one == (42, "x", ROW[6]), one
    rows = conn.execute("SELECT id FROM clients_pg WHERE at > %s LIMIT %s", (ROW[6], 5)).fetchall()
    assert rows == [(1,)], rows
    # Prepared once, asked often.
    for number in range(20):
        one = conn.execute("SELECT %s::int * 2", (number,), prepare=True).fetchone()
        assert one == (2 * number,), one


def errors(conn):
    section("errors say what and where")
    error = fails("42P01", lambda: conn.execute("SELECT * FROM nowhere_at_all"))
    assert error.diag.statement_position == "15", error.diag.statement_position
    error = fails("42703", lambda: conn.execute("SELECT nmae FROM clients_pg"))
    assert error.diag.statement_position == "8", error.diag.statement_position
    fails("42601", lambda: conn.execute("SELECT 1 +"))
    fails("0A000", lambda: conn.execute("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc'"))
    fails("0A000", lambda: conn.execute("COPY clients_pg FROM '/etc/passwd'"))
    fails("0A000", lambda: conn.execute("COPY clients_pg TO '/tmp/x'"))
    fails("42704", lambda: conn.execute("SET datafusion.runtime.memory_limit = '1T'"))
    fails("42P07", lambda: conn.execute(CREATE))
    assert conn.execute("SELECT 1").fetchone() == (1,)


def transactions():
    section("transactions are accepted, and say that they are none")
    notices = []
    with psycopg.connect(DSN) as conn:
        conn.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        conn.execute("SELECT 1")
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        fails("42P01", lambda: conn.execute("SELECT * FROM nowhere"))
        fails("25P02", lambda: conn.execute("SELECT 1"))
        conn.rollback()
        assert conn.execute("SELECT 2").fetchone() == (2,)
    assert any("stands for itself" in notice for notice in notices), notices


def copying(conn):
    section("COPY: text, CSV and binary")
    with conn.cursor() as cur:
        with cur.copy("COPY clients_pg (id, name, price) FROM STDIN") as copy:
            for number in range(100, 5_100):
                copy.write_row((number, f"tab\t{number}", decimal.Decimal(number) / 100))
        assert cur.rowcount == 5_000, cur.rowcount
        with cur.copy("COPY clients_pg (id, name) FROM STDIN (FORMAT csv, HEADER)") as copy:
            copy.write("id,name\n10000,\"a, \"\"b\"\"\"\n10001,\n")
        with cur.copy("COPY clients_pg (id, ratio, at) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int8", "float8", "timestamp"])
            copy.write_row((20_000, 0.125, ROW[7]))
        rows = cur.execute(
            "SELECT count(*), sum(price), min(name) FROM clients_pg WHERE id BETWEEN 100 AND 5099"
        ).fetchall()
        assert rows == [(5_000, decimal.Decimal("129975.00"), "tab\t100")], rows
        rows = cur.execute("SELECT name FROM clients_pg WHERE id >= 10000 ORDER BY id").fetchall()
        assert rows == [('a, "b"',), (None,), (None,)], rows
        rows = cur.execute("SELECT ratio, at FROM clients_pg WHERE id = 20000").fetchall()
        assert rows == [(0.125, ROW[7])], rows

        def bad():
            with cur.copy("COPY clients_pg (id) FROM STDIN") as copy:
                copy.write("1\nnone\n")

        fails("22023", bad)
    assert conn.execute("SELECT 3").fetchone() == (3,)


def cancelling(conn):
    section("a long statement is cancelled")
    long = "SELECT count(*) FROM clients_pg a, clients_pg b, clients_pg c WHERE a.id + b.id < c.id"
    timer = threading.Timer(0.5, conn.cancel)
    timer.start()
    begun = time.monotonic()
    fails("57014", lambda: conn.execute(long))
    assert time.monotonic() - begun < 20
    timer.join()
    conn.execute("SET statement_timeout = 300")
    fails("57014", lambda: conn.execute(long))
    conn.execute("RESET statement_timeout")
    assert conn.execute("SELECT 4").fetchone() == (4,)


def portals():
    section("a few rows at a time")
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://test@{HOST}:{PORT}/alluvium")
    with engine.connect() as conn:
        rows = conn.execute(sqlalchemy.text("SELECT id FROM clients_pg ORDER BY id")).fetchmany(3)
        assert [row[0] for row in rows] == [1, 2, 100], rows
    return engine


def reflection(engine):
    section("SQLAlchemy looks at what there is")
    inspector = sqlalchemy.inspect(engine)
    assert "public" in inspector.get_schema_names(), inspector.get_schema_names()
    assert "clients_pg" in inspector.get_table_names(), inspector.get_table_names()
    assert "clients_pg_plain" in inspector.get_view_names(), inspector.get_view_names()
    names = inspector.get_materialized_view_names()
    assert "clients_pg_view" in names, names
    columns = {column["name"]: column for column in inspector.get_columns("clients_pg")}
    assert isinstance(columns["id"]["type"], sqlalchemy.BIGINT), columns["id"]
    assert columns["id"]["nullable"] is False
    assert str(columns["price"]["type"]) == "NUMERIC(10, 2)", columns["price"]
    assert isinstance(columns["tags"]["type"], sqlalchemy.ARRAY), columns["tags"]
    assert inspector.get_pk_constraint("clients_pg")["constrained_columns"] == []
    assert inspector.get_foreign_keys("clients_pg") == []
    assert inspector.get_indexes("clients_pg") == []
    table = sqlalchemy.Table("clients_pg", sqlalchemy.MetaData(), autoload_with=engine)
    with engine.connect() as conn:
        query = sqlalchemy.select(table.c.name).where(table.c.id == 1)
        assert conn.execute(query).scalar() == ROW[5]
        conn.execute(sqlalchemy.insert(table).values(id=30_000, name="inserted"))
        query = sqlalchemy.select(sqlalchemy.func.count()).where(table.c.id == 30_000)
        assert conn.execute(query).scalar() == 1


def data_frames(engine):
    section("pandas reads and writes")
    frame = pandas.read_sql("SELECT id, price FROM clients_pg WHERE id < 200 ORDER BY id", engine)
    assert list(frame["id"][:3]) == [1, 2, 100], frame.head()
    more = pandas.DataFrame({"id": [40_000, 40_001], "name": ["x", None]})
    more.to_sql("clients_pg", engine, if_exists="append", index=False)
    count = pandas.read_sql("SELECT count(*) AS n FROM clients_pg WHERE id >= 40000", engine)
    assert count["n"][0] == 2, count


def main():
    with psycopg.connect(DSN, autocommit=True) as conn:
        conn.execute(CREATE)
        conn.execute(
            "CREATE MATERIALIZED VIEW clients_pg_view AS "
            "SELECT small, count(*) AS n FROM clients_pg GROUP BY small"
        )
        conn.execute("CREATE VIEW clients_pg_plain AS SELECT id FROM clients_pg")
        values_and_types(conn)
        parameters(conn)
        errors(conn)
        copying(conn)
        cancelling(conn)
        rows = conn.execute("SHOW STREAMS").fetchall()
        assert any(row[0] == "clients_pg" for row in rows), rows
    transactions()
    engine = portals()
    reflection(engine)
    data_frames(engine)
    with psycopg.connect(DSN, autocommit=True) as conn:
        for statement in (
            "DROP VIEW clients_pg_plain",
            "DROP MATERIALIZED VIEW clients_pg_view",
            "DROP STREAM clients_pg",
        ):
            conn.execute(statement)
    print("ok")


main()
