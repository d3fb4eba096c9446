"""`iapo compare`: equal budgets, what is there is kept, a stopped run goes on from its checkpoint."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from documented import DOCUMENTS, blocks, without_processes
from pretended import Pretended
from processes import iapo_here
from safetensors.torch import load_file

from iapo.data.benchmarks import BENCHMARKS
from iapo.data.sources import SourceSettings
from iapo.errors import InputError
from iapo.evaluation.local import EvaluationSettings
from iapo.evaluation.plan import EvaluationPlan
from iapo.evaluation.sets import read_sets
from iapo.experiments import contents
from iapo.experiments import job as compare_job
from iapo.experiments.compare import COMPARISONS, Comparison, describe, run_comparison
from iapo.experiments.further_rows import read_further_rows
from iapo.experiments.job import plan_from_json, run_job
from iapo.experiments.processes import Job, JobError
from iapo.experiments.table_one import Row
from iapo.experiments.trials import Budget, Trial, losses, run_trials, seconds_per_step, shared
from iapo.results import read_result, write_result
from iapo.rollout.names import resolve
from iapo.rollout.template import find_prompt
from iapo.runs import RunFolder, data_hash, rewind
from iapo.training.checkpoints import last_whole
from iapo.training.keeper import RunKeeper
from iapo.training.settings import compared_rewards, parse, read_flags

SMALL = Comparison(methods=("grpo", "iapo"), seeds=(0, 1), samples=4)


def test_runs_have_equal_budgets(tmp_path: Path):
    told = Pretended()
    found = run_comparison(SMALL, tmp_path, run=told)
    assert list(told.orders) == ["start", "teacher", *(f"{m}, seed {s}" for s in (0, 1) for m in ("grpo", "iapo"))]
    settings = {}
    for name, order in told.orders.items():
        if order["config"] is not None:
            arguments, training = parse(order["config"], order["settings"])
            settings[name] = dataclasses.asdict(arguments) | training.to_dict()
    first = settings["grpo, seed 0"]
    for name, other in settings.items():
        differing = {key for key in first if first[key] != other[key]}
        # GRPO has no penalty; all else that differs is the run's own name.
        assert differing <= {"reward", "penalty_weight", "seed", "output_dir"}, name
    assert settings["iapo, seed 1"]["seed"] == 1
    plans = [{**order["plan"], "model": ""} for order in told.orders.values()]
    assert all(plan == plans[0] for plan in plans)
    models = [order["plan"]["model"] for order in told.orders.values()]
    assert models[:2] == ["tiny-student", "tiny-teacher"]
    assert models[2:] == [str(tmp_path / m / f"seed-{s}" / "policy") for s in (0, 1) for m in ("grpo", "iapo")]
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["start", "teacher", "grpo", "iapo"]
    assert rows["iapo"]["difference"]["average"]["value"] == 0.5
    for end in ("txt", "csv", "tex", "json"):
        assert (tmp_path / f"table1.{end}").stat().st_size
    assert seconds_per_step(SMALL.trials, SMALL, tmp_path) == {"grpo": 2, "iapo": 2}


def test_what_is_finished_is_kept(tmp_path: Path):
    with pytest.raises(JobError):
        run_comparison(SMALL, tmp_path, run=Pretended(fail_at=3))
    assert not (tmp_path / "table1.json").exists()
    again = Pretended()
    run_comparison(SMALL, tmp_path, run=again)
    assert list(again.orders) == ["iapo, seed 0", "grpo, seed 1", "iapo, seed 1"]
    # A comparison may grow.
    more = Pretended()
    run_comparison(dataclasses.replace(SMALL, methods=("grpo", "otc", "iapo")), tmp_path, run=more)
    assert list(more.orders) == ["otc, seed 0", "otc, seed 1"]


def test_rows_are_of_one_thing(tmp_path: Path):
    """Own code, data, prompt and start stay as they were while runs are added."""
    own, out = tmp_path / "own.py", tmp_path / "out"
    own.write_text("def right(trace):\n    return 1.0\n")
    shutil.copytree(resolve("tiny-student"), tmp_path / "start")
    rows, prompt, template = tmp_path / "rows.jsonl", tmp_path / "prompt.yaml", tmp_path / "start/chat_template.jinja"
    rows.write_text("{}\n")
    find_prompt("tiny").write(tmp_path)
    settings = {"model": str(tmp_path / "start"), "data": str(rows), "prompt": str(prompt)}
    begun = Comparison(methods=("grpo", f"{own}:right"), samples=4, settings=settings)
    more = dataclasses.replace(begun, seeds=(0, 1))
    run_comparison(begun, out, run=Pretended())
    manifests = [out / name / "seed-0" / "manifest.json" for name in ("grpo", "right")]
    for path in manifests:
        write_result(path, "training", {"config": {"prompt": {"name": "a"}}, "data": {"train": "one"}})
    for file, old, new in (
        (own, "1.0", "2.0"),
        (rows, "{}", "[]"),
        (prompt, "chart", "graph"),
        (template, "\n", "\n\n"),
    ):
        before = file.read_text()
        file.write_text(before.replace(old, new))
        assert file.read_text() != before
        with pytest.raises(InputError, match=rf"begun with other contents of .*{file.name}"):
            run_comparison(more, out, run=Pretended())
        file.write_text(before)
    run_comparison(more, out, run=Pretended())
    # Not by another method either.
    told = Pretended()
    rows.with_name("kept").write_bytes(rows.read_bytes())
    rows.write_text("[]\n")
    with pytest.raises(InputError, match=r"begun with other contents of .*rows\.jsonl"):
        run_comparison(dataclasses.replace(begun, methods=("grpo", "torl")), out, run=told)
    assert told.orders == {}
    rows.with_name("kept").replace(rows)
    # What no file tells shows in what the runs write.
    for path in manifests:
        told = {"config": {"prompt": {"name": "a"}}, "data": {"train": "another"}}
        write_result(path.parent.parent / "seed-1" / "manifest.json", "training", told)
    with pytest.raises(InputError, match="the runs of grpo had different training data"):
        run_comparison(more, out, run=Pretended())


def beside(folder: Path) -> tuple[Path, Path, dict[str, Any]]:
    """A start and data, and the settings that name them."""
    start, data = folder / "start", folder / "data"
    shutil.copytree(resolve("tiny-student"), start)
    (folder / "pictures").mkdir()
    (folder / "pictures/a.png").write_bytes(b"a")
    (folder / "pictures/round").symlink_to(data)
    data.mkdir()
    (data / "train.jsonl").write_text("{}\n")
    (data / "linked").symlink_to(folder / "pictures")
    return start, data, {"model": str(start), "data": str(data), "reward": "grpo", "output_dir": str(folder / "out")}


def test_files_that_are_new_or_gone_are_others(tmp_path: Path):
    start, data, settings = beside(tmp_path)
    before, weights = json.loads(json.dumps(contents.contents_of(*parse("compare", settings)))), "model.safetensors"

    def check(known: Mapping[str, Any] = before) -> None:
        contents.check_contents(tmp_path, known, contents.contents_of(*parse("compare", settings)))

    check()
    new = data / "train-00002-of-00003.jsonl"
    new.write_text("{}\n")
    with pytest.raises(InputError, match=rf"were begun without .*{new.name}; remove it, or choose another --out"):
        check()
    # A folder of an earlier version does not say what there was.
    check({name: told for files in before.values() for name, told in files.items()})
    new.unlink()
    for file in (tmp_path / "pictures/a.png", start / "generation_config.json"):
        kept = file.rename(tmp_path / "kept")
        with pytest.raises(InputError, match=rf"with .*{file.name}, which is not there now; give it back"):
            check()
        kept.rename(file)
    for file, old in ((start / "prompt.yaml", b"chart"), (data / "linked/a.png", b"a"), (start / weights, b"\0")):
        was = file.read_bytes()
        file.write_bytes(was.replace(old, b"graph"[: len(old)]))
        with pytest.raises(InputError, match=r"with other contents of .*; give it back as it was"):
            check()
        file.write_bytes(was)
    check()


def test_what_is_no_data_is_not_compared(tmp_path: Path):
    start, data, settings = beside(tmp_path)
    before = contents.contents_of(*parse("compare", settings))
    (data / "notes.txt").write_text("new")
    (data / "train.quarantine.jsonl").write_text("{}\n")
    (data / ".#train.jsonl").symlink_to("somebody@host.1:2")
    (data / "nothing.png").symlink_to("nothing")
    (start / "nothing.safetensors").symlink_to("nothing")
    os.mkfifo(data / "pipe.jsonl")
    os.mkfifo(start / "pipe.safetensors")
    (data / ".cache").mkdir()
    (data / ".cache/a.png").write_bytes(b"a")
    (data / "__pycache__").mkdir()
    (data / "__pycache__/a.png").write_bytes(b"a")
    for name in ("Thumbs.db", "desktop.ini", "LICENSE", "CITATION.cff", "train.jsonl~", "train.jsonl.bak", "own.pyc"):
        (data / name).write_bytes(b"a")
    now = contents.contents_of(*parse("compare", settings))
    assert now == before
    # An earlier version took them up; they are not missed.
    more = {str(data / name): "1" for name in ("Thumbs.db", "LICENSE", "__pycache__/a.png")}
    contents.check_contents(tmp_path, before | {str(data): before[str(data)] | more}, now)
    with pytest.raises(InputError, match=r"with .*more\.jsonl, which is not there now"):
        contents.check_contents(tmp_path, {str(data): before[str(data)] | {str(data / "more.jsonl"): "1"}}, now)


def test_all_that_a_reader_of_ones_own_may_have_counts(tmp_path: Path):
    """But for what systems put everywhere."""
    data = tmp_path / "data"
    (data / "__pycache__").mkdir(parents=True)
    for name in ("LICENSE", "notes.txt", "train.jsonl~", "Thumbs.db", "__pycache__/own.pyc"):
        (data / name).write_bytes(b"a")
    own = tmp_path / "own.py"
    own.write_text("def rows(path):\n    return []\n")
    settings = {"data": f"{own}:rows@{data}", "reward": "grpo", "output_dir": str(tmp_path / "out")}
    now = contents.contents_of(*parse("compare", settings))
    place = f"{own}:rows@{data}"
    assert sorted(Path(name).name for name in now[place]) == ["LICENSE", "notes.txt", "train.jsonl~"]
    with pytest.raises(InputError, match=r"with .*COPYING, which is not there now"):
        contents.check_contents(tmp_path, {place: now[place] | {str(data / "COPYING"): "1"}}, now)


def test_a_file_that_was_only_touched_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    start, _, settings = beside(tmp_path)
    weights = start / "model.safetensors"
    for bytes_read, refused in ((1 << 26, False), (1 << 10, True)):
        monkeypatch.setattr(contents, "_SMALL", bytes_read)
        os.utime(weights, ns=(0, 1_000_000_007))
        before = contents.contents_of(*parse("compare", settings))
        os.utime(weights, ns=(0, 5_000_000_000))
        now = contents.contents_of(*parse("compare", settings))
        if not refused:
            contents.check_contents(tmp_path, before, now)
            continue
        # Too large to be read.
        with pytest.raises(
            InputError, match=r"only touched or copied, `touch -d @1\.000000007` gives it back its time"
        ):
            contents.check_contents(tmp_path, before, now)
        weights.write_bytes(weights.read_bytes() + b"a")
        now = contents.contents_of(*parse("compare", settings))
        with pytest.raises(InputError, match=r"other contents of .*model\.safetensors; give it back as it was"):
            contents.check_contents(tmp_path, before, now)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"data": "another"}, "training data"),
        ({"prompt": {"name": "b"}}, "prompts"),
        ({"code": {"tools": {"own.py": "2"}}}, r"contents of own\.py"),
        # What its own settings explain is no other thing.
        ({"data": "another", "run": {"data": "d", "data_split": "other"}}, None),
        ({"prompt": {"name": "b"}, "run": {"data": "d", "prompt": "b.yaml"}}, None),
        ({"code": {"tools": {"more.py": "2"}}}, None),
        ({"data": "another", "dropped": {"dropped": 1}}, None),
    ],
)
def test_trials_are_of_one_thing(tmp_path: Path, other: dict[str, Any], told: str | None):
    """Runs of two methods, before any other one begins, and before a table is made."""
    one = {"data": "one", "prompt": {"name": "a"}, "code": {"tools": {"own.py": "1"}}, "run": {"data": "d"}}
    for trial, found in {"grpo": one, "iapo": {**one, **other}}.items():
        config = {name: found[name] for name in ("prompt", "code", "run")}
        data = {"train": found["data"]} | ({"long_prompts": found["dropped"]} if "dropped" in found else {})
        folder = tmp_path / trial / "seed-0"
        folder.mkdir(parents=True)
        write_result(folder / "manifest.json", "training", {"config": config, "data": data})
    trials = {trial: [tmp_path / trial / f"seed-{seed}" for seed in (0, 1)] for trial in ("grpo", "iapo")}
    if told is None:
        contents.check_alike(trials)
        return
    with pytest.raises(InputError, match=rf"the runs of grpo and iapo had different {told}: .*grpo/seed-0 and .*iapo"):
        contents.check_alike(trials)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"settings": {"max_steps": 5}}, "max_steps: 80 there, 5 now"),
        ({"samples": 5}, "plan.source.count: 4 there, 5 now"),
        ({"temperature": 0.0}, "plan.generation.temperature: 1.0 there, 0.0 now"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, change: dict[str, Any], told: str):
    run_comparison(SMALL, tmp_path, run=Pretended())
    with pytest.raises(ValueError, match=rf"other settings \({told}\)"):
        run_comparison(dataclasses.replace(SMALL, **change), tmp_path, run=Pretended())


def test_a_folder_of_the_first_format_goes_on(tmp_path: Path):
    """It has settings as the words of a command line, and no number of its format."""
    small = dataclasses.replace(SMALL, settings={"max_steps": 3, "learning_rate": 1e-4})
    run_comparison(small, tmp_path, run=Pretended())
    path = tmp_path / "comparison.json"
    found = json.loads(path.read_text())
    assert (found.pop("format"), found.pop("kind")) == (1, "comparison")
    assert found.pop("settings") == {"max_steps": 3, "learning_rate": 1e-4}
    found["flags"] = ["--max_steps", "3", "--learning_rate=1e-4"]
    found["trials"] = {name: ["--reward", some["reward"]] for name, some in found["trials"].items()}
    path.write_text(json.dumps(found))
    told = Pretended()
    run_comparison(small, tmp_path, run=told)
    assert told.orders == {}
    path.write_text(json.dumps(found))
    with pytest.raises(ValueError, match=r"other settings \(max_steps: 3 there, 80 now\)"):
        run_comparison(SMALL, tmp_path, run=told)


def test_a_taken_folder_is_refused(tmp_path: Path):
    (tmp_path / "something").touch()
    with pytest.raises(ValueError, match="holds no comparison"):
        run_comparison(SMALL, tmp_path, run=Pretended())


def test_a_comparison_that_was_killed_as_it_began_is_begun_again(tmp_path: Path):
    for name in ("comparison.json.7-0123abcd.part", "run.lock"):
        (tmp_path / name).write_text("{}")
    told = Pretended()
    run_comparison(SMALL, tmp_path, run=told)
    assert told.orders


def test_what_a_configuration_was_is_told(tmp_path: Path):
    config = tmp_path / "own.yaml"
    config.write_text("base: compare\nmax_steps: 3\n")
    small = dataclasses.replace(SMALL, config=str(config))
    run_comparison(small, tmp_path / "out", run=Pretended())
    config.write_text("base: compare\nmax_steps: 4\n")
    with pytest.raises(InputError, match=r"other settings \(max_steps: 3 there, 4 now\)"):
        run_comparison(small, tmp_path / "out", run=Pretended())
    config.write_text("base: compare\n# three\nmax_steps: 3\n")
    with pytest.raises(InputError, match=r"the text of .*own\.yaml has changed"):
        run_comparison(small, tmp_path / "out", run=Pretended())


def evaluated(folder: Path, hashes: Mapping[str, str]) -> Path:
    folder.mkdir()
    sets = {name: {"data": one, "outcomes": [[1.0, 1.0]]} for name, one in hashes.items()}
    (folder / "evaluation.json").write_text(json.dumps({"sets": sets}))
    return folder


@pytest.mark.parametrize(
    ("hashes", "sentence"),
    [
        ({"vbar": "a" * 64}, "row 'big' was evaluated on vbar, and the trials are on vbar, hbar"),
        ({"vbar": "a" * 64, "hbar": "b" * 64}, "on other samples of vbar than the trials are to be; .*--samples 4"),
    ],
)
def test_a_row_on_other_samples_is_refused_before_anything_runs(tmp_path: Path, hashes: dict[str, str], sentence: str):
    told = Pretended()
    with pytest.raises(InputError, match=sentence):
        run_comparison(SMALL, tmp_path / "out", more_rows={"big": evaluated(tmp_path / "big", hashes)}, run=told)
    assert told.orders == {}
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def hashes() -> dict[str, str]:
    plan = shared(SMALL)[0]
    return {name: data_hash(one.samples) for name, one in read_sets(plan.sets, plan.source, "strict").items()}


def test_a_further_row(tmp_path: Path, hashes: dict[str, str]):
    extra = evaluated(tmp_path / "big", hashes)
    found = run_comparison(SMALL, tmp_path / "out", more_rows={"big": extra}, run=Pretended(hashes))
    row = found["rows"][2]
    assert (row["name"], row["seeds"], row["accuracy"]["average"]["value"]) == ("big", 0, 1)
    assert row["notes"] == [f"{extra}/evaluation.json does not say how big was measured"]


def measured(folder: Path, hashes: Mapping[str, str], change: Mapping[str, Any], model: str = "big") -> Path:
    """An evaluation made as the comparison's are, but for some settings; those of the generation among them."""
    plan = json.loads(json.dumps(dataclasses.asdict(shared(SMALL)[0])))
    plan["generation"] |= {name: value for name, value in change.items() if name in plan["generation"]}
    plan |= {name: value for name, value in change.items() if name in plan}
    path = evaluated(folder, hashes) / "evaluation.json"
    found = json.loads(path.read_text()) | {"model": model, "settings": plan}
    path.write_text(json.dumps(found))
    return folder


def row_of(folder: Path, budget: Budget = SMALL) -> Row:
    (row,) = read_further_rows({"big": folder}, budget)
    return row


GREEDY = dataclasses.replace(SMALL, temperature=0.0)
ENDPOINT = {"temperature": 1.0, "top_p": 1.0, "max_turn_tokens": 24}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ""),
        # Of a model behind an endpoint its settings count; its own loading and what it is not told do not.
        ({"endpoint": ENDPOINT, "temperature": 0.3, "concurrency": 3, "max_sequence_length": 7}, ""),
        ({"tools": "standard"}, ""),
        ({"tools": "none", "max_turns": 5}, "tools none (here the six)"),
        ({"tools": "mine.py"}, "tools 'mine.py' (here the six)"),
        ({"max_turns": 3}, "max_turns 3 (here 2)"),
        ({"repeats": 5, "top_p": 0.5}, "top_p 0.5 (here 1.0), repeats 5 (here 1)"),
        ({"endpoint": {**ENDPOINT, "max_turn_tokens": 9}}, "max_turn_tokens 9 (here 24)"),
        ({"loading": {"max_pixels": 10}}, "max_pixels 10 (here none)"),
        ({"tool_timeout": 2.0}, "tool_timeout 2.0 (here none)"),
    ],
)
def test_a_row_that_was_measured_otherwise_says_so(
    tmp_path: Path, hashes: dict[str, str], change: dict[str, Any], told: str
):
    row = row_of(measured(tmp_path / "big", hashes, change))
    assert list(row.notes) == ([f"big was measured otherwise than the runs here: {told}"] if told else [])
    assert row.runs[None]["vbar"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("wording", "told"),
    [({}, []), ({"name": "mine"}, []), ({"question": "Q"}, ["prompt worded otherwise"])],
)
def test_a_row_with_another_prompt_says_so(
    tmp_path: Path, hashes: dict[str, str], wording: dict[str, str], told: list[str]
):
    folder = measured(tmp_path / "big", hashes, {})
    config = {"evaluation": {}, "prompt": find_prompt("tiny").to_json() | wording}
    write_result(folder / "manifest.json", "evaluation", {"config": config})
    assert list(row_of(folder).notes) == [f"big was measured otherwise than the runs here: {one}" for one in told]
    config["prompt"] = find_prompt("tools").to_json()
    write_result(folder / "manifest.json", "evaluation", {"config": config})
    assert "prompt tools (here tiny)" in row_of(folder).notes[0]


def test_damaged_settings_of_a_row_are_refused(tmp_path: Path, hashes: dict[str, str]):
    folder = measured(tmp_path / "big", hashes, {"loading": 3})
    with pytest.raises(InputError, match=r"big/evaluation\.json is damaged: .*loading"):
        row_of(folder)
    path = folder / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": [3]}))
    with pytest.raises(InputError, match=r"big/evaluation\.json is damaged"):
        row_of(folder)


def test_a_greedy_row_beside_sampled_ones_has_greedy_numbers_alone(tmp_path: Path, hashes: dict[str, str]):
    extra = measured(tmp_path / "big", hashes, {"temperature": 0.0, "top_p": 0.3})
    found = run_comparison(SMALL, tmp_path / "out", more_rows={"big": extra}, run=Pretended(hashes))
    row = found["rows"][2]
    assert (row["name"], row["accuracy"], row["difference"]) == ("big", None, None)
    assert {name: one["value"] for name, one in row["calls"].items()} == {"accuracy_greedy": 1}
    assert row["notes"] == [
        "big was measured greedily: its numbers are in the greedy columns of the table of calls alone"
    ]
    # Where all is greedy, it is a row like the others.
    assert row_of(extra, GREEDY).runs[None]["vbar"].tolist() == [1, 1]
    assert row_of(extra, GREEDY).notes == []


@pytest.mark.parametrize(
    ("budget", "change", "told"),
    [
        (
            SMALL,
            {"temperature": 0.5},
            "sampled at temperature 0.5, and the trials are measured at 1; .*--temperature 1",
        ),
        (SMALL, {"endpoint": {**ENDPOINT, "temperature": 0.7}}, r"sampled at temperature 0\.7"),
        (
            GREEDY,
            {},
            "sampled at temperature 1, and the trials are measured greedily; evaluate it with --temperature 0",
        ),
    ],
)
def test_a_row_at_another_temperature_is_refused_before_anything_runs(
    tmp_path: Path, hashes: dict[str, str], budget: Comparison, change: dict[str, Any], told: str
):
    extra, run = measured(tmp_path / "big", hashes, change), Pretended()
    with pytest.raises(InputError, match=told):
        run_comparison(budget, tmp_path / "out", more_rows={"big": extra}, run=run)
    assert run.orders == {}
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "model", "told"),
    [
        ({}, "big", ""),
        ({}, "small", "it is of small"),
        ({"temperature": 1.0}, "big", "it was sampled"),
        ({"tools": "none"}, "big", "it had another tools"),
        ({"loading": {"load_in_4bit": True}}, "big", "it had another loading"),
        ({"endpoint": {**ENDPOINT, "temperature": 0.0}}, "big", "it had another endpoint"),
    ],
)
def test_what_lies_beside_a_row_is_its_greedy_measurement_or_is_left_out(
    tmp_path: Path, hashes: dict[str, str], change: dict[str, Any], model: str, told: str
):
    extra = measured(tmp_path / "big", hashes, {})
    beside = measured(tmp_path / "big-greedy", hashes, {"temperature": 0.0, **change}, model)
    row = row_of(extra)
    assert ("accuracy_greedy" in row.calls[None]) == (not told)
    left = f"{beside} is not the greedy measurement of big ({told}), and is left out"
    assert list(row.notes) == ([left] if told else [])
    # Other samples, or weights that were written anew.
    if not told:
        for name, what in (
            ("files", "file of its checkpoint"),
            ("code", "own code"),
            ("checkpoint", "checkpoint"),
        ):
            for folder, value in ((extra, "a"), (beside, "b")):
                write_result(folder / "manifest.json", "evaluation", {"config": {"evaluation": {}, name: value}})
            assert f"it had another {what})" in row_of(extra).notes[0]
        path = beside / "evaluation.json"
        path.write_text(path.read_text().replace(hashes["vbar"], "c" * 64))
        assert "it is on other samples" in row_of(extra).notes[0]


@pytest.mark.parametrize("name", ["", " ", "start", "TEACHER", "grpo", " iapo"])
def test_a_row_of_another_rows_name_is_refused_before_anything_runs(tmp_path: Path, hashes: dict[str, str], name: str):
    extra, told = evaluated(tmp_path / "big", hashes), Pretended()
    with pytest.raises(InputError, match=r"has no name|another name"):
        run_comparison(SMALL, tmp_path / "out", more_rows={name: extra}, run=told)
    assert told.orders == {}
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"methods": ("grpo", "nothing")}, "no method 'nothing'"),
        ({"methods": ()}, "at least one"),
        ({"seeds": (1, 1)}, "each one once"),
        ({"methods": ("iapo",)}, "reference 'grpo'"),
        ({"settings": {"seed": 3}}, "set by the comparison itself"),
    ],
)
def test_bad_comparisons_are_refused(change: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(SMALL, **change)


def test_options(tmp_path: Path):
    big = tmp_path / "big"
    big.mkdir()
    (big / "evaluation.json").touch()
    given = {"methods": "grpo, torl", "seeds": "3,4", "samples": 7, "sets": None}
    comparison, rows = describe("smoke", given, ["--max_steps", "9"], [f"big={big}"])
    assert (comparison.methods, comparison.seeds, comparison.samples) == (("grpo", "torl"), (3, 4), 7)
    assert comparison.sets == COMPARISONS["smoke"].sets
    # What is given counts, and not the preset's.
    assert parse(comparison.config, comparison.settings)[1].max_steps == 9
    assert rows == {"big": big}
    for preset, options, extra, sentence in (
        ("huge", {}, [], "no comparison 'huge'"),
        ("smoke", {"seeds": "a"}, [], "whole numbers"),
        ("smoke", {}, ["big"], "NAME=FOLDER"),
        ("smoke", {}, [f"={big}"], "NAME=FOLDER"),
        ("smoke", {}, [f" ={big}"], "NAME=FOLDER"),
        ("smoke", {}, [f"big={big}", f"big={tmp_path}"], "two rows are named 'big'"),
        ("smoke", {}, [f"big={big}", f"Big={big}"], "a row is named 'Big', as 'big' is"),
        ("smoke", {}, [f"start={big}"], "a row is named 'start', as 'start' is"),
        ("smoke", {}, [f"Teacher={big}"], "a row is named 'Teacher', as 'teacher' is"),
        ("smoke", {}, [f"grpo={big}"], "a row is named 'grpo', as 'grpo' is"),
        ("smoke", {"methods": "grpo,otc"}, [f" OTC={big}"], "a row is named 'OTC', as 'otc' is"),
        ("smoke", {}, [f"caf\u00e9={big}", f"cafe\u0301={big}"], "a row is named 'cafe\u0301', as 'caf\u00e9' is"),
    ):
        with pytest.raises(ValueError, match=sentence):
            describe(preset, options, [], extra)


def test_a_row_may_be_called_teacher_where_there_is_none(tmp_path: Path):
    (tmp_path / "evaluation.json").touch()
    (tmp_path / "own.yaml").write_text("base: compare\nteacher: null\n")
    given = {"methods": "grpo", "config": str(tmp_path / "own.yaml")}
    assert describe("smoke", given, [], [f"teacher={tmp_path}"])[1] == {"teacher": tmp_path}


def test_a_row_may_be_the_current_folder(tmp_path: Path, hashes: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(measured(tmp_path / "big", hashes, {}))
    measured(tmp_path / "big-greedy", hashes, {"temperature": 0.0})
    assert "accuracy_greedy" in row_of(Path()).calls[None]


def test_early_evaluations_say_whether_there_were_tools(tmp_path: Path, hashes: dict[str, str]):
    assert row_of(measured(tmp_path / "six", hashes, {"tools": True})).notes == []
    (note,) = row_of(measured(tmp_path / "none", hashes, {"tools": False})).notes
    assert "tools none (here the six)" in note


def flags_of(command: str) -> dict[str, str]:
    words = shlex.split(command)
    return {name: value for name, value in itertools.pairwise(words) if name.startswith("--")}


def test_the_recipe_of_table_one_compares_what_was_measured_alike():
    """The paper's test sets as a whole, the configuration's steps, and a further row that is sampled as the others."""
    shown = (dataclasses.replace(block, language="") for block in blocks(DOCUMENTS["docs/recipes.md"]))
    found = [command for block in shown for command in block.commands]
    one = flags_of(next(command for command in found if command.startswith("iapo compare")))
    name, _, folder = one["--row"].partition("=")
    row = flags_of(next(command for command in found if command.endswith(f"--out {folder}")))
    assert row["--model"] == name
    given = {key: one[f"--{key}"] for key in ("methods", "seeds", "config", "sets")} | {
        "samples": int(one["--samples"])
    }
    # On a machine without a GPU.
    comparison, _ = describe(one["--preset"], given, ["--bf16", "false", "--use_cpu", "true"], [])
    plan, settings, _ = shared(comparison)
    assert settings.max_steps == 100
    assert plan.source.count == max(benchmark.size for benchmark in BENCHMARKS.values())
    assert (row["--samples"], row["--sets"]) == ("0", one["--sets"])
    sampled = EvaluationSettings(temperature=float(row["--temperature"]), top_p=float(row["--top-p"]))
    assert sampled == dataclasses.replace(plan.generation, seed=0)


@pytest.mark.parametrize("name", COMPARISONS)
def test_presets_hold_all_methods(name: str):
    comparison = COMPARISONS[name]
    assert comparison.methods == compared_rewards()
    assert len(comparison.seeds) > 1
    for method in comparison.methods:
        assert parse(comparison.config, {**comparison.settings, "reward": method})[1].reward == method


# One process


def test_logs_are_rewound(tmp_path: Path):
    metrics = tmp_path / "metrics.jsonl"
    text = "".join(json.dumps({"step": step}) + "\n" for step in (1, 2, 3))
    metrics.write_text(text + '{"step": 4, "lo')
    rewind(tmp_path, 2)
    assert metrics.read_text() == '{"step": 1}\n{"step": 2}\n'
    rewind(tmp_path, 0)
    assert not metrics.exists()


def test_a_case_study_is_rewound(tmp_path: Path):
    """By whatever command its points were measured."""
    path = tmp_path / "case-study.json"
    points = [{"step": step, "samples": 8} for step in (0, 1, 2, 3)]
    write_result(path, "case_study", {"points": points, "teacher": None, "settings": {}})
    rewind(tmp_path, 1)
    assert read_result(path, "case_study")["points"] == points[:2]
    for damaged in ({}, {"points": 3}, {"points": [3]}, {"points": [{"step": "x"}]}):
        write_result(path, "case_study", damaged)
        with pytest.raises(InputError, match=r"case-study\.json is damaged.*remove it"):
            rewind(tmp_path, 1)


def test_a_plan_survives_json():
    plan = EvaluationPlan("m", ("vbar",), SourceSettings(3, question_types=("value",)), repeats=1)
    assert plan_from_json(json.loads(json.dumps(dataclasses.asdict(plan)))) == plan


def test_the_damage_of_the_data_holds_for_the_evaluations_too(tmp_path: Path):
    planned: list[EvaluationPlan] = []

    def run(jobs: Sequence[Job], together: int) -> None:
        for job in jobs:
            job.command(1)
            planned.append(plan_from_json(json.loads((job.log.parent / "job.json").read_text())["plan"]))
        raise StopIteration

    budget = Budget(settings={"data_damage": "quarantine", "max_steps": 1}, samples=2)
    with pytest.raises(StopIteration):
        run_trials([Trial("grpo", {"reward": "grpo"})], budget, tmp_path / "out", run=run)
    assert {plan.data_damage for plan in planned} == {"quarantine"}
    assert losses(tmp_path / "out") == []


def order(folder: Path, steps: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    source = SourceSettings(2, question_types=("value",))
    plan = EvaluationPlan(str(folder / "policy"), ("vbar",), source, generation=EvaluationSettings(24))
    flags = ["--output_dir", str(folder), "--reward", "iapo", "--max_steps", str(steps), "--save_steps", "1"]
    flags += ["--per_device_train_batch_size", "8", "--train_samples", "16", "--trace_every", "1"]
    job = {"threads": 1, "config": "compare", "settings": read_flags(flags), "plan": dataclasses.asdict(plan)}
    (folder / "job.json").write_text(json.dumps(job))


@pytest.mark.slow(4)
def test_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    order(tmp_path / "whole")
    run_job(tmp_path / "whole")

    log = RunKeeper.on_log

    def stop(self: RunKeeper, args: Any, state: Any, *rest: Any, **more: Any) -> None:
        log(self, args, state, *rest, **more)
        if state.global_step == 2:
            raise KeyboardInterrupt

    folder = tmp_path / "stopped"
    order(folder)
    monkeypatch.setattr(RunKeeper, "on_log", stop)
    with pytest.raises(KeyboardInterrupt):
        run_job(folder)
    monkeypatch.undo()
    assert last_whole(folder) == (folder / "checkpoint-1", 1)
    run_job(folder)
    assert [row["step"] for row in RunFolder(folder).read_metrics()] == [1, 2]
    assert {trace.step for trace in RunFolder(folder).read_traces()} == {1, 2}
    assert json.loads((folder / "times.json").read_text())["steps"] == 1
    assert not list(folder.glob("checkpoint-*"))
    # It ends where the run ends that was never stopped.
    weights, others = (load_file(tmp_path / name / "policy" / "model.safetensors") for name in ("whole", "stopped"))
    assert all((weights[key] == others[key]).all() for key in weights)
    evaluations = [
        json.loads((tmp_path / n / "evaluation" / "evaluation.json").read_text()) for n in ("whole", "stopped")
    ]
    assert evaluations[0]["sets"] == evaluations[1]["sets"]

    def never(*_: Any) -> None:
        raise AssertionError("a trained policy is not trained again")

    monkeypatch.setattr(compare_job, "run", never)
    run_job(folder)


@pytest.mark.slow(4)
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "out"
    command = ["compare", "--out", str(out), "--methods", "grpo,otc", "--seeds", "0"]
    command += ["--max_steps", "1", "--per_device_train_batch_size", "8", "--train_samples", "16", "--samples", "2"]
    # The first job has a process of its own, as all have; what they do is the same in this one.
    with without_processes(monkeypatch, but=1):
        done = iapo_here(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "average - grpo" in done.stdout
    found = json.loads((out / "table1.json").read_text())
    assert [row["name"] for row in found["rows"]] == ["start", "teacher", "grpo", "otc"]
    hashes = [json.loads((out / m / "seed-0" / "manifest.json").read_text())["data"] for m in ("grpo", "otc")]
    assert hashes[0] == hashes[1]
    # All is there: nothing runs, and a setting that differs is one sentence.
    done = iapo_here(*command)
    assert done.returncode == 0
    assert json.loads((out / "table1.json").read_text()) == found
    done = iapo_here(*command[:-1], "3")
    assert done.returncode == 2
    assert "other settings (plan.source.count: 2 there, 3 now)" in done.stderr
