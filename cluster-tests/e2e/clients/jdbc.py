"""The PostgreSQL protocol through the JDBC driver, in a Java machine that JPype starts.

Usage: jdbc.py HOST:PORT JAR. Exits with 0 when everything is as it should be.
"""

import sys

import jpype
import jpype.imports

jpype.startJVM(classpath=[sys.argv[2]])
import java.lang  # noqa: E402  (there once the machine runs)
import java.sql  # noqa: E402

URL = f"jdbc:postgresql://{sys.argv[1]}/alluvium?user=test"


def section(name):
    print(f"-- {name}", flush=True)


def rows(answer, *names):
    found = []
    while answer.next():
        values = [answer.getObject(name) for name in names]
        found.append(tuple(None if value is None else str(value) for value in values))
    return found


def statements(conn):
    section("statements, prepared ones often enough to be asked in binary")
    run = conn.createStatement()
    run.execute(
        "CREATE STREAM clients_jdbc (id BIGINT NOT NULL, ratio DOUBLE, price NUMERIC(10, 2), "
        "name TEXT, at TIMESTAMP, ok BOOLEAN) PARTITION BY (id) WITH (partitions = 2)"
    )
    insert = conn.prepareStatement(
        "INSERT INTO clients_jdbc (id, ratio, price, name, at, ok) VALUES (?, ?, ?, ?, ?, ?)"
    )
    for number in range(12):
        insert.setLong(1, number)
        insert.setDouble(2, number / 8)
        insert.setBigDecimal(3, java.math.BigDecimal("35.95"))
        insert.setString(4, f"name '{number}'")
        insert.setTimestamp(5, java.sql.Timestamp.valueOf("2024-02-29 23:59:59.5"))
        insert.setBoolean(6, number % 2 == 0)
        assert insert.executeUpdate() == 1
    query = conn.prepareStatement("SELECT * FROM clients_jdbc WHERE id = ?")
    for number in range(12):
        query.setLong(1, number)
        found = rows(query.executeQuery(), "id", "ratio", "price", "name", "at", "ok")
        wanted = (str(number), str(number / 8), "35.95", f"name '{number}'",
                  "2024-02-29 23:59:59.5", "true" if number % 2 == 0 else "false")
        assert [tuple(value.lower() for value in row) for row in found] == [wanted], found


def fetching(conn):
    section("a few rows at a time")
    conn.setAutoCommit(False)
    run = conn.createStatement()
    run.setFetchSize(5)
    found = rows(run.executeQuery("SELECT id FROM clients_jdbc ORDER BY id"), "id")
    assert [row[0] for row in found] == [str(number) for number in range(12)], found
    conn.commit()
    conn.setAutoCommit(True)


def metadata(conn):
    section("what there is")
    about = conn.getMetaData()
    assert str(about.getDatabaseProductName()) == "PostgreSQL"
    schemas = [row[0] for row in rows(about.getSchemas(), "TABLE_SCHEM")]
    assert "public" in schemas, schemas
    tables = rows(about.getTables(None, "public", "%", None), "TABLE_NAME", "TABLE_TYPE")
    assert ("clients_jdbc", "TABLE") in tables, tables
    columns = rows(about.getColumns(None, "public", "clients_jdbc", "%"),
                   "COLUMN_NAME", "TYPE_NAME", "IS_NULLABLE", "DECIMAL_DIGITS")
    assert columns[0][:3] == ("id", "int8", "NO"), columns
    assert columns[2] == ("price", "numeric", "YES", "2"), columns
    assert rows(about.getPrimaryKeys(None, "public", "clients_jdbc"), "COLUMN_NAME") == []
    assert rows(about.getIndexInfo(None, "public", "clients_jdbc", False, True), "INDEX_NAME") == []
    assert rows(about.getImportedKeys(None, "public", "clients_jdbc"), "FK_NAME") == []
    assert rows(about.getTableTypes(), "TABLE_TYPE")


def main():
    conn = java.sql.DriverManager.getConnection(URL)
    statements(conn)
    fetching(conn)
    metadata(conn)
    conn.createStatement().execute("DROP STREAM clients_jdbc")
    conn.close()
    print("ok")


main()
