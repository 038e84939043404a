// Overlays of the page: the question for a key, the list of shortcuts, and short messages.

import { hasKey, useKey } from "./api.js";
import { byId, h } from "./dom.js";

const SHORTCUTS = [
  ["Enter", "Send"],
  ["Shift Enter", "New line"],
  ["Escape", "Stop the answer"],
  ["↑", "Edit your last message, in the empty box"],
  ["/", "Write a message"],
  ["Alt N", "New chat"],
  ["Alt ↑ or ↓", "Previous or next chat"],
  ["Alt S", "Settings"],
  ["Alt R", "Another answer"],
  ["?", "These shortcuts"],
];

/** Asks for an API key. True if one was given. */
export function askForKey() {
  const dialog = byId("key");
  const input = dialog.querySelector("input");
  input.value = "";
  byId("refused").hidden = !hasKey();
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const key = dialog.returnValue === "save" && input.value.trim();
      if (key) useKey(key);
      resolve(Boolean(key));
    }, { once: true });
  });
}

/** Shows the shortcuts. */
export function showShortcuts() {
  const dialog = byId("shortcuts");
  const rows = SHORTCUTS.map(([keys, what]) => h("div", {}, h("dt", {}, keys.split(" ").map((key) => (key === "or" ? " or " : h("kbd", {}, key)))), h("dd", {}, what)));
  dialog.querySelector("dl").replaceChildren(...rows);
  dialog.showModal();
}

let hiding;

/** Shows a message for some seconds, perhaps with a button. */
export function toast(text, label, onclick) {
  const element = byId("toast");
  const hide = () => (element.hidden = true);
  const act = () => {
    hide();
    onclick();
  };
  element.replaceChildren(h("span", {}, text), label ? h("button", { type: "button", onclick: act }, label) : "");
  element.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(hide, 6000);
}

/** Lets a click beside a dialog close it. */
export function closeByClickingBeside() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }
}
