// The failed and the slowest exchanges of the last minutes, each with its whole story.

import { getJson } from "./data.js";
import { badge, choice, empty, facts, h, pageHead, replace, searchBox, setText } from "./dom.js";
import { ago, bytes, clock, dateTime, duration, plural } from "./format.js";

const LIMIT = 200;
const STEPS = { attempt: "last attempt" };

function statusKind(status) {
  return status >= 500 || !status ? "bad" : status >= 400 ? "warn" : status >= 300 ? "" : "ok";
}

const idOf = (one) => `${one.worker} ${one.time} ${one.connection_id ?? ""} ${one.path}`;

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

function story(one) {
  return [
    facts([["time", dateTime(one.time)], ["reason", one.reason && h("code", {}, one.reason)], ["detail", one.detail], ["status", String(one.status || "none")],
      ["duration", duration(one.duration)], ["answered by", replier(one)], ["call status", one.call_status]]),
    h("section", { class: "panel-section" }, h("h3", {}, "Timeline"), timeline(one), steps(one)),
    h("section", { class: "panel-section" }, h("h3", {}, "Request"), facts([["method", one.method], ["host", one.host], ["path", one.path], ["protocol", [one.protocol, one.upstream_protocol].filter(Boolean).join(" to ")], ["client", one.client],
      ["listener", one.listener], ["size", bytes(one.request_bytes)], ["response size", bytes(one.response_bytes)]])),
    h("section", { class: "panel-section" }, h("h3", {}, "Way"), facts([["route", one.route || "none matched"], ["cluster", one.cluster], ["upstream", one.upstream],
      ["filters", (one.filters || []).join(", ") || "none"], ["worker", one.worker === undefined ? null : String(one.worker)], ["connection", one.connection_id === undefined ? null : String(one.connection_id)],
      ["trace", one.trace_id && h("code", {}, one.trace_id)]])),
  ];
}

export function exchanges(context) {
  let kind = context.parameters.kind === "slow" ? "slow" : "failed";
  let text = "";
  let found = null;
  let opened = null;
  const list = h("div", { class: "exchange-list", role: "listbox", "aria-label": "Exchanges", tabindex: "0" }, empty("Loading"));
  const panel = h("aside", { class: "panel", hidden: true, "aria-label": "Story of the exchange" });
  const hint = h("p", { class: "muted small", hidden: true }, "To see exchanges as they come, or to record them: ", h("code", {}, "pymosn tap"), ", over the unix socket or with the token.");
  const summary = h("span", { class: "muted summary", role: "status" });
  const tabs = choice("Kind", [["failed", "Failed"], ["slow", "Slowest"]], kind, (value) => { kind = value; context.setParameter("kind", value); refresh(); });
  const search = searchBox("search-exchanges", "Search exchanges", "", (value) => { text = value.toLowerCase(); show(); });
  const element = h("div", { class: "page table-page" }, pageHead("Exchanges", "Failed and slowest of the last minutes", tabs, search), summary,
    h("div", { class: "split" }, list, panel), hint);

  function open(one) {
    opened = one;
    panel.hidden = false;
    replace(panel, h("div", { class: "panel-head" }, h("h2", {}, `${one.method} ${one.path}`),
      h("button", { type: "button", class: "icon-button", id: "panel-close", "aria-label": "Close details", onclick: closePanel }, "✕")), story(one));
    panel.scrollTop = 0;
    mark();
  }
  function closePanel() {
    opened = null;
    panel.hidden = true;
    mark();
    list.focus();
  }
  function mark() {
    for (const row of list.children) row.setAttribute("aria-selected", String(opened !== null && row.dataset.id === idOf(opened)));
  }
  function show() {
    const rows = (found?.[kind] || []).filter((one) => `${one.method} ${one.host} ${one.path} ${one.reason} ${one.route} ${one.cluster} ${one.upstream} ${one.trace_id} ${one.status}`.toLowerCase().includes(text));
    setText(summary, found ? plural(rows.length, "exchange") : "");
    if (!rows.length) {
      replace(list, text ? empty("Nothing matches.") : kind === "failed" ? empty("No failed exchanges", "In the last minutes every exchange was answered.") : empty("No exchanges yet"));
      return;
    }
    const now = context.stream.facts?.now ?? Date.now() / 1000;
    replace(list, rows.map((one) => h("div", { class: "exchange", role: "option", "data-id": idOf(one), "aria-selected": "false", onclick: () => open(one) },
      badge(String(one.status || "–"), statusKind(one.status)), h("span", { class: "exchange-what" }, h("strong", {}, one.method), ` ${one.path}`),
      h("span", { class: "exchange-why" }, one.reason ? h("code", {}, one.reason) : one.upstream || one.cluster || ""), h("span", { class: "num" }, duration(one.duration)),
      h("span", { class: "num muted", title: clock(one.time) }, `${ago(now - one.time)} ago`))));
    mark();
  }
  list.addEventListener("keydown", (event) => {
    const rows = [...list.querySelectorAll(".exchange")];
    const index = rows.findIndex((row) => row.getAttribute("aria-selected") === "true");
    const next = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (next === undefined || !rows.length) return;
    event.preventDefault();
    const row = rows[Math.min(rows.length - 1, Math.max(0, next))];
    row.click();
    row.scrollIntoView({ block: "nearest" });
  });

  async function refresh() {
    try {
      found = await getJson(`/api/v1/exchanges?kind=${kind}&limit=${LIMIT}`);
      hint.hidden = false;
      show();
    } catch (error) {
      if (error.status === 404) replace(list, empty("Exchanges are not recorded", "This version of the process keeps no stories of exchanges."));
      else replace(list, empty("The exchanges cannot be shown", error.message));
    }
  }
  refresh();
  return { element, refresh, escape: () => (opened ? (closePanel(), true) : false), close: () => {} };
}
