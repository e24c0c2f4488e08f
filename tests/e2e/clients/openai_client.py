"""Uses the server as a program with the official Python client would.

usage: openai_client.py BASE_URL CHECK...

Prints OK, or what was not as it should be, and then fails.
"""

import sys

import openai

BASE_URL = sys.argv[1]

# Every request that leaves, repetitions included.
requests = []


def client(session, **headers):
    """A client whose conversation is `session`; it repeats requests as it does by default."""
    requests.clear()
    count = {"request": [requests.append]}
    return openai.OpenAI(
        base_url=BASE_URL,
        api_key="unused",
        default_headers={"X-Synthesis-Session": f"python-{session}", **headers},
        http_client=openai.DefaultHttpxClient(event_hooks=count),
    )


def ask(text):
    return {"model": "synthesis", "messages": [{"role": "user", "content": text}]}


def equal(found, wanted):
    if found != wanted:
        raise AssertionError(f"{found!r} is not {wanted!r}")


def raised(kind, call):
    """The exception that `call` raises; it must be of exactly this kind."""
    try:
        found = call()
    except openai.OpenAIError as error:
        equal(type(error), kind)
        return error
    raise AssertionError(f"no {kind.__name__}, but {found!r}")


def whole():
    one = client("whole")
    answer = one.chat.completions.create(**ask("first"))
    equal(answer.object, "chat.completion")
    equal(answer.model, "synthesis")
    equal(answer.choices[0].message.role, "assistant")
    equal(answer.choices[0].message.content, "echo: first")
    equal(answer.choices[0].finish_reason, "stop")
    equal(answer._request_id[:4], "req_")
    usage = answer.usage
    equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
    # The conversation as clients keep it: all of it, every time.
    told = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": answer.choices[0].message.content},
        {"role": "user", "content": [{"type": "text", "text": "second"}]},
    ]
    answer = one.chat.completions.create(model="synthesis", messages=told)
    equal(answer.choices[0].message.content, "echo: second")


def streamed():
    chunks = list(client("streamed").chat.completions.create(**ask("CHUNKS 3"), stream=True))
    equal(chunks[0].choices[0].delta.role, "assistant")
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    equal(text.split(), ["chunk", "1/3", "chunk", "2/3", "chunk", "3/3"])
    equal([c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason], ["stop"])
    equal({chunk.id for chunk in chunks}, {chunks[0].id})


def helper():
    with client("helper").chat.completions.stream(
        **ask("CHUNKS 3"), stream_options={"include_usage": True}
    ) as stream:
        events = list(stream)
        completion = stream.get_final_completion()
    text = completion.choices[0].message.content
    equal("".join(event.delta for event in events if event.type == "content.delta"), text)
    equal([event.content for event in events if event.type == "content.done"], [text])
    equal(text.split()[-1], "3/3")
    equal(completion.choices[0].finish_reason, "stop")
    usage = completion.usage
    equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
    assert usage.completion_tokens > 0, usage


def models():
    one = client("models")
    listed = list(one.models.list())
    equal(listed[0].id, "synthesis")
    equal([one.models.retrieve(model.id) for model in listed], listed)
    error = raised(openai.NotFoundError, lambda: one.models.retrieve("other"))
    equal((error.code, error.param), ("model_not_found", "model"))


def unknown_model():
    create = client("unknown").chat.completions.create
    error = raised(openai.NotFoundError, lambda: create(**{**ask("hello"), "model": "other"}))
    equal((error.code, error.param), ("model_not_found", "model"))
    equal(error.type, "invalid_request_error")
    equal(len(requests), 1)


def refused():
    create = client("refused", Origin="http://elsewhere.example").chat.completions.create
    error = raised(openai.PermissionDeniedError, lambda: create(**ask("hello")))
    equal(error.code, "foreign_origin")
    equal(error.request_id, error.response.headers["x-request-id"])
    equal(len(requests), 1)
    equal(error.response.headers["x-should-retry"], "false")


def broken():
    """A 502 is one that clients repeat unless they are told not to."""
    create = client("broken").chat.completions.create
    error = raised(openai.InternalServerError, lambda: create(**ask("EXIT 3")))
    equal((error.status_code, error.code), (502, "process_ended"))
    equal(len(requests), 1)
    equal(error.response.headers["x-should-retry"], "false")


def broken_stream():
    """So late that the stream has begun: the error comes in it."""
    create = client("broken-stream").chat.completions.create
    stream = create(**ask("SLOW 2500 EXIT 3"), stream=True)
    error = raised(openai.APIError, lambda: list(stream))
    equal(error.code, "process_ended")
    assert "exit status 3" in error.message, error.message
    equal(len(requests), 1)


def keep_alive():
    """Deltas without text, while claude works, disturb neither way of reading."""
    one = client("keep-alive")
    chunks = list(one.chat.completions.create(**ask("SLOW 4000"), stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    empty = [delta for delta in deltas if delta.content == "" and delta.role is None]
    assert empty, f"no keep-alive came: {deltas!r}"
    text = "".join(delta.content or "" for delta in deltas)
    with one.chat.completions.stream(**ask("SLOW 4000")) as stream:
        equal(stream.get_final_completion().choices[0].message.content, text)


for check in sys.argv[2:]:
    try:
        globals()[check]()
    except Exception as error:
        sys.exit(f"{check}: {type(error).__name__}: {error}")
print("OK")
