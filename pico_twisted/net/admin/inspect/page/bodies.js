// Bodies for people: JSON and XML set out, forms as tables, images of kinds that hold no script, other bytes in hex.

import { bytes, made } from "./elements.js";

const MOST_COLOURED = 200_000; // characters; an element for each word of more would make the page slow
const IMAGES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp"]);
const HEX_BYTES = 1024;

let urls = [];
/** Forgets the images that were shown. */
export function forgetImages() {
  urls.forEach((url) => URL.revokeObjectURL(url));
  urls = [];
}

const typeOf = (body) => body.type.split(";")[0].trim().toLowerCase();

/** What shows a body, and whether that is not how it came. */
export function shownBody(body, raw) {
  const type = typeOf(body);
  if (body.text === undefined) return { element: IMAGES.has(type) ? image(body, type) : hex(body), set: false };
  if (!raw) {
    const set = json(body, type) ?? form(body, type) ?? xml(body, type);
    if (set) return { element: set, set: true };
  }
  return { element: pre(body.text), set: false };
}

const pre = (...inside) => made("pre", { tabindex: "0" }, ...inside);

function json(body, type) {
  const looks = type.endsWith("json") || (!type && /^\s*[[{]/.test(body.text));
  if (!looks || body.cut) return null;
  let text;
  try { text = JSON.stringify(JSON.parse(body.text), null, 2); } catch { return null; }
  if (text.length > MOST_COLOURED) return pre(text);
  const parts = [];
  const word = /("(?:[^"\\]|\\.)*")(\s*:)?|-?\d[\d.eE+-]*|true|false|null/g;
  let at = 0;
  for (const found of text.matchAll(word)) {
    parts.push(text.slice(at, found.index));
    const kind = found[2] ? "name" : found[1] ? "text" : "number";
    parts.push(made("span", { class: kind }, found[1] ?? found[0]), found[2] ?? "");
    at = found.index + found[0].length;
  }
  return pre(...parts, text.slice(at));
}

function form(body, type) {
  if (type !== "application/x-www-form-urlencoded" || !body.text) return null;
  const pairs = [...new URLSearchParams(body.text)];
  return made("table", {}, made("tbody", {}, ...pairs.map(([name, value]) =>
    made("tr", {}, made("th", { scope: "row" }, name), made("td", {}, value)))));
}

function xml(body, type) {
  if (!/[/+]xml$/.test(type)) return null;
  let depth = 0;
  const lines = [];
  for (const piece of body.text.replace(/>\s*</g, ">\n<").split("\n")) {
    const closes = piece.startsWith("</");
    if (closes) depth = Math.max(0, depth - 1);
    lines.push("  ".repeat(Math.min(depth, 40)) + piece);
    const opens = /^<[^!?/]/.test(piece) && !piece.endsWith("/>") && !/<\/[^>]*>$/.test(piece);
    if (opens) depth += 1;
  }
  return pre(lines.join("\n"));
}

const data = (body) => Uint8Array.from(atob(body.base64), (char) => char.charCodeAt(0));

function image(body, type) {
  const url = URL.createObjectURL(new Blob([data(body)], { type }));
  urls.push(url);
  return made("img", { src: url, alt: `The image, ${bytes(body.bytes)}` });
}

function hex(body) {
  const all = data(body);
  const lines = [];
  for (let at = 0; at < Math.min(all.length, HEX_BYTES); at += 16) {
    const some = [...all.slice(at, at + 16)];
    const digits = some.map((byte) => byte.toString(16).padStart(2, "0")).join(" ").padEnd(47);
    const chars = some.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${digits}  ${chars}`);
  }
  if (all.length > HEX_BYTES) lines.push(`… ${all.length - HEX_BYTES} bytes more`);
  return pre(lines.join("\n"));
}
