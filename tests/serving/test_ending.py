"""Answers that nobody waits for: clients that went away, and a server that is stopped in their midst."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from agent.asked import charts
from processes import started
from serving.test_server import body_of

from iapo.agent.agent import Agent
from iapo.agent.answers import Answer, TextEvent, Turn
from iapo.agent.questions import Question
from iapo.rollout.template import DEFAULT, PromptTemplate, find_prompt
from iapo.serving import command
from iapo.serving.limits import Limits
from iapo.serving.server import Server
from iapo.tools import TOOLS, ToolDefinition

LIMITS = Limits(waiting=2, connections=8)


class Endless:
    """A model that writes until it is told to stop, or to finish.

    Attributes:
        begun: Whether it writes.
        finish: Whether it ends by itself.
        told: Whether it has told of a word.
        deaf: Whether it is in the middle of a token that takes long.
    """

    template: PromptTemplate = find_prompt(DEFAULT)
    tools: Mapping[str, ToolDefinition] = TOOLS
    at_once = 1

    def __init__(self) -> None:
        self.told = False
        self.begun, self.finish, self.deaf = threading.Event(), threading.Event(), threading.Event()

    def ask(
        self,
        questions: Sequence[Question],
        settings: Any,
        *,
        attribution: bool = False,
        watch: Callable[[Any], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> list[Answer]:
        self.begun.set()
        while not self.finish.is_set():
            time.sleep(0.01)
            assert check is not None
            if not self.deaf.is_set():
                check()
            elif self.told:
                continue
            if watch is not None:
                watch(TextEvent(1, "word "))
                self.told = True
        return [Answer(one.sample.question, "7", (Turn("7"),), "no_call") for one in questions]


@contextlib.contextmanager
def running(model: Endless) -> Iterator[Server]:
    with Server(Agent(model), "tiny", "127.0.0.1", 0, LIMITS, log=False) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            model.finish.set()
            server.shutdown()
            thread.join()


def ask(server: Server, **more: Any) -> socket.socket:
    """Sends a request, and reads nothing of its answer."""
    body = json.dumps(body_of(charts(1)[0], **more)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    one = socket.create_connection(("127.0.0.1", server.server_port), timeout=30)
    one.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
    return one


def read(one: socket.socket, wanted: bytes) -> bytes:
    """Reads until something has come."""
    found = b""
    while wanted not in found:
        piece = one.recv(65536)
        assert piece, found
        found += piece
    return found


def is_free(server: Server, seconds: float = 10) -> bool:
    """Tells whether the model is free, within some seconds."""
    found = server.work.acquire(timeout=seconds)
    if found:
        server.work.release()
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_the_model(stream: bool) -> None:
    with running(model := Endless()) as server:
        gone = ask(server, stream=stream)
        assert model.begun.wait(10)
        assert not is_free(server, 0.2)
        gone.close()
        assert is_free(server)
        # Nor is one begun for whom nobody waits any more when its turn comes.
        model.begun.clear()
        first = ask(server)
        assert model.begun.wait(10)
        ask(server).close()
        model.begun.clear()
        time.sleep(0.1)
        model.finish.set()
        read(first, b'"content": "7"')
        assert is_free(server)
        assert not model.begun.wait(1)


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_is_stopped_ends_its_answers(stream: bool) -> None:
    with running(model := Endless()) as server:
        first = ask(server, stream=stream)
        assert model.begun.wait(10)
        waits = [ask(server), ask(server)]
        time.sleep(0.1)
        assert server.drain(10)
        # What the process would cut off now was told before.
        assert not server.under_way
        for one in (first, *waits):
            answer = read(one, b"the server is stopping; ask again when it is back")
            assert answer.startswith(b"HTTP/1.1 200" if stream and one is first else b"HTTP/1.1 503")


@pytest.mark.parametrize("stream", [False, True])
def test_a_token_that_takes_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    ended: list[int] = []
    sent: list[socket.socket] = []
    model = Endless()
    model.deaf.set()
    serve_forever = Server.serve_forever

    def serve(server: Server, **_: Any) -> None:
        threading.Thread(target=serve_forever, args=(server,), daemon=True).start()
        sent.append(ask(server, stream=stream))
        assert model.begun.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", serve)
    monkeypatch.setattr(command, "GRACE", 0.1)
    monkeypatch.setattr("os._exit", ended.append)
    command.run_server(Agent(model), "tiny", "127.0.0.1", 0, LIMITS, log=False)
    assert ended == [0]
    found = read(sent[0], b"the server is stopping; ask again when it is back")
    assert found.startswith(b"HTTP/1.1 200" if stream else b"HTTP/1.1 503")
    model.finish.set()


@pytest.mark.slow(8)
@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_process_ends_well_in_the_midst_of_an_answer(number: int) -> None:
    words = ["serve", "--model", "tiny-student", "--port", "0", "--max-turn-tokens", "900", "--temperature", "60"]
    command_line = [sys.executable, "-m", "iapo", *words]
    with started(command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        url = line.split()[4]
        data = json.dumps({**body_of(charts(1)[0], stream=True), "model": "tiny-student"}).encode()
        request = urllib.request.Request(f"{url}/v1/chat/completions", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.readline()
            process.send_signal(number)
            rest = answer.read().decode()
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output.splitlines()[-1]) == (0, "stopped"), errors
    assert "terminate called" not in errors
    assert "the server is stopping" in rest
