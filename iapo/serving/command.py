"""What `iapo serve` does: an agent behind a server, until it is stopped."""

from __future__ import annotations

import os
import sys

from iapo.agent.agent import Agent
from iapo.display.terminal import say
from iapo.serving.limits import Limits
from iapo.serving.server import Server
from iapo.stopping import Stopped
from iapo.tools.worker import end_workers

GRACE = 10.0
"""Seconds that answers have to end in, which they do at the next token, before the process ends in their midst."""


def run_server(agent: Agent, name: str, host: str, port: int, limits: Limits, *, log: bool) -> None:
    """Serves until it is stopped.

    Args:
        agent: The agent.
        name: Name of the model that it has here.
        host: Address to listen at.
        port: Port; 0 takes a free one.
        limits: What it takes.
        log: Whether a line a request is written to standard error.

    Raises:
        InputError: If the address cannot be had.
    """
    with Server(agent, name, host, port, limits, log=log) as server:
        say(f"{name} is served at {server.url} (the page) and {server.url}/v1 (chat completions); Ctrl-C ends it")
        if not server.local:
            say("whoever reaches this address can ask: there is no password; put a proxy with one before it")
        try:
            server.serve_forever(poll_interval=0.2)
        except (KeyboardInterrupt, Stopped):
            # Nothing goes on later, so that this is how it ends.
            say("stopped")
            if not _drained(server):
                server.cut_off()
                # The interpreter aborts where it ends in the middle of a model's work; nothing is kept that this loses.
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)


def _drained(server: Server) -> bool:
    server.stopping.set()
    # Calls of tools with a limit need not reach it.
    end_workers()
    try:
        return server.drain(GRACE)
    except (KeyboardInterrupt, Stopped):
        # Once more ends it at once.
        return False
