// What operators may change: each is asked about first, then posted to this port, and its outcome is told.

import { h } from "./dom.js";

const dialog = document.getElementById("ask");
const told = document.getElementById("told");

/**
 * A button that changes something.
 * @param action {name, path, query, means, done(answer)}: what it is called, where it is posted to, what it brings about.
 */
export function button(action) {
  return h("button", { type: "button", class: action.strong ? "strong" : null, onclick: () => run(action) }, action.name);
}

async function run(action) {
  if (!(await agreed(action))) return;
  tell("none", `${action.name}: asked for…`);
  const query = new URLSearchParams(action.query ?? {}).toString();
  try {
    const answer = await fetch(`${action.path}${query ? `?${query}` : ""}`, { method: "POST" });
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(said.error ?? `the node answers with ${answer.status}`);
    tell("good", `${action.name}: ${action.done?.(said) ?? "done"}`);
  } catch (error) {
    tell("bad", `${action.name}: ${error instanceof TypeError ? "the node cannot be reached" : error.message}`);
  }
}

let pending = null; // takes the answer to what is being asked

function agreed({ name, means }) {
  pending?.(false);
  dialog.querySelector("#ask-what").textContent = `${name}?`;
  dialog.querySelector("#ask-means").textContent = means;
  dialog.querySelector("#ask-do").textContent = name;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    pending = resolve;
  });
}

dialog.addEventListener("close", () => {
  if (dialog.open) return; // this is told late: something else is being asked by now
  pending?.(dialog.returnValue === "do");
  pending = null;
});

function tell(kind, words) {
  const close = h("button", { type: "button", onclick: () => told.replaceChildren() }, "Close");
  told.replaceChildren(h("p", {}, h("span", { class: `state ${kind}` }, words), close));
}
