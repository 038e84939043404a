"""Checks that answers fit the own types of OpenAI and Anthropic exactly: their clients accept almost anything."""

import json
import urllib.request

from anthropic.types import Message, RawMessageStreamEvent
from openai.types import Completion, CreateEmbeddingResponse, Embedding
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter


class EncodedEmbedding(Embedding):
    """The client asks for vectors in base64, and decodes them itself."""
    embedding: list[float] | str


class EmbeddingReply(CreateEmbeddingResponse):
    data: list[EncodedEmbedding]


# The types of an answer and of an event of each route.
REPLIES = {
    "/v1/chat/completions": (ChatCompletion, ChatCompletionChunk),
    "/v1/completions": (Completion, Completion),
    "/v1/embeddings": (EmbeddingReply, None),
    "/v1/messages": (Message, RawMessageStreamEvent),
    "/v1/responses": (Response, ResponseStreamEvent),
}

# Keys that OpenAI and Anthropic always send, even if they are null. Their types allow them to be absent.
ALWAYS = {
    "ChatCompletion": {"usage"},
    "Choice": {"logprobs", "finish_reason"},
    "ChatCompletionMessage": {"content", "refusal"},
    "CompletionChoice": {"logprobs", "finish_reason"},
    "Message": {"stop_reason", "stop_sequence"},
}
# Tenon's own keys, which the API's documentation describes.
OWN = {
    "Model": {
        "aliases", "backend", "architecture", "parameters", "quantization", "requantize_levels", "context_length",
        "embeddings", "sampling", "state",
    },
    "ChatCompletionMessage": {"reasoning_content"},
    "ChoiceDelta": {"reasoning_content"},
    "Response": {"presence_penalty", "frequency_penalty", "store", "system_fingerprint", "warnings"},
    "ResponseCustomToolCall": {"status"},
    "Logprob": {"bytes"},
    "LogprobTopLogprob": {"bytes"},
}


def post(url, body):
    """The answer's text."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return response.read().decode()


def data(text):
    """The data of a stream's events."""
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


def events(text):
    """The data of a stream's events in OpenAI's form, without the final `[DONE]`."""
    *sent, last = data(text)
    assert last == "[DONE]", text
    return sent


def read(kind, text):
    """Reads JSON as this type. Reports keys that are missing or of another type."""
    return TypeAdapter(kind).validate_json(text, strict=True)


def check(kind, text):
    """Reads JSON as this type of OpenAI or Anthropic. Reports keys that are missing, unknown or of another type."""
    value = read(kind, text)
    check_keys(value)
    return value


def check_keys(value):
    if isinstance(value, list):
        for item in value:
            check_keys(item)
    if isinstance(value, BaseModel):
        name = type(value).__name__
        unknown = set(value.model_extra or {}) - OWN.get(name, set())
        assert not unknown, f"{name} has {unknown}: {value}"
        missing = ALWAYS.get(name, set()) - value.model_fields_set
        assert not missing, f"{name} lacks {missing}: {value}"
        for key in type(value).model_fields:
            check_keys(getattr(value, key))


class Replies:
    """Checks all replies that a client of another package gets. It is a hook of the client's HTTP client."""

    def __init__(self):
        # Routes of which there was an answer, and routes of which there was a stream.
        self.answered, self.streamed = set(), set()

    def hooks(self):
        return {"response": [self.check]}

    def asynchronous_hooks(self):
        return {"response": [self.check_asynchronously]}

    def check(self, response):
        response.read()
        self.check_text(response)

    async def check_asynchronously(self, response):
        await response.aread()
        self.check_text(response)

    def check_text(self, response):
        if response.status_code != 200:
            return
        path = response.request.url.path
        answer, event = REPLIES[path]
        if response.headers["content-type"] == "text/event-stream":
            self.streamed.add(path)
            split = data if path == "/v1/messages" else events
            for sent in split(response.text):
                check(event, sent)
        else:
            self.answered.add(path)
            check(answer, response.text)
