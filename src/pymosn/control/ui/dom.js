// Elements are made here only. Data becomes text nodes and attributes, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.setAttribute("class", value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function s(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Replaces the children. The focus stays where it was if an element with the same id is there again.
export function replace(element, ...children) {
  const id = element.contains(document.activeElement) ? document.activeElement.id : "";
  element.replaceChildren();
  append(element, children);
  if (id) document.getElementById(id)?.focus();
}

export function empty(title, text, extra) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), text && h("p", {}, text), extra);
}

export function badge(text, kind) {
  return h("span", { class: `badge ${kind || ""}` }, text);
}

// Pairs of a name and a value, without those that have none.
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter((pair) => pair && pair[1] !== null && pair[1] !== undefined && pair[1] !== "")
    .map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

export function pageHead(title, text, ...tools) {
  return h("div", { class: "page-head" }, h("div", {}, h("h1", {}, title), text && h("p", { class: "muted" }, text)),
    h("div", { class: "tools" }, ...tools));
}

export function searchBox(id, label, value, onInput) {
  let timer = 0;
  const input = h("input", { id, type: "search", class: "search", placeholder: label, "aria-label": label, autocomplete: "off",
    spellcheck: "false", "data-search": true, value: value || "" });
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => onInput(input.value.trim()), 150);
  });
  return input;
}

// Buttons of which one is chosen.
export function choice(label, options, chosen, onChoice) {
  const group = h("div", { class: "choice", role: "group", "aria-label": label });
  const show = (value) => {
    for (const button of group.children) button.setAttribute("aria-pressed", String(button.dataset.value === String(value)));
  };
  for (const [value, text] of options) {
    group.append(h("button", { type: "button", "data-value": value, onclick: () => { show(value); onChoice(value); } }, text));
  }
  show(chosen);
  return group;
}
