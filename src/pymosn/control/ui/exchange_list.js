// A list of exchanges, and the whole story of the one that is open.

import { badge, facts, h, replace } from "./dom.js";
import { bytes, clock, dateTime, duration } from "./format.js";

const STEPS = { attempt: "last attempt" };

function statusKind(status) {
  return status >= 500 || !status ? "bad" : status >= 400 ? "warn" : status >= 300 ? "" : "ok";
}

const idOf = (one) => `${one.worker} ${one.number ?? one.time} ${one.connection_id ?? ""} ${one.path}`;

// The attempts and steps as bars over the duration of the exchange.
function timeline(one) {
  const total = Math.max(one.duration || 0, 1e-9);
  const attempts = one.attempts || [];
  const rows = attempts.map((attempt, i) => [`${i + 1}. ${attempt.address || "no host"}`, attempt.offset || 0, attempt.duration || 0, attempt.reason || attempt.status >= 500 ? "bad" : "ok",
    `${duration(attempt.duration)}${attempt.reason ? `, ${attempt.reason}` : attempt.status ? `, ${attempt.status}` : ""}`]);
  return h("div", { class: "timeline" }, [["whole exchange", 0, total, "all", duration(one.duration)], ...rows].map(([name, start, length, kind, text]) => h("div", { class: "timeline-row" },
    h("span", { class: "timeline-name", title: name }, name),
    h("span", { class: "timeline-track" }, h("span", { class: `timeline-bar ${kind}`, style: { "margin-left": `${Math.min(99, (start / total) * 100)}%`, width: `${Math.max(0.7, Math.min(1 - start / total, length / total) * 100)}%` } })),
    h("span", { class: "timeline-text muted" }, text))));
}

// When what happened, in the order of time.
function steps(one) {
  const known = Object.entries(one.timings || {}).filter(([, value]) => value !== null && value !== undefined).sort((x, y) => x[1] - y[1]);
  return known.length ? facts(known.map(([key, value]) => [STEPS[key] || key, `+${duration(value)}`])) : null;
}

function replier(one) {
  if (one.replied_by) return one.replied_by;
  return one.is_local === undefined ? null : one.is_local ? "the proxy" : "the upstream";
}

const section = (title, ...content) => h("section", { class: "panel-section" }, h("h3", {}, title), ...content);

function story(one) {
  return [
    facts([["time", dateTime(one.time)], ["reason", one.reason && h("code", {}, one.reason)], ["detail", one.detail], ["status", String(one.status || "none")],
      ["duration", duration(one.duration)], ["answered by", replier(one)], ["call status", one.call_status]]),
    section("Timeline", timeline(one), steps(one)),
    section("Request", facts([["method", one.method], ["host", one.host], ["path", one.path], ["protocol", [one.protocol, one.upstream_protocol].filter(Boolean).join(" to ")], ["client", one.client],
      ["listener", one.listener], ["size", bytes(one.request_bytes)], ["response size", bytes(one.response_bytes)]])),
    section("Way", facts([["route", one.route || "none matched"], ["cluster", one.cluster], ["upstream", one.upstream],
      ["filters", (one.filters || []).join(", ") || "none"], ["worker", one.worker === undefined ? null : String(one.worker)], ["connection", one.connection_id === undefined ? null : String(one.connection_id)],
      ["trace", one.trace_id && h("code", {}, one.trace_id)]])),
  ];
}

// `timeOf(one)`: the text of the last column; `more(one)`: sections after the story.
export class ExchangeList {
  constructor(timeOf, more = () => []) {
    this.timeOf = timeOf;
    this.more = more;
    this.opened = null;
    this.list = h("div", { class: "exchange-list", role: "listbox", "aria-label": "Exchanges", tabindex: "0" });
    this.panel = h("aside", { class: "panel", hidden: true, "aria-label": "Story of the exchange" });
    this.element = h("div", { class: "split" }, this.list, this.panel);
    this.list.addEventListener("keydown", (event) => this.onKey(event));
  }

  row(one) {
    const element = h("div", { class: "exchange", role: "option", "aria-selected": "false", onclick: () => this.open(one) },
      badge(String(one.status || "–"), statusKind(one.status)), h("span", { class: "exchange-what", title: one.path }, h("strong", {}, one.method), ` ${one.path}`),
      h("span", { class: "exchange-why" }, one.reason ? h("code", {}, one.reason) : one.upstream || one.cluster || ""), h("span", { class: "num" }, duration(one.duration)),
      h("span", { class: "num muted", title: clock(one.time) }, this.timeOf(one)));
    element.dataset.id = idOf(one);
    return element;
  }

  // Shows these rows, or `message` if there are none.
  show(rows, message) {
    replace(this.list, rows.length ? rows.map((one) => this.row(one)) : message);
    this.mark();
  }

  // Puts further rows, the newest first, above the others, of which at most `limit` stay.
  add(rows, limit) {
    if (!this.list.querySelector(".exchange")) this.list.replaceChildren();
    this.list.prepend(...rows.slice(0, limit).map((one) => this.row(one)));
    while (this.list.children.length > limit) this.list.lastElementChild.remove();
    this.mark();
  }

  open(one) {
    this.opened = one;
    this.panel.hidden = false;
    replace(this.panel, h("div", { class: "panel-head" }, h("h2", {}, `${one.method} ${one.path}`),
      h("button", { type: "button", class: "icon-button", id: "panel-close", "aria-label": "Close details", onclick: () => this.escape() }, "✕")), story(one), this.more(one));
    this.panel.scrollTop = 0;
    this.mark();
  }

  escape() {
    if (!this.opened) return false;
    this.opened = null;
    this.panel.hidden = true;
    this.mark();
    this.list.focus();
    return true;
  }

  mark() {
    const id = this.opened === null ? null : idOf(this.opened);
    for (const row of this.list.querySelectorAll(".exchange")) row.setAttribute("aria-selected", String(row.dataset.id === id));
  }

  onKey(event) {
    const rows = [...this.list.querySelectorAll(".exchange")];
    const index = rows.findIndex((row) => row.getAttribute("aria-selected") === "true");
    const next = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (next === undefined || !rows.length) return;
    event.preventDefault();
    const row = rows[Math.min(rows.length - 1, Math.max(0, next))];
    row.click();
    row.scrollIntoView({ block: "nearest" });
  }
}
