// The page, which connects its parts. The open conversation is `app.open`; everything that is shown is made from it.

import { Answers } from "./answers.js";
import { Composer } from "./composer.js";
import { closeByClickingBeside, showShortcuts, toast } from "./dialogs.js";
import { byId, say } from "./dom.js";
import { Models } from "./models.js";
import { listenForShortcuts } from "./shortcuts.js";
import { Settings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { create, forget, load, save, session } from "./store.js";
import { offerThemes } from "./themes.js";
import { Transcript } from "./transcript.js";

/** Id of the conversation that is open in this tab. */
const OPEN = "tenon.open";
const MAX_TITLE = 60;

class App {
  constructor() {
    this.conversations = load();
    this.answers = new Answers({ grown: (conversation) => this.grown(conversation), ended: (conversation) => this.ended(conversation) });
    this.models = new Models((model) => this.change({ model }));
    this.settings = new Settings(() => this.change({}));
    this.sidebar = new Sidebar({ open: (conversation) => this.show(conversation), remove: (conversation) => this.remove(conversation), create: () => this.create() });
    this.composer = new Composer({ send: (text, files) => this.send(text, files), stop: () => this.stop(), editLast: () => this.transcript.editLast() });
    this.transcript = new Transcript({
      edit: (index, text) => this.edit(index, text),
      regenerate: () => this.regenerate(),
      continue: () => this.answer(true),
      giveResults: (results) => this.giveResults(results),
      example: (prompt) => this.example(prompt),
    });
    for (const id of ["open-settings", "badge"]) byId(id).addEventListener("click", () => this.openSettings());
    byId("show-shortcuts").addEventListener("click", showShortcuts);
    addEventListener("pagehide", () => this.leave());
  }

  /** Opens the conversation that was open in this tab, or a new one. */
  start() {
    const id = session?.getItem(OPEN);
    const open = this.conversations.find((conversation) => conversation.id === id);
    this.show(open ?? create());
    this.models.refresh();
  }

  /** Opens a conversation. */
  show(conversation) {
    this.open = conversation;
    session?.setItem(OPEN, conversation.id);
    this.models.selectFor(conversation);
    this.sidebar.toggle(false);
    this.draw();
    this.composer.focus();
  }

  /** Shows the current state of the open conversation. */
  draw() {
    const isRunning = this.answers.isRunning(this.open);
    this.transcript.show(this.open, isRunning);
    this.composer.running(isRunning);
    this.sidebar.show(this.conversations, this.open);
    document.title = this.open.messages.length ? `${this.open.title} – Tenon` : "Tenon";
    this.drawBadge();
  }

  drawBadge() {
    const { system, schema, tools } = this.open.settings;
    const names = [system?.trim() && "System prompt", schema?.trim() && "JSON schema", tools?.trim() && "Tools"];
    const text = names.filter(Boolean).join(", ");
    byId("badge").hidden = !text;
    byId("badge").textContent = text;
  }

  create() {
    this.show(create(this.open.model));
  }

  /** Sends a message of the user. */
  send(content, files = []) {
    const { messages } = this.open;
    messages.push({ role: "user", content, ...(files.length && { files }) });
    if (messages.length === 1) this.open.title = title(content || files[0].name);
    this.answer();
  }

  /** Asks an example at temperature 0, because only the most likely answers are known to be right. */
  example(prompt) {
    this.open.settings.temperature = "0";
    this.send(prompt);
  }

  /** Replaces a message of the user. Everything after it is removed. */
  edit(index, content) {
    this.stop();
    const { messages } = this.open;
    const [{ files }] = messages.splice(index);
    this.open = { ...this.open, messages: [...messages] };
    this.conversations = this.conversations.filter(({ id }) => id !== this.open.id);
    this.send(content, files);
  }

  /** Replaces the last answer. */
  regenerate() {
    if (this.answers.isRunning(this.open) || this.open.messages.at(-1)?.role !== "assistant") return;
    this.open.messages.pop();
    this.answer();
  }

  /** Answers the tool calls of the last answer. */
  giveResults(results) {
    const messages = results.map(({ id, content }) => ({ role: "tool", content, tool_call_id: id }));
    this.open.messages.push(...messages);
    this.answer();
  }

  answer(continues = false) {
    if (!this.conversations.includes(this.open)) this.conversations.unshift(this.open);
    this.touch(this.open);
    this.open.model = this.models.of(this.open)?.id ?? this.open.model;
    this.transcript.follows = true;
    say("The model answers.");
    this.answers.start(this.open, continues);
    this.draw();
  }

  stop() {
    this.answers.stop(this.open);
  }

  grown(conversation) {
    if (conversation !== this.open || this.isDrawing) return;
    this.isDrawing = true;
    requestAnimationFrame(() => {
      this.isDrawing = false;
      if (this.answers.isRunning(this.open)) this.transcript.grow(true);
    });
  }

  ended(conversation) {
    this.touch(conversation);
    if (conversation !== this.open) return this.sidebar.show(this.conversations, this.open);
    this.transcript.grow(false);
    this.composer.running(false);
  }

  /** Changes the open conversation. */
  change(values) {
    Object.assign(this.open, values);
    this.drawBadge();
    if (this.open.messages.length) this.keep(this.open);
  }

  /** Keeps a conversation and moves it to the top of the list. */
  touch(conversation) {
    if (!this.conversations.includes(conversation)) return;
    conversation.changed = Date.now();
    this.conversations.sort((a, b) => b.changed - a.changed);
    this.keep(conversation);
  }

  keep(conversation) {
    if (!save(conversation)) toast("This browser has no room for more: delete conversations to keep this one.");
  }

  remove(conversation) {
    this.answers.stop(conversation);
    forget(conversation);
    this.conversations = this.conversations.filter((other) => other !== conversation);
    if (conversation === this.open) this.show(create());
    else this.draw();
    toast("Deleted.", "Undo", () => {
      this.conversations.push(conversation);
      this.touch(conversation);
      this.show(conversation);
    });
  }

  openSettings() {
    this.settings.open(this.open, this.models.of(this.open)?.sampling);
  }

  /** Keeps unfinished answers when the page is left. */
  leave() {
    for (const conversation of this.answers.running.keys()) {
      conversation.messages.at(-1).finish = "stopped";
      this.keep(conversation);
    }
  }

  /** Opens the conversation that is `places` further down in the list. */
  move(places) {
    const index = this.conversations.indexOf(this.open) + places;
    if (this.conversations[index]) this.show(this.conversations[index]);
  }
}

const title = (text) => text.trim().split("\n")[0].slice(0, MAX_TITLE);

const app = new App();
offerThemes();
closeByClickingBeside();
listenForShortcuts(app);
app.start();
