"""Client of OpenAI-compatible chat endpoints with pictures: retries with backoff, and failures that say what to do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from iapo.errors import InputError
from iapo.records import image_to_text


class EndpointError(RuntimeError):
    """The endpoint gave no answer; one sentence says why. It is never a wrong answer of the model."""


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """Where an endpoint is and how it is asked; written down with the result.

    Attributes:
        url: Its base, for example `https://api.openai.com/v1` or `http://localhost:8000/v1`.
        model: The model's name there.
        key_variable: The environment variable that holds the key; where it is unset, none is sent.
        temperature: 0 is as greedy as the endpoint can be.
        top_p: Nucleus where it samples.
        max_turn_tokens: Longest turn in tokens.
        length_parameter: What the endpoint calls that limit; the newest models of OpenAI know the second name alone.
        timeout: Seconds until a request counts as failed.
        attempts: How often a request is sent before the run stops.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    temperature: float = 0.0
    top_p: float = 1.0
    max_turn_tokens: int = 512
    length_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    timeout: float = 120.0
    attempts: int = 6


class ChatEndpoint:
    """Asks an endpoint for the next turn of a chat; may be used by several threads.

    Args:
        settings: Where and how.
        sleep: Waits for that many seconds between two attempts.

    Raises:
        InputError: If the `openai` package is missing, or a setting cannot be.
    """

    def __init__(self, settings: EndpointSettings, sleep: Callable[[float], None] = time.sleep) -> None:
        try:
            import openai
        except ImportError as error:
            raise InputError("an endpoint needs the openai package; pip install 'iapo[judge]'") from error
        if not settings.url.startswith(("http://", "https://")):
            raise InputError(f"the endpoint {settings.url!r} is no address; write http://... or https://...")
        if settings.attempts < 1:
            raise InputError(f"attempts is {settings.attempts}; give at least 1")
        self.settings, self._sleep, self._openai = settings, sleep, openai
        # An empty key is refused by the client; endpoints without keys ignore what is sent.
        key = os.environ.get(settings.key_variable) or "none"
        self._client = openai.OpenAI(base_url=settings.url, api_key=key, timeout=settings.timeout, max_retries=0)

    def __call__(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The model's next turn.

        Args:
            messages: Chat messages in the form of `iapo.rollout.prompt.to_messages`, pictures as Pillow images.

        Raises:
            EndpointError: If the endpoint refuses the request, or fails in every attempt.
        """
        request = [_wire(message) for message in messages]
        for attempt in range(self.settings.attempts):
            try:
                return self._ask(request)
            except _RetryableError as error:
                reason = str(error)
                if attempt + 1 < self.settings.attempts:
                    # 1, 2, 4 ... seconds, or as long as the endpoint asks for.
                    self._sleep(min(60.0, error.wait if error.wait is not None else 2.0**attempt))
        where = f"the endpoint {self.settings.url} failed {self.settings.attempts} times"
        raise EndpointError(f"{where}, lastly with: {reason}; see that it is up and run the same command again")

    def _ask(self, request: list[dict[str, Any]]) -> str:
        openai, settings = self._openai, self.settings
        try:
            # Read as text and parsed below: what the client makes of a malformed body differs from case to case.
            completion = self._client.chat.completions.with_raw_response.create(
                model=settings.model,
                messages=request,  # type: ignore[arg-type]
                temperature=settings.temperature,
                top_p=settings.top_p,
                extra_body={settings.length_parameter: settings.max_turn_tokens},
            )
            body = completion.http_response.json()
        except openai.APIStatusError as error:
            reason = f"HTTP {error.status_code}: {error.message}"
            if error.status_code in (408, 409, 429) or error.status_code >= 500:
                raise _RetryableError(reason, _wait(error.response.headers.get("retry-after"))) from error
            raise EndpointError(
                f"the endpoint {settings.url} refused a request to model {settings.model!r} with {reason}; "
                "correct the settings, or the sample that it refuses, and run again"
            ) from error
        except openai.APIConnectionError as error:
            # Timeouts are among them.
            raise _RetryableError(f"{type(error).__name__}: {error}") from error
        except ValueError as error:
            raise _RetryableError("a body that is not JSON") from error
        return _text(body)


class _RetryableError(Exception):
    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def _wire(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as the protocol has it: pictures as data addresses."""
    content = message["content"]
    if not isinstance(content, str):
        content = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image_to_text(part['image'])}"}}
            if part["type"] == "image"
            else {"type": "text", "text": part["text"]}
            for part in content
        ]
    return {"role": message["role"], "content": content}


def _wait(header: str | None) -> float | None:
    try:
        return None if header is None else max(0.0, float(header))
    except ValueError:
        # The header may also be a date.
        return None


def _text(body: Any) -> str:
    """The text of a response's first choice."""
    try:
        choice = body["choices"][0]
        message = choice["message"]
        text = message["content"] or message.get("refusal")
        reason = choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise _RetryableError(f"a response without a message: {str(body)[:200]}") from error
    if not isinstance(text, str):
        # A turn that was cut off or ended at once is the model's; one that was taken away from it is not.
        if reason in ("stop", "length"):
            return ""
        raise _RetryableError(f"a message without text (finish_reason {reason!r})")
    return text
