// Tables that live: rows are kept by their keys and only what changed in a cell is written again, so that a reader's place,
// a focused link and a selected text stay. While somebody is in a table its rows keep their order.

import { h, show } from "./dom.js";
import { many } from "./format.js";

const MOST_ROWS = 200;
const FEW_ROWS = 6; // that nobody filters

/**
 * @param options
 *   caption   what the table holds, for those who do not see the heading above it
 *   columns   {id, head, cell(row), by(row), wide, number}: `cell` gives what `piece` takes, `by` what rows are sorted by;
 *             a `wide` column is left out on small screens, one that `grows` has what the others leave, a `tight` one breaks
             no line
 *   key(row)  what a row is known by
 *   empty     what is shown when there is no row
 *   filter    the label of the field that filters, or none; `text(row)` is what is looked through. The field is not part of
 *             the element: `section` puts it beside the heading
 *   sort      the column by which rows are sorted at first; with a minus the other way; none keeps the order given
 *   most      rows that are shown at most
 */
export class Table {
  constructor({ caption, columns, key, empty, filter = "", text = null, sort = "", most = MOST_ROWS }) {
    Object.assign(this, { columns, key, empty, text, most });
    this.rows = [];
    this.shown = new Map();
    this.sort = sort.replace("-", "");
    this.down = sort.startsWith("-");
    this.body = h("tbody");
    this.note = h("p", { class: "note", role: filter ? "status" : null });
    this.heads = columns.map((column) => this.#head(column));
    this.table = h(
      "table",
      {},
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, ...this.heads)),
      this.body,
    );
    const around = h("div", { class: "around" }, this.table);
    this.field = filter
      ? h("input", { type: "search", "aria-label": filter, placeholder: filter, spellcheck: "false", oninput: () => this.#paint() })
      : null;
    this.element = h("div", { class: "table" }, around, this.note);
  }

  update(rows) {
    this.rows = rows;
    this.#paint();
  }

  #head(column) {
    const head = h("th", { scope: "col", class: classes(column) });
    if (!column.by) {
      head.append(column.head);
      return head;
    }
    head.append(h("button", { type: "button", onclick: () => this.#sortBy(column) }, column.head));
    return head;
  }

  #sortBy(column) {
    this.down = this.sort === column.id ? !this.down : Boolean(column.number);
    this.sort = column.id;
    this.#paint(true);
  }

  #paint(anew = false) {
    const wanted = (this.field?.value ?? "").trim().toLowerCase();
    const found = wanted ? this.rows.filter((row) => this.text(row).toLowerCase().includes(wanted)) : this.rows;
    const ordered = this.#ordered(found, anew);
    const rows = ordered.slice(0, this.most);
    const keys = new Set(rows.map(this.key));
    for (const [key, row] of this.shown) {
      if (!keys.has(key)) {
        row.remove();
        this.shown.delete(key);
      }
    }
    rows.forEach((row, at) => this.#paintRow(row, at));
    for (const [at, column] of this.columns.entries()) {
      const sorted = this.down ? "descending" : "ascending";
      if (column.by) this.heads[at].setAttribute("aria-sort", this.sort === column.id ? sorted : "none");
    }
    this.table.hidden = rows.length === 0;
    if (this.field) this.field.hidden = this.rows.length <= FEW_ROWS && !wanted && this.field !== document.activeElement;
    show(this.note, this.#words(found.length, wanted));
  }

  #ordered(rows, anew) {
    const column = this.columns.find((one) => one.id === this.sort);
    const stays = !anew && this.body.matches(":hover, :focus-within");
    if (stays) {
      const places = new Map([...this.shown.keys()].map((key, at) => [key, at]));
      const place = (row) => places.get(this.key(row)) ?? (column ? places.size : -1); // what is new goes below, or is newest
      return [...rows].sort((a, b) => place(a) - place(b));
    }
    if (!column) return rows;
    const sign = this.down ? -1 : 1;
    return [...rows].sort((a, b) => sign * compared(column.by(a), column.by(b)) || compared(this.key(a), this.key(b)));
  }

  #paintRow(row, at) {
    const key = this.key(row);
    let line = this.shown.get(key);
    if (!line) {
      line = h("tr", {}, ...this.columns.map((column, index) => cellOf(column, index)));
    } else {
      this.shown.delete(key); // so that the map has the order of the rows
    }
    this.shown.set(key, line);
    this.columns.forEach((column, index) => show(line.children[index], column.cell(row)));
    if (this.body.children[at] !== line) this.body.insertBefore(line, this.body.children[at] ?? null);
  }

  #words(count, wanted) {
    if (!this.rows.length) return this.empty;
    if (wanted && !count) return "Nothing of that name.";
    if (count > this.most) return `${this.most} of ${many(count, "row")} are shown${this.field ? ": filter to see others" : ""}.`;
    return wanted ? `${count} of ${many(this.rows.length, "row")}.` : "";
  }
}

function classes(column) {
  return ["number", "wide", "grows", "tight"].filter((name) => column[name]).join(" ") || null;
}

function cellOf(column, index) {
  return index === 0 ? h("th", { scope: "row", class: classes(column) }) : h("td", { class: classes(column) });
}

function compared(a, b) {
  if (typeof a === "string" || typeof b === "string") return String(a).localeCompare(String(b), "en", { numeric: true });
  return (a ?? -1) - (b ?? -1);
}
