"""Fuzzers: in the suite few inputs, the same ones each time; in `make fuzz` as many as its minutes allow, by chance."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
"""Minutes for all fuzzers together; 0 in the suite."""

_BATCH = 200
_CHECKS = [
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
    HealthCheck.large_base_example,
]
# A failure is told by its own traceback and its smallest input; to explain it would take as long as to find it.
_PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
_COMMON: dict[str, Any] = {"deadline": None, "suppress_health_check": _CHECKS, "phases": _PHASES}
LARGE = settings(
    max_examples=_BATCH, database=DirectoryBasedExampleDatabase(".hypothesis/examples"), print_blob=True, **_COMMON
)
"""Inputs by chance; those that failed are kept, and tried first the next time."""


@dataclass
class Count:
    """What a fuzzer did.

    Attributes:
        kind: What is fuzzed.
        inputs: Number of inputs tried, those that a failure was made smaller with included.
        bad: Number of different bad outcomes.
    """

    kind: str
    inputs: int = 0
    bad: int = 0


COUNTS: list[Count] = []
"""One a fuzzer, in the order in which they were found."""

FUZZERS: dict[str, Callable[[Path], Callable[[], None]]] = {}
"""What makes a test by Hypothesis of each fuzzer, in an empty folder, by the check's name."""


def fuzz(
    kind: str, inputs: st.SearchStrategy[Any], examples: int = 60, seconds: float = 2.0
) -> Callable[[Callable[[Any, Path], None]], Callable[[Path], None]]:
    """Makes a test of a check that takes an input and an empty folder, and raises where the outcome is bad.

    Args:
        kind: What is fuzzed, for the table of `make fuzz`.
        inputs: Strategy of the inputs.
        examples: Number of inputs in the suite.
        seconds: CPU seconds that one input may take.
    """

    def decorate(check: Callable[[Any, Path], None]) -> Callable[[Path], None]:
        count = Count(kind)
        COUNTS.append(count)

        def on(folder: Path) -> Callable[[], None]:
            def one(value: Any) -> None:
                count.inputs += 1
                start = time.process_time()
                check(value, folder)
                taken = time.process_time() - start
                assert taken < seconds, f"{taken:.1f} CPU seconds for one input"

            # Seeds and the database go by the name.
            one.__name__ = one.__qualname__ = check.__name__
            return given(inputs)(one)

        def test(tmp_path: Path) -> None:
            try:
                if not MINUTES:
                    settings(max_examples=examples, derandomize=True, database=None, **_COMMON)(on(tmp_path))()
                    return
                end = time.monotonic() + 60 * MINUTES / len(COUNTS)
                while time.monotonic() < end:
                    seed(random.SystemRandom().getrandbits(64))(LARGE(on(tmp_path)))()
            except ExceptionGroup as group:
                count.bad += len(group.exceptions)
                raise
            except Exception:
                count.bad += 1
                raise

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        FUZZERS[check.__name__] = on
        return test

    return decorate


def is_sentence(error: Exception, name: str = "") -> None:
    """Checks that an error is one line, with this name in it."""
    assert str(error)
    assert "\n" not in str(error)
    assert name in str(error)


ODD_TEXTS = st.text(max_size=20) | st.sampled_from(
    ["", " ", "\0", "\ud800", "\u202e", "é" * 500, "../..", "/", "nan", "1e400", "-0", "<img>", "<|im_end|>"]
)
ODD_NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(2**63), 2**64, 1e308, 5e-324])
JSON = st.recursive(
    st.none() | st.booleans() | ODD_NUMBERS | ODD_TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD_TEXTS, inner, max_size=4),
    max_leaves=8,
)
"""Anything that `json.dumps` writes, NaN and half surrogates included."""


def mutated(data: bytes, draw: st.DrawFn) -> bytes:
    """Bytes with some of them changed, taken out, doubled or cut off."""
    found = bytearray(data)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 6]))):
        if not found:
            break
        at = draw(st.integers(0, len(found) - 1))
        length = draw(st.sampled_from([1, 1, 1, 2, 4, 16]))
        what = draw(st.sampled_from(["change", "change", "change", "set", "set", "take", "double", "cut"]))
        if what == "change":
            found[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "set":
            found[at : at + length] = draw(st.sampled_from([b"\0", b"\xff", b"\x7f", b"\x80"])) * length
        elif what == "take":
            del found[at : at + length]
        elif what == "double":
            found[at:at] = found[at : at + length]
        else:
            del found[at:]
    return bytes(found)
