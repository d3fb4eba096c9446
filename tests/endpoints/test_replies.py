"""What of a response counts as an answer, and what ends a request that would not end."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from endpoint_server import completion, serve

from iapo.endpoints.chat import ChatEndpoint, EndpointError, EndpointSettings
from iapo.endpoints.replies import LONGEST_BODY, UnusableError, read_reply, same_model

TEXT = {"type": "text", "text": "a"}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a", "a"),
        ([TEXT, {"type": "text", "text": " b"}], "a b"),
        (["a", {"type": "output_text", "text": "b"}], "ab"),
        ([{"type": "thinking", "thinking": [TEXT]}, TEXT], "a"),
        ([{"type": "redacted_thinking", "data": "x"}, TEXT], "a"),
        ([{"type": "refusal", "refusal": "no"}], "no"),
        ([], ""),
        (None, ""),
        ("", ""),
    ],
)
@pytest.mark.parametrize(
    "reason", ["stop", "length", "STOP", "eos", "eos_token", "end_turn", "max_tokens", "MAX_TOKENS"]
)
def test_texts_and_parts_of_texts_are_answers(content: object, text: str, reason: str):
    reply = read_reply(completion(content, reason), "m")
    assert (reply, reply.cut) == (text, reason in ("length", "max_tokens", "MAX_TOKENS"))


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_a_content_that_is_left_out_is_an_empty_one(reason: str):
    """So Gemini answers where thoughts used up the tokens."""
    body = json.loads(completion(None, reason, reasoning_content="hm"))
    del body["choices"][0]["message"]["content"]
    reply = read_reply(json.dumps(body).encode(), "m")
    assert (reply, reply.cut, reply.instead) == ("", reason == "length", "reasoning_content alone")
    del body["choices"][0]["message"]["role"]
    with pytest.raises(UnusableError, match="without a message"):
        read_reply(json.dumps(body).encode(), "m")


OTHER_CONTENTS: list[object] = [5, 5.5, True, False, {}, {"text": "a"}, [5], [None], [[TEXT]], [{}], "\ud800"]
OTHER_CONTENTS += [
    [{"type": "image_url"}],
    [{"type": "text"}],
    [{"type": "text", "text": 5}],
    [TEXT, {"type": ["text"]}],
]


@pytest.mark.parametrize("content", OTHER_CONTENTS, ids=repr)
def test_other_contents_are_none(content: object):
    with pytest.raises(UnusableError):
        read_reply(completion(content), "m")


@pytest.mark.parametrize(
    "reason", [None, "", "tool_calls", "function_call", "content_filter", "error", "abort", "SAFETY", 5, ["stop"], {}]
)
def test_a_text_that_is_not_whole_is_none(reason: object):
    with pytest.raises(UnusableError, match="not whole"):
        read_reply(completion("FINAL ANSWER: 5", reason), "m")


@pytest.mark.parametrize("content", [None, "", "some text"])
@pytest.mark.parametrize("more", [{"tool_calls": [{"id": "1"}]}, {"function_call": {"name": "f"}}])
def test_a_call_of_a_tool_is_none(content: object, more: dict[str, object]):
    with pytest.raises(UnusableError, match="tool"):
        read_reply(completion(content, **more), "m")


def said(more: dict[str, object], where: str = "response") -> bytes:
    """A whole answer with more fields in the response, its choice or its message."""
    body = json.loads(completion("FINAL ANSWER: 7", **(more if where == "message" else {})))
    if where == "choice":
        body["choices"][0] |= more
    return json.dumps(body | (more if where == "response" else {})).encode()


FAILED: list[dict[str, object]] = [{"error": {"code": 502}}, {"error": "x"}, {"errors": ["x"]}, {"error_code": 5}]
FAILED += [{"status": one} for one in ("incomplete", "failed", "cancelled", "in_progress", "Queued", 500, False, ["x"])]
FAILED += [{"success": False}, {"type": "error"}, {"incomplete_details": {"reason": "max_output_tokens"}}]


@pytest.mark.parametrize("more", FAILED, ids=str)
def test_a_text_beside_a_failure_is_none(more: dict[str, object]):
    bodies = [said(more, where) for where in ("response", "choice", "message")]
    if "type" not in more:
        bodies += [completion([TEXT | more])]
    for body in bodies:
        with pytest.raises(UnusableError, match=r"an error: |not whole|no success"):
            read_reply(body, "m")


@pytest.mark.parametrize("code", [500, "500", 1, "InvalidApiKey", True, ["x"]], ids=str)
def test_a_text_beside_the_code_of_an_error_is_none(code: object):
    with pytest.raises(UnusableError, match=r"an error: \{'code': .*'message': 'internal error'\}"):
        read_reply(said({"code": code, "message": "internal error"}), "m")


@pytest.mark.parametrize("code", [0, "0", 200, "200", "Success", "", None], ids=repr)
def test_a_text_beside_the_code_of_a_success_is_an_answer(code: object):
    assert read_reply(said({"code": code, "message": "ok"}), "m") == "FINAL ANSWER: 7"


@pytest.mark.parametrize("kind", ["error", "chat.completion.chunk", "response", "list", 5, ["chat.completion"]])
def test_another_object_is_none(kind: object):
    with pytest.raises(UnusableError, match=r"an object of the kind"):
        read_reply(said({"object": kind}), "m")


WELL: list[dict[str, object]] = [{"error": None, "errors": [], "error_code": 0}, {"success": True}, {"success": None}]
WELL += [{"status": "completed"}, {"status": "SUCCESS"}, {"status": 200}, {"status": None}, {"type": "message"}]


@pytest.mark.parametrize("more", WELL, ids=str)
def test_a_success_that_is_said_changes_nothing(more: dict[str, object]):
    for body in [said(more, where) for where in ("response", "choice", "message")]:
        assert read_reply(body, "m") == "FINAL ANSWER: 7"


@pytest.mark.parametrize("kind", [None, "", "chat.completion", "text_completion"])
def test_a_response_need_not_say_its_kind(kind: object):
    assert read_reply(said({"object": kind}), "m") == "FINAL ANSWER: 7"


REFUSAL = {"type": "refusal", "refusal": "I can't. FINAL ANSWER: 7"}


@pytest.mark.parametrize(
    ("content", "refusal", "text", "instead"),
    [
        ([TEXT, REFUSAL], None, "a", ""),
        ([REFUSAL, TEXT], "no", "a", ""),
        ("a", "no", "a", ""),
        ([REFUSAL], None, "I can't. FINAL ANSWER: 7", "a refusal"),
        ([{"type": "text", "text": " \n"}, REFUSAL], None, "I can't. FINAL ANSWER: 7", "a refusal"),
        ([REFUSAL], "no", "no", "a refusal"),
        (None, "no", "no", "a refusal"),
        (" ", "no", "no", "a refusal"),
        (None, [REFUSAL], "I can't. FINAL ANSWER: 7", "a refusal"),
        ("", ["no"], "no", "a refusal"),
    ],
)
def test_a_refusal_is_the_text_where_there_is_no_other(content: object, refusal: object, text: str, instead: str):
    reply = read_reply(completion(content, refusal=refusal), "m")
    assert (reply, reply.instead) == (text, instead)


OTHER_BODIES = [b"", b"\xff\xfe", b'"a"', b"null", b"5", b"[]", b"{}", b'{"choices": {}}', b'{"choices": [[]]}']
OTHER_BODIES += [b"\n0", b'{"error": "a\\nb\\u001b[2J"}', b"<html>", b"[" * 100_000, b'{"a":' * 100_000]
OTHER_BODIES += [b'{"choices": [{"message": [], "finish_reason": "stop"}]}', completion("a")[:-1]]
OTHER_BODIES += [completion("a").replace(b'"content": "a"', b'"content": "b", "content": "a"')]
OTHER_BODIES += [completion(None, audio={"transcript": "a"}), completion("a", model=0), completion("a", model=False)]
OTHER_BODIES += [b'{"error": {"message": "x"}, ' + completion("a")[1:], completion("a").replace(b"a", b"\xe9")]
OTHER_BODIES += [completion("a", role=role) for role in ("user", "system", "developer", "tool", "function")]
OTHER_BODIES += [json.dumps(one | {"choices": one["choices"] * 2}).encode() for one in [json.loads(completion("a"))]]


@pytest.mark.parametrize("body", OTHER_BODIES, ids=lambda body: str(body[:40]))
def test_other_bodies_are_none(body: bytes):
    with pytest.raises(UnusableError) as caught:
        read_reply(body, "m")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("asked", "named", "same"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("gpt-4", "gpt-4-0613", True),
        ("claude-x-latest", "claude-x-20241022", True),
        ("llama3", "llama3:latest", True),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl-7b-instruct", True),
        ("openai/gpt-4o", "gpt-4o-2024-08-06", True),
        ("openai/gpt-4o", "openai/gpt-4o-2024-08-06", True),
        ("gpt-3.5-turbo", "gpt-3.5-turbo-0125", True),
        ("claude-x", "claude-x@20250219", True),
        ("command-r", "command-r-08-2024", True),
        ("doubao", "doubao-240615", True),
        ("a/m", "a/m-04-28", True),
        ("gemini-2.0-flash", "gemini-2.0-flash-001", True),
        ("models/gemini-2.0-flash", "gemini-2.0-flash", True),
        ("llama3:latest", "llama3", True),
        ("pixtral-large-latest", "pixtral-large-2411", True),
        ("a/m:free", "a/m", True),
        ("a/m:free", "a/m:free", True),
        ("a/m:nitro", "m-2024-08-06", True),
        ("a/m:free", "a/m-04-28:free", True),
        ("a/m", "a/m:free", False),
        ("a/m:free", "a/m:nitro", False),
        ("a/m:free", "a/n", False),
        ("a/m:thinking", "a/m", False),
        ("o1", "o1-preview", False),
        ("o1-preview", "o1", False),
        ("o1-preview", "o1-preview-2024-09-12", True),
        ("gemini-3-pro", "gemini-3-pro-preview", False),
        ("gemini-3-pro", "gemini-3-pro-preview-05-20", False),
        ("qwen-vl", "qwen-vl-v2", False),
        ("qwen-max", "qwen-max-latest", False),
        ("qwen3-235b-a22b", "qwen3-235b-a22b-2507", False),
        ("llama-3", "llama-3-405", False),
        ("llama-3", "llama-3-1400", False),
        ("phi-3", "phi-3:128", False),
        ("phi-3", "phi-3:0613", False),
        ("m", "m-2024-13-06", False),
        ("m", "m-\u0660\u0661\u0662", False),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4o", "gpt-4o-mini-2024-07-18", False),
        ("gpt-4o-2024-08-06", "gpt-4o-2024-05-13", False),
        ("gpt-4o-2024-08-06", "gpt-4o", False),
        ("qwen2.5-vl", "qwen2.5-vl-7b", False),
        ("gpt-4", "gpt-4o", False),
        ("gpt-4", "gpt-4.1", False),
        ("claude-3", "claude-3-5", False),
        ("a/m", "b/m", False),
        ("together_ai/Qwen/m", "Qwen/m", True),
        ("Qwen/m", "together_ai/qwen/M", True),
        ("fireworks_ai/accounts/fireworks/models/m", "accounts/fireworks/models/m", True),
        ("vertex_ai/claude-x@20240620", "claude-x-20240620", True),
        ("claude-x@20240620", "claude-x@20241022", False),
        ("Qwen/m:hyperbolic", "Qwen/m", True),
        ("Qwen/m:fastest", "Qwen/m", True),
        ("m:instruct", "m", False),
        ("openai/m", "ai/m", False),
        ("together_ai/Qwen/m", "Other/m", False),
        ("together_ai/Qwen/m", "together_ai/m", False),
        ("m", 5, False),
        ("m", ["m"], False),
    ],
)
def test_which_names_are_one_model(asked: str, named: object, same: bool):
    assert same_model(asked, named) is same
    body = completion("a", model=named)
    if same:
        assert read_reply(body, asked) == "a"
    else:
        with pytest.raises(UnusableError, match="another model"):
            read_reply(body, asked)


@pytest.mark.parametrize("named", [None, ""])
def test_a_response_need_not_name_its_model(named: object):
    assert read_reply(completion("a", model=named), "m") == "a"


@pytest.mark.usefixtures("waits")
def test_a_body_without_end_is_cut_off():
    said = pytest.raises(EndpointError, match=f"a body of more than {LONGEST_BODY:,} bytes")
    with serve(lambda request: b" " * (LONGEST_BODY + 2)) as server, said:
        ChatEndpoint(EndpointSettings("m", server.url, retries=0))([])


@contextmanager
def raw(send: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that answers with what `send` does to the connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def one(connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            try:
                send(connection)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        listener.close()


def drip(head: bytes, byte: bytes) -> Callable[[socket.socket], None]:
    def send(connection: socket.socket) -> None:
        connection.sendall(head)
        # Far longer than any test; the client must go first.
        for _ in range(20_000):
            connection.sendall(byte)
            time.sleep(0.05)

    return send


@pytest.mark.slow(1)
@pytest.mark.parametrize(
    ("head", "byte"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 100000\r\n\r\n", b" "),
        (b"", b"H"),
    ],
    ids=["body", "chunks", "head", "error", "status"],
)
def test_a_drip_is_not_waited_for(head: bytes, byte: bytes):
    """Each byte comes well within the time from byte to byte."""
    with raw(drip(head, byte)) as url, pytest.raises(EndpointError, match="failed 1 times, lastly with: API"):
        ChatEndpoint(EndpointSettings("m", url, retries=0, timeout=0.6))([])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int):
    asked: list[int] = []

    def send(connection: socket.socket) -> None:
        place = f"{other.url}/chat/completions".replace("http://", "http://me:secret@")
        asked.append(1)
        connection.sendall(f"HTTP/1.1 {status} X\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode())

    with serve(lambda request: "FINAL ANSWER: 1") as other, raw(send) as url:
        with pytest.raises(EndpointError, match=f"HTTP {status}, a redirect to http://127.*not followed") as caught:
            ChatEndpoint(EndpointSettings("m", url))([])
        assert not other.requests
    assert len(asked) == 1
    assert "secret" not in str(caught.value)


def test_compressed_bodies_are_read():
    body = gzip.compress(completion("a"))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with raw(lambda connection: connection.sendall(head + body)) as url:
        assert ChatEndpoint(EndpointSettings("m", url))([]) == "a"


@pytest.mark.slow(1)
@pytest.mark.usefixtures("waits")
def test_a_bomb_is_cut_off():
    body = gzip.compress(json.dumps("a" * 8 * LONGEST_BODY).encode())
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with (
        raw(lambda connection: connection.sendall(head + body)) as url,
        pytest.raises(EndpointError, match="more than"),
    ):
        ChatEndpoint(EndpointSettings("m", url, retries=0))([])
