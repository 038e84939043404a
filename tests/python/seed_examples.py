"""The Python examples of the API's documentation against the server at the given address, then the same as streams.

The examples are verbatim, except for the address, and for `.text` where a completion's choice has no `.message`.
"""

import sys

import openai

client = openai.OpenAI(
    base_url=f"{sys.argv[1]}/v1",
    api_key = "EMPTY"
)

completion = client.chat.completions.create(
model="",
messages=[
    {"role": "system", "content": "You are Mistral.rs, an AI assistant."},
    {"role": "user", "content": "Write a story about Rust error handling."}
]
)

print(completion.choices[0].message)
assert completion.choices[0].message.role == "assistant"
# Its length is random.
assert isinstance(completion.choices[0].message.content, str)
assert completion.choices[0].finish_reason in ("stop", "length")

completion = client.completions.create(
    model="mistral",
    prompt="What is Rust?",
    max_tokens=256,
    frequency_penalty=1.0,
    top_p=0.1,
    temperature=0,
)

print(completion.choices[0].text)
answer = completion.choices[0].text
assert "Rust" in answer, answer

chunks = client.completions.create(
    model="mistral",
    prompt="What is Rust?",
    max_tokens=256,
    frequency_penalty=1.0,
    top_p=0.1,
    temperature=0,
    stream=True,
)
streamed = "".join(chunk.choices[0].text for chunk in chunks)
assert streamed == answer, streamed

chunks = list(client.chat.completions.create(
    model="mistral",
    messages=[
        {"role": "system", "content": "You are Mistral.rs, an AI assistant."},
        {"role": "user", "content": "What is the capital of France?"}
    ],
    max_completion_tokens=32,
    temperature=0,
    stream=True,
    stream_options={"include_usage": True},
))
*pieces, last = chunks
streamed = "".join(chunk.choices[0].delta.content or "" for chunk in pieces)
print(streamed)
assert "Paris" in streamed, streamed
assert pieces[-1].choices[0].finish_reason == "stop", pieces[-1]
assert last.choices == [] and last.usage.completion_tokens > 0, last

(model,) = client.models.list()
assert client.models.retrieve("mistral") == model, model
try:
    client.completions.create(model="gpt-4", prompt="Hi")
    raise AssertionError("a model that does not exist answered")
except openai.NotFoundError as error:
    assert error.code == "model_not_found", error
    assert model.id in error.message, error
