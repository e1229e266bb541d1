// The dialog in which a request is edited before it is sent again.

import { Refused, sentence } from "./asking.js";
import { $ } from "./elements.js";

let original = null;
let send = async () => {};

/** Opens it. `value` gives what of a field was revealed; `sent` sends the edits. */
export function edit(told, value, sent) {
  original = told;
  send = sent;
  const { body } = told.request;
  $("edit-method").value = told.method;
  $("edit-target").value = value("target", 0, told.target);
  $("edit-fields").value = told.request.fields
    .map((field, at) => `${field.name}: ${value("request", at, field.value)}`).join("\n");
  $("edit-body").value = body.text ?? "";
  const notes = [
    body.text === undefined && "The body is binary: it is sent as it was, unless you write another one.",
    body.cut && "Only the beginning of the body is kept: it is not sent unless you change it.",
    body.coding && `The body was packed with ${body.coding}: a changed one is sent as it is, and Content-Encoding left out.`,
  ];
  $("edit-note").textContent = notes.filter(Boolean).join(" ");
  $("edit-problem").textContent = "";
  $("editor").showModal();
  $("edit-target").focus();
}

/** Gives lines the ends that the original had: forms in parts have CRLF, and a text area has not. */
const ends = (text, before) => (/\r\n/.test(before) && !/[^\r]\n/.test(before) ? text.replaceAll("\n", "\r\n") : text);

function edits() {
  const told = { method: $("edit-method").value.trim(), target: $("edit-target").value.trim() };
  const lines = $("edit-fields").value.split("\n").filter((line) => line.trim());
  const bad = lines.find((line) => line.indexOf(":") < 1);
  if (bad !== undefined) throw new Refused(0, `a header is written Name: value, not ${bad}`);
  let fields = lines.map((line) => [line.slice(0, line.indexOf(":")).trim(), line.slice(line.indexOf(":") + 1).trim()]);
  const { body } = original.request;
  if ($("edit-body").value !== (body.text ?? "").replace(/\r\n?/g, "\n")) {
    told.body = ends($("edit-body").value, body.text ?? "");
    if (body.coding) fields = fields.filter(([name]) => name.toLowerCase() !== "content-encoding");
  }
  return { ...told, fields };
}

async function finish() {
  try {
    await send(edits());
    $("editor").close();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    $("edit-problem").textContent = sentence(error.message);
  }
}

$("send").addEventListener("click", finish);
$("cancel").addEventListener("click", () => $("editor").close());
$("editor").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) finish();
});
