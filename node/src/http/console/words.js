// SQL in colours: what of a text is a keyword, a string, a number or a comment.

import { h } from "./dom.js";

const KEYWORDS = new Set((
  "all and any array as asc audit between by cancel case cast create cross current day desc "
  + "describe distinct drop else emit end escape except exists explain extract false filter final "
  + "first following for from full group having hour if ilike in inner insert intersect interval "
  + "into is join kill last lateral left like limit materialized minute month natural not null "
  + "nulls offset on or order outer over partition preceding query range rebuild replace resume "
  + "right row rows second select set show stream streams table then to true unbounded union "
  + "using values view views when where window with within without year after"
).split(" "));

// One group for each of the kinds below.
const PARTS = new RegExp([
  /(--[^\n]*|\/\*[\s\S]*?(?:\*\/|$))/,
  /('(?:[^']|'')*'?)/,
  /("(?:[^"]|"")*"?)/,
  /(\d[\d_.]*)/,
  /([\p{L}_][\p{L}\p{N}_]*)/u,
].map((part) => part.source).join("|"), "gu");

const KINDS = ["comment", "string", "name", "number", "word"];

// Adds a text to an element, with a mark under the letters from `marked.start` to `marked.end`.
export function add(element, text, marked) {
  for (const { from, to, kind } of pieces(text)) {
    const places = [from, to];
    if (marked) places.push(marked.start, marked.end);
    const cuts = places.filter((at) => from <= at && at <= to).sort((a, b) => a - b);
    for (let place = 1; place < cuts.length; place += 1) {
      const [start, end] = [cuts[place - 1], cuts[place]];
      if (start === end) continue;
      const isWrong = marked && marked.start <= start && end <= marked.end;
      const names = [kind, isWrong && "wrong"].filter(Boolean).join(" ");
      element.append(names ? h("span", { class: names }, text.slice(start, end))
        : document.createTextNode(text.slice(start, end)));
    }
  }
  // A mark behind the last letter, and the line that an ending newline begins.
  const isBehind = marked && text.length <= marked.start;
  element.append(isBehind ? h("span", { class: "wrong" }, " ") : "", "\n");
}

function pieces(text) {
  const found = [];
  let last = 0;
  for (const part of text.matchAll(PARTS)) {
    if (last < part.index) found.push({ from: last, to: part.index, kind: null });
    const kind = KINDS[part.slice(1).findIndex((group) => group !== undefined)];
    const isPlain = kind === "word" && !KEYWORDS.has(part[0].toLowerCase());
    last = part.index + part[0].length;
    found.push({ from: part.index, to: last, kind: isPlain ? null : kind });
  }
  if (last < text.length) found.push({ from: last, to: text.length, kind: null });
  return found;
}
