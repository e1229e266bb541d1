// The page: the stream feeds the model, the part of the address behind # says which view shows it.

import { agentView, endpointView, nodeView } from "./details.js";
import { h, show } from "./dom.js";
import { time } from "./format.js";
import { eventsView, requestView, requestsView, revokedView } from "./lists.js";
import { Model } from "./model.js";
import { overview } from "./overview.js";
import { Stream } from "./stream.js";

const VIEWS = { "": overview, events: eventsView, requests: requestsView, revoked: revokedView };
const DETAILS = { node: nodeView, endpoint: endpointView, agent: agentView, request: requestView };
const MOST_NAMES = 50;

const model = new Model();
const main = document.getElementById("main");
const connection = document.getElementById("connection");
const pause = document.getElementById("pause");
const sought = document.getElementById("sought");
const suggested = document.getElementById("names");
const stale = h("p", { class: "gone", hidden: true });
const waiting = h("p", { class: "fine" }, "Waiting for the node to tell…");
let shown = null;
let entered = false;

function open() {
  const [kind = "", id = ""] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  const make = id ? DETAILS[kind] : VIEWS[kind];
  shown = make ? make(model, id) : nowhere();
  main.replaceChildren(stale, waiting, shown.element);
  paint();
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.getAttribute("href") === `#/${id ? "" : kind}` && !id;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (entered) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
  entered = true;
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function nowhere() {
  const element = h("div", {}, h("h1", {}, "Nothing is here"), h("p", {}, h("a", { href: "#/" }, "Overview")));
  return { title: "Nothing is here", element, update() {} };
}

function paint() {
  waiting.hidden = !model.isEmpty;
  shown.element.hidden = model.isEmpty;
  if (!model.isEmpty) shown.update();
  const { cluster = "", node = "", operator, logged_in: loggedIn, may } = model.hello;
  document.title = `${shown.title} · ${cluster || "Pico"}`;
  show(document.getElementById("cluster"), cluster ? `cluster ${cluster}` : "");
  if (node) who(node, operator, loggedIn, may);
}

function who(node, operator, loggedIn, may) {
  const rights = { operate: "may change things", read: "may look" }[may];
  const place = document.getElementById("who");
  const key = [node, operator, loggedIn, may].join(" ");
  if (place.shown === key) return;
  place.shown = key;
  place.replaceChildren(
    `Told by node ${node}. `,
    rights ? `${operator || "You"}: ${rights}. ` : "This port asks nobody who they are (admin.auth), so that nothing can be changed here: picoctl can. ",
    ...(loggedIn ? [h("a", { href: "login" }, "Log out")] : []),
  );
}

function stands({ state, words, seconds }) {
  const said = {
    connecting: { state: "none", text: "Connecting" },
    live: { state: "good", text: "Live" },
    paused: { state: "warn", text: "Paused" },
    waiting: { state: "bad", text: `Disconnected: ${words}. Next try in ${seconds} s` },
    over: { state: "bad", text: `Ended: ${words}` },
  };
  if (state === "connecting" && connection.textContent.startsWith("Disconnected")) return; // one word for each break
  show(connection, said[state]);
  pause.hidden = false;
  pause.textContent = { live: "Pause", connecting: "Pause", paused: "Go on", waiting: "Try now", over: "Log in" }[state];
  document.body.dataset.connection = state;
  stale.hidden = model.isEmpty || state === "live" || state === "connecting";
  stale.textContent = `This is how it was at ${time(model.now_s)}.`;
}

const stream = new Stream((event, value) => {
  model.take(event, value);
  paint();
}, stands);

pause.addEventListener("click", () => {
  const { connection: state } = document.body.dataset;
  if (state === "over") location.href = "login";
  else if (state === "live" || state === "connecting") stream.pause();
  else stream.open();
});

sought.addEventListener("input", () => {
  const wanted = sought.value.trim().toLowerCase();
  const all = [...model.byEndpoint.keys(), ...model.byAgent.keys(), ...model.nodes.keys()];
  const found = wanted ? all.filter((name) => name.toLowerCase().includes(wanted)).slice(0, MOST_NAMES) : [];
  suggested.replaceChildren(...found.map((name) => h("option", { value: name })));
});

document.getElementById("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = sought.value.trim();
  if (!wanted) return;
  const kinds = [["endpoint", model.byEndpoint], ["agent", model.byAgent], ["node", model.nodes]];
  const [kind] = kinds.find(([, known]) => known.has(wanted)) ?? ["request"];
  location.hash = `#/${kind}/${encodeURIComponent(wanted)}`;
});

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the part behind # names a view
  main.focus();
});

addEventListener("hashchange", open);
open();
stream.open();
