// The views of messages. Each view has an `element`. Views of answers can be updated while the answer grows.

import { copyButton, h, icon, iconButton } from "./dom.js";
import { code, Prose } from "./markdown.js";

/** A message of the user. `edit` is called with the new text. */
export function userView(message, { edit }) {
  const text = h("div", { class: "bubble" }, message.content);
  const files = (message.files ?? []).map(({ name, text }) => h("details", { class: "file" }, h("summary", {}, icon("file"), name), h("pre", { tabindex: "0" }, text)));
  const actions = h("div", { class: "actions" }, copyButton(() => message.content), iconButton("edit", "Edit", () => openEditor()));
  const heading = h("h2", { class: "hidden" }, "You");
  const element = h("article", { class: "message user", "aria-label": "You" }, heading, files, message.content && text, actions);
  const openEditor = () => element.replaceChildren(editor(message.content, edit, () => element.replaceChildren(heading, ...files, text, actions)));
  return { element, openEditor };
}

/** Edits a text in place: Enter sends it, Escape leaves it as it was. */
function editor(content, send, cancel) {
  const area = h("textarea", { rows: "3", "aria-label": "Edit the message" });
  area.value = content;
  const submit = () => area.value.trim() && send(area.value.trim());
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") cancel();
    else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  queueMicrotask(() => area.focus());
  const buttons = h("footer", {}, h("button", { type: "button", onclick: cancel }, "Cancel"), h("button", { type: "button", class: "primary", onclick: submit }, "Send"));
  return h("div", { class: "editor" }, area, buttons);
}

/** An answer. */
export class AnswerView {
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.text = new Prose();
    this.reasoning = new Prose();
    this.label = h("span");
    this.folded = h("details", { class: "reasoning", hidden: true }, h("summary", {}, this.label), this.reasoning.element);
    this.rest = h("div", { class: "rest" });
    this.element = h("article", { class: "message answer", "aria-label": "Answer" }, h("h2", { class: "hidden" }, "Answer"), this.folded, this.text.element, this.rest);
  }

  /** Shows the current state of the answer. `state` says whether it is `running`, and whether it is the `last` message. */
  update(state) {
    const { message } = this;
    this.element.classList.toggle("running", state.running);
    this.folded.hidden = !message.reasoning;
    if (message.reasoning) {
      this.reasoning.render(message.reasoning);
      this.label.textContent = reasoningLabel(message, state.running);
    }
    this.text.render(message.format === "json" ? fenced(message.content) : message.content);
    const calls = message.calls.map(callView);
    this.rest.replaceChildren(...calls, ...(state.running ? [] : this.end(state)));
  }

  /** The elements below a finished answer. */
  end({ last }) {
    const { message, actions } = this;
    const again = last && iconButton("again", "Another answer", actions.regenerate);
    const canGoOn = last && message.content && !message.calls.length && ["length", "stopped"].includes(message.finish);
    const more = canGoOn && iconButton("more", "Continue this answer", actions.continue);
    const figures = h("span", { class: "figures" }, figuresOf(message));
    return [
      last && message.calls.length > 0 && this.resultForm(),
      ...(message.warnings ?? []).map((warning) => h("p", { class: "notice" }, warning)),
      message.error && this.error(last),
      h("div", { class: "actions" }, copyButton(() => message.content), again, more, figures),
    ].filter(Boolean);
  }

  error(last) {
    const retry = last && h("button", { type: "button", onclick: this.actions.regenerate }, "Try again");
    return h("div", { class: "notice error", role: "alert" }, h("span", {}, this.message.error), retry);
  }

  /** A form for the results of the calls, with which the model can go on. */
  resultForm() {
    const { calls } = this.message;
    const areas = calls.map(({ name }) => h("textarea", { rows: "2", placeholder: `What ${name} returns`, "aria-label": `Result of ${name}` }));
    const send = () => this.actions.giveResults(calls.map(({ id }, index) => ({ id, content: areas[index].value })));
    return h("div", { class: "editor" }, areas, h("footer", {}, h("button", { type: "button", onclick: send }, "Send to the model")));
  }
}

/** A call of a tool, with its arguments. */
function callView(call) {
  const head = h("div", { class: "head" }, icon("tool"), h("span", {}, "Calls"), h("code", {}, call.name));
  return h("div", { class: "call" }, head, code(pretty(call.arguments), "json"));
}

/** The result of a tool. */
export function resultView(message) {
  const summary = h("summary", {}, icon("tool"), "Result of the tool");
  const details = h("details", { class: "file" }, summary, h("pre", { tabindex: "0" }, message.content));
  return { element: h("article", { class: "message result", "aria-label": "Result of a tool" }, details) };
}

function reasoningLabel(message, running) {
  if (running && !message.content) return "Thinking…";
  return message.thoughtSeconds ? `Thought for ${number(message.thoughtSeconds)} s` : "Reasoning";
}

/** Speed and counts of an answer, as a sentence of parts. */
function figuresOf({ stats, finish }) {
  const parts = [];
  if (stats?.perSecond) parts.push(`${number(stats.perSecond)} tokens/s`);
  if (stats) parts.push(`${stats.tokens} tokens`, `${stats.cached} of ${stats.prompt} prompt tokens cached`);
  if (finish === "length") parts.push("length limit");
  if (finish === "stopped") parts.push("stopped");
  return parts.join(" · ");
}

const number = (value) => (value < 10 ? value.toFixed(1) : Math.round(value).toString());
const fenced = (text) => (text ? `~~~~json\n${pretty(text)}\n~~~~` : "");

/** JSON on several lines. A text that is no JSON yet stays as it is. */
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
