"""What counts as an answer: the text of a response that is whole and of the model that was asked, and nothing else."""

from __future__ import annotations

import json
import re
from typing import Any, Self

from iapo.errors import one_line

LONGEST_BODY = 16 * 2**20
"""Bytes of a response; the longest answers of today's models are a few hundred thousand."""

WHOLE = ("stop", "length")
"""Reasons to end that are the model's own: it was done, or its tokens were used up. After any other the answer was
taken away, is a call of a tool that nobody offered, or broke off."""

_VERSION = re.compile(
    r"[-:@_](latest|(preview-)?(v\d{1,3}|\d{3,4}|\d{6}|\d{8}|\d{4}-\d{2}-\d{2}|\d{2}-\d{4}|\d{2}-\d{2})|preview)"
)
_OTHERS = ("user", "system", "developer", "tool", "function")
"""Roles of messages that a model is asked with, and never answers with."""

_UNSAID = ("thinking", "reasoning")
"""Kinds of parts that are not of the answer."""

_THOUGHTS = ("reasoning_content", "reasoning")
"""Fields of a message in which servers with a parser of thoughts put what they take out of the text."""


class UnusableError(Exception):
    """An answer is not whole, or not what was asked for; it is asked for again."""

    def __init__(self, said: str) -> None:
        # What an endpoint sent may have lines.
        super().__init__(one_line(" ".join(said.split())))


class Reply(str):
    """An answer's text, and how it came to be.

    Attributes:
        cut: Whether its tokens were used up before the model ended it.
        instead: What stands in the place of a text, a phrase; empty where the text is the answer, or there is nothing.
    """

    cut: bool
    instead: str

    def __new__(cls, text: str, *, cut: bool = False, instead: str = "") -> Self:
        """Makes one.

        Args:
            text: Text of the answer.
            cut: Whether it was cut off.
            instead: What stands in its place.
        """
        reply = super().__new__(cls, text)
        reply.cut, reply.instead = cut, instead
        return reply


def read_reply(body: bytes, model: str) -> Reply:
    """Reads the text of a response's one choice.

    Args:
        body: The response's body.
        model: Name of the model that was asked, or that it is served as.

    Returns:
        The text; empty if the model ended at once. A refusal in words is its text where there is no other.

    Raises:
        UnusableError: If it is no whole answer of that model.
    """
    if len(body) > LONGEST_BODY:
        raise UnusableError(f"a body of more than {LONGEST_BODY:,} bytes")
    try:
        found = json.loads(body, object_pairs_hook=no_duplicates)
    except (ValueError, RecursionError) as error:
        raise UnusableError("a body that is not JSON") from error
    try:
        choices = found["choices"]
        choice = choices[0]
        message, reason = choice["message"], choice.get("finish_reason")
        content, refusal, calls = message["content"], message.get("refusal"), message.get("tool_calls")
        named, failure = found.get("model"), found.get("error")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise UnusableError(f"a response without a message: {body[:200].decode(errors='replace')}") from error
    if len(choices) != 1:
        raise UnusableError(f"{len(choices)} answers, of which one was asked for")
    if failure:
        raise UnusableError(f"an error: {str(failure)[:200]}")
    if named not in (None, "") and not same_model(model, named):
        raise UnusableError(
            f"an answer of another model, {str(named)[:100]!r}; if that is the one you mean, ask for it by that name, "
            "or say that it is served as that (docs/grading.md)"
        )
    if reason not in WHOLE:
        raise UnusableError(f"an answer that is not whole (finish_reason {str(reason)[:100]!r})")
    if calls or message.get("function_call"):
        raise UnusableError("a call of a tool that was not offered, in place of a text")
    if message.get("role") in _OTHERS:
        raise UnusableError(f"a message of the {message['role']}, in place of an answer")
    if message.get("audio"):
        raise UnusableError("an answer that is spoken, in place of a text")
    text, instead = _text(content), ""
    # A turn that was cut off or ended at once is the model's.
    if not text and refusal:
        text, instead = _text(refusal), "a refusal"
    elif not text.strip():
        field = next((one for one in _THOUGHTS if isinstance(message.get(one), str) and message[one].strip()), "")
        parts = content if isinstance(content, list) else []
        apart = any(isinstance(part, dict) and part.get("type") in _UNSAID for part in parts)
        instead = f"{field} alone" if field else "thoughts alone" if apart else ""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UnusableError("a text with a character that is not valid Unicode") from error
    return Reply(text, cut=reason == "length", instead=instead)


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes an object of the fields that JSON has; for the parser.

    Raises:
        ValueError: If one comes twice: either could be meant.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field comes twice")
    return found


def same_model(asked: str, named: object) -> bool:
    """Says whether a response's model is the one that was asked for.

    Names are the same if they differ in nothing but a version at the end, such as a date (`gpt-4o` and
    `gpt-4o-2024-08-06`), an owner before a slash that one of them leaves out, or upper case.

    Args:
        asked: Name in the request.
        named: Name in the response.
    """
    if not isinstance(named, str):
        return False
    (owner, name), (other, answered) = _split(asked), _split(named)
    if owner and other and owner != other:
        return False
    if name == answered:
        return True
    stem = re.sub(r"[-:@](latest|preview)$", "", name)
    return answered == stem or (answered.startswith(stem) and _VERSION.fullmatch(answered[len(stem) :]) is not None)


def _split(name: str) -> tuple[str, str]:
    owner, _, last = name.strip().lower().rstrip("/").rpartition("/")
    return owner, last


def _text(content: Any) -> str:
    """Returns the text of a content: a text, parts of one, or nothing."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise UnusableError(f"a message without text: {str(content)[:200]}")
    return "".join(_part(part) for part in content)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        kind = part.get("type")
        if kind in _UNSAID:
            return ""
        text = part.get("refusal" if kind == "refusal" else "text")
        if kind in ("text", "output_text", "refusal") and isinstance(text, str):
            return text
    raise UnusableError(f"a part of a message that is no text: {str(part)[:200]}")
