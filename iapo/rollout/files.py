"""The files of a checkpoint: where they are, and what is said where one cannot be used."""

from __future__ import annotations

from huggingface_hub.errors import StrictDataclassError
from transformers.utils import cached_file

from iapo.errors import one_line

DAMAGED: tuple[type[Exception], ...] = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, RuntimeError,
    AssertionError, StrictDataclassError,
)  # fmt: skip
"""What Transformers raises, from deep inside, at a configuration or a tokenizer's file with something else in it than
it expects."""

LONGEST_REASON = 400
"""Characters of a reason in a sentence."""


def optional_file(path: str, name: str, revision: str | None) -> str | None:
    """Finds a file of a checkpoint, on the hub or in a folder; None where it has none."""
    found = cached_file(
        path,
        name,
        revision=revision,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else str(found)


def first_line(error: Exception) -> str:
    """Returns the first line of what an error says, or its name; where that ends with a colon, the reason behind it as
    well; of pydantic's, whose first line counts them, what each field's says.
    """
    said = str(error)
    if type(error).__module__.partition(".")[0] in ("pydantic", "pydantic_core") and hasattr(error, "errors"):
        told = [(".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in error.errors()]
        said = "; ".join(f"{name}: {text}" if name else text for name, text in told).replace("\n", " ")
    first, *rest = [line.strip() for line in said.splitlines() if line.strip()] or [type(error).__name__]
    if first.endswith(":") and rest:
        first = f"{first} {rest[0]}"
    return one_line(first)[:LONGEST_REASON]
