// Asks the inspector. The key came behind # in the link; it is kept for this origin, and goes along in a header.

import { say } from "./elements.js";

const PLACE = "pico-inspector-key";
let held = ""; // where the browser keeps nothing

function takeKeyOfLink() {
  const found = /^#key=(.+)$/.exec(location.hash);
  if (!found) return;
  keepKey(decodeURIComponent(found[1]));
  history.replaceState(null, "", location.pathname);
}

export function keepKey(key) {
  try { localStorage.setItem(PLACE, key); } catch { held = key; }
}

function key() {
  try { return localStorage.getItem(PLACE) ?? held; } catch { return held; }
}

takeKeyOfLink();
addEventListener("hashchange", () => { takeKeyOfLink(); location.reload(); });

/** An answer that is an error; `status` is 0 when there was none. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function fetched(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      ...options,
      cache: "no-store",
      headers: { authorization: `Bearer ${key().replace(/[^\x21-\x7e]/g, "")}`, ...options.headers },
    });
  } catch {
    throw new Refused(0, "the agent does not answer");
  }
  if (answer.ok) return answer;
  const words = await answer.json().then((told) => told.error, () => "");
  throw new Refused(answer.status, words || `status ${answer.status}`);
}

export const sentence = (words) => words && `${words[0].toUpperCase()}${words.slice(1)}.`;

/** Does something that asks, and says it when it is refused. */
export async function acting(work) {
  try { await work(); } catch (error) {
    if (!(error instanceof Refused)) throw error;
    say(sentence(error.message));
  }
}

export async function ask(path) {
  return (await fetched(path)).json();
}

export async function change(method, path, told) {
  const body = told === undefined ? undefined : JSON.stringify(told);
  return (await fetched(path, { method, body, headers: { "content-type": "application/json" } })).json();
}

/** Calls `event(name, data)` for each server-sent event, until the signal aborts or the answer ends. */
export async function listen(path, signal, begun, event) {
  const answer = await fetched(path, { signal });
  begun();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const found = /^event: (\w+)\ndata: (.*)$/.exec(block);
      if (found) event(found[1], JSON.parse(found[2]));
    }
  }
}
