// The configuration: its versions, what differs between two, and their sections. Secrets are removed by the server.

import { getJson, query } from "./data.js";
import { badge, choice, empty, h, pageHead, replace, searchBox, setText } from "./dom.js";
import { bytes, dateTime, plural, whole } from "./format.js";

const NAMES = 200;

function diffLines(lines) {
  return h("pre", { class: "diff" }, lines.map((line) => h("span", { class: line.startsWith("@@") ? "hunk" : line.startsWith("+") ? "plus" : line.startsWith("-") ? "minus" : "" }, `${line}\n`)));
}

function faultText(fault) {
  const where = fault.file ? `${fault.file}${fault.line ? `:${fault.line}` : ""}: ` : "";
  return `${where}${fault.path ? `${fault.path}: ` : ""}${fault.message}`;
}

function faultList(faults) {
  return faults.length ? h("ul", { class: "faults" }, faults.map((fault) => h("li", { class: fault.severity }, badge(fault.severity, fault.severity === "error" ? "bad" : "warn"), h("span", {}, faultText(fault))))) : null;
}

function changeText(version) {
  const { added, removed, changed } = version.counts;
  const parts = [added && `${whole(added)} added`, removed && `${whole(removed)} removed`, changed && `${whole(changed)} changed`].filter(Boolean);
  return parts.join(", ");
}

export function config(context) {
  let versions = [];
  let known = "";
  let mode = "versions";
  const body = h("div", { class: "stack-list" }, empty("Loading"));
  const tabs = choice("Show", [["versions", "Versions"], ["compare", "Differences"], ["sections", "Sections"]], mode, (value) => { mode = value; show(); });
  const element = h("div", { class: "page" }, pageHead("Configuration", "What is active, and what has changed", tabs), body);
  let total = 0;

  function setMode(value) {
    mode = value;
    for (const button of tabs.children) button.setAttribute("aria-pressed", String(button.dataset.value === value));
    show();
  }

  function versionCard(version, index, kept) {
    const older = kept[kept.findIndex((one) => one.version === version.version) + 1];
    const state = !version.applied ? badge("rejected", "bad") : index === 0 ? badge("active", "ok") : badge("applied");
    return h("article", { class: "card version" }, h("div", { class: "card-head" }, h("h2", {}, version.applied ? `Version ${version.version}` : `Attempt ${version.attempt}`), state,
      h("span", { class: "muted small grow" }, `${dateTime(version.time)} · ${version.source}`)),
    version.applied ? null : h("p", {}, version.message),
    version.applied && changeText(version) ? h("p", {}, `${changeText(version)}: `, h("span", { class: "muted" }, [...version.changed, ...version.added, ...version.removed].slice(0, 6).join(", "))) : null,
    version.applied && version.kept && older && !changeText(version) ? h("p", { class: "muted" }, "No section differs: files were read again, such as filters or certificates.") : null,
    version.skipped ? h("p", { class: "muted" }, `${plural(version.skipped, "version")} before it came too fast to be kept.`) : null,
    faultList(version.faults),
    version.kept ? h("div", { class: "buttons" },
      older && h("button", { type: "button", onclick: () => { from = older.version; to = version.version; setMode("compare"); } }, `Differences to ${older.version}`),
      h("button", { type: "button", onclick: () => { shownVersion = version.version; setMode("sections"); } }, plural(version.sections, "section"))) : null);
  }

  let from = null;
  let to = null;
  let shownVersion = null;
  let text = "";
  let opened = null;

  const select = (id, label, value, kept, onChange) => h("label", { class: "field", for: id }, h("span", {}, label),
    h("select", { id, onchange: (event) => onChange(Number(event.target.value)) }, kept.map((version) => h("option", { value: version.version, selected: version.version === value },
      `${version.version}, ${dateTime(version.time)}, ${version.source}`))));

  function show() {
    const applied = versions.filter((version) => version.applied);
    const kept = applied.filter((version) => version.kept);
    if (!versions.length) {
      replace(body, empty("Not recorded yet"));
      return;
    }
    if (mode === "versions") {
      const newest = applied[0]?.version;
      replace(body, h("div", { class: "version-list" }, [...versions].sort((a, b) => b.attempt - a.attempt).map((version) => versionCard(version, version.applied && version.version === newest ? 0 : 1, kept))),
        h("p", { class: "muted small" }, `The last ${whole(10)} versions are kept in memory (${bytes(total)} now), without secrets. Hosts that a control plane or DNS exchanges are no version. To change: `, h("code", {}, "pymosn reload"), "."));
    } else if (mode === "compare") {
      showCompare(kept);
    } else {
      showSections(kept);
    }
  }

  function showCompare(kept) {
    if (kept.length < 2) {
      replace(body, empty("Only one version", "There is nothing to compare yet."));
      return;
    }
    if (!kept.some((version) => version.version === to)) to = kept[0].version;
    if (!kept.some((version) => version.version === from)) from = kept[1].version;
    const result = h("div", { class: "result" }, empty("Loading"));
    replace(body, h("div", { class: "card compare" }, select("compare-from", "From", from, kept, (value) => { from = value; show(); }), select("compare-to", "To", to, kept, (value) => { to = value; show(); })), result);
    getJson(`/api/v1/versions/difference${query({ from, to })}`).then((found) => {
      replace(result, found.sections.length === 0 ? empty("Nothing differs", "Secrets are not compared.") : found.sections.map((section) => h("section", { class: "card" },
        h("div", { class: "card-head" }, h("h2", {}, section.name), badge(section.kind, section.kind === "added" ? "ok" : section.kind === "removed" ? "bad" : "")),
        diffLines(section.lines), section.cut ? h("p", { class: "muted" }, "The rest is too long to be shown.") : null)),
      found.different > found.sections.length ? h("p", { class: "muted" }, `and ${whole(found.different - found.sections.length)} more sections`) : null);
    }, (error) => replace(result, empty("They cannot be compared", error.message)));
  }

  function showSections(kept) {
    if (!kept.length) {
      replace(body, empty("No version is kept"));
      return;
    }
    if (!kept.some((version) => version.version === shownVersion)) shownVersion = kept[0].version;
    const names = h("ul", { class: "section-names", "aria-label": "Sections" });
    const content = h("div", { class: "section-text" }, empty("Choose a section"));
    const summary = h("p", { class: "muted small" });
    const open = async (name) => {
      opened = name;
      for (const item of names.querySelectorAll("button")) item.setAttribute("aria-pressed", String(item.dataset.name === name));
      try {
        const found = await getJson(`/api/v1/versions/section${query({ version: shownVersion, name })}`);
        if (opened === name) replace(content, h("h2", {}, name), h("pre", { class: "json", tabindex: "0" }, found.text));
      } catch (error) {
        replace(content, empty("It cannot be shown", error.message));
      }
    };
    const list = async () => {
      try {
        const found = await getJson(`/api/v1/versions/sections${query({ version: shownVersion, q: text, limit: NAMES })}`);
        replace(names, found.names.map((name) => h("li", {}, h("button", { type: "button", "data-name": name, "aria-pressed": String(name === opened), onclick: () => open(name) }, name))));
        setText(summary, found.matched > found.names.length ? `the first ${whole(found.names.length)} of ${whole(found.matched)}: search for others` : plural(found.matched, "section"));
        const first = found.names.includes(opened) ? opened : found.names[0];
        if (first) open(first);
      } catch (error) {
        replace(names, empty("They cannot be shown", error.message));
      }
    };
    const search = searchBox("search-sections", "Search sections", text, (value) => { text = value; list(); });
    replace(body, h("div", { class: "card compare" }, select("sections-version", "Version", shownVersion, kept, (value) => { shownVersion = value; show(); }), h("label", { class: "field", for: "search-sections" }, h("span", {}, "Search"), search)),
      h("div", { class: "sections" }, h("div", { class: "card" }, summary, names), h("div", { class: "card" }, content)));
    list();
  }

  async function refresh() {
    try {
      const found = await getJson("/api/v1/versions");
      const now = JSON.stringify(found);
      if (now === known) return;
      known = now;
      total = found.bytes;
      versions = [...found.versions, ...found.rejected];
      if (mode === "versions" || !body.querySelector("select")) show();
    } catch (error) {
      replace(body, empty("The versions cannot be shown", error.message));
    }
  }
  refresh();
  return { element, refresh, close: () => {} };
}
