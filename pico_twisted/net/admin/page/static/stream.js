// The stream of /live: server-sent events, read with fetch, which tells why there is none. It is asked for again after
// a break, later each time, and not at all while the page is paused or has long been hidden.

const FIRST_RETRY_S = 1;
const LAST_RETRY_S = 30;
const SILENCE_MS = 15000; // the node speaks every few seconds
const HIDDEN_MS = 60000;

/**
 * Calls `told(event, value)` for each event, and `stands({state, words, seconds})` when the connection changes; the state is
 * connecting, live, paused, waiting (until it is tried again) or over (until somebody does something).
 */
export class Stream {
  constructor(told, stands) {
    this.told = told;
    this.stands = stands;
    this.paused = false;
    this.failures = 0;
    document.addEventListener("visibilitychange", () => this.#seen());
  }

  /** Begin, or go on. */
  open() {
    this.close();
    this.paused = false;
    this.stands({ state: "connecting" });
    this.attempt = new AbortController();
    this.#read(this.attempt);
  }

  /** Stop until `open`. */
  pause() {
    this.close();
    this.paused = true;
    this.stands({ state: "paused" });
  }

  close() {
    this.attempt?.abort();
    this.attempt = null;
    clearTimeout(this.waiting);
    clearTimeout(this.silence);
  }

  async #read(attempt) {
    let words = "the node ended the connection";
    try {
      const answer = await fetch("live", { headers: { accept: "text/event-stream" }, signal: attempt.signal });
      if (!answer.ok) {
        const said = await answer.json().catch(() => ({}));
        if (answer.status === 401 || answer.status === 403) return this.#over(attempt, said.error ?? "not logged in");
        throw new Error(said.error ?? `the node answers with ${answer.status}`);
      }
      await this.#events(attempt, answer.body.pipeThrough(new TextDecoderStream()).getReader());
    } catch (error) {
      words = error instanceof TypeError ? "the node cannot be reached" : error.message;
    }
    if (this.attempt === attempt) this.#wait(words);
  }

  async #events(attempt, reader) {
    let rest = "";
    for (;;) {
      clearTimeout(this.silence);
      this.silence = setTimeout(() => attempt.abort(new Error("the node has been silent for too long")), SILENCE_MS);
      const { done, value } = await reader.read();
      if (done || this.attempt !== attempt) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) this.#event(attempt, block);
      if (this.attempt !== attempt) return;
    }
  }

  #event(attempt, block) {
    const field = (name) => block.split("\n").find((one) => one.startsWith(`${name}: `))?.slice(name.length + 2) ?? "";
    const [event, data] = [field("event"), field("data")];
    if (!data) return;
    if (event === "end") return this.#over(attempt, JSON.parse(data).why);
    this.failures = 0;
    this.stands({ state: "live" });
    this.told(event, JSON.parse(data));
  }

  #over(attempt, words) {
    if (this.attempt !== attempt) return;
    this.close();
    this.stands({ state: "over", words });
  }

  #wait(words) {
    this.close();
    const seconds = Math.min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** this.failures);
    this.failures += 1;
    this.stands({ state: "waiting", words, seconds });
    this.waiting = setTimeout(() => this.open(), seconds * 1000);
  }

  #seen() {
    clearTimeout(this.leaving);
    if (document.hidden) {
      this.leaving = setTimeout(() => this.attempt && this.#rest(), HIDDEN_MS);
    } else if (this.resting) {
      this.resting = false;
      this.open();
    }
  }

  #rest() {
    this.pause();
    this.resting = true;
  }
}
