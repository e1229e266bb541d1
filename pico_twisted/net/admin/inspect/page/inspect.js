// The page: who may see it, what the list shows, and which part of a narrow screen is seen.

import { Refused, acting, ask, change, keepKey, listen, sentence } from "./asking.js";
import { show } from "./detail.js";
import { $, save, say } from "./elements.js";
import { choose, chosenId, forget, onOpen, rowOf, take } from "./list.js";

const AGAIN_MS = 1500;
const NONE_YET = "No requests yet. They appear here as they come.";
const NONE_MATCHES = "No request matches this filter.";
let listening = null;

const filter = () => encodeURIComponent($("filter").value.trim());

function live(words, on) {
  $("live").textContent = words;
  $("live").dataset.on = on ? "yes" : "no";
}

async function run() {
  listening?.abort();
  const mine = listening = new AbortController();
  const { signal } = mine;
  let fresh = true;
  $("empty").textContent = filter() ? NONE_MATCHES : NONE_YET;
  while (!signal.aborted) {
    try {
      await listen(`api/live?filter=${filter()}`, signal, () => { live("live", true); problem(""); }, (name, told) => {
        if (signal.aborted) return;
        if (fresh || name === "cleared") forget();
        fresh = false;
        if (name === "cleared") { choose(null); return; }
        take(told);
        if (told.some((one) => one.id === chosenId())) show(chosenId(), true);
      });
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && error.status === 401) { gate(error.message); return; }
      if (error instanceof Refused && error.status === 400) { problem(error.message); live("filter", false); return; }
      live("the agent does not answer", false);
    }
    fresh = true;
    await new Promise((done) => setTimeout(done, AGAIN_MS));
  }
}

function problem(words) {
  $("filter-problem").textContent = sentence(words);
  $("filter").setAttribute("aria-invalid", String(Boolean(words)));
}

function gate(words) {
  document.body.dataset.view = "gate";
  $("gate").hidden = false;
  $("gate-problem").textContent = $("key").value ? words : "";
  $("key").focus();
}

function open(words) {
  if (document.body.dataset.view === "gate") document.body.dataset.view = "list";
  $("gate").hidden = true;
  keepKey(words);
  run();
}

function view(name) {
  document.body.dataset.view = name;
}

onOpen((id, wanted) => {
  show(id);
  if (id === null) view("list");
  else if (wanted) {
    view("detail");
    if (getComputedStyle($("back")).display !== "none") $("back").focus();
    else if (document.activeElement === $("rows") && !rowOf(id)?.running) $("title").focus();
  }
});

let waiting;
$("filter").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(run, 250);
});
$("filter").addEventListener("keydown", (event) => { if (event.key === "Enter") { clearTimeout(waiting); run(); } });
$("use-key").addEventListener("click", () => open($("key").value.trim()));
$("key").addEventListener("keydown", (event) => { if (event.key === "Enter") open($("key").value.trim()); });
$("back").addEventListener("click", () => { view("list"); $("rows").focus(); });
$("clear").addEventListener("click", () => acting(async () => {
  await change("DELETE", "api/requests");
  say("Cleared.");
}));
$("har-all").addEventListener("click", () => acting(async () => {
  save("requests.har", await ask(`api/har?filter=${filter()}${$("reveal").checked ? "&reveal=1" : ""}`));
}));
addEventListener("keydown", (event) => {
  const writing = event.target.closest?.("input, textarea, dialog");
  if (event.key === "/" && !writing) { event.preventDefault(); $("filter").focus(); }
});
live("connecting", false);
run();
