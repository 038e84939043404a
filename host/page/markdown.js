// Shows Markdown. marked splits the text into tokens; this file makes DOM nodes of them, so that no text of a model is ever HTML.

import { copyButton, h } from "./dom.js";
import { lexer } from "./marked.js";

/** An element that shows a text that may grow. */
export class Prose {
  constructor() {
    this.element = h("div", { class: "prose" });
    this.shown = [];
  }

  /** Shows this text. Blocks that have not changed keep their nodes, and with them a selection. */
  render(text) {
    const tokens = lexer(text).filter((token) => token.type !== "space" && token.type !== "def");
    const same = tokens.findIndex((token, index) => token.raw !== this.shown[index]);
    const from = same < 0 ? tokens.length : same;
    while (this.element.childNodes.length > from) this.element.lastChild.remove();
    this.element.append(...tokens.slice(from).map(block));
    this.shown = tokens.map((token) => token.raw);
  }

  /** The texts of the blocks that have been shown. */
  blocks() {
    return [...this.element.childNodes].map((node) => node.textContent);
  }
}

const BLOCKS = {
  // Each answer has a heading of the second level.
  heading: (token) => h(`h${Math.min(Math.max(token.depth + 1, 3), 6)}`, {}, inlines(token.tokens)),
  paragraph: (token) => h("p", {}, inlines(token.tokens)),
  text: (token) => h("span", {}, token.tokens ? inlines(token.tokens) : decoded(token.text)),
  code: (token) => code(token.text, token.lang),
  blockquote: (token) => h("blockquote", {}, token.tokens.map(block)),
  hr: () => h("hr"),
  list,
  table,
  checkbox,
  space: () => "",
};

const INLINES = {
  strong: (token) => h("strong", {}, inlines(token.tokens)),
  em: (token) => h("em", {}, inlines(token.tokens)),
  del: (token) => h("del", {}, inlines(token.tokens)),
  codespan: (token) => h("code", {}, token.text),
  br: () => h("br"),
  escape: (token) => token.text,
  text: (token) => (token.tokens ? h("span", {}, inlines(token.tokens)) : decoded(token.text)),
  link: (token) => link(token.href, inlines(token.tokens)),
  // An image would be a request to another host.
  image: (token) => link(token.href, [token.text || token.href]),
  checkbox,
};

const block = (token) => BLOCKS[token.type]?.(token) ?? h("p", {}, token.raw);
const inlines = (tokens) => tokens.map((token) => INLINES[token.type]?.(token) ?? token.raw);

function checkbox({ checked }) {
  return h("input", { type: "checkbox", disabled: true, checked: Boolean(checked), "aria-label": "Done" });
}

function list(token) {
  const items = token.items.map((item) => h("li", { class: item.task ? "task" : null }, item.tokens.map(block)));
  return h(token.ordered ? "ol" : "ul", { start: token.ordered && token.start !== 1 ? token.start : null }, items);
}

function table(token) {
  const cell = (tag) => (content, column) => h(tag, { class: token.align[column] && `to-${token.align[column]}` }, inlines(content.tokens));
  const head = h("tr", {}, token.header.map(cell("th")));
  const rows = token.rows.map((row) => h("tr", {}, row.map(cell("td"))));
  return h("div", { class: "wide", tabindex: "0", role: "group", "aria-label": "Table" }, h("table", {}, h("thead", {}, head), h("tbody", {}, rows)));
}

/** A block of code with its language and a button that copies it. */
export function code(text, language) {
  const name = (language ?? "").split(/\s/)[0];
  const bar = h("div", { class: "bar" }, h("span", {}, name || "text"), copyButton(() => text, "Copy code"));
  return h("div", { class: "code" }, bar, h("pre", { tabindex: "0", "aria-label": "Code" }, h("code", {}, text)));
}

function link(href, content) {
  const isSafe = /^(https?|mailto):/i.test(href);
  return isSafe ? h("a", { href, target: "_blank", rel: "noopener noreferrer" }, content) : h("span", {}, content);
}

/** A text with its HTML entities replaced. The parser's document runs nothing and loads nothing. */
function decoded(text) {
  if (!/&[#\w]+;/.test(text)) return text;
  const parsed = new DOMParser().parseFromString(`<body>${text.replaceAll("<", "&lt;")}`, "text/html");
  return parsed.body.textContent;
}
