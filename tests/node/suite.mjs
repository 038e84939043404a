// The official client for Node: the calls that its users make most.

import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

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

test("responses, whole and as streams", async () => {
  const [{ content: instructions }, { content: input }] = chat.messages;
  const body = { model: "", instructions, input, max_output_tokens: 12, temperature: 0 };
  const answer = await client.responses.create(body);
  assert.match(answer.output_text, /Paris/);
  const stream = client.responses.stream(body);
  let deltas = "";
  stream.on("response.output_text.delta", (event) => (deltas += event.delta));
  const final = await stream.finalResponse();
  assert.equal(final.output[0].content[0].text, answer.output_text);
  assert.equal(deltas, answer.output_text);
});

test("responses that are parsed by zod", async () => {
  const City = z.object({ name: z.string().max(20), isCapital: z.boolean() });
  const [{ content: instructions }, { content: input }] = chat.messages;
  const body = { model: "", instructions, input, max_output_tokens: 60, temperature: 0 };
  const answer = await client.responses.parse({ ...body, text: { format: zodTextFormat(City, "city") } });
  assert.equal(typeof answer.output_parsed.isCapital, "boolean");
  const tools = [zodResponsesFunction({ name: "tell", parameters: City })];
  const called = await client.responses.parse({ ...body, tools, tool_choice: "required", parallel_tool_calls: false });
  // The package puts the whole call into `parsed_arguments`, with the parsed arguments in it once more.
  const [{ parsed_arguments: call }] = called.output;
  assert.equal(typeof (call.parsed_arguments ?? call).isCapital, "boolean");
});

test("answers of a JSON schema", async () => {
  const schema = { type: "object", properties: { name: { type: "string" } }, required: ["name"], additionalProperties: false };
  const response_format = { type: "json_schema", json_schema: { name: "city", strict: true, schema } };
  const answer = await client.chat.completions.parse({ ...chat, max_tokens: 40, response_format });
  assert.equal(typeof JSON.parse(answer.choices[0].message.content).name, "string");
});

test("answers and arguments that are parsed by zod", async () => {
  const City = z.object({ name: z.string().max(20), isCapital: z.boolean() });
  const body = { ...chat, max_tokens: 60 };
  const answer = await client.chat.completions.parse({ ...body, response_format: zodResponseFormat(City, "city") });
  const { parsed } = answer.choices[0].message;
  assert.equal(typeof parsed.isCapital, "boolean");
  const tools = [zodFunction({ name: "tell", parameters: City })];
  const called = await client.chat.completions.parse({ ...body, tools, tool_choice: "required", parallel_tool_calls: false });
  const [call] = called.choices[0].message.tool_calls;
  assert.equal(called.choices[0].finish_reason, "tool_calls");
  assert.equal(typeof call.function.parsed_arguments.isCapital, "boolean");
});

test("a call that has to be made, as a stream and run", async () => {
  const parameters = { type: "object", properties: { on: { type: "boolean" } }, required: ["on"], additionalProperties: false };
  const tool_choice = { type: "function", function: { name: "light" } };
  const body = { ...chat, max_tokens: 60, tool_choice };
  const stream = client.chat.completions.stream({ ...body, tools: [{ type: "function", function: { name: "light", parameters } }] });
  let deltas = "";
  stream.on("tool_calls.function.arguments.delta", (event) => (deltas += event.arguments_delta));
  const choice = (await stream.finalChatCompletion()).choices[0];
  assert.equal(choice.finish_reason, "stop");
  assert.equal(deltas, choice.message.tool_calls[0].function.arguments);

  const told = [];
  const light = (argument) => void told.push(argument.on);
  const runner = client.chat.completions.runTools({
    ...body, tools: [{ type: "function", function: { name: "light", function: light, parse: JSON.parse, parameters } }],
  });
  await runner.done();
  assert.deepEqual(told.map((on) => typeof on), ["boolean"]);
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
