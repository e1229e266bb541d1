// The first view: how the cluster is, in one page.

import { agentColumns, endpointColumns, eventColumns, eventText, nodeColumns, requestColumns, requestKey, requestText } from "./columns.js";
import { h, line, section, show } from "./dom.js";
import { number, onDay, percent, span, took } from "./format.js";
import { Table } from "./table.js";

const LAST = 12;

export function overview(model) {
  const figures = new Figures();
  const attention = h("ul", { class: "attention" });
  const fine = h("p", { class: "fine" });
  const nodes = new Table({
    caption: "Nodes of the cluster", columns: nodeColumns(model), key: (row) => row.id, empty: "No node is known yet.", sort: "node",
  });
  const endpoints = new Table({
    caption: "Endpoints of the cluster", columns: endpointColumns(), key: (row) => row.id,
    empty: "No agent serves an endpoint.", filter: "Filter endpoints", text: (row) => row.id, sort: "endpoint",
  });
  const agents = new Table({
    caption: "Agents of the cluster", columns: agentColumns(model), key: (row) => row.id,
    empty: "No agent is connected.", filter: "Filter agents", sort: "agent",
    text: (row) => [row.id, row.version, row.old ? "older" : "", ...row.addresses, ...row.endpoints, ...row.subjects].join(" "),
  });
  const events = new Table({ caption: "The last events", columns: eventColumns(), key: requestKey, empty: "Nothing has happened yet.", text: eventText });
  const failures = new Table({
    caption: "The last requests that failed", columns: requestColumns(), key: requestKey,
    empty: "No request has failed.", text: requestText,
  });
  const element = h(
    "div",
    {},
    h("h1", { class: "unseen" }, "Overview"),
    figures.element,
    section("Worth a look", fine, attention),
    section("Nodes", nodes),
    section("Endpoints", endpoints),
    section("Agents", agents),
    section("Last failures", failures, more("#/requests", "All failures and other requests")),
    section("Events", events, more("#/events", "All events")),
  );

  function update() {
    figures.update(model);
    const found = model.attention;
    show(fine, found.length ? "" : calm(model));
    fine.hidden = found.length > 0;
    attention.hidden = found.length === 0;
    paintAttention(attention, found);
    nodes.update([...model.nodes].map(([id, node]) => ({ id, ...node })));
    endpoints.update([...model.byEndpoint.values()]);
    agents.update([...model.byAgent.values()]);
    events.update(model.events.slice(-LAST).reverse());
    failures.update(model.failures.slice(-LAST).reverse());
  }
  return { title: "Overview", element, update };
}

function calm(model) {
  const [first] = model.certificates;
  const ends = first ? ` The certificate that ends first is that of ${first.node}, ${first.port} port, on ${onDay(first.until_s)}, in ${span(first.until_s - model.now_s)}.` : "";
  return `Nothing: all nodes are there, and no request fails.${ends}`;
}

function paintAttention(list, found) {
  const key = JSON.stringify(found);
  if (list.shown === key) return;
  list.shown = key;
  list.replaceChildren(
    ...found.map(({ kind, to, name, words }) =>
      h("li", {}, h("span", { class: `state ${kind}` }, h("a", { href: `#/${to}` }, name), ` ${words}`)),
    ),
  );
}

const more = (href, words) => h("p", { class: "more" }, h("a", { href }, words));

/** The figures at the top. */
class Figures {
  constructor() {
    this.values = new Map();
    this.line = h("div", { class: "drawn" });
    this.element = h("dl", { class: "figures", "aria-label": "The cluster now" });
    for (const name of ["Nodes", "Requests/s", "p50", "p99", "Failed", "In flight"]) {
      const value = h("dd");
      this.values.set(name, value);
      this.element.append(h("div", { class: name === "Requests/s" ? "drawing" : null }, h("dt", {}, name), value));
    }
  }

  update(model) {
    const all = model.totals;
    const set = (name, ...parts) => show(this.values.get(name), ...parts);
    set("Nodes", String(all.nodes), { faint: ` ${all.active} active` });
    set("Requests/s", number(all.requests_per_s));
    set("p50", took(all.p50_s));
    set("p99", took(all.p99_s));
    set("Failed", percent(all.failed_per_s, all.requests_per_s));
    set("In flight", number(all.in_flight));
    this.line.replaceChildren(line(model.lines.get("") ?? [0]));
    const drawing = this.values.get("Requests/s");
    if (this.line.parentElement !== drawing) drawing.append(this.line);
  }
}

