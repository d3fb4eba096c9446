"""How the time of reading hostile texts grows with their size: programs, final answers and gold answers, rows of data,
YAML, chat templates, addresses, judges' replies.

    python benchmarks/long_inputs.py [--most 10] [--json FILE]

Seconds of CPU time of this process at 256 kB and at 1 MB, and their ratio; 4 is what grows with the size. Ends with
exit code 1 where a case takes more than `--most` seconds at 1 MB, or half a second and 8 times what 256 kB take.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from iapo.control import spaced
from iapo.data.annotations import named_boxes, unique_names
from iapo.data.check import kind_of
from iapo.data.loading import load
from iapo.display.terminal import plain
from iapo.endpoints.address import without_credentials
from iapo.endpoints.replies import UnusableError, read_reply
from iapo.errors import InputError
from iapo.grading.outcome import grade
from iapo.grading.rules import RULES
from iapo.records import Sample
from iapo.rollout.chat_template import is_plain
from iapo.tools import execute
from iapo.yaml_files import LONGEST, parse_yaml

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

ANSWERS = (
    "a,",
    "1 ",
    "|",
    "[",
    "(",
    "1,",
    "and ",
    "$",
    "\\text{",
    "\ufdfa",
    "a\u0301\u0327",
    "9",
    "**",
    "; ",
    "1/",
    "- a*\n",
)
"""What final answers are made of."""

TEXTS = (":/", "://", "@://", "<", "<a", "[A", "'", '"', "\\'", '\\"', "(", "in /", "1.", "\x1b", "\u00e9", "\ud7ff")
"""What texts are made of in which a password, a control token or the kind of a reason is looked for."""

YAML = ("a: ", "- ", "[", "{", "? ", "&a ", '"', "'", "|\n", "#", "? a\n", "<<: ", "{a: ", "---\n", "\t", "a:\n ")
TEMPLATES = ("{{", "{% if a %}", "{{a}}", "{#", "{{ a[", "{{ a|trim", "{{ not ", "{{ (", "{{ 1+", "{% raw %}", "a")
REPLIES = ('{"a":', "[", '"\\u0061', '{"a":1},', "1,", '"a":1,')

ROWS: dict[str, Callable[[int], str]] = {
    "one id": lambda size: json.dumps(_row(id="x")) + "\n",
    "lines that are no JSON": lambda size: json.dumps(_row()) + "\n" + "{\n" * (size // 2),
    "blank lines": lambda size: json.dumps(_row()) + "\n" * size,
    "question": lambda size: json.dumps(_row(question="<|" * (size // 2))) + "\n",
    "answers": lambda size: json.dumps(_row(answer=["a"] * (size // 5))) + "\n",
    "images": lambda size: json.dumps(_row(images=["a.png"] * (size // 9))) + "\n",
    "unknown fields": lambda size: json.dumps(_row(**{f"k{index}": 1 for index in range(size // 10)})) + "\n",
    "nested": lambda size: '{"answer": ' + "[" * size + "\n",
}
"""Files of JSONL by what they are made of."""

BOXES: dict[str, tuple[float, ...]] = {
    "crossed": (20, 60, 10, 10),
    "outside": (900, 5, 910, 50),
    "fractions": (0.1, 0.1, 0.2, 0.2),
    "not finite": (float("nan"), 5, 10, 50),
}
"""One of four boxes of an axis."""


def _row(**more: object) -> dict[str, object]:
    return {"image": "a.png", "question": "q", "answer": "1"} | more


def _boxes(size: int, odd: tuple[float, ...]) -> object:
    boxes = {f"n{index}": odd if index % 4 == 0 else (index % 40, 5, index % 40 + 5, 50) for index in range(size // 24)}
    return named_boxes(boxes, None, "column", (60, 60), [])


def _refused(ask: Callable[[], object]) -> object:
    """Asks for what may be refused, as most of it is."""
    with suppress(InputError, UnusableError):
        return ask()
    return None


def _load(rows: Callable[[int], str], size: int) -> object:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "train.jsonl").write_text(rows(size))
        return _refused(lambda: list(load(folder)))


def _readers() -> Iterator[tuple[str, Callable[[int], object]]]:
    """Yields what reads foreign texts that are neither programs nor answers."""
    for unit in TEXTS:
        for name, read in (("password", without_credentials), ("token", spaced), ("kind", kind_of), ("line", plain)):
            yield f"{name}: {unit!r}", lambda size, unit=unit, read=read: read(unit * (size // len(unit)))
    for unit in YAML:
        # Longer files are refused.
        yield (
            f"YAML: {unit!r}",
            lambda size, unit=unit: _refused(lambda: parse_yaml(unit * (min(size, LONGEST) // len(unit)), "x")),
        )
    for unit in TEMPLATES:
        # The size in it, since what was asked once is remembered.
        yield f"template: {unit!r}", lambda size, unit=unit: is_plain(unit * (size // len(unit)) + str(size))
    for unit in REPLIES:
        yield (
            f"reply: {unit!r}",
            lambda size, unit=unit: _refused(lambda: read_reply((unit * (size // len(unit))).encode(), "m")),
        )
    for name, rows in ROWS.items():
        yield f"rows: {name}", lambda size, rows=rows: _load(rows, size)
    for name, odd in BOXES.items():
        yield f"boxes: {name}", lambda size, odd=odd: _boxes(size, odd)
    yield "names: equal", lambda size: unique_names(["a"] * (size // 4), "column")
    yield "names: numbered and equal", lambda size: unique_names(["a (2)", "a"] * (size // 8), "column")


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
    yield from _readers()


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


def beyond(found: Mapping[str, Sequence[float]], most: float) -> list[str]:
    """Returns the cases that take too long, or grow faster than their input by more than the clock's noise."""
    return [name for name, (small, large) in found.items() if large > most or (large > 0.5 and large > 8 * small)]


def main() -> None:
    """Measures all cases and prints those that take longest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=float, default=10.0, help="seconds of CPU that 1 MB may take")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    given = parser.parse_args()
    found = {name: [seconds(ask, size) for size in SIZES] for name, ask in cases()}
    table = Table("input", "256 kB, s", "1 MB, s", "ratio", title=f"The 15 longest of {len(found)}")
    for name, (small, large) in sorted(found.items(), key=lambda one: -one[1][1])[:15]:
        table.add_row(name, f"{small:.2f}", f"{large:.2f}", f"{large / max(small, 1e-3):.1f}")
    Console().print(table)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    if bad := beyond(found, given.most):
        raise SystemExit(f"beyond the bounds: {', '.join(bad)}")


if __name__ == "__main__":
    main()
