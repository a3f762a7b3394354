// A profile of a process as a flame graph. It costs CPU and shows file names, so it needs what a change needs.

import { getJson, query } from "./data.js";
import { empty, h, pageHead, replace, setText } from "./dom.js";
import { Flame, treeOf } from "./flame.js";
import { bytes, dateTime, duration, share, whole } from "./format.js";

const MOST_FUNCTIONS = 15;
const UNITS = { nanoseconds: (value) => duration(value / 1e9), bytes };

// The last profile is there again when the view is.
const last = { profile: null, title: "" };

// The functions with the largest shares of their own.
function functionsOf(profile) {
  const found = new Map();
  for (const [stack, numbers] of profile.samples) {
    const value = numbers[numbers.length - 1];
    const seen = new Set();
    stack.forEach(([name, file, line], i) => {
      const key = `${name}\n${file}`;
      if (!found.has(key)) found.set(key, { name, file, line, own: 0, all: 0 });
      const one = found.get(key);
      if (i === 0) one.own += value;
      if (!seen.has(key)) one.all += value;
      seen.add(key);
    });
  }
  return [...found.values()].filter((one) => one.own).sort((a, b) => b.own - a.own).slice(0, MOST_FUNCTIONS);
}

function functionTable(profile, total, format) {
  const heads = [["Function"], ["Own", "num"], ["Own share", "num"], ["With callees", "num"]];
  return h("div", { class: "card table-card" }, h("table", {}, h("caption", {}, "Functions with the largest shares"),
    h("thead", {}, h("tr", {}, heads.map(([text, kind]) => h("th", { class: kind, scope: "col" }, text)))),
    h("tbody", {}, functionsOf(profile).map((one) => h("tr", {}, [h("span", { class: "function", title: one.file ? `${one.file}:${one.line}` : "native code" }, one.name), format(one.own), share(one.own / total), share(one.all / total)]
      .map((cell, i) => h("td", { class: heads[i][1], "data-label": i ? heads[i][0] : "" }, cell)))))));
}

export function profile(context) {
  let controller = null;
  let timer = 0;
  const process = h("select", { id: "profile-process" }, h("option", { value: "1" }, "worker 1"));
  const kind = h("select", { id: "profile-kind" }, h("option", { value: "profile" }, "CPU"), h("option", { value: "heap" }, "memory that is allocated and kept"));
  const seconds = h("select", { id: "profile-seconds" }, [2, 5, 10, 30, 60].map((number) => h("option", { value: number, selected: number === 5 }, `${number} seconds`)));
  const start = h("button", { type: "submit", class: "primary" }, "Start");
  const status = h("span", { class: "muted small", role: "status" });
  const result = h("div", { class: "stack-list" });
  const field = (label, input) => h("label", { class: "field", for: input.id }, h("span", {}, label), input);
  const form = h("form", { class: "card explain-form wide", onsubmit: (event) => { event.preventDefault(); if (controller) controller.abort(); else run(); } },
    h("div", { class: "field-row end" }, field("Process", process), field("What", kind), field("Duration", seconds), h("div", { class: "buttons" }, start)), status);
  const element = h("div", { class: "page" }, pageHead("Profile", "Where a process uses CPU or memory, while it serves"), form, result);
  let flame = null;

  function show() {
    const { profile: found, title } = last;
    flame?.close();
    flame = null;
    if (!found) {
      replace(result, empty("No profile yet", "Start records one. It needs the token of admin.token_file, unless the port takes changes without one."));
      return;
    }
    const total = found.samples.reduce((sum, [, numbers]) => sum + numbers[numbers.length - 1], 0);
    if (!total) {
      replace(result, empty(`Nothing was recorded: ${title}`, "The process did next to nothing in this time."));
      return;
    }
    const [name, unit] = found.values[found.values.length - 1];
    const format = UNITS[unit] || whole;
    flame = new Flame(treeOf(found.samples, title), format);
    replace(result, h("section", { class: "card", "aria-label": "Flame graph" }, h("div", { class: "card-head" }, h("h2", {}, title),
      h("span", { class: "muted small grow" }, `${dateTime(found.started)} · ${format(total)} of ${name === "cpu" ? "CPU" : name} in ${duration(found.seconds)}`)),
    found.notes.map((note) => h("p", { class: "note" }, note)), flame.element), functionTable(found, total, format));
  }

  async function run() {
    const own = new AbortController();
    const length = Number(seconds.value);
    const title = `${kind.value === "heap" ? "Memory" : "CPU"} of ${process.selectedOptions[0].textContent}`;
    const ends = performance.now() + length * 1000;
    controller = own;
    setText(start, "Cancel");
    const tick = () => setText(status, `Recording, ${Math.max(0, Math.ceil((ends - performance.now()) / 1000))} s left`);
    timer = setInterval(tick, 500);
    tick();
    try {
      const found = await getJson(`/debug/pprof/${kind.value}${query({ worker: process.value, seconds: length, format: "json" })}`, own.signal);
      Object.assign(last, { profile: found, title });
      setText(status, "");
      show();
    } catch (error) {
      setText(status, "");
      if (error.name !== "AbortError") replace(result, empty("There is no profile", error.message));
    }
    clearInterval(timer);
    controller = null;
    setText(start, "Start");
  }

  async function loadProcesses() {
    try {
      const { processes } = await getJson("/api/v1/live/workers");
      const chosen = process.value;
      replace(process, processes.map(({ role }) => h("option", { value: role.replace("worker ", ""), selected: role.replace("worker ", "") === chosen }, role)));
      process.value = chosen;
    } catch {
      // Worker 1 can still be chosen.
    }
  }
  loadProcesses();
  show();
  return { element, escape: () => flame?.reset(), close: () => { clearInterval(timer); controller?.abort(); flame?.close(); } };
}
