"""`make guided` runs every fuzzer but those whose inputs leave the process."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import guided
from fuzzing import FUZZERS, LARGE


def test_it_finds_the_fuzzers() -> None:
    modules = [path.stem for path in guided.HERE.glob("test_fuzz_*.py")]
    theirs = {
        module: {name for name, one in vars(import_module(module)).items() if name in FUZZERS and callable(one)}
        for module in modules
    }
    assert all(theirs.values())
    expected = {(module, name) for module, names in theirs.items() if module not in guided.ELSEWHERE for name in names}
    assert set(guided.found()) == expected
    assert len(guided.found()) == len(expected)


def test_inputs_are_made_of_bytes(tmp_path: Path) -> None:
    """What Atheris calls, here on bytes of our own."""
    import_module("test_fuzz_answers")
    one = LARGE(FUZZERS["test_gold_is_right"](tmp_path)).hypothesis.fuzz_one_input  # type: ignore[attr-defined]
    assert one(bytes(range(256)) * 8) is not None
