// The statements of this browser, kept in its own storage.

import { count, duration } from "./format.js";

const KEY = "alluvium.history";
const KEPT_MAX = 50;
// A statement longer than this is not typed again from a list.
const LENGTH_MAX = 20_000;

// Storage may be off or full: then nothing is kept, and nothing else goes wrong.
export function load(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

export function save(key, text) {
  try {
    localStorage.setItem(key, text);
  } catch { /* See above. */ }
}

export function all() {
  try {
    const past = JSON.parse(load(KEY) ?? "[]");
    return Array.isArray(past) ? past.filter((one) => typeof one?.sql === "string") : [];
  } catch {
    return [];
  }
}

export function remember(sql, { answer, error, wasStopped, elapsed }) {
  // What holds a password is typed again.
  if (LENGTH_MAX < sql.length || /password/i.test(sql)) return;
  const took = duration(elapsed);
  const said = wasStopped ? `stopped after ${took}` : error ? `failed after ${took}`
    : answer.columns.length === 0 ? `${answer.tag}, ${took}`
      : `${count(answer.row_count)} ${answer.row_count === 1 ? "row" : "rows"}, ${took}`;
  const rest = all().filter((one) => one.sql !== sql);
  const past = [{ sql, ok: !error, said }, ...rest].slice(0, KEPT_MAX);
  save(KEY, JSON.stringify(past));
}

export function clear() {
  save(KEY, "[]");
}
