// What the page knows: the tables that the node tells, and what is put together of them. Nothing here touches the page.

import { amount, isOlder } from "./format.js";

const MOST_KEPT = 500; // events, and failures
const MOST_POINTS = 90; // of the lines: three minutes
const SOON_S = 14 * 86400;

const STATES = {
  unreachable: "cannot be reached",
  draining: "is draining: its process ends",
  drained: "is drained: its agents and clients go elsewhere",
  cordoned: "is cordoned: it takes no new agents",
};

export class Model {
  constructor() {
    this.hello = {};
    this.#forget();
    this.lines = new Map();
  }

  #forget() {
    Object.assign(this, { nodes: new Map(), rates: new Map(), held: new Map(), sessions: new Map() });
    Object.assign(this, { events: [], failures: [], now_s: 0, byEndpoint: new Map(), byAgent: new Map() });
  }

  /** Whether the node has told anything yet. */
  get isEmpty() {
    return this.now_s === 0;
  }

  /** Take what the node told. */
  take(event, value) {
    if (event === "hello") {
      this.hello = value;
      return;
    }
    if (value.whole) this.#forget();
    this.now_s = value.at_s;
    for (const table of ["nodes", "rates", "held", "sessions"]) {
      for (const [key, row] of Object.entries(value[table] ?? {})) this[table].set(key, row);
      for (const key of value.gone?.[table] ?? []) this[table].delete(key);
    }
    this.events = [...this.events, ...(value.events ?? [])].slice(-MOST_KEPT);
    this.failures = [...this.failures, ...(value.failures ?? [])].slice(-MOST_KEPT);
    this.#combine();
    this.#draw();
  }

  #combine() {
    this.byEndpoint = new Map();
    this.byAgent = new Map();
    for (const [id, held] of this.held) this.#endpoint(id).held = held;
    for (const [key, rate] of this.rates) {
      const [node, id] = key.split(" ");
      const of = this.#endpoint(id);
      of.rates.set(node, rate);
      for (const name of ["requests_per_s", "failed_per_s", "in_flight"]) of[name] += rate[name];
      for (const name of ["p50_s", "p99_s", "first_byte_p99_s"]) {
        if (rate[name] !== null) of[name] = Math.max(of[name] ?? 0, rate[name]);
      }
    }
    for (const [key, told] of this.sessions) {
      const [id, node, endpoint] = key.split(" ");
      const session = { ...told, key, agent: id, node, endpoint };
      const of = this.#endpoint(endpoint);
      of.sessions.push(session);
      of.url ||= told.url;
      of.protocol = told.protocol;
      this.#agent(id).sessions.push(session);
    }
    for (const agent of this.byAgent.values()) this.#describe(agent);
  }

  #endpoint(id) {
    if (!this.byEndpoint.has(id)) {
      const none = { requests_per_s: 0, failed_per_s: 0, in_flight: 0, p50_s: null, p99_s: null, first_byte_p99_s: null };
      this.byEndpoint.set(id, { id, held: {}, rates: new Map(), sessions: [], url: "", protocol: "", ...none });
    }
    return this.byEndpoint.get(id);
  }

  #agent(id) {
    if (!this.byAgent.has(id)) this.byAgent.set(id, { id, sessions: [] });
    return this.byAgent.get(id);
  }

  #describe(agent) {
    const { sessions } = agent;
    const all = (name) => [...new Set(sessions.map((one) => one[name]))];
    const trips = sessions.map((one) => one.rtt_s).filter((one) => one !== null);
    Object.assign(agent, {
      addresses: [...new Set(sessions.map((one) => one.address.replace(/:\d+$/, "")))],
      version: sessions[0].version,
      old: sessions.some((one) => isOlder(one.version, this.hello.version)),
      since_s: Math.min(...sessions.map((one) => one.since_s)),
      rtt_s: trips.length ? Math.max(...trips) : null,
      in_flight: sessions.reduce((sum, one) => sum + one.in_flight, 0),
      draining: sessions.every((one) => one.draining),
      out_since_s: sessions.every((one) => one.out_since_s) ? Math.min(...sessions.map((one) => one.out_since_s)) : null,
      standing: sessions.find((one) => one.standing)?.standing ?? "",
      first_byte_s: sessions.find((one) => one.standing)?.first_byte_s ?? null,
      nodes: all("node").sort(),
      endpoints: all("endpoint").sort(),
      subjects: all("subject").filter(Boolean),
    });
  }

  #draw() {
    this.#point("", this.totals.requests_per_s);
    for (const [id, node] of this.nodes) this.#point(`node/${id}`, node.requests_per_s ?? 0);
    for (const [id, of] of this.byEndpoint) this.#point(`endpoint/${id}`, of.requests_per_s);
  }

  #point(name, value) {
    const line = this.lines.get(name) ?? [];
    line.push(value);
    if (line.length > MOST_POINTS) line.shift();
    this.lines.set(name, line);
  }

  /** Sums over the nodes that told something. The median of all is that of each, weighed by its requests; p99 is the worst. */
  get totals() {
    const nodes = [...this.nodes.values()].filter((node) => node.requests_per_s !== undefined);
    const sum = (name) => nodes.reduce((all, node) => all + (node[name] ?? 0), 0);
    const requests = sum("requests_per_s");
    const weighed = (name) =>
      requests ? nodes.reduce((all, node) => all + (node[name] ?? 0) * node.requests_per_s, 0) / requests : null;
    return {
      nodes: this.nodes.size,
      active: [...this.nodes.values()].filter((node) => node.state === "active").length,
      requests_per_s: requests,
      failed_per_s: sum("failed_per_s"),
      in_flight: sum("in_flight"),
      p50_s: weighed("p50_s"),
      p99_s: requests ? Math.max(...nodes.map((node) => node.p99_s ?? 0)) : null,
    };
  }

  /** The certificates of all nodes, the one that ends first in front: {node, port, until_s}. */
  get certificates() {
    const all = [...this.nodes].flatMap(([id, node]) =>
      Object.entries(node.certificates ?? {}).map(([port, until_s]) => ({ node: id, port, until_s })),
    );
    return all.sort((a, b) => a.until_s - b.until_s);
  }

  /** The limits of all nodes that are near: {node, name, used, most}. */
  get nearLimits() {
    return [...this.nodes].flatMap(([node, { near_limits: near }]) =>
      Object.entries(near ?? {}).map(([name, limit]) => ({ node, name, ...limit })),
    );
  }

  /** What an operator should look at: {kind, to, name, words}. */
  get attention() {
    const found = [];
    for (const [id, node] of this.nodes) {
      const words = STATES[node.state];
      if (words) found.push({ kind: node.state === "unreachable" ? "bad" : "warn", to: `node/${id}`, name: id, words });
      if (node.why && node.state !== "unreachable") {
        found.push({ kind: "warn", to: `node/${id}`, name: id, words: `does not tell its figures: ${node.why}` });
      }
    }
    for (const { node, port, until_s } of this.certificates) {
      const left_s = until_s - this.now_s;
      if (left_s < SOON_S) {
        const words = left_s < 0 ? "has expired" : `expires in ${Math.floor(left_s / 86400)} d`;
        found.push({ kind: left_s < 0 ? "bad" : "warn", to: `node/${node}`, name: node, words: `certificate of the ${port} port ${words}` });
      }
    }
    for (const [id, { refused_share: share }] of this.nodes) {
      if (share > 0) {
        const words = `is overloaded, and refuses ${Math.round(share * 100)} % of the new requests`;
        found.push({ kind: "bad", to: `node/${id}`, name: id, words });
      }
    }
    for (const { node, name, used, most } of this.nearLimits) {
      const words = `uses ${amount(name, used)} of ${amount(name, most)} (limits.${name})`;
      found.push({ kind: used < most ? "warn" : "bad", to: `node/${node}`, name: node, words });
    }
    const failing = [...this.byEndpoint.values()].filter((one) => one.failed_per_s > 0);
    for (const one of failing.sort((a, b) => b.failed_per_s - a.failed_per_s).slice(0, 5)) {
      found.push({ kind: "bad", to: `endpoint/${one.id}`, name: one.id, words: "has requests that fail" });
    }
    const old = [...this.byAgent.values()].filter((agent) => agent.old);
    for (const agent of old.slice(0, 3)) {
      found.push({ kind: "warn", to: `agent/${agent.id}`, name: agent.id, words: `is of an older version, ${agent.version}` });
    }
    return found;
  }
}
