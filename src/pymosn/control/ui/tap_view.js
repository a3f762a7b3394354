// A live tap: the exchanges that meet some conditions, each when it ends. It needs what a change needs, so the page may ask for the token.

import { postLines } from "./data.js";
import { empty, facts, h, pageHead, replace, setText } from "./dom.js";
import { ExchangeList } from "./exchange_list.js";
import { bytes, clock, plural } from "./format.js";

// Exchanges that are kept and rows that are shown, at most; bytes that are kept; exchanges per second of each worker.
const KEPT = 1000;
const ROWS = 200;
const KEPT_BYTES = 16 * 1024 * 1024;
const RATE = 100;
const SHOW_PERIOD = 250;
const SHOWN_BODY = 4000;
const PREFIX = '{"exchange":';

// The last tap and its conditions: they are there again when the view is. `lines`: the records as they came, the oldest first.
const last = { conditions: {}, lines: [], size: 0, text: "" };

// The body of the call. Throws an Error whose message is for people.
export function askedOf(given) {
  const asked = { rate: RATE, bodies: Number(given.bodies || 0), seconds: Number(given.seconds || 60) };
  for (const name of ["listener", "protocol", "method", "path", "host", "route", "cluster", "reason"]) if (given[name]) asked[name] = given[name];
  asked.statuses = (given.status || "").toLowerCase().split(/[\s,]+/).filter(Boolean);
  const wrong = asked.statuses.find((one) => !/^([1-5][0-9][0-9]|[1-5]xx|failed)$/.test(one));
  if (wrong) throw new Error(`${wrong} is neither a status such as 404, a class such as 5xx, nor failed.`);
  const slower = (given.slower || "").match(/^([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(ms|s|)$/);
  if (given.slower && !slower) throw new Error(`${given.slower} is not a time such as 100ms or 2s.`);
  if (slower) asked.slower = Number(slower[1]) * (slower[2] === "ms" ? 0.001 : 1);
  if (given.header) {
    const [name, ...value] = given.header.split("=");
    if (!name.trim()) throw new Error("The header has no name.");
    asked.headers = [[name.trim(), value.join("=").trim()]];
  }
  return asked;
}

// A story with what the client sent and got.
function exchangeOf(line) {
  const record = JSON.parse(line);
  return { ...record.story, worker: record.worker, number: record.number, record };
}

function textOf(data) {
  const text = new TextDecoder().decode(Uint8Array.from(atob(data), (char) => char.charCodeAt(0)));
  // Control characters would be invisible.
  const shown = text.slice(0, SHOWN_BODY).replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, "·");
  return text.length > SHOWN_BODY ? `${shown}…` : shown;
}

function fieldLines(fields) {
  return fields.length ? h("pre", {}, fields.map((field) => `${field[0]}: ${field.length < 3 ? field[1] : "(not text)"}`).join("\n")) : h("p", { class: "muted" }, "no fields");
}

function partOf(title, part) {
  return h("section", { class: "panel-section" }, h("h3", {}, title), fieldLines(part.headers),
    part.body && part.body.size ? [h("p", { class: "muted small" }, `body of ${bytes(part.body.size)}${part.body.complete ? "" : ", cut"}`), part.body.data ? h("pre", {}, textOf(part.body.data)) : null] : null,
    part.frame ? [h("p", { class: "muted small" }, "frame"), h("pre", {}, textOf(part.frame))] : null,
    part.trailers?.length ? [h("p", { class: "muted small" }, "trailers"), fieldLines(part.trailers)] : null,
    facts([["broken off", part.reset], ["note", part.note]]));
}

// A tape, as `pymosn record` writes it.
function save() {
  const end = { end: { exchanges: last.lines.length, dropped: 0 } };
  const first = { pymosn_tape: 1, created: Date.now() / 1000, version: "" };
  const url = URL.createObjectURL(new Blob([[JSON.stringify(first), ...last.lines, JSON.stringify(end), ""].join("\n")], { type: "application/x-ndjson" }));
  h("a", { href: url, download: `tap-${clock(Date.now() / 1000).replaceAll(":", "")}.tape` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

export function tap(context) {
  let controller = null;
  let waiting = [];
  let count = 0;
  let dropped = 0;
  let timer = 0;
  const list = new ExchangeList((one) => clock(one.time), ({ record }) => [partOf("What the client sent", record.request), partOf("What the client got", record.response)]);
  const status = h("span", { class: "muted summary", role: "status" });
  const start = h("button", { type: "submit", class: "primary" }, "Start");
  const saver = h("button", { type: "button", onclick: save, title: "For pymosn replay" }, "Save as tape");
  const clear = h("button", { type: "button", onclick: () => { Object.assign(last, { lines: [], size: 0, text: "" }); waiting = []; count = dropped = 0; show(); list.escape(); list.show([], empty("Nothing yet")); } }, "Clear");

  const field = (name, label, placeholder) => h("label", { class: "field", for: `tap-${name}` }, h("span", {}, label),
    h("input", { id: `tap-${name}`, name, placeholder, autocomplete: "off", spellcheck: "false", maxlength: "500", value: last.conditions[name] || "" }));
  const select = (name, label, options) => h("label", { class: "field", for: `tap-${name}` }, h("span", {}, label),
    h("select", { id: `tap-${name}`, name }, options.map(([value, text]) => h("option", { value, selected: last.conditions[name] === value }, text))));
  const more = h("details", { open: Object.entries(last.conditions).some(([name, value]) => value && ["listener", "protocol", "method", "host", "reason", "header"].includes(name)) },
    h("summary", {}, "Further conditions"), h("div", { class: "field-row" }, field("listener", "Listener"), field("protocol", "Protocol", "Http1, Http2, bolt"), field("method", "Method", "GET"),
      field("host", "Host"), field("reason", "Reason word", "connect_refused"), field("header", "Header", "name=value")));
  const form = h("form", { class: "card explain-form wide", onsubmit: (event) => { event.preventDefault(); if (controller) stop(); else run(); } },
    h("div", { class: "field-row" }, field("path", "Path begins with", "/"), field("status", "Status", "5xx, failed"), field("cluster", "Cluster"), field("route", "Route"), field("slower", "At least as slow", "100ms")),
    more, h("div", { class: "field-row end" }, select("bodies", "Bodies", [["0", "none"], ["1024", "1 KiB of each"], ["16384", "16 KiB of each"]]),
      select("seconds", "Ends after", [["60", "1 minute"], ["600", "10 minutes"], ["3600", "1 hour"]]), h("div", { class: "buttons" }, start, saver, clear)));
  const element = h("div", { class: "page table-page" }, pageHead("Tap", "Exchanges as they end, without a restart; secrets are redacted, bodies are not"), form, status, list.element);

  function show() {
    setText(start, controller ? "Stop" : "Start");
    saver.disabled = clear.disabled = last.lines.length === 0;
    const parts = [last.text, count && plural(count, "exchange"), dropped && `${dropped} dropped`, count > ROWS && `the newest ${ROWS} are shown`];
    setText(status, parts.filter(Boolean).join(" · "));
  }

  function flush() {
    timer = 0;
    list.add(waiting.splice(-ROWS).reverse().map(exchangeOf), ROWS);
    waiting = [];
    show();
  }

  function onLine(line) {
    if (line.startsWith(PREFIX)) {
      const record = line.slice(PREFIX.length, -1);
      last.lines.push(record);
      last.size += record.length;
      while (last.lines.length > KEPT || last.size > KEPT_BYTES) last.size -= last.lines.shift().length;
      waiting.push(record);
      if (waiting.length > ROWS) waiting.shift();
      count += 1;
      timer ||= setTimeout(flush, SHOW_PERIOD);
      return;
    }
    const { dropped: more_ = 0, tap: begun, done } = JSON.parse(line);
    dropped += more_;
    if (begun) last.text = "running";
    if (begun && !count) list.show([], empty("Waiting for exchanges", "None has met the conditions yet."));
    if (done) last.text = done === "time" ? "ended: its time is over" : "ended";
    show();
  }

  async function run() {
    last.conditions = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
    Object.assign(last, { lines: [], size: 0, text: "starting" });
    waiting = [];
    count = dropped = 0;
    list.escape();
    list.show([], empty("Starting"));
    const own = new AbortController();
    controller = own;
    show();
    try {
      await postLines("/api/v1/tap", askedOf(last.conditions), own.signal, onLine);
      if (last.text === "running") last.text = "ended: the process has closed it";
    } catch (error) {
      last.text = error.name === "AbortError" ? "stopped" : "not started";
      if (error.name !== "AbortError" && !count) list.show([], empty("There is no tap", error.message));
      else if (error.name !== "AbortError") last.text = error.message;
    }
    if (controller === own) controller = null;
    if (!count && list.list.textContent.startsWith("Starting")) list.show([], empty("Nothing was tapped"));
    show();
  }

  function stop() {
    controller?.abort();
    controller = null;
    show();
  }

  if (last.lines.length) {
    count = last.lines.length;
    list.show(last.lines.slice(-ROWS).reverse().map(exchangeOf));
  } else {
    list.show([], empty("No tap is running", "Start shows the exchanges that meet all conditions. It needs the token of admin.token_file, unless the port takes changes without one."));
  }
  show();
  return { element, escape: () => list.escape(), close: () => { clearTimeout(timer); stop(); } };
}
