"""What a client asks for: the body of a chat completion, read and checked; nothing in it is fetched or opened."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from iapo.agent.agent import with_limits
from iapo.errors import InputError
from iapo.evaluation.local import EvaluationSettings
from iapo.records import MOST_IMAGES

_UNUSED = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls")
"""Fields that say nothing of the answer."""

_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
    "logprobs": (False,),
    "logit_bias": ({},),
    "stop": ([],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
}
"""Fields that are understood with the values that change nothing, and with no other."""

_OWN = (
    *("model", "messages", "stream", "stream_options", "temperature", "top_p", "seed"),
    *("max_tokens", "max_completion_tokens", "iapo"),
)

EXTENSION = ("boxes", "attribution", "image")
"""Fields of a request's own field `iapo`."""


class RequestError(Exception):
    """A request that is refused.

    Args:
        status: HTTP status, 4xx.
        message: One sentence: what is wrong, and what to do.
        param: Field of the request that it is about.
        code: Word for it, as OpenAI has them.
    """

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat completion that is asked for.

    Attributes:
        images: The images, encoded, in order.
        question: The question.
        boxes: Its boxes; None has them looked for.
        settings: How turns are written.
        stream: Whether the reply comes in events.
        usage: Whether a stream ends with the numbers of tokens.
        attribution: Whether the call is attributed.
        shown: Whether the reply holds the edited image.
    """

    images: tuple[bytes, ...]
    question: str
    boxes: Mapping[str, Any] | None
    settings: EvaluationSettings
    stream: bool
    usage: bool
    attribution: bool
    shown: bool


def read_request(body: bytes, model: str, settings: EvaluationSettings) -> ChatRequest:
    """Reads a request's body.

    Args:
        body: The body.
        model: Name of the served model.
        settings: The server's settings; a request may change its sampling, and shorten its turns.

    Raises:
        RequestError: If it is not understood in full.
    """
    fields = _object(body)
    for name, value in fields.items():
        if value is None or name in _OWN or name in _UNUSED:
            continue
        if name not in _NEUTRAL:
            _refuse(f"the field {name!r} is unknown here; leave it out", name)
        if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in _NEUTRAL[name]):
            _refuse(f"{name} cannot be chosen here: the policy has its own prompt, tools and way to answer", name)
    named = fields.get("model")
    if not isinstance(named, str) or not named:
        what = "missing" if named is None else "empty" if named == "" else "no text"
        _refuse(f"model is {what}; give the name that /v1/models lists", "model")
    if named != model:
        raise RequestError(404, f"no model {named[:100]!r}; this server has {model!r}", "model", "model_not_found")
    images, question = _message(fields.get("messages"))
    extension = _part(fields, "iapo", dict, {})
    for name in extension:
        if name not in EXTENSION:
            _refuse(f"iapo has no field {str(name)[:100]!r}; its fields are {', '.join(EXTENSION)}", "iapo")
    return ChatRequest(
        images=images,
        question=question,
        boxes=_part(extension, "boxes", dict, None),
        settings=_settings(fields, settings),
        stream=_part(fields, "stream", bool, False),
        usage=bool(_part(_part(fields, "stream_options", dict, {}), "include_usage", bool, False)),
        attribution=_part(extension, "attribution", bool, False),
        shown=_part(extension, "image", bool, True),
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "the body is not JSON; send one JSON object, as chat completions have it") from error
    if not isinstance(found, dict):
        raise RequestError(400, "the body is no JSON object; send one, as chat completions have it")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def _settings(fields: Mapping[str, Any], settings: EvaluationSettings) -> EvaluationSettings:
    asked: dict[str, Any] = {}
    for name in ("temperature", "top_p"):
        value = _part(fields, name, (int, float), None)
        asked[name] = None if value is None else _float(name, value)
    asked["seed"] = _part(fields, "seed", int, None)
    given = {name: _part(fields, name, int, None) for name in ("max_tokens", "max_completion_tokens")}
    longest = [value for value in given.values() if value is not None]
    for name, value in given.items():
        if value is not None and value < 1:
            _refuse(f"{name} is {value}; give at least 1", name)
    if longest:
        # A limit: more than the server allows is not needed to keep it.
        asked["max_turn_tokens"] = min(*longest, settings.max_turn_tokens)
    try:
        return with_limits(settings, **asked)
    except InputError as error:
        raise RequestError(400, str(error)) from error


def _float(name: str, value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        _refuse(f"{name} is too large a number", name)


def _message(messages: Any) -> tuple[tuple[bytes, ...], str]:
    if not isinstance(messages, list) or not messages:
        what = "missing" if messages is None else "empty" if messages == [] else "no list"
        _refuse(f"messages is {what}; give one user message with an image and a question")
    if len(messages) > 1:
        _refuse(
            f"there are {len(messages)} messages; give one user message with an image and a question: the policy has "
            "its own instructions and tools, and answers one question at a time (so that this server is no --upstream)"
        )
    (message,) = messages
    if not isinstance(message, dict) or message.get("role") != "user":
        _refuse("the message is not the user's; give one with the role 'user', an image and a question")
    content = message.get("content")
    if isinstance(content, str):
        _refuse("the message has no image; give its content as parts, one image_url and one text")
    if not isinstance(content, list):
        _refuse("the message's content is neither text nor a list of parts")
    images, texts = [], []
    for part in content:
        if not isinstance(part, dict):
            _refuse("a part of the message is no object; write {'type': 'text', 'text': ...} or an image_url")
        kind = part.get("type")
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            images.append(_address(part.get("image_url")))
        elif kind == "text":
            _refuse("a part of the type text has no text; give it one")
        elif kind is None:
            _refuse("a part of the message has no type; use text and image_url")
        else:
            _refuse(f"a part of the message is of the type {str(kind)[:100]!r}; use text and image_url")
    if not 1 <= len(images) <= MOST_IMAGES:
        _refuse(f"the message has {len(images)} images; give 1 to {MOST_IMAGES}")
    question = "\n".join(texts)
    if not question.strip():
        _refuse("the message has no question; give a part with text")
    return tuple(map(_decoded, images)), question


def _address(part: Any) -> str:
    found = part.get("url") if isinstance(part, dict) else part
    if not isinstance(found, str):
        _refuse("an image_url has no url; give a data URL, data:image/png;base64,...")
    return found


def _decoded(url: str) -> bytes:
    if url[:5].lower() != "data:":
        _refuse("images are not fetched from addresses; send the image itself as a data URL, data:image/png;base64,...")
    head, comma, data = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        _refuse("the image's data URL is not base64; write data:image/png;base64,...")
    try:
        found = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(400, "the image's base64 is damaged; encode its file anew", "messages") from error
    if not found:
        _refuse("the image's data URL is empty; put the image's file into it")
    return found


def _part(fields: Mapping[str, Any], name: str, kind: Any, default: Any) -> Any:
    value = fields.get(name)
    if value is None:
        return default
    # To Python true is a number, too.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        _refuse(f"{name} is of the wrong type ({type(value).__name__})", name)
    return value


def _refuse(message: str, param: str = "messages") -> NoReturn:
    raise RequestError(400, message, param)
