"""What schemathesis sends, made to reach further than dice alone would: valid requests name one of
a few sessions and say words that the fake claude obeys, so that runs begin, wait, fail and end in
every way. The choice depends on the request alone: the same one comes out the same again.

Requests that are meant to be wrong stay as they are.
"""

import atexit
import collections
import copy
import json
import os
import random

import requests
import schemathesis
from schemathesis.generation import GenerationMode

# Of these a session's process is there already; another name costs a new one.
SESSIONS = ["ann", "bob", "cyd", "dan"]
# One in so many requests stays as it came.
UNTOUCHED = 25
CLAIM = '{"name":"Bash","input":{"command":"true"},"output":%s,"fails":%s}'
WORDS = [
    "hello",
    "\u00e9\U0001f50d \u2028 hello",
    "SAY see https://example.org/picture.png and [a file](https://example.org/paper.pdf)",
    "CHUNKS 3",
    "DISPLAY 3",
    "STAGES",
    "TEXT_ONLY nothing was replied",
    "CLAIM_TOOL " + CLAIM % ('[{"type":"text","text":"done"}]', "false"),
    "CLAIM_TOOL " + CLAIM % ('"it broke"', "true"),
    "SLOW 50 hello",
    "SLOW 400 CHUNKS 2",
    "COMPACT",
    "DOUBLE",
    "FOREIGN_ID",
    "WRONG_ORDER",
    "FILES",
]
# What ends the process, or the turn without an answer: a new process each.
RARE = ["API_ERROR 529", "API_ERROR 400", "EXIT 3", "CRASH", "MUTE"]
NAMES = [
    "x-synthesis-session",
    "x-openclaw-agent-id",
    "x-openclaw-chat-id",
    "x-session-affinity",
    "session_id",
    "x-openclaw-workspace",
    "x-synthesis-ephemeral",
    "idempotency-key",
]
FILE = "data:text/plain;base64,aGVsbG8="


SEEN = collections.Counter()


@schemathesis.hook
def before_call(context, case, kwargs):
    if not is_valid(case):
        return
    # The case is used again: what was made of it must not be made of it twice.
    case.body = copy.deepcopy(case.body)
    case.headers = copy.deepcopy(case.headers)
    case.path_parameters = copy.deepcopy(case.path_parameters)
    said = json.dumps([case.body, case.path_parameters], default=repr, sort_keys=True)
    dice = random.Random(case.operation.label + said)
    if dice.randrange(UNTOUCHED) == 0:
        return
    if isinstance(case.body, dict):
        say(dice, case)
        name_session(dice, case)
    elif case.operation.path in UNDER_WAY and dice.randrange(4) == 0:
        begin = UNDER_WAY[case.operation.path]
        case.path_parameters["id"] = begin(case.operation.base_url.rstrip("/"))


@schemathesis.hook
def after_call(context, case, response):
    SEEN[f"{case.method} {case.operation.path} {response.status_code}"] += 1


@atexit.register
def tell_what_was_seen():
    if "SYNTHESIS_SEEN" in os.environ and SEEN:
        with open(os.environ["SYNTHESIS_SEEN"], "w") as file:
            json.dump(SEEN, file, indent=1, sort_keys=True)


def a_run(base):
    body = {"input": "SLOW 1000 hello", "session": "eve"}
    return begun(base, "/v1/runs", body).json().get("id", "none")


def a_response(base):
    body = {"input": "SLOW 1000 hello", "background": True}
    return begun(base, "/v1/responses", body).json().get("id", "none")


def a_chat(base):
    parts = [{"type": "text", "text": "SLOW 1000 hello"}]
    body = {"id": "eve", "messages": [{"role": "user", "parts": parts}]}
    # The run goes on without this connection.
    begun(base, "/api/chat", body).close()
    return "eve"


def begun(base, path, body):
    sent = {"x-synthesis-session": "eve"}
    if "SYNTHESIS_AUTHORIZATION" in os.environ:
        sent["authorization"] = os.environ["SYNTHESIS_AUTHORIZATION"]
    response = requests.post(base + path, json=body, headers=sent, stream=True, timeout=30)
    SEEN[f"POST {path} {response.status_code}"] += 1
    return response


# What only a run under way answers in all its ways.
UNDER_WAY = {
    "/v1/runs/{id}/abort": a_run,
    "/v1/responses/{id}/cancel": a_response,
    "/api/chat/{id}/stream": a_chat,
    "/api/chat/{id}/stop": a_chat,
}


def is_valid(case):
    return case.meta is None or case.meta.generation.mode == GenerationMode.POSITIVE


def name_session(dice, case):
    # A key is one request's alone: most with one of schemathesis' few would only hear so.
    keep = [] if dice.randrange(4) else ["idempotency-key"]
    for name in [name for name in case.headers or {} if name.lower() in NAMES]:
        if name.lower() not in keep:
            del case.headers[name]
    if case.path == "/api/chat":
        case.body["id"] = dice.choice(SESSIONS)
    elif dice.randrange(UNTOUCHED) == 0:
        case.headers["x-synthesis-ephemeral"] = "true"
    else:
        case.headers["x-synthesis-session"] = dice.choice(SESSIONS)


def say(dice, case):
    body = case.body
    words = dice.choice(RARE if dice.randrange(UNTOUCHED) == 0 else WORDS)
    with_file = dice.randrange(4) == 0
    if body.get("model") is not None:
        body["model"] = "synthesis"
    if case.path.endswith("/completions"):
        parts = [{"type": "text", "text": words}]
        if with_file:
            parts.append({"type": "file", "file": {"filename": "a.txt", "file_data": FILE}})
        body["messages"] = harmless(body["messages"])
        body["messages"].append({"role": "user", "content": parts if with_file else words})
    elif case.path == "/v1/responses":
        for field in ("previous_response_id", "conversation"):
            if dice.randrange(4):
                body.pop(field, None)
        parts = [{"type": "input_text", "text": words}]
        if with_file:
            parts.append({"type": "input_file", "filename": "a.txt", "file_data": FILE})
        body["input"] = [{"role": "user", "content": parts}] if with_file else words
    elif case.path == "/v1/runs":
        files = {"files": [{"name": "a.txt", "data": FILE}]} if with_file else {}
        body["input"] = {"text": words, **files} if with_file else words
        body.pop("workspace", None)
        body.pop("session", None)
    elif case.path == "/api/chat":
        parts = [{"type": "text", "text": words}]
        if with_file:
            parts.append({"type": "file", "mediaType": "text/plain", "url": FILE})
        body["messages"] = harmless(body["messages"])
        body["messages"].append({"role": "user", "parts": parts})


def harmless(messages):
    """The messages before the new one, without files that would have to be real."""
    return [one for one in messages if "data:" not in json.dumps(one, default=repr)]
