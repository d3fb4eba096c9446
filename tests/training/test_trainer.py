"""The trainer on scripted rollouts (known texts, hence known rewards) and on sampled ones."""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import math
import textwrap
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from PIL import Image
from scripted import batch, four_ways, scripted, settings
from transformers import Qwen2_5_VLForConditionalGeneration
from trl import GRPOTrainer

from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.records import Sample, Trace
from iapo.rollout.policy import Policy
from iapo.runs import data_hash
from iapo.training.batches import Batch, dataset_hash, finished, samples_of, to_dataset
from iapo.training.trainer import SEAMS, IAPOTrainer

PINNED_LOSSES = [-0.150535, -0.130781, -0.084151]
PINNED_DIVERGENCES = [1.034034, 1.260938, 0.971281]
"""Of `test_three_steps_are_pinned`."""


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    return list(generate("vbar", 4, seed=11, question_types=("value",)))


def test_upstream_seams_are_as_expected() -> None:
    """Fails with a clear sentence when TRL moves what `iapo.training.trainer` overrides."""
    expected = {
        "_generate": ["self", "prompts"],
        "_generate_and_score_completions": ["self", "inputs"],
        "_generate_single_turn": [
            "self",
            "prompt_ids",
            "images",
            "multimodal_fields",
            "num_generations",
            "has_tool_images",
        ],
        "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
        "_tokenize_prompts": ["self", "prompts"],
        "_tool_call_loop": [
            "self",
            "prompts",
            "prompt_ids",
            "completion_ids",
            "completions",
            "logprobs",
            "images",
            "multimodal_fields",
        ],
        "_compute_loss": ["self", "model", "inputs"],
        "_get_per_token_logps_and_entropies": [
            "self",
            "model",
            "input_ids",
            "attention_mask",
            "logits_to_keep",
            "batch_size",
            "compute_entropy",
            "compute_aux_loss",
            "pixel_values",
            "image_grid_thw",
            "num_images",
            "pixel_attention_mask",
            "spatial_shapes",
            "num_tiles",
            "image_sizes",
            "token_type_ids",
            "mm_token_type_ids",
            "image_position_ids",
        ],
        "_load_from_checkpoint": ["self", "resume_from_checkpoint", "model"],
        "_save_checkpoint": ["self", "model", "trial"],
        "_save_rng_state": ["self", "output_dir"],
        "_load_rng_state": ["self", "checkpoint"],
        "_run_epoch": [
            "self",
            "model",
            "epoch",
            "train_dataloader",
            "steps_in_epoch",
            "num_update_steps_per_epoch",
            "trial",
            "ignore_keys_for_eval",
            "start_time",
            "resume_from_checkpoint",
            "epochs_trained",
            "steps_trained_in_current_epoch",
        ],
    }
    # The last five are overridden in iapo.training.policies and iapo.training.resumable.
    assert set(expected) == {*SEAMS, *list(expected)[-5:]}
    for name, parameters in expected.items():
        assert hasattr(GRPOTrainer, name), (
            f"TRL no longer has GRPOTrainer.{name}, which iapo.training.trainer overrides"
        )
        found = list(inspect.signature(getattr(GRPOTrainer, name)).parameters)
        assert found == parameters, f"TRL changed the parameters of GRPOTrainer.{name}; adapt iapo.training.trainer"


def returned(function: Any) -> list[int]:
    """The lengths of the tuples that a function returns; those of functions inside it do not count."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    nested = {
        one
        for node in ast.walk(tree)
        if node is not tree and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for one in ast.walk(node)
    }
    returns = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return) and node not in nested]
    return [len(value.elts) if isinstance(value, ast.Tuple) else 1 for value in returns]


def test_upstream_returns_as_many_values_as_are_taken(tmp_path: Path, model: Any, processor: Any, charts: list) -> None:
    assert set(returned(GRPOTrainer._generate)) == {8}, "TRL changed what GRPOTrainer._generate returns"
    assert set(returned(GRPOTrainer._tool_call_loop)) == {7}, "TRL changed what GRPOTrainer._tool_call_loop returns"
    assert set(returned(GRPOTrainer._tokenize_prompts)) == {3}, "TRL changed what GRPOTrainer._tokenize_prompts returns"
    assert set(returned(GRPOTrainer._generate_single_turn)) == {2}, "TRL changed what _generate_single_turn returns"
    trainer = scripted(tmp_path, model, processor, charts)
    assert {mode: type(values) for mode, values in trainer._metrics.items()} == {
        "train": defaultdict,
        "eval": defaultdict,
    }
    assert trainer._metrics["train"].default_factory is list, "TRL changed how GRPOTrainer._metrics collects numbers"
    assert trainer._pending_extra_logs.default_factory is list, "TRL changed how further columns are kept"
    # What is ours returns as many: TRL's own code unpacks it.
    assert set(returned(finished)) == {7}
    assert len(trainer._generate([row["prompt"] for row in made(trainer, charts)])) == 8


def made(trainer: Any, charts: list[Sample]) -> list[dict[str, Any]]:
    """Rows of a batch that the trainer holds in hand."""
    rows = list(to_dataset(charts[:1])) * 4
    trainer._batch = Batch(samples_of(rows))
    return rows


def test_upstream_fused_head_is_as_expected(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    """Packed rows call the student with `fused_lm_head` and labels that are shifted already."""
    trainer = scripted(tmp_path, model, processor, charts, share_prefix=False)
    ids = torch.randint(0, 50, (1, 7))
    labels = torch.cat([ids[:, 1:], torch.full((1, 1), -100)], 1)
    found = trainer.model(input_ids=ids, shift_labels=labels, fused_lm_head=True)
    logits = model(input_ids=ids).logits
    expected = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    assert found.log_probs[:, :-1].flatten().tolist() == pytest.approx(expected.flatten().tolist(), abs=1e-4)
    assert found.entropy.shape == found.log_probs.shape


def test_group_advantages_by_hand(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    trainer = scripted(tmp_path, model, processor, charts)
    output = batch(trainer, charts)
    # Outcomes 1, 1, 0, 0: mean 1/2, sample standard deviation sqrt(1/3).
    expected = 0.5 / (math.sqrt(1 / 3) + 1e-4)
    assert output["advantages"].tolist() == pytest.approx([expected, expected, -expected, -expected], rel=1e-5)


def test_penalty_enters_the_reward(tmp_path: Path, model: Any, other_model: Any, processor: Any, charts: list) -> None:
    seen: list[Trace] = []
    trainer = scripted(
        tmp_path,
        model,
        processor,
        charts,
        teacher=Policy(other_model, processor),
        penalty_weight=0.3,
        penalty_decay=0.5,
        on_rollouts=lambda step, traces: seen.extend(traces),
    )
    trainer.state.global_step = 2
    output = batch(trainer, charts)
    weight = 0.3 * math.exp(-0.5 * 2)
    divergences = [trace.scores["divergence"].value for trace in seen]
    rewards = torch.tensor([outcome - weight * d for outcome, d in zip([1.0, 1.0, 0.0, 0.0], divergences, strict=True)])
    expected = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    assert output["advantages"].tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    # Right and wrong tool and failed call have an attribution; no call has none and gets the worst value.
    assert [bool(trace.attribution) for trace in seen] == [True, True, True, False]
    assert divergences[3] == pytest.approx(math.log(9))
    assert all(0 <= d <= math.log(9) for d in divergences)
    assert [trace.result.status for trace in seen] == ["edited", "edited", "failed", "no_call"]
    assert [trace.misused for trace in seen] == [False, True, False, False]
    assert trainer.reward_func_names == ["outcome_reward", "alignment"]
    # Step 3 is none whose rollouts are saved, and only those have the shares of the picture's tokens.
    assert not any(trace.patches for trace in seen)


def test_saved_rollouts_have_patches(tmp_path: Path, model: Any, other_model: Any, processor: Any, charts: list):
    seen: list[Trace] = []
    trainer = scripted(
        tmp_path,
        model,
        processor,
        charts,
        teacher=Policy(other_model, processor),
        penalty_weight=0.3,
        trace_every=2,
        traces_per_step=2,
        on_rollouts=lambda step, traces: seen.extend(traces),
    )
    trainer.state.global_step = 2
    batch(trainer, charts)
    assert [sorted(trace.patches) for trace in seen] == [["student", "teacher"]] * 2 + [[]] * 2
    for trace in seen[:2]:
        for (grid,) in trace.patches.values():
            assert 0 < sum(abs(share) for row in grid for share in row) < 1


def test_loss_covers_what_the_model_wrote(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    trainer = scripted(tmp_path, model, processor, charts)
    output = batch(trainer, charts)
    learnt = (output["completion_mask"] * output["tool_mask"]).bool()
    decode = trainer.encoder.tokenizer.decode
    for row in range(4):
        first, second = four_ways(charts[0], row)
        text = decode(output["completion_ids"][row][learnt[row]], skip_special_tokens=True)
        assert text == first + second
        observed = output["completion_ids"][row][output["completion_mask"][row].bool() & ~learnt[row]]
        assert ("OBSERVATION" in decode(observed)) == bool(second)
        assert trainer.encoder.image_token_id not in output["completion_ids"][row][learnt[row]].tolist()


@pytest.mark.parametrize("what", ["edited", "original"])
def test_pictures_reach_the_log_probs(
    tmp_path: Path, model: Any, processor: Any, charts: list[Sample], what: str
) -> None:
    """Changing the edited picture changes turn 2's log-probs and not turn 1's; changing the original changes both."""
    trainer = scripted(tmp_path, model, processor, charts)
    output = batch(trainer, charts)
    row = 0
    patches = output["image_grid_thw"].prod(-1)
    assert output["num_images"] == [2, 2, 1, 1]

    def log_probs(pixels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            values, _, _ = trainer._get_per_token_logps_and_entropies(
                trainer.model,
                torch.cat([output["prompt_ids"], output["completion_ids"]], 1),
                torch.cat([output["prompt_mask"], output["completion_mask"]], 1),
                output["completion_ids"].size(1),
                pixel_values=pixels,
                image_grid_thw=output["image_grid_thw"],
                num_images=output["num_images"],
                mm_token_type_ids=output["mm_token_type_ids"],
            )
        return values[row]

    changed = output["pixel_values"].clone()
    start = 0 if what == "original" else int(patches[0])
    changed[start : start + int(patches[0])] *= -1
    difference = (log_probs(changed) - log_probs(output["pixel_values"])).abs()
    mask = output["completion_mask"][row].bool() & output["tool_mask"][row].bool()
    turn_1 = torch.zeros_like(mask)
    turn_1[: len(trainer._batch.rollouts[row].first.ids)] = True
    assert (difference[mask & ~turn_1] > 1e-6).any()
    assert (difference[mask & turn_1] > 1e-6).any() == (what == "original")


def test_batch_without_any_edit(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    """TRL would rebuild such a batch's pictures from its own rendering of the prompt; ours must be used."""
    trainer = scripted(tmp_path, model, processor, charts, script=lambda sample, index: ("FINAL ANSWER: 1.", ""))
    output = batch(trainer, charts)
    assert output["num_images"] == [1, 1, 1, 1]
    assert output["mm_token_type_ids"].shape[1] == output["prompt_ids"].shape[1] + output["completion_ids"].shape[1]
    trainer.train()


def test_three_steps_are_pinned(tmp_path: Path, model: Any, other_model: Any, processor: Any, charts: list) -> None:
    """A short run on scripted rollouts: its losses move only if rollouts, rewards, attribution or loss do."""
    # The reference policy is loaded from where the student came from.
    model.save_pretrained(tmp_path / "start")
    trainer = scripted(
        tmp_path,
        Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "start"),
        processor,
        charts,
        teacher=Policy(other_model, processor),
        penalty_weight=0.1,
        max_steps=3,
        beta=0.04,
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    divergences = [row["attribution/divergence"] for row in trainer.state.log_history if "loss" in row]
    assert losses == pytest.approx(PINNED_LOSSES, rel=2e-3, abs=2e-5)
    assert divergences == pytest.approx(PINNED_DIVERGENCES, rel=2e-3)


@pytest.mark.parametrize("qwen3_student", [False, True])
def test_teachers_of_the_other_family(
    tmp_path: Path,
    model: Any,
    processor: Any,
    qwen3_model: Any,
    qwen3_processor: Any,
    charts: list[Sample],
    qwen3_student: bool,
) -> None:
    policies = [Policy(model, processor), Policy(qwen3_model, qwen3_processor)]
    student, teacher = reversed(policies) if qwen3_student else policies
    trainer = scripted(
        tmp_path,
        student.model,
        student.processor,
        charts,
        teacher=Policy(copy.deepcopy(teacher.model), teacher.processor),
        penalty_weight=0.1,
        max_steps=2,
    )
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    divergences = [row["attribution/divergence"] for row in trainer.state.log_history if "loss" in row]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    # Three of four rollouts have an attribution, the last is at the worst value.
    assert all(0.25 * math.log(9) < divergence < math.log(9) for divergence in divergences)
    assert any((now != old).any() for now, old in zip(trainer.model.parameters(), before, strict=True))


def test_no_picture_token_is_ever_written(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    trainer = IAPOTrainer(
        copy.deepcopy(model),
        args=settings(tmp_path, max_turn_tokens=4),
        train_dataset=to_dataset(charts),
        processing_class=processor,
    )
    banned = trainer.encoder.unwritable_ids
    assert banned == [processor.image_token_id, processor.video_token_id]

    def prefer(_module: Any, _args: Any, logits: torch.Tensor) -> torch.Tensor:
        return logits.index_fill(-1, torch.tensor(banned), 100.0)

    trainer.model.lm_head.register_forward_hook(prefer)
    output = trainer._generate_and_score_completions(list(to_dataset(charts[:1])) * 4)
    written = output["completion_ids"]
    assert written.shape[1] >= 4
    assert not torch.isin(written, torch.tensor(banned)).any()


@pytest.mark.slow(3)
def test_zero_weight_is_plain_grpo_to_the_last_bit(
    tmp_path: Path, student: Policy, other_model: Any, charts: list[Sample]
) -> None:
    def trained(name: str, teacher: Policy | None) -> dict[str, torch.Tensor]:
        trainer = IAPOTrainer(
            copy.deepcopy(student.model),
            args=settings(
                tmp_path / name,
                max_steps=2,
                beta=0.01,
                always_measure=teacher is not None,
                per_device_train_batch_size=16,
            ),
            train_dataset=to_dataset(charts),
            processing_class=student.processor,
            teacher=teacher,
        )
        trainer.train()
        assert (trainer.alignment is not None) == (teacher is not None)
        return dict(trainer.model.state_dict())

    plain = trained("plain", None)
    measured = trained("measured", Policy(copy.deepcopy(student.model), student.processor))
    start = student.model.state_dict()
    assert any(not torch.equal(plain[name], start[name]) for name in plain)
    assert all(torch.equal(plain[name], measured[name]) for name in plain)


def test_sampled_rollouts_train(tmp_path: Path, student: Policy, charts: list[Sample]) -> None:
    """The packaged student calls tools; both turns and the metrics of a real step are there."""
    seen: list[Trace] = []
    trainer = IAPOTrainer(
        copy.deepcopy(student.model),
        args=settings(tmp_path, penalty_weight=0.1, per_device_train_batch_size=16),
        train_dataset=to_dataset(charts),
        processing_class=student.processor,
        teacher=Policy(copy.deepcopy(student.model), student.processor),
        on_rollouts=lambda step, traces: seen.extend(traces),
    )
    trainer.train()
    (row,) = [row for row in trainer.state.log_history if "loss" in row]
    assert sum(trace.result.status == "edited" for trace in seen) >= 12
    assert all(trace.turn_2 for trace in seen if trace.result.status == "edited")
    assert row["tools/call_ratio"] > 0.7
    assert {"time/rollout", "time/attribution", "time/update", "attribution/lambda"} <= row.keys()
    # Teacher and student are the same model here.
    called = [trace for trace in seen if trace.attribution]
    assert max(trace.scores["divergence"].value for trace in called) == 0.0


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"penalty_weight": 0.1}, "there is no teacher"),
        ({"penalty_weight": -1.0}, "give 0 to 1e\\+06"),
        ({"penalty_decay": -1.0}, "give 0 to 1e\\+06"),
        ({"always_measure": True}, "there is no teacher"),
    ],
)
def test_bad_settings_are_refused(
    tmp_path: Path, model: Any, processor: Any, charts: list[Sample], more: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        scripted(tmp_path, model, processor, charts, **more)


def test_foreign_data_set_is_refused(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    with pytest.raises(ValueError, match="no column 'sample'"):
        IAPOTrainer(
            model,
            args=settings(tmp_path),
            train_dataset=to_dataset(charts).remove_columns("sample"),
            processing_class=processor,
        )
    with pytest.raises(ValueError, match="own tool protocol"):
        IAPOTrainer(model, args=settings(tmp_path), processing_class=processor, rollout_func=print)


def test_group_shares_one_picture(charts: list[Sample]) -> None:
    rows = list(to_dataset(charts[:1])) * 3
    assert isinstance(rows[0]["image"], Image.Image)
    first, *rest = samples_of(rows)
    assert all(sample is first for sample in rest)
    assert first.to_json() == charts[0].to_json()


@pytest.mark.parametrize("hidden", [(), ("image_digest",)])
def test_rows_that_differ_in_the_image_alone_keep_their_own(charts: list[Sample], hidden: tuple[str, ...]) -> None:
    other = dataclasses.replace(charts[0], image=charts[1].image)
    rows = list(to_dataset([charts[0], other, charts[0]]).remove_columns(list(hidden)))
    first, second, third = samples_of(rows)
    assert first.image.tobytes() == charts[0].image.tobytes()
    assert second.image.tobytes() == charts[1].image.tobytes() != first.image.tobytes()
    assert third is first


def test_hash_of_a_data_set_is_that_of_its_samples(charts: list[Sample]) -> None:
    dataset = to_dataset(charts)
    assert dataset_hash(dataset) == data_hash(charts)
    assert dataset_hash(dataset.remove_columns("image_digest")) == data_hash(charts)
    assert dataset_hash(to_dataset(charts[::-1])) != data_hash(charts)


def test_function_named_as_a_component_is_refused(
    tmp_path: Path, model: Any, processor: Any, charts: list[Sample]
) -> None:
    def execution(trace: list[Trace], **columns: Any) -> list[float]:
        return [0.0 for _ in trace]

    with pytest.raises(InputError, match="are both 'execution'; rename the function"):
        IAPOTrainer(
            model,
            execution,
            args=settings(tmp_path, reward="torl"),
            train_dataset=to_dataset(charts),
            processing_class=processor,
        )
    assert not (tmp_path / "run").exists()


def test_too_few_samples_for_a_batch_are_refused(
    tmp_path: Path, model: Any, processor: Any, charts: list[Sample]
) -> None:
    """TRL's sampler drops what does not fill a batch, and a run of no step would end as if all were well."""
    args = settings(tmp_path, per_device_train_batch_size=16, num_generations=4)
    with pytest.raises(InputError, match=r"3 sample\(s\), one batch has 4 prompts"):
        IAPOTrainer(model, args=args, train_dataset=to_dataset(charts[:3]), processing_class=processor)
    # A copy: a trainer changes its model, which is the session's.
    own = copy.deepcopy(model)
    IAPOTrainer(own, args=args, train_dataset=to_dataset(charts), processing_class=processor)


def test_a_checkpoint_holds_no_password(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    """Transformers keeps the settings beside the weights."""
    trainer = scripted(tmp_path, model, processor, charts, judge_url="http://me:my-secret@host/v1")
    trainer.save_model(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "training_args.bin").exists()
    assert trainer.args.judge_url == "http://me:my-secret@host/v1"
    assert not [path for path in (tmp_path / "saved").rglob("*") if b"my-secret" in path.read_bytes()]


@pytest.mark.slow(2)
@pytest.mark.parametrize("adapter", [False, True])
def test_the_best_weights_are_found_again(
    tmp_path: Path, model: Any, processor: Any, charts: list[Sample], adapter: bool
) -> None:
    """Transformers looks for them by names that are not those of the file, and keeps the last ones."""
    more = {"peft_config": LoraConfig(r=2, target_modules=["q_proj"])} if adapter else {}
    trainer = IAPOTrainer(
        copy.deepcopy(model),
        args=settings(tmp_path),
        train_dataset=to_dataset(charts[:1]),
        processing_class=processor,
        keep_run=False,
        **more,
    )
    best = tmp_path / "checkpoint-1"
    trainer.save_model(str(best))
    wanted = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.5)
    trainer.state.best_model_checkpoint = str(best)
    trainer._load_best_model()
    assert all(torch.equal(value, wanted[name]) for name, value in trainer.model.state_dict().items())
