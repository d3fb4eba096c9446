"""Two processes do what one does: DDP, FSDP2, DeepSpeed ZeRO-2 and ZeRO-3, full and LoRA, every kind of teacher.

The turns are written by hand, so that all see the same rollouts; on one rank nobody may call, or all make one call.
`make engine` runs all of it under the launcher, `make test` DDP with a live teacher alone, in forked processes.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import run as run_process
from processes import started, wait_for
from safetensors.torch import load_file
from sharded_on_cpu import FSDP2
from two_ranks import check_drawn, check_gradient, check_skipped

from iapo.attribution.settings import AttributionSettings
from iapo.data.synthetic import generate
from iapo.rollout.policy import load_policy
from iapo.runs import RunFolder
from iapo.teachers.asking import attribute_samples

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
ALL = bool(os.environ.get("IAPO_ENGINES"))
PYTHON = ROOT / ".venv-engine" / "bin" / "python"
LIMIT = 420.0

ZERO: dict[str, Any] = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "zero_allow_untested_optimizer": True,
}
ENGINES: dict[str, dict[str, Any]] = {
    "ddp": {},
    "fsdp2": {"fsdp": True, "fsdp_config": {"version": 2}},
    "zero2": {"use_cpu": False, "deepspeed": {**ZERO, "zero_optimization": {"stage": 2}}},
    # Some parameters stay whole, as DeepSpeed has it by default, but not all of a tiny model's.
    "zero3": {
        "use_cpu": False,
        "deepspeed": {**ZERO, "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 1000}},
    },
}
KINDS = ("live", "own", "stored", "lora", "shards")
# What `accelerate launch` makes of a file of its own questions: rank 1 must not stay without weights.
LAUNCHED = {**FSDP2, "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}
CASES = [(engine, kind) for engine in ENGINES for kind in KINDS]


def needs_all(engine: str) -> None:
    """Skips what `make test` leaves out, and what cannot be run here."""
    if not ALL:
        pytest.skip("run by `make engine`")
    if engine.startswith("zero") and not PYTHON.exists():
        pytest.skip("no .venv-engine with DeepSpeed; `make engine` makes it")


def start_of(engine: str, processes: int, script: str, *words: str, **given: str) -> tuple[list[str], dict[str, str]]:
    """The command that runs a script of this folder in so many processes, and its environment."""
    deepspeed = engine.startswith("zero")
    more = {"ACCELERATE_USE_DEEPSPEED": "true"} if deepspeed else {}
    paths = os.pathsep.join(map(str, (ROOT, HERE.parent, HERE)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **more, **given}
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    return [str(PYTHON) if deepspeed else sys.executable, *start, str(HERE / script), *words], environment


def launch(engine: str, processes: int, script: str, *words: str, **given: str) -> None:
    """Runs a script of this folder in so many processes."""
    command, environment = start_of(engine, processes, script, *words, **given)
    if not ALL:
        # The same in forks, which have their imports behind them.
        launcher = [str(HERE.parent / "launched.py"), str(processes)] if processes > 1 else []
        command = [sys.executable, *launcher, str(HERE / script), *words]
    done = run_process(command, timeout=LIMIT, fork=not ALL, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def by_file(engine: str, processes: int, script: str, *words: str) -> None:
    """Runs a script of this folder as `accelerate launch` starts it by the engine's file in `configs`."""
    command, environment = start_of(engine, 1, script, *words)
    file = str(ROOT / "configs" / "accelerate" / f"{engine}.yaml")
    launcher = ["-m", "accelerate.commands.launch", "--config_file", file, "--num_processes", str(processes)]
    environment.pop("ACCELERATE_USE_DEEPSPEED", None)
    done = run_process([command[0], *launcher, *command[1:]], timeout=LIMIT, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher's own calls on the samples that `rank_run.py` trains on."""
    path = tmp_path_factory.mktemp("table") / "teacher.parquet"
    charts = list(generate("vbar", 16, seed=5, question_types=("value",)))
    settings = AttributionSettings(teacher_reference="own_call", max_turn_tokens=40)
    attribute_samples(load_policy("tiny-teacher"), charts, settings).write(path)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Any:
    """Trains under an engine in one process or two, each once, and gives the folder."""
    root = tmp_path_factory.mktemp("trained")

    @functools.cache
    def train(engine: str, kind: str, processes: int, float64: bool = False) -> Path:
        out = root / f"{engine}-{kind}-{processes}-{float64}"
        out.mkdir()
        settings: dict[str, Any] = {
            "max_steps": 3,
            "penalty_weight": 0.3,
            "optim": "sgd",
            "learning_rate": 0.05,
            "per_device_train_batch_size": 8 // processes,
            "trace_every": 1,
            **ENGINES[engine],
        }
        if kind == "own":
            settings["teacher_reference"] = "own_call"
        if kind == "shards":
            settings["teacher_shards"] = True
        if kind == "stored":
            settings |= {"teacher_reference": "own_call", "teacher_table": str(request.getfixturevalue("table"))}
        options = {"settings": settings, "lora": kind == "lora", "float64": float64}
        launch(engine, processes, "rank_run.py", str(out), json.dumps(options))
        return out

    return train


def told(out: Path) -> list[dict[str, Any]]:
    """All processes' scored rollouts, in one order."""
    rows = [row for path in out.glob("told-*.json") for row in json.loads(path.read_text())["told"]]
    return sorted(rows, key=lambda row: (row["step"], row["sample"], row["turn"]))


# In `make test` all but one are skipped.
@pytest.mark.slow(1)
@pytest.mark.timeout(1000)
@pytest.mark.parametrize(("engine", "kind"), CASES)
def test_two_processes_train_as_one(trained: Any, engine: str, kind: str) -> None:
    if (engine, kind) != ("ddp", "live"):
        needs_all(engine)
    one, two = trained("ddp", kind, 1), trained(engine, kind, 2)
    first, second = told(one), told(two)
    assert [(row["step"], row["sample"], row["turn"]) for row in first] == [
        (row["step"], row["sample"], row["turn"]) for row in second
    ]
    assert len(first) == 24
    for mine, other in zip(first, second, strict=True):
        # The teacher explains its own calls in other batches, which round otherwise; after an update, the last digits
        # of parameters show.
        close = 1e-4 if mine["step"] > 1 else 1e-5 if kind == "own" else 1e-6
        assert other["scores"] == pytest.approx(mine["scores"], abs=close)
    results = [json.loads((two / f"told-{rank}.json").read_text()) for rank in range(2)]
    assert all(one["world"] == 2 and one["unsharded"] == [] for one in results)
    log = json.loads((one / "told-0.json").read_text())["log"]
    assert len(log) == 3
    for mine, other in zip(log, results[0]["log"], strict=True):
        close = 2e-6 if kind in ("live", "lora", "shards") else 2e-5
        assert other == pytest.approx(mine, abs=close, rel=close)
    before, after = (torch.load(out / "parameters.pt", weights_only=True) for out in (one, two))
    assert before.keys() == after.keys()
    assert max(float((before[name] - after[name]).detach().abs().max()) for name in before) < 1e-6
    # What is compared has moved.
    if kind != "lora":
        start = dict(load_policy("tiny-student").model.named_parameters())
        assert max(float((before[name] - start[name].detach()).abs().max()) for name in before) > 1e-3
    _check_folder(one / "run", two / "run")
    _check_policy(two / "policy", after, lora=kind == "lora")


@pytest.mark.slow(1)
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("kind", ["live", "own"])
def test_what_differs_is_rounding_alone(trained: Any, kind: str) -> None:
    """In float64 the divergences of all steps agree, which in float32 the last digit of a parameter moves."""
    needs_all("ddp")
    one, two = trained("ddp", kind, 1, True), trained("ddp", kind, 2, True)
    first, second = told(one), told(two)
    assert len(first) == 24
    # Rewards, of which divergences are a part, are float32 in TRL, and so are the advantages that they become.
    assert (
        max(
            abs(mine["scores"][name] - other["scores"][name])
            for mine, other in zip(first, second, strict=True)
            for name in mine["scores"]
        )
        < 1e-9
    )
    before, after = (torch.load(out / "parameters.pt", weights_only=True) for out in (one, two))
    assert max(float((before[name] - after[name]).detach().abs().max()) for name in before) < 1e-9


def numbers(found: Any) -> list[float]:
    """All numbers in what a JSON file holds, in order."""
    if isinstance(found, dict | list):
        return [number for one in (found.values() if isinstance(found, dict) else found) for number in numbers(one)]
    return [float(found)] if isinstance(found, int | float) else []


def _check_folder(one: Path, two: Path) -> None:
    """Metrics once, traces of all ranks, nothing half written."""
    assert [row["step"] for row in RunFolder(two).read_metrics()] == [1, 2, 3]
    kept = [
        [(trace.step, trace.sample.id, trace.turn_1) for trace in RunFolder(run).read_traces()] for run in (one, two)
    ]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 24
    assert not list(two.rglob("*.part"))


def _check_policy(folder: Path, parameters: dict[str, torch.Tensor], *, lora: bool) -> None:
    """What was saved opens alone, in one process, and is what was trained."""
    if lora:
        saved = load_file(folder / "adapter_model.safetensors")
        ends = {name.replace(".default.", "."): value for name, value in parameters.items() if "lora_" in name}
        assert saved.keys() == ends.keys()
        assert all(torch.equal(saved[name], ends[name]) for name in saved)
        load_policy(str(folder))
    else:
        opened = dict(load_policy(str(folder)).model.named_parameters())
        assert all(torch.equal(opened[name], value) for name, value in parameters.items())


CONFIG = HERE / "engine.yaml"


@pytest.mark.slow(1)
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("engine", ["fsdp2", "zero3"])
def test_a_whole_run(engine: str, tmp_path: Path) -> None:
    """By the launcher and the engine's file: sampled rollouts of other lengths on each rank, evaluation, case study,
    checkpoints in shards and whole.
    """
    needs_all(engine)
    runs = {"ddp": tmp_path / "ddp", engine: tmp_path / engine}
    words = {name: ["train", "--config", str(CONFIG), "--output_dir", str(out)] for name, out in runs.items()}
    launch("ddp", 2, "sharded_on_cpu.py", *words["ddp"], "--use_cpu", "true")
    by_file(engine, 2, "sharded_on_cpu.py", *words[engine], "--use_cpu", str(engine != "zero3").lower())
    first, second = (RunFolder(out) for out in runs.values())
    texts = [[(one.turn_1, one.turn_2) for one in run.read_traces()] for run in (first, second)]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 32
    told = [run.read_evaluation() for run in (first, second)]
    assert told[0].outcomes == told[1].outcomes
    assert len(told[1].outcomes["after"]) == 5
    held = [[(one.sample.id, one.turn_1, one.turn_2) for one in run.read_held_out()] for run in (first, second)]
    assert held[0] == held[1]
    assert len(held[0]) == 2 * 5
    points = [json.loads((run.path / "case-study.json").read_text())["points"] for run in (first, second)]
    assert len(points[0]) == 3
    assert numbers(points[1]) == pytest.approx(numbers(points[0]), abs=1e-4)
    checkpoint = runs[engine] / "checkpoint-1"
    shards = list(checkpoint.glob("**/*.distcp" if engine == "fsdp2" else "**/*zero_pp_rank_*"))
    assert len(shards) >= 2
    for saved in (checkpoint, runs[engine] / "policy"):
        load_policy(str(saved))


def rows_of(run: Path) -> list[dict[str, Any]]:
    """What a run's log says of its steps, without times."""
    path = run / "metrics.jsonl"
    # A line that is just being written does not count.
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    rows = map(json.loads, lines)
    return [{name: value for name, value in row.items() if "time" not in name and value is not None} for row in rows]


@pytest.mark.slow(1)
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("engine", ["fsdp2", "zero2", "zero3"])
def test_shards_stop_together_and_go_on(engine: str, tmp_path: Path) -> None:
    """What test_two_ranks.py tries under DDP, under the others, with checkpoints in shards."""
    needs_all(engine)
    sets = {"optim": "sgd", "learning_rate": 0.05, "per_device_train_batch_size": 8, **ENGINES[engine]}
    trainings = ["stop", "gone_on", "skipped", "gradient_stops", "drawn_anew", "shared_groups"]
    launch(engine, 2, "two_ranks.py", str(tmp_path), json.dumps({"settings": sets, "trainings": trainings}))
    told = [json.loads((tmp_path / f"told-{rank}.json").read_text()) for rank in range(2)]
    check_skipped(told)
    check_gradient(told)
    check_drawn(told, tmp_path / "alone")
    first, second = told
    assert second["stop"]["sentence"].startswith("step 2: the reward reward is not finite")
    assert first["stop"]["sentence"] == f"process 1 found: {second['stop']['sentence']}"
    for one in (first, second):
        whole, again = one["gone"]["sums"]
        assert again == pytest.approx(whole, rel=1e-9)


@pytest.mark.slow(1)
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("engine", ["ddp", "fsdp2", "zero3"])
def test_killed_ranks_go_on(engine: str, tmp_path: Path) -> None:
    """Both processes are killed in the middle; the same command ends as if nothing had been, as one that was not."""
    needs_all(engine)
    given = dict(LAUNCHED) if engine == "fsdp2" else {}
    shorter = ["--max_steps", "4", "--eval_samples", "0", "--case_study_steps", "0", "--eval_temperature", "1"]
    shorter += ["--use_cpu", str(ENGINES[engine].get("use_cpu", True)).lower()]
    if "deepspeed" in ENGINES[engine]:
        path = tmp_path / "deepspeed.json"
        path.write_text(json.dumps(ENGINES[engine]["deepspeed"]))
        shorter += ["--deepspeed", str(path)]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    words = {out: ["train", "--config", str(CONFIG), "--output_dir", str(out), *shorter] for out in (whole, killed)}
    launch(engine, 2, "sharded_on_cpu.py", *words[whole], **given)
    command, environment = start_of(engine, 2, "sharded_on_cpu.py", *words[killed], **given)
    with started(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: len(rows_of(killed)) >= 2 or process.poll() is not None, LIMIT)
        assert process.poll() is None
    assert not (killed / "finished.json").exists()
    launch(engine, 2, "sharded_on_cpu.py", *words[killed], **given)
    first, second = rows_of(whole), rows_of(killed)
    assert [row["step"] for row in second] == [1, 2, 3, 4]
    for mine, other in zip(first, second, strict=True):
        assert other == pytest.approx(mine, abs=1e-6, rel=1e-6)
    texts = [[(one.turn_1, one.turn_2) for one in RunFolder(out).read_traces()] for out in (whole, killed)]
    assert texts[0] == texts[1]
    before, after = (dict(load_policy(str(out / "policy")).model.named_parameters()) for out in (whole, killed))
    assert max(float((before[name] - after[name]).detach().abs().max()) for name in before) < 1e-6
