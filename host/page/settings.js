// The drawer with the settings of a conversation.

import { byId, h } from "./dom.js";
import { defaults, json, NUMBERS } from "./request.js";
import { keepSettings } from "./store.js";
import { toast } from "./dialogs.js";

const EXAMPLE_SCHEMA = '{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}';
const EXAMPLE_TOOLS = '[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]';

/** The drawer. `changed` is called after each change. */
export class Settings {
  constructor(changed) {
    this.changed = changed;
    this.dialog = byId("settings");
    byId("reset-settings").addEventListener("click", () => this.reset());
    byId("keep-settings").addEventListener("click", () => this.keep());
  }

  /** Shows the settings of this conversation. `sampling` has the values that empty numbers stand for. */
  open(conversation, sampling = {}) {
    this.settings = conversation.settings;
    this.sampling = sampling;
    this.fill();
    this.dialog.showModal();
  }

  fill() {
    byId("fields").replaceChildren(
      this.box("system", "System prompt", "How the model should answer", 4),
      this.thinking(),
      h("fieldset", {}, h("legend", {}, "Sampling"), h("div", { class: "numbers" }, NUMBERS.map((field) => this.number(field)))),
      this.box("schema", "JSON schema of the answer", EXAMPLE_SCHEMA, 6, problem),
      this.box("tools", "Tools, as a JSON list", EXAMPLE_TOOLS, 6, problem),
    );
  }

  box(name, label, placeholder, rows, problem = null) {
    const error = h("small", { class: "error", id: `${name}-error`, role: "status" });
    const area = h("textarea", { name, rows, placeholder, spellcheck: name === "system" ? "true" : "false", class: name === "system" ? null : "mono", "aria-describedby": problem && error.id });
    area.value = this.settings[name] ?? "";
    const check = () => (error.textContent = area.value.trim() && problem ? problem(area.value) : "");
    area.addEventListener("input", () => {
      this.set(name, area.value);
      check();
    });
    check();
    return h("label", {}, h("span", {}, label), area, problem && error);
  }

  number({ name, label, hint, ...limits }) {
    const placeholder = this.sampling[name] == null ? "" : String(Math.round(this.sampling[name] * 1000) / 1000);
    const input = h("input", { type: "number", name, placeholder, title: hint, ...limits, step: "any", inputmode: "decimal" });
    input.value = this.settings[name] ?? "";
    input.addEventListener("input", () => this.set(name, input.value));
    return h("label", {}, h("span", {}, label), input);
  }

  thinking() {
    const input = h("input", { type: "checkbox", name: "thinking", checked: Boolean(this.settings.thinking) });
    input.addEventListener("change", () => this.set("thinking", input.checked));
    return h("label", { class: "switch" }, input, h("span", {}, "Think before answering, if the model can"));
  }

  set(name, value) {
    this.settings[name] = value;
    this.changed();
  }

  reset() {
    for (const name of Object.keys(this.settings)) delete this.settings[name];
    Object.assign(this.settings, defaults());
    this.fill();
    this.changed();
  }

  keep() {
    keepSettings(this.settings);
    toast("New chats begin with these settings.");
  }
}

/** The problem of a text that should be JSON; empty if there is none. */
function problem(text) {
  try {
    json("", text);
    return "";
  } catch {
    return "This is not JSON yet.";
  }
}
