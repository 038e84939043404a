// Agents' loops with the official client for Node: the model thinks, calls a tool, gets its result and answers, as its script says.

import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.env.TENON}/v1`, apiKey: "EMPTY" });
const QUESTION = "Do I need an umbrella in Bonn?";
const REASONING = ["I need the weather.", "It is dry."];
const TEXTS = ["I look.", "Take no umbrella."];
const ARGUMENTS = { city: "Bonn" };
const RESULT = "Dry until the evening.";
const parameters = {
  type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false,
};
const weather = { name: "weather", description: "The weather of today.", parameters };
const tools = [{ type: "function", strict: true, ...weather }];

/** The events of a response's stream by their types, without repeated deltas. */
const TURNS = [
  [...opened("reasoning_text"), ...opened("output_text"), ...called(), "response.completed"],
  [...opened("reasoning_text"), ...opened("output_text"), "response.completed"],
].map((events) => ["response.created", "response.in_progress", ...events]);

function opened(kind) {
  const names = ["output_item.added", "content_part.added", `${kind}.delta`, `${kind}.done`, "content_part.done", "output_item.done"];
  return names.map((name) => `response.${name}`);
}

function called() {
  const kind = "function_call_arguments";
  return ["output_item.added", `${kind}.delta`, `${kind}.done`, "output_item.done"].map((name) => `response.${name}`);
}

function result(response) {
  const call = response.output.at(-1);
  assert.deepEqual(JSON.parse(call.arguments), ARGUMENTS);
  return { type: "function_call_output", call_id: call.call_id, output: RESULT };
}

/** The output without ids, which differ, and without the keys that the client adds. */
function bare(output) {
  const left = ["id", "call_id", "parsed", "parsed_arguments"];
  return JSON.parse(JSON.stringify(output, (key, value) => (left.includes(key) ? undefined : value)));
}

test("a loop of responses, whole and as streams", async () => {
  const input = [{ role: "user", content: QUESTION }];
  for (const turn of [0, 1]) {
    const asked = { model: "", input, tools, reasoning: { effort: "low" } };
    const answer = await client.responses.create(asked);
    assert.equal(answer.output_text, TEXTS[turn]);
    assert.equal(answer.output[0].content[0].text, REASONING[turn]);
    assert.ok(answer.usage.output_tokens_details.reasoning_tokens > 0);

    const names = [];
    const stream = client.responses.stream(asked);
    let deltas = "";
    let number = 0;
    stream.on("event", (event) => {
      assert.equal(event.sequence_number, number++);
      if (names.at(-1) !== event.type) names.push(event.type);
    });
    stream.on("response.output_text.delta", (event) => (deltas += event.delta));
    const final = await stream.finalResponse();
    assert.deepEqual(names, TURNS[turn]);
    assert.equal(deltas, TEXTS[turn]);
    assert.deepEqual(bare(final.output), bare(answer.output));
    input.push(...answer.output);
    if (turn === 0) input.push(result(answer));
  }
});

test("a response that is kept, continued, listed and deleted", async () => {
  const first = await client.responses.create({ model: "", input: QUESTION, tools });
  const input = [result(first)];
  const second = await client.responses.create({ model: "", input, tools, previous_response_id: first.id });
  assert.equal(second.output_text, TEXTS[1]);
  const { output } = await client.responses.retrieve(second.id);
  assert.deepEqual(output, second.output);
  const kinds = [];
  for await (const item of client.responses.inputItems.list(second.id, { order: "asc", limit: 2 })) kinds.push(item.type);
  assert.deepEqual(kinds, ["message", "reasoning", "message", "function_call", "function_call_output"]);
  await assert.rejects(client.responses.cancel(second.id), OpenAI.BadRequestError);
  await client.responses.delete(first.id);
  await assert.rejects(client.responses.retrieve(first.id), OpenAI.NotFoundError);
});

test("a loop that the client runs by chats, whole and as streams", async () => {
  for (const stream of [false, true]) {
    const cities = [];
    const tell = ({ city }) => (cities.push(city), RESULT);
    const runner = client.chat.completions.runTools({
      model: "", stream, messages: [{ role: "user", content: QUESTION }],
      tools: [{ type: "function", function: { ...weather, function: tell, parse: JSON.parse } }],
    });
    assert.equal(await runner.finalContent(), TEXTS[1]);
    assert.deepEqual(cities, ["Bonn"]);
    const said = runner.messages.filter(({ role }) => role === "assistant");
    assert.deepEqual(said.map(({ content }) => content), TEXTS);
  }
});
