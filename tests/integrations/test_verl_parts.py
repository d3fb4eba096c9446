"""The parts of the integration with VeRL that import nothing of it: rows, rollouts made again, rewards, the measure."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from calls import call_text
from iapo_verl.data import sample_of, to_row, write_rows
from iapo_verl.measure import RowMeasure
from iapo_verl.reward import compute_score, with_alignment
from iapo_verl.rollouts import BUDGET, TURNS, again, fields_of
from PIL import Image
from transformers import PreTrainedModel

from iapo.attribution.settings import AttributionSettings
from iapo.errors import InputError
from iapo.records import Sample
from iapo.rewards.alignment import Alignment
from iapo.rollout.budget import Budget
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import Rollout, encode_prompts, finish
from iapo.tools import TOOLS

BUDGET_OF_TWO = Budget(64, sequence=2000)


def as_loaded(row: dict[str, Any]) -> dict[str, Any]:
    """A row as VeRL's data set hands it out: the image opened and put in its place in the prompt."""
    (image,), (message,) = row["images"], row["prompt"]
    text = message["content"].removeprefix("<image>")
    opened = {"type": "image", "image": Image.open(io.BytesIO(image["bytes"])), **image}
    content = [opened, {"type": "text", "text": text}]
    return {**row, "raw_prompt": [{"role": "user", "content": content}]}


@pytest.fixture
def rollouts(encoder: PromptEncoder, samples: list[Sample]) -> list[Rollout]:
    """Two rollouts to each of two samples: an edit and an answer, and an answer alone."""
    chosen = [samples[0], samples[0], samples[2], samples[2]]
    name = next(iter(samples[2].row_boxes or samples[2].column_boxes))
    axis = "rows" if samples[2].row_boxes else "columns"
    turns = [
        call_text("focus_on_columns_with_mask", next(iter(samples[0].column_boxes)), "columns"),
        f"FINAL ANSWER: {samples[0].answers[0]}. TERMINATE",
        call_text(f"focus_on_{axis}_with_draw", name, axis),
        "FINAL ANSWER: nothing. TERMINATE",
    ]
    answer = encoder.tokenizer("FINAL ANSWER: 3. TERMINATE")["input_ids"]
    ids = [[*encoder.tokenizer(turn)["input_ids"], encoder.tokenizer.eos_token_id] for turn in turns]
    found = finish(
        chosen,
        encode_prompts(chosen, encoder),
        ids,
        encoder,
        lambda rows, _: [answer] * len(rows),
        budget=BUDGET_OF_TWO,
    )
    assert [len(one.turns) for one in found] == [2, 1, 2, 1]
    return found


def test_a_sample_goes_through_a_row(samples: list[Sample], tmp_path: Path) -> None:
    asking = dataclasses.replace(samples[0], question="what is <image>?", grading="chart")
    assert write_rows([asking, samples[2]], tmp_path / "data" / "train.parquet") == 2
    rows = pq.read_table(tmp_path / "data" / "train.parquet").to_pylist()
    assert rows[0]["prompt"][0]["content"].count("<image>") == 1
    for index, (row, sample) in enumerate(zip(rows, (asking, samples[2]), strict=True)):
        found = sample_of(as_loaded(row))
        assert found.to_json(image_path="") == sample.to_json(image_path="")
        assert found.image.convert("RGB").tobytes() == sample.image.convert("RGB").tobytes()
        assert (row["agent_name"], row["extra_info"]["index"]) == ("iapo", index)
        assert tuple(json.loads(row["reward_model"]["ground_truth"])) == sample.answers


def test_rows_of_other_origin_are_refused(samples: list[Sample], tmp_path: Path) -> None:
    row = as_loaded(to_row(samples[0], 0))
    with pytest.raises(InputError, match=r"no extra_info\.sample"):
        sample_of({**row, "extra_info": {"index": 0}})
    with pytest.raises(InputError, match="0 opened images"):
        sample_of({**row, "raw_prompt": [{"role": "user", "content": "how many?"}]})
    with pytest.raises(InputError, match="no sample to write"):
        write_rows([], tmp_path / "none.parquet")


def test_a_rollout_is_made_again(encoder: PromptEncoder, rollouts: list[Rollout]) -> None:
    for one in rollouts:
        fields = json.loads(json.dumps(fields_of(one, BUDGET_OF_TWO)))
        found = again(fields, one.trace.sample, one.prompt, encoder, TOOLS)
        assert found.completion_ids == one.completion_ids
        assert found.model_written == one.model_written
        assert [turn.target for turn in found.turns] == [turn.target for turn in one.turns]
        assert [image.tobytes() for image in found.images] == [image.tobytes() for image in one.images]


def test_another_rollout_is_told(encoder: PromptEncoder, rollouts: list[Rollout]) -> None:
    one = rollouts[0]
    fields = fields_of(one, BUDGET_OF_TWO)
    for changed in (
        {TURNS: fields[TURNS][:1]},
        {TURNS: [*fields[TURNS], fields[TURNS][1]]},
        {BUDGET: {**fields[BUDGET], "turn": 3}},
    ):
        with pytest.raises(ValueError, match="goes another way"):
            again({**fields, **changed}, one.trace.sample, one.prompt, encoder, TOOLS)


def test_rewards(rollouts: list[Rollout]) -> None:
    right = rollouts[1]
    row = to_row(right.trace.sample, 0)
    truth = row["reward_model"]["ground_truth"]
    info = {**row["extra_info"], **fields_of(right, BUDGET_OF_TWO)}
    found = compute_score(row["data_source"], "", truth, info)
    assert found == {"score": 1.0, "outcome": 1.0, "called": 0.0, "call_success": 0.0, "misuse": 0.0}
    called = compute_score(
        row["data_source"], "", truth, {**row["extra_info"], **fields_of(rollouts[0], BUDGET_OF_TWO)}
    )
    assert (called["called"], called["call_success"]) == (1.0, 1.0)
    assert called["misuse"] == float(rollouts[0].trace.misused)
    # Another agent loop names no final turn.
    assert compute_score("x", "FINAL ANSWER: 7. TERMINATE", '["7"]')["score"] == 1.0


def test_alignment_comes_off_the_last_token() -> None:
    scores = [torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0])]
    found = with_alignment(scores, torch.tensor([0.5, 2.0]), step=10, weight=0.2, decay=0.1)
    share = 0.2 * torch.e ** (-1)
    torch.testing.assert_close(found[0], torch.tensor([0.0, 0.0, 1 - 0.5 * share]))
    torch.testing.assert_close(found[1], torch.tensor([-2.0 * share]))
    assert scores[0][-1] == 1.0


def test_rows_are_measured_as_rollouts(
    model: PreTrainedModel,
    other_model: PreTrainedModel,
    encoder: PromptEncoder,
    rollouts: list[Rollout],
    monkeypatch: Any,
) -> None:
    teacher = Policy(other_model, encoder.processor)
    monkeypatch.setattr("iapo_verl.measure.load_policy", lambda *_, **__: teacher)
    settings = {"teacher": "any", "attribution_normalization": "softmax"}
    measure = RowMeasure(settings, encoder.processor, torch.device("cpu"))
    loaded = [as_loaded(to_row(one.trace.sample, index)) for index, one in enumerate(rollouts)]
    rows = [{**row, **fields_of(one, BUDGET_OF_TWO)} for row, one in zip(loaded, rollouts, strict=True)]
    found = measure(model, rows, step=0)
    expected = Alignment(teacher, encoder, AttributionSettings(normalization="softmax")).measure(model, rollouts)
    assert [one.divergence for one in found] == pytest.approx([one.divergence for one in expected], abs=1e-6)
    assert found[0].student == pytest.approx(expected[0].student, abs=1e-6)
    with pytest.raises(InputError, match="no teacher to compare with"):
        RowMeasure({}, encoder.processor, torch.device("cpu"))
