// The views of rates and tables. A view is a function of the context that returns {element, update(), refresh(), close()}.

import { Chart, bar } from "./charts.js";
import { getJson, query } from "./data.js";
import { badge, choice, empty, facts, h, pageHead, replace, searchBox, setText } from "./dom.js";
import { DASH, ago, byteRate, bytes, count, dateTime, duration, plural, rate, share, whole } from "./format.js";
import { Grid } from "./grid.js";

const STATUS = [["2xx", "--c-ok"], ["3xx", "--c-blue"], ["4xx", "--c-warn"], ["5xx", "--c-bad"], ["other", "--c-grey"]];
const LATENCY = [["p50", "--c-lat1"], ["p90", "--c-lat2"], ["p99", "--c-lat3"]];
const KINDS = ["--c-bad", "--c-warn", "--c-violet", "--c-blue", "--c-teal", "--c-pink"];
const HEALTH = { healthy: "ok", unchecked: "", failed_active_check: "bad", ejected: "warn" };
const HEALTH_TEXT = { healthy: "healthy", unchecked: "unchecked", failed_active_check: "fails check", ejected: "ejected" };

const color = (name) => `var(${name})`;

// ---- overview

function kpi(label, href) {
  const value = h("span", { class: "kpi-value" }, DASH);
  const note = h("span", { class: "kpi-note muted" });
  const element = h(href ? "a" : "div", { class: "card kpi", href }, h("span", { class: "kpi-label" }, label), value, note);
  return { element, set: (text, more, kind) => { setText(value, text); setText(note, more || ""); element.dataset.kind = kind || ""; } };
}

// The rates of the newest points, over about five seconds, so that they can be read.
function recent(points, value) {
  const last = points.slice(-5);
  const seconds = last.reduce((sum, point) => sum + point.seconds, 0);
  return seconds > 0 ? last.reduce((sum, point) => sum + (value(point) || 0) * point.seconds, 0) / seconds : null;
}

export function overview(context) {
  let seconds = 300;
  const cards = {
    requests: kpi("Requests"), failed: kpi("Failed", "#/exchanges"), latency: kpi("Latency p99"), open: kpi("Connections", "#/listeners"),
    hosts: kpi("Hosts", "#/hosts"), workers: kpi("Workers", "#/workers"),
  };
  const charts = {
    requests: new Chart("Requests by status", { stacked: true, format: rate,
      series: STATUS.map(([key, name]) => ({ key, label: key, color: color(name), value: (point) => point.status[key] })) }),
    latency: new Chart("Latency", { format: duration, note: "of all listeners",
      series: LATENCY.map(([key, name]) => ({ key, label: key, color: color(name), value: (point) => point[key] })) }),
    reasons: new Chart("Failures by reason", { stacked: true, format: rate, series: [] }),
    connections: new Chart("Connections and requests in flight", { format: count, series: [
      { key: "open", label: "connections", color: color("--c-blue"), value: (point) => point.open },
      { key: "active", label: "in flight", color: color("--c-teal"), value: (point) => point.active }] }),
    bytes: new Chart("Bytes", { format: byteRate, isBytes: true, series: [
      { key: "read", label: "from clients", color: color("--c-teal"), value: (point) => point.read },
      { key: "written", label: "to clients", color: color("--c-violet"), value: (point) => point.written }] }),
  };
  const reasonList = h("section", { class: "card", "aria-label": "Reasons of failures" });
  const window_ = choice("Time", [["60", "1 min"], ["300", "5 min"]], "300", (value) => { seconds = Number(value); update(); });
  const element = h("div", { class: "page" }, pageHead("Overview", "All listeners of this process", window_),
    h("div", { class: "kpis" }, Object.values(cards).map((card) => card.element)),
    h("div", { class: "charts" }, charts.requests.element, charts.latency.element, charts.reasons.element, reasonList,
      charts.connections.element, charts.bytes.element));

  function update() {
    const { points, facts: now } = context.stream;
    if (points.length) {
      const last = points[points.length - 1];
      const requests = recent(points, (point) => point.requests);
      const failed = recent(points, (point) => point.failed);
      const ratio = requests ? failed / requests : 0;
      cards.requests.set(rate(requests), `${count(last.active)} in flight`);
      cards.failed.set(rate(failed), `${share(ratio)} of requests`, ratio > 0.05 ? "bad" : ratio > 0.01 ? "warn" : "");
      cards.latency.set(duration(recentPercentile(points, "p99")), `p50 ${duration(recentPercentile(points, "p50"))}`);
      cards.open.set(count(last.open), `${rate(recent(points, (point) => point.connections))} new${last.refused ? `, ${rate(last.refused)} refused` : ""}`);
    }
    if (now) {
      const { hosts, failed_checks: failing, ejected, workers, running } = now.counts;
      const bad = failing + ejected;
      cards.hosts.set(whole(hosts), bad ? [failing && `${whole(failing)} failing`, ejected && `${whole(ejected)} ejected`].filter(Boolean).join(", ")
        : plural(now.counts.clusters, "cluster"), bad ? "warn" : "");
      cards.workers.set(running === workers ? whole(workers) : `${running} of ${workers}`, `${bytes(now.memory)}${now.cpu === null ? "" : `, ${share(now.cpu)} CPU`}`,
        running < workers ? "warn" : "");
    }
    const sums = reasonSums(points, seconds);
    charts.reasons.setSeries(sums.slice(0, KINDS.length).map(([reason], i) => (
      { key: reason, label: reason, color: color(KINDS[i]), value: (point) => point.reasons[reason] || 0 })));
    for (const chart of Object.values(charts)) chart.update(points, seconds);
    showReasons(sums);
  }

  function showReasons(sums) {
    const total = sums.reduce((sum, [, number]) => sum + number, 0);
    replace(reasonList, h("div", { class: "card-head" }, h("h2", {}, "Reasons"), h("span", { class: "muted small" }, seconds === 60 ? "last minute" : "last 5 minutes")),
      sums.length === 0 ? empty("No failures", "Failed requests and refused connections appear here with their reason word.")
        : h("ul", { class: "reasons" }, sums.slice(0, 8).map(([reason, number]) => h("li", {},
          h("code", {}, reason), h("span", { class: "num" }, whole(number)),
          h("span", { class: "meter" }, h("span", { style: { width: `${(number / total) * 100}%` } }))))));
  }

  return { element, update, close: () => Object.values(charts).forEach((chart) => chart.close()) };
}

function recentPercentile(points, key) {
  const values = points.slice(-5).map((point) => point[key]).filter((value) => value !== null);
  return values.length ? values.sort((a, b) => a - b)[Math.floor(values.length / 2)] : null;
}

function reasonSums(points, seconds) {
  const first = points.length ? points[points.length - 1].time - seconds : 0;
  const sums = new Map();
  for (const point of points) {
    if (point.time < first) continue;
    for (const [reason, value] of Object.entries(point.reasons)) sums.set(reason, (sums.get(reason) || 0) + value * point.seconds);
  }
  return [...sums].map(([reason, value]) => [reason, Math.round(value)]).filter(([, value]) => value > 0).sort((a, b) => b[1] - a[1]);
}

// ---- tables

const number = (key, label, format, more = {}) => ({ key, label, align: "right", width: "minmax(68px, .6fr)", priority: 2, cell: (row) => format(row[key]), ...more });

// A page with a search box, a table and a detail panel.
function tablePage(context, { title, text, table, columns, rowKey, detail, searchLabel, sort, noun, exact = {}, tools = [], onLoad = () => {} }) {
  let found = context.parameters.q || "";
  let total = 0;
  let opened = null;
  const summary = h("span", { class: "muted summary", role: "status" });
  const panel = h("aside", { class: "panel", hidden: true, "aria-label": "Details" });
  const grid = new Grid({
    label: title, columns, rowKey, sort: context.parameters.sort || sort,
    load: (offset, limit, order) => getJson(`/api/v1/live/${table}${query({ q: found, sort: order, offset, limit, ...exact })}`),
    onLoad: (page) => {
      total = page.total;
      setText(summary, grid.summary(noun, total));
      onLoad(page);
      const fresh = opened === null ? undefined : page.rows.find((row) => rowKey(row) === rowKey(opened));
      if (fresh) showDetail(fresh, false);
    },
    onOpen: (row) => showDetail(row, true),
  });
  function showDetail(row, isNew) {
    opened = row;
    panel.hidden = false;
    replace(panel, h("div", { class: "panel-head" }, h("h2", {}, rowKey(row)),
      h("button", { type: "button", class: "icon-button", id: "panel-close", "aria-label": "Close details", title: "Close (Esc)", onclick: closePanel }, "✕")), detail(row));
    if (isNew) panel.scrollTop = 0;
  }
  function closePanel() {
    opened = null;
    panel.hidden = true;
    grid.closeRow();
    grid.view.focus();
  }
  const search = searchBox(`search-${table}`, searchLabel, found, (value) => { found = value; context.setParameter("q", value); grid.reload(); grid.view.scrollTop = 0; });
  const element = h("div", { class: "page table-page" }, pageHead(title, text, ...tools, search), summary,
    h("div", { class: "split" }, grid.element, panel));
  return {
    element,
    grid,
    reload: () => grid.reload(),
    refresh: () => grid.refresh(),
    exact,
    escape: () => (opened ? (closePanel(), true) : false),
    close: () => grid.close(),
  };
}

const section = (title, ...content) => h("section", { class: "panel-section" }, h("h3", {}, title), ...content);

function rateFacts(row) {
  return section("Now", facts([["requests", rate(row.rate_requests)], ["failed", rate(row.rate_failed)], ["in flight", whole(row.active)],
    ["latency p50", duration(row.p50)], ["latency p90", duration(row.p90)], ["latency p99", duration(row.p99)],
    ["connections", row.open === undefined ? null : whole(row.open)],
    ["bytes read", row.rate_read === undefined ? null : byteRate(row.rate_read)], ["bytes written", byteRate(row.rate_written)]]));
}

export function listeners(context) {
  return tablePage(context, {
    title: "Listeners", text: "Addresses with their traffic", table: "listeners", noun: "listeners", searchLabel: "Search listeners",
    rowKey: (row) => row.name,
    columns: [
      { key: "name", label: "Listener", cell: (row) => row.name, width: "minmax(90px, 1.4fr)", hasTitle: true },
      { key: "address", label: "Address", cell: (row) => row.address, width: "minmax(150px, 1.3fr)", priority: 2, hasTitle: true },
      { key: "filters", label: "Filters", cell: (row) => row.filters, width: "minmax(70px, 1fr)", priority: 3, hasTitle: true },
      number("rate_requests", "Requests", rate, { priority: 1 }), number("rate_failed", "Failed", rate, { priority: 1, width: "minmax(56px, .5fr)" }),
      number("p50", "p50", duration, { priority: 3 }), number("p99", "p99", duration, { priority: 1 }), number("open", "Connections", count, { width: "minmax(92px, .6fr)" }),
      number("rate_written", "Sent", byteRate, { priority: 3, width: "minmax(84px, .6fr)" }),
    ],
    detail: (row) => [
      facts([["address", `${row.address} (${row.network})`], ["filter chains", whole(row.chains)], ["network filters", row.filters],
        ["stream filters", row.stream_filters.join(", ") || "none"], ["TLS", row.tls ? "yes" : "no"]]),
      rateFacts(row),
      section("Since the start", facts([["requests", whole(row.requests)], ["failed", whole(row.failed)], ["reset", whole(row.reset)],
        ["connections", whole(row.connections)], ["refused", whole(row.refused)], ["failed handshakes", whole(row.handshakes_failed)],
        ["bytes read", bytes(row.bytes_read)], ["bytes written", bytes(row.bytes_written)]])),
      section("Reasons of failures", Object.keys(row.reasons).length
        ? facts(Object.entries(row.reasons).map(([reason, value]) => [h("code", {}, reason), whole(value)])) : h("p", { class: "muted" }, "none")),
    ],
  });
}

export function routes(context) {
  let isCounted = true;
  const note = h("p", { class: "note", hidden: true }, "No route has been used yet.");
  const page = tablePage(context, {
    title: "Routes", text: "In the order in which they are matched", table: "routes", noun: "routes", searchLabel: "Search routes",
    rowKey: (row) => `${row.table} / ${row.virtual_host} / ${row.name || row.index}`,
    columns: [
      { key: "virtual_host", label: "Virtual host", cell: (row) => `${row.table} / ${row.virtual_host}`, width: "minmax(90px, 1fr)", priority: 2, hasTitle: true, sort: false },
      { key: "match", label: "Match", cell: (row) => row.match, width: "minmax(90px, 1.8fr)", hasTitle: true },
      { key: "action", label: "Action", cell: (row) => row.action, width: "minmax(80px, 1.2fr)", hasTitle: true },
      number("hits", "Hits", count, { priority: 1, width: "minmax(60px, .5fr)" }), number("rate_requests", "Rate", rate, { priority: 2 }),
      number("p99", "p99", duration, { priority: 3 }),
    ],
    onLoad: (found) => {
      isCounted = found.rows.length === 0 || found.rows.some((row) => row.hits !== null);
      note.hidden = isCounted;
    },
    detail: (row) => [
      facts([["router table", row.table], ["virtual host", row.virtual_host], ["domains", row.domains], ["index", whole(row.index)], ["name", row.name]]),
      section("Match", h("p", { class: "code" }, row.match)), section("Action", h("p", { class: "code" }, row.action)),
      row.hits === null ? null : section("Traffic", facts([["hits", whole(row.hits)], ["rate", rate(row.rate_requests)],
        ["latency p50", duration(row.p50)], ["latency p99", duration(row.p99)]]),
      row.p99 === null ? h("p", { class: "muted small" }, "Durations of routes need ", h("code", {}, "metrics.per_route"), ".") : null),
    ],
  });
  page.element.insertBefore(note, page.element.querySelector(".split"));
  return page;
}

function hostsBar(row) {
  const label = `${row.usable} of ${row.hosts} usable`;
  return h("span", { class: "with-bar" }, h("span", { class: "num" }, row.usable === row.hosts ? whole(row.hosts) : `${whole(row.usable)} / ${whole(row.hosts)}`),
    bar([[row.usable, "ok"], [row.hosts - row.usable, "bad"]], label));
}

export function clusters(context) {
  return tablePage(context, {
    title: "Clusters", text: "Upstreams with their hosts", table: "clusters", noun: "clusters", searchLabel: "Search clusters",
    rowKey: (row) => row.name,
    columns: [
      { key: "name", label: "Cluster", cell: (row) => row.name, width: "minmax(76px, 1.4fr)", hasTitle: true },
      { key: "hosts", label: "Hosts", cell: hostsBar, width: "minmax(84px, .8fr)" },
      { key: "lb_type", label: "Balancer", cell: (row) => row.lb_type.replace("LB_", "").toLowerCase(), width: "minmax(80px, .8fr)", priority: 3 },
      number("rate_requests", "Requests", rate, { priority: 1 }), number("rate_failed", "Failed", rate),
      number("p50", "p50", duration, { priority: 3 }), number("p99", "p99", duration, { priority: 1 }), number("active", "In flight", count, { priority: 3 }),
      number("open", "Pool", count, { title: "Open connections in the pools" }), number("retries", "Retries", count, { priority: 3 }),
    ],
    detail: (row) => [
      facts([["type", row.type], ["balancer", row.lb_type], ["hosts", whole(row.hosts)], ["usable", whole(row.usable)],
        ["fail their check", whole(row.failed_checks)], ["ejected", whole(row.ejected)]]),
      h("p", {}, h("a", { href: `#/hosts${query({ cluster: row.name })}` }, "Show its hosts")),
      rateFacts(row),
      section("Pool, since the start", facts([["open", whole(row.open)], ["opened", whole(row.connections)], ["not opened", whole(row.connect_failed)],
        ["overflow", whole(row.overflow)]])),
      section("Requests, since the start", facts([["requests", whole(row.requests)], ["failed", whole(row.failed)], ["timeouts", whole(row.timeouts)],
        ["retries", whole(row.retries)], ["bytes read", bytes(row.bytes_read)], ["bytes written", bytes(row.bytes_written)]])),
    ],
  });
}

export function hosts(context) {
  const exact = { cluster: context.parameters.cluster || "", health: context.parameters.health || "" };
  const counts = h("div", { class: "chips", role: "group", "aria-label": "Health" });
  const cluster = exact.cluster && h("button", { type: "button", class: "chip on", title: "Show all clusters", onclick: () => { location.hash = "#/hosts"; } }, `cluster ${exact.cluster} ✕`);
  const page = tablePage(context, {
    title: "Hosts", text: exact.cluster ? `Of cluster ${exact.cluster}` : "Of all clusters", table: "hosts", noun: "hosts", searchLabel: "Search hosts", exact,
    rowKey: (row) => `${row.cluster} ${row.address}`, sort: "health",
    columns: [
      { key: "address", label: "Host", cell: (row) => row.address, width: "minmax(140px, 1.4fr)", hasTitle: true },
      { key: "cluster", label: "Cluster", cell: (row) => row.cluster, width: "minmax(80px, 1fr)", priority: 2, hasTitle: true },
      { key: "health", label: "Health", cell: (row) => badge(HEALTH_TEXT[row.health] || row.health, HEALTH[row.health]), width: "minmax(92px, .8fr)" },
      { key: "why", label: "Why", cell: (row) => row.why, width: "minmax(80px, 2.4fr)", priority: 3, hasTitle: true },
      number("rate_requests", "Requests", rate, { priority: 1 }), number("rate_failed", "Failed", rate, { priority: 3 }),
      number("p99", "p99", duration), number("active", "In flight", count, { priority: 3 }), number("open", "Pool", count),
    ],
    onLoad: (found) => {
      const chips = Object.entries(found.health).filter(([, number_]) => number_).map(([kind, number_]) => h("button", {
        type: "button", id: `health-${kind}`, class: `chip ${HEALTH[kind] || ""} ${exact.health === kind ? "on" : ""}`, "aria-pressed": String(exact.health === kind),
        onclick: () => { exact.health = exact.health === kind ? "" : kind; context.setParameter("health", exact.health); page.reload(); } },
      `${whole(number_)} ${HEALTH_TEXT[kind] || kind}`));
      replace(counts, cluster, chips);
    },
    detail: (row) => [
      facts([["cluster", row.cluster], ["host name", row.hostname], ["weight", whole(row.weight)], ["health", badge(HEALTH_TEXT[row.health] || row.health, HEALTH[row.health])],
        ["why", row.why], ["ejected by", row.ejected ? `${row.ejected} of ${plural(row.workers, "worker")}` : null]]),
      rateFacts(row),
      section("Pool, since the start", facts([["open", whole(row.open)], ["opened", whole(row.connections)], ["not opened", whole(row.connect_failed)], ["overflow", whole(row.overflow)]])),
      section("Requests, since the start", facts([["requests", whole(row.requests)], ["failed", whole(row.failed)], ["timeouts", whole(row.timeouts)],
        ["bytes read", bytes(row.bytes_read)], ["bytes written", bytes(row.bytes_written)]])),
    ],
  });
  page.element.insertBefore(counts, page.element.querySelector(".summary"));
  return page;
}

// ---- filters

// One shape for the answers of `/api/v1/filters`.
export function filterRows(answer) {
  const list = Array.isArray(answer) ? answer : answer.filters || [];
  return list.map((view) => {
    const counters = view.counters || {};
    const mean = view.mean_seconds ?? (view.mean_us === undefined || view.mean_us === null ? null : view.mean_us / 1e6);
    return {
      name: view.name,
      type: view.type,
      source: view.source || "",
      listeners: view.listeners || (view.listener ? [view.listener] : []),
      calls: view.calls ?? counters.calls ?? 0,
      errors: view.errors ?? counters.errors ?? 0,
      counters,
      mean,
      p99: view.p99_seconds ?? null,
      sampled: view.sampled ?? null,
      lastError: view.last_error || null,
      lastBlock: view.last_block || null,
    };
  });
}

export function filters(context) {
  const list = h("div", { class: "filter-list" }, empty("Loading"));
  let text = "";
  let rows = [];
  const search = searchBox("search-filters", "Search filters", "", (value) => { text = value.toLowerCase(); show(); });
  const hint = h("p", { class: "muted small", hidden: true }, "Where they spend it, by function: ", h("a", { href: "#/profile" }, "Profile"), ".");
  const element = h("div", { class: "page" }, pageHead("Filters", "What they cost, and their errors", search), list, hint);
  const openStacks = new Set();

  function stack(view) {
    const error = view.lastError;
    const block = view.lastBlock;
    const blocks = [];
    if (error) blocks.push([`last error${error.phase ? ` in ${error.phase}` : ""}${error.time ? `, ${dateTime(error.time)}` : ""}${error.worker ? `, worker ${error.worker}` : ""}`, error.message, error.stack || []]);
    if (block) blocks.push([`last time it blocked a worker, for ${duration(block.seconds)}`, "", block.stack || []]);
    return blocks.map(([title, message, lines], i) => {
      const key = `${view.name} ${i}`;
      return h("details", { class: "stack", open: openStacks.has(key), ontoggle: (event) => (event.target.open ? openStacks.add(key) : openStacks.delete(key)) },
        h("summary", {}, title, message && h("span", { class: "stack-message" }, message)), h("pre", {}, lines.join("\n") || "no stack"));
    });
  }

  function show() {
    const found = rows.filter((view) => `${view.name} ${view.type} ${view.listeners.join(" ")} ${view.source}`.toLowerCase().includes(text));
    if (!found.length) {
      replace(list, rows.length ? empty("Nothing matches.") : empty("No filters", "The configuration has no stream or connection filters."));
      return;
    }
    const spent = rows.reduce((sum, view) => sum + (view.mean || 0) * view.calls, 0);
    const part = (view) => (spent > 0 && view.mean !== null ? (view.mean * view.calls) / spent : null);
    replace(list, found.map((view) => h("article", { class: "card filter" },
      h("div", { class: "card-head" }, h("h2", {}, view.name), badge(view.type), view.errors ? badge(`${whole(view.errors)} errors`, "bad") : null,
        h("span", { class: "muted small grow" }, [view.listeners.join(", "), view.source].filter(Boolean).join(" · "))),
      h("div", { class: "figures" },
        [["calls", count(view.calls)], ["errors", count(view.errors)], ["mean", duration(view.mean)], ["p99", duration(view.p99)], ["share of all filters' time", share(part(view))],
          ["timeouts", count(view.counters.timeouts)], ["blocked", count(view.counters.blocked)], ["skipped", count(view.counters.skipped)]]
          .filter(([, value]) => value !== DASH).map(([name, value]) => h("div", {}, h("span", { class: "muted" }, name), h("strong", {}, value)))),
      view.mean === null ? null : h("span", { class: "meter", title: "Share of the time that all filters take" }, h("span", { style: { width: `${(part(view) || 0) * 100}%` } })),
      stack(view))));
  }

  async function refresh() {
    try {
      rows = filterRows(await getJson("/api/v1/filters"));
      hint.hidden = !rows.some((view) => view.sampled !== null);
      show();
    } catch (error) {
      replace(list, empty("The filters cannot be shown", error.message));
    }
  }
  refresh();
  return { element, refresh, close: () => {} };
}

// ---- workers

export function workers(context) {
  const body = h("div", {}, empty("Loading"));
  const element = h("div", { class: "page" }, pageHead("Processes", "Workers, memory and generations"), body);

  function table(label, heads, rows) {
    return h("div", { class: "card table-card" }, h("table", {}, h("caption", {}, label),
      h("thead", {}, h("tr", {}, heads.map(([text, kind]) => h("th", { class: kind, scope: "col" }, text)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, i) => h("td", { class: heads[i][1], "data-label": heads[i][0] }, cell)))))));
  }

  async function refresh() {
    let found;
    try {
      found = await getJson("/api/v1/live/workers");
    } catch (error) {
      replace(body, empty("The processes cannot be shown", error.message));
      return;
    }
    const most = Math.max(...found.processes.map((process) => process.memory || 0), 1);
    const now = found.time;
    const content = [table("Processes", [["Process"], ["Pid", "num"], ["State"], ["Up", "num"], ["CPU", "num"], ["Memory", "num"], ["", "wide"], ["Threads", "num"]],
      found.processes.map((process) => [process.role, String(process.pid), process.state ? badge(process.state, process.state === "running" ? "ok" : "warn") : "", ago(now - process.started), share(process.cpu),
          bytes(process.memory), h("span", { class: "meter" }, h("span", { style: { width: `${((process.memory || 0) / most) * 100}%` } })), count(process.threads)]))];
    const { generations = [], last_failure: failure = [], state = "" } = found.generations;
    if (generations.length) {
      content.push(table("Generations", [["Generation"], ["Pid", "num"], ["State"], ["Workers", "num"], ["Version"], ["Started"], ["Connections left", "num"]],
        generations.map((one) => [String(one.generation), String(one.pid), badge(one.state, one.state === "serving" ? "ok" : "warn"), count(one.workers ?? null), one.version || DASH,
          one.started ? dateTime(one.started) : DASH, one.connections === undefined ? DASH : typeof one.connections === "object" ? Object.entries(one.connections).map(([kind, n]) => `${n} ${kind}`).join(", ") || "0" : count(one.connections)])));
    }
    if (failure.length) content.push(h("div", { class: "card" }, h("h2", {}, "The last upgrade failed"), h("pre", {}, failure.join("\n"))));
    if (state && state !== "idle") content.push(h("p", { class: "note" }, `Upgrade: ${state}`));
    content.push(h("p", { class: "muted small" }, "To replace this process without losing a request: ", h("code", {}, "pymosn upgrade"), "."));
    replace(body, content);
  }
  refresh();
  return { element, refresh, close: () => {} };
}
