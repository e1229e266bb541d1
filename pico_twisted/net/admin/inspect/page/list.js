// The list on the left: the newest first, one row for each request, chosen by click or by arrow keys.

import { $, bytes, clock, made, span } from "./elements.js";

const MOST = 500;
const rows = new Map(); // by ID: what is told of it, and its element
const box = $("rows");
let chosen = null;
let opened = () => {};

export function onOpen(act) { opened = act; }
export const chosenId = () => chosen;
export const rowOf = (id) => rows.get(id)?.told;

const statusText = (told) => (told.status ? String(told.status) : told.running ? "…" : "–");
const statusClass = (told) => `s${told.error && !told.status ? 5 : Math.floor(told.status / 100)}`;

function fill(element, told) {
  const kind = { tcp: "TCP", upgraded: "upgraded" }[told.kind];
  const more = [clock(told.at_s), told.endpoint, told.replay_of && `replay of ${told.replay_of}`, kind, told.client];
  const took = told.running ? "running" : span(told.duration_s);
  element.replaceChildren(
    made("span", { class: "method" }, told.method || "?"),
    made("span", { class: "target", title: told.target }, told.kind === "tcp" ? "connection" : told.target || "not valid"),
    made("span", { class: `status ${statusClass(told)}` }, statusText(told)),
    made("span", { class: "when" }, more.shift().slice(0, 8)),
    made("span", { class: "more" }, more.filter(Boolean).join(" · ")),
    made("span", { class: "took" }, `${took}${told.running ? "" : `, ${bytes(told.bytes_out)}`}`),
  );
}

export function take(told) {
  for (const one of told) {
    const known = rows.get(one.id);
    if (one.gone) {
      known?.element.remove();
      rows.delete(one.id);
      continue;
    }
    const element = known?.element ?? made("div", {
      class: "row", role: "option", id: `row-${one.id}`, "aria-selected": String(one.id === chosen),
      on: { click: () => choose(one.id, true) },
    });
    rows.set(one.id, { told: one, element });
    fill(element, one);
    if (!known) box.prepend(element);
  }
  while (rows.size > MOST) {
    const oldest = Math.min(...rows.keys());
    rows.get(oldest).element.remove();
    rows.delete(oldest);
  }
  $("empty").hidden = rows.size > 0;
}

export function forget() {
  rows.clear();
  box.replaceChildren();
  $("empty").hidden = false;
}

export function choose(id, open = false) {
  rows.get(chosen)?.element.setAttribute("aria-selected", "false");
  chosen = id;
  const row = rows.get(id);
  if (row) {
    row.element.setAttribute("aria-selected", "true");
    row.element.scrollIntoView({ block: "nearest" });
    box.setAttribute("aria-activedescendant", row.element.id);
  } else {
    box.removeAttribute("aria-activedescendant");
  }
  opened(id, open);
}

box.addEventListener("keydown", (event) => {
  const elements = [...box.children];
  const at = elements.findIndex((element) => element.getAttribute("aria-selected") === "true");
  const to = {
    ArrowDown: at + 1, ArrowUp: Math.max(0, at - 1), Home: 0, End: elements.length - 1, PageDown: at + 10,
    PageUp: Math.max(0, at - 10),
  }[event.key];
  if (to !== undefined && elements.length) {
    event.preventDefault();
    choose(Number(elements[Math.min(to, elements.length - 1)].id.slice(4)));
  } else if ((event.key === "Enter" || event.key === " ") && chosen !== null) {
    event.preventDefault();
    opened(chosen, true);
  }
});
