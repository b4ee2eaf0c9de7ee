// Streams and views: how large they are, how fast they grow, how far views are behind.

import { poll, rows } from "./api.js";
import { badge, empty, fill, h, refill, section, table } from "./dom.js";
import { bytes, count, duration, quoted, rate } from "./format.js";
import { sparkline } from "./chart.js";
import { EXAMPLE } from "./cluster.js";

const STREAMS = "SELECT * FROM system.streams ORDER BY name";
// Offsets only grow, whatever retention takes away: rates follow from them.
const ENDS = `SELECT stream, sum(end_offset) AS ends FROM system.partitions GROUP BY stream`;
const VIEWS = `SELECT view, max(stream) AS stream, count(*) AS parts, min(state) AS state,
  sum(lag_events) AS lag_events, max(lag_ms) AS lag_ms, sum(groups) AS groups,
  sum(state_bytes) AS state_bytes, sum(next_offset) AS ends, sum(quarantined) AS quarantined,
  min(watermark) AS watermark, max(last_error) AS last_error
  FROM system.views GROUP BY view, id ORDER BY view, id`;

const POLL_MS = 2000;

// Rates that a line shows: two minutes of them.
const KEPT_MAX = 60;

// What was seen of each name, kept while other pages are looked at.
const seen = new Map();

// The rate since the last look, by the difference of two.
function rateOf(name, ends) {
  const now = performance.now();
  const last = seen.get(name) ?? { rates: [] };
  const grown = last.ends !== undefined && last.ends <= ends;
  const isFresh = grown && now - last.at < 4 * POLL_MS;
  const current = isFresh ? ((ends - last.ends) * 1000) / (now - last.at) : undefined;
  const rates = isFresh ? [...last.rates, current].slice(-KEPT_MAX) : [];
  seen.set(name, { at: now, ends, rates });
  return { current, rates };
}

export function show(body, signal) {
  const trouble = h("div", { role: "alert" });
  const streams = h("div", {}, h("p", { class: "wait" }, "Asking the node …"));
  const views = h("div");
  fill(body, trouble, streams, views);
  poll(signal, POLL_MS, async () => {
    try {
      const [listed, ends, followed] =
        await Promise.all([STREAMS, ENDS, VIEWS].map((sql) => rows(sql, signal)));
      const endOf = new Map(ends.map((row) => [row.stream, row.ends]));
      const rateOfStream = new Map(listed.map((row) =>
        [row.name, rateOf(`stream ${row.name}`, Number(endOf.get(row.name) ?? 0))]));
      const rateOfView = new Map(followed.map((row, place) =>
        [place, rateOf(`view ${row.view} ${place}`, Number(row.ends))]));
      fill(trouble);
      refill(streams, [listed, [...rateOfStream]], () => showStreams(listed, rateOfStream));
      refill(views, [followed, listed.length, [...rateOfView]],
        () => showViews(followed, listed, rateOfView));
    } catch (error) {
      if (error.name !== "AbortError") fill(trouble, h("p", { class: "trouble" }, error.message));
      throw error;
    }
  });
}

const speed = ({ current, rates }) =>
  h("span", { class: "speed" }, sparkline(rates), h("span", {}, rate(current)));

const ask = (name) => h("a", { "data-focus": `ask ${name}`,
  href: `#sql?${encodeURIComponent(`SELECT * FROM ${quoted(name)} LIMIT 100`)}` }, "Query");

function showStreams(listed, rateOfStream) {
  if (listed.length === 0) {
    const text = "A stream keeps events of one shape, in order of their arrival. Make one:";
    return section("Streams", null, empty("There is no stream yet", text, EXAMPLE));
  }
  return section("Streams", "Rates from the last two looks, two seconds apart",
    table("Streams", [
      { name: "Stream", cell: (row) => h("strong", {}, row.name) },
      { name: "Events", number: true, cell: (row) => count(row.events) },
      { name: "Comes in", number: true, cell: (row) => speed(rateOfStream.get(row.name)) },
      { name: "Partitions", number: true, cell: (row) => count(row.partitions) },
      { name: "In segments", number: true, title: "Sealed files",
        cell: (row) => `${bytes(row.segment_bytes)} in ${count(row.segments)}` },
      { name: "In tails", number: true, title: "In memory, and in the log",
        cell: (row) => bytes(row.tail_bytes) },
      { name: "Partition by", cell: (row) => row.partition_by ?? "in turn" },
      { name: "Event time", cell: (row) => row.event_time ?? "none" },
      { name: "Kept", cell: (row) => row.retention },
      { name: "", class: "actions", cell: (row) => ask(row.name) },
    ], listed));
}

function viewState(row) {
  const kind = row.state === "serving" ? "good" : row.state.startsWith("parked") ? "bad" : "warn";
  return badge(row.state, kind);
}

function lag(row) {
  if (row.lag_events === 0) return h("span", { class: "good-text" }, "none");
  return `${count(row.lag_events)} events, ${duration(row.lag_ms)}`;
}

function showViews(followed, listed, rateOfView) {
  if (followed.length === 0) {
    const text = "A materialized view keeps the answer of a query up to date with each event:";
    const from = listed[0] ? quoted(listed[0].name) : "rides";
    const by = listed[0] && listed[0].name !== "rides" ? "column" : "segment";
    const sql = `CREATE MATERIALIZED VIEW counts AS\n`
      + `SELECT ${by}, count(*) AS events FROM ${from} GROUP BY ${by}`;
    return section("Views", null, empty("There is no view yet", text, sql));
  }
  return section("Views", "Folded from the log of this node",
    table("Views", [
      { name: "View", cell: (row) => h("strong", {}, row.view) },
      { name: "State", cell: (row) => [viewState(row),
        row.last_error && h("p", { class: "trouble small" }, row.last_error)] },
      { name: "Folds", cell: (row) => row.stream ?? "other views, at read" },
      { name: "Groups", number: true, cell: (row) => count(row.groups) },
      { name: "Size", number: true, cell: (row) => bytes(row.state_bytes) },
      { name: "Behind", number: true, title: "Events in the log that are not folded yet",
        cell: lag },
      { name: "Folds now", number: true,
        cell: (row) => speed(rateOfView.get(followed.indexOf(row))) },
      { name: "Set aside", number: true, title: "Events that could not be folded",
        cell: (row) => count(row.quarantined) },
      { name: "Watermark", cell: (row) => row.watermark ?? "–" },
      { name: "", class: "actions", cell: (row) => [ask(row.view),
        h("a", { "data-focus": `watch ${row.view}`,
          href: `#tail?${encodeURIComponent(row.view)}` }, "Watch")] },
    ], followed));
}
