// The views of many things: events, requests, who is revoked; and of one request.

import { Asked } from "./asked.js";
import { button } from "./actions.js";
import { eventColumns, eventText, ofClient, requestColumns, requestKey, requestText, status, toAgent, toEndpoint, toNode, until } from "./columns.js";
import { Facts, h, section, show } from "./dom.js";
import { NONE, hop, size, time, took } from "./format.js";
import { Table } from "./table.js";

const ASKED = 500;

const view = (title, words, ...children) =>
  h("div", {}, h("h1", {}, title), words ? h("p", { class: "lead" }, words) : null, ...children);

export function eventsView(model) {
  const asked = new Asked("status/cluster/events", { limit: ASKED });
  const table = new Table({
    caption: "Events, the last one first", columns: eventColumns(), key: requestKey, most: ASKED,
    empty: "Nothing is known to have happened.", filter: "Filter events: 03:02, warn, a name", text: eventText,
  });
  const element = view("Events", "What the nodes did and met, the last first. Filter by a time of day to see what happened then.", asked.element, table.field, table.element);
  const rows = new Map();
  const add = (more) => {
    for (const row of more) rows.set(requestKey(row), row);
    table.update([...rows.values()].sort((a, b) => b.at_s - a.at_s));
  };
  asked.ask(add);
  return { title: "Events", element, update: () => add(model.events) };
}

export function requestsView() {
  const failed = h("input", { type: "checkbox", checked: true });
  const asked = h("div");
  const table = new Table({
    caption: "Requests, the last one first", columns: requestColumns({ client: true }), key: requestKey, most: ASKED,
    empty: "No such request is kept.", filter: "Filter requests: path, ID, client, code", text: requestText,
  });
  const ask = () => {
    const question = new Asked("status/cluster/requests", { limit: ASKED, ...(failed.checked ? { failed: 1 } : {}) });
    asked.replaceChildren(question.element);
    question.ask((rows) => table.update(rows.filter(ofClient).sort((a, b) => b.at_s - a.at_s)));
  };
  failed.addEventListener("change", ask);
  const element = view(
    "Requests", "Requests that are over, as far as the nodes keep them.",
    h("p", {}, h("label", { class: "choice" }, failed, " Only those that failed")), asked, table.field, table.element,
  );
  ask();
  return { title: "Requests", element, update() {} };
}

export function revokedView(model) {
  const asked = new Asked("status/revocations", {});
  const columns = [
    { id: "name", head: "Who", by: (row) => row.name, cell: (row) => (row.kind === "agent" ? toAgent(row.name) : row.name) },
    { id: "kind", head: "As", by: (row) => row.kind, cell: (row) => (row.kind === "agent" ? "agent" : "credential") },
    { id: "at", head: "Since", by: (row) => row.at_s, cell: (row) => ({ at_s: row.at_s, text: time(row.at_s) }) },
    { id: "until", head: "Until", wide: true, by: (row) => row.until_s, cell: (row) => until(row.until_s) },
    { id: "by", head: "By", wide: true, by: (row) => row.by, cell: (row) => row.by || NONE },
  ];
  const table = new Table({
    caption: "Who is revoked", columns, key: (row) => `${row.kind} ${row.name}`, empty: "Nobody is revoked.",
    filter: "Filter", text: (row) => `${row.kind} ${row.name} ${row.by}`, sort: "name",
  });
  const undo = h("div", { class: "buttons" });
  const element = view("Revoked", "Who is not let in, at any node, whatever they show.", asked.element, undo, table.field, table.element);
  asked.ask((rows) => {
    table.update(rows);
    if (model.hello.may !== "operate") return;
    undo.replaceChildren(...rows.map((row) => button({
      name: `Let ${row.name} in again`, path: "revoke", query: { [row.kind]: row.name, undo: 1 },
      means: `${row.name} is let in again at all nodes, with what it has a credential for.`,
      done: () => asked.ask(asked.then) && "done",
    })));
  });
  return { title: "Revoked", element, update() {} };
}

/** One request: what each node knows of it, and its way. */
export function requestView(model, id) {
  const asked = new Asked("status/cluster/requests", { id });
  const found = h("div");
  const element = h(
    "div", { class: "detail" },
    h("p", { class: "back" }, h("a", { href: "#/requests" }, "Requests")),
    h("h1", {}, h("span", { class: "kind" }, "Request "), h("code", {}, id)), asked.element, found,
  );
  asked.ask((rows) => {
    const ordered = [...rows].sort((a, b) => PORTS.indexOf(a.port) - PORTS.indexOf(b.port) || a.at_s - b.at_s);
    found.replaceChildren(...(ordered.length ? [way(ordered), ...ordered.map(told)] : [unknown()]));
  });
  return { title: `request ${id}`, element, update() {} };
}

const PORTS = ["proxy", "link", "tunnel"]; // in the order in which a request comes to them
const unknown = () => h("p", {}, "No node remembers a request of this ID: it is too long ago, it did not fail and nobody looked, or it never came.");

/** The hops of a request: whom it came to, and where it failed, as far as nodes know. */
function way(rows) {
  const [first] = rows;
  const last = rows.at(-1);
  const failed = rows.findLast((row) => row.hop)?.hop;
  const other = rows.find((row) => row.sent_to_node)?.upstream ?? rows.find((row) => row.port === "link")?.node;
  const agent = last.sent_to_node ? "" : last.upstream;
  const steps = [
    ["client", `client ${first.client}`],
    ["proxy", `node ${first.port === "link" ? first.client : first.node}`],
    ...(other || failed === "link" ? [["link", `link to ${other ?? "another node"}`]] : []),
    ["agent", agent ? `agent ${agent}` : "agent"],
    ["service", "service"],
  ];
  const at = steps.findIndex(([hop]) => hop === failed);
  return h("ol", { class: "way", "aria-label": "Its way" }, ...steps.map(([, name], place) => {
    const item = h("li");
    if (at < 0 || place < at) show(item, { state: "good", text: name });
    else show(item, place === at ? { state: "bad", text: `${name}: failed here` } : { state: "none", text: `${name}: not reached` });
    return item;
  }));
}

function told(row, place) {
  const facts = new Facts();
  facts.update([
    ["What", `${row.method} ${row.target}`],
    ["Status", status(row)],
    ["Failed", row.hop ? { state: "bad", text: hop(row.hop) } : { state: "good", text: "no" }],
    ["Why", row.error],
    ["When", { at_s: row.at_s, text: time(row.at_s) }],
    ["Client", row.client],
    ["Known as", row.subject],
    ["Protocol", row.protocol],
    ["Endpoint", row.endpoint ? toEndpoint(row.endpoint) : null],
    ["Node", toNode(row.node)],
    ["Served by", row.upstream],
    ["First byte after", took(row.first_byte_s)],
    ["Took", took(row.duration_s)],
    ["In, out", `${size(row.bytes_in)}, ${size(row.bytes_out)}`],
  ]);
  return section(`${place + 1}. At ${row.node}, ${row.port} port`, facts);
}
