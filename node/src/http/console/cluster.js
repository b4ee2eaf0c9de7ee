// The cluster map: nodes, which of them hold and own which partitions, and what moves.

import { poll, rows } from "./api.js";
import { badge, empty, fill, h, refill, section, table } from "./dom.js";
import { bytes, count } from "./format.js";

const NODES = "SELECT * FROM system.nodes ORDER BY node";
const PARTITIONS = `SELECT stream, partition, owner, term, state, replicas, lag, start_offset,
  end_offset, tail_bytes + segment_bytes AS bytes FROM system.partitions
  ORDER BY stream, partition`;
const MOVES = "SELECT * FROM system.moves ORDER BY stream, partition";

// Partitions that the table lists; the map has all of them.
const LISTED_MAX = 300;

export const EXAMPLE = `CREATE STREAM rides (
  ride_id BIGINT NOT NULL,
  segment TEXT NOT NULL,
  rider TEXT NOT NULL,
  elapsed_s DOUBLE PRECISION NOT NULL,
  started_at TIMESTAMPTZ NOT NULL
) PARTITION BY (segment)
  WITH (event_time = 'started_at', partitions = 4)`;

export function show(body, signal) {
  const trouble = h("div", { role: "alert" });
  const nodes = h("div", {}, h("p", { class: "wait" }, "Asking the node …"));
  const map = h("div");
  const list = h("div");
  fill(body, trouble, nodes, map, list);
  poll(signal, 2000, async () => {
    try {
      const [members, partitions, moves] =
        await Promise.all([NODES, PARTITIONS, MOVES].map((sql) => rows(sql, signal)));
      fill(trouble);
      refill(nodes, members, () => showNodes(members));
      refill(map, [members, partitions, moves], () => showMap(members, partitions, moves));
      refill(list, [members, partitions], () => showList(members, partitions));
    } catch (error) {
      if (error.name !== "AbortError") fill(trouble, h("p", { class: "trouble" }, error.message));
      throw error;
    }
  });
}

const ids = (text) => (text ?? "").split(",").map((id) => Number(id)).filter((id) => id !== 0);

function nameOf(members, id) {
  return members.find((member) => member.node === id)?.name ?? (id ? `node ${id}` : "nobody");
}

function nodeState(node) {
  if (!node.alive) return badge("not heard of", "bad");
  return badge(node.state, node.state === "active" ? "good" : "warn");
}

function showNodes(members) {
  const cards = members.map((node) => h("article", { class: "node" },
    h("div", { class: "node-head" },
      h("span", { class: `dot ${node.alive ? "good" : "bad"}` }),
      h("h3", {}, node.name || `node ${node.node}`), nodeState(node)),
    h("dl", {},
      h("dt", {}, "Owns"), h("dd", {}, `${count(node.owned)} of ${count(node.replicas)} held`),
      h("dt", {}, "Stands in"), h("dd", {}, node.locality || "no locality given"),
      h("dt", {}, "gRPC, SQL"), h("dd", { class: "mono" }, node.client),
      h("dt", {}, "PostgreSQL"), h("dd", { class: "mono" }, node.pg),
      h("dt", {}, "HTTP"), h("dd", { class: "mono" }, node.http)),
    node.leads_meta && h("p", { class: "note" }, "Leads the meta group")));
  const alive = members.filter((node) => node.alive).length;
  return section("Nodes", `${alive} of ${members.length} heard of lately`,
    h("div", { class: "nodes" }, cards));
}

function showMap(members, partitions, moves) {
  if (partitions.length === 0) {
    const text = "Events live in streams, which are cut into partitions. Make the first one:";
    return section("Partitions", null, empty("There is no stream yet", text, EXAMPLE));
  }
  const moving = new Map(moves.map((move) => [`${move.stream}/${move.partition}`, move]));
  const streams = [...new Set(partitions.map((partition) => partition.stream))];
  const columns = [{ name: "Stream", cell: (stream) => h("strong", {}, stream) },
    ...members.map((node) => ({
      name: node.name || `node ${node.node}`,
      cell: (stream) => h("div", { class: "chips" }, partitions
        .filter((partition) => partition.stream === stream)
        .map((partition) => chip(partition, node, moving.get(`${stream}/${partition.partition}`)))),
    }))];
  return section("Partitions on nodes", movesNote(moves),
    table("Partitions on nodes", columns, streams),
    h("ul", { class: "legend" },
      h("li", {}, h("span", { class: "chip owner" }, "0"), "owns"),
      h("li", {}, h("span", { class: "chip replica" }, "0"), "holds a replica"),
      h("li", {}, h("span", { class: "chip comes" }, "0"), "shall hold one"),
      h("li", {}, h("span", { class: "chip goes" }, "0"), "lets it go")),
    moves.length !== 0 && showMoves(members, moves));
}

function movesNote(moves) {
  if (moves.length === 0) return "Every partition is where it shall be";
  return `${moves.length} ${moves.length === 1 ? "move" : "moves"} under way`;
}

function chip(partition, node, move) {
  const held = ids(partition.replicas).includes(node.node);
  const wanted = move ? ids(move.wanted).includes(node.node) : held;
  if (!held && !wanted) return null;
  let kind = "replica";
  let says = "holds a replica of";
  if (held && !wanted) [kind, says] = ["goes", "lets go of"];
  else if (!held) [kind, says] = ["comes", "shall hold"];
  else if (partition.owner === node.node) [kind, says] = ["owner", "owns"];
  const damaged = partition.state.startsWith("damaged") ? " damaged" : "";
  const title = `${node.name} ${says} partition ${partition.partition} of ${partition.stream}`;
  return h("span", { class: `chip ${kind}${damaged}`, title }, partition.partition);
}

function showMoves(members, moves) {
  const names = (list) => ids(list).map((id) => nameOf(members, id)).join(", ");
  return table("Moves", [
    { name: "Partition", cell: (move) => `${move.stream || "meta group"} ${move.partition}` },
    { name: "Is on", cell: (move) => names(move.replicas) },
    { name: "Shall be on", cell: (move) => names(move.wanted) },
    { name: "Shall be owned by", cell: (move) => nameOf(members, move.owner_wanted) },
  ], moves);
}

function partitionState(state) {
  if (state === "serving") return badge(state, "good");
  return badge(state, state.startsWith("damaged") ? "bad" : "warn");
}

function showList(members, partitions) {
  if (partitions.length === 0) return null;
  const listed = partitions.slice(0, LISTED_MAX);
  const note = listed.length < partitions.length
    ? `The first ${LISTED_MAX} of ${count(partitions.length)}; system.partitions has all`
    : "Offsets and lag as this node knows them";
  return section("Each partition", note, table("Each partition", [
    { name: "Partition", cell: (row) => [h("strong", {}, row.stream), ` ${row.partition}`] },
    { name: "State", cell: (row) => partitionState(row.state) },
    { name: "Owner", cell: (row) => nameOf(members, row.owner) },
    { name: "Replicas on", cell: (row) =>
      ids(row.replicas).map((id) => nameOf(members, id)).join(", ") },
    { name: "Lag", number: true, title: "Log entries that the slowest replica lacks",
      cell: (row) => count(row.lag) },
    { name: "Term", number: true, cell: (row) => count(row.term) },
    { name: "Offsets", number: true, cell: (row) =>
      `${count(row.start_offset)} – ${count(row.end_offset)}` },
    { name: "Size", number: true, cell: (row) => bytes(row.bytes) },
  ], listed));
}
