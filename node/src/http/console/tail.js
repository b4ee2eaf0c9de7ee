// A view as it changes: its groups as they are, and the last changes on top.

import { follow, rows } from "./api.js";
import { badge, empty, fill, h, table } from "./dom.js";
import { asOf, count, isNumber, quoted, rate, value } from "./format.js";

const VIEWS = "SELECT DISTINCT view FROM system.views WHERE stream IS NOT NULL ORDER BY view";

// Groups that the page keeps, and those of them that it shows.
const KEPT_MAX = 10_000;
const SHOWN_MAX = 200;

// The page is drawn anew this often at most, however fast groups change.
const DRAW_MS = 120;

const AGAIN_MS = 1500;

export async function show(body, signal, begin) {
  fill(body, h("p", { class: "wait" }, "Asking the node …"));
  let names;
  try {
    names = (await rows(VIEWS, signal)).map((row) => row.view);
  } catch (error) {
    if (error.name !== "AbortError") fill(body, h("p", { class: "trouble" }, error.message));
    return;
  }
  if (names.length === 0) {
    const text = "A materialized view can be watched while events come in. Make one first:";
    const sql = "CREATE MATERIALIZED VIEW best AS\n"
      + "SELECT segment, count(*) AS rides, min(elapsed_s) AS best_s FROM rides GROUP BY segment";
    fill(body, h("section", { class: "card" },
      empty("There is no view to watch yet", text, sql)));
    return;
  }
  const tail = new Tail(names, begin, signal);
  fill(body, tail.element);
  if (begin) tail.start();
}

class Tail {
  constructor(names, begin, signal) {
    this.page = signal;
    this.following = null;
    this.view = h("select", { id: "view", onchange: () => this.stop() },
      names.map((name) => h("option", { value: name, selected: name === begin }, name)));
    this.where = h("input", { id: "where", placeholder: "all groups", spellcheck: "false",
      autocomplete: "off", "aria-label": "Condition in SQL over the view's columns" });
    this.button = h("button", { class: "primary", type: "submit" }, "Watch");
    this.status = h("div", { class: "facts", role: "status", id: "tail-status" });
    this.trouble = h("div", { role: "alert" });
    this.content = h("div");
    const submit = (event) => {
      event.preventDefault();
      if (this.following) this.stop();
      else this.start();
    };
    this.element = h("section", { class: "card" },
      h("form", { class: "row tail-bar", onsubmit: submit },
        h("label", {}, "View", this.view),
        h("label", { class: "wide" }, "where", this.where), this.button),
      this.trouble, this.status, this.content);
    signal.addEventListener("abort", () => this.stop());
  }

  stop() {
    this.following?.abort();
    this.following = null;
    clearInterval(this.clock);
    fill(this.button, "Watch");
    if (this.groups) this.draw();
  }

  async start() {
    fill(this.trouble);
    fill(this.content);
    Object.assign(this, { groups: new Map(), columns: [], asOf: null, changes: 0, times: [] });
    const mine = new AbortController();
    this.following = mine;
    fill(this.button, "Stop");
    this.clock = setInterval(() => this.draw(), DRAW_MS);
    this.isOld = true;
    const [view, where] = [this.view.value, this.where.value];
    let from = "snapshot";
    while (!mine.signal.aborted) {
      try {
        await follow(view, { where, from, signal: mine.signal }, (kind, said) =>
          this.told(kind, said));
      } catch (error) {
        if (mine.signal.aborted) return;
        // Only a broken connection is taken up again: what the node refuses it refuses again.
        if (error.code !== undefined) {
          this.stop();
          fill(this.trouble, h("p", { class: "trouble" }, error.message));
          return;
        }
      }
      fill(this.trouble, h("p", { class: "note" }, "The connection broke; taking it up again …"));
      if (this.asOf) from = asOf(this.asOf);
      await new Promise((again) => setTimeout(again, AGAIN_MS));
    }
  }

  told(kind, said) {
    if (kind === "columns") {
      fill(this.trouble);
      this.columns = said.columns.filter((column) => column.name !== "_change");
      this.keys = this.columns.filter((column) => column.key);
    } else if (kind === "changes") {
      const now = performance.now();
      for (const row of said.rows) {
        const key = JSON.stringify(this.keys.map((column) => row[column.name] ?? null));
        const old = this.groups.get(key);
        // What is put in again is the last one: the order of the map is that of the changes.
        this.groups.delete(key);
        if (row._change === "upsert") this.groups.set(key, { row, old: old?.row, at: now });
      }
      if (said.rows.length !== 0 && this.asOf) {
        this.changes += said.rows.length;
        this.times.push([now, said.rows.length]);
      }
      for (const oldest of this.groups.keys()) {
        if (this.groups.size <= KEPT_MAX) break;
        this.groups.delete(oldest);
      }
      if (said.as_of) this.asOf = said.as_of;
    }
    this.isOld = true;
  }

  draw() {
    const now = performance.now();
    const before = this.times.length;
    this.times = this.times.filter(([at]) => now - at < 5000);
    if (!this.isOld && before === 0 && this.following) return;
    const rows = this.times.reduce((sum, [, some]) => sum + some, 0);
    fill(this.status, badge(this.following ? "live" : "stopped", this.following ? "good" : "warn"),
      h("span", {}, h("b", {}, count(this.groups.size)), " groups"),
      h("span", {}, h("b", {}, count(this.changes)), " changes"),
      h("span", {}, h("b", {}, rate(rows / 5))),
      this.asOf && h("span", {}, "as of ", h("b", { class: "mono" }, asOf(this.asOf))));
    if (!this.isOld) return;
    this.isOld = false;
    fill(this.content, this.groups.size === 0 ? this.nothing() : this.shown(now));
  }

  nothing() {
    if (!this.asOf) return h("p", { class: "wait" }, "Waiting for the view …");
    return h("p", { class: "empty" }, this.where.value
      ? "No group fulfils the condition now; the first that does appears here."
      : "The view has no groups yet. Append events to its stream, and they appear here.");
  }

  shown(now) {
    const groups = [...this.groups.values()].reverse().slice(0, SHOWN_MAX);
    const isNew = (group) => group.at + 4 * DRAW_MS > now && 0 < this.changes;
    // What is marked as new now is drawn once more when it is not.
    if (groups.some(isNew)) this.isOld = true;
    const columns = this.columns.map((column) => ({
      name: column.name, title: column.type, number: isNumber(column),
      cell: ({ row, old, at }) => {
        const one = row[column.name];
        const changed = isNew({ at }) && JSON.stringify(old?.[column.name]) !== JSON.stringify(one);
        return h("span", { class: changed ? "changed" : one === null ? "null" : "" },
          one === null || one === undefined ? "null" : value(one));
      },
    }));
    const left = this.groups.size - groups.length;
    return [table("Groups", columns, groups, (group) => ({ class: isNew(group) && "fresh" })),
      0 < left && h("p", { class: "note" }, `${count(left)} more groups changed before these; `
        + `SELECT * FROM ${quoted(this.view.value)} has them all.`)];
  }
}
