"""Running once what rows share gives the loss and the gradient of running every row whole."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from scripted import four_ways, gradient_of, loss_and_gradient, relative, scored, scripted
from transformers import PreTrainedModel, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from iapo.data.synthetic import generate
from iapo.models import bare_model
from iapo.records import Sample
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import encode_prompts
from iapo.training.batches import picture_ids, to_dataset
from iapo.training.packing import pack
from iapo.training.shared_prefix import add_shared_prefix

LOSSES = ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"]


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    """Pictures of three sizes, on both axes."""
    return [
        next(iter(generate(family, 1, seed=6, size=size, question_types=("value",))))
        for family, size in (("vbar", 112), ("vbar", 168), ("hbar", 140))
    ]


@pytest.fixture(scope="module")
def two(charts: list[Sample]) -> list[Sample]:
    """Two of them, of other sizes and axes."""
    return charts[::2]


def make_qwen3(tokenizer: Any) -> PreTrainedModel:
    """An untrained Qwen3-VL with fewer key than query heads, whose pictures enter its first two layers."""
    ids = {token: tokenizer.convert_tokens_to_ids(f"<|{token}|>") for token in ("image_pad", "video_pad", "im_end")}
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]},
            "initializer_range": 0.125,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": ids["im_end"],
            "bos_token_id": None,
        },
        vision_config={
            "depth": 3,
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_heads": 2,
            "out_hidden_size": 64,
            "patch_size": 14,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
            "initializer_range": 0.125,
        },
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    made = Qwen3VLForConditionalGeneration(config).eval()
    made.generation_config.eos_token_id = ids["im_end"]
    made.generation_config.pad_token_id = tokenizer.pad_token_id
    return made


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def either(request: Any, model: Any, processor: Any) -> PreTrainedModel:
    """An untrained model of each family."""
    made: PreTrainedModel = model if request.param == "qwen2_5_vl" else make_qwen3(processor.tokenizer)
    assert made.config.model_type == request.param
    return made


def duplicated(sample: Sample, index: int) -> tuple[str, str]:
    """In a group of four: the same call with two answers, the same rollout twice, and a failed call."""
    first, right = four_ways(sample, 0)
    return (
        (first, right),
        (first, "FINAL ANSWER: 0. TERMINATE"),
        (first, right),
        four_ways(sample, 2),
    )[index]


@pytest.fixture(scope="module")
def ways(
    either: Any, processor: Any, two: list[Sample], tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Any, dict[str, Any]]]:
    """A trainer that runs every row whole and two that share, each with the same rollouts."""
    found = []
    for share, checkpointing in ((False, False), (True, False), (True, True)):
        trainer = scripted(
            tmp_path_factory.mktemp("way"),
            either,
            processor,
            two,
            script=duplicated,
            share_prefix=share,
            entropy_coef=0.01,
            gradient_checkpointing=checkpointing,
        )
        assert trainer._shares == share
        found.append((trainer, scored(trainer, two)))
    return found


@pytest.mark.parametrize("loss_type", LOSSES)
def test_every_loss_has_the_plain_gradient(ways: list[tuple[Any, dict[str, Any]]], loss_type: str) -> None:
    """Which loss it is has its say where the loss is computed, and nowhere before."""
    found = []
    for trainer, output in ways:
        trainer.loss_type = loss_type
        trainer.importance_sampling_level = "sequence" if loss_type == "luspo" else "token"
        found.append(gradient_of(trainer, output))
    plain, plain_gradient = found[0]
    for shared, shared_gradient in found[1:]:
        assert shared.item() == pytest.approx(plain.item(), rel=1e-5, abs=1e-6)
        assert relative(plain_gradient, shared_gradient) < 1e-5


@pytest.fixture(scope="module")
def plain_gradient(
    either: Any, processor: Any, charts: list[Sample], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, torch.Tensor]:
    """Of rows that are all run whole."""
    folder = tmp_path_factory.mktemp("plain")
    trainer = scripted(folder, either, processor, charts, script=duplicated, share_prefix=False)
    return loss_and_gradient(trainer, charts)[1]


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_recomputes_each_layer(
    tmp_path: Path,
    either: Any,
    processor: Any,
    charts: list[Sample],
    plain_gradient: dict[str, torch.Tensor],
    reentrant: bool,
) -> None:
    trainer = scripted(
        tmp_path,
        either,
        processor,
        charts,
        script=duplicated,
        gradient_checkpointing=True,
    )
    # As Transformers' trainer does from these arguments when training starts.
    trainer.args.gradient_checkpointing_kwargs = {"use_reentrant": reentrant}
    trainer.model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    calls: list[int] = []
    layers = trainer.model.model.language_model.layers
    for number, layer in enumerate(layers):
        layer.mlp.register_forward_pre_hook(lambda *_, number=number: calls.append(number))
    _, gradient = loss_and_gradient(trainer, charts)
    # Generation is written by hand; the old log-probabilities, the loss, and its recomputation from the last layer on.
    forward = list(range(len(layers)))
    assert calls == forward + forward + forward[::-1]
    assert relative(plain_gradient, gradient) < 1e-5


def never_calls(sample: Sample, index: int) -> tuple[str, str]:
    """Two right answers and two wrong ones, without a tool."""
    return f"FINAL ANSWER: {sample.answers[0] if index < 2 else index * 11}. TERMINATE", ""


@pytest.mark.parametrize("script", [four_ways, never_calls])
def test_calls_and_no_calls_together(
    tmp_path: Path, either: Any, processor: Any, charts: list[Sample], script: Any
) -> None:
    found = [
        loss_and_gradient(
            scripted(tmp_path / str(share), either, processor, charts, script=script, share_prefix=share), charts
        )
        for share in (False, True)
    ]
    assert relative(found[0][1], found[1][1]) < 1e-5


@pytest.mark.slow(1)
@pytest.mark.parametrize(
    "more",
    [
        {},
        # With a task PEFT's wrapper names arguments that the model was not given.
        {"task_type": "CAUSAL_LM"},
        {"task_type": "CAUSAL_LM", "use_dora": True},
        {"task_type": "CAUSAL_LM", "modules_to_save": ["merger"]},
    ],
)
def test_peft_has_the_plain_gradient(
    tmp_path: Path, either: Any, processor: Any, two: list[Sample], more: dict[str, Any]
) -> None:
    found = []
    for share, checkpointing in ((False, False), (True, False), (True, True)):
        torch.manual_seed(0)
        trainer = scripted(
            tmp_path / f"{share}-{checkpointing}",
            either,
            processor,
            two,
            script=duplicated,
            share_prefix=share,
            beta=0.02,
            peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, **more),
            gradient_checkpointing=checkpointing,
        )
        assert trainer._shares == share
        found.append(loss_and_gradient(trainer, two))
    plain, plain_gradient = found[0]
    assert all("lora" in name or "modules_to_save" in name for name in plain_gradient)
    for shared, shared_gradient in found[1:]:
        assert plain.item() == pytest.approx(shared.item(), rel=1e-5)
        assert relative(plain_gradient, shared_gradient) < 1e-5


@pytest.mark.slow(1)
def test_a_reference_model_scores_packed_rows(tmp_path: Path, student: Any, charts: list[Sample]) -> None:
    """With a penalty towards the reference policy, which is another model here, and no adapter's base."""
    found = []
    for share in (False, True):
        trainer = scripted(
            tmp_path / str(share),
            student.model,
            student.processor,
            charts,
            script=duplicated,
            share_prefix=share,
            beta=0.5,
        )
        # Apart from the student, so that the penalty has a gradient.
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in trainer.ref_model.parameters():
                parameter += 0.01 * torch.randn_like(parameter)
        found.append(loss_and_gradient(trainer, charts))
    assert found[0][0].item() == pytest.approx(found[1][0].item(), rel=1e-5)
    assert relative(found[0][1], found[1][1]) < 1e-5


def test_a_compiled_reference_model_runs_packed_rows(
    tmp_path: Path, student: Any, charts: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL compiles it when the trainer is made; the first pass, which takes seconds, is not run here."""
    # Transformers tells Accelerate by the environment, which would hold for all that follows.
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "no")
    monkeypatch.setenv("ACCELERATE_DYNAMO_MODE", "default")
    compiled = {"torch_compile": True, "torch_compile_backend": "eager"}
    trainer = scripted(tmp_path, student.model, student.processor, charts, beta=0.5, **compiled)
    assert type(trainer.ref_model).__name__ == "OptimizedModule"
    assert trainer._shares
    assert trainer.ref_model._orig_mod.model.shares_prefix


def test_bf16_stays_close(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    found = [
        loss_and_gradient(
            scripted(tmp_path / str(share), model, processor, charts, script=duplicated, share_prefix=share, bf16=True),
            charts[:1],
        )
        for share in (False, True)
    ]
    assert relative(found[0][1], found[1][1]) < 0.05


def second_turns(sample: Sample, index: int) -> tuple[str, str]:
    """Three right rollouts that differ in their answers alone, and one with another call."""
    first, right = four_ways(sample, int(index == 3))
    return first, (right, "FINAL ANSWER: 0. TERMINATE", "FINAL ANSWER: 11. TERMINATE", right)[index]


@pytest.mark.parametrize("script", [second_turns, duplicated, four_ways])
def test_each_thing_runs_once(
    tmp_path: Path,
    either: Any,
    processor: Any,
    charts: list[Sample],
    script: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A token runs once for all rows that are the same up to it and its next; a picture's once for each call."""
    monkeypatch.setattr("iapo.training.packing.MIN_SAVED", 1)
    trainer = scripted(tmp_path, either, processor, charts, script=script)
    backbone = trainer.model.model
    rows = [row for row in to_dataset(charts) for _ in range(4)]
    output = trainer._generate_and_score_completions(rows)
    shapes: list[tuple[int, ...]] = []
    ids: list[torch.Tensor] = []
    pictures: list[int] = []
    for layer in backbone.language_model.layers:
        layer.mlp.register_forward_hook(lambda _, given, __: shapes.append(tuple(given[0].shape[:2])))
    backbone.get_input_embeddings().register_forward_hook(lambda _, given, __: ids.append(given[0]))
    features = backbone.get_image_features

    def counted(pixels: Any, grid: Any, **kwargs: Any) -> Any:
        pictures.append(len(grid))
        return features(pixels, grid, **kwargs)

    backbone.get_image_features = counted
    trainer.current_gradient_accumulation_steps = 1
    trainer.compute_loss(trainer.model, output)

    # By hand: all beginnings of all rows, with the pictures that stand in them.
    token = backbone.config.image_token_id
    mask = torch.cat([output["prompt_mask"], output["completion_mask"]], 1).bool()
    whole = torch.cat([output["prompt_ids"], output["completion_ids"]], 1)
    beginnings, seen = set(), set()
    for rollout, row, real in zip(trainer._batch.rollouts, whole, mask, strict=True):
        tokens = row[real].tolist()
        digests = [image.tobytes() for image in rollout.images]
        for end in range(2, len(tokens) + 1):
            started = sum(1 for one, two in itertools.pairwise(tokens[:end]) if two == token != one)
            beginnings.add((tuple(tokens[:end]), tuple(digests[:started])))
        seen |= set(digests)
    assert shapes == [(1, len(beginnings))] * len(backbone.language_model.layers)
    assert int((ids[0] == token).sum()) == sum(one[-2] == token for one, _ in beginnings)
    assert pictures == [len(seen)]


def test_edited_pictures_run_once_for_each_call(
    tmp_path: Path, model: Any, processor: Any, charts: list[Sample]
) -> None:
    trainer = scripted(tmp_path, model, processor, charts[:1], script=second_turns)
    output = trainer._generate_and_score_completions([row for row in to_dataset(charts[:1]) for _ in range(4)])
    ids: list[torch.Tensor] = []
    trainer.model.model.get_input_embeddings().register_forward_hook(lambda _, given, __: ids.append(given[0]))
    trainer.current_gradient_accumulation_steps = 1
    trainer.compute_loss(trainer.model, output)
    tokens = 4 * 4
    assert int((output["prompt_ids"][0] == trainer.encoder.image_token_id).sum()) == tokens
    assert int((ids[0] == trainer.encoder.image_token_id).sum()) == (1 + 2) * tokens


def test_positions_are_the_models_own(tmp_path: Path, either: Any, processor: Any, charts: list[Sample]) -> None:
    trainer = scripted(tmp_path, either, processor, charts, script=duplicated)
    backbone = trainer.model.model
    output = trainer._generate_and_score_completions([row for row in to_dataset(charts) for _ in range(4)])
    inputs = {
        "input_ids": torch.cat([output["prompt_ids"], output["completion_ids"]], 1),
        "attention_mask": torch.cat([output["prompt_mask"], output["completion_mask"]], 1),
        "pixel_values": output["pixel_values"],
        "image_grid_thw": output["image_grid_thw"],
        "mm_token_type_ids": output["mm_token_type_ids"],
    }
    packed = pack(backbone, **inputs, picture_ids=output["picture_ids"], completion=output["completion_ids"].shape[1])
    kinds = inputs["mm_token_type_ids"]
    grid, mask = inputs["image_grid_thw"], inputs["attention_mask"]
    whole, deltas = backbone.get_rope_index(inputs["input_ids"], kinds, image_grid_thw=grid, attention_mask=mask)
    assert torch.equal(packed.deltas, deltas)
    for row, real in enumerate(mask.bool()):
        places = packed.inputs["shared"].rows[row, : int(real.sum()) - 1]
        assert torch.equal(packed.inputs["position_ids"][:, 0, places], whole[:, row, real][:, :-1])
        assert torch.equal(packed.inputs["input_ids"][0, places], inputs["input_ids"][row, real][:-1])


def test_other_models_are_refused() -> None:
    class Other:
        class config:  # noqa: N801 - stands for an attribute
            model_type = "gpt2"

    with pytest.raises(ValueError, match="no shared prefix: the model is a 'gpt2'"):
        add_shared_prefix(Other())  # type: ignore[arg-type]


def test_generation_continues_every_row_as_if_alone(either: Any, processor: Any, charts: list[Sample]) -> None:
    """Greedy turns from shared rows equal those from plain rows, for repeated prompts of different lengths."""
    model = copy.deepcopy(either)
    add_shared_prefix(model)
    encoder = PromptEncoder(processor)
    prompts = encode_prompts([charts[0], charts[1], charts[0], charts[2], charts[1]], encoder)
    length = max(len(prompt.ids) for prompt in prompts)
    ids = torch.full((len(prompts), length), encoder.tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt.ids) :] = torch.tensor(prompt.ids)
        mask[row, length - len(prompt.ids) :] = 1
    assert len({len(prompt.ids) for prompt in prompts}) == 3
    pictures = [list(prompt.images) for prompt in prompts]
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "mm_token_type_ids": (ids == encoder.image_token_id).long(),
        **encoder.pixels([image for row in pictures for image in row]),
        "max_new_tokens": 12,
        "do_sample": False,
        "output_scores": True,
        "return_dict_in_generate": True,
    }
    plain = model.generate(**inputs)
    shared = model.generate(**inputs, picture_ids=picture_ids(pictures))
    assert torch.equal(plain.sequences, shared.sequences)
    for first, second in zip(plain.scores, shared.scores, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)


def test_a_deep_copy_runs_its_own_weights(tmp_path: Path, either: Any, processor: Any, two: list[Sample]) -> None:
    """Also packed and in generation, though what was added to the model is a part of what is copied."""
    trainer = scripted(tmp_path / "one", either, processor, two)
    assert trainer._shares
    model = bare_model(trainer.accelerator.unwrap_model(trainer.model))
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in copied.model.language_model.parameters():
            parameter.mul_(0.5)
    assert copied.model.forward.__self__ is copied.model
    assert copied.generate.__self__ is copied
    trainers = [scripted(tmp_path / f"{share}", copied, processor, two, share_prefix=share) for share in (False, True)]
    (plain, _), (shared, _) = (loss_and_gradient(one, two) for one in trainers)
    assert shared.item() == pytest.approx(plain.item(), rel=1e-5, abs=1e-6)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        halved, own = (one.model(input_ids=ids).last_hidden_state for one in (copied, model))
        fresh = type(copied)(copied.config)
        fresh.load_state_dict(copied.state_dict())
        torch.testing.assert_close(halved, fresh.eval().model(input_ids=ids).last_hidden_state)
    assert (halved - own).abs().max() > 1e-3
