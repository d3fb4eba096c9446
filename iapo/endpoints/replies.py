"""What counts as an answer: the text of a response that is whole and of the model that was asked, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Self

from iapo.errors import one_line

LONGEST_BODY = 16 * 2**20
"""Bytes of a response; the longest answers of today's models are a few hundred thousand."""

WHOLE = {
    "stop": False,
    "eos": False,
    "eos_token": False,
    "end_turn": False,
    "length": True,
    "max_tokens": True,
}
"""Reasons to end that are the model's own, in lower case, and whether its tokens were used up: OpenAI's, and what
servers of other forms call the same. After any other the answer was taken away, is a call of a tool that nobody
offered, or broke off."""

_YEAR, _MONTH, _DAY = r"20[23]\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATES = (
    f"{_YEAR}-{_MONTH}-{_DAY}",
    f"{_YEAR}{_MONTH}{_DAY}",
    f"[23]\\d{_MONTH}{_DAY}",
    f"{_YEAR}{_MONTH}",
    f"{_MONTH}-{_YEAR}",
    f"{_MONTH}-?{_DAY}",
)
_SNAPSHOT = re.compile(rf"[-@](?:{'|'.join(_DATES)})|-0\d\d|:latest", re.ASCII)
"""What stands behind a model's name where an answer says which state of it was asked: a date, Google's number or
Ollama's tag. Another number may be a size, and `preview` or `v2` another model."""

_NEWEST = re.compile(rf"-[23]\d{_MONTH}", re.ASCII)
"""Mistral's year and month, for which `-latest` alone is asked: behind a plain name they are Qwen's other models."""

_HOSTS = """
black-forest-labs cerebras cohere fal-ai featherless-ai fireworks-ai groq hf-inference hyperbolic nebius novita nscale
openai ovhcloud publicai replicate sambanova scaleway together wavespeed zai-org
"""
_ROUTE = re.compile(rf":(?:free|nitro|floor|auto|fastest|cheapest|{'|'.join(_HOSTS.split())})$")
"""OpenRouter's and Hugging Face's ways to the same model, and the names of those who run it for the latter."""

_OTHERS = ("user", "system", "developer", "tool", "function")
"""Roles of messages that a model is asked with, and never answers with."""

_UNSAID = ("thinking", "redacted_thinking", "reasoning")
"""Kinds of parts that are not of the answer."""

_TEXTS = ("text", "output_text")
"""Kinds of parts that are the answer's text."""

_REFUSAL = "refusal"
"""Kind of a part that is a refusal in words."""

_OBJECTS = ("chat.completion", "text_completion", "", None)
"""Kinds of objects that a whole answer is called by servers: not a chunk of one, and not an error."""

_DONE = ("completed", "complete", "succeeded", "success", "finished", "done", "ok", "", None, 200)
"""What `status` says of a whole answer, where a server says it."""

_CODES = (*_DONE, 0, "0", "200")
"""What `code` says beside a whole answer, where a server says it."""

_THOUGHTS = ("reasoning_content", "reasoning")
"""Fields of a message in which servers with a parser of thoughts put what they take out of the text."""


SHOWN = 200
"""Characters of what an endpoint sent that a sentence repeats."""


class UnusableError(Exception):
    """An answer is not whole, or not what was asked for; it is asked for again."""

    def __init__(self, said: str, sent: object = "", shown: int = SHOWN) -> None:
        """Makes one.

        Args:
            said: What is wrong; `{}` stands for the place of what was sent.
            sent: What the endpoint sent, whole.
            shown: Characters of it that are repeated.
        """
        self._said, self._sent, self._shown = said, sent, shown
        super().__init__(self.told(str))

    def told(self, plain: Callable[[str], str]) -> str:
        """Returns the sentence in one line.

        Args:
            plain: Takes secrets out of what was sent, before it is cut: half a secret would not be known as one.
        """
        sent = plain(str(self._sent))[: self._shown]
        # What an endpoint sent may have lines.
        return one_line(" ".join(self._said.replace("{}", sent, 1).split()))


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
        # Gemini leaves the content out where thoughts used up the tokens. What has no role either is no message.
        content = message.get("content") if message.get("role") == "assistant" else message["content"]
        refusal, calls = message.get("refusal"), message.get("tool_calls")
        named, kind = found.get("model"), found.get("object")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise UnusableError("a response without a message: {}", body.decode(errors="replace")) from error
    if len(choices) != 1:
        raise UnusableError(f"{len(choices)} answers, of which one was asked for")
    for place in (found, choice, message):
        _refuse_failure(place)
    # Elsewhere a code may be a program's.
    code = found.get("code")
    if (code.lower() if isinstance(code, str) else code) not in _CODES:
        raise UnusableError("an error: {}", {name: found[name] for name in ("code", "message", "msg") if name in found})
    if kind not in _OBJECTS:
        raise UnusableError("an object of the kind {}, in place of an answer", repr(kind), 100)
    if named not in (None, "") and not same_model(model, named):
        raise UnusableError(
            "an answer of another model, {}; if that is the one you mean, ask for it by that name, or say that it is "
            "served as that (docs/grading.md)",
            repr(named),
            100,
        )
    cut = WHOLE.get(reason.lower()) if isinstance(reason, str) else None
    if cut is None:
        raise UnusableError("an answer that is not whole (finish_reason {})", repr(reason), 100)
    if calls or message.get("function_call"):
        raise UnusableError("a call of a tool that was not offered, in place of a text")
    if message.get("role") in _OTHERS:
        raise UnusableError(f"a message of the {message['role']}, in place of an answer")
    if message.get("audio"):
        raise UnusableError("an answer that is spoken, in place of a text")
    text, instead = _text(content, _TEXTS), ""
    refused = (_text(refusal, (*_TEXTS, _REFUSAL)) if refusal else "") or _text(content, (_REFUSAL,))
    # A turn that was cut off or ended at once is the model's.
    if not text.strip() and refused:
        text, instead = refused, "a refusal"
    elif not text.strip():
        field = next((one for one in _THOUGHTS if isinstance(message.get(one), str) and message[one].strip()), "")
        parts = content if isinstance(content, list) else []
        apart = any(isinstance(part, dict) and part.get("type") in _UNSAID for part in parts)
        instead = f"{field} alone" if field else "thoughts alone" if apart else ""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UnusableError("a text with a character that is not valid Unicode") from error
    return Reply(text, cut=cut, instead=instead)


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

    Names are the same if they differ in nothing but a date at the end, or Google's number of a version (`gpt-4o` and
    `gpt-4o-2024-08-06`, `gemini-2.0-flash` and `gemini-2.0-flash-001`), `latest` that is asked for or is Ollama's tag,
    a route of OpenRouter's or Hugging Face's that is asked for (`:free`, `:together`), an owner before a slash, or the
    first parts of one, that one of them leaves out (LiteLLM's `together_ai/Qwen/NAME` and `Qwen/NAME`), or upper case.

    Args:
        asked: Name in the request.
        named: Name in the response.
    """
    if not isinstance(named, str):
        return False
    (owner, name), (other, answered) = _split(asked), _split(named)
    if owner and other and not f"/{owner}".endswith(f"/{other}") and not f"/{other}".endswith(f"/{owner}"):
        return False
    if route := _ROUTE.search(name):
        name, answered = name[: route.start()], answered.removesuffix(route[0])
    if name == answered:
        return True
    stem = re.sub(r"[-:@]latest$", "", name)
    if not answered.startswith(stem):
        return False
    behind = answered[len(stem) :]
    newest = stem != name and (not behind or _NEWEST.fullmatch(behind))
    return bool(newest or _SNAPSHOT.fullmatch(behind))


def _split(name: str) -> tuple[str, str]:
    owner, _, last = name.strip().lower().rstrip("/").rpartition("/")
    # Google's mark before a date.
    return owner, re.sub(r"@(?=\d)", "-", last, flags=re.ASCII)


def _refuse_failure(place: Mapping[str, Any]) -> None:
    """Refuses a response, its choice, message or part that says of itself that it failed or is not whole.

    Raises:
        UnusableError: If so.
    """
    if failure := next((value for name, value in place.items() if name.startswith("error") and value), None):
        raise UnusableError("an error: {}", failure)
    if place.get("type") == "error":
        raise UnusableError("an error: {}", dict(place))
    if place.get("success", True) not in (True, None):
        raise UnusableError("an answer that is no success (success {})", repr(place["success"]), 100)
    status = place.get("status")
    if (status.lower() if isinstance(status, str) else status) not in _DONE:
        raise UnusableError("an answer that is not whole (status {})", repr(status), 100)
    if details := place.get("incomplete_details"):
        raise UnusableError("an answer that is not whole: {}", details)


def _text(content: Any, kinds: tuple[str, ...]) -> str:
    """Returns the text of a content: a text, its parts of some kinds, or nothing."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content if _TEXTS[0] in kinds else ""
    if not isinstance(content, list):
        raise UnusableError("a message without text: {}", content)
    return "".join(_part(part, kinds) for part in content)


def _part(part: Any, kinds: tuple[str, ...]) -> str:
    if isinstance(part, str):
        return part if _TEXTS[0] in kinds else ""
    if isinstance(part, dict):
        _refuse_failure(part)
        kind = part.get("type")
        if kind in _UNSAID:
            return ""
        text = part.get(_REFUSAL if kind == _REFUSAL else "text")
        if kind in (*_TEXTS, _REFUSAL) and isinstance(text, str):
            return text if kind in kinds else ""
    raise UnusableError("a part of a message that is no text: {}", part)
