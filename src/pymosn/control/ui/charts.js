// Plots as SVG: lines or stacked areas over time, with a legend, and the values under the pointer.

import { clock } from "./format.js";
import { h, s, setText } from "./dom.js";

const HEIGHT = 168;
const LEFT = 68;
const RIGHT = 10;
const TOP = 8;
const BOTTOM = 20;

function niceTop(value, steps = [1, 1.5, 2, 3, 4, 5, 6, 8, 10]) {
  if (!(value > 0)) return 1;
  const size = 10 ** Math.floor(Math.log10(value));
  return steps.map((step) => step * size).find((step) => step >= value) ?? 10 * size;
}

// For bytes, ticks are round in powers of two.
function niceBytes(value) {
  const unit = 1024 ** Math.max(0, Math.floor(Math.log(Math.max(value, 1)) / Math.log(1024)));
  return niceTop(value / unit, [1, 2, 4, 5, 8, 10]) * unit;
}

const path = (points) => points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

// `series`: {key, label, color, value(point)}; `format`: of values; `stacked`; `marks`: gaps in time are left open.
export class Chart {
  constructor(title, { series, format, stacked = false, isBytes = false, note = "" }) {
    this.series = series;
    this.format = format;
    this.stacked = stacked;
    this.isBytes = isBytes;
    this.points = [];
    this.seconds = 300;
    this.hover = null;
    this.svg = s("svg", { class: "plot", height: HEIGHT, role: "img", "aria-label": title, preserveAspectRatio: "none" });
    this.legend = h("ul", { class: "legend" });
    this.time = h("span", { class: "chart-time muted" });
    this.element = h("section", { class: "card chart", "aria-label": title },
      h("div", { class: "card-head" }, h("h2", {}, title), note && h("span", { class: "muted small" }, note), this.time), this.svg, this.legend);
    this.width = 0;
    this.observer = new ResizeObserver(() => {
      const width = Math.floor(this.svg.parentNode.clientWidth - 32);
      if (width > 0 && width !== this.width) {
        this.width = width;
        this.draw();
      }
    });
    this.observer.observe(this.element);
    this.svg.addEventListener("pointermove", (event) => this.onPointer(event.offsetX));
    this.svg.addEventListener("pointerleave", () => this.onPointer(null));
  }

  close() {
    this.observer.disconnect();
  }

  setSeries(series) {
    const keys = series.map((one) => one.key).join();
    if (keys !== this.series.map((one) => one.key).join()) {
      this.series = series;
      this.items = null;
    }
  }

  update(points, seconds) {
    this.points = points;
    // Soon after the start the plot has a minute, so that its points are not at the edge.
    const span = points.length ? points[points.length - 1].time - points[0].time : 0;
    this.seconds = Math.min(seconds, Math.max(60, span));
    this.draw();
  }

  onPointer(x) {
    this.hover = x;
    this.draw();
  }

  draw() {
    if (!this.width) return;
    const last = this.points.length ? this.points[this.points.length - 1].time : Date.now() / 1000;
    const first = last - this.seconds;
    const shown = this.points.filter((point) => point.time >= first - 2);
    const values = this.series.map((one) => shown.map((point) => one.value(point) ?? null));
    const tops = shown.map((_, i) => this.stacked ? values.reduce((sum, row) => sum + (row[i] || 0), 0)
      : Math.max(0, ...values.map((row) => row[i] || 0)));
    const max = Math.max(0, ...tops);
    const top = this.isBytes ? niceBytes(max) : niceTop(max);
    const x = (time) => LEFT + ((time - first) / this.seconds) * (this.width - LEFT - RIGHT);
    const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM);
    this.svg.setAttribute("width", this.width);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    const parts = this.grid(top, x, y, first, last);
    if (shown.length === 0) {
      parts.push(s("text", { x: LEFT + (this.width - LEFT) / 2, y: HEIGHT / 2, class: "no-data", "text-anchor": "middle" }, "waiting for data"));
    }
    parts.push(...(this.stacked ? this.areas(shown, values, x, y) : this.lines(shown, values, x, y)));
    const index = this.indexAt(shown, x);
    if (this.hover !== null && index !== null) {
      const at = x(shown[index].time).toFixed(1);
      parts.push(s("line", { x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM, class: "cursor" }));
    }
    this.svg.replaceChildren(...parts);
    this.showLegend(shown, values, index);
  }

  indexAt(shown, x) {
    if (!shown.length) return null;
    if (this.hover === null) return shown.length - 1;
    let best = 0;
    shown.forEach((point, i) => {
      if (Math.abs(x(point.time) - this.hover) < Math.abs(x(shown[best].time) - this.hover)) best = i;
    });
    return best;
  }

  grid(top, x, y, first, last) {
    const parts = [];
    for (const part of [0, 0.5, 1]) {
      const at = y(top * part).toFixed(1);
      parts.push(s("line", { x1: LEFT, x2: this.width - RIGHT, y1: at, y2: at, class: part ? "grid" : "axis" }));
      parts.push(s("text", { x: LEFT - 8, y: Number(at) + 4, class: "tick", "text-anchor": "end" }, this.format(top * part)));
    }
    const step = this.seconds > 120 ? 60 : 15;
    for (let time = Math.ceil(first / step) * step; time <= last; time += step) {
      const at = x(time);
      if (at < LEFT + 20 || at > this.width - RIGHT - 18) continue;
      if (this.width < 420 && step === 60 && Math.round(time / 60) % 2) continue;
      parts.push(s("text", { x: at.toFixed(1), y: HEIGHT - 5, class: "tick", "text-anchor": "middle" }, clock(time).slice(0, step < 60 ? 8 : 5)));
    }
    return parts;
  }

  // Runs of points without a gap.
  runs(shown, has) {
    const found = [];
    let run = [];
    shown.forEach((point, i) => {
      const gap = run.length && point.time - shown[run[run.length - 1]].time > Math.max(4, 3 * point.seconds);
      if (gap || !has(i)) {
        if (run.length) found.push(run);
        run = [];
      }
      if (has(i)) run.push(i);
    });
    if (run.length) found.push(run);
    return found;
  }

  lines(shown, values, x, y) {
    return this.series.flatMap((one, row) => this.runs(shown, (i) => values[row][i] !== null).map((run) => {
      const points = run.map((i) => [x(shown[i].time), y(values[row][i])]);
      if (points.length === 1) return s("circle", { cx: points[0][0], cy: points[0][1], r: 1.5, fill: one.color });
      return s("path", { d: path(points), class: "line", stroke: one.color });
    }));
  }

  // The lowest is drawn last: a series without values must not hide the line of those below it.
  areas(shown, values, x, y) {
    const parts = [];
    let base = shown.map(() => 0);
    this.series.forEach((one, row) => {
      const lower = base;
      const sums = shown.map((_, i) => lower[i] + (values[row][i] || 0));
      base = sums;
      if (!sums.some((sum, i) => sum > lower[i])) return;
      for (const run of this.runs(shown, () => true)) {
        const top = run.map((i) => [x(shown[i].time), y(sums[i])]);
        const bottom = run.map((i) => [x(shown[i].time), y(lower[i])]).reverse();
        parts.unshift(s("path", { d: `${path([...top, ...bottom])}Z`, fill: one.color, class: "area" }),
          s("path", { d: path(top), class: "line", stroke: one.color }));
      }
    });
    return parts;
  }

  showLegend(shown, values, index) {
    if (!this.items) {
      this.items = this.series.map((one) => {
        const value = h("span", { class: "legend-value" });
        return { value, item: h("li", {}, h("span", { class: "swatch", style: { background: one.color } }), one.label, value) };
      });
      this.legend.replaceChildren(...this.items.map(({ item }) => item));
    }
    this.items.forEach(({ value }, row) => setText(value, index === null ? "" : this.format(values[row][index])));
    setText(this.time, this.hover !== null && index !== null ? clock(shown[index].time) : "");
  }
}

// A bar that shows parts of a whole. `parts`: [number, class].
export function bar(parts, label) {
  const total = parts.reduce((sum, [number]) => sum + number, 0) || 1;
  return h("span", { class: "bar", role: "img", "aria-label": label }, parts.filter(([number]) => number > 0)
    .map(([number, kind]) => h("span", { class: kind, style: { "flex-grow": String(number / total) } })));
}
