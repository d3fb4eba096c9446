"""Command lines of any options and values: accepted, or refused with exit code 2 and one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from fuzzing import fuzz
from hypothesis import strategies as st
from PIL import Image
from processes import started

from iapo.cli.main import app

CHILD = Path(__file__).parent / "lines_child.py"


def _verbs(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Each verb, and its options."""
    if hasattr(command, "commands"):
        for name in list(command.commands):
            yield from _verbs(command.commands[name], (*words, name))
    else:
        yield words, [name for one in command.params for name in one.opts if name.startswith("-") and name != "--help"]


VERBS = list(_verbs(typer.main.get_command(app)))
SETTINGS = """
--reward --prompt --tools --max_steps --seed --learning_rate --num_generations --beta --lora_r --dtype --families
--model --picture_size --attribution --penalty_weight --save_steps --unknown_one --eval_samples --train_data
--output_dir --config
""".split()  # noqa: SIM905
WORDS = """
0 -1 1 2 7 1e3 1e999 nan inf -inf x None null true [1] { é \udcff -- - -x .. . gone gone.yaml here here/x file.txt
bad.yaml list.yaml demo-iapo tiny-student grpo iapo vbar chart.png rows.jsonl run own tools gone.py:f 1x1 60x60 a=b
1,2 vbar,hbar auto owner/name o/n/m : @x
""".split()  # noqa: SIM905
VALUES = st.sampled_from([*WORDS, "", " ", "a b", "{a: 1}", "9" * 30, "x" * 5000]) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0/"), max_size=6
)


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    words, options = draw(st.sampled_from(VERBS))
    found = list(words)
    if "--config" in options and draw(st.booleans()):
        found += ["--config", "demo-iapo"]
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["value", "option", "option", "setting", "joined"]))
        name = draw(st.sampled_from(SETTINGS if kind == "setting" else options or SETTINGS))
        value = draw(VALUES)
        if kind == "value":
            found.append(value)
        elif kind == "joined":
            found.append(f"{name}={value}")
        else:
            found += [name] if draw(st.integers(0, 5)) == 0 else [name, value]
    return found


@pytest.fixture(autouse=True)
def child(tmp_path: Path) -> Iterator[None]:
    """A process in a folder of files that lines name; it imports the heavy libraries never."""
    for name, text in {"file.txt": "", "bad.yaml": "a: [", "list.yaml": "[1]", "rows.jsonl": '{"id": 1}\n'}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "here").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1}\n')
    Image.new("RGB", (60, 60), "white").save(tmp_path / "chart.png")
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with started([sys.executable, str(CHILD)], text=True, cwd=tmp_path, **pipes) as process:
        process.stdout.readline()
        _child.append(process)
        yield
        _child.clear()
        process.stdin.close()
        process.stdout.close()


_child: list[Any] = []


@fuzz("command lines", lines(), 120)
def test_lines(words: list[str], folder: Path) -> None:
    (process,) = _child
    process.stdin.write(json.dumps(words) + "\n")
    process.stdin.flush()
    code, said = json.loads(process.stdout.readline())
    if code == 2:
        assert said.startswith("iapo: ")
        assert said.count("\n") == 1, said
    else:
        # 1 is the answer of `data check` where rows are damaged.
        assert code in (0, "accepted") or (code == 1 and words[:2] == ["data", "check"]), said
