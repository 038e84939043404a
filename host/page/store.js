// Conversations, kept in the browser: one entry of localStorage for each.
//
// A conversation is {id, title, changed, model, settings, messages}. A message of the user is {role, content, files}. An answer is
// {role, content, reasoning, calls, format, finish, stats, warnings, error}; a tool's result is {role, content, tool_call_id}.

import { defaults } from "./request.js";

/** The browser's storage, and the one of this tab. Undefined where the browser forbids them: then nothing is kept. */
export const storage = allowed(() => localStorage);
export const session = allowed(() => sessionStorage);

const PREFIX = "tenon.chat.";
const SETTINGS = "tenon.settings";

/** All kept conversations, the latest first. */
export function load() {
  const keys = Object.keys(storage ?? {}).filter((key) => key.startsWith(PREFIX));
  return keys.map(read).filter(Boolean).sort((a, b) => b.changed - a.changed);
}

/** Keeps a conversation. False if the browser has no room for it. */
export function save(conversation) {
  try {
    storage?.setItem(PREFIX + conversation.id, JSON.stringify(conversation));
    return true;
  } catch {
    return false;
  }
}

/** Forgets a conversation. */
export function forget({ id }) {
  storage?.removeItem(PREFIX + id);
}

/** A new conversation, which is kept once it has a message. */
export function create(model) {
  const id = `${Date.now().toString(36)}${Math.random().toString(36).slice(2, 8)}`;
  return { id, title: "New chat", changed: Date.now(), model, settings: keptSettings(), messages: [] };
}

/** Keeps settings for new conversations. */
export function keepSettings(settings) {
  storage?.setItem(SETTINGS, JSON.stringify(settings));
}

function allowed(get) {
  try {
    return get();
  } catch {
    return undefined;
  }
}

function keptSettings() {
  return { ...defaults(), ...parsed(storage?.getItem(SETTINGS)) };
}

function read(key) {
  const conversation = parsed(storage.getItem(key));
  return Array.isArray(conversation?.messages) ? conversation : null;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
