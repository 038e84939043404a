// The switch between light and dark. theme.js applies the choice when the page is loaded.

import { byId } from "./dom.js";
import { storage } from "./store.js";

const KEY = "tenon.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

/** Makes the button switch. */
export function offerThemes() {
  byId("theme").addEventListener("click", () => choose(isDark() ? "light" : "dark"));
  system.addEventListener("change", label);
  label();
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : system.matches;
}

/** A choice that is the system's own is not kept, so that the page goes on following the system. */
function choose(theme) {
  const isOwn = theme === (system.matches ? "dark" : "light");
  if (isOwn) storage?.removeItem(KEY);
  else storage?.setItem(KEY, theme);
  document.documentElement.dataset.theme = isOwn ? "" : theme;
  label();
}

function label() {
  const text = `Switch to ${isDark() ? "light" : "dark"} colours`;
  byId("theme").title = text;
  byId("theme").setAttribute("aria-label", text);
}
