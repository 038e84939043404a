// Keys that work wherever the focus is. Those with Alt are recognized by their place on the keyboard, because Alt changes the letter.

import { showShortcuts } from "./dialogs.js";

/** Makes keys call the page's actions. */
export function listenForShortcuts(app) {
  const withAlt = {
    KeyN: () => app.create(),
    KeyS: () => app.openSettings(),
    KeyR: () => app.regenerate(),
    ArrowUp: () => app.move(-1),
    ArrowDown: () => app.move(1),
  };
  const outsideOfBoxes = { "/": () => app.composer.focus(), "?": showShortcuts };
  addEventListener("keydown", (event) => {
    // Dialogs have their own keys.
    if (document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey) return;
    const action = event.key === "Escape" ? () => escape(app) : event.altKey ? withAlt[event.code] : !isTyping(event) && outsideOfBoxes[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}

function escape(app) {
  if (app.sidebar.isOver) app.sidebar.toggle(false);
  else app.stop();
}

const isTyping = ({ target }) => target.matches("input, textarea, select");
