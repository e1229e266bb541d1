// The columns of the tables, which several views share.

import { NONE, hop, isOlder, kindOfState, number, onDay, size, span, time, took } from "./format.js";

export const toNode = (id) => ({ text: id, to: `node/${encodeURIComponent(id)}` });
export const toEndpoint = (id) => ({ text: id, to: `endpoint/${encodeURIComponent(id)}` });
export const toAgent = (id) => ({ text: id, to: `agent/${encodeURIComponent(id)}` });
export const stateOf = (node) => ({ state: kindOfState(node.state), text: node.state });
const MOST_NAMES = 3;

/** Names that lead somewhere; of many the first ones and how many more there are. */
export const names = (ids, to) =>
  ids.length > MOST_NAMES + 1
    ? { list: [...ids.slice(0, MOST_NAMES).map(to), { faint: `${ids.length - MOST_NAMES} more` }] }
    : { list: ids.map(to) };

const failing = (row) =>
  row.failed_per_s > 0 ? { state: "bad", text: number(row.failed_per_s) } : number(row.failed_per_s);
const rates = [
  { id: "requests", head: "Requests/s", number: true, by: (row) => row.requests_per_s ?? -1, cell: (row) => number(row.requests_per_s) },
  { id: "p99", head: "p99", number: true, by: (row) => row.p99_s ?? -1, cell: (row) => took(row.p99_s) },
  { id: "failed", head: "Failed/s", number: true, by: (row) => row.failed_per_s ?? -1, cell: failing },
];
const inFlight = {
  id: "flight", head: "In flight", number: true, wide: true, by: (row) => row.in_flight ?? -1, cell: (row) => number(row.in_flight),
};

/** Of nodes: rows are what the model has of a node, with its `id`. */
export const nodeColumns = (model) => [
  { id: "node", head: "Node", by: (row) => row.id, cell: (row) => toNode(row.id) },
  { id: "state", head: "State", by: (row) => row.state, cell: stateOf },
  ...rates.map((column) => (column.id === "p99" ? { ...column, wide: true } : column)),
  { id: "endpoints", head: "Endpoints", number: true, wide: true, by: (row) => row.endpoints, cell: (row) => number(row.endpoints) },
  { id: "cpu", head: "CPU", number: true, wide: true, by: (row) => row.cpu ?? -1, cell: (row) => cpu(row.cpu) },
  { id: "memory", head: "Memory", number: true, wide: true, by: (row) => row.memory_bytes ?? -1, cell: (row) => size(row.memory_bytes) },
  {
    id: "certificate", head: "Certificate", wide: true, number: true,
    by: (row) => firstEnd(row) ?? Infinity,
    cell: (row) => left(firstEnd(row), model.now_s),
  },
  {
    id: "version", head: "Version", wide: true, by: (row) => row.version,
    cell: (row) => version(row.version, model.hello.version),
  },
];

export const cpu = (part) => (typeof part === "number" ? `${Math.round(100 * part)} %` : NONE);
const firstEnd = (node) => {
  const ends = Object.values(node.certificates ?? {});
  return ends.length ? Math.min(...ends) : null;
};

/** How long a certificate is good for. */
export const left = (until_s, now_s) => {
  if (until_s === null) return NONE;
  const left_s = until_s - now_s;
  if (left_s < 0) return { state: "bad", text: "expired" };
  return left_s < 14 * 86400 ? { state: "warn", text: span(left_s) } : span(left_s);
};

/** A version, marked when it is older than that of the node that tells all this. */
export const version = (of, ours) =>
  of && isOlder(of, ours) ? { list: [{ state: "warn", text: `${of} older` }] } : of || NONE;

/** Of endpoints: rows are the model's. */
export const endpointColumns = () => [
  { id: "endpoint", head: "Endpoint", by: (row) => row.id, cell: (row) => toEndpoint(row.id) },
  {
    id: "agents", head: "Agents", wide: true, by: (row) => agentsOf(row).length,
    cell: (row) => (row.sessions.length ? names(agentsOf(row), toAgent) : NONE),
  },
  {
    id: "nodes", head: "Nodes", wide: true, by: (row) => Object.keys(row.held).join(),
    cell: (row) => names(Object.keys(row.held).sort(), toNode),
  },
  ...rates,
  inFlight,
];
export const agentsOf = (endpoint) => [...new Set(endpoint.sessions.map((one) => one.agent))].sort();

/** Of agents: rows are the model's. */
export const agentColumns = (model) => [
  { id: "agent", head: "Agent", by: (row) => row.id, cell: (row) => toAgent(row.id) },
  { id: "address", head: "Address", wide: true, by: (row) => row.addresses[0], cell: (row) => row.addresses.join(", ") },
  { id: "version", head: "Version", by: (row) => row.version, cell: (row) => version(row.version, model.hello.version) },
  {
    id: "since", head: "Connected", number: true, wide: true, by: (row) => -row.since_s,
    cell: (row) => span(model.now_s - row.since_s),
  },
  { id: "trip", head: "Round trip", number: true, by: (row) => row.rtt_s ?? -1, cell: (row) => took(row.rtt_s) },
  inFlight,
  { id: "nodes", head: "Nodes", wide: true, by: (row) => row.nodes.join(), cell: (row) => names(row.nodes, toNode) },
  { id: "endpoints", head: "Endpoints", wide: true, by: (row) => row.endpoints.join(), cell: (row) => names(row.endpoints, toEndpoint) },
];

/** Of events: rows as the node tells them. */
export const eventColumns = () => [
  { id: "time", head: "Time", tight: true, by: (row) => row.at_s, cell: (row) => ({ at_s: row.at_s, text: time(row.at_s) }) },
  { id: "node", head: "Node", tight: true, wide: true, by: (row) => row.node, cell: (row) => toNode(row.node) },
  { id: "event", head: "What happened", grows: true, cell: (row) => ({ row: [eventWords(row), { faint: eventFields(row) }] }) },
];
const MOST_FIELDS = 8;
const eventFields = (row) =>
  Object.entries(row.fields ?? {})
    .filter(([name, value]) => value !== "" && value !== null && name !== "node_id")
    .slice(0, MOST_FIELDS)
    .map(([name, value]) => `${name}=${value}`)
    .join(" ");
const levels = { warn: "warn", warning: "warn", error: "bad", critical: "bad" };
const eventWords = (row) => (levels[row.level] ? { state: levels[row.level], text: row.message } : row.message);
export const eventText = (row) => `${time(row.at_s)} ${row.node} ${row.level} ${row.message} ${JSON.stringify(row.fields ?? {})}`;

/** Of requests: rows as the node tells them. */
export const requestColumns = ({ endpoint = true, client = false } = {}) => [
  { id: "time", head: "Time", tight: true, by: (row) => row.at_s, cell: (row) => ({ at_s: row.at_s, text: time(row.at_s) }) },
  { id: "what", head: "Request", grows: true, cell: request },
  ...(endpoint ? [requestEndpoint] : []),
  ...(client ? [requestClient] : []),
  { id: "status", head: "Status", number: true, by: (row) => row.status, cell: status },
  { id: "took", head: "Took", number: true, wide: true, by: (row) => row.duration_s, cell: (row) => took(row.duration_s) },
  { id: "hop", head: "Failed", wide: true, tight: true, by: (row) => row.hop, cell: (row) => (row.hop ? hop(row.hop) : NONE) },
  { id: "error", head: "Why", wide: true, tight: true, by: (row) => row.error, cell: (row) => row.error || NONE },
  { id: "id", head: "ID", wide: true, tight: true, cell: (row) => (row.request_id ? { code: row.request_id.slice(0, 8) } : NONE) },
];
const request = (row) => {
  const text = `${row.method} ${row.target}`;
  return row.request_id ? { text, to: `request/${encodeURIComponent(row.request_id)}` } : text;
};
const requestClient = { id: "client", head: "Client", wide: true, by: (row) => row.client, cell: (row) => row.client || NONE };
const requestEndpoint = {
  id: "endpoint", head: "Endpoint", wide: true, tight: true, by: (row) => row.endpoint,
  cell: (row) => (row.endpoint ? toEndpoint(row.endpoint) : NONE),
};
export const status = (row) =>
  row.status >= 500 ? { state: "bad", text: row.status } : row.status >= 400 ? { state: "warn", text: row.status } : row.status;
export const requestText = (row) =>
  [time(row.at_s), row.request_id, row.method, row.target, row.endpoint, row.status, row.hop, row.error, row.node, row.client].join(" ");
/** Whether a row is of the node that the client asked; what comes over a link is told by both nodes. */
export const ofClient = (row) => row.port !== "link";
export const requestKey = (row) => `${row.node} ${row.at_s} ${row.seq}`;
export const until = (until_s) => (until_s ? onDay(until_s) : "for ever");
