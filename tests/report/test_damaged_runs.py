"""Whatever stands in a run folder's files, a report is a page or one sentence that names the file."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from report_runs import make_run, make_trace

from iapo.errors import InputError
from iapo.report.command import write_report

JUNK: tuple[Any, ...] = (
    None, True, 0, -1, 10**400, 1e308, float("nan"), float("inf"), "", "x", "\ud800", "../..", "é" * 300, [], [[]],
    [None], [1, 2], {}, {"": None}, {"x": 1}, {"png": "x"}, {"png": None}, {"path": "../../x"}, {"path": 5}, ["x"] * 3,
)  # fmt: skip


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything in a record."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [way] if way else []
    return found + [place for key, one in inner for place in places(one, (*way, key))]


def spoiled(text: str, lines: bool, chance: random.Random) -> bytes:
    """The file's text with one thing wrong with it: cut off, another byte in it, or junk in a field."""
    kind = chance.random()
    if kind < 0.1:
        return text.encode()[: chance.randrange(len(text))]
    if kind < 0.2:
        data = bytearray(text.encode())
        data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data)
    records = [json.loads(line) for line in text.splitlines()] if lines else [json.loads(text)]
    at = chance.randrange(len(records))
    for _ in range(chance.choice((1, 1, 3))):
        ways = places(records[at])
        if not ways:
            break
        # Deep places are many; each level has its turn.
        depth = chance.choice(sorted({len(way) for way in ways}))
        *way, last = chance.choice([way for way in ways if len(way) == depth])
        target: Any = records[at]
        for key in way:
            target = target[key]
        if isinstance(target, dict) and chance.random() < 0.3:
            del target[last]
        else:
            target[last] = copy.deepcopy(chance.choice(JUNK))
    if chance.random() < 0.05:
        records[at] = copy.deepcopy(chance.choice(JUNK))
    return "".join(json.dumps(record) + "\n" for record in records).encode()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "a"
    traces = [make_trace(number, status=("edited", "failed", "no_call")[number % 3]) for number in range(4)]
    make_run(folder, traces, steps=3, study=True, held_out=[make_trace(9, step=3)])
    return folder


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.filterwarnings("ignore")
def test_damage_is_a_page_or_a_sentence(run: Path, seed: int, tmp_path: Path):
    chance, pages = random.Random(seed), 0
    sentences: list[tuple[str, str]] = []
    files = sorted(path for path in run.rglob("*.json*"))
    whole = {path: path.read_bytes() for path in files}
    for number in range(30):
        path = files[number % len(files)]
        path.write_bytes(spoiled(whole[path].decode(), path.suffix == ".jsonl", chance))
        try:
            write_report([run], tmp_path / f"{number}.html")
            pages += 1
        except InputError as error:
            sentences.append((path.name, str(error)))
        finally:
            path.write_bytes(whole[path])
    assert pages
    assert sentences
    assert [said for name, said in sentences if name not in said] == []
