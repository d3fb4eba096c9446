"""Answers in the form of chat completions: whole, or in chunks as they come."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

from iapo.agent.answers import Answer, Event


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Returns an error as OpenAI has them."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class Completion:
    """One chat completion: its id and time, the same in all that is said of it.

    Args:
        model: Name of the served model.
    """

    def __init__(self, model: str) -> None:
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def whole(self, answer: Answer, *, shown: bool) -> dict[str, Any]:
        """Returns the completion.

        Args:
            answer: The answer; its final answer is the message's content, all else in the field `iapo`.
            shown: Whether the edited image is in it.
        """
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(answer)}
        usage = _usage(answer)
        more = {} if usage is None else {"usage": usage}
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            **more,
            "iapo": answer.to_json(image=shown),
        }

    def start(self) -> dict[str, Any]:
        """Returns the first chunk."""
        return self._chunk({"role": "assistant", "content": ""})

    def event(self, event: Event, *, shown: bool) -> dict[str, Any]:
        """Returns the chunk of an event on the way: nothing of the content, the event in the field `iapo`."""
        told = event.to_json()
        if not shown:
            told.pop("image", None)
        return {**self._chunk({}), "iapo": told}

    def end(self, answer: Answer, *, usage: bool) -> list[dict[str, Any]]:
        """Returns the last chunks: the content, its end with the answer in the field `iapo`, and the usage."""
        last = self._chunk({}, _reason(answer)) | {"iapo": {"event": "answer", **answer.to_json(image=False)}}
        found = [self._chunk({"content": answer.text}), last]
        if usage and (numbers := _usage(answer)) is not None:
            found.append({**self._chunk({}), "choices": [], "usage": numbers})
        return found

    def _chunk(self, delta: Mapping[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": dict(delta), "logprobs": None, "finish_reason": reason}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}


def sse(data: Mapping[str, Any] | str) -> bytes:
    """Returns one server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data)
    return f"data: {text}\n\n".encode()


def _reason(answer: Answer) -> str:
    return "stop" if answer.whole else "length"


def _usage(answer: Answer) -> dict[str, int] | None:
    if answer.prompt_tokens is None or answer.written_tokens is None:
        return None
    prompt, written = answer.prompt_tokens, answer.written_tokens
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
