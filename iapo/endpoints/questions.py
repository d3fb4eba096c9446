"""Structured questions to an OpenAI-compatible endpoint: concurrent, asked again on failure, remembered on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from iapo.endpoints.chat import EndpointError
from iapo.errors import InputError

LONGEST_PAUSE = 60.0
"""Seconds between two attempts at most."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """Which endpoint is asked, and how.

    Attributes:
        model: The model's name there.
        url: Base URL, for example `http://localhost:8000/v1`; None is OpenAI's.
        key_variable: Environment variable that holds the key; servers that need none get a placeholder.
        timeout: Seconds for one request.
        retries: How often a failed request is sent again.
        concurrency: Requests at a time.
        on_error: What happens when the retries are used up: `wait` goes on asking, `stop` raises, `rules` gives no
            reply and leaves it to the caller's rules.
        cache: File that keeps replies; None keeps them in memory.
        pause: Seconds before the first retry; doubled for each further one.
    """

    model: str
    url: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    timeout: float = 60.0
    retries: int = 4
    concurrency: int = 8
    on_error: Literal["wait", "stop", "rules"] = "stop"
    cache: str | None = None
    pause: float = 1.0

    @property
    def name(self) -> str:
        """What messages call the endpoint."""
        return f"{self.model} at {self.url or 'OpenAI'}"


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        about: What the reply depends on beside model and instructions; the cache's key is made of it.
        content: The user message's content, as chat completions have it.
    """

    about: tuple[Any, ...]
    content: str | list[dict[str, Any]]


class Endpoint:
    """Asks one kind of question; a reply is a JSON object of a given schema and nothing else.

    Args:
        settings: Which endpoint, and how.
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
        try:
            import openai
        except ImportError as error:
            raise InputError("an endpoint is asked with the openai package; pip install 'iapo[judge]'") from error
        key = os.environ.get(settings.key_variable)
        if key is None and settings.url is None:
            raise InputError(f"no key for {settings.name}: set the variable {settings.key_variable}, or give a URL")
        self.settings, self._instructions, self._check = settings, instructions, check
        # Retries are ours, so that a reply that is no verdict is asked for again, too.
        self._client = openai.OpenAI(
            base_url=settings.url, api_key=key or "none", timeout=settings.timeout, max_retries=0
        )
        self._permanent = (
            openai.BadRequestError,
            openai.AuthenticationError,
            openai.PermissionDeniedError,
            openai.NotFoundError,
            openai.UnprocessableEntityError,
        )
        self._failure = openai.OpenAIError
        self._format = {
            "type": "json_schema",
            "json_schema": {"name": name, "strict": True, "schema": dict(schema)},
        }
        self._cache = _Cache(settings.cache)

    def ask(self, questions: Sequence[Question]) -> list[dict[str, Any] | None]:
        """Asks questions, equal ones once.

        Returns:
            The replies, in order; None where there is none and `on_error` is `rules`.

        Raises:
            EndpointError: If there is none and `on_error` is `stop`, if the endpoint refuses a request (a wrong key or
                model), or if it answers but never with such a reply (also with `wait`).
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
            finally:
                # After a failure nothing more is asked; what is under way is waited for.
                down.set()
                pool.shutdown(cancel_futures=True)
        return [self._cache.get(key) for key in keys]

    def _keep(self, key: str, future: Future[dict[str, Any] | None]) -> None:
        reply = future.result()
        if reply is not None:
            self._cache.put(key, reply)

    def _one(self, question: Question, down: threading.Event) -> dict[str, Any] | None:
        attempt = 0
        while not down.is_set():
            try:
                return self._send(question)
            except self._permanent as error:
                raise EndpointError(
                    f"{self.settings.name} refuses requests ({error}); check key, model and URL"
                ) from error
            except (self._failure, _NoReplyError) as error:
                attempt += 1
                waits = self.settings.on_error == "wait" and not isinstance(error, _NoReplyError)
                if attempt > self.settings.retries and not waits:
                    self._give_up(error, attempt, down)
                    return None
                pause = min(self.settings.pause * 2.0 ** min(attempt - 1, 30), LONGEST_PAUSE)
                if attempt > self.settings.retries:
                    logger.warning("%s gives no reply (%s); asking again in %.0f s", self.settings.name, error, pause)
                down.wait(pause)
        return None

    def _give_up(self, error: Exception, attempts: int, down: threading.Event) -> None:
        what = f"{self.settings.name} gave no usable reply in {attempts} attempts ({type(error).__name__}: {error})"
        if self.settings.on_error != "rules":
            raise EndpointError(f"{what}; start it again and resume, or set judge_on_error") from error
        if not isinstance(error, _NoReplyError):
            down.set()
        logger.warning("%s; the rules' verdict stands", what)

    def _send(self, question: Question) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.settings.model,
            "messages": [
                {"role": "system", "content": self._instructions},
                {"role": "user", "content": question.content},
            ],
            "temperature": 0,
            "response_format": self._format,
        }
        response = self._client.chat.completions.with_raw_response.create(**body)
        try:
            content = json.loads(response.text)["choices"][0]["message"]["content"]
            reply = json.loads(content, object_pairs_hook=_no_duplicates)
        except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
            raise _NoReplyError(f"not a chat completion with a JSON object: {response.text[:200]!r}") from error
        if not isinstance(reply, dict) or not self._check(reply):
            raise _NoReplyError(f"not of the schema that was asked for: {content[:200]!r}")
        return reply

    def _key(self, question: Question) -> str:
        parts = [self.settings.model, self._instructions, *question.about]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class _NoReplyError(Exception):
    """The endpoint answered, but not what was asked."""


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InputError("a field comes twice")
    return found


class _Cache:
    """Replies by key, in memory and, with a path, in an SQLite file that processes may share."""

    def __init__(self, path: str | None) -> None:
        self._known: dict[str, dict[str, Any]] = {}
        self._path = path
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            try:
                with self._open() as file, file:
                    file.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT, time REAL)")
            except sqlite3.Error as error:
                raise InputError(f"cannot use the cache {path} ({error}); give another judge_cache") from error

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def get(self, key: str) -> dict[str, Any] | None:
        if key not in self._known and self._path is not None:
            with self._open() as file:
                row = file.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
            if row is not None:
                self._known[key] = json.loads(row[0])
        return self._known.get(key)

    def put(self, key: str, reply: dict[str, Any]) -> None:
        self._known[key] = reply
        if self._path is not None:
            with self._open() as file, file:
                file.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?)", (key, json.dumps(reply), time.time()))

    def _open(self) -> closing[sqlite3.Connection]:
        assert self._path is not None
        # A connection belongs to one thread and one process, and opening one costs less than a request by far.
        return closing(sqlite3.connect(self._path, timeout=60))
