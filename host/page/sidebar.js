// The list of conversations. On narrow screens it slides over the page.

import { byId, h, iconButton } from "./dom.js";

/** The width from which on the list is always there. It is also in the style sheet. */
const wide = matchMedia("(min-width: 50rem)");

/** The list. `actions` are `open(conversation)`, `remove(conversation)` and `create()`. */
export class Sidebar {
  constructor(actions) {
    this.actions = actions;
    this.element = byId("sidebar");
    byId("new-chat").addEventListener("click", actions.create);
    byId("open-sidebar").addEventListener("click", () => this.toggle(true));
    for (const id of ["close-sidebar", "backdrop"]) byId(id).addEventListener("click", () => this.toggle(false));
    wide.addEventListener("change", () => this.toggle(false));
    this.toggle(false);
  }

  show(conversations, current) {
    byId("conversations").replaceChildren(...conversations.map((conversation) => this.row(conversation, conversation === current)));
  }

  row(conversation, isCurrent) {
    const open = h("button", { type: "button", class: "title", "aria-current": isCurrent ? "page" : null, onclick: () => this.actions.open(conversation) }, conversation.title);
    return h("li", {}, open, iconButton("delete", `Delete ${conversation.title}`, () => this.actions.remove(conversation)));
  }

  get isOver() {
    return this.element.classList.contains("open");
  }

  /** Slides the list in or out on narrow screens. */
  toggle(isOpen) {
    const wasOver = this.isOver;
    this.element.classList.toggle("open", isOpen);
    this.element.inert = !isOpen && !wide.matches;
    byId("chat").inert = isOpen;
    byId("backdrop").hidden = !isOpen;
    if (isOpen) byId("close-sidebar").focus();
    else if (wasOver) byId("open-sidebar").focus();
  }
}
