// Numbers, sizes and times as people read them.

const whole = new Intl.NumberFormat("en-US");
const short = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });

export function count(value) {
  if (value === null || value === undefined) return "–";
  return typeof value === "number" ? whole.format(value) : String(value);
}

export function rate(value) {
  if (value === undefined) return "…";
  if (value === 0) return "0 /s";
  return `${value < 100 ? short.format(value) : whole.format(Math.round(value))} /s`;
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let left = value ?? 0;
  while (1024 <= left && unit < units.length - 1) {
    left /= 1024;
    unit += 1;
  }
  return `${short.format(left)} ${units[unit]}`;
}

export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1) return "< 1 ms";
  if (ms < 1000) return `${short.format(ms)} ms`;
  if (ms < 60_000) return `${short.format(ms / 1000)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes} min ${Math.round((ms % 60_000) / 1000)} s`;
  if (minutes < 2880) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(minutes / 1440)} days`;
}

// A frontier as people write it: `0:41230,1:41199`.
export function frontier(offsets) {
  return Object.entries(offsets ?? {}).map(([partition, end]) => `${partition}:${end}`).join(",");
}

// What an answer reflects: a frontier for each stream.
export function asOf(streams) {
  const parts = Object.entries(streams ?? {});
  return parts.map(([stream, offsets]) => `${stream}=${frontier(offsets)}`).join(" ");
}

export function quoted(name) {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}

// A value of an answer as one line of text.
export function value(one) {
  if (typeof one === "string") return one;
  return typeof one === "object" ? JSON.stringify(one) : String(one);
}

const NUMBERS = /^(SMALLINT|INTEGER|BIGINT|REAL|DOUBLE|NUMERIC|DECIMAL|U?Int|Float)/i;
const TIMES = /^(TIMESTAMP|DATE|TIME)/i;

export const isNumber = (column) => NUMBERS.test(column.type);
export const isTime = (column) => TIMES.test(column.type);
