"""Agents' loops with clients that people use: the model thinks, calls a tool, gets its result and answers, as its script says.

Every item, block and event is checked against the clients' own types.
"""

import asyncio
import json
import os
import sys

import anthropic
import httpx2
import openai
from agents import (
    Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled,
)
from anthropic.types import Message, RawMessageStreamEvent
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from openai.types.responses import Response, ResponseItem, ResponseStreamEvent

from strict import Replies, check, data, events, post

# Otherwise litellm would look for prices on the internet.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

BASE = sys.argv[1]
QUESTION = "Do I need an umbrella in Bonn?"
REASONING = ["I need the weather.", "It is dry."]
TEXTS = ["I look.", "Take no umbrella."]
ARGUMENTS = {"city": "Bonn"}
RESULT = "Dry until the evening."
SCHEMA = {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False,
}
DESCRIPTION = "The weather of today."
FUNCTION = {"name": "weather", "description": DESCRIPTION, "parameters": SCHEMA}

client = openai.OpenAI(base_url=f"{BASE}/v1", api_key="EMPTY")


def responses():
    """Two turns of a loop, whole and as streams. The items go back as they came."""
    items = [{"role": "user", "content": QUESTION}]
    body = {"model": "", "tools": [{"type": "function", "strict": True, **FUNCTION}], "reasoning": {"effort": "low"}}
    for turn in range(2):
        asked = body | {"input": items}
        answer = check(Response, post(f"{BASE}/v1/responses", asked))
        for event in events(post(f"{BASE}/v1/responses", asked | {"stream": True})):
            check(ResponseStreamEvent, event)
        with client.responses.stream(**asked) as stream:
            reasoning = "".join(event.delta for event in stream if event.type == "response.reasoning_text.delta")
            final = stream.get_final_response()
        assert reasoning == REASONING[turn], reasoning
        assert [item.type for item in final.output] == [item.type for item in answer.output], final
        assert answer.output_text == TEXTS[turn], answer
        assert answer.output[0].content[0].text == REASONING[turn], answer
        assert answer.usage.output_tokens_details.reasoning_tokens > 0, answer
        items += [item.model_dump(exclude_none=True) for item in answer.output]
        if turn == 0:
            call = answer.output[-1]
            assert json.loads(call.arguments) == ARGUMENTS, call
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": RESULT})


def kept():
    """A response is kept, continued, listed and deleted."""
    tools = [{"type": "function", "strict": True, **FUNCTION}]
    first = client.responses.create(model="", input=QUESTION, tools=tools)
    result = {"type": "function_call_output", "call_id": first.output[-1].call_id, "output": RESULT}
    second = client.responses.create(model="", input=[result], tools=tools, previous_response_id=first.id)
    assert second.output_text == TEXTS[1], second
    check(Response, client.responses.with_raw_response.retrieve(second.id).text)
    assert client.responses.retrieve(second.id) == second
    raw = client.responses.input_items.with_raw_response.list(second.id, order="asc")
    listed = [check(ResponseItem, json.dumps(item)) for item in json.loads(raw.text)["data"]]
    assert [item.id for item in listed[1:-1]] == [item.id for item in first.output], listed
    pages = client.responses.input_items.list(second.id, order="asc", limit=2)
    assert [item.id for item in pages] == [item.id for item in listed], pages
    client.responses.delete(first.id)
    try:
        client.responses.retrieve(first.id)
        raise AssertionError("a deleted response was found")
    except openai.NotFoundError:
        pass


TOOL = {"name": "weather", "description": DESCRIPTION, "input_schema": SCHEMA}
ASKED = {"model": "claude-x", "max_tokens": 500, "tools": [TOOL], "thinking": {"type": "enabled", "budget_tokens": 200}}


def check_message(message, turn):
    thinking, text, *calls = message.content
    assert (thinking.type, thinking.thinking, text.text) == ("thinking", REASONING[turn], TEXTS[turn]), message
    assert [call.input for call in calls] == [ARGUMENTS][turn:], message
    assert message.stop_reason == ["tool_use", "end_turn"][turn], message


def say_result(message):
    result = {"type": "tool_result", "tool_use_id": message.content[-1].id, "content": RESULT}
    return [{"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]


def messages():
    replies = Replies()
    http = httpx2.Client(event_hooks=replies.hooks())
    claude = anthropic.Anthropic(base_url=BASE, api_key="EMPTY", http_client=http)
    said = [{"role": "user", "content": QUESTION}]
    for turn in range(2):
        answer = claude.messages.create(**ASKED, messages=said)
        check_message(answer, turn)
        plain = [{**message, "content": dumped(message["content"])} for message in said]
        check(Message, post(f"{BASE}/v1/messages", ASKED | {"messages": plain}))
        for event in data(post(f"{BASE}/v1/messages", ASKED | {"messages": plain, "stream": True})):
            check(RawMessageStreamEvent, event)
        said += say_result(answer) if turn == 0 else []
    assert replies.answered == {"/v1/messages"}


def dumped(content):
    if isinstance(content, str):
        return content
    return [block if isinstance(block, dict) else block.model_dump(exclude_none=True) for block in content]


async def asynchronous_messages():
    replies = Replies()
    http = httpx2.AsyncClient(event_hooks=replies.asynchronous_hooks())
    asynchronous = anthropic.AsyncAnthropic(base_url=BASE, api_key="EMPTY", http_client=http)
    said = [{"role": "user", "content": QUESTION}]
    for turn in range(2):
        async with asynchronous.messages.stream(**ASKED, messages=said) as stream:
            reasoning = "".join([event.thinking async for event in stream if event.type == "thinking"])
            final = await stream.get_final_message()
        assert reasoning == REASONING[turn], reasoning
        check_message(final, turn)
        said += say_result(final) if turn == 0 else []
    assert replies.streamed == {"/v1/messages"}


async def agents_sdk():
    """The SDK runs the whole loop, through either API, and as a stream."""
    set_tracing_disabled(True)
    asked = []

    @function_tool
    def weather(city: str) -> str:
        """The weather of today."""
        asked.append(city)
        return RESULT

    replies = Replies()
    http = httpx2.AsyncClient(event_hooks=replies.asynchronous_hooks())
    server = openai.AsyncOpenAI(base_url=f"{BASE}/v1", api_key="EMPTY", http_client=http)
    for face in [OpenAIResponsesModel, OpenAIChatCompletionsModel]:
        agent = Agent(name="agent", instructions="Be brief.", tools=[weather], model=face("model", openai_client=server))
        result = await Runner.run(agent, QUESTION)
        assert result.final_output == TEXTS[1], result
        streamed = Runner.run_streamed(agent, QUESTION)
        async for _ in streamed.stream_events():
            pass
        assert streamed.final_output == TEXTS[1], streamed
    assert asked == ["Bonn"] * 4, asked
    assert replies.answered == replies.streamed == {"/v1/responses", "/v1/chat/completions"}


def langchain():
    replies = Replies()
    http = httpx2.Client(event_hooks=replies.hooks())
    chat = ChatOpenAI(model="model", base_url=f"{BASE}/v1", api_key="EMPTY", use_responses_api=True, http_client=http)
    chat = chat.bind_tools([{"type": "function", "function": FUNCTION}])
    said = [HumanMessage(QUESTION)]
    for turn in range(2):
        answer = chat.invoke(said)
        assert answer.text == TEXTS[turn], answer
        chunks = list(chat.stream(said))
        merged = chunks[0]
        for chunk in chunks[1:]:
            merged += chunk
        assert merged.text == TEXTS[turn], merged
        if turn == 0:
            (call,) = answer.tool_calls
            assert call["args"] == merged.tool_calls[0]["args"] == ARGUMENTS, answer
            said += [answer, ToolMessage(RESULT, tool_call_id=call["id"])]
    assert replies.answered == replies.streamed == {"/v1/responses"}


async def litellm_adapters():
    """LiteLLM's own faces of both APIs, and its chats by way of Anthropic's."""
    server = {"api_key": "EMPTY", "api_base": f"{BASE}/v1"}
    tools = [{"type": "function", "strict": True, **FUNCTION}]
    answer = await litellm.aresponses(model="openai/model", input=QUESTION, tools=tools, **server)
    kinds = [item.type for item in answer.output]
    assert kinds == ["reasoning", "message", "function_call"], answer
    assert json.loads(answer.output[-1].arguments) == ARGUMENTS, answer
    check(Response, answer.model_dump_json(exclude_unset=True))
    replies = Replies()
    server = {"api_key": "EMPTY", "api_base": BASE, "client": AsyncHTTPHandler(event_hooks=replies.asynchronous_hooks())}
    said = [{"role": "user", "content": QUESTION}]
    answer = await litellm.anthropic.messages.acreate(**ASKED | {"model": "anthropic/claude-x"}, messages=said, **server)
    assert [block["type"] for block in answer["content"]] == ["thinking", "text", "tool_use"], answer
    chat = {"model": "anthropic/claude-x", "messages": said, "tools": [{"type": "function", "function": FUNCTION}]}
    streamed = [chunk async for chunk in await litellm.acompletion(**chat, **server, stream=True)]
    for whole in [await litellm.acompletion(**chat, **server), litellm.stream_chunk_builder(streamed)]:
        message = whole.choices[0].message
        assert (message.reasoning_content, message.content) == (REASONING[0], TEXTS[0]), message
        assert json.loads(message.tool_calls[0].function.arguments) == ARGUMENTS, message
    assert replies.answered == replies.streamed == {"/v1/messages"}


responses()
kept()
messages()
asyncio.run(asynchronous_messages())
asyncio.run(agents_sdk())
langchain()
asyncio.run(litellm_adapters())
