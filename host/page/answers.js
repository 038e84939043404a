// Requests answers. Several conversations can be answered at the same time.

import { emptyAnswer, Reader } from "./answer.js";
import { streamChat } from "./api.js";
import { askForKey } from "./dialogs.js";
import { requestBody } from "./request.js";

/** The answers that are being generated. `grown` is called while an answer grows, and `ended` after its end. */
export class Answers {
  constructor({ grown, ended }) {
    this.grown = grown;
    this.ended = ended;
    this.running = new Map();
  }

  isRunning(conversation) {
    return this.running.has(conversation);
  }

  /** Adds an answer to a conversation, or continues the last one. */
  async start(conversation, continues = false) {
    const answer = continues ? conversation.messages.at(-1) : emptyAnswer(conversation.settings.schema?.trim() ? "json" : null);
    const before = continues ? conversation.messages : [...conversation.messages];
    if (!continues) conversation.messages.push(answer);
    const abort = new AbortController();
    this.running.set(conversation, abort);
    this.grown(conversation);
    try {
      const body = requestBody({ ...conversation, messages: before }, continues);
      await this.read(conversation, answer, body, abort.signal);
    } catch (error) {
      this.failed(answer, error, abort.signal);
    }
    this.running.delete(conversation);
    this.ended(conversation);
  }

  /** Reads an answer. If the server wants a key, it is asked for, and the request is sent again. */
  async read(conversation, answer, body, signal) {
    delete answer.error;
    delete answer.finish;
    try {
      const reader = new Reader(answer);
      for await (const chunk of streamChat(body, signal)) {
        reader.add(chunk);
        this.grown(conversation);
      }
    } catch (error) {
      if (!error.needsKey || !(await askForKey())) throw error;
      await this.read(conversation, answer, body, signal);
    }
  }

  failed(answer, error, signal) {
    if (signal.aborted) answer.finish = "stopped";
    else answer.error = error.name === "TypeError" ? "The server cannot be reached." : error.message;
  }

  /** Ends the answer of a conversation. The part that has arrived stays. */
  stop(conversation) {
    this.running.get(conversation)?.abort();
  }
}
