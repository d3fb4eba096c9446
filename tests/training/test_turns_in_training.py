"""Training with more than two turns: the packed loss, what is learnt, settings, a run from end to end."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from scripted import loss_and_gradient, relative, scripted, settings, up_to_five
from transformers import PreTrainedModel

from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.records import Sample, Trace
from iapo.report.command import write_report
from iapo.rollout.policy import ImageTextProcessor, Policy
from iapo.rollout.template import find_prompt
from iapo.runs import MORE_METRICS, RunFolder
from iapo.training.batches import join_logprobs, messages, to_dataset
from iapo.training.scope import in_scope
from iapo.training.trainer import IAPOTrainer

MANY = {"max_turns": 5, "max_completion_length": 256, "max_turn_tokens": 48}


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    return [
        next(iter(generate(family, 1, seed=6, size=size, question_types=("value",))))
        for family, size in (("vbar", 112), ("hbar", 140))
    ]


def worded(processor: ImageTextProcessor) -> ImageTextProcessor:
    """The processor with a prompt for more than two turns."""
    made = copy.copy(processor)
    made.prompt = find_prompt("tiny-turns")
    return made


@pytest.fixture(params=["qwen2_5_vl", "qwen3_vl"])
def either(request: Any, model: Any, processor: Any, qwen3_model: Any, qwen3_processor: Any) -> tuple[Any, Any]:
    return (model, worded(processor)) if request.param == "qwen2_5_vl" else (qwen3_model, worded(qwen3_processor))


def test_packed_rows_have_the_plain_loss_and_gradient(
    tmp_path: Path, either: tuple[PreTrainedModel, Any], charts: list[Sample]
) -> None:
    """Two, three and five turns beside each other in each group."""
    found = []
    for share in (False, True):
        trainer = scripted(
            tmp_path / str(share), *either, charts, script=up_to_five, share_prefix=share, entropy_coef=0.01, **MANY
        )
        assert trainer._shares == share
        found.append(loss_and_gradient(trainer, charts))
        assert [len(one.turns) for one in trainer._batch.rollouts] == [2, 3, 5, 5] * 2
        assert [len(one.images) for one in trainer._batch.rollouts] == [2, 3, 4, 1] * 2
    (plain, plain_gradient), (packed, packed_gradient) = found
    assert packed.item() == pytest.approx(plain.item(), rel=1e-5, abs=1e-6)
    assert relative(plain_gradient, packed_gradient) < 1e-5


def test_log_probs_and_masks_of_all_turns(
    tmp_path: Path, model: PreTrainedModel, processor: Any, charts: list[Sample]
) -> None:
    trainer = scripted(tmp_path, model, worded(processor), charts, script=up_to_five, **MANY)
    trainer.model.train()
    output = trainer._generate_and_score_completions([row for row in to_dataset(charts[:1]) for _ in range(4)])
    ids = torch.cat([output["prompt_ids"], output["completion_ids"]], 1)
    mask = torch.cat([output["prompt_mask"], output["completion_mask"]], 1)
    fields = {name: output[name] for name in ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids")}
    width = output["completion_ids"].shape[1]
    with torch.no_grad():
        packed, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, width, **fields)
    learnt = (output["completion_mask"] * output["tool_mask"]).bool()
    encoder = trainer.encoder
    for row, one in enumerate(trainer._batch.rollouts):
        text = encoder.tokenizer.decode(output["completion_ids"][row][learnt[row]], skip_special_tokens=True)
        assert text == "".join(up_to_five(charts[0], row))
        assert [said["role"] for said in messages(one)] == ["assistant", *["user", "assistant"] * (len(one.turns) - 1)]
        # Each row by itself, from its tokens and images, by the model's own forward pass.
        whole = torch.tensor([one.prompt.ids + one.completion_ids])
        with torch.no_grad():
            logits = trainer.model(
                input_ids=whole,
                attention_mask=torch.ones_like(whole),
                mm_token_type_ids=(whole == encoder.image_token_id).long(),
                **encoder.pixels(one.images),
            ).logits
        every = logits[0, :-1].log_softmax(-1).gather(1, whole[0, 1:, None])[:, 0]
        alone = every[len(one.prompt.ids) - 1 :]
        own = torch.tensor(one.model_written)
        torch.testing.assert_close(packed[row, : len(alone)][own], alone[own], rtol=1e-5, atol=1e-5)
        calls, turns = (in_scope([one], scope, width)[0] for scope in ("call", "turn_1"))
        called = [turn for turn in one.turns if turn.result.called]
        assert int(calls.sum()) == sum(sum(turn.target) for turn in called)
        assert int(turns.sum()) == sum(len(turn.ids) for turn in called)
        assert bool((learnt[row] | ~turns).all())


def test_sampling_log_probs_are_joined_turn_by_turn(
    tmp_path: Path, model: PreTrainedModel, processor: Any, charts: list[Sample]
) -> None:
    trainer = scripted(tmp_path, model, worded(processor), charts, script=up_to_five, **MANY)
    trainer.model.train()
    trainer._generate_and_score_completions([row for row in to_dataset(charts[:1]) for _ in range(4)])
    rollouts = trainer._batch.rollouts
    # Number 100 r + t for token t of turn r, and more than the turn's tokens, as if it had been cut.
    rounds = [
        [[100.0 * number + place for place in range(99)] for one in rollouts if number < len(one.turns)]
        for number in range(5)
    ]
    for one, joined in zip(rollouts, join_logprobs(rollouts, rounds), strict=True):
        expected = [100.0 * number + place for number, turn in enumerate(one.turns) for place in range(len(turn.ids))]
        assert [value for value, own in zip(joined, one.model_written, strict=True) if own] == expected
        assert not any(value for value, own in zip(joined, one.model_written, strict=True) if not own)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"max_turns": 1}, "max_turns is 1; give 2 to 8"),
        ({"max_turns": 9}, "max_turns is 9; give 2 to 8"),
        (
            {"max_turns": 3, "teacher": "tiny-teacher", "penalty_weight": 0.1, "teacher_reference": "own_call"},
            "max_turns above 2 needs teacher_reference student_call",
        ),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        settings(tmp_path, **more)


def test_a_prompt_for_two_turns_is_refused_before_anything_is_written(
    tmp_path: Path, model: PreTrainedModel, processor: Any, charts: list[Sample]
) -> None:
    with pytest.raises(InputError, match="the prompt 'tiny' is worded for two turns, and max_turns is 3"):
        scripted(tmp_path, model, processor, charts, max_turns=3)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow(3)
def test_two_steps_of_the_tiny_student(tmp_path: Path, student: Policy, charts: list[Sample]) -> None:
    """Generation, attribution, loss, run folder and report with three turns."""
    seen: list[Trace] = []
    processor = worded(student.processor)
    trainer = IAPOTrainer(
        copy.deepcopy(student.model),
        args=settings(tmp_path, max_steps=2, penalty_weight=0.1, max_turns=3, temperature=1.2, trace_every=1),
        train_dataset=to_dataset(charts),
        processing_class=processor,
        teacher=Policy(copy.deepcopy(student.model), processor),
        on_rollouts=lambda step, traces: seen.extend(traces),
    )
    before = copy.deepcopy(trainer.model.state_dict())
    trainer.train()
    assert any(not torch.equal(before[name], one) for name, one in trainer.model.state_dict().items())
    assert len(seen) == 8
    assert all(1 <= len(trace.turns) <= 3 for trace in seen)
    run = RunFolder(tmp_path / "run")
    rows = run.read_metrics()
    assert [set(MORE_METRICS) <= row.keys() for row in rows] == [True, True]
    assert rows[0]["tools/turns"] == sum(len(trace.turns) for trace in seen[:4]) / 4
    again = run.read_traces()
    assert [trace.to_json("", [None] * len(trace.turns)) for trace in again] == [
        trace.to_json("", [None] * len(trace.turns)) for trace in seen
    ]
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["config"]["training"]["max_turns"] == 3
    page = tmp_path / "report.html"
    write_report([tmp_path / "run"], page)
    assert page.stat().st_size > 10_000
