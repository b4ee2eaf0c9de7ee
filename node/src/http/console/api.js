// The node, as these pages ask it: statements by POST /v1/sql, and views that are followed.

// Marks statements of the pages themselves, so that the list of queries can leave them out.
export const MARK = "/* console */ ";

// Why a statement was not answered: SQL's code, a message, and the place in its text.
export class Failed extends Error {
  constructor(status, said) {
    super(said.message);
    this.status = status;
    this.code = said.code;
    this.position = said.position;
  }
}

const listeners = new Set();
let isReached;

// Calls back with true and false as the node is reached and not.
export function onLink(listener) {
  listeners.add(listener);
}

function reached(now, failure) {
  if (now === isReached) return;
  isReached = now;
  for (const listener of listeners) listener(now, failure);
}

// What people typed to sign in: kept until the tab is closed, and sent to this node alone.
let authorization = null;
let askForSignIn = null;
export function onSignIn(ask) {
  askForSignIn = ask;
}

async function call(path, options) {
  for (;;) {
    const headers = { ...options.headers };
    if (authorization) headers.authorization = authorization;
    let response;
    try {
      response = await fetch(path, { ...options, headers, credentials: "same-origin" });
    } catch (error) {
      if (error.name !== "AbortError") reached(false, error);
      throw error;
    }
    reached(true);
    if (response.status !== 401 || !askForSignIn) return response;
    authorization = await askForSignIn(authorization !== null);
    if (authorization === null) return response;
  }
}

async function failure(response) {
  const text = await response.text();
  try {
    return new Failed(response.status, JSON.parse(text).error);
  } catch {
    const message = text.trim() || `the node answered ${response.status}`;
    return new Failed(response.status, { code: "", message });
  }
}

// Whole numbers beyond 2^53 stay as they were written, as text, where the browser can do that.
function parse(text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_key, value, context) => {
    const isLong = typeof value === "number" && !Number.isSafeInteger(value);
    return isLong && /^-?\d+$/.test(context?.source ?? "") ? context.source : value;
  });
}

// Runs one statement.
export async function ask(sql, { signal, parameters } = {}) {
  const begun = performance.now();
  const response = await call("/v1/sql", {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/json" },
    body: JSON.stringify({ sql, parameters: parameters ?? [] }),
    signal,
  });
  if (!response.ok) throw await failure(response);
  const answer = parse(await response.text());
  return { ...answer, elapsed: performance.now() - begun };
}

// The rows of a statement of the pages themselves.
export async function rows(sql, signal) {
  return (await ask(MARK + sql, { signal })).rows;
}

// Follows a view: calls `told(kind, said)` until it ends, fails, or `signal` says so.
export async function follow(view, { where, from, signal }, told) {
  const asked = new URLSearchParams({ where, from });
  const path = `/v1/views/${encodeURIComponent(view)}/changes?${asked}`;
  const response = await call(path, { headers: { accept: "text/event-stream" }, signal });
  if (!response.ok) throw await failure(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    waiting += value;
    const events = waiting.split("\n\n");
    waiting = events.pop();
    for (const event of events) {
      const field = (name) => event.split("\n").filter((line) => line.startsWith(`${name}: `))
        .map((line) => line.slice(name.length + 2)).join("\n");
      const kind = field("event");
      if (kind === "failure") throw new Failed(200, JSON.parse(field("data")).error);
      if (kind) told(kind, parse(field("data")));
    }
  }
}

// Runs `work(signal)` now and again, `ms` after it ended, until the page is left. Rests while
// nobody looks.
export function poll(signal, ms, work) {
  let timer;
  const again = () => { timer = setTimeout(turn, ms); };
  async function turn() {
    if (signal.aborted) return;
    if (!document.hidden) {
      try {
        await work(signal);
      } catch (error) {
        if (error.name === "AbortError") return;
      }
    }
    if (!signal.aborted) again();
  }
  signal.addEventListener("abort", () => clearTimeout(timer));
  turn();
}
