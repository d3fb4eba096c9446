"""Structured questions to an OpenAI-compatible endpoint: concurrent, replies checked, remembered on disk."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iapo.endpoints.chat import (
    ChatEndpoint,
    EndpointError,
    EndpointSettings,
    RefusedError,
    UnansweredError,
    pause,
)
from iapo.endpoints.replies import UnusableError, no_duplicates
from iapo.errors import InputError, PlaceError
from iapo.storage import make_folder

logger = logging.getLogger(__name__)

_OF_ONE = (400, 413, 414, 415, 422, 431, 451)
"""Statuses of a refusal that is about the content of one question."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        about: Parts that the reply depends on beside model and instructions; the cache's key is made of them.
        content: The user message's content, as chat completions have it.
    """

    about: tuple[Any, ...]
    content: str | list[dict[str, Any]]


class Endpoint:
    """Asks one kind of question; a reply is a JSON object of a given schema and nothing else.

    Args:
        settings: Endpoint, and how.
        name: The schema's name.
        instructions: The system message.
        schema: JSON schema of the reply.
        check: Says whether a parsed reply is one, since not every server enforces schemas.

    Raises:
        InputError: If the `openai` package or the key is missing.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        name: str,
        instructions: str,
        schema: Mapping[str, Any],
        check: Callable[[dict[str, Any]], bool],
    ) -> None:
        self.settings, self._instructions, self._check = settings, instructions, check
        self._chat = ChatEndpoint(settings)
        schema_format = {"name": name, "strict": True, "schema": dict(schema)}
        self._more = {"response_format": {"type": "json_schema", "json_schema": schema_format}}
        self._cache = _Cache(settings.cache, check)
        self._has_answered = False

    def ask(self, questions: Sequence[Question]) -> list[dict[str, Any] | None]:
        """Asks questions, equal ones once.

        Returns:
            The replies, in order; None where there is none and `on_error` is `rules`.

        Raises:
            EndpointError: If there is none and `on_error` is `stop`, if the endpoint refuses requests (a wrong key or
                model; with `rules` only if it has answered none yet and the status is not about the content), or if
                it answers but never with such a reply (also with `wait`).
        """
        keys = [self._key(question) for question in questions]
        missing = {key: question for key, question in zip(keys, questions, strict=True) if key not in self._cache}
        # Once the retries of one question are used up, others need not wait for theirs.
        down = threading.Event()
        with ThreadPoolExecutor(max_workers=max(1, min(self.settings.concurrency, len(missing)))) as pool:
            futures = {pool.submit(self._one, question, down): key for key, question in missing.items()}
            try:
                for future in as_completed(futures):
                    self._keep(futures[future], future)
            except EndpointError:
                # Nothing more is asked; what is under way is waited for, and kept.
                down.set()
                pool.shutdown(cancel_futures=True)
                for future, key in futures.items():
                    if not future.cancelled() and future.exception() is None:
                        self._keep(key, future)
                raise
            finally:
                down.set()
                pool.shutdown(cancel_futures=True)
        return [self._cache.get(key) for key in keys]

    def _keep(self, key: str, future: Future[dict[str, Any] | None]) -> None:
        reply = future.result()
        if reply is not None:
            self._cache.put(key, reply)

    def _one(self, question: Question, down: threading.Event) -> dict[str, Any] | None:
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": self._instructions},
            {"role": "user", "content": question.content},
        ]
        for number in itertools.count():
            if down.is_set():
                break
            try:
                reply = self._chat.ask(messages, self._read, self._more)
            except RefusedError as error:
                # What refuses from the start refuses everything; later, or for its content, it is this question alone.
                one = error.status in _OF_ONE or (self._has_answered and error.status >= 400)
                if self.settings.on_error == "rules" and one:
                    logger.warning("%s refuses a question (%s); the rules' verdict stands", self.settings.name, error)
                    break
                raise EndpointError(
                    f"{self.settings.name} refuses requests ({error.reason}); check key, model and URL"
                ) from error
            except UnansweredError as error:
                # An endpoint that answers, only not with a reply, would not do so later.
                if self.settings.on_error != "wait" or error.answered:
                    self._give_up(error, down)
                    break
                seconds, name = pause(number), self.settings.name
                logger.warning("%s gives no reply (%s); asking again in %.0f s", name, error.reason, seconds)
                down.wait(seconds)
            else:
                self._has_answered = True
                return reply
        return None

    def _give_up(self, error: UnansweredError, down: threading.Event) -> None:
        what = f"{self.settings.name} gave no usable reply in {error.attempts} attempts ({error.reason})"
        if self.settings.on_error != "rules":
            raise EndpointError(f"{what}; start it again and resume, or set judge_on_error") from error
        if not error.answered:
            down.set()
        logger.warning("%s; the rules' verdict stands", what)

    def _read(self, text: str) -> dict[str, Any]:
        try:
            reply = json.loads(text, object_pairs_hook=no_duplicates)
        except (ValueError, RecursionError) as error:
            raise UnusableError("not a JSON object: {}", repr(text)) from error
        if not isinstance(reply, dict) or not self._check(reply):
            raise UnusableError("not of the schema that was asked for: {}", repr(text))
        return reply

    def _key(self, question: Question) -> str:
        settings = self.settings
        model = settings.model if settings.served_as is None else [settings.model, settings.served_as]
        parts = [model, self._instructions, *question.about]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class _Cache:
    """Replies by key, in memory and, with a path, in an SQLite file that processes may share.

    Args:
        path: The file.
        check: Says whether what the file holds is a reply; what is none is asked for anew.
    """

    def __init__(self, path: str | None, check: Callable[[dict[str, Any]], bool]) -> None:
        self._known: dict[str, dict[str, Any]] = {}
        self._path, self._check = path, check
        if path is not None:
            with self._usable():
                make_folder(Path(path).parent)
                with self._open() as file, file:
                    file.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT, time REAL)")

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def get(self, key: str) -> dict[str, Any] | None:
        if key not in self._known and self._path is not None:
            with self._usable(), self._open() as file:
                row = file.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
            with suppress(ValueError, TypeError, RecursionError):
                reply = None if row is None else json.loads(row[0])
                if isinstance(reply, dict) and self._check(reply):
                    self._known[key] = reply
        return self._known.get(key)

    def put(self, key: str, reply: dict[str, Any]) -> None:
        self._known[key] = reply
        if self._path is not None:
            with self._usable(), self._open() as file, file:
                file.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?)", (key, json.dumps(reply), time.time()))

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Says in one sentence where the file is none, or its disk takes no more."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
                raise PlaceError(
                    f"{self._path} could not be written ({error}); make room there and start the same command again"
                ) from error
            raise InputError(f"cannot use the cache {self._path} ({error}); give another judge_cache") from error

    def _open(self) -> closing[sqlite3.Connection]:
        assert self._path is not None
        # A connection belongs to one thread and one process, and opening one costs less than a request by far.
        return closing(sqlite3.connect(self._path, timeout=60))
