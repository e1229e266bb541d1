// All of one request, on the right.

import { acting, ask, change } from "./asking.js";
import { forgetImages, shownBody } from "./bodies.js";
import { $, bytes, clock, copy, made, save, say, span } from "./elements.js";
import { edit } from "./editor.js";
import { choose, chosenId } from "./list.js";

let shown = null; // what is told of the request that is shown
const revealed = new Map(); // what somebody asked to see of it, by place
const raw = { request: false, response: false };

/** Shows a request, or nothing; `again`: it is shown already, and has changed. */
export async function show(id, again = false) {
  if (id === null) {
    shown = null;
    $("shown").hidden = true;
    $("nothing").hidden = false;
    return;
  }
  let told = null;
  await acting(async () => { told = await ask(`api/requests/${id}`); });
  if (told === null || chosenId() !== id) return;
  if (!again) {
    revealed.clear();
    raw.request = raw.response = false;
  }
  shown = told;
  render();
}

function render() {
  forgetImages();
  $("nothing").hidden = true;
  $("shown").hidden = false;
  $("title").textContent = shown.kind === "tcp" ? "TCP connection" : `${shown.method} ${value("target", 0, shown.target)}`;
  const facts = [
    shown.status ? `${shown.status} ${shown.response?.reason ?? ""}`.trim() : shown.running ? "running" : "no answer",
    shown.running ? "running" : span(shown.duration_s),
    shown.first_byte_s !== null && !shown.running && `first byte after ${span(shown.first_byte_s)}`,
    `${bytes(shown.bytes_in)} in, ${bytes(shown.bytes_out)} out`,
    `${shown.endpoint} at ${shown.service}`, shown.client && `from ${shown.client}`, clock(shown.at_s),
    shown.replay_of && `replay of request ${shown.replay_of}`, `request ${shown.id}`,
  ];
  $("facts").replaceChildren(...[...new Set(facts.filter(Boolean))].map((fact) => made("span", {}, fact)));
  if (shown.target_hidden && !revealed.has("target 0")) {
    $("facts").append(" ", reveals("target", 0, "the path's hidden values"));
  }
  $("trouble").textContent = shown.error ? `${shown.trouble || "Something went wrong"} (${shown.error})` : "";
  $("trouble").hidden = !shown.error;
  const http = shown.request !== null && shown.kind !== "tcp";
  for (const id of ["replay", "edit"]) $(id).disabled = !http || shown.kind === "upgraded";
  for (const id of ["curl", "har"]) $(id).disabled = !http;
  message("request", "Request");
  message("response", "Response");
}

const value = (part, at, masked) => revealed.get(`${part} ${at}`) ?? masked;

function reveals(part, at, what) {
  return made("button", { type: "button", "aria-label": `Show ${what}`, on: { click: () => reveal(part, at) } }, "Show");
}

const reveal = (part, at) => acting(async () => {
  const told = await ask(`api/requests/${shown.id}/revealed?part=${part}&field=${at}`);
  revealed.set(`${part} ${at}`, told.value);
  render();
  $(part === "target" ? "title" : `${part}-${at}`).focus();
});

function message(part, title) {
  const told = shown[part];
  const inside = [made("h3", {}, title)];
  if (told === null) {
    const none = part === "response" && shown.running ? "It has not come yet." : "There is none.";
    $(part).replaceChildren(...inside, made("p", { class: "note" }, none));
    return;
  }
  inside.push(made("h4", {}, "Headers"), table(told.fields.map((field, at) => row(part, field, at))));
  if (shown.kind === "http") inside.push(...body(part, told.body));
  if (told.trailers.length) {
    inside.push(made("h4", {}, "Trailers"), table(told.trailers.map((field) => row("trailer", field, -1))));
  }
  $(part).replaceChildren(...inside);
}

const table = (rows) => made("table", {}, made("tbody", {}, ...rows));

function row(part, field, at) {
  const open = revealed.has(`${part} ${at}`);
  const place = at < 0 ? {} : { id: `${part}-${at}`, tabindex: "-1" };
  const shows = field.hidden && !open ? "hidden" : "open";
  const cell = made("td", {}, made("span", { class: shows, ...place }, value(part, at, field.value)));
  if (field.hidden && !open) cell.append(" ", reveals(part, at, `the value of ${field.name}`));
  return made("tr", {}, made("th", { scope: "row" }, field.name), cell);
}

function body(part, told) {
  if (!told.bytes) return [made("h4", {}, "Body", made("span", { class: "note" }, "none"))];
  const { element, set } = shownBody(told, raw[part]);
  const notes = [
    bytes(told.bytes), told.type, told.coding && `unpacked from ${told.coding}`,
    told.cut && `only the first ${bytes(told.kept)} are kept`,
  ];
  const head = made("h4", {}, "Body", made("span", { class: "note" }, notes.filter(Boolean).join(", ")));
  if (set || raw[part]) {
    head.append(made("button", {
      type: "button", id: `raw-${part}`, "aria-pressed": String(raw[part]),
      on: { click: () => { raw[part] = !raw[part]; render(); $(`raw-${part}`)?.focus(); } },
    }, "As it came"));
  }
  return [head, element];
}

const wantsAll = () => ($("reveal").checked ? "?reveal=1" : "");

async function sent(edits) {
  const begun = await change("POST", `api/requests/${shown.id}/replay`, edits);
  say(`Sent again, as request ${begun.id}.`);
  choose(begun.id);
}

$("replay").addEventListener("click", () => acting(() => sent({})));
$("edit").addEventListener("click", () => edit(shown, value, sent));
$("har").addEventListener("click", () => acting(async () => {
  save(`request-${shown.id}.har`, await ask(`api/requests/${shown.id}/har${wantsAll()}`));
}));
$("curl").addEventListener("click", () => acting(async () => {
  const { command, note } = await ask(`api/requests/${shown.id}/curl${wantsAll()}`);
  try {
    await copy(command);
    say(note ? `Copied; ${note}.` : "Copied.");
  } catch {
    $("command").value = command;
    $("copied").showModal();
    $("command").select();
  }
}));
$("close-copied").addEventListener("click", () => $("copied").close());
