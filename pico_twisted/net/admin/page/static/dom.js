// Elements, made of texts and never of markup: what nodes, agents and clients call themselves is shown, not read.

/** Make an element: `h("a", {href: "#/"}, "text", other)`. A property that is null or false is left out. */
export function h(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

function svg(name, properties, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(properties)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Show something in an element, unless it is what stands there already: so focus and selection stay. */
export function show(element, ...parts) {
  const key = JSON.stringify(parts);
  if (element.shown === key) return;
  element.shown = key;
  element.replaceChildren(...parts.flatMap(piece));
}

/**
 * What cells and facts are made of: a text, or one of
 *   {text, to}          a name that leads to a view
 *   {state, text}       a state: a shape and a word; `state` is good, warn, bad or none
 *   {at_s, text}        a time
 *   {url}               a link to somewhere else
 *   {list: [piece…]}    several, with commas between; {row: [piece…]} with blanks
 *   {faint: text}       something of less weight
 *   {code: text}        an ID
 */
export function piece(of) {
  if (of === null || of === undefined) return [];
  if (typeof of === "string" || typeof of === "number") return [String(of)];
  if ("list" in of) return of.list.flatMap((one, at) => [...(at ? [", "] : []), ...piece(one)]);
  if ("row" in of) return of.row.flatMap((one, at) => [...(at ? [" "] : []), ...piece(one)]);
  if ("to" in of) return [h("a", { href: `#/${of.to}`, class: of.long ? "long" : null }, of.text)];
  if ("state" in of) return [h("span", { class: `state ${of.state}` }, of.text)];
  if ("at_s" in of) return [h("time", { datetime: new Date(of.at_s * 1000).toISOString() }, of.text)];
  if ("url" in of) return [h("a", { href: of.url, rel: "noreferrer", class: "long" }, of.url)];
  if ("faint" in of) return [h("span", { class: "faint" }, of.faint)];
  return [h("code", {}, of.code)];
}

/** A description list that stays as it is and shows new values. */
export class Facts {
  constructor() {
    this.element = h("dl", { class: "facts" });
    this.rows = new Map();
  }

  /** @param facts pairs of a name and what is shown; those without a value are left out. */
  update(facts) {
    const wanted = facts.filter(([, value]) => value !== null && value !== undefined && value !== "");
    for (const [name, value] of wanted) {
      if (!this.rows.has(name)) {
        const row = h("div", {}, h("dt", {}, name), h("dd"));
        this.rows.set(name, row);
      }
      show(this.rows.get(name).lastChild, value);
    }
    const rows = wanted.map(([name]) => this.rows.get(name));
    if (rows.length !== this.element.children.length || rows.some((row, at) => row !== this.element.children[at])) {
      this.element.replaceChildren(...rows);
    }
  }
}

const LINE = { width: 120, height: 28 };
const FEWEST = 4; // points that are worth a line

/** A line of the last values, for the eye alone: the number beside it says the last one. */
export function line(values) {
  if (values.length < FEWEST) return "";
  const most = Math.max(1e-9, ...values);
  const step = LINE.width / Math.max(1, values.length - 1);
  const points = values.map((value, at) => {
    const y = LINE.height - 2 - (value / most) * (LINE.height - 4);
    return `${(at * step).toFixed(1)},${y.toFixed(1)}`;
  });
  return svg(
    "svg",
    { viewBox: `0 0 ${LINE.width} ${LINE.height}`, class: "line", "aria-hidden": "true", preserveAspectRatio: "none" },
    svg("polyline", { points: points.join(" ") }),
  );
}

/** A heading with what belongs to it: elements and tables. The filter of a table stands beside the heading. */
export function section(title, ...children) {
  const id = `of-${title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;
  const fields = children.map((child) => child.field).filter(Boolean);
  const head = h("div", { class: "head" }, h("h2", { id }, title), ...fields);
  return h("section", { "aria-labelledby": id }, head, ...children.map((child) => child.element ?? child));
}
