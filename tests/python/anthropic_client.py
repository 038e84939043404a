"""Anthropic's official client: the calls that its users make most, with answers checked against its own types."""

import asyncio
import sys

import anthropic
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent

from strict import check, post

BASE = sys.argv[1]
CHAT = {
    "model": "",
    "max_tokens": 12,
    "system": "You are a helpful assistant.",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
}
GREEDY = {"temperature": 0}
LIGHT = {
    "name": "light",
    "description": "Switches a light.",
    "input_schema": {
        "type": "object",
        "properties": {"room": {"enum": ["kitchen", "hall"]}, "on": {"type": "boolean"}},
        "required": ["room", "on"],
        "additionalProperties": False,
    },
}
CALL = CHAT | {"tools": [LIGHT], "max_tokens": 60, "tool_choice": {"type": "tool", "name": "light"}}

client = anthropic.Anthropic(base_url=BASE, api_key="EMPTY")


def create(body, **more):
    # The client's newest version has no argument for the temperature.
    return client.messages.create(**body, **more, extra_body=GREEDY)


def chats():
    answer = create(CHAT)
    assert "Paris" in answer.content[0].text, answer
    assert answer.stop_reason in ("end_turn", "max_tokens"), answer

    events = list(create(CHAT, stream=True))
    assert [events[0].type, events[-1].type] == ["message_start", "message_stop"], events
    deltas = [event.delta for event in events if event.type == "content_block_delta"]
    assert "".join(delta.text for delta in deltas) == answer.content[0].text, deltas

    with client.messages.stream(**CHAT, extra_body=GREEDY) as stream:
        streamed = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert streamed == final.content[0].text == answer.content[0].text, streamed
    usage = final.usage
    count = client.messages.count_tokens(**{key: CHAT[key] for key in ("model", "system", "messages")})
    assert usage.input_tokens + usage.cache_read_input_tokens == count.input_tokens, usage

    # A client may leave a stream early.
    with create(CHAT, stream=True) as stream:
        next(iter(stream))


def ends():
    stopped = create(CHAT, stop_sequences=["Paris"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "Paris"), stopped
    prefilled = CHAT | {"messages": [*CHAT["messages"], {"role": "assistant", "content": "The capital of France is"}]}
    assert "Paris" in create(prefilled).content[0].text


def tools():
    """A call is read from a whole answer and from a stream. Then its result gets an answer."""
    answer = create(CALL)
    (call,) = answer.content
    assert (call.type, call.name, answer.stop_reason) == ("tool_use", "light", "tool_use"), answer
    assert call.input["room"] in ("kitchen", "hall"), answer
    with client.messages.stream(**CALL, extra_body=GREEDY) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    assert len(pieces) > 1, pieces
    assert final.content[0].input == call.input, final

    # The message is sent back unchanged.
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "done"}]}
    messages = [*CHAT["messages"], {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    goes_on = create(CALL | {"messages": messages, "tool_choice": {"type": "auto"}})
    assert goes_on.role == "assistant", goes_on


def errors():
    with_image = [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}]
    for error, body in [
        (anthropic.NotFoundError, CHAT | {"model": "claude"}),
        (anthropic.BadRequestError, CHAT | {"max_tokens": 0}),
        (anthropic.BadRequestError, CHAT | {"messages": with_image}),
    ]:
        try:
            create(body)
            raise AssertionError(f"no {error}")
        except error as told:
            assert told.body.keys() == {"type", "error", "request_id"}, told.body
            assert told.request_id == told.body["request_id"], told.body


async def at_once():
    asynchronous = anthropic.AsyncAnthropic(base_url=BASE, api_key="EMPTY")
    answers = [asynchronous.messages.create(**CHAT, extra_body=GREEDY) for _ in range(3)]
    texts = {answer.content[0].text for answer in await asyncio.gather(*answers)}
    async with asynchronous.messages.stream(**CHAT, extra_body=GREEDY) as stream:
        texts.add("".join([text async for text in stream.text_stream]))
    assert all("Paris" in text for text in texts), texts


def strictly():
    url = f"{BASE}/v1/messages"
    for body in [CHAT, CALL]:
        check(Message, post(url, body))
        lines = post(url, body | {"stream": True}).splitlines()
        for line in lines:
            if line.startswith("data: "):
                check(RawMessageStreamEvent, line.removeprefix("data: "))
    check(MessageTokensCount, post(f"{url}/count_tokens", CHAT))


chats()
ends()
tools()
errors()
asyncio.run(at_once())
strictly()
