// What is not in the stream, but asked of the node when somebody looks.

import { h } from "./dom.js";

/** A question to the node, with the words about its answer; `ask` may be called again. */
export class Asked {
  constructor(path, query) {
    this.url = `${path}?${new URLSearchParams(query)}`;
    this.words = h("span", { role: "status" }, "Asking all nodes…");
    this.again = h("button", { type: "button", hidden: true, onclick: () => this.ask(this.then) }, "Ask again");
    this.element = h("p", { class: "asked" }, this.words, " ", this.again);
  }

  /** Ask, and hand the rows over. A node that does not answer is named. */
  async ask(then) {
    this.then = then;
    try {
      const answer = await fetch(this.url, { headers: { accept: "application/json" } });
      const said = await answer.json().catch(() => ({}));
      if (!answer.ok) throw new Error(said.error ?? `the node answers with ${answer.status}`);
      const silent = Object.entries(said.unanswered ?? {}).map(([id, why]) => `${id} does not tell: ${why}`);
      this.words.textContent = silent.join("; ");
      then(said.rows ?? said);
    } catch (error) {
      this.words.textContent = error instanceof TypeError ? "The node cannot be reached." : error.message;
    }
    this.again.hidden = false;
  }
}
