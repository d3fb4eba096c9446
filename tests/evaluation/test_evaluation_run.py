"""`iapo evaluate`: resumable, refuses other settings, and gives an endpoint what a model in memory gets."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import random
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from calls import call_text
from endpoint_server import Server, completion, pictures, serve, text
from processes import iapo_here
from report_damage import spoiled
from rich.console import Console
from safetensors import safe_open

from iapo.data.sources import SourceSettings, read_source
from iapo.display.tables import evaluation_table
from iapo.endpoints.chat import EndpointError, EndpointSettings
from iapo.errors import InputError
from iapo.evaluation.local import EvaluationSettings
from iapo.evaluation.plan import EvaluationPlan
from iapo.evaluation.run import run_evaluation
from iapo.evaluation.sets import loss_lines
from iapo.evaluation.solvers import Solver, local_solver
from iapo.records import Sample, Trace
from iapo.results import SetsEvaluation, read_evaluation, stamp
from iapo.rollout.names import resolve as packaged
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import build_blocks
from iapo.rollout.template import DEFAULT, find_prompt
from iapo.runs import RunFolder
from iapo.storage import read_records
from iapo.tools import TOOLS, execute

SOURCE = SourceSettings(count=5, question_types=("value",))
SAMPLED = EvaluationSettings(max_turn_tokens=24, temperature=1.0, batch_size=2)
PLAN = EvaluationPlan("tiny-student", ("vbar", "hbar"), SOURCE, repeats=2, generation=SAMPLED)


def write_rows(folder: Path) -> str:
    """Three rows: a whole one, a damaged one, one with a crossed box."""
    (sample,) = read_source("vbar", dataclasses.replace(SOURCE, count=1))
    sample.image.convert("RGB").save(folder / "a.png")
    row = {"image": "a.png", "question": sample.question, "answer": sample.answers[0]}
    rows = [{**row, "id": "a"}, {**row, "id": "b", "answer": ""}]
    rows += [{**row, "id": "c", "column_boxes": {"x": [90, 10, 80, 20], "y": [10, 10, 20, 20]}}]
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder / "test.jsonl")


def test_rows_that_are_left_out_are_counted_listed_and_said(tmp_path: Path, student: Policy):
    name = write_rows(tmp_path)
    plan = EvaluationPlan("tiny-student", (name,), SourceSettings(0), generation=EvaluationSettings(24, batch_size=2))
    with pytest.raises(ValueError, match=r"row 2 \(id 'b'\): .* set data_damage to quarantine"):
        run_evaluation(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    tolerant = dataclasses.replace(plan, data_damage="quarantine")
    for _ in range(2):
        # The second time nothing is to be done, and nothing is listed twice.
        found = run_evaluation(tolerant, tmp_path / "out")
        (damaged,) = read_records(tmp_path / "out" / "test.quarantine.jsonl")
        assert (damaged["set"], damaged["row"], damaged["id"]) == (name, 2, "b")
        (flawed,) = read_records(tmp_path / "out" / "test.flawed.jsonl")
        assert (flawed["set"], flawed["id"], len(flawed["flaws"])) == (name, "c", 1)
        assert found.sets[name].rows == {"samples": 2, "expected": 3, "damaged": 1, "flawed": 1}
    (line,) = loss_lines(found, "out")
    assert line.startswith(f"{name}: 2 of 3 questions; 1 damaged rows are left out; 1 with a flaw")
    read = read_evaluation(tmp_path / "out" / "evaluation.json")
    assert isinstance(read, SetsEvaluation)
    assert read.sets[name].rows == found.sets[name].rows
    assert "2 of 3" in table_text(found)


def table_text(found: SetsEvaluation) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(evaluation_table(found))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class StoppedError(Exception):
    pass


def stopping(solver: Solver, after: int) -> Solver:
    """Fails when it is asked for one trace more."""
    left = after

    def solve(samples: Sequence[Sample], seed: int) -> Iterator[Trace]:
        nonlocal left
        for trace in solver(samples, seed):
            if not left:
                raise StoppedError
            left -= 1
            yield trace

    return solve


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    run_evaluation(PLAN, out)
    return out


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "traces.jsonl").read_text().splitlines()]


def test_what_is_written(whole: Path):
    evaluation = json.loads((whole / "evaluation.json").read_text())
    assert (evaluation["format"], evaluation["kind"]) == (1, "test_sets")
    found = read_evaluation(whole / "evaluation.json")
    assert isinstance(found, SetsEvaluation)
    assert stamp("test_sets", found.to_json()) == evaluation
    assert evaluation["settings"]["generation"]["temperature"] == 1.0
    traces = RunFolder(whole).read_traces()
    assert len(traces) == 2 * 2 * 5
    start = 0
    for name in ("vbar", "hbar"):
        row = evaluation["sets"][name]
        some = traces[start : start + 10]
        start += 10
        assert [trace.sample.id for trace in some] == [sample.id for sample in read_source(name, SOURCE)] * 2
        outcomes = [trace.scores["outcome"].value for trace in some]
        assert row["outcomes"] == [outcomes[:5], outcomes[5:]]
        assert row["accuracy"]["value"] == pytest.approx(sum(outcomes) / 10)
        assert row["call_ratio"]["value"] == sum(trace.result.status != "no_call" for trace in some) / 10
        assert row["accuracy"]["low"] <= row["accuracy"]["value"] <= row["accuracy"]["high"]
    accuracies = [evaluation["sets"][name]["accuracy"]["value"] for name in ("vbar", "hbar")]
    assert evaluation["average"]["value"] == pytest.approx(sum(accuracies) / 2)
    # The repeats are not the same rollouts again.
    assert [trace.turn_1 + str(trace.turn_2) for trace in traces[10:15]] != [
        trace.turn_1 + str(trace.turn_2) for trace in traces[15:20]
    ]


@pytest.mark.slow(1)
@pytest.mark.parametrize("after", [0, 3, 7, 19])
def test_a_stopped_evaluation_goes_on_to_the_same_end(whole: Path, tmp_path: Path, student: Policy, after: int):
    solver = local_solver(student, SAMPLED)
    with pytest.raises(StoppedError):
        run_evaluation(PLAN, tmp_path, solver=stopping(solver, after))
    assert not (tmp_path / "evaluation.json").exists()
    with (tmp_path / "traces.jsonl").open("a") as file:
        file.write('{"sample": {"id": "half a li')
    calls: list[int] = []

    def counting(samples: Sequence[Sample], seed: int) -> Iterator[Trace]:
        calls.append(len(samples))
        return solver(samples, seed)

    run_evaluation(PLAN, tmp_path, solver=counting)
    assert lines(tmp_path) == lines(whole)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == json.loads((whole / "evaluation.json").read_text())
    # Batches of 2, 2 and 1 a set and repeat; of the finished ones none runs again.
    assert sum(calls) == {0: 20, 3: 18, 7: 13, 19: 1}[after]


def test_a_finished_evaluation_is_not_run_again(whole: Path):
    def never(samples: Sequence[Sample], seed: int) -> Iterator[Trace]:
        raise AssertionError

    before = (whole / "evaluation.json").read_text()
    run_evaluation(PLAN, whole, solver=never)
    assert (whole / "evaluation.json").read_text() == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": "tiny-teacher"}, "model"),
        ({"tools": "none"}, "tools"),
        ({"repeats": 3}, "repeats"),
        ({"sets": ("vbar",)}, "sets"),
        ({"generation": dataclasses.replace(SAMPLED, temperature=0.5)}, "temperature"),
        ({"source": dataclasses.replace(SOURCE, seed=1)}, "seed"),
    ],
)
def test_other_settings_are_refused(whole: Path, change: dict[str, Any], named: str):
    with pytest.raises(ValueError, match=f"other settings .*({named})"):
        run_evaluation(dataclasses.replace(PLAN, **change), whole)


def test_another_run_is_refused(tmp_path: Path):
    RunFolder(tmp_path).write_manifest({"run": {}, "training": {}}, {}, {})
    with pytest.raises(ValueError, match="another kind of run"):
        run_evaluation(PLAN, tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sets": ()}, "at least one"),
        ({"sets": ("vbar", "vbar")}, "name each one once"),
        ({"repeats": 0}, "repeats is 0"),
        ({"generation": EvaluationSettings()}, "greedy repeats"),
    ],
)
def test_bad_plans_are_refused(change: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(PLAN, **change)


def test_an_unknown_test_set_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="'nothing' is no family"):
        run_evaluation(dataclasses.replace(PLAN, sets=("nothing",)), tmp_path)


def test_without_tools(tmp_path: Path):
    plan = EvaluationPlan("tiny-student", ("vbar",), SOURCE, tools="none", generation=EvaluationSettings(12))
    row = run_evaluation(plan, tmp_path).sets["vbar"]
    assert row.measures["call_ratio"].value == 0
    assert all(trace.turn_2 is None and trace.result.status == "no_call" for trace in RunFolder(tmp_path).read_traces())


# Endpoints


CHARTS = [sample for name in ("vbar", "hbar") for sample in read_source(name, SOURCE)]


def solving(request: dict[str, Any]) -> str:
    """Calls the right tool, then reads the answer off the charts that the test knows."""
    (picture,) = pictures(request["messages"][1])
    (sample,) = (one for one in CHARTS if one.image.tobytes() == picture.tobytes())
    if len(request["messages"]) == 2:
        return call_text(f"focus_on_{sample.axis}_with_draw", sample.question.split()[-1].rstrip("?"), str(sample.axis))
    return f"FINAL ANSWER: {sample.answers[0]}. TERMINATE"


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(solving) as running:
        yield running


def endpoint_plan(server: Server, **more: Any) -> EvaluationPlan:
    endpoint = EndpointSettings("big", server.url, retries=0)
    return EvaluationPlan("big", ("vbar",), SOURCE, endpoint=endpoint, **{"concurrency": 2, **more})


def test_an_endpoint_is_asked_twice_with_pictures(server: Server, tmp_path: Path):
    evaluation = run_evaluation(endpoint_plan(server, concurrency=1), tmp_path)
    samples = read_source("vbar", SOURCE)
    assert len(server.requests) == 10
    for first, second, sample in zip(server.requests[::2], server.requests[1::2], samples, strict=True):
        blocks = build_blocks(sample, template=find_prompt(DEFAULT))
        system, user = first["messages"]
        assert text(system) == blocks[0].text
        assert text(user) == "".join(block.text for block in blocks[1:])
        assert [picture.tobytes() for picture in pictures(user)] == [sample.image.tobytes()]
        assert second["messages"][:2] == first["messages"]
        assistant, observation = second["messages"][2:]
        assert assistant["role"] == "assistant"
        # The program ran here, on the picture of the sample.
        edited = execute(assistant["content"], sample, TOOLS).image
        assert [picture.tobytes() for picture in pictures(observation)] == [edited.tobytes()]
        assert text(observation) == find_prompt(DEFAULT).observation_edited
    row = evaluation.sets["vbar"]
    assert [row.measures[name].value for name in ("accuracy", "call_ratio", "call_success", "misuse")] == [1, 1, 1, 0]
    assert evaluation.settings["endpoint"]["url"] == server.url


def test_how_an_endpoint_is_asked_again_may_change(server: Server, tmp_path: Path):
    """An evaluation goes on whatever the retries, also one of an earlier version, which wrote other settings."""
    run_evaluation(endpoint_plan(server), tmp_path)
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    # What was given otherwise than its default, here at least the endpoint.
    assert manifest["defaults"]["evaluation"]["endpoint"] is None
    del manifest["format"], manifest["kind"], manifest["defaults"]
    asked = manifest["config"]["evaluation"]["endpoint"]
    for name in ("retries", "on_error", "cache"):
        del asked[name]
    path.write_text(json.dumps(manifest))
    (tmp_path / "evaluation.json").unlink()
    server.requests.clear()
    plan = endpoint_plan(server, concurrency=1)
    run_evaluation(dataclasses.replace(plan, endpoint=dataclasses.replace(plan.endpoint, timeout=9.0)), tmp_path)
    assert not server.requests
    with pytest.raises(ValueError, match=r"other settings .*temperature"):
        run_evaluation(dataclasses.replace(plan, endpoint=dataclasses.replace(plan.endpoint, temperature=1)), tmp_path)


def asked(plan: EvaluationPlan, **more: Any) -> EvaluationPlan:
    assert plan.endpoint is not None
    return dataclasses.replace(plan, endpoint=dataclasses.replace(plan.endpoint, **more))


SAME: dict[str, Any] = {
    "a slash": lambda plan: asked(plan, url=f"{plan.endpoint.url}/"),
    "standard": lambda plan: dataclasses.replace(plan, tools="standard"),
    "served as itself": lambda plan: asked(plan, served_as="big"),
    "seed": lambda plan: dataclasses.replace(plan, generation=dataclasses.replace(plan.generation, seed=7)),
    "longest": lambda plan: dataclasses.replace(
        plan, generation=dataclasses.replace(plan.generation, max_sequence_length=900)
    ),
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("turned", [False, True], ids=["", "the other way"])
def test_the_same_evaluation_in_other_words_goes_on(server: Server, tmp_path: Path, name: str, turned: bool):
    plan, other = endpoint_plan(server), SAME[name](endpoint_plan(server))
    first, second = (other, plan) if turned else (plan, other)
    run_evaluation(first, tmp_path)
    whole, manifest = lines(tmp_path), (tmp_path / "manifest.json").read_bytes()
    cut(tmp_path)
    server.requests.clear()
    run_evaluation(second, tmp_path)
    assert len(server.requests) == 2 * 3
    assert lines(tmp_path) == whole
    assert (tmp_path / "manifest.json").read_bytes() == manifest
    # As it was begun, too.
    cut(tmp_path)
    run_evaluation(first, tmp_path)
    assert lines(tmp_path) == whole


OTHER: dict[str, Any] = {
    "url": lambda plan: asked(plan, url=f"{plan.endpoint.url}/v2"),
    "tools": lambda plan: dataclasses.replace(plan, tools="none"),
    "served_as": lambda plan: asked(plan, served_as="deploy-x"),
    "kind": lambda plan: asked(plan, kind="vllm"),
}


@pytest.mark.parametrize("name", OTHER)
def test_another_evaluation_at_an_endpoint_is_refused(server: Server, tmp_path: Path, name: str):
    plan = endpoint_plan(server)
    run_evaluation(plan, tmp_path)
    cut(tmp_path)
    with pytest.raises(InputError, match=rf"other settings \(config\.evaluation\.(endpoint\.)?{name}"):
        run_evaluation(OTHER[name](plan), tmp_path)


@pytest.mark.usefixtures("waits")
def test_a_folder_without_a_rollout_begins_with_other_settings(server: Server, tmp_path: Path):
    """As where the sentence on another model says: by the name that its answers bear."""
    plan, reply = endpoint_plan(server), completion("FINAL ANSWER: 7", model="deploy-x")
    server.reply = lambda request: reply
    with pytest.raises(EndpointError, match="an answer of another model, 'deploy-x'"):
        run_evaluation(plan, tmp_path)
    identity = json.loads((tmp_path / "manifest.json").read_text())["id"]
    # Half a line is no rollout.
    (tmp_path / "traces.jsonl").write_text('{"sample": {"id": "half a li')
    run_evaluation(asked(plan, served_as="deploy-x"), tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["config"]["evaluation"]["endpoint"]["served_as"], manifest["id"]) == ("deploy-x", identity)
    assert len(lines(tmp_path)) == 5
    (tmp_path / "traces.jsonl").unlink()
    # Its end is something to be lost.
    with pytest.raises(InputError, match="other settings"):
        run_evaluation(plan, tmp_path)


def test_a_failed_program_is_observed(server: Server, tmp_path: Path):
    server.reply = lambda request: call_text("focus_on_columns_with_draw", "nowhere", "columns")
    row = run_evaluation(endpoint_plan(server, concurrency=1), tmp_path).sets["vbar"].measures
    observation = server.requests[1]["messages"][3]
    assert not pictures(observation)
    assert "nowhere" in text(observation)
    assert (row["call_success"].value, row["accuracy"].value) == (0, 0)


def test_an_endpoint_without_tools_is_asked_once(server: Server, tmp_path: Path):
    server.reply = lambda request: call_text("focus_on_columns_with_draw", "A", "columns")
    run_evaluation(endpoint_plan(server, tools="none"), tmp_path)
    assert len(server.requests) == 5
    assert not any("focus_on" in text(message) for request in server.requests for message in request["messages"])


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_failing_endpoint_stops_and_keeps_what_was_done(server: Server, tmp_path: Path, concurrency: int):
    plan = endpoint_plan(server, concurrency=concurrency)
    server.faults = [None] * 7 + [500] * 100
    with pytest.raises(EndpointError, match="run the same command again"):
        run_evaluation(plan, tmp_path)
    kept = lines(tmp_path)
    assert len(kept) == 3 or concurrency > 1
    assert len(kept) < 5
    assert all(line["scores"]["outcome"]["value"] == 1 for line in kept)
    assert not (tmp_path / "evaluation.json").exists()
    server.faults, server.requests = [], []
    evaluation = run_evaluation(plan, tmp_path)
    assert evaluation.sets["vbar"].measures["accuracy"].value == 1
    assert len(server.requests) == 2 * (5 - len(kept))


def test_answers_are_saved_as_they_come(server: Server, tmp_path: Path):
    """Also those behind a slow one, in the end in the order of the samples; and those that come after a failure."""
    slow = read_source("vbar", SOURCE)[0].image.tobytes()
    kept: list[int] = []

    def reply(request: dict[str, Any]) -> str | int:
        if pictures(request["messages"][1])[0].tobytes() == slow and not kept:
            for _ in range(6000):
                if (tmp_path / "traces.jsonl").exists() and len(lines(tmp_path)) == 4:
                    break
                time.sleep(0.05)
            kept.append(len(lines(tmp_path)))
            return 400
        return solving(request)

    server.reply = reply
    plan = dataclasses.replace(endpoint_plan(server), generation=dataclasses.replace(SAMPLED, batch_size=5))
    with pytest.raises(EndpointError, match="HTTP 400"):
        run_evaluation(plan, tmp_path)
    assert kept == [4]
    run_evaluation(plan, tmp_path)
    assert [line["sample"]["id"] for line in lines(tmp_path)] == [one.id for one in read_source("vbar", SOURCE)]


@pytest.mark.slow(12)
def test_the_command(server: Server, tmp_path: Path):
    command = ["evaluate", "--model", "big", "--endpoint", server.url, "--sets", "vbar"]
    command += ["--samples", "5", "--question-types", "value", "--out", str(tmp_path / "run")]
    server.faults = [404]
    done = iapo_here(*command)
    assert done.returncode == 3
    assert "HTTP 404" in done.stderr
    assert "Traceback" not in done.stderr
    done = iapo_here(*command)
    assert done.returncode == 0, done.stderr
    assert re.search(r"big, with tools, greedy", done.stdout)
    assert "1.000" in done.stdout


def again(whole: Path, out: Path, change: Any) -> Path:
    """The whole evaluation with other lines in its `traces.jsonl`, measured anew."""
    shutil.copytree(whole, out)
    (out / "evaluation.json").unlink()
    written = (out / "traces.jsonl").read_text().splitlines()
    (out / "traces.jsonl").write_text("".join(f"{line}\n" for line in change(written)))
    return out


def without_places(written: list[str]) -> list[str]:
    """As earlier versions wrote them: which rollout of a sample a line is, is its place alone."""
    return [
        json.dumps({key: value for key, value in json.loads(line).items() if key != "evaluation"}) for line in written
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda written: written[::-1],
        lambda written: random.Random(3).sample(written, len(written)),
        lambda written: written[7:],
        lambda written: written[:9] + written[11:],
        without_places,
        lambda written: without_places(written)[:12],
    ],
    ids=["reversed", "mixed", "without the first", "without the middle", "earlier version", "its beginning"],
)
def test_lines_are_paired_by_sample(whole: Path, tmp_path: Path, change: Any):
    out = again(whole, tmp_path / "out", change)
    run_evaluation(PLAN, out)
    assert (out / "evaluation.json").read_bytes() == (whole / "evaluation.json").read_bytes()
    assert [line["turn_1"] for line in lines(out)] == [line["turn_1"] for line in lines(whole)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line.replace('"run": "', '"run": "x'), "line 1 is a rollout of another evaluation"),
        (lambda line: line.replace('"set": "vbar"', '"set": "vwtq"'), "line 1: the sample .* is not asked about"),
        (lambda line: '{"step": 1}', "line 1 is no rollout"),
    ],
)
def test_lines_of_something_else_are_refused(whole: Path, tmp_path: Path, change: Any, message: str):
    out = again(whole, tmp_path / "out", lambda written: [change(written[0]), *written[1:]])
    with pytest.raises(InputError, match=message):
        run_evaluation(PLAN, out)
    twice = again(whole, tmp_path / "twice", lambda written: [*written, written[0]])
    with pytest.raises(InputError, match="is there more often than asked"):
        run_evaluation(PLAN, twice)


def never(samples: Sequence[Sample], seed: int) -> Iterator[Trace]:
    raise StoppedError
    yield


@pytest.mark.parametrize("name", ["traces.jsonl", "manifest.json"])
def test_a_damaged_file_is_a_sentence(whole: Path, tmp_path: Path, name: str):
    """Junk in any field of it; what is only missing is asked for again."""
    out, chance, sentences = again(whole, tmp_path / "out", list), random.Random(name), []
    for _ in range(60):
        for each in ("traces.jsonl", "manifest.json"):
            (out / each).write_bytes((whole / each).read_bytes())
        (out / name).write_bytes(spoiled((whole / name).read_text(), name.endswith("l"), chance))
        try:
            run_evaluation(PLAN, out, solver=never)
        except InputError as error:
            sentences.append(str(error))
        except StoppedError:
            assert name == "traces.jsonl"
    assert len(sentences) > 20
    assert not any("\n" in one for one in sentences)
    assert all(str(out) in one for one in sentences)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("sample", {"question": "another?"}, "its question or its answers are others"),
        ("sample", {"answers": ["another"]}, "its question or its answers are others"),
        ("sample", {"id": ["x"]}, "line 1 names no sample"),
        ("scores", {"outcome": {"value": 0.5, "answer": None, "explanation": ""}}, "no outcome of 0 or 1"),
        ("scores", {"outcome": {"value": float("nan"), "answer": None, "explanation": ""}}, "no outcome of 0 or 1"),
        ("result", {"status": "great"}, "the field status is 'great'"),
        ("result", {"calls": [5]}, "the field calls is a list of other things"),
    ],
)
@pytest.mark.parametrize("earlier", [False, True], ids=["now", "earlier version"])
def test_a_rollout_that_is_none_of_this_data_is_refused(
    whole: Path, tmp_path: Path, part: str, value: dict[str, Any], message: str, earlier: bool
):
    """Other data may have the same ids."""

    def change(written: list[str]) -> list[str]:
        record = json.loads(written[0])
        record[part] |= value
        lines = [json.dumps(record), *written[1:]]
        return without_places(lines) if earlier else lines

    with pytest.raises(InputError, match=message):
        run_evaluation(PLAN, again(whole, tmp_path / "out", change), solver=never)


# What an evaluation is beside its plan


TOOL = '''"""A tool."""

from PIL import Image


def sharpen(image: Image.Image) -> Image.Image:
    """Sharpens the image."""
    return image
'''


def cut(out: Path, *parts: str) -> None:
    """Leaves the first rollouts, as a stopped evaluation does; without parts of its manifest as an earlier version."""
    (out / "evaluation.json").unlink(missing_ok=True)
    path = out / "traces.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    if parts:
        manifest = json.loads((out / "manifest.json").read_text())
        for part in parts:
            del manifest["config"][part]
        (out / "manifest.json").write_text(json.dumps(manifest))


def test_another_file_of_tools_is_another_evaluation(server: Server, tmp_path: Path):
    file, moved, out = tmp_path / "tool.py", tmp_path / "moved.py", tmp_path / "out"
    for one in (file, moved):
        one.write_text(TOOL)
    plan = endpoint_plan(server, tools=f"standard,{file}")
    run_evaluation(plan, out)
    wanted = json.loads((out / "evaluation.json").read_text())["sets"]
    run = lines(out)[0]["evaluation"]["run"]
    cut(out)
    file.write_text(TOOL.replace("Sharpens", "Blurs"))
    with pytest.raises(InputError, match=r"begun with other contents of .*tool\.py \(tools\); give the file back"):
        run_evaluation(plan, out)
    assert len(lines(out)) == 2
    with pytest.raises(InputError, match=r"other settings \(config\.evaluation\.tools"):
        run_evaluation(dataclasses.replace(plan, tools=f"standard,{write_tool(tmp_path / 'third.py')}"), out)
    file.unlink()
    run_evaluation(dataclasses.replace(plan, tools=f"standard,{moved}"), out)
    assert json.loads((out / "evaluation.json").read_text())["sets"] == wanted
    assert {line["evaluation"]["run"] for line in lines(out)} == {run}


def write_tool(path: Path) -> Path:
    path.write_text(TOOL.replace("sharpen", "whet"))
    return path


def test_an_evaluation_of_an_earlier_version_goes_on(server: Server, tmp_path: Path):
    """It does not know its files, and its lines say a digest without them."""
    file, out = tmp_path / "tool.py", tmp_path / "out"
    file.write_text(TOOL)
    plan = endpoint_plan(server, tools=f"standard,{file}")
    run_evaluation(plan, out)
    cut(out, "code")
    # Lines of an earlier version do not say their evaluation.
    unplaced = without_places((out / "traces.jsonl").read_text().splitlines())
    (out / "traces.jsonl").write_text("".join(f"{line}\n" for line in unplaced))
    run_evaluation(plan, out)
    first = runs(out)
    cut(out)
    file.write_text(TOOL.replace("Sharpens", "Blurs"))
    run_evaluation(plan, out)
    assert runs(out) == first
    assert len(first) == 1
    assert len(lines(out)) == 5


def runs(out: Path) -> set[str]:
    """The evaluations that lines say they are of."""
    return {line["evaluation"]["run"] for line in lines(out) if "evaluation" in line}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> tuple[EvaluationPlan, Path, Path]:
    """A stopped evaluation of a checkpoint in a folder."""
    folder = tmp_path_factory.mktemp("local")
    shutil.copytree(packaged("tiny-student"), folder / "policy")
    plan = EvaluationPlan(str(folder / "policy"), ("vbar",), SOURCE, generation=SAMPLED)
    run_evaluation(plan, folder / "out")
    cut(folder / "out")
    assert set(json.loads((folder / "out" / "manifest.json").read_text())["config"]["files"]) >= {
        *("config.json", "generation_config.json", "processor_config.json", "preprocessor_config.json"),
        *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    }
    return plan, folder / "policy", folder / "out"


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "preprocessor_config.json", "config.json", "tokenizer.json", "added_tokens.json"]
)
def test_another_small_file_of_the_checkpoint_is_another_evaluation(
    local: tuple[EvaluationPlan, Path, Path], name: str, tmp_path: Path
):
    plan, policy, out = local
    before = (policy / name).read_bytes() if (policy / name).exists() else None
    try:
        # White space alone, so that the checkpoint can be read; a file that was not there is one more.
        (policy / name).write_bytes((before or b"{}") + b"\n")
        with pytest.raises(InputError, match=rf"begun with other contents of {name} in .*policy; give the file back"):
            run_evaluation(plan, out, solver=never)
        shutil.copytree(out, tmp_path / "earlier")
        manifest = json.loads((out / "manifest.json").read_text())
        del manifest["config"]["files"]
        (tmp_path / "earlier" / "manifest.json").write_text(json.dumps(manifest))
        unplaced = without_places((out / "traces.jsonl").read_text().splitlines())
        (tmp_path / "earlier" / "traces.jsonl").write_text("".join(f"{line}\n" for line in unplaced))
        with pytest.raises(StoppedError):
            run_evaluation(plan, tmp_path / "earlier", solver=never)
    finally:
        (policy / name).unlink()
        if before is not None:
            (policy / name).write_bytes(before)
    with pytest.raises(StoppedError):
        run_evaluation(plan, out, solver=never)


def test_weights_that_an_index_names_count(tmp_path: Path, student: Policy):
    policy, index = tmp_path / "policy", tmp_path / "policy" / "model.safetensors.index.json"
    shutil.copytree(packaged("tiny-student"), policy)
    (policy / "shards").mkdir()
    (policy / "model.safetensors").rename(policy / "shards" / "a.safetensors")
    with safe_open(policy / "shards" / "a.safetensors", "pt") as file:
        index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(file.keys(), "shards/a.safetensors")}))
    plan = EvaluationPlan(str(policy), ("vbar",), SOURCE, generation=SAMPLED)
    with pytest.raises(StoppedError):
        run_evaluation(plan, tmp_path / "out", solver=stopping(local_solver(student, SAMPLED), 2))
    os.utime(policy / "shards" / "a.safetensors", ns=(0, 0))
    with pytest.raises(InputError, match=r"settings \(config\.checkpoint\.shards/a\.safetensors"):
        run_evaluation(plan, tmp_path / "out", solver=never)
    index.write_text(index.read_text() + "\n")
    with pytest.raises(InputError, match=r"other contents of model\.safetensors\.index\.json in"):
        run_evaluation(plan, tmp_path / "out", solver=never)


def test_small_files_of_an_adapters_base_count(tmp_path: Path, student: Policy):
    shutil.copytree(packaged("tiny-student"), tmp_path / "base")
    shutil.copytree(packaged("tiny-student-causes"), tmp_path / "adapter")
    told = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    told["base_model_name_or_path"] = str(tmp_path / "base")
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(told))
    plan = EvaluationPlan(str(tmp_path / "adapter"), ("vbar",), SOURCE, generation=SAMPLED)
    with pytest.raises(StoppedError):
        run_evaluation(plan, tmp_path / "out", solver=stopping(local_solver(student, SAMPLED), 2))
    os.utime(tmp_path / "base" / "model.safetensors", ns=(0, 0))
    with pytest.raises(InputError, match=r"settings \(config\.checkpoint\.model\.safetensors of the base"):
        run_evaluation(plan, tmp_path / "out", solver=never)
    with (tmp_path / "base" / "chat_template.jinja").open("a") as file:
        file.write("!")
    with pytest.raises(InputError, match=r"other contents of chat_template\.jinja of the base in"):
        run_evaluation(plan, tmp_path / "out", solver=never)
