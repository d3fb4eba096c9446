"""Client of OpenAI-compatible chat endpoints with pictures: one way to ask, to try again, and to say what failed."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from iapo.bounds import COUNT, ENDPOINT_HEAT, PART, SECONDS, TOGETHER, TRIES, check_number
from iapo.endpoints.address import check_address, check_variable, without_credentials
from iapo.endpoints.hiding import Hiding, basic, check_key, split_credentials
from iapo.endpoints.replies import Reply, UnusableError, read_reply
from iapo.endpoints.transport import make_client
from iapo.errors import InputError, one_line
from iapo.kinds import check_kinds, checks_kinds
from iapo.records import image_address

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds before an answer that cannot be used is asked for again; doubled each time, up to the second."""

WHOLE_STATUS = (200, 201, 203)
"""HTTP statuses of a whole answer: not of one that is on its way, or a part."""

_SHOWN = 500
"""Characters of what an endpoint says of an error that are repeated."""

PLAIN_SAMPLING = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""What vLLM's server takes from the checkpoint's generation configuration unless a request says it; OpenAI's refuses
these fields."""

_Answer = TypeVar("_Answer")

logger = logging.getLogger(__name__)


class EndpointError(RuntimeError):
    """The endpoint gave no answer; one sentence says why. It is never a wrong answer of the model."""


class RefusedError(EndpointError):
    """The endpoint refuses the request, such as for a wrong key; asking again would not help.

    Attributes:
        reason: Sentence that it says.
        status: The response's HTTP status.
    """

    def __init__(self, message: str, reason: str, status: int) -> None:
        super().__init__(message)
        self.reason, self.status = reason, status


class UnansweredError(EndpointError):
    """No attempt brought an answer that can be used.

    Attributes:
        reason: Sentence on what was wrong with the last attempt.
        attempts: Number of there were.
        answered: Whether the endpoint answered the last one, only not with what was asked for.
    """

    def __init__(self, message: str, reason: str, attempts: int, answered: bool) -> None:
        super().__init__(message)
        self.reason, self.attempts, self.answered = reason, attempts, answered


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """Where an endpoint is and how it is asked.

    Attributes:
        model: Name of the model there.
        served_as: Name by which its answers call the model, where that is another one, as with deployments; answers
            must bear it. None: the model's own (`iapo.endpoints.replies.same_model`).
        url: Its base, for example `http://localhost:8000/v1`, also with `user:password@`; None is OpenAI's.
        key_variable: Environment variable that holds the key; endpoints without keys ignore what is sent.
        temperature: Temperature of the sampling; 0 is as greedy as the endpoint can be.
        top_p: Nucleus of the sampling; None leaves it to the endpoint.
        max_turn_tokens: Longest answer in tokens; None leaves it to the endpoint.
        length_parameter: Name of that limit there; the newest models of OpenAI know the second alone.
        kind: Program that serves it: `vllm` is told the rest of the sampling, too (`PLAIN_SAMPLING`), `openai` is not,
            and with `auto` the endpoint's list of models says which of them it is.
        timeout: Seconds until a request counts as failed, from its start to the last byte of the response.
        retries: Number of times a failed request is sent again.
        concurrency: Structured questions that are under way at a time (`iapo.endpoints.questions`).
        on_error: Reaction to a structured question whose retries are used up: `wait` goes on asking, `stop` raises,
            `rules` gives no reply and leaves it to the caller's rules.
        cache: File that keeps the replies to structured questions; None keeps them in memory.

    Raises:
        InputError: If the model has no name, the URL is no base address, the variable's name can be none, or a number
            cannot be.
    """

    model: str
    url: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    temperature: float = 0.0
    top_p: float | None = None
    max_turn_tokens: int | None = None
    length_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    kind: Literal["auto", "vllm", "openai"] = "openai"
    timeout: float = 120.0
    retries: int = 5
    concurrency: int = 8
    on_error: Literal["wait", "stop", "rules"] = "stop"
    cache: str | None = None
    served_as: str | None = None

    def __post_init__(self) -> None:
        check_kinds(self)
        check_address("the endpoint's address", self.url)
        check_variable("the endpoint's key_variable", self.key_variable)
        if not self.model:
            raise InputError("the endpoint's model is an empty text; give the model's name there")
        for name, bound in _BOUNDS.items():
            check_number(f"the endpoint's {name}", getattr(self, name), bound)

    @property
    def where(self) -> str:
        """The endpoint's address for messages, without credentials."""
        return "OpenAI" if self.url is None else without_credentials(self.url)

    @property
    def name(self) -> str:
        """What messages call the model there."""
        return f"{self.model} at {self.where}"


_BOUNDS = {
    "temperature": ENDPOINT_HEAT,
    "top_p": PART,
    "max_turn_tokens": COUNT,
    "timeout": SECONDS,
    "retries": TRIES,
    "concurrency": TOGETHER,
}


class ChatEndpoint:
    """Asks an endpoint for the next turn of a chat; may be used by several threads.

    Requests that fail on the way, time out, or end with status 408, 409, 429 or 5xx are sent again by the `openai`
    package, which waits as long as the endpoint asks for, or longer each time.

    Args:
        settings: Settings of endpoint and requests.

    Raises:
        InputError: If the `openai` package or the key is missing, or a setting cannot be.
    """

    @checks_kinds
    def __init__(self, settings: EndpointSettings) -> None:
        try:
            import openai
        except ImportError as error:
            raise InputError("an endpoint needs the openai package; pip install 'iapo[judge]'") from error
        url, credentials = (None, "") if settings.url is None else split_credentials(settings.url)
        headers = {"Authorization": f"Basic {basic(credentials)}"} if credentials else {}
        key = os.environ.get(settings.key_variable)
        if key is None and url is None:
            raise InputError(f"no key for {settings.name}: set the variable {settings.key_variable}, or give a URL")
        check_key(settings.key_variable, key or "")
        self.settings, self._openai, self._hiding = settings, openai, Hiding(key, credentials)
        self._vllm: bool | None = None
        self._asking, self._told = threading.Lock(), False
        # An empty key is refused by the client; endpoints without keys ignore what is sent.
        self._client = openai.OpenAI(
            base_url=url,
            api_key=key or "none",
            timeout=settings.timeout,
            default_headers=headers,
            http_client=make_client(openai, settings.timeout),
        )

    def __call__(self, messages: Sequence[Mapping[str, Any]], more: Mapping[str, Any] | None = None) -> Reply:
        """The model's next turn; the first answer without a text of its own is told in a line.

        Args:
            messages: Chat messages in the form of `iapo.rollout.prompt.to_messages`, images as Pillow images.
            more: Further fields of the request.

        Raises:
            EndpointError: If the endpoint refuses the request, or fails in every attempt.
        """
        reply = self.ask([_wire(message) for message in messages], lambda reply: reply, more)
        if reply.instead:
            with self._asking:
                told, self._told = self._told, True
            if not told:
                counts = "is taken as the answer" if reply else "is no answer, and counts as an empty turn"
                logger.warning(
                    "%s gave %s in the place of a text, which %s; so it is with further ones.",
                    self.settings.name,
                    reply.instead,
                    counts,
                )
        return reply

    def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        read: Callable[[Reply], _Answer],
        more: Mapping[str, Any] | None = None,
    ) -> _Answer:
        """Asks until an answer can be used.

        Args:
            messages: Chat messages as the protocol has them.
            read: Function that makes an answer of the text; raises `UnusableError` where it cannot be used.
            more: Further fields of the request.

        Raises:
            RefusedError: If the endpoint refuses the request.
            UnansweredError: If no attempt brought an answer that can be used.
        """
        settings, attempts = self.settings, 0
        body: dict[str, Any] = {"model": settings.model, "messages": messages, "temperature": settings.temperature}
        if settings.top_p is not None:
            body["top_p"] = settings.top_p
        extra = dict(PLAIN_SAMPLING) if self._is_vllm() else {}
        if settings.max_turn_tokens is not None:
            extra[settings.length_parameter] = settings.max_turn_tokens
        if extra:
            body["extra_body"] = extra
        while True:
            failures, status, answer = self._send({**body, **(more or {})}, settings.retries - attempts)
            attempts += failures + 1
            try:
                if status not in WHOLE_STATUS:
                    raise UnusableError(f"HTTP {status}, which is no whole answer")
                return read(read_reply(answer, settings.served_as or settings.model))
            except UnusableError as error:
                if attempts > settings.retries:
                    # Not from the error, whose own text may hold a secret, as a traceback would show.
                    raise self._unanswered(error.told(self._hiding.plain), attempts, answered=True) from None
            time.sleep(pause(attempts - 1))

    def _is_vllm(self) -> bool:
        """Says whether the endpoint is vLLM's; asks it once, where the settings leave it open."""
        if self._vllm is None:
            with self._asking:
                if self._vllm is None:
                    kind = self.settings.kind
                    self._vllm = kind == "vllm" or (kind == "auto" and self._lists_vllm())
        return self._vllm

    def _lists_vllm(self) -> bool:
        client = self._client.with_options(max_retries=self.settings.retries)
        try:
            text = client.models.with_raw_response.list().http_response.text
            return any(one.get("owned_by") == "vllm" for one in json.loads(text)["data"])
        except self._openai.APIConnectionError as error:
            reason = self._cut(f"{type(error).__name__}: {error}")
            raise self._unanswered(reason, _sent(error), answered=False) from error
        except self._openai.APIStatusError as error:
            # Not every endpoint has such a list; one that fails may be vLLM's.
            if error.status_code < 500 or error.status_code == 501:
                return False
            raise self._unanswered(f"HTTP {error.status_code}", _sent(error), answered=False) from error
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return False

    def _send(self, body: dict[str, Any], retries: int) -> tuple[int, int, bytes]:
        """Returns how often the request had failed before, `retries` of which are allowed, and status and body of the
        response.
        """
        openai, settings = self._openai, self.settings
        taken = settings.retries - retries
        try:
            # Parsed later: what the client makes of a malformed body differs from case to case.
            response = self._client.with_options(max_retries=retries).chat.completions.with_raw_response.create(**body)
            return response.retries_taken, response.status_code, response.http_response.content
        except openai.APIStatusError as error:
            headers = error.response.headers
            reason = f"HTTP {error.status_code} ({type(error).__name__}): {self._cut(error.message)}"
            if 300 <= error.status_code < 400:
                target = self._cut(headers.get("location", "nowhere"), 200)
                reason = f"HTTP {error.status_code}, a redirect to {target}, which is not followed"
            elif "retry-after" in headers:
                reason += f" (Retry-After: {self._cut(headers['retry-after'], 40)})"
            reason = one_line(reason)
            # What the client's own error says may hold the key, and a traceback shows it.
            if error.status_code in (408, 409, 429) or error.status_code >= 500:
                raise self._unanswered(reason, taken + _sent(error), answered=False) from None
            raise RefusedError(
                f"the endpoint {settings.where} refused a request to model {settings.model!r} with {reason}; "
                "correct the settings, or the sample that it refuses, and run again",
                reason,
                error.status_code,
            ) from None
        except openai.APIConnectionError as error:
            # Timeouts are among them.
            reason = self._cut(f"{type(error).__name__}: {error}")
            raise self._unanswered(reason, taken + _sent(error), answered=False) from error

    def _cut(self, said: str, shown: int = _SHOWN) -> str:
        """Returns the beginning of what an endpoint says, in one line, without the secrets that some repeat: before it
        is cut, since a part of one would not be known as one.
        """
        return one_line(" ".join(self._hiding.plain(said).split())[:shown])

    def _unanswered(self, reason: str, attempts: int, answered: bool) -> UnansweredError:
        where = f"the endpoint {self.settings.where} failed {attempts} times"
        advice = (
            "check the model's name, the address and that it can answer in this form"
            if answered
            else "see that it is up"
        )
        message = f"{where}, lastly with: {reason}; {advice} and run the same command again"
        return UnansweredError(message, reason, attempts, answered)


def pause(number: int) -> float:
    """Seconds before asking again: the first time (`number` 0) the shortest."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(number, 30))


def _sent(error: Any) -> int:
    """Returns how often the request of an error was sent; the client counts in a header."""
    return int(error.request.headers.get("x-stainless-retry-count", 0)) + 1


def _wire(message: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a message as the protocol has it: images as data addresses."""
    content = message["content"]
    if not isinstance(content, str):
        content = [
            {"type": "image_url", "image_url": {"url": image_address(part["image"])}}
            if part["type"] == "image"
            else {"type": "text", "text": part["text"]}
            for part in content
        ]
    return {"role": message["role"], "content": content}
