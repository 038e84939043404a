"""langchain-openai: the classes that its users make most."""

import asyncio
import sys

import httpx2
import pydantic
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

from strict import Replies

replies = Replies()
SERVER = {
    "base_url": f"{sys.argv[1]}/v1",
    "api_key": "EMPTY",
    "http_client": httpx2.Client(event_hooks=replies.hooks()),
    "http_async_client": httpx2.AsyncClient(event_hooks=replies.asynchronous_hooks()),
}
MESSAGES = [SystemMessage("You are a helpful assistant."), HumanMessage("What is the capital of France?")]

chat = ChatOpenAI(model="SmolLM2", max_tokens=12, temperature=0, **SERVER)
answer = chat.invoke(MESSAGES)
assert "Paris" in answer.content, answer
assert answer.usage_metadata["total_tokens"] > 0, answer
streamed = "".join(chunk.content for chunk in chat.stream(MESSAGES))
assert streamed == answer.content, streamed
assert all("Paris" in answer.content for answer in chat.batch([MESSAGES, MESSAGES]))
assert "Paris" in asyncio.run(chat.ainvoke(MESSAGES)).content


class City(pydantic.BaseModel):
    """Says which city it is."""
    name: str


talkative = ChatOpenAI(model="SmolLM2", max_tokens=100, temperature=0, **SERVER)
for method in ["json_schema", "function_calling"]:
    city = talkative.with_structured_output(City, method=method).invoke(MESSAGES)
    assert isinstance(city, City), (method, city)

for choice in ["any", "City"]:
    caller = talkative.bind_tools([City], tool_choice=choice, strict=True, parallel_tool_calls=False)
    called = caller.invoke(MESSAGES)
    (call,) = called.tool_calls
    City(**call["args"])
    chunks = list(caller.stream(MESSAGES))
    merged = chunks[0]
    for chunk in chunks[1:]:
        merged += chunk
    assert merged.tool_calls[0]["args"] == call["args"], merged
result = ToolMessage("It is.", tool_call_id=call["id"])
assert chat.bind_tools([City]).invoke([*MESSAGES, called, result]).type == "ai"

text = OpenAI(model="SmolLM2", max_tokens=4, temperature=0, **SERVER).invoke("One, two, three,")
assert text.strip(), text

# Otherwise the client would cut texts into tokens of OpenAI's models.
embeddings = OpenAIEmbeddings(model="SmolLM2", check_embedding_ctx_length=False, **SERVER)
first, second = embeddings.embed_documents(["The sky is blue.", "A cat sleeps."])
assert len(first) == len(second) == len(embeddings.embed_query("Hi")) == 576
assert replies.answered == {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"}, replies.answered
assert replies.streamed == {"/v1/chat/completions"}, replies.streamed
