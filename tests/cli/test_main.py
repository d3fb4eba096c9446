"""The command line as a user runs it."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from documented import without_processes
from processes import iapo_here
from processes import run as run_process

from iapo.data.synthetic import TRAINED_FAMILIES
from iapo.records import Status
from iapo.runs import METRICS, RunFolder

SMALLER = {"case_study_samples": 4, "per_device_train_batch_size": 16, "train_samples": 32}


HELPED = [
    "",
    "demo",
    "train",
    "tiny",
    "tiny build",
    "tiny evaluate",
    "data",
    "data convert",
    "study ablate",
    "study faithfulness",
    "attribute",
    "teacher attribute",
]


def test_help_needs_no_torch() -> None:
    """One after the other, in one process."""
    code = (
        "import sys\nfrom iapo.cli.main import main\n"
        "for verb in sys.argv[1:]:\n"
        "    print('verb', verb)\n"
        "    try: main([*verb.split(), '--help'])\n"
        "    except SystemExit as end: assert end.code in (0, None), end.code\n"
        "    assert not {'torch', 'transformers', 'trl', 'pyarrow', 'matplotlib'} & sys.modules.keys(), verb\n"
    )
    done = run_process([sys.executable, "-c", code, *HELPED])
    assert done.returncode == 0, done.stderr
    said = done.stdout.split("verb ")[1:]
    assert [text.splitlines()[0] for text in said] == HELPED
    for verb, text in zip(HELPED, said, strict=True):
        assert f"Usage: iapo {verb}".strip() in text
    assert "--method" in said[HELPED.index("attribute")]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    from iapo.experiments import demo as module

    out, make_job = tmp_path_factory.mktemp("demo"), module._job
    with pytest.MonkeyPatch.context() as patch:
        # Settings that the demo itself does not offer.
        patch.setattr(
            module, "_job", lambda name, folder, steps, changes: make_job(name, folder, steps, {**changes, **SMALLER})
        )
        # The first training has a process of its own, as both have; what they do is the same in this one.
        with without_processes(patch, but=1):
            done = iapo_here("demo", "--steps", "2", "--samples", "8", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout


@pytest.mark.slow(9)
def test_demo_prints_the_comparison(demo: tuple[Path, str]) -> None:
    out, printed = demo
    for heading in ("accuracy", "call ratio", "call success", "misuse", "mean divergence", "before", "GRPO", "IAPO"):
        assert heading in printed
    assert str(out) in printed.replace("\n", "")
    for plot in ("training.png", "attribution.png"):
        assert (out / plot).stat().st_size > 10_000


@pytest.mark.slow(1)
@pytest.mark.parametrize("method", ["grpo", "iapo"])
def test_run_folder_is_whole(demo: tuple[Path, str], method: str) -> None:
    folder = RunFolder(demo[0] / method)
    metrics = folder.read_metrics()
    assert [row["step"] for row in metrics] == [1, 2]
    components = ["outcome"] if method == "grpo" else ["outcome", "alignment"]
    expected = {*METRICS, *(f"{part}/{name}" for part in ("reward", "weight") for name in components)}
    groups = {"groups/flat", "groups/reward", "groups/spread"}
    for row in metrics:
        # Which of the two data sets a batch of this size has is chance.
        assert set(row) - {f"{name}/synthetic/{source}" for name in groups for source in ("vbar", "hbar")} == (
            expected | groups
        )
    # What is told of pairs within groups needs some.
    always = [key for key in METRICS if "misuse_auc" not in key and key != "attribution/tied_groups_ranked"]
    assert all(row[key] is not None for row in metrics for key in always)
    weights = [row["attribution/lambda"] for row in metrics]
    # The weight decays from its first value at step 0.
    assert weights == pytest.approx([0.0, 0.0] if method == "grpo" else [0.1, 0.1 * 2.718281828**-0.01], rel=1e-3)
    for row in metrics:
        penalty = row["attribution/lambda"] * row["attribution/divergence"]
        assert row["reward/total"] == pytest.approx(row["reward/outcome"] - penalty, abs=1e-3)
    manifest = json.loads((folder.path / "manifest.json").read_text())
    assert manifest["seeds"] == {"training": 0, "charts": 0, "evaluation": 0}
    assert manifest["versions"]["trl"].startswith("1.16")
    assert manifest["config"]["run"]["model"] == "tiny-student"
    traces = folder.read_traces()
    assert traces
    assert all(trace.result.status in get_args(Status) for trace in traces)
    assert any(trace.result.image is not None and trace.turn_2 for trace in traces)
    report = demo[0] / "report.html"
    assert report.read_text().startswith("<!doctype html>")
    assert str(report) in "".join(demo[1].split())
    held_out = folder.read_held_out()
    assert [trace.step for trace in held_out] == [0] * 8 + [2] * 8
    assert [trace.sample.id for trace in held_out[:8]] == [trace.sample.id for trace in held_out[8:]]
    for trace in (*traces, *held_out):
        assert bool(trace.patches) == bool(trace.attribution)
    assert any(trace.patches for trace in held_out)
    evaluation = folder.read_evaluation()
    assert evaluation.samples == 8
    assert evaluation.before["accuracy"].count == evaluation.samples
    assert {when: set(measures) for when, measures in evaluation.greedy.items()} == {
        key: {"accuracy", "call_ratio", "call_success", "misuse"} for key in ("before", "after")
    }
    for who in ("student", "teacher"):
        entropy = evaluation.before[f"{who}_entropy"].value
        assert entropy is not None
        assert 0 < entropy < math.log(9)


@pytest.mark.slow(1)
def test_both_runs_start_alike(demo: tuple[Path, str]) -> None:
    first, second = (RunFolder(demo[0] / method).read_evaluation() for method in ("grpo", "iapo"))
    assert first.before == second.before


@pytest.mark.slow(2)
def test_demo_refuses_a_taken_folder(demo: tuple[Path, str]) -> None:
    done = iapo_here("demo", "--steps", "1", "--out", demo[0])
    assert done.returncode == 2
    assert "already exists" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "--config", "demo-iapo", "--save_strategy", "sometimes"], "sometimes"),
        (["tiny", "causes", "--new"], "--new needs a folder for the student; give --out"),
        (["tiny", "causes", "--new", "--out", "x", "--model", "y"], "not y; leave --model out"),
        (["tiny", "build", "--model", "tiny-student", "--stage", "teacher"], "tiny-student has no stage 'teacher'"),
    ],
)
def test_what_only_the_libraries_know_is_one_sentence_too(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = iapo_here(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_data_verbs(tmp_path: Path) -> None:
    """Made, checked, damaged, checked again, converted, refused, shown."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def run(code: int, *arguments: str) -> str:
        done = iapo_here("data", *arguments)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    made, cut, out = (str(tmp_path / name) for name in ("made.parquet", "cut.parquet", "out.parquet"))
    assert f"3 samples in {made}" in run(0, "make", "hbar", "3", made)
    assert "rows 3" in run(0, "check", made)
    rows = pq.read_table(made).to_pylist()
    rows[1]["image"]["bytes"] = rows[1]["image"]["bytes"][:99]
    pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(made)), cut)
    assert f"cut.parquet, row 2 (id '{rows[1]['id']}'): the picture is damaged" in run(1, "check", cut)
    assert "row 2" in run(2, "convert", cut, out, "--strict")
    printed = run(0, "convert", cut, out, "--find-boxes")
    assert f"2 samples in {out}" in printed
    assert f"1 damaged rows, listed in {out}.damaged.jsonl" in printed
    assert "already exists" in run(2, "convert", cut, out)
    assert "sheet.html" in run(0, "show", out, "--out", str(tmp_path / "sheet"))


@pytest.mark.slow(3)
def test_tiny_build_runs_stage_by_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From nothing to a teacher that the project's own GRPO has trained, in few steps of a lesson of each kind or of
    eight rollouts; each stage needs the last.
    """
    from iapo.rollout.policy import load_policy
    from iapo.tiny import build as building
    from iapo.training.files import find_config

    name, out, asked = "tiny-qwen3-vl-teacher", str(tmp_path), []
    measure = building.measure

    def measure_few(*words: Any, **more: Any) -> dict[str, Any]:
        """Keeps how many pictures a family are asked for, and measures two."""
        bound = inspect.signature(measure).bind(*words, **more)
        bound.apply_defaults()
        asked.append(bound.arguments["count"])
        return measure(*words, **{**more, "count": 2})

    monkeypatch.setattr(building, "measure", measure_few)
    recipe = building.RECIPES[name]
    config = yaml.safe_load(find_config(recipe.config).read_text())
    small = tmp_path / "small.yaml"
    small.write_text(yaml.safe_dump(config | {"per_device_train_batch_size": 8, "train_samples": 16}))
    stages = {
        stage: tuple(dataclasses.replace(part, batch=dict.fromkeys(part.batch, 1)) for part in parts)
        for stage, parts in recipe.stages.items()
    }
    monkeypatch.setitem(building.RECIPES, name, dataclasses.replace(recipe, config=str(small), stages=stages))
    # A tokenizer of a tenth of the texts.
    texts = building._corpus
    monkeypatch.setattr(building, "_corpus", lambda: itertools.islice(texts(), 3000))

    def build(stage: str) -> subprocess.CompletedProcess[str]:
        # What the reinforcement learning does is the same in its own process; a demo's trainings have one.
        with without_processes(monkeypatch):
            return iapo_here("tiny", "build", "--model", name, "--stage", stage, "--scale", "0.002", "--out", out)

    early = build("protocol")
    assert early.returncode == 2
    assert "run the stage before" in " ".join(early.stderr.split())
    for stage in ("sight", "protocol", "teacher"):
        done = build(stage)
        assert done.returncode == 0, done.stdout + done.stderr
    manifest = json.loads((tmp_path / name / "manifest.json").read_text())
    assert list(manifest["stages"]) == ["sight", "protocol", "teacher"]
    assert [row["step"] for row in manifest["stages"]["teacher"]["history"]] == [1]
    assert asked == [100]
    assert manifest["metrics"]["unseen"]["accuracy"]["count"] == 2 * len(TRAINED_FAMILIES)
    policy = load_policy(str(tmp_path / name))
    assert policy.model.num_parameters() == manifest["parameters"]
    assert policy.model.config.model_type == "qwen3_vl"


@pytest.mark.slow(2)
def test_tiny_evaluate_writes_what_it_prints(tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    words = ("tiny", "evaluate", "--models", "tiny-student", "--families", "vbar,vwtq", "--samples", "1")
    done = iapo_here(*words, "--json", path)
    assert done.returncode == 0, done.stdout + done.stderr
    numbers = json.loads(path.read_text())
    assert numbers["settings"] == {"families": ["vbar", "vwtq"], "samples": 1, "seed": 0, "temperature": 1.0}
    accuracy = numbers["models"]["tiny-student"]["behaviour"]["unseen"]["all"]["accuracy"]
    assert accuracy["count"] == 2
    assert f"{accuracy['value']:.3f}" in done.stdout
    again = iapo_here(*words, "--json", path)
    assert again.returncode == 2
    assert "already exists" in " ".join(again.stderr.split())
