// Navigation, keys, colors, the token and the state of the connection.

import { Stream, onTokenNeeded } from "./data.js";
import { h, replace, s, setText } from "./dom.js";
import { ago, bytes } from "./format.js";
import { config } from "./config_view.js";
import { exchanges } from "./exchanges_view.js";
import { explain } from "./explain_view.js";
import { profile } from "./profile_view.js";
import { tap } from "./tap_view.js";
import { clusters, filters, hosts, listeners, overview, routes, workers } from "./views.js";

const REFRESH = 2000;
const THEME = "pymosn-colors";
// Name, text, key after g, icon, view.
const VIEWS = [
  ["overview", "Overview", "o", "M3 13h4l3-8 4 14 3-6h4", overview],
  ["listeners", "Listeners", "l", "M4 12h12M11 7l5 5-5 5M20 5v14", listeners],
  ["routes", "Routes", "r", "M5 19V9a4 4 0 0 1 4-4h10M19 5l-3-3M19 5l-3 3M5 13h14M19 13l-3-3M19 13l-3 3", routes],
  ["clusters", "Clusters", "c", "M12 3l8 4.5v9L12 21l-8-4.5v-9zM12 12l8-4.5M12 12v9M12 12L4 7.500", clusters],
  ["hosts", "Hosts", "h", "M4 5h16v5H4zM4 14h16v5H4zM8 7.500h.01M8 16.500h.01", hosts],
  ["exchanges", "Exchanges", "x", "M4 8h14M14 4l4 4-4 4M20 16H6M10 12l-4 4 4 4", exchanges],
  ["tap", "Tap", "t", "M12 3v6M12 15v6M8 12H3M21 12h-5M12 9a3 3 0 1 1 0 6 3 3 0 0 1 0-6", tap],
  ["filters", "Filters", "f", "M4 5h16l-6 7v6l-4 2v-8z", filters],
  ["workers", "Processes", "p", "M7 7h10v10H7zM10 3v4M14 3v4M10 17v4M14 17v4M3 10h4M3 14h4M17 10h4M17 14h4", workers],
  ["profile", "Profile", "u", "M4 20h16M6 16h12M8 12h9M8 8h4M15 8h2M9 4h2", profile],
  ["config", "Configuration", "v", "M4 6h10M18 6h2M16 4v4M4 12h2M10 12h10M8 10v4M4 18h8M16 18h4M14 16v4", config],
  ["explain", "Explain", "e", "M9 9a3 3 0 1 1 4 2.800c-.7.3-1 .8-1 1.700M12 17h.01M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18", explain],
];
const STAGES = { 4: "starting", 6: "running", 8: "draining", 9: "stopping" };

const main = document.getElementById("main");
const stream = new Stream();
let current = null;

// ---- navigation

function parse(hash) {
  const [name, text] = hash.replace(/^#\/?/, "").split("?");
  return [VIEWS.find((view) => view[0] === name) || VIEWS[0], Object.fromEntries(new URLSearchParams(text || ""))];
}

const nav = document.getElementById("nav");
for (const [name, text, key, icon] of VIEWS) {
  nav.append(h("a", { href: `#/${name}`, "data-view": name, title: `g ${key}` }, s("svg", { class: "nav-icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, s("path", { d: icon })), h("span", {}, text)));
}

function show(takesFocus) {
  const [view, parameters] = parse(location.hash);
  current?.close();
  const context = {
    stream,
    parameters,
    setParameter(key, value) {
      if (value) parameters[key] = value;
      else delete parameters[key];
      const text = new URLSearchParams(parameters).toString();
      history.replaceState(null, "", `#/${view[0]}${text ? `?${text}` : ""}`);
    },
  };
  current = view[4](context);
  replace(main, current.element);
  main.scrollTop = 0;
  for (const link of nav.children) {
    if (link.dataset.view === view[0]) {
      link.setAttribute("aria-current", "page");
      if (nav.scrollWidth > nav.clientWidth) nav.scrollLeft = link.offsetLeft - nav.clientWidth / 2 + link.clientWidth / 2;
    } else link.removeAttribute("aria-current");
  }
  document.title = `${view[1]} – pymosn`;
  current.update?.();
  if (takesFocus) main.focus({ preventScroll: true });
}

window.addEventListener("hashchange", () => show(true));
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });

// ---- connection

const STATUS = { connecting: "Connecting", live: "Live", lost: "Reconnecting", paused: "Paused" };

stream.subscribe(() => {
  document.body.dataset.state = stream.state;
  setText(document.getElementById("status-text"), STATUS[stream.state]);
  document.getElementById("status").title = stream.state === "lost" ? stream.error : "";
  const facts = stream.facts;
  if (facts) {
    const stage = facts.draining ? "draining" : STAGES[facts.state] || "";
    setText(document.getElementById("process"), `pid ${facts.pid} · ${stage} · up ${ago(facts.now - facts.started)} · version ${facts.config_version} · ${bytes(facts.memory)}`);
  }
  current?.update?.();
});

setInterval(() => {
  if (stream.state === "live" && !document.hidden) current?.refresh?.();
}, REFRESH);

// ---- colors

function applyTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

function isDark() {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function toggleTheme() {
  const theme = isDark() ? "light" : "dark";
  applyTheme(theme);
  localStorage.setItem(THEME, theme);
}

applyTheme(localStorage.getItem(THEME));
document.getElementById("theme").addEventListener("click", toggleTheme);

// ---- keys

const help = document.getElementById("help");
replace(help, h("h2", { id: "help-title" }, "Keys"), h("dl", { class: "keys" },
  [["/", "search in this view"], ...VIEWS.map(([, text, key]) => [`g ${key}`, text]), ["↑ ↓ Enter", "choose and open a row"], ["Esc", "close"], ["t", "dark or light"], ["?", "this list"]]
    .map(([keys, text]) => [h("dt", {}, keys.split(" ").map((key) => h("kbd", {}, key))), h("dd", {}, text)])),
h("form", { method: "dialog" }, h("button", { class: "primary", autofocus: true }, "Close")));
document.getElementById("help-button").addEventListener("click", () => help.showModal());

let awaitsView = 0;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const types = event.target.matches("input, textarea, select");
  if (event.key === "Escape") {
    if (types) event.target.blur();
    else current?.escape?.();
    return;
  }
  if (types) return;
  if (awaitsView && event.timeStamp - awaitsView < 1500) {
    awaitsView = 0;
    const view = VIEWS.find(([, , key]) => key === event.key);
    if (view) {
      event.preventDefault();
      location.hash = `#/${view[0]}`;
    }
    return;
  }
  if (event.key === "g") awaitsView = event.timeStamp;
  else if (event.key === "/") {
    event.preventDefault();
    main.querySelector("[data-search]")?.focus();
  } else if (event.key === "?") help.showModal();
  else if (event.key === "t") toggleTheme();
});

// ---- token

const dialog = document.getElementById("token");
let asked = null;
onTokenNeeded((wasWrong) => {
  asked ??= new Promise((done) => {
    const input = h("input", { id: "token-input", type: "password", autocomplete: "off", required: true });
    const form = h("form", { method: "dialog" }, h("h2", { id: "token-title" }, "Token"),
      h("p", {}, wasWrong ? "The token was not accepted." : "This process asks for the token of admin.token_file."), h("label", { class: "field", for: "token-input" }, h("span", {}, "Token"), input),
      h("p", { class: "muted small" }, "It is kept in this tab only, and travels unencrypted over HTTP."),
      h("div", { class: "buttons" }, h("button", { class: "primary", value: "ok" }, "Use"), h("button", { type: "button", onclick: () => dialog.close("") }, "Cancel")));
    replace(dialog, form);
    dialog.addEventListener("close", () => {
      asked = null;
      done(dialog.returnValue === "ok" ? input.value.trim() : null);
      input.value = "";
    }, { once: true });
    dialog.returnValue = "";
    dialog.showModal();
  });
  return asked;
});

show(false);
stream.start();
