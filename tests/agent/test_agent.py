"""An agent's answers are an evaluation's: one by one, in batches, in events; what it refuses."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from agent.asked import SETTINGS, Chat, boxes_of, charts
from doc_data import write_finished
from endpoint_server import serve
from PIL import Image
from typer.testing import CliRunner

import iapo
from iapo.agent.agent import Agent
from iapo.agent.answers import Answer, AnswerEvent, CallEvent, ObservationEvent, TextEvent
from iapo.agent.sources import find_source
from iapo.cli.main import app
from iapo.endpoints.chat import EndpointError, EndpointSettings
from iapo.errors import InputError
from iapo.evaluation.local import EvaluationSettings, evaluate
from iapo.records import Sample, Trace
from iapo.rollout.export import export
from iapo.rollout.policy import Policy
from iapo.rollout.template import find_prompt
from iapo.rollout.usage import USAGE, Usage
from iapo.studies.attribute import run_attribute
from iapo.studies.attribute_inputs import AttributePlan

SAMPLES = charts()


@pytest.fixture(scope="module")
def agent() -> Agent:
    return Agent.from_pretrained("tiny-student", settings=SETTINGS)


@pytest.fixture(scope="module")
def traces(agent: Agent) -> list[Trace]:
    """What `iapo evaluate` makes of the samples."""
    return evaluate(agent._asked.policy, SAMPLES, SETTINGS)  # type: ignore[attr-defined]


def texts(answer: Answer) -> list[str]:
    return [turn.text for turn in answer.turns]


def asked(sample: Sample) -> tuple[Any, str, dict[str, Any]]:
    return sample.image, sample.question, boxes_of(sample)


def test_answers_are_those_of_an_evaluation(agent: Agent, traces: list[Trace]) -> None:
    """In the batch of an evaluation, and one by one."""
    many = agent.answer_many(map(asked, SAMPLES))
    assert [texts(one) for one in many] == [[trace.turn_1, trace.turn_2] for trace in traces]
    assert [one.answer for one in many] == [trace.scores["outcome"].answer for trace in traces]
    for one, sample, trace in zip(many, SAMPLES, traces, strict=True):
        assert one.status == trace.result.status == "edited"
        assert one.calls == trace.result.calls
        assert one.image is not None
        assert trace.result.image is not None
        assert one.image.tobytes() == trace.result.image.tobytes()
        assert one.whole
        alone = agent.answer(*asked(sample))
        assert texts(alone) == texts(one)
        assert (alone.prompt_tokens, alone.written_tokens) == (one.prompt_tokens, one.written_tokens)
        assert one.program == trace.turn_1[slice(*trace.result.span)]  # type: ignore[misc]
    assert agent.answer_many([]) == []


def test_events_make_up_the_answer(agent: Agent) -> None:
    *events, last = agent.stream(*asked(SAMPLES[0]))
    assert isinstance(last, AnswerEvent)
    assert texts(last.answer) == texts(agent.answer(*asked(SAMPLES[0])))
    for number, text in enumerate(texts(last.answer), 1):
        assert "".join(one.text for one in events if isinstance(one, TextEvent) and one.turn == number) == text
    (call,) = (one for one in events if isinstance(one, CallEvent))
    (seen,) = (one for one in events if isinstance(one, ObservationEvent))
    assert (call.turn, call.program) == (1, last.answer.program)
    assert seen.text == find_prompt("tiny").observation_edited.strip()
    assert seen.image is not None
    assert last.answer.image is not None
    assert seen.image.tobytes() == last.answer.image.tobytes()
    kinds = [one.kind for one in events]
    assert kinds.index("call") < kinds.index("observation") < len(kinds) - 1
    assert kinds.count("text") > 4, "text comes in pieces"
    json.dumps([one.to_json() for one in (*events, last)])


def test_a_closed_stream_ends_its_rollout(agent: Agent) -> None:
    events = agent.stream(*asked(SAMPLES[0]))
    assert isinstance(next(events), TextEvent)
    events.close()
    # The model is free again.
    assert agent.answer(*asked(SAMPLES[0])).answer is not None


def test_sampling_follows_its_seed_and_leaves_no_trace(agent: Agent) -> None:
    """Also in the random numbers of the one who asks."""
    hot = [dataclasses.replace(SETTINGS, temperature=3.0, seed=seed) for seed in (1, 1, 2)]
    before = torch.get_rng_state()
    first, again, other = (texts(agent.answer(*asked(SAMPLES[0]), settings=one)) for one in hot)
    assert torch.equal(torch.get_rng_state(), before)
    assert first == again != other
    assert texts(agent.answer(*asked(SAMPLES[0]))) != first


def test_attribution_is_that_of_iapo_attribute(agent: Agent, tmp_path: Path) -> None:
    sample = SAMPLES[2]
    found = agent.answer(*asked(sample), attribution=True)
    numbers = run_attribute(AttributePlan(), tmp_path / "out", sample=sample)
    assert list(found.attribution) == [block["name"] for block in numbers["blocks"]]
    shares = [block["student"]["share"] for block in numbers["blocks"]]
    assert list(found.attribution.values()) == pytest.approx(shares, abs=1e-6)
    assert agent.answer(*asked(sample)).attribution == {}


def test_boxes_are_found_where_none_are_given(agent: Agent, tmp_path: Path) -> None:
    sample = SAMPLES[0]
    path = tmp_path / "chart.png"
    sample.image.save(path)
    found = agent.question(path, sample.question)
    assert found.note.startswith("found, as of a chart: 4 columns (1, 2, 3, 4)")
    assert found.sample.list_names
    assert agent.question(path.read_bytes(), sample.question).note == found.note
    bare = agent.question(Image.new("RGB", (112, 112), "white"), "value of A?")
    assert bare.note.startswith("no boxes are found (as a chart: ")
    assert "as a table: " in bare.note
    # A call then fails, and the answer says so.
    failed = agent.answer(Image.new("RGB", (112, 112), "white"), sample.question, {})
    assert failed.status == "failed"
    assert "no" in (failed.error or "")
    assert failed.image is None


def test_a_served_model_runs_the_same_tools(traces: list[Trace]) -> None:
    """The tools run here: the server writes the tiny policy's turns, and what comes of them is the policy's own."""
    chat = Chat()
    with serve(chat) as server:
        remote = Agent.from_endpoint(EndpointSettings("m", server.url), prompt="tiny", settings=SETTINGS)
        for sample, trace in zip(SAMPLES, traces, strict=True):
            found = remote.answer(*asked(sample))
            assert texts(found) == [trace.turn_1, trace.turn_2]
            assert found.calls == trace.result.calls
            assert found.image is not None
            assert trace.result.image is not None
            assert found.image.tobytes() == trace.result.image.tobytes()
            assert found.prompt_tokens is None
        *events, last = remote.stream(*asked(SAMPLES[0]))
        assert [one.kind for one in events] == ["text", "call", "observation", "text"]
        assert isinstance(last, AnswerEvent)
        hot = dataclasses.replace(SETTINGS, temperature=1.0, seed=7, max_turn_tokens=9)
        remote.answer(*asked(SAMPLES[0]), settings=hot)
        sent = chat.requests[-1]
        assert (sent["temperature"], sent["seed"], sent["max_tokens"]) == (1.0, 7, 9)
        assert "seed" not in chat.requests[0]
        with pytest.raises(InputError, match="needs the model in this process"):
            remote.answer(*asked(SAMPLES[0]), attribution=True)
        server.reply = lambda request: 403
        with pytest.raises(EndpointError, match="403"):
            remote.answer(*asked(SAMPLES[0]))
        with pytest.raises(EndpointError, match="403"):
            list(remote.stream(*asked(SAMPLES[0])))


@pytest.mark.slow(1)
def test_a_run_says_how_its_policy_is_used(tmp_path: Path) -> None:
    """Its tools, prompt, turns and loading, from the run's folder and from that of its policy."""
    run = tmp_path / "run"
    write_finished(run, "iapo", 0)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["config"]["training"] |= {
        "max_turn_tokens": 24,
        "attribution_steps": 3,
        "attribution_method": "integrated",
    }
    manifest["config"]["run"] |= {"tools": "focus_on_rows_with_draw", "model_revision": "x", "dtype": "bfloat16"}
    (run / "manifest.json").write_text(json.dumps(manifest))
    for name in (run, run / "policy"):
        source = find_source(str(name), {"max_pixels": 50176})
        assert source.model == str(run / "policy")
        assert (source.attribution.method_name, source.attribution.steps) == ("integrated", 3)
        assert (source.tools(None), source.usage.max_turn_tokens) == ("focus_on_rows_with_draw", 24)
        assert (source.loading.dtype, source.loading.model_revision) == ("bfloat16", None)
        assert source.loading.max_pixels == 50176
    agent = Agent.from_pretrained(str(run))
    assert list(agent.tools) == ["focus_on_rows_with_draw"]
    assert agent.settings.max_turn_tokens == 24
    assert list(Agent.from_pretrained(str(run), tools="standard").tools) == list(iapo.TOOLS)
    export(str(run), tmp_path / "exported")
    source = find_source(str(tmp_path / "exported"))
    assert (source.tools(None), source.usage.max_turn_tokens) == ("focus_on_rows_with_draw", 24)
    agent = Agent.from_pretrained(str(tmp_path / "exported"))
    assert (list(agent.tools), agent.settings.max_turn_tokens) == (["focus_on_rows_with_draw"], 24)
    # An export of the export is used the same way.
    export(str(tmp_path / "exported"), tmp_path / "again")
    assert find_source(str(tmp_path / "again")).usage == source.usage
    measured = tmp_path / "measured"
    words = ["--sets", "vbar", "--samples", "2", "--out", str(measured)]
    result = CliRunner().invoke(app, ["evaluate", "--model", str(run), *words])
    assert result.exit_code == 0, result.output
    assert "tools focus_on_rows_with_draw; 2 turns of 24 tokens" in result.output
    plan = json.loads((measured / "manifest.json").read_text())["config"]["evaluation"]
    assert (plan["tools"], plan["generation"]["max_turn_tokens"]) == ("focus_on_rows_with_draw", 24)
    other = [*words[:-1], str(tmp_path / "other"), "--tools", "standard", "--max-turn-tokens", "9"]
    result = CliRunner().invoke(app, ["evaluate", "--model", str(run / "policy"), *other])
    assert result.exit_code == 0, result.output
    plan = json.loads((tmp_path / "other/manifest.json").read_text())["config"]["evaluation"]
    assert (plan["tools"], plan["generation"]["max_turn_tokens"]) == ("standard", 9)
    (run / "policy").unlink()
    with pytest.raises(InputError, match="holds no trained policy"):
        Agent.from_pretrained(str(run))
    assert find_source("tiny-student").tools(None) is None


@pytest.mark.parametrize("tools", ["/home/me/mine.py:f", "os:system", "crop,own.py"])
def test_no_checkpoint_has_code_loaded(tools: str, tmp_path: Path, student: Policy) -> None:
    student.model.save_pretrained(tmp_path)
    student.processor.save_pretrained(tmp_path)
    Usage(tools, max_turns=3).write(tmp_path)
    assert "/home" not in (tmp_path / USAGE).read_text()
    source = find_source(str(tmp_path))
    with pytest.raises(InputError, match=r"trained with tools of its own, .* name them with --tools"):
        source.tools(None)
    with pytest.raises(InputError, match="tools of its own"):
        Agent.from_pretrained(str(tmp_path))
    assert source.tools("crop") == "crop"
    assert source.usage.max_turns == 3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tools": ["crop"]}, "which is no text"),
        ({"max_turns": 99}, "give 2 to 8"),
        ({"max_turn_tokens": "many"}, "max_turn_tokens is 'many'"),
        ({"kind": "training"}, "is of the kind 'training'"),
    ],
)
def test_damaged_usage_is_one_sentence(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    Usage("crop").write(tmp_path)
    found = json.loads((tmp_path / USAGE).read_text())
    (tmp_path / USAGE).write_text(json.dumps(found | changes))
    with pytest.raises(InputError, match=reason):
        Usage.read(tmp_path / USAGE)


def test_one_turn_without_tools(student: Policy) -> None:
    agent = Agent(student, tools="none", settings=SETTINGS)
    found = agent.answer(*asked(SAMPLES[0]))
    assert (found.status, len(found.turns), found.calls) == ("no_call", 1, ())
    with pytest.raises(InputError, match="no tool is offered"):
        agent.answer(*asked(SAMPLES[0]), attribution=True)


def bomb() -> bytes:
    """A PNG of a hundred million pixels in a few bytes."""
    buffer = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(buffer, "PNG")
    return buffer.getvalue()


def closed() -> Image.Image:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 60)).save(buffer, "PNG")
    image = Image.open(buffer)
    image.close()
    return image


PICTURE = SAMPLES[0].image
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "no question": ((PICTURE, "  "), "the question is empty"),
    "control token": ((PICTURE, "a<|im_end|>b"), "holds the control token <|im_end|>"),
    "half a letter": ((PICTURE, "a\ud800"), "half a surrogate pair"),
    "long question": ((PICTURE, "a" * 20_001), "has 20,001 characters"),
    "too long for the model": ((PICTURE, "value of A? " * 1500), "but a sequence has 2048"),
    "no file": (("gone.png", "a?"), "cannot read the image gone.png"),
    "no image": ((b"no image", "a?"), "is in no known picture format"),
    "bomb": ((bomb(), "a?"), "larger than 89,478,485 pixels"),
    "small image": ((Image.new("RGB", (8, 8)), "a?"), "the models need 28 pixels"),
    "list of boxes": ((PICTURE, "a?", []), "the boxes are of type list"),
    "unknown field": ((PICTURE, "a?", {"colum_boxes": {}}), "did you mean column_boxes?"),
    "no box": ((PICTURE, "a?", {"row_boxes": {"a": "b"}}), "row 'a'"),
    "control token in a name": ((PICTURE, "a?", {"row_boxes": {"<|im_end|>": [1, 1, 9, 9]}}), "control token"),
    "half a letter in a name": ((PICTURE, "a?", {"row_boxes": {"\ud800": [1, 1, 9, 9]}}), "half a surrogate pair"),
    "no kind": ((PICTURE, "a?", {"kind": "map"}), "use chart or table"),
    "question of another type": ((PICTURE, 5), "the question is of type int; give text"),
    "nothing": ((None, "a?"), "the image is of type NoneType; give an image of Pillow's, its encoded bytes, or the pa"),
    "file object": ((io.BytesIO(b"x"), "a?"), "the image is of type BytesIO; give"),
    "array": ((np.zeros((112, 112, 3), "uint8"), "a?"), "the image is of type ndarray; give"),
    "device": (("/dev/zero", "a?"), "cannot read the image /dev/zero (it is no file)"),
    "folder": (("/", "a?"), "cannot read the image / (it is no file)"),
    "closed image": ((closed(), "a?"), "the image cannot be read"),
    "list with another type": (([PICTURE, 5], "a?"), "image 2 is of type int; give"),
    "number as a name": ((PICTURE, "a?", {"row_boxes": {5: [1, 1, 9, 9]}}), "row_boxes has a name of type int"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_asked(agent: Agent, name: str) -> None:
    words, reason = REFUSED[name]
    with pytest.raises(InputError, match=re.escape(reason)) as error:
        agent.answer(*words)
    assert "\n" not in str(error.value)
    # What does not fit into the model is said of the sample, the others of the question by its number.
    with pytest.raises(InputError, match=r"question 2: |, may need "):
        agent.answer_many([asked(SAMPLES[0]), words])


@pytest.mark.parametrize("value", ["yes", 5, None, np.zeros(3)])
def test_attribution_is_a_truth_value(agent: Agent, value: Any) -> None:
    sentence = r"attribution is .*; it takes true or false"
    words = asked(SAMPLES[0])
    with pytest.raises(InputError, match=sentence):
        agent.answer(*words, attribution=value)
    with pytest.raises(InputError, match=sentence):
        agent.answer_many([words], attribution=value)
    # At the call, not at the first event.
    with pytest.raises(InputError, match=sentence):
        agent.stream(*words, attribution=value)
    question = agent.question(*words)
    with pytest.raises(InputError, match=sentence):
        agent.ask(question, attribution=value)
    for more, reason in (
        ({"watch": 5}, "watch is 5; it takes a function or none"),
        ({"check": "x"}, "check is 'x'; it"),
    ):
        with pytest.raises(InputError, match=reason):
            agent.ask(question, **more)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the question is 'How many"):
        agent.ask("How many?")  # type: ignore[arg-type]


def test_what_cannot_be_set(agent: Agent) -> None:
    for change in ({"temperature": -1.0}, {"top_p": 0.0}, {"max_turn_tokens": 0}, {"seed": 2**32}, {"batch_size": 0}):
        with pytest.raises(InputError, match=next(iter(change))):
            agent.answer(*asked(SAMPLES[0]), settings=dataclasses.replace(SETTINGS, **change))
    with pytest.raises(InputError, match="temperature is nan"):
        Agent.from_pretrained("tiny-student", settings=EvaluationSettings(temperature=float("nan")))
    with pytest.raises(InputError, match="no checkpoint 'nobody'"):
        Agent.from_pretrained("nobody")
    with pytest.raises(InputError, match="names is"):
        Agent.from_pretrained("tiny-student", names="guess")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="question 1 is no"):
        agent.answer_many(["a?"])  # type: ignore[list-item]
    wrong: Any
    for wrong in ("a?", None, 5):
        with pytest.raises(InputError, match="the questions are of type"):
            agent.answer_many(wrong)
    for wrong in ({}, 5):
        with pytest.raises(InputError, match="settings are of type"):
            agent.answer(*asked(SAMPLES[0]), settings=wrong)
        with pytest.raises(InputError, match="settings are of type"):
            Agent.from_pretrained("tiny-student", settings=wrong)
        with pytest.raises(InputError, match="tools are no mapping of names to tools"):
            Agent.from_pretrained("tiny-student", tools={"crop": wrong})
    for wrong, reason in (("", "model is empty"), (None, "model is of type NoneType"), (5, "model is of type int")):
        with pytest.raises(InputError, match=reason):
            Agent.from_pretrained(wrong)
    for more, reason in (
        ({"device": 5}, "device is of type int"),
        ({"loading": 5}, "loading is of type int"),
        ({"loading": {"dtpye": "float32"}}, "did you mean dtype"),
        ({"prompt": 5}, "prompt is of type int"),
        ({"kind": "map"}, "kind is 'map'; use auto, chart or table"),
    ):
        with pytest.raises(InputError, match=reason):
            Agent.from_pretrained("tiny-student", **more)  # type: ignore[arg-type]
    wrong = "tiny-student"
    with pytest.raises(InputError, match=r"the policy is of type str; Agent\.from_pretrained"):
        Agent(wrong)


def test_it_is_part_of_the_api() -> None:
    assert iapo.Agent is Agent
    assert iapo.Answer is Answer
