// A table of cells. Takes in changes only; sorts by its headings; keeps nothing beyond what it shows.
import { h } from "vue";

function merged(before, changes) {
  const after = { ...before };
  for (const [key, value] of Object.entries(changes)) {
    if (value === null) delete after[key];
    else if (isPlain(value) && isPlain(before[key])) after[key] = merged(before[key], value);
    else after[key] = value;
  }
  return after;
}

function isPlain(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const share = (value) => `${(100 * Math.min(1, Math.max(0, value))).toFixed(2)}%`;
const SIGNS = { good: "✓ ", warn: "▲ ", bad: "✕ ", best: "★ " };

export default {
  props: { first: Object },
  data() {
    return { shown: this.first, sortBy: -1, isDown: false, unfolded: {} };
  },
  methods: {
    show(changes) {
      this.shown = merged(this.shown, changes);
    },
    sort(column) {
      if (this.sortBy !== column) [this.sortBy, this.isDown] = [column, false];
      else if (!this.isDown) this.isDown = true;
      else this.sortBy = -1;
    },
    ordered() {
      const rows = Object.entries(this.shown.rows);
      const place = ([, row]) => row.at;
      const by = ([, row]) => row.cells[this.sortBy]?.sort ?? row.cells[this.sortBy]?.text ?? "";
      rows.sort((one, other) => place(one) - place(other));
      if (this.sortBy < 0) return rows;
      const totals = rows.filter(([, row]) => row.is_total);
      const others = rows.filter(([, row]) => !row.is_total);
      const sign = this.isDown ? -1 : 1;
      others.sort((one, other) => {
        const [a, b] = [by(one), by(other)];
        return sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
      });
      return [...others, ...totals];
    },
    head() {
      const { columns, is_sortable } = this.shown;
      if (!columns.length) return null;
      const cells = columns.map((column, place) => {
        const isBy = place === this.sortBy;
        const name = is_sortable
          ? h("button", { type: "button", onClick: () => this.sort(place) }, [
              column.name,
              h("span", { class: "ek-sorted", "aria-hidden": "true" }, isBy ? (this.isDown ? " ▼" : " ▲") : ""),
            ])
          : column.name;
        const attributes = { scope: "col", class: { num: column.is_number, wide: column.is_wide }, title: column.hint };
        if (isBy) attributes["aria-sort"] = this.isDown ? "descending" : "ascending";
        return h("th", attributes, [name]);
      });
      return h("thead", h("tr", cells));
    },
    cell(key, row, cell, place) {
      const column = this.shown.columns[place] ?? {};
      const parts = [];
      if (place === 0 && row.more?.length) {
        const isOpen = Boolean(this.unfolded[key]);
        const toggle = () => (this.unfolded = isOpen ? {} : { [key]: true }); // one at a time: nothing piles up
        parts.push(
          h(
            "button",
            { type: "button", class: "ek-unfold", "aria-expanded": String(isOpen), onClick: toggle },
            `${isOpen ? "▾" : "▸"} ${cell.text}`,
          ),
        );
      } else if (cell.order) {
        const [action, vault, alert] = cell.order; // the page's own script opens the dialog
        const said = { "data-order": action, "data-vault": vault, "data-alert-id": alert };
        parts.push(h("button", { type: "button", class: "act", title: cell.hint, ...said }, cell.text));
      } else if (cell.link) parts.push(h("a", { href: cell.link }, cell.text));
      else {
        const sign = cell.is_open === undefined ? "" : cell.is_open ? "● " : "○ ";
        const tone = cell.tone in SIGNS && cell.heat === undefined && !sign ? SIGNS[cell.tone] : "";
        parts.push(sign + tone + cell.text);
      }
      if (cell.bar) {
        const [from, to] = cell.bar;
        const fill = { left: share(Math.min(from, to)), width: share(Math.abs(to - from)) };
        const marks = (cell.marks ?? []).map((mark) => h("b", { style: { left: share(mark) } }));
        const classes = ["ek-bar", cell.tone, { hatched: cell.is_hatched, "with-text": cell.text }];
        parts.unshift(h("span", { class: classes, "aria-hidden": "true" }, [h("i", { style: fill }), ...marks]));
      }
      const classes = [cell.tone, { num: column.is_number, wide: column.is_wide, "ek-gate": cell.is_open !== undefined }];
      const style = {};
      if (cell.heat !== undefined) {
        classes.push("ek-heat");
        const colour = cell.heat < 0 ? "var(--ek-loss)" : "var(--ek-gain)";
        style.background = `color-mix(in srgb, ${colour} ${(Math.abs(cell.heat) * 60).toFixed(0)}%, var(--ek-paper))`;
      }
      const tag = place === 0 ? "th" : "td";
      return h(tag, { class: classes, style, title: cell.hint, scope: place === 0 ? "row" : undefined }, parts);
    },
  },
  render() {
    const { caption, columns, rows, empty, note, is_folded } = this.shown;
    const body = [];
    for (const [key, row] of this.ordered()) {
      const cells = row.cells.map((cell, place) => this.cell(key, row, cell, place));
      body.push(h("tr", { key, class: [row.tone, { "ek-total": row.is_total }] }, cells));
      if (this.unfolded[key] && row.more?.length) {
        const lines = row.more.map((line) => h("li", line));
        body.push(h("tr", { key: `${key}/more` }, h("td", { colspan: row.cells.length }, h("ol", { class: "ek-more" }, lines))));
      }
    }
    const inner = Object.keys(rows).length
      ? h("div", { class: "ek-scroll", tabindex: columns.length > 4 ? 0 : undefined, role: "group", "aria-label": caption }, [
          h("table", { class: { "ek-facts": !columns.length } }, [
            h("caption", { class: "ek-hidden" }, caption),
            this.head(),
            h("tbody", body),
          ]),
        ])
      : h("p", { class: "ek-empty" }, empty);
    const below = note ? h("p", { class: "ek-note" }, note) : null;
    if (is_folded) return h("details", { class: "ek-sheet" }, [h("summary", h("h2", caption)), inner, below]);
    return h("section", { class: "ek-sheet" }, [h("h2", caption), inner, below]);
  },
};
