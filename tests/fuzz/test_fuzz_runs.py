"""Damaged run folders: a page, or a sentence that names the file."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

from fuzzing import fuzz, is_sentence
from hypothesis import strategies as st
from report_damage import spoiled
from report_runs import make_run, make_trace

from iapo.errors import InputError
from iapo.report.command import write_report


@fuzz("run folders", st.tuples(st.randoms(use_true_random=False), st.integers(0, 30)), 20, seconds=10)
def test_runs(drawn: tuple[random.Random, int], folder: Path) -> None:
    chance, number = drawn
    run = folder / "run"
    if not run.exists():
        traces = [make_trace(number, status=("edited", "failed", "no_call")[number % 3]) for number in range(3)]
        make_run(run, traces, steps=2, study=True, held_out=[make_trace(9, step=0)])
    files = sorted(path for path in run.rglob("*.json*"))
    path = files[number % len(files)]
    whole = path.read_bytes()
    path.write_bytes(spoiled(whole.decode(), path.suffix == ".jsonl", chance))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write_report([run], folder / "page.html")
    except InputError as error:
        is_sentence(error, path.name)
    finally:
        path.write_bytes(whole)
