"""On-policy distillation by token: what the teacher's view adds to the advantages."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from scripted import batch, scripted

from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.rollout.policy import Policy
from iapo.training.checks import check_settings
from iapo.training.config import IAPOConfig


@pytest.fixture(scope="module")
def charts() -> Any:
    return list(generate("vbar", 4, seed=11, question_types=("value",)))


def token_log_probs(model: Any, output: dict[str, Any], row: int) -> torch.Tensor:
    """Log-probabilities of one row's completion by a plain pass, without TRL's and without packing."""
    ids = torch.cat([output["prompt_ids"][row], output["completion_ids"][row]])
    kept = torch.cat([output["prompt_mask"][row], output["completion_mask"][row]]).bool()
    images = output["num_images"]
    start = sum(images[:row])
    grids = output["image_grid_thw"]
    patches = grids.prod(1).tolist()
    pixels = output["pixel_values"][sum(patches[:start]) : sum(patches[: start + images[row]])]
    with torch.no_grad():
        logits = model(
            input_ids=ids[kept][None],
            pixel_values=pixels,
            image_grid_thw=grids[start : start + images[row]],
            mm_token_type_ids=output["mm_token_type_ids"][row][kept][None],
        ).logits[0]
    found = logits[:-1].log_softmax(-1).gather(1, ids[kept][1:, None])[:, 0]
    return found[int(output["prompt_mask"][row].sum()) - 1 :]


@pytest.mark.parametrize("share_prefix", [True, False])
def test_each_written_token_gets_the_teachers_view(
    tmp_path: Path, model: Any, other_model: Any, processor: Any, charts: Any, share_prefix: bool
) -> None:
    teacher = copy.deepcopy(other_model)
    plain = batch(scripted(tmp_path / "a", model, processor, charts, reward="grpo"), charts)["advantages"]
    trainer = scripted(
        tmp_path / "b",
        model,
        processor,
        charts,
        reward="grpo",
        teacher=Policy(teacher, processor),
        token_distill_weight=0.25,
        share_prefix=share_prefix,
    )
    output = batch(trainer, charts)
    floor = -math.log(len(trainer.encoder.tokenizer))
    assert output["advantages"].shape == output["completion_ids"].shape
    for row in range(4):
        theirs = token_log_probs(teacher, output, row).clamp(min=floor)
        gain = theirs - token_log_probs(trainer.model, output, row)
        gain *= output["tool_mask"][row][: len(gain)]
        expected = plain[row] + 0.25 * gain
        torch.testing.assert_close(output["advantages"][row][: len(gain)], expected, atol=1e-4, rtol=1e-4)
        # What the tools wrote, and padding, has the outcome's alone: neither is learnt.
        rest = output["completion_mask"][row] * output["tool_mask"][row] == 0
        assert torch.equal(output["advantages"][row][rest], plain[row].expand(int(rest.sum())))
    assert (output["completion_mask"] * output["tool_mask"]).sum() < output["completion_mask"].sum()


def test_the_metric_is_the_reverse_divergence(
    tmp_path: Path, model: Any, other_model: Any, processor: Any, charts: Any
) -> None:
    given = {"teacher": Policy(copy.deepcopy(other_model), processor), "token_distill_weight": 0.25, "reward": "grpo"}
    trainer = scripted(tmp_path, model, processor, charts, **given)
    output = batch(trainer, charts)
    plain = (
        output["advantages"]
        - batch(scripted(tmp_path / "b", model, processor, charts, reward="grpo"), charts)["advantages"][:, None]
    )
    written = output["completion_mask"] * output["tool_mask"]
    expected = -(plain / 0.25 * written).sum() / written.sum()
    assert trainer._metrics["train"]["distill/reverse_kl"] == [pytest.approx(expected.item(), abs=1e-4)]


def test_a_teacher_that_is_the_student_adds_nothing(tmp_path: Path, model: Any, processor: Any, charts: Any) -> None:
    given = {"teacher": Policy(copy.deepcopy(model), processor), "token_distill_weight": 1.0, "reward": "grpo"}
    trainer = scripted(tmp_path / "a", model, processor, charts, **given)
    plain = batch(scripted(tmp_path / "b", model, processor, charts, reward="grpo"), charts)["advantages"]
    found = batch(trainer, charts)
    # Where the student itself is below a guess, the floor lifts the teacher alone.
    likely = token_likely(trainer, found)
    torch.testing.assert_close(found["advantages"][likely], plain[:, None].expand_as(likely)[likely], atol=1e-5, rtol=0)
    assert likely.any()


def token_likely(trainer: Any, output: dict[str, Any]) -> torch.Tensor:
    floor = -math.log(len(trainer.encoder.tokenizer))
    likely = torch.zeros_like(output["completion_ids"], dtype=torch.bool)
    for row in range(len(likely)):
        own = token_log_probs(trainer.model, output, row)
        likely[row, : len(own)] = own > floor
    return likely


def test_it_trains_beside_the_penalty(
    tmp_path: Path, model: Any, other_model: Any, processor: Any, charts: Any
) -> None:
    given = {"teacher": Policy(copy.deepcopy(other_model), processor), "penalty_weight": 0.1, "reward": "iapo"}
    trainer = scripted(
        tmp_path, model, processor, charts, token_distill_weight=0.1, penalty_scope="call", max_steps=2, **given
    )
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert len(rows) == 2
    assert all(math.isfinite(row["loss"]) and math.isfinite(row["distill/reverse_kl"]) for row in rows)


def test_what_cannot_be_is_refused(tmp_path: Path, model: Any, other_model: Any, processor: Any, charts: Any) -> None:
    with pytest.raises(InputError, match=r"token_distill_weight is -1\.0; give 0 to"):
        IAPOConfig(str(tmp_path), token_distill_weight=-1.0, use_cpu=True, bf16=False)
    with pytest.raises(InputError, match="token_distill_weight needs the teacher's view of the student's own call"):
        IAPOConfig(
            str(tmp_path),
            reward="grpo",
            token_distill_weight=0.1,
            teacher_reference="own_call",
            use_cpu=True,
            bf16=False,
        )
    with pytest.raises(InputError, match="there is no teacher"):
        check_settings(IAPOConfig(str(tmp_path), reward="grpo", token_distill_weight=0.1, use_cpu=True, bf16=False))
    other = copy.deepcopy(processor)
    other.image_processor.patch_size = 16
    with pytest.raises(InputError, match="its image processor has patch_size 16, and the student's 14"):
        scripted(
            tmp_path,
            model,
            processor,
            charts,
            reward="grpo",
            teacher=Policy(copy.deepcopy(other_model), other),
            token_distill_weight=0.1,
        )
