// The official client for Node: every call that its users make most.

import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.env.TENON}/v1`, apiKey: "EMPTY" });
const chat = {
  model: "",
  messages: [
    { role: "system", content: "You are a helpful assistant." },
    { role: "user", content: "What is the capital of France?" },
  ],
  max_tokens: 12,
  temperature: 0,
};

test("chats, whole and as streams", async () => {
  const answer = await client.chat.completions.create(chat);
  const { content } = answer.choices[0].message;
  assert.match(content, /Paris/);
  let streamed = "";
  for await (const chunk of await client.chat.completions.create({ ...chat, stream: true })) {
    streamed += chunk.choices[0]?.delta?.content ?? "";
  }
  assert.equal(streamed, content);
  const stream = client.chat.completions.stream(chat);
  let deltas = "";
  stream.on("content", (delta) => (deltas += delta));
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].message.content, content);
  assert.equal(deltas, content);
});

test("a stream that is left early", async () => {
  const stream = await client.chat.completions.create({ ...chat, stream: true });
  for await (const _ of stream) break;
  assert.ok(stream.controller.signal.aborted);
});

test("answers of a JSON schema", async () => {
  const schema = { type: "object", properties: { name: { type: "string" } }, required: ["name"], additionalProperties: false };
  const response_format = { type: "json_schema", json_schema: { name: "city", strict: true, schema } };
  const answer = await client.chat.completions.parse({ ...chat, max_tokens: 40, response_format });
  assert.equal(typeof JSON.parse(answer.choices[0].message.content).name, "string");
});

test("plain completions", async () => {
  const answer = await client.completions.create({ model: "", prompt: "One, two, three,", max_tokens: 4 });
  assert.equal(answer.choices[0].finish_reason, "length");
});

test("embeddings", async () => {
  const answer = await client.embeddings.create({ model: "", input: ["The sky is blue.", "A cat sleeps."] });
  assert.deepEqual(answer.data.map((item) => item.embedding.length), [576, 576]);
});

test("models and errors", async () => {
  const [model] = (await client.models.list()).data;
  assert.equal((await client.models.retrieve(model.id)).id, model.id);
  await assert.rejects(client.chat.completions.create({ ...chat, model: "gpt-4" }), OpenAI.NotFoundError);
  await assert.rejects(client.chat.completions.create({ ...chat, temperature: 3 }), OpenAI.BadRequestError);
});
