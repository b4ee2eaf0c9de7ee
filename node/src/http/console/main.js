// The frame of the console: which page is shown, whether the node is reached, who signs in.

import { onLink, onSignIn } from "./api.js";
import { fill, h } from "./dom.js";
import * as cluster from "./cluster.js";
import * as tables from "./tables.js";
import * as editor from "./editor.js";
import * as queries from "./queries.js";
import * as tail from "./tail.js";

const PAGES = [
  ["cluster", "Cluster", cluster],
  ["tables", "Streams and views", tables],
  ["sql", "SQL", editor],
  ["queries", "Queries", queries],
  ["tail", "Live view", tail],
];

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const link = document.getElementById("link");
let leaving = new AbortController();

fill(nav, PAGES.map(([name, title]) => h("a", { href: `#${name}`, id: `nav-${name}` }, title)));

// `#sql?SELECT%201`: the page, and what it begins with.
function show() {
  if (location.hash === "#main") return;
  const [, name, argument] = location.hash.match(/^#([a-z]*)\??(.*)$/s) ?? [];
  const [page, title, module] = PAGES.find(([known]) => known === name) ?? PAGES[0];
  leaving.abort();
  leaving = new AbortController();
  document.title = `${title} · Alluvium`;
  for (const item of nav.children) {
    if (item.id === `nav-${page}`) item.setAttribute("aria-current", "page");
    else item.removeAttribute("aria-current");
  }
  nav.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  const body = h("div", { class: `page page-${page}` });
  fill(main, h("h1", {}, title), body);
  let begin = "";
  try {
    begin = decodeURIComponent(argument ?? "");
  } catch { /* An address that somebody typed half: the page begins empty. */ }
  module.show(body, leaving.signal, begin);
}

onLink((isReached) => {
  link.className = `link ${isReached ? "up" : "down"}`;
  fill(link, isReached ? `Connected to ${location.host}`
    : "The node does not answer; trying again");
});

const dialog = document.getElementById("sign-in");
let asking = null;

// One dialog, however many statements wait for it.
onSignIn((wasWrong) => {
  asking ??= new Promise((resolve) => {
    const user = h("input", { name: "user", autocomplete: "username", required: true });
    const password = h("input", { name: "password", type: "password",
      autocomplete: "current-password" });
    const done = (authorization) => {
      asking = null;
      dialog.close();
      resolve(authorization);
    };
    const submit = (event) => {
      event.preventDefault();
      const bytes = new TextEncoder().encode(`${user.value}:${password.value}`);
      done(`Basic ${btoa(String.fromCharCode(...bytes))}`);
    };
    dialog.oncancel = (event) => { event.preventDefault(); done(null); };
    fill(dialog, h("form", { onsubmit: submit },
      h("h2", {}, "Sign in"),
      wasWrong && h("p", { class: "trouble", role: "alert" }, "That name and password do not fit."),
      h("label", {}, "User", user), h("label", {}, "Password", password),
      h("div", { class: "row" }, h("button", { class: "primary" }, "Sign in"),
        h("button", { type: "button", onclick: () => done(null) }, "Cancel"))));
    dialog.showModal();
  });
  return asking;
});

addEventListener("hashchange", show);
show();
