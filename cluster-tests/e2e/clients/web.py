"""HTTP with nothing but Python's own library, and an Arrow answer read by pyarrow.

Usage: web.py HOST:PORT. Exits with 0 when everything is as it should be.
"""

import json
import sys
import urllib.error
import urllib.request

import pyarrow.ipc

BASE = f"http://{sys.argv[1]}"
NDJSON = "application/x-ndjson"


def section(name):
    print(f"-- {name}", flush=True)


def post(path, body, **headers):
    headers.setdefault("content_type", "text/plain" if path == "/v1/sql" else NDJSON)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(BASE + path, body.encode(), headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def ask(sql, *parameters):
    body = json.dumps({"sql": sql, "parameters": list(parameters)})
    status, answer = post("/v1/sql", body, content_type="application/json")
    return status, json.loads(answer)


def answers():
    section("SQL in all forms")
    sql = "SELECT id, name FROM clients_http ORDER BY id"
    status, answer = post("/v1/sql", sql)
    answer = json.loads(answer)
    assert status == 200 and answer["row_count"] == 4, answer
    assert answer["columns"][0] == {"name": "id", "type": "BIGINT"}, answer
    assert answer["rows"][0] == {"id": 1, "name": "a"}, answer
    assert sum(answer["as_of"]["clients_http"].values()) == 4, answer
    _, lines = post("/v1/sql", sql, accept="application/x-ndjson")
    assert [json.loads(line)["id"] for line in lines.splitlines()] == [1, 2, 3, 4]
    _, text = post("/v1/sql", sql, accept="text/csv")
    assert text.decode() == 'id,name\n1,a\n2,\n3,"c, d"\n4,\n', text
    _, stream = post("/v1/sql", sql, accept="application/vnd.apache.arrow.stream")
    table = pyarrow.ipc.open_stream(stream).read_all()
    assert table.column("id").to_pylist() == [1, 2, 3, 4]
    status, answer = ask("SELECT name FROM clients_http WHERE id = $1", 3)
    assert answer["rows"] == [{"name": "c, d"}], answer


def errors():
    section("errors")
    status, answer = ask("SELECT nmae FROM clients_http")
    assert status == 404 and answer["error"]["code"] == "42703", answer
    assert answer["error"]["position"] == 8, answer
    status, answer = ask("SELECT 1 +")
    assert status == 400 and answer["error"]["code"] == "42601", answer
    status, answer = post("/v1/sql", "SELECT 1", accept="image/png")
    assert status == 406, answer
    status, _ = post("/v1/sql", "SELECT '" + "x" * (3 << 20) + "'")
    assert status == 413, status
    status, answer = post("/v1/streams/nowhere/events", "{}")
    assert status == 404, answer
    status, answer = post("/v1/streams/clients_http/events", '{"id": "x"}')
    assert status == 400 and "id" in json.loads(answer)["error"]["message"], answer
    body = json.dumps({"sql": "SELECT count(*) FROM generate_series(1, 10000000000)",
                       "timeout_ms": 200})
    status, answer = post("/v1/sql", body, content_type="application/json")
    assert status == 504 and json.loads(answer)["error"]["code"] == "57014", answer


def events():
    section("events, exactly once")
    path = "/v1/streams/clients_http/events"
    status, answer = post(path, '{"id": 1, "name": "a"}\n{"id": 2}\n')
    assert status == 200 and json.loads(answer)["event_count"] == 2, answer
    who = {"alluvium_producer": "clients-http", "alluvium_sequence": "0"}
    for is_again in (False, True):
        status, answer = post(path, 'id,name\n3,"c, d"\n4,\n', content_type="text/csv", **who)
        assert status == 200 and json.loads(answer)["duplicate"] is is_again, answer
    status, answer = post(path, '{"id": 9}', alluvium_producer="clients-http",
                          alluvium_sequence="7")
    assert status == 409, (status, answer)


def main():
    status, answer = ask("CREATE STREAM clients_http (id BIGINT NOT NULL, name TEXT) "
                         "PARTITION BY (id) WITH (partitions = 2)")
    assert status == 200 and answer["tag"] == "CREATE STREAM", answer
    events()
    answers()
    errors()
    described = json.loads(urllib.request.urlopen(BASE + "/v1/openapi.json").read())
    assert "/v1/sql" in described["paths"]
    assert ask("DROP STREAM clients_http")[0] == 200
    print("ok")


main()
