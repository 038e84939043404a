// The box in which messages are written, and the files that are attached to them.

import { byId, h, icon, iconButton } from "./dom.js";
import { toast } from "./dialogs.js";

/** Most bytes of an attached file. */
const MAX_FILE = 1 << 20;

/** The box. `actions` are `send(text, files)`, `stop()` and `editLast()`. */
export class Composer {
  constructor(actions) {
    this.actions = actions;
    this.input = byId("input");
    this.files = [];
    byId("composer").addEventListener("submit", (event) => this.submit(event));
    byId("stop").addEventListener("click", actions.stop);
    this.input.addEventListener("keydown", (event) => this.pressed(event));
    this.input.addEventListener("input", () => this.fit());
    byId("attach").addEventListener("click", () => byId("files").click());
    byId("files").addEventListener("change", ({ target }) => this.attach(target.files).then(() => (target.value = "")));
    document.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
    document.addEventListener("drop", (event) => this.dropped(event));
  }

  /** Puts the cursor into the box, except on phones, where the keyboard would cover the page. */
  focus() {
    if (matchMedia("(pointer: fine)").matches) this.input.focus();
  }

  /** Shows whether the open conversation is being answered. */
  running(isRunning) {
    byId("send").hidden = isRunning;
    byId("stop").hidden = !isRunning;
    this.isRunning = isRunning;
  }

  submit(event) {
    event.preventDefault();
    const text = this.input.value.trim();
    if (this.isRunning || (!text && !this.files.length)) return;
    this.actions.send(text, this.files);
    this.input.value = "";
    this.files = [];
    this.showFiles();
    this.fit();
  }

  pressed(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) this.submit(event);
    else if (event.key === "ArrowUp" && !this.input.value && !this.isRunning) this.actions.editLast();
  }

  /** Makes the box as high as its text; the style sheet limits it. */
  fit() {
    this.input.style.height = "auto";
    this.input.style.height = `${this.input.scrollHeight}px`;
  }

  dropped(event) {
    if (!hasFiles(event)) return;
    event.preventDefault();
    this.attach(event.dataTransfer.files);
  }

  async attach(files) {
    for (const file of files) {
      const text = file.size > MAX_FILE ? null : await file.text();
      // No text has this character, and nearly every other file does.
      if (text == null || text.includes("\0")) toast(`${file.name} is not attached: only text files up to 1 MB are.`);
      else this.files.push({ name: file.name, text });
    }
    this.showFiles();
    this.focus();
  }

  showFiles() {
    const remove = (file) => {
      this.files = this.files.filter((other) => other !== file);
      this.showFiles();
    };
    const item = (file) => h("li", {}, icon("file"), h("span", {}, file.name), iconButton("close", `Remove ${file.name}`, () => remove(file)));
    byId("attachments").replaceChildren(...this.files.map(item));
  }
}

const hasFiles = ({ dataTransfer }) => dataTransfer.types.includes("Files");
