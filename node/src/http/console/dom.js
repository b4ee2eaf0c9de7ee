// Elements out of names, properties and text. Data enters a page here alone, and only as text.

const SVG = "http://www.w3.org/2000/svg";

function make(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "selected") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

// An element of HTML.
export function h(name, properties, ...children) {
  return make(document.createElement(name), properties, children);
}

// An element of a drawing.
export function s(name, properties, ...children) {
  return make(document.createElementNS(SVG, name), properties, children);
}

// Puts these in the place of all children.
export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

// Like fill, but leaves the page alone where nothing that is shown has changed: selections, focus
// and the place of a scrolled box stay.
export function refill(element, key, build) {
  const text = JSON.stringify(key);
  if (element.shownKey === text) return;
  element.shownKey = text;
  const boxes = [...element.querySelectorAll("[data-scroll]")];
  const places = new Map(boxes.map((box) => [box.dataset.scroll, [box.scrollLeft, box.scrollTop]]));
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  const focus = focused?.dataset.focus;
  fill(element, build());
  for (const box of element.querySelectorAll("[data-scroll]")) {
    const [left, top] = places.get(box.dataset.scroll) ?? [0, 0];
    box.scrollLeft = left;
    box.scrollTop = top;
  }
  if (focus) {
    const same = [...element.querySelectorAll("[data-focus]")];
    same.find((one) => one.dataset.focus === focus)?.focus();
  }
}

// A table: columns are { name, title?, number?, cell(row) }.
export function table(label, columns, rows, rowProperties = () => ({})) {
  const head = columns.map((column) =>
    h("th", { scope: "col", class: column.number && "number", title: column.title }, column.name));
  const body = rows.map((row) => h("tr", rowProperties(row), columns.map((column) =>
    h("td", { class: column.number ? "number" : column.class, "data-name": column.name },
      column.cell(row)))));
  return h("div", { class: "scroll", "data-scroll": label, tabindex: 0, role: "region",
    "aria-label": label },
    h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}

// What a page says where there is nothing to show yet: why, and the statement to run.
export function empty(title, text, sql) {
  const open = () => { location.hash = `#sql?${encodeURIComponent(sql)}`; };
  return h("div", { class: "empty" }, h("h3", {}, title), h("p", {}, text),
    sql && h("pre", { class: "code" }, sql),
    sql && h("button", { type: "button", onclick: open }, "Open in the editor"));
}

export function badge(text, kind) {
  return h("span", { class: `badge ${kind ?? ""}` }, text);
}

export function section(title, note, ...content) {
  return h("section", { class: "card" },
    h("div", { class: "card-head" }, h("h2", {}, title), note && h("p", { class: "note" }, note)),
    content);
}
