// Makes the body of `POST /v1/chat/completions` from a conversation.

/** The settings that are numbers. An empty one stands for the model's own default. */
export const NUMBERS = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.1, hint: "0 always picks the likeliest word" },
  { name: "top_p", label: "Top p", min: 0, max: 1, step: 0.05 },
  { name: "top_k", label: "Top k", min: 0, step: 1 },
  { name: "min_p", label: "Min p", min: 0, max: 1, step: 0.01 },
  { name: "repetition_penalty", label: "Repetition penalty", min: 0, step: 0.05 },
  { name: "seed", label: "Seed", min: 0, step: 1 },
  { name: "max_tokens", label: "Longest answer, in tokens", min: 1, step: 1 },
];

/** The default settings of a conversation. */
export const defaults = () => ({ system: "", max_tokens: "1024", thinking: false, schema: "", tools: "" });

/** The body of a request for the next answer. With `continues`, the last message is an answer that the model continues. */
export function requestBody({ model, settings, messages }, continues) {
  const system = settings.system?.trim() ? [{ role: "system", content: settings.system }] : [];
  const body = {
    model: model ?? "",
    messages: [...system, ...messages.filter(hasContent).map(wireMessage)],
    stream: true,
    stream_options: { include_usage: true },
  };
  for (const { name } of NUMBERS) {
    if (settings[name]) body[name] = Number(settings[name]);
  }
  if (settings.thinking) body.enable_thinking = true;
  if (settings.schema?.trim()) body.response_format = schemaFormat(settings.schema);
  if (settings.tools?.trim()) body.tools = json("tools", settings.tools);
  if (continues) body.continue_final_message = true;
  return body;
}

/** Parses what was typed into a box of the settings. The error names the box. */
export function json(box, text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`The ${box} in the settings are not JSON: ${error.message}`);
  }
}

function schemaFormat(text) {
  return { type: "json_schema", json_schema: { name: "answer", schema: json("rules of the JSON schema", text) } };
}

/** Answers that failed before their first word are not sent. */
const hasContent = ({ role, content, calls }) => role !== "assistant" || content || calls?.length;

function wireMessage({ role, content, files, calls, reasoning, tool_call_id }) {
  if (role === "tool") return { role, content, tool_call_id };
  if (role === "user") return { role, content: withFiles(content, files ?? []) };
  const message = { role, content };
  if (reasoning) message.reasoning_content = reasoning;
  if (calls?.length) message.tool_calls = calls.map((call) => ({ id: call.id, type: "function", function: { name: call.name, arguments: call.arguments } }));
  return message;
}

/** A message's text after its files, each in a fence that is longer than any in the file. */
function withFiles(content, files) {
  const fenced = files.map(({ name, text }) => {
    const longest = Math.max(2, ...[...text.matchAll(/`{3,}/g)].map(([run]) => run.length));
    const fence = "`".repeat(longest + 1);
    return `${name}:\n${fence}\n${text}\n${fence}`;
  });
  return [...fenced, content].filter(Boolean).join("\n\n");
}
