// The messages of the open conversation, and their scroll position.

import { byId, h, icon, say } from "./dom.js";
import { AnswerView, resultView, userView } from "./message.js";

/** Questions that a very small model answers rightly (the tests `first_answers` hold it). */
const EXAMPLES = [
  { title: "Ask for a fact", prompt: "What is the capital of Japan?" },
  { title: "Recall chemistry", prompt: "What is the chemical symbol for silver?" },
  { title: "Write some code", prompt: "Write Python code for a function is_even(num), which checks whether a number is even." },
];

/** Distance from the end, in pixels, up to which the view follows the answer. */
const NEAR = 80;

/** Shows a conversation. `actions` are the actions of the buttons of its messages. */
export class Transcript {
  constructor(actions) {
    this.actions = actions;
    this.scroller = byId("transcript");
    this.follows = true;
    this.scroller.addEventListener("scroll", () => this.scrolled());
    byId("to-latest").addEventListener("click", () => this.toEnd());
  }

  /** Shows all messages of a conversation. */
  show(conversation, isRunning) {
    const messages = conversation.messages;
    this.views = messages.map((message, index) => this.view(message, index));
    const empty = this.views.length ? [] : [this.welcome()];
    byId("messages").replaceChildren(...empty, ...this.views.map((view) => view.element));
    byId("title").textContent = conversation.title;
    document.body.classList.toggle("empty", !messages.length);
    this.views.forEach((view, index) => view.update?.(this.state(index, isRunning)));
    this.read = this.views.at(-1)?.text?.blocks().length ?? 0;
    this.toEnd();
  }

  /** Shows the current state of the last answer. */
  grow(isRunning) {
    const view = this.views.at(-1);
    view?.update?.(this.state(this.views.length - 1, isRunning));
    this.readOut(view, isRunning);
    if (this.follows) this.toEnd();
  }

  /** Opens the last message of the user for editing. */
  editLast() {
    this.views.findLast((view) => view.openEditor)?.openEditor();
  }

  view(message, index) {
    if (message.role === "user") return userView(message, { edit: (text) => this.actions.edit(index, text) });
    if (message.role === "tool") return resultView(message);
    return new AnswerView(message, this.actions);
  }

  state(index, isRunning) {
    const last = index === this.views.length - 1;
    return { last, running: last && isRunning };
  }

  /** Makes screen readers read the blocks that are complete. */
  readOut(view, isRunning) {
    const blocks = view?.text?.blocks() ?? [];
    const complete = isRunning ? blocks.length - 1 : blocks.length;
    for (; this.read < complete; this.read++) say(blocks[this.read]);
  }

  welcome() {
    const cards = EXAMPLES.map(({ title, prompt }) =>
      h("button", { type: "button", class: "card", onclick: () => this.actions.example(prompt) }, h("strong", {}, title), h("span", {}, prompt)));
    return h("div", { class: "welcome" }, icon("mark"), h("p", { class: "lead" }, "What would you like to know?"), h("div", { class: "cards" }, cards));
  }

  scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    this.follows = scrollHeight - scrollTop - clientHeight < NEAR;
    byId("to-latest").hidden = this.follows;
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.follows = true;
  }
}
