"""The official client: the calls that its users make most, with answers checked against its own types."""

import asyncio
import sys
from typing import Literal

import openai
import pydantic
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent

from strict import check, events, post

BASE = f"{sys.argv[1]}/v1"
MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]
CHAT = {"model": "", "messages": MESSAGES, "max_tokens": 12, "temperature": 0}

client = openai.OpenAI(base_url=BASE, api_key="EMPTY")


def chats():
    answer = client.chat.completions.create(**CHAT)
    assert "Paris" in answer.choices[0].message.content, answer
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens

    chunks = client.chat.completions.create(**CHAT, stream=True)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert streamed == answer.choices[0].message.content, streamed

    with client.chat.completions.stream(**CHAT) as stream:
        deltas = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    assert deltas == final.choices[0].message.content == streamed, deltas

    # A client may leave a stream early.
    with client.chat.completions.create(**CHAT, stream=True) as stream:
        next(iter(stream))


def parsed():
    """`.parse` sends the JSON schema of a class, and converts the answer to an object of that class."""
    class City(pydantic.BaseModel):
        name: str
        is_capital: bool

    body = CHAT | {"max_tokens": 40}
    answer = client.chat.completions.parse(**body, response_format=City)
    city = answer.choices[0].message.parsed
    assert isinstance(city, City), answer
    with client.chat.completions.stream(**body, response_format=City) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == city, final


class Light(pydantic.BaseModel):
    """Switches a light."""
    room: Literal["kitchen", "hall"]
    on: bool


CALL = CHAT | {"tools": [openai.pydantic_function_tool(Light)], "max_tokens": 60, "parallel_tool_calls": False}
NAMED = {"type": "function", "function": {"name": "Light"}}


def tools():
    """Required calls are parsed, from a whole answer and from a stream. Then a result gets its answer."""
    for choice, reason in [("required", "tool_calls"), (NAMED, "stop")]:
        answer = client.chat.completions.parse(**CALL, tool_choice=choice).choices[0]
        (call,) = answer.message.tool_calls
        assert isinstance(call.function.parsed_arguments, Light), answer
        assert answer.finish_reason == reason, answer
        with client.chat.completions.stream(**CALL, tool_choice=choice) as stream:
            events = [event for event in stream if event.type.startswith("tool_calls.")]
            final = stream.get_final_completion().choices[0]
        (streamed,) = final.message.tool_calls
        assert streamed.function.parsed_arguments == call.function.parsed_arguments, final
        assert final.finish_reason == reason, final
        *deltas, done = events
        assert len(deltas) > 1 and all(event.type.endswith("arguments.delta") for event in deltas), events
        assert "".join(event.arguments_delta for event in deltas) == done.arguments == streamed.function.arguments

    # The message is sent back unchanged.
    result = {"role": "tool", "tool_call_id": call.id, "content": "done"}
    conversation = CHAT | {"messages": [*MESSAGES, answer.message, result]}
    assert client.chat.completions.create(**conversation, tools=CALL["tools"]).choices[0].message.role == "assistant"
    silent = client.chat.completions.create(**CALL, tool_choice="none").choices[0]
    assert silent.message.tool_calls is None and silent.message.content, silent


RESPONSE = {
    "model": "", "instructions": MESSAGES[0]["content"], "input": MESSAGES[1]["content"], "max_output_tokens": 12,
    "temperature": 0,
}
RESPONSE_TOOLS = [
    {"type": "function", **openai.pydantic_function_tool(Light)["function"]},
    {
        "type": "custom", "name": "write",
        "format": {"type": "grammar", "syntax": "regex", "definition": "[0-9]{2}:[0-9]{2}"},
    },
]
CALLED_RESPONSE = RESPONSE | {"tools": RESPONSE_TOOLS[:1], "tool_choice": "required", "max_output_tokens": 60}


def responses():
    answer = client.responses.create(**RESPONSE)
    assert "Paris" in answer.output_text and answer.status == "completed", answer
    stream = client.responses.create(**RESPONSE, stream=True)
    streamed = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    with client.responses.stream(**RESPONSE) as stream:
        deltas = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert streamed == deltas == final.output_text == answer.output_text, final
    parsed = client.responses.parse(**RESPONSE | {"max_output_tokens": 60}, text_format=Light)
    assert isinstance(parsed.output_parsed, Light), parsed


def responses_with_tools():
    """Each tool is called. Then a result gets its answer."""
    for tool in RESPONSE_TOOLS:
        kind = tool["type"]
        called = CALLED_RESPONSE | {"tools": [tool], "tool_choice": {"type": kind, "name": tool["name"]}}
        answer = client.responses.parse(**called)
        (call,) = answer.output
        if kind == "function":
            Light.model_validate(call.parsed_arguments)
        with client.responses.stream(**called) as stream:
            deltas = "".join(event.delta for event in stream if event.type.endswith(".delta"))
            (streamed,) = stream.get_final_response().output
        assert deltas == (streamed.arguments if kind == "function" else streamed.input), streamed
        # The items are sent back unchanged.
        question = {"role": "user", "content": MESSAGES[1]["content"]}
        result = {"type": f"{call.type}_output", "call_id": call.call_id, "output": "done"}
        conversation = called | {"input": [question, *answer.output, result], "tool_choice": "none"}
        assert client.responses.create(**conversation).output_text


def several_with_log_probabilities():
    answer = client.chat.completions.create(**CHAT | {"temperature": 1}, n=2, logprobs=True, top_logprobs=2)
    assert [choice.index for choice in answer.choices] == [0, 1], answer
    for choice in answer.choices:
        # max_tokens may cut a character: the text then ends with U+FFFD.
        text = b"".join(bytes(token.bytes) for token in choice.logprobs.content).decode(errors="replace")
        assert text == choice.message.content, choice
        assert all(len(token.top_logprobs) == 2 for token in choice.logprobs.content), choice


def completions():
    body = {"model": "", "prompt": "One, two, three,", "max_tokens": 4, "temperature": 0}
    answer = client.completions.create(**body)
    streamed = "".join(chunk.choices[0].text for chunk in client.completions.create(**body, stream=True))
    assert answer.choices[0].text == streamed != "", answer
    assert answer.choices[0].finish_reason == "length", answer


def embeddings():
    answer = client.embeddings.create(model="", input=["The sky is blue.", "The sky is blue."])
    first, second = (item.embedding for item in answer.data)
    assert abs(sum(x * y for x, y in zip(first, second)) - 1) < 0.01, answer
    short = client.embeddings.create(model="", input="The sky is blue.", dimensions=8, encoding_format="float")
    assert len(short.data[0].embedding) == 8, short


def models_and_errors():
    (model,) = client.models.list()
    assert client.models.retrieve(model.id).id == model.id
    for error, call in [
        (openai.NotFoundError, lambda: client.chat.completions.create(**CHAT | {"model": "gpt-4"})),
        (openai.BadRequestError, lambda: client.chat.completions.create(**CHAT | {"temperature": 3})),
        (openai.BadRequestError, lambda: client.responses.create(model="", input="Hi", background=True)),
    ]:
        try:
            call()
            raise AssertionError(f"no {error}")
        except error as told:
            assert told.body.keys() == {"message", "type", "param", "code"}, told.body


async def at_once():
    asynchronous = openai.AsyncOpenAI(base_url=BASE, api_key="EMPTY")
    answers = [asynchronous.chat.completions.create(**CHAT) for _ in range(3)]
    texts = {answer.choices[0].message.content for answer in await asyncio.gather(*answers)}
    stream = await asynchronous.chat.completions.create(**CHAT, stream=True)
    texts.add("".join([chunk.choices[0].delta.content or "" async for chunk in stream]))
    assert all("Paris" in text for text in texts), texts
    called = await asynchronous.chat.completions.parse(**CALL, tool_choice="required")
    assert isinstance(called.choices[0].message.tool_calls[0].function.parsed_arguments, Light), called


def strictly():
    check(ChatCompletion, post(f"{BASE}/chat/completions", CHAT))
    scored = CHAT | {"n": 2, "logprobs": True, "top_logprobs": 2}
    check(ChatCompletion, post(f"{BASE}/chat/completions", scored))
    streamed = scored | {"stream": True, "stream_options": {"include_usage": True}}
    for event in events(post(f"{BASE}/chat/completions", streamed)):
        check(ChatCompletionChunk, event)
    for choice in ["required", NAMED]:
        called = CALL | {"tool_choice": choice}
        check(ChatCompletion, post(f"{BASE}/chat/completions", called))
        for event in events(post(f"{BASE}/chat/completions", called | {"stream": True})):
            check(ChatCompletionChunk, event)
    for body in [
        RESPONSE | {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
        RESPONSE | {"max_output_tokens": 2, "text": {"format": {"type": "json_object"}}},
        CALLED_RESPONSE,
        CALLED_RESPONSE | {"tools": RESPONSE_TOOLS[1:2]},
    ]:
        check(Response, post(f"{BASE}/responses", body))
        for event in events(post(f"{BASE}/responses", body | {"stream": True})):
            check(ResponseStreamEvent, event)
    plain = {"model": "", "prompt": "One, two,", "max_tokens": 4, "logprobs": 2}
    check(Completion, post(f"{BASE}/completions", plain))
    check(CreateEmbeddingResponse, post(f"{BASE}/embeddings", {"model": "", "input": "Hi"}))
    (model,) = client.models.list()
    check(Model, client.models.with_raw_response.retrieve(model.id).text)


chats()
parsed()
tools()
responses()
responses_with_tools()
several_with_log_probabilities()
completions()
embeddings()
models_and_errors()
asyncio.run(at_once())
strictly()
