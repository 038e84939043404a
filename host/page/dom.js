// Short forms for building elements. Text always becomes a text node, never HTML.

const SVG = "http://www.w3.org/2000/svg";

/** The element of the page with this id. */
export const byId = (id) => document.getElementById(id);

/**
 * A new element. Attributes that begin with `on` are event handlers; `true` sets an empty attribute; `false` and null leave one
 * out. Children are nodes and texts; false and null are left out.
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== false && child != null));
  return element;
}

/** An icon of the page, by the name of its symbol. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A button that shows an icon alone. The label is for screen readers and for the tooltip. */
export function iconButton(name, label, onclick) {
  return h("button", { type: "button", class: "quiet", "aria-label": label, title: label, onclick }, icon(name));
}

/** A button that copies a text. It shows for a moment that it did. */
export function copyButton(text, label = "Copy") {
  const button = iconButton("copy", label, async () => {
    await copy(text());
    button.replaceChildren(icon("done"));
    say("Copied.");
    setTimeout(() => button.replaceChildren(icon("copy")), 1500);
  });
  return button;
}

/** Makes screen readers read a text. */
export function say(text) {
  const live = byId("live");
  live.append(h("p", {}, text));
  while (live.childElementCount > 20) live.firstChild.remove();
}

/** The clipboard of browsers exists only for HTTPS and for this machine; the older command works everywhere. */
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h("textarea", { class: "hidden" });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
