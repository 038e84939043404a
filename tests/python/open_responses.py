"""The compliance tests of the Open Responses specification, with answers and events checked against its own types.

The model calls a function in its first turn and answers in its second one. It does not read images.
"""

import json
import sys
import urllib.error
from typing import Union

import openresponses_types.types as specification

from strict import data, post, read

URL = f"{sys.argv[1]}/v1/responses"
EVENT = Union[tuple(kind for name, kind in vars(specification).items() if name.endswith("StreamingEvent"))]
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a place.",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}
IMAGE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def said(role, content):
    return {"type": "message", "role": role, "content": content}


HELLO = [said("user", "Say hello in exactly 3 words.")]
TURNS = [said("user", "My name is Alice."), said("assistant", "Hello Alice!"), said("user", "What is my name?")]
CASES = {
    "a text": {"input": HELLO},
    "a system message": {"input": [said("system", "You are a pirate."), *HELLO]},
    "a call": {"input": [said("user", "What's the weather like in San Francisco?")], "tools": [WEATHER]},
    "several turns": {"input": TURNS},
}


def events(body):
    """The events of a stream, each checked, and named as its type says."""
    text = post(URL, body | {"stream": True})
    *sent, done = data(text)
    assert done == "[DONE]", text
    names = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert names == [json.loads(event)["type"] for event in sent], names
    return [read(EVENT, event) for event in sent]


def kinds_of(response):
    assert response.status == "completed" and response.output, response
    return [item.type for item in response.output]


for name, case in CASES.items():
    body = {"model": "", **case}
    whole = read(specification.ResponseResource, post(URL, body))
    streamed = events(body)
    assert kinds_of(whole) == kinds_of(streamed[-1].response), name
    assert [event.sequence_number for event in streamed] == list(range(len(streamed))), streamed
    if name == "a call":
        assert "function_call" in kinds_of(whole), whole
        kinds = {(event.type, getattr(getattr(event, "item", None), "type", None)) for event in streamed}
        assert kinds >= {
            ("response.output_item.added", "function_call"),
            ("response.function_call_arguments.delta", None),
            ("response.function_call_arguments.done", None),
            ("response.output_item.done", "function_call"),
        }, kinds

try:
    content = [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": IMAGE}]
    raise AssertionError(post(URL, {"model": "", "input": [said("user", content)]}))
except urllib.error.HTTPError as refused:
    error = json.load(refused)["error"]
    assert (refused.code, error["param"]) == (400, "input[0].content[1]"), error
