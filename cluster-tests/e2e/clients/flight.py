"""Arrow Flight SQL through the ADBC driver, and Flight itself through pyarrow.

Usage: flight.py HOST:PORT. Exits with 0 when everything is as it should be.
"""

import sys

import adbc_driver_flightsql.dbapi as dbapi
import pyarrow
import pyarrow.flight

URI = f"grpc://{sys.argv[1]}"


def section(name):
    print(f"-- {name}", flush=True)


def statements(conn):
    section("statements")
    with conn.cursor() as cur:
        cur.execute(
            "CREATE STREAM clients_flight (id BIGINT NOT NULL, name TEXT, price NUMERIC(10, 2), "
            "at TIMESTAMP) PARTITION BY (id) WITH (partitions = 2)"
        )
        cur.fetchall()
        cur.execute("INSERT INTO clients_flight (id, name) VALUES (1, 'one'), (2, NULL)")
        cur.fetchall()
        cur.execute("SELECT id, name FROM clients_flight ORDER BY id")
        assert cur.fetch_arrow_table().to_pylist() == [
            {"id": 1, "name": "one"},
            {"id": 2, "name": None},
        ]
        try:
            cur.execute("SELECT * FROM nowhere")
            cur.fetchall()
            raise AssertionError("no error")
        except dbapi.Error as error:
            assert "does not exist" in str(error), error


def prepared(conn):
    section("prepared statements with parameters")
    with conn.cursor() as cur:
        cur.execute("SELECT name FROM clients_flight WHERE id = $1", (1,))
        assert cur.fetchall() == [("one",)]
        cur.execute("SELECT count(*) FROM clients_flight WHERE name = $1 OR id = $2", ("one", 2))
        assert cur.fetchall() == [(2,)]


def ingest(conn):
    section("ingest")
    ids = list(range(1_000, 151_000))
    table = pyarrow.table({"id": ids, "name": [f"n{number}" for number in ids]})
    with conn.cursor() as cur:
        assert cur.adbc_ingest("clients_flight", table, mode="append") == len(ids)
        cur.execute("SELECT count(*), min(name) FROM clients_flight WHERE id >= 1000")
        assert cur.fetchall() == [(len(ids), "n1000")]
        cur.execute("SELECT id, name FROM clients_flight WHERE id >= 1000 ORDER BY id")
        found = cur.fetch_arrow_table()
        assert found.column("id") == table.column("id"), found.schema
        assert found.column("name") == table.column("name"), found.schema
        try:
            cur.adbc_ingest("clients_flight", pyarrow.table({"nothing": [1]}), mode="append")
            raise AssertionError("no error")
        except dbapi.Error as error:
            assert "nothing" in str(error), error


def metadata(conn):
    section("what there is")
    objects = conn.adbc_get_objects(depth="columns").read_all().to_pylist()
    assert [one["catalog_name"] for one in objects] == ["alluvium"], objects
    schemas = {one["db_schema_name"]: one for one in objects[0]["catalog_db_schemas"]}
    tables = {one["table_name"]: one for one in schemas["public"]["db_schema_tables"]}
    columns = [one["column_name"] for one in tables["clients_flight"]["table_columns"]]
    assert columns == ["id", "name", "price", "at"], columns
    assert "TABLE" in conn.adbc_get_table_types()
    assert conn.adbc_get_info()["vendor_name"] == "Alluvium", conn.adbc_get_info()
    schema = conn.adbc_get_table_schema("clients_flight")
    assert schema.field("price").type == pyarrow.decimal128(10, 2), schema


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out + bytes([number]))


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def exactly_once():
    section("the same rows twice, once in the stream")
    options = {"producer": "clients-flight", "sequence": "0"}
    entries = b"".join(
        field(1000, field(1, name.encode()) + field(2, value.encode()))
        for name, value in options.items()
    )
    command = field(2, b"clients_flight") + entries
    name = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementIngest"
    descriptor = pyarrow.flight.FlightDescriptor.for_command(field(1, name) + field(2, command))
    client = pyarrow.flight.connect(URI)
    table = pyarrow.table({"id": [500, 501, 502]})
    for _ in range(2):
        writer, reader = client.do_put(descriptor, table.schema)
        writer.write_table(table)
        writer.done_writing()
        assert reader.read() is not None
        writer.close()
    with dbapi.connect(URI) as conn, conn.cursor() as cur:
        cur.execute("SELECT count(*) FROM clients_flight WHERE id BETWEEN 500 AND 502")
        assert cur.fetchall() == [(3,)]


def main():
    with dbapi.connect(URI, autocommit=True) as conn:
        statements(conn)
        prepared(conn)
        ingest(conn)
        metadata(conn)
        exactly_once()
        with conn.cursor() as cur:
            cur.execute("DROP STREAM clients_flight")
            cur.fetchall()
    print("ok")


main()
