// The SQL editor: runs a statement, and shows its rows, its chart, or where it went wrong.

import { ask } from "./api.js";
import { add } from "./words.js";
import { chart, choose } from "./chart.js";
import { fill, h, table } from "./dom.js";
import { asOf, count, duration, isNumber, value } from "./format.js";
import * as history from "./history.js";

// Rows that are put on the page at once.
const SHOWN = 200;

const FIRST = "SELECT * FROM system.partitions";
const DRAFT = "alluvium.draft";

// What was typed, and its answer, while other pages are looked at.
const kept = { text: null, outcome: null };

export function show(body, signal, begin) {
  const pages = new Editor(signal);
  fill(body, pages.element);
  pages.write(begin || (kept.text ?? history.load(DRAFT) ?? FIRST));
  if (!begin && kept.outcome) pages.tell(kept.outcome);
  pages.input.focus({ preventScroll: true });
}

class Editor {
  constructor(signal) {
    this.running = null;
    this.marked = null;
    this.colours = h("pre", { class: "colours", "aria-hidden": "true" });
    this.input = h("textarea", { id: "sql", spellcheck: "false", autocapitalize: "off",
      autocomplete: "off", "aria-label": "SQL statement", "aria-describedby": "keys",
      oninput: () => this.typed(), onscroll: () => this.follow(), onkeydown: (e) => this.key(e) });
    this.run = h("button", { class: "primary", type: "button", onclick: () => this.toggle() });
    this.status = h("p", { class: "note", role: "status", id: "outcome" });
    this.outcome = h("div", { class: "outcome" });
    this.past = h("div", { class: "history" });
    this.element = h("div", { class: "editor-page" },
      h("section", { class: "card editor-card" },
        h("div", { class: "editor" }, this.colours, this.input),
        h("div", { class: "row editor-bar" }, this.run,
          h("span", { class: "note", id: "keys" }, h("kbd", {}, "Ctrl"), " ", h("kbd", {}, "Enter"),
            " runs what is selected, or the statement at the cursor"), this.status)),
      this.outcome,
      h("details", { class: "card", open: true }, h("summary", {}, "Statements of this browser"),
        this.past));
    this.showRun();
    this.showHistory();
    signal.addEventListener("abort", () => this.running?.abort());
  }

  write(text) {
    this.input.value = text;
    this.typed();
  }

  typed() {
    kept.text = this.input.value;
    history.save(DRAFT, kept.text);
    this.marked = null;
    this.colour();
  }

  // The text is drawn in colours below the field, whose own letters cannot be seen.
  colour() {
    fill(this.colours);
    add(this.colours, this.input.value, this.marked);
    this.follow();
  }

  follow() {
    this.colours.scrollTop = this.input.scrollTop;
    this.colours.scrollLeft = this.input.scrollLeft;
  }

  key(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (!this.running) this.toggle();
    }
  }

  showRun() {
    fill(this.run, this.running ? "Stop" : "Run");
  }

  async toggle() {
    if (this.running) {
      this.running.abort();
      return;
    }
    const { sql, start } = this.statement();
    if (sql.trim() === "") {
      fill(this.status, "There is no statement to run");
      return;
    }
    this.running = new AbortController();
    this.marked = null;
    this.colour();
    this.showRun();
    fill(this.status, "Running");
    this.outcome.setAttribute("aria-busy", "true");
    const begun = performance.now();
    const clock = setInterval(() =>
      fill(this.status, `Running for ${duration(performance.now() - begun)}`), 100);
    let outcome;
    try {
      const answer = await ask(sql, { signal: this.running.signal });
      outcome = { answer, sql };
    } catch (error) {
      outcome = { error, sql, start, wasStopped: error.name === "AbortError" };
    }
    clearInterval(clock);
    outcome.elapsed = performance.now() - begun;
    this.running = null;
    kept.outcome = outcome;
    history.remember(sql, outcome);
    this.showRun();
    this.showHistory();
    this.tell(outcome);
  }

  // What is selected, or the statement in which the cursor is.
  statement() {
    const { value: text, selectionStart: first, selectionEnd: end } = this.input;
    if (first !== end) return { sql: text.slice(first, end), start: first };
    let start = 0;
    let before = null;
    for (const stop of [...ends(text), text.length]) {
      const sql = text.slice(start, stop);
      const found = { sql: sql.trim(), start: start + (sql.length - sql.trimStart().length) };
      // Behind the last semicolon there may be nothing: then it is the one before.
      if (first <= stop && (found.sql !== "" || !before)) return found;
      if (found.sql !== "") before = found;
      start = stop + 1;
    }
    return before ?? { sql: "", start: 0 };
  }

  tell({ answer, error, wasStopped, sql, start, elapsed }) {
    this.outcome.removeAttribute("aria-busy");
    if (wasStopped) {
      fill(this.status, `Stopped after ${duration(elapsed)}`);
      fill(this.outcome);
    } else if (error) {
      fill(this.status, `Failed after ${duration(elapsed)}`);
      fill(this.outcome, this.trouble(error, sql, start));
    } else {
      fill(this.status, `${answer.tag} in ${duration(elapsed)}`);
      fill(this.outcome, result(answer, elapsed));
    }
  }

  trouble(error, sql, start) {
    let place = null;
    if (error.position) {
      // The node counts letters, the field counts half letters of the rarer kind.
      const offset = [...sql].slice(0, error.position - 1).join("").length;
      const word = sql.slice(offset).match(/^("[^"]*"|[\p{L}\p{N}_]+|\s*$|.)/su)?.[0] ?? "";
      this.marked = { start: start + offset, end: start + offset + Math.max(1, word.length) };
      this.colour();
      const lines = this.input.value.slice(0, start + offset).split("\n");
      const go = () => {
        this.input.focus();
        this.input.setSelectionRange(this.marked.start, this.marked.end);
      };
      place = h("button", { type: "button", class: "place", onclick: go },
        `Line ${lines.length}, column ${[...lines.at(-1)].length + 1}`);
    }
    return h("section", { class: "card failed", role: "alert" },
      h("p", { class: "trouble" }, error.message),
      h("p", { class: "row note" }, place, error.code && `SQLSTATE ${error.code}`));
  }

  showHistory() {
    const past = history.all();
    if (past.length === 0) {
      fill(this.past, h("p", { class: "note" }, "Statements that you run are kept here, in this "
        + "browser alone."));
      return;
    }
    const use = (sql) => { this.write(sql); this.input.focus(); };
    fill(this.past, h("ul", {}, past.map((one) => h("li", {},
      h("button", { type: "button", class: "past", onclick: () => use(one.sql) },
        h("span", { class: `dot ${one.ok ? "good" : "bad"}` }),
        h("code", {}, one.sql.replace(/\s+/g, " ")),
        h("span", { class: "note" }, one.said))))),
    h("button", { type: "button", onclick: () => { history.clear(); this.showHistory(); } },
      "Forget all of them"));
  }
}

// Where statements end: semicolons outside of quotes and comments.
function ends(text) {
  const found = [];
  const parts = /'(?:[^']|'')*'?|"(?:[^"]|"")*"?|--[^\n]*|\/\*[\s\S]*?(?:\*\/|$)|;/g;
  for (const part of text.matchAll(parts)) {
    if (part[0] === ";") found.push(part.index);
  }
  return found;
}

function result(answer, elapsed) {
  const { columns, rows, tag } = answer;
  const facts = h("p", { class: "facts", id: "facts" },
    columns.length !== 0 && h("span", {}, h("b", {}, count(answer.row_count)),
      answer.row_count === 1 ? " row" : " rows"),
    h("span", {}, h("b", {}, duration(elapsed))),
    Object.keys(answer.as_of).length !== 0 && h("span", { title: "What the answer reflects: the "
      + "offset behind the last event of each partition" }, "as of ",
      h("b", { class: "mono" }, asOf(answer.as_of))));
  if (columns.length === 0) {
    return h("section", { class: "card done" }, h("p", { class: "good-text" }, `Done: ${tag}`),
      facts);
  }
  const content = h("div", { class: "content", role: "tabpanel" });
  const views = [["Table", () => grid(columns, rows)], ["Chart", () => chart(columns, rows)]];
  const tabs = views.map(([name, build]) => h("button", { type: "button", role: "tab",
    onclick: () => open(name, build) }, name));
  const open = (name, build) => {
    for (const tab of tabs) tab.setAttribute("aria-selected", tab.textContent === name);
    fill(content, build());
  };
  if (!choose(columns)) tabs.pop();
  open(...views[0]);
  return h("section", { class: "card result" },
    h("div", { class: "card-head" }, h("div", { class: "tabs", role: "tablist" }, tabs), facts),
    content);
}

function grid(columns, rows) {
  if (rows.length === 0) return h("p", { class: "empty" }, "No rows.");
  let shown = SHOWN;
  const whole = h("div");
  const build = () => {
    const cells = columns.map((column) => ({
      name: column.name, title: column.type, number: isNumber(column),
      cell: (row) => cell(row[column.name]),
    }));
    const more = rows.length - shown;
    fill(whole, table("Rows of the answer", cells, rows.slice(0, shown)),
      0 < more && h("button", { type: "button", onclick: () => { shown *= 5; build(); } },
        `Show more: ${count(more)} rows are not on the page yet`));
  };
  build();
  return whole;
}

function cell(one) {
  if (one === null || one === undefined) return h("span", { class: "null" }, "null");
  return value(one);
}
