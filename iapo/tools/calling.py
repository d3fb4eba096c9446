"""One call of a tool's function: what it is given, what may come back, and what its failure is."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

from PIL import Image

from iapo.kinds import plain
from iapo.stopping import Stopped
from iapo.tools.bounds import MOST_DIGITS, MOST_PIXELS, is_writable
from iapo.tools.definitions import ToolDefinition
from iapo.tools.errors import ToolError, reason_of
from iapo.tools.signature import Gives
from iapo.tools.values import Observation
from iapo.tools.worker import WorkerError, call_in_worker

_LONGEST_REASON = 500

LONGEST_TEXT = MOST_DIGITS
"""Most characters of what a tool says; the rest is cut off, and a mark says so."""

_LARGEST_WHOLE = 2.0**53
"""From there on not every whole number is a float, so that its last digits say nothing."""

MOST_TIMES = 200
"""Most times that the longer side of an image may be the shorter one; what is narrower no processor takes."""


def _short(text: str) -> str:
    """Returns a text as one line, cut where it is too long."""
    # Half a surrogate, as in the name of a file that is no UTF-8, has no place in a prompt.
    return " ".join(text.encode("utf-8", "replace").decode().split())[:_LONGEST_REASON]


class BrokenToolError(ToolError):
    """A tool failed by its own fault.

    Args:
        tool: Its name.
        reason: What it did.
    """

    def __init__(self, tool: str, reason: str) -> None:
        super().__init__(_short(f"the tool {tool} failed: {reason}"))
        self.tool = tool


def call_function(tool: ToolDefinition, arguments: tuple[Any, ...], by_name: Mapping[str, Any]) -> Observation:
    """Calls a tool's function on copies of its images.

    Args:
        tool: The tool.
        arguments: Its arguments, in order.
        by_name: Those that are given by name.

    Returns:
        What it gave; a text is whole yet, and a number is a number.

    Raises:
        ToolError: If the function says that its arguments do not fit.
        BrokenToolError: If it raises something else, takes too long, or returns what is none of a tool's.
    """
    try:
        if tool.timeout is not None:
            value = call_in_worker(tool.function, arguments, by_name, tool.timeout)
        elif tool.packaged:
            value = tool.function(*arguments, **by_name)
        else:
            # A copy each, so that a function that draws on its image changes nothing that others see.
            copies = {name: _copied(one) for name, one in by_name.items()}
            value = tool.function(*map(_copied, arguments), **copies)
    except ToolError as error:
        if tool.packaged:
            raise
        raise ToolError(_short(reason_of(error))) from error
    except WorkerError as error:
        raise BrokenToolError(tool.name, str(error)) from error
    except (KeyboardInterrupt, Stopped):
        # Not the function's: the process was asked to stop while it ran.
        raise
    except BaseException as error:
        # The one place where anything is caught: the function is the user's own and may raise whatever there is, what
        # is no Exception among it. In a training of hours that is data, a rollout whose call failed;
        # `iapo.tools.failing` ends the run where every call of a tool does.
        raise BrokenToolError(tool.name, f"{type(error).__name__}: {reason_of(error)}") from error
    return _checked(tool, value)


def _copied(value: Any) -> Any:
    if isinstance(value, Image.Image):
        return value.copy()
    return type(value)(map(_copied, value)) if isinstance(value, list | tuple) else value


def _checked(tool: ToolDefinition, value: Any) -> Observation:
    """Reads what a function returned.

    Raises:
        BrokenToolError: If it is none of what a tool returns, or not what its annotation says.
    """
    found = _read(value)
    if isinstance(found, str):
        raise BrokenToolError(tool.name, found)
    gives: set[Gives] = set() if found.image is None else {"image"}
    if found.text is not None:
        gives.add("text" if isinstance(found.text, str) else "number")
    wanted: frozenset[Gives] = frozenset(("image",)) if tool.free is None else tool.free.gives
    # Of text and number, an annotation may have both, and a function returns one of them.
    same = ("image" in gives) == ("image" in wanted) and (gives == {"image"}) == (wanted == {"image"})
    if wanted and not (gives <= wanted and same):
        got, need = (" and ".join(sorted(some)) for some in (gives, wanted))
        raise BrokenToolError(tool.name, f"it returned {got} (an object of type {type(value).__name__}), not {need}")
    return found


def _read(value: Any) -> Observation | str:
    """Returns an observation, or why a value is none."""
    if isinstance(value, tuple | list) and len(value) == 2:
        images = [one for one in value if isinstance(one, Image.Image)]
        texts = [one for one in value if not isinstance(one, Image.Image)]
        if len(images) == 1:
            value = Observation(images[0], texts[0])
    if isinstance(value, Image.Image):
        value = Observation(image=value)
    elif not isinstance(value, Observation):
        value = Observation(text=value)
    image, text = value.image, value.text
    if image is not None:
        if not isinstance(image, Image.Image):
            return f"it returned an object of type {type(image).__name__} as image; return a PIL image"
        width, height = image.size
        if not width or not height:
            return f"it returned an image of {width} x {height} pixels; return one that has some"
        if width * height > MOST_PIXELS:
            return f"it returned an image of {width} x {height} pixels; return at most {MOST_PIXELS:,} pixels"
        if max(width, height) > MOST_TIMES * min(width, height):
            return f"it returned an image of {width} x {height} pixels, which is too narrow to be seen"
    # Numbers and truth values of NumPy are none of Python's.
    text = _short_number(text) if getattr(text, "ndim", None) == 0 else text
    if isinstance(text, numbers.Integral):
        text = bool(text) if isinstance(text, bool) else int(text)
        if not is_writable(text):
            return f"it returned a whole number of more than {MOST_DIGITS:,} digits; return a smaller one"
    elif isinstance(text, numbers.Real):
        try:
            text = float(text)
        except OverflowError:
            # A fraction of whole numbers may be larger than any float.
            return "it returned a number that is larger than any float; return a smaller one"
        if not math.isfinite(text):
            return f"it returned {text}, which is no number"
    elif text is None and image is None:
        return "it returned an object of type NoneType; return an image, a text or a number"
    elif text is not None and not isinstance(text, str):
        return f"it returned an object of type {type(text).__name__}; return an image, a text or a number"
    return Observation(image, text)


def _short_number(value: Any) -> Any:
    """Returns a number of NumPy or torch as Python's, one of 32 or 16 bits as it is written: 0.1, not 0.1000000015."""
    name = str(getattr(value, "dtype", "")).removeprefix("torch.")
    found = plain(value)
    if name not in ("float32", "float16") or not isinstance(found, float):
        return found
    # Where a tool gives such numbers, one of both is there, and torch needs it.
    import numpy as np

    return float(str(np.dtype(name).type(found)))


def _number_text(value: float) -> str:
    """Writes a float with ten digits, a whole one with all that it has."""
    whole = value.is_integer() and abs(value) < _LARGEST_WHOLE
    return f"{value:.0f}" if whole else f"{value:.10g}"


def said(value: str | int | float) -> str:
    """Writes what a tool returned as the model is told it, cut where it is too long."""
    text = _number_text(value) if isinstance(value, float) else str(value)
    # No tokenizer takes half a surrogate pair.
    text = text.encode("utf-8", "replace").decode()
    text = "".join(one if one.isprintable() or one in "\n\t" else " " for one in text).strip()
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}... (cut off)"
