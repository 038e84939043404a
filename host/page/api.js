// Requests to the server that this page comes from.

import { session } from "./store.js";

const KEY = "tenon.key";

let key = session?.getItem(KEY);

/** An error that the server answered with. */
export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.needsKey = status === 401;
  }
}

/** Whether requests have an API key. */
export const hasKey = () => Boolean(key);

/** Remembers an API key until the tab is closed. */
export function useKey(given) {
  key = given;
  session?.setItem(KEY, key);
}

/** The state of the server and of its models. */
export async function health() {
  return (await fetch("health", { headers: headers() })).json();
}

/** The models that are served, the default model first. */
export async function listModels() {
  const answer = await ask("v1/models");
  return (await answer.json()).data;
}

/** Yields the chunks of an answer. Aborting the signal ends the answer on the server too. */
export async function* streamChat(body, signal) {
  const answer = await ask("v1/chat/completions", { method: "POST", body: JSON.stringify(body), signal });
  for await (const data of events(answer.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(0, chunk.error.message);
    yield chunk;
  }
  throw new ServerError(0, "The connection ended before the answer did.");
}

async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: headers() });
  if (!answer.ok) throw new ServerError(answer.status, await errorMessage(answer));
  return answer;
}

const headers = () => ({ "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) });

async function errorMessage(answer) {
  const body = await answer.json().catch(() => null);
  return body?.error?.message ?? `The server answered with status ${answer.status}.`;
}

/** The data of server-sent events, each of which is one line here. Other lines are comments that keep the connection alive. */
async function* events(stream) {
  let rest = "";
  for await (const text of texts(stream)) {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) yield line.slice(5).trim();
    }
  }
}

/** Not every browser can iterate over a stream. */
async function* texts(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}
