// Numbers, times and states as people read them. What is not known is a dash.

export const NONE = "–";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const date = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

const known = (value) => typeof value === "number" && Number.isFinite(value);

/** A count or a rate. */
export const number = (value) => {
  if (!known(value)) return NONE;
  return value !== 0 && value < 0.05 ? "< 0.1" : (value < 10 ? tenth : whole).format(value);
};

/** How many of something, in words. */
export const many = (count, one, more = `${one}s`) => `${whole.format(count)} ${count === 1 ? one : more}`;

/** How long something took, of seconds. */
export const took = (seconds) => {
  if (!known(seconds)) return NONE;
  if (seconds < 0.001) return `${tenth.format(seconds * 1000)} ms`;
  if (seconds < 0.9995) return `${(seconds < 0.01 ? tenth : whole).format(seconds * 1000)} ms`;
  return seconds < 60 ? `${tenth.format(seconds)} s` : span(seconds);
};

/** A length of time in its largest unit. */
export const span = (seconds) => {
  if (!known(seconds)) return NONE;
  const past = Math.max(0, seconds);
  if (past < 60) return `${Math.floor(past)} s`;
  if (past < 3600) return `${Math.floor(past / 60)} min`;
  return past < 172800 ? `${Math.floor(past / 3600)} h` : `${Math.floor(past / 86400)} d`;
};

const UNITS = ["B", "KB", "MB", "GB", "TB"];

/** A number of bytes. */
export const size = (bytes) => {
  if (!known(bytes)) return NONE;
  let value = bytes;
  let unit = 0;
  for (; value >= 999.5 && unit < UNITS.length - 1; unit += 1) value /= 1000;
  return `${(value < 10 && unit ? tenth : whole).format(value)} ${UNITS[unit]}`;
};

/** How much there is of what has a name: bytes or a number. */
export const amount = (name, value) => (name.endsWith("_bytes") ? size : number)(value);

/** A part of a whole. */
export const percent = (part, all) => {
  if (!known(part) || !known(all)) return NONE;
  const value = all > 0 ? (100 * part) / all : 0;
  if (value === 0) return "0 %";
  return value < 0.01 ? "< 0.01 %" : `${value < 10 ? value.toFixed(2) : whole.format(value)} %`;
};

/** The time of day, with the day in front when that is not today. */
export const time = (at_s, now_s = Date.now() / 1000) => {
  const at = new Date(at_s * 1000);
  const today = new Date(now_s * 1000).toDateString() === at.toDateString();
  return today ? clock.format(at) : `${day.format(at)} ${clock.format(at)}`;
};

/** A day of a year. */
export const onDay = (at_s) => date.format(new Date(at_s * 1000));

/** Whether a version is older than another one, both as `1.2.3`; what is behind the numbers does not count. */
export const isOlder = (version, than) => {
  const parts = (text) => (/^\d+(\.\d+)*/.exec(text || "")?.[0] ?? "").split(".").map(Number);
  if (!/^\d/.test(version || "") || !/^\d/.test(than || "")) return false;
  const [ours, theirs] = [parts(version), parts(than)];
  for (let at = 0; at < Math.max(ours.length, theirs.length); at += 1) {
    const difference = (ours[at] ?? 0) - (theirs[at] ?? 0);
    if (difference) return difference < 0;
  }
  return false;
};

/** Which kind of mark stands before the state of a node. */
export const kindOfState = (state) =>
  ({ active: "good", draining: "warn", drained: "warn", cordoned: "warn", left: "none", unreachable: "bad" })[state] ?? "none";

/** Where a request failed, in words. */
export const HOPS = {
  client: "client went away",
  proxy: "at the node",
  link: "between nodes",
  agent: "at the agent",
  service: "at the service",
};

export const hop = (of) => HOPS[of] ?? of;
