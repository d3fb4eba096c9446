"""How the time of reading hostile texts grows with their size: programs, final answers and gold answers.

    python benchmarks/long_inputs.py [--json FILE]

Seconds of CPU time of this process at 256 kB and at 1 MB, and their ratio; 4 is what grows with the size.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from iapo.grading.outcome import grade
from iapo.grading.rules import RULES
from iapo.records import Sample
from iapo.tools import execute

SIZES = (2**18, 2**20)
SAMPLE = Sample("s", Image.new("RGB", (60, 40), "grey"), "?", ("1",), column_boxes={"a": (0, 0, 20, 40)})
TOOL = "focus_on_columns_with_mask"

PROGRAMS: dict[str, Callable[[int], str]] = {
    "fences": lambda size: "```\n" * (size // 4),
    "backticks": lambda size: "`" * size,
    "fences and actions": lambda size: "ACTION:\n```\n```\n" * (size // 16),
    "actions": lambda size: f"ACTION: {TOOL}(\n" * (size // 36),
    "tags": lambda size: "<tool_call>{}</tool_call>" * (size // 25),
    "open tags": lambda size: "<tool_call>" * (size // 11),
    "JSON keys": lambda size: '```json\n{"name": 1, ' + ", ".join(f'"k{index}": 1' for index in range(size // 12)),
    "JSON nesting": lambda size: "<tool_call>" + "[" * size,
    "unary chain": lambda size: "```python\n" + "-" * size + "1",
    "operator chain": lambda size: "```python\n" + "1+" * (size // 2) + "1",
    "parentheses": lambda size: "```python\n" + "(" * size,
    "digits": lambda size: "```python\nx = " + "9" * size,
    "list": lambda size: "```python\nx = [" + '"a", ' * (size // 5) + "]",
    "statements": lambda size: "```python\n" + "x = 1\n" * (size // 6),
    "blank lines": lambda size: " \n" * (size // 2),
    "marks": lambda size: "a" + "\u0301" * (size // 2),
}
"""Turns by what they are made of."""

ANSWERS = ("a,", "1 ", "|", "[", "(", "1,", "and ", "$", "\\text{", "\ufdfa", "a\u0301\u0327", "9", "**", "; ", "1/")
"""What final answers are made of."""


def cases() -> Iterator[tuple[str, Callable[[int], object]]]:
    """Yields a name and what is done at a size."""
    for name, text in PROGRAMS.items():
        for lenient in (False, True):
            kind = "lenient" if lenient else "strict"
            yield (
                f"program, {kind}: {name}",
                lambda size, text=text, lenient=lenient: execute(text(size), SAMPLE, lenient=lenient),
            )
    for grading in RULES:
        for unit in ANSWERS:
            yield (
                f"answer, {grading}: {unit!r}",
                lambda size, unit=unit, grading=grading: grade(
                    "FINAL ANSWER: 7 " + unit * (size // len(unit.encode())), ["5", "6"], grading
                ),
            )
        yield f"gold answers, {grading}: shuffled", lambda size, grading=grading: _golds(size, grading)


def _golds(size: int, grading: str) -> object:
    golds = [f"item {index} of many" for index in range(size // 20)]
    said = list(golds)
    random.Random(0).shuffle(said)
    return grade("FINAL ANSWER: " + " || ".join(said), golds, grading)


def seconds(ask: Callable[[int], object], size: int) -> float:
    """Returns the CPU seconds of one call."""
    started = time.process_time()
    ask(size)
    return time.process_time() - started


def main() -> None:
    """Measures all cases and prints those that take longest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file for all numbers")
    given = parser.parse_args()
    found = {name: [seconds(ask, size) for size in SIZES] for name, ask in cases()}
    table = Table("input", "256 kB, s", "1 MB, s", "ratio", title=f"The 15 longest of {len(found)}")
    for name, (small, large) in sorted(found.items(), key=lambda one: -one[1][1])[:15]:
        table.add_row(name, f"{small:.2f}", f"{large:.2f}", f"{large / max(small, 1e-3):.1f}")
    Console().print(table)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
