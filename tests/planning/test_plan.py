"""Plans: known numbers of published models, what each setting changes, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from iapo.attribution.memory import token_cost
from iapo.cli.main import main
from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.planning import report as report_module
from iapo.planning.attributing import attribution_bytes
from iapo.planning.given import Given, declared_default, read_given
from iapo.planning.loaded import student_of, weight_bytes
from iapo.planning.plan import GIB, Plan
from iapo.planning.report import Report, make_report
from iapo.planning.shapes import LANGUAGE_MODEL, shape_of
from iapo.planning.workload import workload_of
from iapo.rollout.policy import load_policy, load_processor
from iapo.rollout.prompt import PromptEncoder, build_blocks
from iapo.training.config import IAPOConfig

LONG = {"per_device_train_batch_size": 8, "num_generations": 8, "max_completion_length": 1024, "max_turn_tokens": 200}


def report_of(model: str, memory: float = 80, gpus: int = 1, sharding: str = "none", **settings: Any) -> Report:
    given = Given({"model": model, "penalty_weight": 0.1, **LONG, **settings})
    return make_report(given, memory=memory, gpus=gpus, sharding=sharding, size=(850, 600), text_tokens=263)


def parts(plan: Plan, phase: str) -> dict[str, float]:
    return {name: size / GIB for name, size in plan.phases[phase].items()}


def test_shapes_of_published_models(three: str, seven: str) -> None:
    shape = shape_of(three)
    assert (shape.parameters, shape.tied) == (3_754_622_976, True)
    assert shape.file_dtype == torch.bfloat16
    assert shape_of(seven).parameters == 8_292_166_656
    assert not shape_of(seven).tied


@pytest.mark.parametrize("name", ["tiny-student", "tiny-teacher"])
def test_shapes_of_packaged_models(name: str) -> None:
    model = load_policy(name).model
    shape = shape_of(name)
    assert shape.parameters == model.num_parameters()
    assert shape.vision == sum(one.numel() for one in model.model.visual.parameters())
    assert shape.head == model.lm_head.weight.numel()


def test_what_lies_in_memory_the_whole_time(three: str, seven: str) -> None:
    """In fp32: 14 GiB of weights, as much of gradients and for the reference, twice that of states, 31 of teacher."""
    plan = report_of(three, teacher=seven, beta=0.01, dtype="float32", teacher_dtype="float32").plan
    found = parts(plan, "optimiser step")
    expected = {"weights": 13.99, "reference": 13.99, "teacher": 30.89, "optimiser": 27.97, "gradients": 13.99}
    for name, size in expected.items():
        assert found[name] == pytest.approx(size, abs=0.01), name
    assert not plan.fits
    assert plan.peak > 101 * GIB
    # Without them set, weights are in half precision on a GPU.
    half = report_of(three, teacher=seven, beta=0.01).plan
    assert parts(half, "load")["weights"] == pytest.approx(13.99 / 2, abs=0.01)
    assert parts(half, "load")["teacher"] == pytest.approx(30.89 / 2, abs=0.01)


def test_no_reference_no_teacher(three: str, seven: str) -> None:
    plan = report_of(three, teacher=seven, beta=0.0, teacher_table="t.parquet").plan
    assert not {"reference", "teacher"} & set(plan.phases["load"])
    assert "attribution" in plan.phases["attribution"]
    plan = report_of(three, reward="grpo", teacher=None).plan
    assert "attribution" not in plan.phases["attribution"]


def test_an_adapter_is_counted_as_peft_counts_it(model: PreTrainedModel) -> None:
    shape = shape_of("tiny-student")
    for targets in (None, "all-linear", ["q_proj", "v_proj"], r".*\.mlp\..*_proj"):
        fresh = load_policy("tiny-student").model
        # PEFT's `all-linear` reaches the vision tower as well.
        adapted = get_peft_model(fresh, LoraConfig(r=4, target_modules=LANGUAGE_MODEL if targets is None else targets))
        expected = sum(one.numel() for one in adapted.parameters() if one.requires_grad)
        given = Given({"use_peft": True, "lora_r": 4, "lora_target_modules": targets, "dtype": "bfloat16"})
        found = student_of(given, shape, "cuda")
        assert found.trainable == expected, targets
        assert found.weights == 2 * shape.parameters + 4 * expected
        assert (found.gradients, found.states) == (4 * expected, 8 * expected)


def test_frozen_vision_tower(three: str) -> None:
    shape = shape_of(three)
    found = student_of(Given({"freeze_vision_tower": True, "dtype": "float32"}), shape, "cuda")
    assert found.trainable == shape.parameters - shape.vision
    assert not found.trains_vision


def test_quantised_weights(three: str) -> None:
    shape = shape_of(three)
    linear = sum(one.parameters for one in shape.linears)
    assert linear == pytest.approx(3.4e9, rel=0.03)
    rest = 2 * (shape.parameters - linear)
    assert weight_bytes(Given({"load_in_8bit": True}), shape, "", 2) == linear + rest
    assert weight_bytes(Given({"load_in_4bit": True}), shape, "", 2) == int(linear * 0.5625) + rest
    nested = Given({"teacher_load_in_4bit": True, "teacher_use_bnb_nested_quant": True})
    assert int(linear * 0.5) < weight_bytes(nested, shape, "teacher_", 2) - rest < int(linear * 0.5625)


def test_optimisers(three: str) -> None:
    shape = shape_of(three)
    states = {
        name: student_of(Given({"optim": name, "dtype": "float32"}), shape, "cuda").states / shape.parameters
        for name in ("adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd", "lion_32bit")
    }
    assert list(states.values()) == [8, 2, 0, 0, 0, 4]


@pytest.mark.slow(1)
def test_splitting_over_gpus(three: str, seven: str) -> None:
    settings = {"teacher": seven, "beta": 0.01, "dtype": "float32", "gpus": 4}
    whole = parts(report_of(three, **settings).plan, "loss and backward")
    half = parts(report_of(three, sharding="zero2", **settings).plan, "loss and backward")
    full = parts(report_of(three, sharding="zero3", **settings).plan, "loss and backward")
    # Mixed precision with DeepSpeed: 2 bytes of weights and gradients, 12 of states and the copy of the weights.
    size = 3_754_622_976 / GIB
    assert half["weights"] == pytest.approx(2 * size, abs=0.01)
    assert full["weights"] == pytest.approx(2 * size / 4, abs=0.01)
    assert half["optimiser"] == full["optimiser"] == pytest.approx(12 * size / 4, abs=0.01)
    assert full["teacher"] == whole["teacher"]
    # Without splitting, every process has buckets of gradients to send as well.
    assert whole["gradients"] == pytest.approx(8 * size, abs=0.01)
    with pytest.raises(InputError, match="give gpus 2 or more"):
        report_of(three, sharding="zero3")


@pytest.mark.slow(1)
def test_what_is_whole_while_calls_are_attributed(three: str, seven: str) -> None:
    """The student under ZeRO-3, as in rollouts, and a teacher that is kept in shards else."""
    settings = {"teacher": seven, "dtype": "float32", "gpus": 4, "sharding": "zero3"}
    kept = report_of(three, **settings).plan
    split = report_of(three, teacher_shards=True, **settings).plan
    for plan in (kept, split):
        # 2 bytes a weight, of which a quarter is there anyway.
        gathered = parts(plan, "attribution")["gathered weights"]
        assert gathered == parts(plan, "rollout")["gathered weights"] == pytest.approx(2 * 3_754_622_976 * 0.75 / GIB)
    # Rows share their prompts under whatever sharding.
    alone = report_of(three, teacher=seven, dtype="float32", gpus=4)
    assert report_of(three, **settings).steps == alone.steps
    for phase in ("rollout", "loss and backward", "optimiser step"):
        assert parts(split, phase)["teacher"] == pytest.approx(parts(kept, phase)["teacher"] / 4)
    assert parts(split, "attribution")["teacher"] == parts(kept, "attribution")["teacher"]


def test_activations_follow_the_tokens(three: str) -> None:
    def activations(**settings: Any) -> float:
        return parts(report_of(three, **settings).plan, "loss and backward")["activations"]

    assert activations(gradient_checkpointing=False) > 3 * activations()
    # Rows that do not share their prompt run it again each.
    assert activations(share_prefix=False, gradient_checkpointing=False) > 1.4 * activations(
        gradient_checkpointing=False
    )
    assert activations(max_completion_length=4096, max_turn_tokens=4096) > 2 * activations()


def test_attribution_follows_its_setting(three: str) -> None:
    def attribution(**settings: Any) -> float:
        return parts(report_of(three, **settings).plan, "attribution")["attribution"]

    assert attribution(attribution_tokens=1200) < attribution(attribution_tokens=2500) <= attribution()
    plan = report_of(three, attribution_tokens=1).plan
    assert plan.phases["attribution"]["attribution"] == pytest.approx(plan.least, rel=0.01)


def test_prompts_are_counted_with_the_tokenizer(samples: Any) -> None:
    given = Given({"model": "tiny-student", **LONG, "families": ["vbar"], "picture_size": 168})
    load = workload_of(given, shape_of("tiny-student"), 1)
    encoder = PromptEncoder(load_processor("tiny-student"))
    image = samples[0].image.resize((168, 168))
    assert load.image == encoder.image_token_counts([image])[0]
    assert load.blocks == len(build_blocks(samples[0]))
    assert load.prompt - load.image == pytest.approx(len(encoder.encode(build_blocks(samples[0])).ids) - 16, abs=8)


def test_a_longer_prompt_has_a_longer_question(three: str) -> None:
    """Template, tools and image stay as they are; a prompt shorter than these is shorter in all of its texts."""
    given = Given({"model": "tiny-student", **LONG, "families": ["vbar"], "picture_size": 168})
    shape = shape_of("tiny-student")
    known = workload_of(given, shape, 1)
    longer, shorter = (workload_of(given, shape, 1, text_tokens=count) for count in (900, 40))
    assert (longer.prompt, shorter.prompt) == (900 + known.image, 40 + known.image)
    grown = [place for place in range(known.blocks) if longer.block_of.count(place) != known.block_of.count(place)]
    assert grown == [known.blocks - 1]
    assert list(longer.block_of) == sorted(longer.block_of)
    assert {
        place for place in range(known.blocks) if shorter.block_of.count(place) > known.block_of.count(place)
    } == set()


def test_several_images_and_cells(three: str) -> None:
    """A prompt with more images is as much longer, with a tokenizer and without; cells are blocks of their own."""
    student = read_given("demo-iapo")
    for given, shape in (
        (Given({"model": three, **LONG, "data": "x"}), shape_of(three)),
        (student, shape_of("tiny-student")),
    ):
        one, two = (workload_of(given, shape, 1, images=count) for count in (1, 2))
        # Marks, and a line on the images.
        assert one.image <= two.prompt - one.prompt < one.image + 120
        assert (two.images, two.blocks) == (2, one.blocks + 1)
        assert workload_of(given, shape, 1, images=2, text_tokens=900).prompt == 900 + 2 * one.image
        cut = workload_of(given.replace(attribution_image_cells=3), shape, 1, images=2)
        assert (cut.prompt, cut.blocks) == (two.prompt, two.blocks + 2 * 8)
        assert set(cut.block_of) == set(range(cut.blocks))
        (image,) = (place for place in range(one.blocks) if one.block_of.count(place) >= one.image)
        cells = [cut.block_of.count(place) for place in range(image, image + 9)]
        assert sum(cells) == two.block_of.count(image)
        assert min(cells) > 0
    (chart,) = generate("vbar", 1, seed=0)
    chart = dataclasses.replace(chart, more_images=(chart.image,))
    known = workload_of(student, shape_of("tiny-student"), 1, images=2)
    encoder = PromptEncoder(load_processor("tiny-student"))
    assert known.prompt == pytest.approx(len(encoder.encode(build_blocks(chart)).ids), abs=8)
    given = Given({"model": three, "penalty_weight": 0.1, **LONG})
    few, many = (make_report(given, memory=80, size=(850, 600), images=images).plan for images in (1, 4))
    assert sum(many.phases["rollout"].values()) > sum(few.phases["rollout"].values())
    assert many.peak > few.peak


def test_prompts_without_a_tokenizer(three: str) -> None:
    given = Given({"model": three, **LONG, "data": "x"})
    load = workload_of(given, shape_of(three), 1)
    # 850 x 600 pixels are 30 x 21 tokens of 28 x 28.
    assert load.image == 630
    assert workload_of(given.replace(max_pixels=262_144), shape_of(three), 1).image <= 262_144 // 28**2
    assert workload_of(given, shape_of(three), 1, text_tokens=4222).prompt == pytest.approx(4222 + 630, abs=10)
    with pytest.raises(InputError, match="12 rollouts are generated at once"):
        workload_of(given.replace(per_device_train_batch_size=12), shape_of(three), 1)


def test_splitting_is_read_from_deepspeed() -> None:
    assert read_given("qwen2.5-vl/chart/iapo-live,qwen2.5-vl/8x40-3b").sharding == "zero2"
    assert read_given("qwen2.5-vl/chart/teacher,qwen2.5-vl/8x40-7b").sharding == "zero3"
    assert read_given("qwen2.5-vl/chart/teacher,qwen2.5-vl/1x80-7b").sharding == "none"


def test_a_processor_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many changes are tried; each tokenizer of a published model takes seconds."""
    loaded: list[str] = []

    def load(name: str, settings: Any) -> Any:
        loaded.append(name)
        return load_processor(name, settings)

    monkeypatch.setattr(report_module, "load_processor", load)
    report = report_of("tiny-student", memory=0.01)
    assert len(report.alone) > 4
    assert loaded == ["tiny-student"]


def test_advice_is_a_plan_of_its_own(three: str, seven: str) -> None:
    settings = {"teacher": seven, "beta": 0.01, "dtype": "float32", "teacher_dtype": "float32"}
    report = report_of(three, **settings)
    assert len(report.alone) >= 6
    assert all(option.plan.peak < report.plan.peak for option in report.alone)
    assert report.together is not None
    assert report.together.plan.fits
    merged = dict(settings)
    for change in report.together.changes:
        merged |= dict.fromkeys(change.remove) | dict(change.settings)
    again = report_of(three, sharding=report.together.plan.sharding, **merged).plan
    assert again.peak == report.together.plan.peak
    # What takes most is what helps most: the attribution of 32-bit models cannot be had for less than its weights.
    assert report_of(three, memory=4, **settings).together is None


def test_defaults_are_those_of_the_trainer(tmp_path: Path) -> None:
    config = IAPOConfig(str(tmp_path / "run"), use_cpu=True, bf16=False)
    for name in ("num_generations", "max_completion_length", "beta", "gradient_checkpointing", "share_prefix"):
        assert declared_default(name) == getattr(config, name), name
    for name in ("per_device_train_batch_size", "gradient_accumulation_steps", "attribution_batch_size"):
        assert declared_default(name) == getattr(config, name), name


def test_the_verb(three: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.json"
    words = ["plan", "--config", "demo-iapo", "--model", three, "--teacher", "tiny-teacher", "--json", str(path)]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--memory", "20", "--image", "850x600", "--per-device-train-batch-size", "8"])
    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert "3,755 M parameters" in output
    assert "It does not fit" in output
    numbers = json.loads(path.read_text())
    assert not numbers["fits"]
    assert numbers["peak"] == max(sum(phase.values()) for phase in numbers["phases"].values())
    assert numbers["tokens"]["image"] == 630
    assert numbers["step"]["rollouts"] == 8
    assert any(one["settings"].get("optim") == "adamw_8bit" for one in numbers["changes"])


def test_packaged_configurations_have_a_plan() -> None:
    report = make_report(read_given("demo-iapo"), memory=2, device="cpu")
    assert report.plan.fits
    assert report.steps["rollouts"] == 128


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"model": "gone/folder/x"}, "no checkpoint 'gone/folder/x'"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size is 0"),
        ({"dtype": "float7"}, "dtype is 'float7'"),
        ({"optim": "adamw_8bits"}, "no optimiser of Transformers; did you mean adamw_8bit?"),
        ({"use_peft": True, "lora_target_modules": ["q_proj", "nothing"]}, "'nothing', which is no linear layer"),
        ({"use_peft": True, "lora_target_modules": "no.*thing"}, "no linear layer"),
    ],
)
def test_refusals(three: str, change: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        report_of(**{"model": three, **change})


def test_other_families_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(InputError, match="llama"):
        shape_of(str(tmp_path))


def test_rows_of_their_own_have_logits_of_their_prompts(three: str) -> None:
    """TRL scores whole rows, and leaves out the prompts' afterwards."""
    load = workload_of(Given({"model": three, **LONG, "data": "x"}), shape_of(three), 1)
    assert load.scored(True) == 8 * (load.completion - load.image)
    assert load.scored(False) == 8 * (load.completion + load.prompt)


def test_observations_are_counted_by_their_template(three: str) -> None:
    """Longer words between the turns are more tokens, of the tokenizer or, without one, of the text."""
    given = Given({"model": "tiny-student", **LONG, "families": ["vbar"], "picture_size": 112})
    load = workload_of(given, shape_of("tiny-student"), 1)
    assert load.completion == 2 * 200 + load.image + load.observation
    text = {
        name: workload_of(given.replace(model=three, prompt=name), shape_of(three), 1) for name in ("tiny", "tools")
    }
    assert text["tools"].observation > text["tiny"].observation


def test_adapters_have_their_outputs_beside_the_layers(three: str) -> None:
    """In fp32 and added up there: what passes through a layer is larger."""
    shape = shape_of(three)
    settings = {"use_peft": True, "dtype": "bfloat16"}
    found = student_of(Given(settings), shape, "cuda")
    assert (found.adding("cuda"), found.adding("cpu")) == (8, 12)
    assert student_of(Given({**settings, "dtype": "float32"}), shape, "cpu").adding("cpu") == 8
    assert not student_of(Given({**settings, "lora_target_modules": ["q_proj"]}), shape, "cuda").adapts_mlp
    rollouts = [
        parts(report_of(three, **settings, **more).plan, "rollout")["activations"]
        for more in ({}, {"lora_target_modules": ["q_proj"]})
    ]
    assert rollouts[0] > 1.1 * rollouts[1]


def test_few_calls_have_graphs_of_their_own(three: str) -> None:
    """Where little is shared, each sequence is run whole, so that its tokens count as often as it has calls."""
    shape = shape_of(three)
    given = Given({"model": three, **LONG, "data": "x"})

    def taken(prompt: int, calls: int) -> int:
        load = workload_of(given, shape, 1, size=(56, 56), text_tokens=prompt)
        return attribution_bytes(shape, 4, load, batch=calls, tokens=100_000, left=0)[0]

    cost = token_cost(shape.text, 4)
    # 3 prompts of 104 tokens would be saved, which is no use; 3 of 604 are.
    whole = taken(100, 4) - taken(100, 1)
    assert whole == pytest.approx(3 * (104 + 200) * cost.graph, rel=0.15)
    assert taken(600, 4) - taken(600, 1) < 2 * (604 + 200) * cost.graph


def test_adapters_keep_their_inputs(three: str) -> None:
    """In fp32, with what dropout left of them; an adapter of fewer layers keeps less."""
    settings = {"use_peft": True, "dtype": "bfloat16", "gradient_checkpointing": False}
    every = parts(report_of(three, **settings).plan, "loss and backward")["activations"]
    some = parts(report_of(three, lora_target_modules=["q_proj"], **settings).plan, "loss and backward")["activations"]
    assert every > some
    shape = shape_of(three)
    found = student_of(Given(settings), shape, "cpu")
    assert found.adapted == 5 * 2048 + 2048 + 11008
    assert found.mask("cpu") == 4
    assert student_of(Given({**settings, "lora_dropout": 0.0}), shape, "cpu").mask("cpu") == 0


@pytest.mark.slow(1)
def test_more_turns_take_more_images_and_longer_prompts_of_calls(three: str, seven: str) -> None:
    two, five = (report_of(three, teacher=seven, max_turns=turns, prompt="tools-turns") for turns in (2, 5))
    one, other = two.plan.load, five.plan.load
    assert one.explained == one.block_of
    assert other.observation > one.observation, "that another program may be written"
    observed = one.image + other.observation
    assert other.completion == min(1024, 5 * 200) + 4 * observed
    assert len(other.explained) == one.prompt + 3 * (200 + observed)
    assert max(other.explained) + 1 == one.blocks + 3 * 3
    # The calls of turns 2 to 4 are explained on what precedes them in their own rows.
    later = sum(one.prompt + turn * (200 + observed) + 200 for turn in (1, 2, 3))
    assert five.steps["attributed"] - two.steps["attributed"] == 8 * later
    held = [
        parts(
            report_of(three, prompt="tools-turns", max_turns=5, attribution_tokens=100_000, **more).plan, "attribution"
        )
        for more in ({"attribution_batch_size": 1}, {"attribution_batch_size": 8})
    ]
    assert held[1]["attribution"] > 7 * held[0]["attribution"]
    for phase in two.plan.phases:
        assert sum(five.plan.phases[phase].values()) >= sum(two.plan.phases[phase].values())
    with pytest.raises(InputError, match="max_turns is 9; give 2 to 8"):
        report_of(three, max_turns=9)
    with pytest.raises(InputError, match="worded for two turns"):
        report_of(three, max_turns=3)
