// Charts of an answer, drawn as SVG: bars for names, lines for times and numbers.

import { fill, h, s } from "./dom.js";
import { isNumber, isTime, value as text } from "./format.js";

// More of either cannot be told apart on a screen.
const BARS_MAX = 60;
const POINTS_MAX = 2000;
const SERIES_MAX = 5;

const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 2 });
const exact = new Intl.NumberFormat("en-US", { maximumFractionDigits: 6 });

// A small line of how a number went.
export function sparkline(values) {
  const [width, height] = [64, 18];
  const drawing = s("svg", { class: "spark", width, height, viewBox: `0 0 ${width} ${height}`,
    "aria-hidden": "true" });
  if (values.length < 2) return drawing;
  const top = Math.max(...values, 1e-9);
  const points = values.map((one, place) =>
    `${((place / (values.length - 1)) * (width - 2) + 1).toFixed(1)},` +
    `${(height - 2 - (one / top) * (height - 4)).toFixed(1)}`);
  drawing.append(s("polyline", { points: points.join(" ") }));
  return drawing;
}

// What of an answer is shown unless somebody chooses; null where nothing can be.
export function choose(columns) {
  const numbers = columns.filter(isNumber).map((column) => column.name);
  const x = (columns.find(isTime) ?? columns.find((column) => !isNumber(column)) ?? columns[0]);
  const ys = numbers.filter((name) => name !== x?.name).slice(0, SERIES_MAX);
  if (!x || ys.length === 0) return null;
  return { kind: isTime(x) || isNumber(x) ? "line" : "bar", x: x.name, ys };
}

// The chart with what can be chosen about it.
export function chart(columns, rows) {
  const chosen = choose(columns);
  if (!chosen || rows.length === 0) {
    return h("p", { class: "empty" }, rows.length === 0 ? "There are no rows to draw."
      : "A chart needs a column to go along, and another one with numbers.");
  }
  const drawing = h("div", { class: "drawing" });
  const redraw = () => draw(drawing, columns, rows, chosen);
  const pick = (label, options, current, take) => h("label", {}, label,
    h("select", { onchange: (event) => { take(event.target.value); redraw(); } },
      options.map((name) => h("option", { value: name, selected: name === current }, name))));
  const names = columns.map((column) => column.name);
  const numbers = columns.filter(isNumber).map((column) => column.name);
  const toggles = numbers.map((name) => h("label", { class: "check" },
    h("input", { type: "checkbox", checked: chosen.ys.includes(name), onchange: (event) => {
      const rest = chosen.ys.filter((one) => one !== name);
      chosen.ys = event.target.checked ? [...rest, name] : rest;
      redraw();
    } }), name));
  const controls = h("div", { class: "row chart-controls" },
    pick("Draw", ["bar", "line"], chosen.kind, (kind) => { chosen.kind = kind; }),
    pick("along", names, chosen.x, (x) => { chosen.x = x; }),
    h("fieldset", { class: "row" }, h("legend", {}, "numbers"), toggles));
  new ResizeObserver(redraw).observe(drawing);
  return h("div", { class: "chart" }, controls, drawing);
}

function draw(drawing, columns, rows, { kind, x, ys }) {
  const width = Math.max(300, drawing.clientWidth);
  if (ys.length === 0) {
    fill(drawing, h("p", { class: "note" }, "Choose a column of numbers."));
    return;
  }
  const shown = rows.slice(0, kind === "bar" ? BARS_MAX : POINTS_MAX);
  const series = ys.slice(0, SERIES_MAX);
  const plot = plan(shown, series, width);
  const column = columns.find((one) => one.name === x);
  const picture = s("svg", { class: "plot", width, height: plot.height, role: "img",
    viewBox: `0 0 ${width} ${plot.height}`,
    "aria-label": `${series.join(", ")} along ${x}, ${shown.length} rows` });
  axis(picture, plot);
  if (kind === "bar") bars(picture, plot, shown, series, x);
  else lines(picture, plot, shown, series, column);
  const legend = h("ul", { class: "legend" }, series.map((name, place) =>
    h("li", {}, h("span", { class: `key series-${place}` }), name)));
  const left = shown.length < rows.length || series.length < ys.length;
  fill(drawing, legend, picture, left && h("p", { class: "note" },
    `Drawn are ${shown.length} of ${rows.length} rows, ${series.length} of ${ys.length} numbers.`));
}

function numeric(one) {
  return one === null || one === undefined || one === "" ? NaN : Number(one);
}

// The scale of the numbers and the room for them.
function plan(rows, series, width) {
  let [low, high] = [0, 0];
  for (const row of rows) {
    for (const name of series) {
      const one = numeric(row[name]);
      if (!Number.isFinite(one)) continue;
      low = Math.min(low, one);
      high = Math.max(high, one);
    }
  }
  if (low === high) high = low + 1;
  const step = niceStep((high - low) / 5);
  low = Math.floor(low / step) * step;
  high = Math.ceil(high / step) * step;
  const ticks = [];
  for (let place = 0; low + place * step <= high + step / 2; place += 1) {
    ticks.push(low + place * step);
  }
  const label = Math.max(...ticks.map((tick) => compact.format(tick).length));
  const [left, right, top, bottom, height] = [14 + label * 7, 12, 12, 46, 320];
  const y = (one) => top + ((high - one) / (high - low)) * (height - top - bottom);
  return { width, height, left, right, top, bottom, ticks, y };
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  const share = rough / power;
  return power * (share <= 1 ? 1 : share <= 2 ? 2 : share <= 5 ? 5 : 10);
}

function axis(picture, { width, left, right, ticks, y }) {
  for (const tick of ticks) {
    const at = y(tick).toFixed(1);
    picture.append(s("line", { class: tick === 0 ? "zero" : "grid", x1: left, x2: width - right,
      y1: at, y2: at }));
    picture.append(s("text", { class: "tick", x: left - 8, y: at, dy: "0.32em",
      "text-anchor": "end" }, compact.format(tick)));
  }
}

const cut = (label, max) => (label.length <= max ? label : `${label.slice(0, max - 1)}…`);

// Labels below, as many as have room.
function labels(picture, { height, bottom, width, left, right }, places) {
  const room = Math.max(1, Math.floor((width - left - right) / 74));
  const each = Math.ceil(places.length / room);
  const letters = Math.max(3, Math.floor(((width - left - right) / Math.min(places.length, room))
    / 7.2));
  places.forEach(({ at, label }, place) => {
    if (place % each !== 0) return;
    picture.append(s("text", { class: "tick", x: at.toFixed(1), y: height - bottom + 18,
      "text-anchor": "middle" }, cut(label, letters)));
  });
}

function bars(picture, plot, rows, series, x) {
  const room = (plot.width - plot.left - plot.right) / rows.length;
  const each = Math.max(1, Math.min(72, room * 0.78) / series.length);
  const places = [];
  rows.forEach((row, place) => {
    const middle = plot.left + room * (place + 0.5);
    places.push({ at: middle, label: name(row[x]) });
    series.forEach((column, at) => {
      const one = numeric(row[column]);
      if (!Number.isFinite(one)) return;
      const [from, to] = [plot.y(Math.max(one, 0)), plot.y(Math.min(one, 0))];
      const left = middle + (at - series.length / 2) * each;
      picture.append(s("rect", { class: `bar series-${at}`, x: left.toFixed(1), y: from.toFixed(1),
        width: Math.max(1, each - 1).toFixed(1), height: Math.max(0.5, to - from).toFixed(1),
        rx: Math.min(3, each / 4) },
        s("title", {}, `${name(row[x])}: ${column} ${exact.format(one)}`)));
    });
  });
  labels(picture, plot, places);
}

const name = (one) => (one === null || one === undefined ? "null" : text(one));

// Where along the axis each row is: by its time or number where all have one, else one by one.
function along(rows, column) {
  const values = rows.map((row) => {
    const one = row[column.name];
    if (one === null || one === undefined) return NaN;
    if (isNumber(column)) return Number(one);
    if (!isTime(column)) return NaN;
    const said = String(one).replace(" ", "T");
    return Date.parse(/(Z|[+-]\d\d(:?\d\d)?)$/.test(said) ? said : `${said}Z`);
  });
  return values.every(Number.isFinite) ? values : rows.map((_row, place) => place);
}

function lines(picture, plot, rows, series, column) {
  const values = along(rows, column);
  const order = rows.map((_row, place) => place).sort((a, b) => values[a] - values[b]);
  const [low, high] = [values[order[0]], values[order.at(-1)]];
  const room = plot.width - plot.left - plot.right;
  const x = (place) => plot.left + (high === low ? room / 2
    : ((values[place] - low) / (high - low)) * room);
  series.forEach((of, at) => {
    let path = "";
    let isPen = false;
    for (const place of order) {
      const one = numeric(rows[place][of]);
      if (Number.isFinite(one)) {
        path += `${isPen ? "L" : "M"}${x(place).toFixed(1)} ${plot.y(one).toFixed(1)}`;
      }
      isPen = Number.isFinite(one);
    }
    picture.append(s("path", { class: `line series-${at}`, d: path }));
    if (120 < rows.length) return;
    for (const place of order) {
      const one = numeric(rows[place][of]);
      if (!Number.isFinite(one)) continue;
      picture.append(s("circle", { class: `point series-${at}`, cx: x(place).toFixed(1),
        cy: plot.y(one).toFixed(1), r: 3.5 },
        s("title", {}, `${name(rows[place][column.name])}: ${of} ${exact.format(one)}`)));
    }
  });
  labels(picture, plot, spread(order, x, room).map((place) =>
    ({ at: x(place), label: shorter(name(rows[place][column.name]), column) })));
}

// Rows whose labels stand clear of each other.
function spread(order, x, room) {
  const apart = Math.max(110, room / 10);
  const taken = [];
  for (const place of order) {
    if (taken.length === 0 || apart <= x(place) - x(taken.at(-1))) taken.push(place);
  }
  return taken;
}

function shorter(label, column) {
  return isTime(column) ? label.replace("T", " ").replace(/(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)?$/, "")
    : label;
}
