// The statements that run on this node, whichever door they came in by, and an end to them.

import { MARK, ask, poll, rows } from "./api.js";
import { badge, empty, fill, h, refill, section, table } from "./dom.js";
import { count, duration } from "./format.js";

const QUERIES = `SELECT * FROM system.queries WHERE statement NOT LIKE '${MARK}%'
  ORDER BY elapsed_ms DESC`;

const DOORS = { grpc: "gRPC", flight: "Flight SQL", postgres: "PostgreSQL", http: "HTTP" };

export function show(body, signal) {
  const said = h("p", { class: "note", role: "status" });
  const list = h("div", {}, h("p", { class: "wait" }, "Asking the node …"));
  fill(body, said, list);
  const cancel = async (row) => {
    fill(said, `Asking query ${row.id} to stop …`);
    try {
      await ask(`${MARK}KILL QUERY '${String(row.id).replaceAll("'", "''")}'`);
      fill(said, `Query ${row.id} was cancelled`);
    } catch (error) {
      fill(said, error.message);
    }
  };
  poll(signal, 1000, async () => {
    try {
      const running = await rows(QUERIES, signal);
      refill(list, running, () => showQueries(running, cancel));
    } catch (error) {
      if (error.name !== "AbortError") fill(said, error.message);
      throw error;
    }
  });
}

function showQueries(running, cancel) {
  if (running.length === 0) {
    const text = "Statements that run on this node are listed here while they run, from every "
      + "door: gRPC, Flight SQL, the PostgreSQL protocol and HTTP. One that takes a while:";
    const sql = "SELECT count(*) FROM generate_series(1, 3000000) AS a(x), "
      + "generate_series(1, 1000) AS b(y) WHERE (x * y) % 7 = 3";
    return section("Running queries", null, empty("Nothing runs now", text, sql));
  }
  return section("Running queries", `${running.length} on this node`, table("Running queries", [
    { name: "Statement", class: "statement", cell: (row) =>
      h("code", { title: row.statement }, row.statement) },
    { name: "State", cell: (row) => badge(row.state, row.state === "stopping" ? "warn" : "good") },
    { name: "Since", number: true, cell: (row) => duration(row.elapsed_ms) },
    { name: "Rows", number: true, title: "Given so far", cell: (row) => count(row.rows) },
    { name: "Door", cell: (row) => DOORS[row.door] ?? row.door },
    { name: "From", class: "mono", cell: (row) => row.client ?? "–" },
    { name: "Id", class: "mono", cell: (row) => row.id },
    { name: "", class: "actions", cell: (row) => h("button", { type: "button", class: "danger",
      "data-focus": `cancel ${row.id}`, onclick: () => cancel(row) }, "Cancel") },
  ], running));
}
