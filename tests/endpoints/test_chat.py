"""The endpoint's client against a local server: what it sends, what it retries, what stops it."""

from __future__ import annotations

import base64
import html
import json
import logging
import re
import ssl
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import openai
import pytest
from endpoint_server import Server, completion, pictures, serve
from PIL import Image

from iapo.endpoints.chat import ChatEndpoint, EndpointError, EndpointSettings
from iapo.endpoints.hiding import Hiding
from iapo.endpoints.transport import _trusted, make_client

MESSAGES = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(lambda request: "hi there") as running:
        yield running


def ask(server: Server, **more: object) -> str:
    settings = EndpointSettings("m", server.url, key_variable="IAPO_TEST_KEY", **more)  # type: ignore[arg-type]
    return ChatEndpoint(settings)(MESSAGES)


def test_what_is_sent(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IAPO_TEST_KEY", "a-key")
    settings = EndpointSettings("big-model", server.url, "IAPO_TEST_KEY", 0.5, 0.9, 77, "max_completion_tokens")
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
    assert [headers["authorization"] for headers in server.headers] == ["Bearer a-key"]


def test_passing_faults_are_retried_with_growing_waits(server: Server, waits: list[float]):
    server.faults = [500, b"no json", b'{"choices": []}', b"[1]", completion("h", "content_filter"), None]
    assert ask(server) == "hi there"
    assert len(server.requests) == 6
    # The package's own wait has a random part.
    assert 0 < waits[0] <= 0.5
    assert waits[1:] == [0.5 * 2**number for number in range(1, 5)]


def test_the_endpoints_own_wait_counts(server: Server, waits: list[float]):
    server.faults, server.retry_after = [429], "7"
    assert ask(server) == "hi there"
    assert waits == [7]


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize(
    "faults", [[503] * 10, [b"{"] * 10, [b'{"choices": [{"message": {}}]}'] * 10, [503, b"{"] * 5, [b"{", 503] * 5]
)
def test_a_lasting_fault_stops(server: Server, faults: list[int | bytes]):
    """All kinds of faults share one number of attempts."""
    server.faults = list(faults)
    with pytest.raises(EndpointError, match=f"{server.url} failed 3 times"):
        ask(server, retries=2)
    assert len(server.requests) == 3


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("status", [202, 206])
def test_a_part_or_a_promise_is_no_answer(server: Server, status: int):
    server.status = status
    with pytest.raises(EndpointError, match=f"failed 2 times, lastly with: HTTP {status}.*; check the model's name"):
        ask(server, retries=1)


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("status", [401, 500])
def test_a_key_that_is_repeated_is_not_said(server: Server, monkeypatch: pytest.MonkeyPatch, status: int):
    monkeypatch.setenv("IAPO_TEST_KEY", "a-secret-key")
    server.said = "Incorrect API key\nprovided: a-secret-key.\x1b[2J"
    server.faults = [status]
    with pytest.raises(EndpointError, match=r"Incorrect API key provided: \(the key\)") as caught:
        ask(server, retries=0)
    assert str(caught.value).isprintable()
    assert "a-secret-key" not in "".join(traceback.format_exception(caught.value))


SECRET = "sk-odd/key+\"1'&<2"
FORMS = [SECRET, json.dumps(SECRET)[1:-1], quote(SECRET, safe=""), quote(SECRET, safe="").lower(), html.escape(SECRET)]
FORMS += [SECRET.replace("/", "\\/"), repr({"a": SECRET}), base64.b64encode(SECRET.encode()).decode()]


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", [401, 500, "body", "error", "model", "reason", "part"])
def test_no_form_and_no_part_of_a_key_is_said(
    server: Server, monkeypatch: pytest.MonkeyPatch, form: str, fault: int | str
):
    """Wherever what is sent is cut, in any place of the secret."""
    monkeypatch.setenv("IAPO_TEST_KEY", SECRET)
    for filling in (0, 76, 170, 190, 197, 470, 490):
        text = "." * filling + form
        bodies = {
            "body": text.encode(),
            "error": json.dumps(json.loads(completion("a")) | {"error": {"message": text}}).encode(),
            "model": completion("a", model=text),
            "reason": completion("a", text),
            "part": completion([{"type": text}]),
        }
        server.said = text
        server.faults = [fault if isinstance(fault, int) else bodies[fault]]
        with pytest.raises(EndpointError) as caught:
            ask(server, retries=0)
        written = "".join(traceback.format_exception(caught.value))
        assert not any(form[:length] in written for length in (8, len(form)))


OTHERS = [SECRET[:5] + gap + SECRET[5:] for gap in ("\n", " ", "\u200b", "\\n", "\\u200b", "&#8203;", "%0A")]
OTHERS += [SECRET.encode().hex(mark) for mark in (" ", ":", "-")]
OTHERS += ["".join(f"\\U{ord(one):08x}" for one in SECRET), "".join(f"\\{ord(one):03o}" for one in SECRET)]
OTHERS += [SECRET.encode().hex(), base64.b64encode(f"Bearer {SECRET}".encode()).decode()]
OTHERS += [base64.urlsafe_b64encode(f"{before}{SECRET}}}".encode()).decode() for before in ("", "a", "ab")]
OTHERS += ["\\\\u0073" + SECRET[1:], "\\x73" + SECRET[1:], quote(quote(SECRET, safe=""), safe=""), SECRET[:-3]]
OTHERS += ["".join(f"%{ord(one):02x}" for one in SECRET), "".join(f"&#{ord(one)};" for one in SECRET), SECRET.upper()]


@pytest.mark.parametrize("form", [*FORMS, *OTHERS])
def test_a_key_is_known_in_each_of_these_forms(form: str):
    said = Hiding(SECRET, "").plain(f"wrong: {form}, of which there is none")
    assert re.fullmatch(r"wrong: (?:\{'a': ')?\w{0,2}\(the key\)\S{0,3}, of which there is none", said)


def test_what_is_shown_of_a_masked_key_is_said():
    shown = "Incorrect API key: sk-proj-********89ab, which has no use \\ here: 100%25 &amp; \\u00e9"
    assert Hiding("sk-proj-0123456789ab", "").plain(shown) == shown


@pytest.mark.parametrize(
    ("key", "said"),
    [("x1", "max_tokens 4096 > 7831"), ("12", "3132"), ("a!", "YSE= 6121"), ("\\" * 4, ""), ("9\\\\9", "99")],
)
def test_a_key_of_less_than_four_characters_hides_nothing(key: str, said: str):
    assert Hiding(key, "").plain(said) == said


@pytest.mark.parametrize("filling", ["\\", " ", "%25", "&amp;", "\\n", "sk-odd/key", "0"], ids=repr)
def test_a_long_text_is_searched_to_where_it_is_said(filling: str):
    """A secret that is cut off where the search ends would not be known."""
    said = Hiding(SECRET, "").plain(filling * ((2**16 - 11) // len(filling)) + SECRET)
    assert len(said) < 2**16
    assert "sk-odd/key+" not in said


CREDENTIALS = "a-long-user:p4ss%2fw0rd%20long"
SENT = "a-long-user:p4ss/w0rd long"


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("fault", [401, 503, 302, b"no answer: "])
def test_credentials_that_are_repeated_are_not_said(server: Server, fault: int | bytes):
    url = server.url.replace("http://", f"http://{CREDENTIALS}@")
    token = base64.b64encode(SENT.encode()).decode()
    for text in (f"Basic {token}", token.rstrip("="), SENT, CREDENTIALS, "p4ss/w0rd long", "p4ss%2Fw0rd+long", url):
        server.said = f"wrong: {text}"
        server.faults = [fault + text.encode() if isinstance(fault, bytes) else fault]
        with pytest.raises(EndpointError) as caught:
            ChatEndpoint(EndpointSettings("m", url, retries=0))(MESSAGES)
        written = "".join(traceback.format_exception(caught.value))
        assert not re.search(f"{token[:8]}|p4ss|w0rd|long", written, re.IGNORECASE)


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize(("credentials", "shown"), [("me:pw12", "is wrong"), ("tokentoken", "is wrong"), ("a:b", "b")])
def test_short_passwords_are_told_from_words(server: Server, credentials: str, shown: str):
    server.faults, server.said = [401], f"{credentials.rpartition(':')[2]} is wrong"
    with pytest.raises(EndpointError, match=shown) as caught:
        ChatEndpoint(EndpointSettings("m", server.url.replace("http://", f"http://{credentials}@")))(MESSAGES)
    assert not re.search("pw12|tokentoken", str(caught.value))


@pytest.mark.parametrize("key", ["sk-secret1\n", " sk-secret1", "sk-secret1\u20ac", "sk-sec\tret1"])
def test_a_key_that_no_header_holds_is_refused_and_not_said(server: Server, monkeypatch: pytest.MonkeyPatch, key: str):
    monkeypatch.setenv("IAPO_TEST_KEY", key)
    with pytest.raises(ValueError, match="the key in the variable IAPO_TEST_KEY") as caught:
        ask(server)
    assert "sec" not in "".join(traceback.format_exception(caught.value))
    assert not server.requests


@pytest.mark.parametrize("name", ["sk-APISECRET99", "", "1A", "A B", "A\n", "\u00c4"])
def test_a_key_in_the_place_of_its_variables_name_is_refused_and_not_said(name: str):
    with pytest.raises(ValueError, match="key_variable is no name of an environment variable") as caught:
        EndpointSettings("m", "http://x", name)
    assert "APISECRET" not in "".join(traceback.format_exception(caught.value))


def test_how_long_an_endpoint_asks_to_wait_is_said(server: Server):
    """Newer versions of the `openai` package do not wait for so long, and ask once."""
    server.faults, server.retry_after = [429], "3000"
    with pytest.raises(EndpointError, match=r"failed 1 times, .*\(Retry-After: 3000\)"):
        ask(server, retries=0)


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_not_retried(server: Server, status: int):
    server.faults = [status]
    with pytest.raises(EndpointError, match=f"refused a request to model 'm' with HTTP {status}.*fault {status}"):
        ask(server)
    assert len(server.requests) == 1


@pytest.mark.usefixtures("waits")
def test_a_dead_endpoint_stops():
    with serve(lambda request: "") as server:
        url = server.url
    settings = EndpointSettings("m", url, retries=1)
    failed = re.escape(f"{url} failed 2 times, lastly with: APIConnectionError")
    with pytest.raises(EndpointError, match=f"{failed}.*; see that it is up and run"):
        ChatEndpoint(settings)(MESSAGES)


def test_a_turn_that_is_empty_is_the_models_own(server: Server):
    server.faults = [completion("", "length"), completion(None)]
    assert (ask(server), ask(server)) == ("", "")


def test_a_refusal_in_words_is_an_answer(server: Server):
    server.faults = [
        b'{"choices": [{"message": {"content": null, "refusal": "I would rather not."}, "finish_reason": "stop"}]}'
    ]
    assert ask(server) == "I would rather not."


@pytest.mark.parametrize(
    ("more", "sentence"), [({"url": "localhost"}, "begins with http"), ({"retries": -1}, "give 0 to 1000")]
)
def test_bad_settings_are_refused(more: dict[str, object], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        ChatEndpoint(EndpointSettings(**{"url": "http://x", "model": "m", **more}))  # type: ignore[arg-type]


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize(
    ("named", "served_as", "right"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o", True),
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o-mini", "gpt-4o", False),
        ("m", "gpt-4o", False),
        ("gpt-4o", None, False),
        ("m", None, True),
    ],
)
def test_a_deployment_answers_by_the_name_that_it_is_said_to_serve(
    server: Server, named: str, served_as: str | None, right: bool
):
    server.faults = [completion("a", model=named)]
    if right:
        assert ask(server, served_as=served_as, retries=0) == "a"
    else:
        with pytest.raises(EndpointError, match="another model"):
            ask(server, served_as=served_as, retries=0)
    assert server.requests[0]["model"] == "m"


def test_a_turn_that_was_cut_off_is_the_models_own(server: Server):
    server.faults = [completion("half a", "length")]
    assert ask(server) == "half a"


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("fault", [500, 404, b"{"])
def test_credentials_are_sent_and_never_said(server: Server, fault: int | bytes, caplog: pytest.LogCaptureFixture):
    url = server.url.replace("http://", "http://me:my%20secret@")
    endpoint = ChatEndpoint(EndpointSettings("m", url, retries=1))
    with caplog.at_level(logging.DEBUG):
        assert endpoint(MESSAGES) == "hi there"
        server.faults = [fault] * 2
        with pytest.raises(EndpointError, match=server.url) as caught:
            endpoint(MESSAGES)
    written = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "secret" not in written
    assert {headers["authorization"] for headers in server.headers} == {
        "Basic " + base64.b64encode(b"me:my secret").decode()
    }
    for odd in ("me:secret@localhost", "http://me:a/secret@localhost", "http://h/v1?key=secret", "http://h:secret/v1"):
        # Where the settings are made: nothing is asked, and no package is needed.
        with pytest.raises(ValueError, match="the endpoint's address") as refused:
            EndpointSettings("m", odd)
        assert "secret" not in str(refused.value)
    for url in ("", "localhost:8000", "ftp://h/v1", "http://", "http:///v1", "http://:80/v1"):
        with pytest.raises(ValueError, match=r"^the endpoint's address is"):
            EndpointSettings("m", url)
    for end in ("/chat/completions", "/completions", "/responses", "/messages", "/chat/completions/"):
        with pytest.raises(ValueError, match=f"^the endpoint's address ends in {end.rstrip('/')}, which") as refused:
            EndpointSettings("m", f"http://me:secret@h/v1{end}")
        assert "secret" not in str(refused.value)
    with pytest.raises(ValueError, match="the endpoint's model is an empty text"):
        EndpointSettings("")


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize(
    ("kind", "models", "told"),
    [
        ("auto", "vllm", True),
        ("auto", "organization-owner", False),
        ("auto", 404, False),
        ("auto", 501, False),
        ("vllm", "organization-owner", True),
        ("openai", "vllm", False),
    ],
)
def test_vllm_is_told_the_whole_sampling(server: Server, kind: str, models: str | int, told: bool):
    """Its server would take what is left open from the checkpoint; OpenAI's refuses fields that it does not know."""
    server.models = models
    assert ask(server, kind=kind, max_turn_tokens=5) == "hi there"
    (request,) = server.requests
    plain = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0} if told else {}
    assert {name: request[name] for name in request.keys() - {"model", "messages", "temperature"}} == {
        **plain,
        "max_tokens": 5,
    }


@pytest.mark.usefixtures("waits")
def test_a_list_of_models_that_fails_is_not_taken_for_an_answer(server: Server):
    server.models = 503
    with pytest.raises(EndpointError, match="HTTP 503"):
        ask(server, kind="auto", retries=1)
    assert not server.requests


@pytest.mark.parametrize(
    ("image", "pixel"),
    [
        (Image.new("RGBA", (2, 2), (0, 0, 0, 0)), (255, 255, 255)),
        (Image.new("I;16", (2, 2), 32896), (128, 128, 128)),
        (Image.new("P", (2, 2)), (0, 0, 0)),
    ],
    ids=["transparent", "16 bits", "palette"],
)
def test_a_picture_is_sent_as_tools_see_it(server: Server, image: Image.Image, pixel: tuple[int, ...]):
    """What a server makes of transparency and of 16 bits is its own."""
    chat = ChatEndpoint(EndpointSettings("m", server.url))
    chat([{"role": "user", "content": [{"type": "image", "image": image}]}])
    (sent,) = pictures(server.requests[0]["messages"][0])
    assert (sent.mode, sent.getpixel((0, 0))) == ("RGB", pixel)


def test_authorities_are_read_once_and_again_where_others_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str | None] = []
    read = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    monkeypatch.setattr("iapo.endpoints.transport._trusted", lambda _, named: asked.append(named[0]) or read)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    make_client(openai, 1.0).close()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path))
    make_client(openai, 1.0).close()
    assert asked == [None, str(tmp_path)]
    monkeypatch.undo()
    http: Any = type("Http", (), {"create_ssl_context": staticmethod(object)})
    assert _trusted(http, (None, None)) is _trusted(http, (None, None))
    assert _trusted(http, (None, None)) is not _trusted(http, ("a", None))


@pytest.mark.parametrize("charset", ["hex", "zlib", "bz2", "rot13", "undefined", "idna", "utf-16", "base64", "\xe9"])
def test_an_encoding_that_is_none_is_not_believed(server: Server, charset: str):
    server.content_type, server.said = f"text/plain; charset={charset}", "no such question"
    assert ask(server) == "hi there"
    server.faults = [400]
    with pytest.raises(EndpointError, match="no such question"):
        ask(server)
    server.faults = [500]
    with pytest.raises(EndpointError, match="HTTP 500"):
        ask(server, retries=0)


def test_a_header_need_not_be_ascii(server: Server):
    server.extra = server.retry_after = "\xe9\xff"
    assert ask(server) == "hi there"
    server.faults = [429]
    with pytest.raises(EndpointError, match="HTTP 429"):
        ask(server, retries=0)
