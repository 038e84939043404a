// The choice of the model.

import { health, listModels } from "./api.js";
import { askForKey } from "./dialogs.js";
import { byId, h } from "./dom.js";

/** Milliseconds after which the server is asked again, while it has no model. */
const PAUSE = 2000;

/** The picker. `chosen` is called with the name of another model. */
export class Models {
  constructor(chosen) {
    this.list = [];
    this.select = byId("model");
    this.select.addEventListener("change", () => chosen(this.select.value));
    // The states of models change while the page is open.
    this.select.addEventListener("focus", () => this.refresh());
  }

  /** Asks the server for its models. */
  async refresh() {
    try {
      this.list = await listModels();
    } catch (error) {
      if (error.needsKey && (await askForKey())) return this.refresh();
      if (error.needsKey) return this.say("A key is needed");
    }
    this.show();
    if (this.list.length) return;
    this.say(await waiting());
    setTimeout(() => this.refresh(), PAUSE);
  }

  /** The model of a conversation: its own if the server has it, else the default model. */
  of(conversation) {
    return this.list.find(({ id, aliases }) => id === conversation.model || aliases?.includes(conversation.model)) ?? this.list[0];
  }

  /** Selects the model of a conversation. */
  selectFor(conversation) {
    this.conversation = conversation;
    this.show();
  }

  show() {
    if (!this.list.length) return;
    const current = this.conversation && this.of(this.conversation);
    const labels = this.list.map(label);
    // New options would close the list that the user is looking at.
    if (labels.join() !== [...this.select.options].map((option) => option.text).join()) {
      this.select.replaceChildren(...labels.map((text, index) => h("option", { value: this.list[index].id }, text)));
    }
    this.select.value = current?.id ?? this.list[0].id;
  }

  say(text) {
    this.select.replaceChildren(h("option", { value: "" }, text));
  }
}

/** What is waited for, where no model is listed. */
async function waiting() {
  const { models } = await health().catch(() => ({ models: [] }));
  const states = models.map(({ id, status, error }) => `${id}: ${error ?? status}`);
  return states.join("; ") || "Waiting for the server…";
}

const label = ({ id, state }) => (!state || state === "ready" ? id : `${id} (${state})`);
