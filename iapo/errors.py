"""What the user can mend; everything else keeps its traceback."""

from __future__ import annotations

from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: one sentence that says what is wrong, where, and what to do. The command line exits with 2.

    A `ValueError`, since that is what callers from Python expect of a bad argument.
    """


class NumberError(InputError):
    """Numbers that are NaN or infinite: one sentence. The command line exits with 4."""


QUOTED = 200
"""Letters that a sentence quotes of a value."""

DISK = 74
"""Exit code where a disk takes no more: the system's word for an error of input or output."""


class PlaceError(RuntimeError):
    """A disk that is full or does not take what is written: one sentence. The command line exits with 74."""


def one_line(text: str) -> str:
    """Returns a text in one line; what may steer a terminal in it, and half surrogates, are written as Python does."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def written(value: object) -> str:
    """Returns what Python writes a value as."""
    try:
        return repr(value)
    except ValueError:
        # A whole number with more digits than Python writes, or a list of such.
        return "a whole number of thousands of digits"


def brief(value: object) -> str:
    """Returns what Python writes a value as, of a long one its beginning: what a file holds may have any length."""
    text = written(value)
    return text if len(text) <= QUOTED else f"{text[: QUOTED - 3]}..."


def why(error: Exception) -> str:
    """Returns the reason in an error, for a sentence that names the file itself; the system's names it again."""
    return one_line(str(getattr(error, "strerror", None) or error))


def unknown(what: str, name: str, known: Iterable[str], where: str = "") -> InputError:
    """Makes the error for a name that is not among the known ones.

    Args:
        what: Noun for what is named, for example `reward`.
        name: Name that is not known.
        known: Names that there are.
        where: Place of the names, for example ` in FILE.py`.
    """
    names = list(known)
    return InputError(f"no {what} {name!r}{where}; {_near(name, names)}use one of {', '.join(names) or '(none)'}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Says which known name may have been meant, as `did you mean NAME?`; empty where none is near."""
    # Imported where it is needed: this module is imported by all others.
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""


def _near(name: str, known: Iterable[str]) -> str:
    guess = did_you_mean(name, known)
    return f"{guess} Or " if guess else ""
