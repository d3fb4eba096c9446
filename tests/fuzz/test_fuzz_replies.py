"""Bodies of responses: a whole answer, or an error of the one kind that is asked again for."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import openai
from endpoint_server import completion
from fuzzing import JSON, ODD_TEXTS, fuzz, is_sentence, mutated
from hypothesis import strategies as st

from iapo.endpoints.chat import ChatEndpoint, EndpointError, EndpointSettings
from iapo.endpoints.questions import Endpoint, Question
from iapo.endpoints.replies import UnusableError, read_reply

ENDS = ("stop", "length", "STOP", "eos_token", "max_tokens")
KINDS = ("text", "output_text", "refusal", "thinking", "redacted_thinking", "image_url")

PARTS = st.fixed_dictionaries(
    {}, optional={"type": st.sampled_from(KINDS) | JSON,
                  "text": ODD_TEXTS | JSON, "refusal": ODD_TEXTS | JSON}
)  # fmt: skip
CONTENTS = ODD_TEXTS | JSON | st.lists(PARTS | ODD_TEXTS, max_size=4)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "role": st.just("assistant") | JSON,
        "content": CONTENTS,
        "refusal": CONTENTS,
        "tool_calls": JSON,
        "function_call": JSON,
    },
)
CHOICES = st.fixed_dictionaries(
    {}, optional={"message": MESSAGES | JSON, "finish_reason": st.sampled_from([*ENDS, "error"]) | JSON}
)
WHOLE = st.builds(lambda words: json.loads(completion(words)), CONTENTS)
BODIES = st.one_of(
    st.fixed_dictionaries(
        {"choices": st.lists(CHOICES | JSON, max_size=2) | JSON},
        optional={"model": st.sampled_from(["m", "m-2024-08-06", "o/m", "n"]) | JSON, "error": JSON, "code": JSON},
    ),
    WHOLE,
    WHOLE,
    JSON,
).map(lambda body: json.dumps(body).encode())


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    return mutated(completion("FINAL ANSWER: é 5", model="m"), draw)


@fuzz("bodies of responses", BODIES | damaged() | st.binary(max_size=40), 150)
def test_bodies(body: bytes, folder: Path) -> None:
    try:
        text = read_reply(body, "m")
    except UnusableError as error:
        is_sentence(error)
        return
    text.encode()
    choice = json.loads(body)["choices"][0]
    assert choice["finish_reason"].lower() in {end.lower() for end in ENDS}


SETTINGS = EndpointSettings("m", "http://127.0.0.1:9/v1", retries=0, on_error="stop")


HTTP = importlib.import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])


def answers(body: bytes, asker: Any) -> None:
    """Has an endpoint's transport read this body, whatever it is asked."""
    asker._client._client._read = lambda request, end, more: HTTP.Response(
        200, headers={"content-type": "application/json"}, content=body, request=request
    )


@fuzz("structured replies", JSON.map(json.dumps) | st.sampled_from(['{"a": 1}', '{"a": 1, "a": 1}', "[" * 9999]), 25)
def test_structured(reply: str, folder: Path) -> None:
    asker = Endpoint(SETTINGS, "x", "say", {"type": "object"}, lambda found: isinstance(found.get("a"), int))
    answers(completion(reply), asker._chat)
    try:
        (found,) = asker.ask([Question(("q",), "q")])
    except EndpointError as error:
        is_sentence(error)
        return
    assert found is not None
    assert isinstance(found["a"], int)


@fuzz("responses to the client", BODIES | damaged(), 25)
def test_client(body: bytes, folder: Path) -> None:
    asker = ChatEndpoint(SETTINGS)
    answers(body, asker)
    try:
        asker([{"role": "user", "content": "q"}]).encode()
    except EndpointError as error:
        is_sentence(error)
