"""litellm, called as its users call an OpenAI-compatible server."""

import asyncio
import json
import os
import sys

# Otherwise litellm would look for prices on the internet.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import httpx
import litellm

from strict import Replies

replies = Replies()
litellm.client_session = httpx.Client(event_hooks=replies.hooks())
litellm.aclient_session = httpx.AsyncClient(event_hooks=replies.asynchronous_hooks())
SERVER = {"model": "openai/SmolLM2", "api_base": f"{sys.argv[1]}/v1", "api_key": "EMPTY"}
CHAT = {
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is the capital of France?"},
    ],
    "max_tokens": 12,
    "temperature": 0,
}

answer = litellm.completion(**SERVER, **CHAT)
assert "Paris" in answer.choices[0].message.content, answer
assert answer.usage.total_tokens > 0, answer
chunks = litellm.completion(**SERVER, **CHAT, stream=True)
streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
assert streamed == answer.choices[0].message.content, streamed
assert "Paris" in asyncio.run(litellm.acompletion(**SERVER, **CHAT)).choices[0].message.content

parameters = {
    "type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"], "additionalProperties": False,
}
tools = [{"type": "function", "function": {"name": "light", "parameters": parameters}}]
call = CHAT | {"tools": tools, "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 60}
called = litellm.completion(**SERVER, **call).choices[0]
assert called.finish_reason == "tool_calls", called
arguments = called.message.tool_calls[0].function.arguments
assert json.loads(arguments).keys() == {"on"}, called
rebuilt = litellm.stream_chunk_builder(list(litellm.completion(**SERVER, **call, stream=True)))
assert rebuilt.choices[0].message.tool_calls[0].function.arguments == arguments, rebuilt

text = litellm.text_completion(
    **SERVER | {"model": "text-completion-openai/SmolLM2"}, prompt="One, two, three,", max_tokens=4
)
assert text.choices[0].text, text
embedding = litellm.embedding(**SERVER, input=["The sky is blue."])
assert len(embedding.data[0]["embedding"]) == 576, embedding

try:
    litellm.completion(**SERVER | {"model": "openai/gpt-4"}, **CHAT)
    raise AssertionError("a model that does not exist answered")
except litellm.NotFoundError:
    pass

assert replies.answered == {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"}, replies.answered
assert replies.streamed == {"/v1/chat/completions"}, replies.streamed
