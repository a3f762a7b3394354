// The failed and the slowest exchanges of the last minutes, each with its whole story.

import { getJson } from "./data.js";
import { choice, empty, h, pageHead, searchBox, setText } from "./dom.js";
import { ExchangeList } from "./exchange_list.js";
import { ago, plural } from "./format.js";

const LIMIT = 200;

export function exchanges(context) {
  let kind = context.parameters.kind === "slow" ? "slow" : "failed";
  let text = "";
  let found = null;
  const now = () => context.stream.facts?.now ?? Date.now() / 1000;
  const list = new ExchangeList((one) => `${ago(now() - one.time)} ago`);
  list.show([], empty("Loading"));
  const hint = h("p", { class: "muted small" }, "To see exchanges as they come: ", h("a", { href: "#/tap" }, "Tap"), ".");
  const summary = h("span", { class: "muted summary", role: "status" });
  const tabs = choice("Kind", [["failed", "Failed"], ["slow", "Slowest"]], kind, (value) => { kind = value; context.setParameter("kind", value); refresh(); });
  const search = searchBox("search-exchanges", "Search exchanges", "", (value) => { text = value.toLowerCase(); show(); });
  const element = h("div", { class: "page table-page" }, pageHead("Exchanges", "Failed and slowest of the last minutes", tabs, search), summary, list.element, hint);

  function show() {
    const rows = (found?.[kind] || []).filter((one) => `${one.method} ${one.host} ${one.path} ${one.reason} ${one.route} ${one.cluster} ${one.upstream} ${one.trace_id} ${one.status}`.toLowerCase().includes(text));
    setText(summary, found ? plural(rows.length, "exchange") : "");
    list.show(rows, text ? empty("Nothing matches.") : kind === "failed" ? empty("No failed exchanges", "In the last minutes every exchange was answered.") : empty("No exchanges yet"));
  }

  async function refresh() {
    try {
      found = await getJson(`/api/v1/exchanges?kind=${kind}&limit=${LIMIT}`);
      show();
    } catch (error) {
      if (error.status === 404) list.show([], empty("Exchanges are not recorded", "This version of the process keeps no stories of exchanges."));
      else list.show([], empty("The exchanges cannot be shown", error.message));
    }
  }
  refresh();
  return { element, refresh, escape: () => list.escape(), close: () => {} };
}
