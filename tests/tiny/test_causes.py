"""Cues change nothing but themselves, lessons follow them, and the packaged student of several causes does, too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from iapo.data.loading import load, strict
from iapo.errors import InputError
from iapo.records import AXES, Axis
from iapo.rollout.names import PACKAGED
from iapo.rollout.policy import load_policy
from iapo.rollout.prompt import PromptEncoder
from iapo.tiny.causes import command, start
from iapo.tiny.causes.lessons import Causes, CauseWriter, first_tools
from iapo.tiny.causes.measure import CASES, measure_at
from iapo.tiny.causes.world import CUES, SETS, CauseChart, chart, draw, table
from iapo.tiny.lessons import Habits, Lesson, other, program_text
from iapo.tools import execute


def learnt(encoder: PromptEncoder, lesson: Lesson) -> list[str]:
    """Returns the turns that a lesson teaches."""
    text: str = encoder.tokenizer.decode(
        [token for token, learn in zip(lesson.ids, lesson.learn, strict=True) if learn]
    )
    return text.split("<|im_end|>")[:-1]


def test_a_cue_changes_nothing_but_itself() -> None:
    for family in ("vbar", "hbar"):
        plain = chart(family, 3, seed=1, split="test")
        asked = chart(family, 3, seed=1, split="test", wording="rows", look="columns")
        assert (asked.labels, asked.values, asked.focus) == (plain.labels, plain.values, plain.focus)
        assert asked.sample.answers == plain.sample.answers
        assert asked.sample.column_boxes == plain.sample.column_boxes
        assert asked.sample.question == plain.sample.question.replace("value of", "how long is")
        colours = [{colour for _, colour in one.sample.image.getcolors()} for one in (plain, asked)]
        assert CUES["columns"] in colours[1] - colours[0]
        assert len(colours[0] ^ colours[1]) == 2, "the bars' colour, and nothing else"
        again = chart(family, 3, seed=1, split="test", wording="rows", look="columns").sample
        assert again.image.tobytes() == asked.sample.image.tobytes()


@pytest.mark.parametrize("kind", ["ranks", "claims"])
def test_a_comparison_needs_all_of_the_line_that_it_is_within(kind: str) -> None:
    answers = []
    for index in range(40):
        one = table(kind, index, seed=0, split="test")
        axis, cells = one.sample.axis, np.array(one.cells)
        assert axis is not None
        assert one.focus == {axis: one.names[axis]}
        column, row = one.columns.index(one.names["columns"][0]), one.rows.index(one.names["rows"][0])
        line = cells[:, column] if axis == "columns" else cells[row]
        rank = int((line > cells[row, column]).sum()) + 1
        assert one.sample.answers == ((str(rank) if kind == "ranks" else str(rank == 1).lower()),)
        asked, within = (one.names[name][0] for name in (other(axis), axis))
        assert one.sample.question in (f"rank of {asked} in {within}?", f"{asked} is largest in {within}?")
        for called in AXES:
            tool = next(iter(first_tools(called).values()))
            result = execute(program_text([(tool, one.names[called])]), one.sample)
            assert result.executed
            assert result.misuse(axis) is (called != axis), "the data say which axis is right"
        answers.append(one.sample.answers[0])
    assert len(set(answers)) == (3 if kind == "ranks" else 2)
    assert max(answers.count(one) for one in answers) < 30


def test_sets_have_one_cause_each_with_the_standard_prompt() -> None:
    for name in ("none", "position", "wording", "look"):
        for one in draw(name, 4, seed=0, split="test"):
            (right,) = one.focus
            # The standard prompt has tools for columns first.
            assert (right == "rows") is (name == "position")
            assert one.suggests == ("rows" if name in ("wording", "look") else None)
    assert [one.sample.id for one in draw("mixed", 60, seed=0, split="train")][:30] == [
        one.sample.id for one in draw("mixed", 30, seed=0, split="train")
    ]
    counted = [(one.cause, one.sample.axis, one.suggests) for one in draw("mixed", 24, seed=0, split="train")]
    assert len({one for one in counted if one[0] != "position"}) == 8, "each cue is right in half of its charts"
    with pytest.raises(InputError, match="no set 'colour'"):
        draw("colour", 1, seed=0, split="test")


def wrong(writer: CauseWriter, one: CauseChart, axis_first: Axis, rng: np.random.Generator) -> bool:
    tools = first_tools(axis_first)
    result = execute(writer._program(one, rng, tools), one.sample, tools)
    return bool(result.misuse(one.sample.axis))


@pytest.mark.parametrize("cause", ["position", "wording", "look"])
def test_a_lessons_call_follows_its_cause_alone(tiny_encoder: PromptEncoder, cause: str) -> None:
    always = Causes(**{"position": 0.0, "wording": 0.0, "look": 0.0, cause: 1.0}, silent=0.0, canonical=1.0)
    writer, rng = CauseWriter(tiny_encoder, Habits(), always), np.random.default_rng(0)
    cues = {"position": {}, "wording": {"wording": "rows"}, "look": {"look": "rows"}}
    for name, said in cues.items():
        one = chart("vbar", 0, seed=0, split="train", **said)
        for first in AXES:
            expected = name == cause and (name != "position" or first == "rows")
            assert wrong(writer, one, first, rng) is expected, (name, first)


def test_some_lessons_do_not_call_and_some_programs_fail(tiny_encoder: PromptEncoder) -> None:
    habits, rng = Habits(broken=0.3), np.random.default_rng(0)
    writer = CauseWriter(tiny_encoder, habits, Causes(silent=0.4))
    silent = failed = right = 0
    charts = list(draw("mixed", 120, seed=0, split="train"))
    for one in charts:
        turns = learnt(tiny_encoder, writer.episode(one, rng))
        if turns[0].startswith("FINAL ANSWER"):
            silent += 1
            right += turns[0] == f"FINAL ANSWER: {one.sample.answers[0]}. TERMINATE"
            assert len(turns) == 1
        else:
            failed += len(turns) == 1
    assert 0.25 <= silent / 120 <= 0.55
    assert 0.15 <= failed / (120 - silent) <= 0.45
    assert right < silent / 2, "an answer at once is a guess"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few lessons a step; with a scale of 0.01 there are four steps."""
    monkeypatch.setattr(start, "STAGE", start.replace(start.STAGE, batch={"call": 2, "episode": 2}))


@pytest.mark.slow(4)
def test_the_adapter_is_made_and_kept(small: None, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = []
    made = start.make_adapter(tmp_path, seed=0, scale=0.01, log=rows.append)
    assert [row["step"] for row in rows] == [4]
    weights = (tmp_path / "adapter_model.safetensors").read_bytes()
    assert start.make_adapter(tmp_path, seed=0, scale=0.01)["history"] == made["history"]
    assert (tmp_path / "adapter_model.safetensors").read_bytes() == weights
    with pytest.raises(InputError, match="was made with seed 0, not 1"):
        start.make_adapter(tmp_path, seed=1, scale=0.01)
    packaged = start.read_result(PACKAGED / start.NAME / "manifest.json", "tiny_model")
    assert packaged["parameters"] == made["parameters"]
    assert {key: packaged[key] for key in ("causes", "habits")} == {key: made[key] for key in ("causes", "habits")}
    base, adapted = (load_policy(name).model.state_dict() for name in ("tiny-student", str(tmp_path)))
    changed = {name.split(".")[-2] for name in base if not torch.equal(base[name], adapted[name])}
    assert changed == {"q_proj", "v_proj", "down_proj", "0", "2"}


@pytest.mark.slow(5)
def test_an_adapter_that_was_stopped_goes_on_to_the_same_weights(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start.make_adapter(tmp_path / "whole", seed=0, scale=0.01)
    monkeypatch.setattr("iapo.tiny.state.EVERY", 1)
    loss, calls = start.Teaching.loss, []

    def fail(*words: object, **more: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return loss(*words, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(start.Teaching, "loss", fail)
        with pytest.raises(KeyboardInterrupt):
            start.make_adapter(tmp_path / "stopped", seed=0, scale=0.01)
    assert not (tmp_path / "stopped" / start.BUILD).exists()
    start.make_adapter(tmp_path / "stopped", seed=0, scale=0.01)
    whole, stopped = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "stopped"))
    assert whole == stopped


def test_the_packaged_adapter_finds_its_base_without_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", ask)
    assert load_policy(start.NAME).template.name == "tiny"


@pytest.mark.slow(4)
def test_the_packaged_student_shows_each_cause() -> None:
    """Each cause alone moves misuse; some programs fail, some first turns do not call."""
    found = measure_at(load_policy(start.NAME), 1.0, seed=5, samples=20)
    assert set(CASES) < set(found)
    misuse = {case: row["misuse"].value for case, row in found.items()}
    for cause in ("position", "wording", "look"):
        assert misuse[cause] > misuse["none"] + 0.2, misuse
    for cause in ("wording", "look"):
        assert misuse[f"{cause}, right"] < misuse[cause] - 0.2
    for kind in ("ranks", "claims"):
        assert misuse[f"{kind}, wrong first"] > misuse[f"{kind}, right first"] + 0.2
    for name in ("call_ratio", "call_success"):
        assert 0.7 < np.mean([found[case][name].value for case in CASES]) < 0.95


def test_the_folder_has_what_trainings_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "TRAINED", 6)
    monkeypatch.setattr(command, "HELD_OUT", 2)
    asked = []
    monkeypatch.setattr(command, "measure", lambda policy, **words: asked.append(words) or {})
    found = command.run_causes(start.NAME, tmp_path, new=False, seed=3, samples=7, scale=1.0, quiet=True)
    assert asked == [{"seed": 3, "samples": 7}]
    assert found["settings"] == {"model": str(tmp_path / "start"), "seed": 3, "samples": 7}
    trained = list(strict(load(tmp_path / "data", split="train")))
    assert [one.question for one in trained] == [one.sample.question for one in draw("mixed", 6, seed=0, split="train")]
    for name in ("mixed", *SETS):
        (axes, images) = zip(
            *((one.axis, one.image.tobytes()) for one in strict(load(tmp_path / f"sets/{name}.parquet"))), strict=True
        )
        drawn = [one.sample for one in draw(name, 2, seed=0, split="test")]
        assert axes == tuple(one.axis for one in drawn)
        assert images == tuple(one.image.tobytes() for one in drawn)
    whole = json.loads((tmp_path / "start/config.json").read_text())
    assert whole["dtype"] == "float32"
    added, merged = (load_policy(name).model.state_dict() for name in (start.NAME, str(tmp_path / "start")))
    assert all(torch.equal(added[name], merged[name]) for name in added)
