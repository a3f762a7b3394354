// A table with any number of rows, of which the server has the rest: only the visible ones are asked for and made.

import { empty, h, setText } from "./dom.js";
import { whole } from "./format.js";

const CHUNK = 100;
const KEPT_CHUNKS = 12;
const SPARE = 6;

// `columns`: {key, label, cell(row) -> text or Node, align, priority, width, sort (false: cannot be sorted), first}.
// `load(offset, limit, sort)` -> {matched, rows, ...}. `onOpen(row)`: a row was chosen.
export class Grid {
  constructor({ label, columns, load, rowKey, onOpen, sort = "", onLoad = () => {}, emptyText = "Nothing matches." }) {
    Object.assign(this, { columns, load, rowKey, onOpen, sort, onLoad, emptyText });
    this.chunks = new Map();
    this.loading = new Map();
    this.pool = [];
    this.matched = null;
    this.selected = -1;
    this.selectedKey = null;
    this.openKey = null;
    this.version = 0;
    this.isClosed = false;
    this.rowHeight = 38;
    this.spacer = h("div", { class: "grid-spacer", role: "presentation" });
    this.head = h("div", { class: "grid-head", role: "row", "aria-rowindex": 1 }, columns.map((column) => this.headCell(column)));
    this.message = h("div", { class: "grid-message", hidden: true });
    this.view = h("div", { class: "grid-view", tabindex: "0", role: "rowgroup", "aria-label": label }, this.spacer, this.message);
    this.element = h("div", { class: "grid", role: "grid", "aria-label": label, "aria-rowcount": -1 }, this.head, this.view);
    this.element.style.setProperty("--columns", columns.map((column) => column.width || "minmax(0, 1fr)").join(" "));
    this.view.addEventListener("scroll", () => this.schedule(), { passive: true });
    this.view.addEventListener("keydown", (event) => this.onKey(event));
    this.observer = new ResizeObserver(() => {
      this.measure();
      this.schedule();
    });
    this.observer.observe(this.view);
    this.showSort();
  }

  close() {
    this.isClosed = true;
    this.observer.disconnect();
  }

  // Which columns fit is decided by the style sheet; the widths of the others follow.
  measure() {
    const width = this.element.clientWidth;
    const level = width < 640 ? 1 : width < 900 ? 2 : 3;
    this.element.dataset.level = level;
    const shown = this.columns.filter((column) => (column.priority || 1) <= level);
    this.element.style.setProperty("--columns", shown.map((column) => column.width || "minmax(0, 1fr)").join(" "));
    const styles = getComputedStyle(this.element);
    this.rowHeight = parseFloat(styles.getPropertyValue("--row")) || 38;
    this.setHeight();
  }

  headCell(column) {
    const classes = `cell ${column.align || ""} p${column.priority || 1}`;
    if (column.sort === false) return h("span", { class: classes, role: "columnheader" }, column.label);
    const button = h("button", { type: "button", class: "sort", title: column.title || `Sort by ${column.label}`,
      onclick: () => this.sortBy(column) }, column.label);
    return h("span", { class: classes, role: "columnheader", "data-key": column.key }, button);
  }

  sortBy(column) {
    const first = column.align === "right" ? `-${column.key}` : column.key;
    const other = first.startsWith("-") ? column.key : `-${column.key}`;
    this.sort = this.sort === first ? other : this.sort === other ? "" : first;
    this.showSort();
    this.reload();
    this.view.scrollTop = 0;
  }

  showSort() {
    for (const cell of this.head.children) {
      const direction = this.sort === cell.dataset.key ? "ascending" : this.sort === `-${cell.dataset.key}` ? "descending" : null;
      if (direction) cell.setAttribute("aria-sort", direction);
      else cell.removeAttribute("aria-sort");
    }
  }

  // Forgets all rows: another filter or order.
  reload() {
    this.version += 1;
    this.loading.clear();
    this.stale = true;
    this.refresh();
  }

  // Asks for the visible rows again.
  refresh() {
    if (this.isClosed) return;
    const [from, to] = this.visible();
    for (let chunk = Math.floor(from / CHUNK); chunk <= Math.floor(Math.max(from, to - 1) / CHUNK); chunk += 1) this.fetch(chunk);
  }

  visible() {
    const from = Math.max(0, Math.floor(this.view.scrollTop / this.rowHeight) - SPARE);
    const count = Math.ceil((this.view.clientHeight || 600) / this.rowHeight) + 2 * SPARE;
    return [from, this.matched === null ? from + count : Math.min(this.matched, from + count)];
  }

  async fetch(chunk) {
    if (this.loading.get(chunk) === this.version) return;
    this.loading.set(chunk, this.version);
    const version = this.version;
    try {
      const found = await this.load(chunk * CHUNK, CHUNK, this.sort);
      if (this.isClosed || version !== this.version) return;
      if (this.stale) {
        this.chunks.clear();
        this.stale = false;
      }
      this.chunks.delete(chunk);
      this.chunks.set(chunk, found.rows);
      while (this.chunks.size > KEPT_CHUNKS) this.chunks.delete(this.chunks.keys().next().value);
      this.matched = found.matched;
      // Another order of the rows moves the mark of the open one.
      const at = this.openKey === null || this.selectedKey !== this.openKey ? -1 : found.rows.findIndex((row) => this.rowKey(row) === this.openKey);
      if (at >= 0) this.selected = chunk * CHUNK + at;
      this.error = null;
      this.setHeight();
      this.onLoad(found);
    } catch (error) {
      if (this.isClosed || version !== this.version) return;
      this.error = error.message;
    } finally {
      if (this.loading.get(chunk) === version) this.loading.delete(chunk);
    }
    this.schedule();
  }

  setHeight() {
    this.spacer.style.height = `${(this.matched || 0) * this.rowHeight}px`;
    this.element.setAttribute("aria-rowcount", String((this.matched ?? -2) + 1));
  }

  rowAt(index) {
    return this.chunks.get(Math.floor(index / CHUNK))?.[index % CHUNK];
  }

  schedule() {
    if (this.scheduled || this.isClosed) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      if (!this.isClosed) this.draw();
    });
  }

  draw() {
    const [from, to] = this.visible();
    const wanted = Math.max(0, to - from);
    while (this.pool.length < wanted) this.pool.push(this.makeRow());
    // Each index has its element, so that scrolling moves few of them.
    const used = new Set();
    for (let index = from; index < from + wanted; index += 1) {
      used.add(index % this.pool.length);
      this.drawRow(this.pool[index % this.pool.length], index);
    }
    this.pool.forEach((row, i) => { if (!used.has(i)) row.element.hidden = true; });
    for (let chunk = Math.floor(from / CHUNK); wanted && chunk <= Math.floor((to - 1) / CHUNK); chunk += 1) {
      if (!this.chunks.has(chunk)) this.fetch(chunk);
    }
    this.showMessage();
  }

  showMessage() {
    const text = this.error || (this.matched === null ? "Loading" : this.matched === 0 ? this.emptyText : "");
    this.message.hidden = !text;
    if (text && this.message.dataset.text !== text) {
      this.message.dataset.text = text;
      this.message.replaceChildren(empty(text, this.error ? "It is tried again." : ""));
    }
  }

  makeRow() {
    const cells = this.columns.map((column) => h("span", { class: `cell ${column.align || ""} p${column.priority || 1}`, role: "gridcell" }));
    const element = h("div", { class: "grid-row", role: "row" }, cells);
    const row = { element, cells, index: -1, shown: [] };
    element.addEventListener("click", () => {
      this.select(row.index);
      this.open(row.index);
    });
    this.view.append(element);
    return row;
  }

  drawRow(row, index) {
    const value = this.rowAt(index);
    if (row.element.hidden) row.element.hidden = false;
    if (row.index !== index) {
      row.index = index;
      row.element.style.transform = `translateY(${index * this.rowHeight}px)`;
      row.element.id = `row-${index}`;
      row.element.setAttribute("aria-rowindex", String(index + 2));
    }
    row.element.classList.toggle("selected", index === this.selected);
    row.element.setAttribute("aria-selected", String(index === this.selected));
    row.element.classList.toggle("open", value !== undefined && this.openKey === this.rowKey(value));
    row.element.classList.toggle("missing", value === undefined);
    this.columns.forEach((column, i) => {
      const content = value === undefined ? "" : column.cell(value);
      if (content instanceof Node) {
        row.cells[i].replaceChildren(content);
        row.shown[i] = null;
      } else if (row.shown[i] !== content) {
        setText(row.cells[i], content);
        row.cells[i].title = column.hasTitle ? content : "";
        row.shown[i] = content;
      }
    });
  }

  select(index) {
    this.selected = index;
    this.selectedKey = this.rowAt(index) === undefined ? null : this.rowKey(this.rowAt(index));
    this.view.setAttribute("aria-activedescendant", `row-${index}`);
    const top = index * this.rowHeight;
    if (top < this.view.scrollTop) this.view.scrollTop = top;
    else if (top + this.rowHeight > this.view.scrollTop + this.view.clientHeight) this.view.scrollTop = top + this.rowHeight - this.view.clientHeight;
    this.schedule();
  }

  open(index) {
    const row = this.rowAt(index);
    if (row === undefined || !this.onOpen) return;
    this.openKey = this.rowKey(row);
    this.onOpen(row);
    this.schedule();
  }

  closeRow() {
    this.openKey = null;
    this.schedule();
  }

  onKey(event) {
    const page = Math.max(1, Math.floor(this.view.clientHeight / this.rowHeight) - 1);
    const last = (this.matched || 0) - 1;
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in moves && last >= 0 && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      this.select(Math.min(last, Math.max(0, this.selected < 0 && moves[event.key] === 1 ? 0 : this.selected + moves[event.key])));
    } else if (event.key === "Enter" && this.selected >= 0) {
      event.preventDefault();
      this.open(this.selected);
    }
  }

  // "12 of 10 000 hosts"
  summary(noun, total) {
    if (this.matched === null) return "";
    return this.matched === total ? `${whole(total)} ${noun}` : `${whole(this.matched)} of ${whole(total)} ${noun}`;
  }
}
