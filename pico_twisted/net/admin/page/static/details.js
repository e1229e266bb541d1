// The views of one node, one endpoint, one agent.

import { button } from "./actions.js";
import {
  agentColumns, agentsOf, cpu, endpointColumns, eventColumns, eventText, left, names, ofClient, requestColumns, requestKey, requestText,
  stateOf, toAgent, toEndpoint, toNode, version,
} from "./columns.js";
import { Facts, h, line, section } from "./dom.js";
import { NONE, amount, many, number, onDay, percent, size, span, took } from "./format.js";
import { Asked } from "./asked.js";
import { Table } from "./table.js";

const LAST = 20;
const ASKED = 100;

/** What the views of a thing share: its name, its kind, a line of its requests, facts, and what may be done. */
class Detail {
  constructor(model, kind, id) {
    this.model = model;
    this.name = `${kind.toLowerCase()}/${id}`;
    this.facts = new Facts();
    this.line = h("div", { class: "drawn" });
    this.drawn = h("div", { class: "large", hidden: true }, h("p", {}, "Requests/s since this page was opened, of three minutes at most"), this.line);
    this.gone = h("p", { class: "gone", hidden: true }, `${kind} ${id} is not known here now.`);
    this.actions = h("div", { class: "buttons" });
    this.element = h(
      "div",
      { class: "detail" },
      h("p", { class: "back" }, h("a", { href: "#/" }, "Overview")),
      h("h1", {}, h("span", { class: "kind" }, `${kind} `), id),
      this.actions,
      this.gone,
      this.facts.element,
      this.drawn,
    );
    this.title = `${id}, ${kind.toLowerCase()}`;
  }

  update(there, facts) {
    this.gone.hidden = there;
    this.facts.element.hidden = !there;
    this.actions.hidden = !there;
    this.facts.update(there ? facts : []);
    const values = this.model.lines.get(this.name);
    if (values) this.line.replaceChildren(line(values));
    this.drawn.hidden = !this.line.firstElementChild;
  }

  /** Show buttons, to those who may press them. */
  offers(...actions) {
    if (this.model.hello.may === "operate" && !this.actions.firstChild) this.actions.append(...actions.map(button));
  }
}

const eventsTable = (caption) =>
  new Table({ caption, columns: eventColumns(), key: requestKey, empty: "Nothing is known to have happened.", text: eventText });
const failuresTable = (caption, columns) =>
  new Table({ caption, columns, key: requestKey, empty: "No request has failed.", text: requestText, most: LAST });

export function nodeView(model, id) {
  const detail = new Detail(model, "Node", id);
  const certificates = new Table({
    caption: `Certificates of ${id}`, key: (row) => row.port, empty: "No port of this node has a certificate, or it did not tell.",
    columns: [
      { id: "port", head: "Port", cell: (row) => row.port },
      { id: "until", head: "Good until", cell: (row) => onDay(row.until_s) },
      { id: "left", head: "That is", number: true, cell: (row) => left(row.until_s, model.now_s) },
    ],
  });
  const endpoints = new Table({
    caption: `Endpoints at ${id}`, key: (row) => row.id, empty: "No agent has registered an endpoint at this node.",
    columns: endpointColumns().filter((column) => column.id !== "nodes"), sort: "endpoint",
    filter: "Filter endpoints", text: (row) => row.id,
  });
  const events = eventsTable(`Events of ${id}`);
  const failures = failuresTable(`Failures at ${id}`, requestColumns());
  detail.element.append(
    section("Certificates", certificates),
    section("Endpoints here", endpoints),
    section("Last failures", failures),
    section("Events", events),
  );

  function update() {
    const node = model.nodes.get(id);
    detail.update(Boolean(node), node ? nodeFacts(node, model) : []);
    detail.offers(...nodeActions(id, model));
    certificates.update(model.certificates.filter((one) => one.node === id));
    endpoints.update(endpointsAt(model, id));
    failures.update(model.failures.filter((row) => row.node === id).slice(-LAST).reverse());
    events.update(model.events.filter((row) => row.node === id).slice(-LAST).reverse());
  }
  return { title: detail.title, element: detail.element, update };
}

function nodeFacts(node, model) {
  return [
    ["State", stateOf(node)],
    ["No figures", node.why ? { state: "warn", text: node.why } : null],
    ["Node link", node.link],
    ["Requests/s", number(node.requests_per_s)],
    ["p50, p99", `${took(node.p50_s)}, ${took(node.p99_s)}`],
    ["Failed", percent(node.failed_per_s, node.requests_per_s)],
    ["In flight", number(node.in_flight)],
    ["Connections", number(node.connections)],
    ["Agents’ sessions", number(node.sessions)],
    ["In, out", node.bytes_in_per_s === undefined ? null : `${size(node.bytes_in_per_s)}/s, ${size(node.bytes_out_per_s)}/s`],
    ["Near its limit", near(node)],
    ["CPU", cpu(node.cpu)],
    ["Memory", size(node.memory_bytes)],
    ["Event loop lag, p99", took(node.lag_p99_s)],
    ["Running for", node.started_at_s ? span(model.now_s - node.started_at_s) : NONE],
    ["Version", version(node.version, model.hello.version)],
    ["Proxy port", node.proxy_addr],
    ["Admin port", node.admin_addr],
    ["Gossip port", node.gossip_addr],
  ];
}

/** The limits of a node that are near, or nothing. */
function near(node) {
  const limits = Object.entries(node.near_limits ?? {});
  if (!limits.length) return null;
  const words = ([name, { used, most }]) => `limits.${name}: ${amount(name, used)} of ${amount(name, most)}`;
  return { list: limits.map((one) => ({ state: one[1].used < one[1].most ? "warn" : "bad", text: words(one) })) };
}

function endpointsAt(model, id) {
  return [...model.byEndpoint.values()]
    .filter((one) => id in one.held)
    .map((one) => ({
      ...one,
      sessions: one.sessions.filter((session) => session.node === id),
      ...(one.rates.get(id) ?? { requests_per_s: 0, failed_per_s: 0, p99_s: null, in_flight: 0 }),
    }));
}

function nodeActions(id, model) {
  const query = { node: id };
  const here = id === model.hello.node;
  return [
    { name: `Cordon ${id}`, path: "cordon", query, done: stands, means: `${id} takes no new sessions of agents; those that are there stay.` },
    {
      name: `Drain ${id}`, path: "drain", query, strong: true, done: stands,
      means: `The agents and clients of ${id} are sent elsewhere; requests in progress come to their end. It runs on, and Uncordon takes this back.`,
    },
    { name: `Uncordon ${id}`, path: "uncordon", query, done: stands, means: `${id} takes agents and requests as before.` },
    ...(here
      ? [{ name: `Reload ${id}`, path: "reload", means: `${id} reads its configuration, certificates and tokens again.`, done: reloaded }]
      : []),
  ];
}

const stands = (said) =>
  `${said.node} is ${said.intake}; ${many(said.requests ?? 0, "request")} in progress, ${many(said.sessions ?? 0, "session")} of agents`;
const reloaded = (said) => said.changed?.join("; ") || "nothing has changed";

export function endpointView(model, id) {
  const detail = new Detail(model, "Endpoint", id);
  const agents = new Table({
    caption: `Agents that serve ${id}`, key: (row) => row.id, empty: "No agent serves it.", columns: agentColumns(model).filter((column) => column.id !== "endpoints"), sort: "agent",
  });
  const nodes = new Table({
    caption: `Requests for ${id} at each node`, key: (row) => row.id, empty: "No node has had a request for it lately.", sort: "node",
    columns: [
      { id: "node", head: "Node", by: (row) => row.id, cell: (row) => toNode(row.id) },
      { id: "sessions", head: "Sessions", number: true, cell: (row) => number(row.sessions) },
      ...endpointColumns().filter((column) => ["requests", "p99", "failed", "flight"].includes(column.id)),
    ],
  });
  const failures = failuresTable(`Failures of ${id}`, requestColumns({ endpoint: false }));
  const asked = new Asked("status/cluster/requests", { endpoint: id, limit: ASKED });
  const slow = new Table({
    caption: `Requests for ${id}, the slowest first`, columns: requestColumns({ endpoint: false, client: true }), key: requestKey, most: LAST,
    empty: "No request for it is kept.", text: requestText, sort: "-took",
  });
  detail.element.append(
    section("Agents", agents),
    section("Nodes", nodes),
    section("Last failures", failures),
    section("Last requests, the slowest first", asked.element, slow),
  );
  asked.ask((rows) => slow.update(rows.filter(ofClient)));

  function update() {
    const one = model.byEndpoint.get(id);
    detail.update(Boolean(one), one ? endpointFacts(one) : []);
    const serving = new Set(one ? agentsOf(one) : []);
    agents.update([...model.byAgent.values()].filter((agent) => serving.has(agent.id)));
    nodes.update(one ? nodesOf(one) : []);
    failures.update(model.failures.filter((row) => row.endpoint === id).slice(-LAST).reverse());
  }
  return { title: detail.title, element: detail.element, update };
}

function endpointFacts(one) {
  return [
    ["URL", one.url ? { url: one.url } : null],
    ["Protocol", one.protocol],
    ["Served by", one.sessions.length ? names(agentsOf(one), toAgent) : { state: "bad", text: "no agent" }],
    ["At nodes", names(Object.keys(one.held).sort(), toNode)],
    ["Requests/s", number(one.requests_per_s)],
    ["p50, p99", `${took(one.p50_s)}, ${took(one.p99_s)}`],
    ["First byte, p99", took(one.first_byte_p99_s)],
    ["Failed", percent(one.failed_per_s, one.requests_per_s)],
    ["In flight", number(one.in_flight)],
  ];
}

function nodesOf(one) {
  const none = { requests_per_s: null, failed_per_s: null, p99_s: null, in_flight: null };
  const ids = new Set([...Object.keys(one.held), ...one.rates.keys()]);
  return [...ids].map((node) => ({ id: node, sessions: one.held[node] ?? 0, ...none, ...one.rates.get(node) }));
}

export function agentView(model, id) {
  const detail = new Detail(model, "Agent", id);
  const sessions = new Table({
    caption: `Sessions of ${id}`, key: (row) => row.key, empty: "It has no session.", sort: "endpoint",
    columns: [
      { id: "endpoint", head: "Endpoint", by: (row) => row.endpoint, cell: (row) => toEndpoint(row.endpoint) },
      { id: "node", head: "Node", by: (row) => row.node, cell: (row) => toNode(row.node) },
      { id: "protocol", head: "Protocol", wide: true, by: (row) => row.protocol, cell: (row) => row.protocol },
      { id: "since", head: "Connected", number: true, by: (row) => -row.since_s, cell: (row) => span(model.now_s - row.since_s) },
      { id: "trip", head: "Round trip", number: true, by: (row) => row.rtt_s ?? -1, cell: (row) => took(row.rtt_s) },
      { id: "flight", head: "In flight", number: true, wide: true, by: (row) => row.in_flight, cell: (row) => number(row.in_flight) },
      { id: "state", head: "State", wide: true, cell: (row) => servingState(row, model) },
    ],
  });
  const asked = new Asked("status/cluster/requests", { agent: id, failed: 1, limit: ASKED });
  const failures = failuresTable(`Failures of ${id}`, requestColumns());
  const events = eventsTable(`Events about ${id}`);
  detail.element.append(
    section("Sessions", sessions),
    section("Last failures", asked.element, failures),
    section("Events", events),
  );
  asked.ask((rows) => failures.update([...rows].sort((a, b) => b.at_s - a.at_s)));

  function update() {
    const agent = model.byAgent.get(id);
    detail.update(Boolean(agent), agent ? agentFacts(agent, model) : []);
    detail.offers(
      {
        name: `Kick ${id}`, path: "kick", query: { agent: id },
        means: `The sessions of ${id} are ended at all nodes. It may come back at once.`,
        done: ended,
      },
      {
        name: `Revoke ${id}`, path: "revoke", query: { agent: id }, strong: true,
        means: `The sessions of ${id} are ended at all nodes, and it is let in no more until that is taken back.`,
        done: ended,
      },
    );
    sessions.update(agent ? agent.sessions : []);
    events.update(model.events.filter((row) => eventText(row).includes(id)).slice(-LAST).reverse());
  }
  return { title: detail.title, element: detail.element, update };
}

function ended(said) {
  const unaware = Object.keys(said.unaware ?? {});
  return `${many(said.ended ?? 0, "session")} ended${unaware.length ? `; not told yet: ${unaware.join(", ")}` : ""}`;
}

/** Of a session, or of an agent whose sessions are all so. */
function servingState(one, model) {
  if (one.draining) return { state: "warn", text: "draining" };
  if (one.out_since_s) return { state: "bad", text: `service out for ${span(model.now_s - one.out_since_s)}` };
  if (one.standing) return { state: "warn", text: `${one.standing}: ${took(one.first_byte_s)} to the first byte` };
  return { state: "good", text: "serving" };
}

function agentFacts(agent, model) {
  return [
    ["State", servingState(agent, model)],
    ["Address", agent.addresses.join(", ")],
    ["Version", agent.old ? { state: "warn", text: `${agent.version}, older than this node (${model.hello.version})` } : agent.version || NONE],
    ["Connected", span(model.now_s - agent.since_s)],
    ["Round trip", took(agent.rtt_s)],
    ["In flight", number(agent.in_flight)],
    ["Known as", agent.subjects.join(", ")],
    ["Nodes", names(agent.nodes, toNode)],
    ["Endpoints", names(agent.endpoints, toEndpoint)],
  ];
}
