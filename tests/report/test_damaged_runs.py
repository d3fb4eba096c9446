"""Whatever stands in a run folder's files, a report is a page or one sentence that names the file."""

from __future__ import annotations

import os
import random
import re
import shutil
from pathlib import Path

import pytest
from report_damage import spoiled
from report_runs import make_group, make_run, make_trace

from iapo.errors import InputError
from iapo.report.command import write_report


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "a"
    traces = [make_trace(number, status=("edited", "failed", "no_call")[number % 3]) for number in range(4)]
    settings = {"num_generations": 2, "scale_rewards": "group", "penalty_scope": "call", "attribution_eps": 0.01}
    held_out = [make_trace(9, step=step) for step in (0, 3)]
    traces += make_group(5, size=2)
    make_run(folder, traces, steps=3, study=True, held_out=held_out, defaults={"penalty_weight": 0.5}, **settings)
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


PLACES = {
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "loop": lambda path: path.symlink_to(path.name),
    "link to nothing": lambda path: path.symlink_to("nothing"),
}


@pytest.mark.parametrize("what", PLACES)
@pytest.mark.parametrize(
    "name",
    [
        *("metrics.jsonl", "traces.jsonl", "held-out.jsonl", "evaluation.json", "case-study.json"),
        *("evaluation/manifest.json", "evaluation/evaluation.json"),
    ],
)
def test_what_is_no_file_is_named(run: Path, name: str, what: str, tmp_path: Path):
    """It is not as if there were none, as in a run that has not ended."""
    folder = tmp_path / "a"
    shutil.copytree(run, folder)
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    PLACES[what](path)
    with pytest.raises(InputError, match=re.escape(f"cannot read {path} (")):
        write_report([folder], tmp_path / "page.html")
