"""The endpoint's client against a local server: what it sends, what it retries, what stops it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from chat_server import ChatServer, completion, pictures, serve
from PIL import Image

from iapo.endpoints.chat import ChatEndpoint, EndpointError, EndpointSettings

MESSAGES = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serve(lambda request: "hi there") as running:
        yield running


def ask(server: ChatServer, waits: list[float] | None = None, **more: object) -> str:
    settings = EndpointSettings(server.url, "m", key_variable="IAPO_TEST_KEY", **more)  # type: ignore[arg-type]
    return ChatEndpoint(settings, sleep=(waits if waits is not None else []).append)(MESSAGES)


def test_what_is_sent(server: ChatServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IAPO_TEST_KEY", "a-key")
    settings = EndpointSettings(server.url, "big-model", "IAPO_TEST_KEY", 0.5, 0.9, 77, "max_completion_tokens")
    image = Image.frombytes("RGB", (3, 2), bytes(range(18)))
    content = [{"type": "image", "image": image}, {"type": "text", "text": "what?"}]
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": content}]
    assert ChatEndpoint(settings)(chat) == "hi there"
    (request,) = server.requests
    assert {name: value for name, value in request.items() if name != "messages"} == {
        "model": "big-model",
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completion_tokens": 77,
    }
    assert request["messages"][0] == {"role": "system", "content": "s"}
    assert request["messages"][1]["content"][1] == {"type": "text", "text": "what?"}
    (sent,) = pictures(request["messages"][1])
    assert (sent.mode, sent.size, sent.tobytes()) == ("RGB", (3, 2), image.tobytes())
    assert server.keys == ["Bearer a-key"]


def test_passing_faults_are_retried_with_growing_waits(server: ChatServer):
    server.faults = [500, b"no json", b'{"choices": []}', b"[1]", completion(None, "content_filter"), None]
    waits: list[float] = []
    assert ask(server, waits) == "hi there"
    assert waits == [1, 2, 4, 8, 16]


def test_the_endpoints_own_wait_counts(server: ChatServer):
    server.faults = [429]
    waits: list[float] = []
    assert ask(server, waits) == "hi there"
    assert waits == [7]


@pytest.mark.parametrize("fault", [503, b"{", b'{"choices": [{"message": {}}]}'])
def test_a_lasting_fault_stops(server: ChatServer, fault: int | bytes):
    server.faults = [fault] * 10
    with pytest.raises(EndpointError, match=f"{server.url} failed 3 times"):
        ask(server, attempts=3)
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_not_retried(server: ChatServer, status: int):
    server.faults = [status]
    with pytest.raises(EndpointError, match=f"refused a request to model 'm' with HTTP {status}.*fault {status}"):
        ask(server)
    assert len(server.requests) == 1


def test_a_dead_endpoint_stops():
    with serve(lambda request: "") as server:
        url = server.url
    settings = EndpointSettings(url, "m", attempts=2)
    with pytest.raises(EndpointError, match=re.escape(f"{url} failed 2 times, lastly with: APIConnectionError")):
        ChatEndpoint(settings, sleep=lambda seconds: None)(MESSAGES)


def test_a_turn_that_is_empty_is_the_models_own(server: ChatServer):
    server.faults = [completion("", "length"), completion(None)]
    assert (ask(server), ask(server)) == ("", "")


def test_a_refusal_in_words_is_an_answer(server: ChatServer):
    server.faults = [
        b'{"choices": [{"message": {"content": null, "refusal": "I would rather not."}, "finish_reason": "stop"}]}'
    ]
    assert ask(server) == "I would rather not."


@pytest.mark.parametrize(("more", "sentence"), [({"url": "localhost"}, "no address"), ({"attempts": 0}, "at least 1")])
def test_bad_settings_are_refused(more: dict[str, object], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        ChatEndpoint(EndpointSettings(**{"url": "http://x", "model": "m", **more}))  # type: ignore[arg-type]
