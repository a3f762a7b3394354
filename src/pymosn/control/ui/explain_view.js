// How a request would be handled: the same as `pymosn explain --running`.

import { CallError, getJson, postJson } from "./data.js";
import { badge, empty, facts, h, pageHead, replace } from "./dom.js";
import { duration } from "./format.js";

const METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"];

const item = (title, kind, ...content) => h("li", { class: `step ${kind}` }, h("h3", {}, title), ...content);
const notes = (title, lines) => (lines.length ? h("details", {}, h("summary", {}, title), h("ul", { class: "plain" }, lines.map((line) => h("li", {}, line)))) : null);

function headerList(headers) {
  return h("pre", {}, headers.map(([name, value]) => `${name}: ${value}`).join("\n"));
}

function hostBadge(host) {
  const text = host.health.replaceAll("_", " ");
  return badge(host.is_usable ? text : `${text}, not used`, !host.is_usable ? "bad" : host.health === "healthy" ? "ok" : "");
}

function storyOf(answer) {
  const steps = [item("Listener", "ok", h("p", {}, h("strong", {}, answer.listener.name)), notes("Other listeners", answer.listener.others || []))];
  if (answer.chain) steps.push(item("Filter chain", "ok", facts(Object.entries(answer.chain).map(([name, value]) => [name.replaceAll("_", " "), shown(value)]))));
  if (answer.request) {
    const { method, host, path, query } = answer.request;
    steps.push(item("Request", "ok", h("p", { class: "code" }, `${method} ${host}${path}${query ? `?${query}` : ""}`)));
  }
  const virtual = answer.virtual_host;
  if (virtual) {
    steps.push(item("Virtual host", virtual.name === undefined ? "bad" : "ok", facts([["name", virtual.name ?? "none matches"], ["domains", (virtual.domains || []).join(", ")], ["router table", virtual.table]]),
      notes("Others", virtual.others || [])));
  }
  const route = answer.route;
  if (route) {
    steps.push(item("Route", route.name === undefined || route.name === null ? "bad" : "ok", facts([["name", route.name ?? "none matches"], ["because", route.because]]),
      notes("Routes before it", (route.earlier || []).map((one) => `${one.name}: ${one.why_not}`))));
  }
  if (answer.action) steps.push(item("Action", "ok", h("p", {}, answer.action)));
  const cluster = answer.cluster;
  if (cluster) {
    steps.push(item("Cluster", cluster.name ? "ok" : "bad", facts([["name", cluster.name], ["balancer", cluster.lb_type], ["protocol", cluster.protocol]]),
      cluster.hosts && h("ul", { class: "plain hosts" }, cluster.hosts.slice(0, 50).map((host) => h("li", {}, h("code", {}, host.address), hostBadge(host)))),
      cluster.hosts && cluster.hosts.length > 50 ? h("p", { class: "muted" }, `and ${cluster.hosts.length - 50} more`) : null));
  }
  if (answer.timeouts) {
    steps.push(item("Timeouts", "ok", facts(Object.entries(answer.timeouts).map(([name, value]) => [name, value ? duration(value) : "none"]))));
  }
  if (answer.upstream) steps.push(item("Sent upstream", "ok", h("p", { class: "code" }, answer.upstream.line || answer.upstream.path || ""), headerList(answer.upstream.headers || [])));
  if (answer.failure) steps.push(item("Fails", "bad", facts(Object.entries(flat(answer.failure)).map(([name, value]) => [name.replaceAll("_", " "), shown(value)]))));
  if (answer.reply) steps.push(item("Reply", "ok", facts(Object.entries(flat(answer.reply)).filter(([, value]) => !Array.isArray(value)).map(([name, value]) => [name.replaceAll("_", " "), shown(value)])),
    Array.isArray(answer.reply.headers) && answer.reply.headers.length ? headerList(answer.reply.headers) : null));
  if (answer.origins?.length) {
    steps.push(item("Comes from", "", facts(answer.origins.map((one) => [`${one.part} ${one.name}`, one.file ? `${one.file}:${one.line}` : [one.from, one.resource, one.version].filter(Boolean).join(" ")]))));
  }
  return h("ol", { class: "steps" }, steps);
}

const flat = (value) => (value && typeof value === "object" ? value : { text: value });
const shown = (value) => (value !== null && typeof value === "object" ? JSON.stringify(value) : String(value));

export function explain(context) {
  const result = h("div", { class: "result", "aria-live": "polite" }, empty("No question yet", "Give a URL, and see which listener, route and hosts it would get. Nothing is sent."));
  const method = h("select", { id: "explain-method", name: "method" }, METHODS.map((name) => h("option", { value: name }, name)));
  const url = h("input", { id: "explain-url", name: "url", type: "text", required: true, placeholder: "http://shop.example:8080/api/users", autocomplete: "off", spellcheck: "false", "data-search": true });
  const listener = h("select", { id: "explain-listener", name: "listener" }, h("option", { value: "" }, "by the port of the URL"));
  const client = h("input", { id: "explain-client", name: "client", type: "text", placeholder: "127.0.0.1", autocomplete: "off", spellcheck: "false" });
  const headers = h("textarea", { id: "explain-headers", name: "headers", rows: "3", placeholder: "x-user: alice", spellcheck: "false" });
  const button = h("button", { type: "submit", class: "primary" }, "Explain");
  const field = (label, input, note) => h("label", { class: "field", for: input.id }, h("span", {}, label), input, note && h("span", { class: "muted small" }, note));
  const form = h("form", { class: "card explain-form", novalidate: true }, h("div", { class: "field-row" }, field("Method", method), field("URL", url)),
    h("div", { class: "field-row" }, field("Listener", listener), field("Client's address", client)),
    field("Headers", headers, "one on each line"), h("div", {}, button));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const pairs = [];
    for (const line of headers.value.split("\n").filter((one) => one.trim())) {
      const colon = line.indexOf(":");
      if (colon < 1) {
        replace(result, empty("A header has no colon", line));
        return;
      }
      pairs.push([line.slice(0, colon).trim(), line.slice(colon + 1).trim()]);
    }
    button.disabled = true;
    try {
      const question = { method: method.value, url: url.value.trim(), headers: pairs, listener: listener.value };
      if (client.value.trim()) question.client = client.value.trim();
      replace(result, storyOf(await postJson("/api/v1/explain", question)));
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      replace(result, empty("That cannot be explained", error.message));
    } finally {
      button.disabled = false;
    }
  });
  getJson("/api/v1/live/listeners?limit=500").then((found) => {
    for (const row of found.rows) listener.append(h("option", { value: row.name }, `${row.name} (${row.address})`));
    const first = found.rows[0];
    if (first && !url.value) url.value = `http://${first.address}/`;
  }, () => {});
  return { element: h("div", { class: "page" }, pageHead("Explain", "Which listener, route and hosts a request would get"), form, result), close: () => {} };
}
