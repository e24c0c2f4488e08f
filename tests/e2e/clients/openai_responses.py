"""Asks by the Responses API as a program with the official Python client would: as a stream, with
the stream helper, and whole.

usage: openai_responses.py BASE_URL SESSION TEXT

Each way has a session of its own, and a second turn that continues the first by its id. Prints one
line of JSON, the same as openai_responses.js: what the client made of each way.
"""

import json
import sys

import openai

BASE_URL, SESSION, TEXT = sys.argv[1:]


def client(way):
    return openai.OpenAI(
        base_url=BASE_URL,
        api_key="unused",
        max_retries=0,
        default_headers={"X-Synthesis-Session": f"{SESSION}-python-{way}"},
    )


def told(response):
    usage = response.usage
    reasoning = [item for item in response.output if item.type == "reasoning"]
    return {
        "id": response.id,
        "status": response.status,
        "text": response.output_text,
        "output": [[item.type, item.status] for item in response.output],
        "reasoning": ["".join(part.text for part in item.summary) for item in reasoning],
        "previous": response.previous_response_id,
        "error": response.error.code if response.error else None,
        "usage": [usage.input_tokens, usage.output_tokens, usage.total_tokens] if usage else None,
    }


def ask(previous):
    more = {"previous_response_id": previous} if previous else {}
    return {"model": "synthesis", "input": TEXT, **more}


def streamed(one, previous):
    types, last, text = [], {}, ""
    for event in one.responses.create(**ask(previous), stream=True):
        types.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
        if hasattr(event, "response"):
            last = told(event.response)
    return {**last, "text": text, "types": types}


def helper(one, previous):
    with one.responses.stream(**ask(previous)) as stream:
        deltas = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        return {**told(stream.get_final_response()), "deltas": deltas}


def whole(one, previous):
    return told(one.responses.create(**ask(previous)))


def turn(use, one, previous):
    try:
        return use(one, previous)
    except Exception as error:
        status, code = getattr(error, "status_code", None), getattr(error, "code", None)
        return {"raised": type(error).__name__, "http": status, "code": code}


found = {}
for way in (streamed, helper, whole):
    one = client(way.__name__)
    first = turn(way, one, None)
    found[way.__name__] = [first, turn(way, one, first.get("id"))]
print(json.dumps(found))
