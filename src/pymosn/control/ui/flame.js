// A flame graph as SVG: each box is a function, as wide as its share, above what it calls.

import { h, s, setText } from "./dom.js";
import { share } from "./format.js";

const ROW = 20;
const CHAR = 7;
const NARROWEST = 2;
const MOST_BOXES = 4000;
const DEEPEST = 120;

// Equal functions with equal callers are one box. `samples`: stacks with the innermost call first, and numbers of which the last counts.
export function treeOf(samples, title) {
  const root = { name: title, file: "", line: 0, value: 0, parent: null, inner: new Map() };
  for (const [stack, numbers] of samples) {
    const value = numbers[numbers.length - 1];
    let box = root;
    box.value += value;
    for (const [name, file, line] of stack.slice(-DEEPEST).reverse()) {
      const key = `${name}\n${file}`;
      if (!box.inner.has(key)) box.inner.set(key, { name, file, line, value: 0, parent: box, inner: new Map() });
      box = box.inner.get(key);
      box.value += value;
    }
  }
  return root;
}

function kindOf({ file, parent }) {
  if (!parent) return "root";
  if (!file) return "native";
  if (file.includes("/pymosn/")) return "pymosn";
  return file.includes("/site-packages/") || file.includes("/lib/python") || file.startsWith("<") ? "library" : "own";
}

function label(name, width) {
  const room = Math.floor((width - 8) / CHAR);
  if (name.length <= room) return name;
  const short = name.slice(name.lastIndexOf(".") + 1);
  if (short.length <= room) return short;
  return room >= 4 ? `${short.slice(0, room - 1)}…` : "";
}

const inOrder = (box) => [...box.inner.values()].sort((a, b) => (a.name < b.name ? -1 : 1));

export class Flame {
  constructor(root, format) {
    this.root = root;
    this.format = format;
    this.zoomed = root;
    this.selected = root;
    this.width = 0;
    this.svg = s("svg", { class: "flame", role: "img", tabindex: "0", "aria-label": "Flame graph: arrows move, Enter enlarges, Escape goes back" });
    this.info = h("p", { class: "flame-info", role: "status" });
    const kinds = [["own", "filters and other code"], ["pymosn", "pymosn"], ["library", "libraries"], ["native", "native and compiled code"]];
    this.element = h("div", {}, h("ul", { class: "legend" }, kinds.map(([kind, text]) => h("li", {}, h("span", { class: `swatch ${kind}` }), text))), this.svg, this.info);
    this.observer = new ResizeObserver(() => {
      const width = Math.floor(this.element.clientWidth);
      if (width > 0 && width !== this.width) {
        this.width = width;
        this.draw();
      }
    });
    this.observer.observe(this.element);
    this.svg.addEventListener("keydown", (event) => this.onKey(event));
    this.svg.addEventListener("pointerleave", () => this.describe(this.selected));
  }

  close() {
    this.observer.disconnect();
  }

  reset() {
    if (this.zoomed === this.root) return false;
    this.zoom(this.root);
    return true;
  }

  zoom(box) {
    this.zoomed = this.selected = box;
    this.draw();
  }

  draw() {
    const parts = [];
    let deepest = 0;
    const callers = [];
    for (let box = this.zoomed.parent; box; box = box.parent) callers.unshift(box);
    callers.forEach((box, level) => parts.push(this.box(box, level, 0, this.width, true)));
    const waiting = [[this.zoomed, callers.length, 0, this.width]];
    while (waiting.length && parts.length < MOST_BOXES) {
      const [box, level, left, width] = waiting.shift();
      parts.push(this.box(box, level, left, width, false));
      deepest = Math.max(deepest, level);
      let at = left;
      for (const inner of inOrder(box)) {
        const part = (width * inner.value) / box.value;
        if (part >= NARROWEST) waiting.push([inner, level + 1, at, part]);
        at += part;
      }
    }
    const height = (deepest + 1) * ROW;
    this.svg.setAttribute("width", this.width);
    this.svg.setAttribute("height", height);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    this.svg.replaceChildren(...parts);
    this.describe(this.selected);
  }

  box(box, level, left, width, isCaller) {
    const name = label(box.name, width);
    return s("g", { class: `box ${kindOf(box)}${isCaller ? " caller" : ""}${box === this.selected ? " selected" : ""}`, onclick: () => this.zoom(box), onpointerenter: () => this.describe(box) },
      s("rect", { x: left.toFixed(1), y: level * ROW, width: Math.max(1, width - 1).toFixed(1), height: ROW - 1, rx: 2 }),
      name && s("text", { x: (left + 4).toFixed(1), y: level * ROW + 14 }, name));
  }

  describe(box) {
    const where = box.file ? ` · ${box.file}:${box.line}` : "";
    setText(this.info, `${box.name}: ${this.format(box.value)}, ${share(box.value / this.root.value)}${where}`);
  }

  onKey(event) {
    const box = this.selected;
    const beside = (step) => {
      const all = box.parent ? inOrder(box.parent) : [box];
      return all[all.indexOf(box) + step];
    };
    const largest = () => [...box.inner.values()].sort((a, b) => b.value - a.value)[0];
    const moves = { ArrowDown: largest, ArrowUp: () => box.parent, ArrowLeft: () => beside(-1), ArrowRight: () => beside(1), Enter: () => box };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const next = moves[event.key]();
    if (!next) return;
    this.selected = next;
    let shown = next;
    while (shown && shown !== this.zoomed) shown = shown.parent;
    // What is not below the enlarged box is not drawn, except its callers.
    if (event.key === "Enter" || !shown) this.zoomed = next;
    this.draw();
  }
}
