// Makes elements. Whatever a stranger wrote becomes text, and nothing else: no markup is ever parsed here.

export const $ = (id) => document.getElementById(id);

export function made(kind, options = {}, ...inside) {
  const { class: names, on, ...attributes } = options;
  const element = document.createElement(kind);
  if (names) element.className = names;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  for (const [name, act] of Object.entries(on ?? {})) element.addEventListener(name, act);
  element.append(...inside);
  return element;
}

export function bytes(count) {
  if (count < 1000) return `${count} B`;
  return count < 1e6 ? `${(count / 1e3).toFixed(1)} KB` : `${(count / 1e6).toFixed(1)} MB`;
}

export function span(seconds) {
  if (seconds === null) return "";
  const ms = seconds * 1000;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${seconds.toFixed(1)} s`;
}

export const clock = (atS) => new Date(atS * 1000).toLocaleTimeString([], { hour12: false });

let timer;
/** Says something for a moment, aloud too. */
export function say(words) {
  $("said").textContent = words;
  clearTimeout(timer);
  timer = setTimeout(() => { $("said").textContent = ""; }, 4000);
}

export async function copy(text) {
  await navigator.clipboard.writeText(text);
}

export function save(name, value) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(value, null, 2)], { type: "application/json" }));
  made("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
