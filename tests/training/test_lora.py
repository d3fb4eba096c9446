"""Training adapters: every reward, the penalty's attribution, the packed loss, resuming, evaluating and exporting."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from endpoint_server import serve
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from scripted import scripted
from transformers import PreTrainedModel

from iapo.attribution.calls import Attributor
from iapo.attribution.settings import AttributionSettings
from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.evaluation.local import EvaluationSettings, evaluate
from iapo.records import Sample
from iapo.rollout.export import export
from iapo.rollout.load_settings import LoadSettings
from iapo.rollout.names import resolve
from iapo.rollout.policy import Policy, load_policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.template import find_prompt
from iapo.rollout.turns import encode_prompts
from iapo.runs import RunFolder
from iapo.studies.attribute_inputs import plan_of
from iapo.studies.folders import find_runs
from iapo.studies.misuse import policies, run_loading
from iapo.training.arguments import RunArguments
from iapo.training.config import IAPOConfig
from iapo.training.loaded import load_student, load_teacher, new_adapter, prepare_reference_policy
from iapo.training.run import run
from iapo.training.settings import compared_rewards, parse

TEACHERS = ("iapo", "distill", "iapo+distill")


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    return list(generate("vbar", 4, seed=11, question_types=("value",)))


@pytest.mark.parametrize(
    ("reward", "task_type"),
    [
        *((reward, "CAUSAL_LM") for reward in compared_rewards()),
        # PEFT's wrapper without a task is another one; a reward meets it where the teacher or the student is asked.
        ("grpo", None),
        ("iapo+distill", None),
    ],
)
def test_every_reward(
    tmp_path: Path,
    model: Any,
    other_model: Any,
    processor: Any,
    charts: list[Sample],
    reward: str,
    task_type: str | None,
) -> None:
    """With a penalty towards the reference policy, and recomputed activations."""
    with serve(lambda request: '{"score": 0.5}') as server:
        extras: dict[str, Any] = {"verifier": "v", "verifier_url": server.url} if reward == "trm" else {}
        if reward in TEACHERS:
            extras = {"teacher": Policy(other_model, processor), "penalty_weight": 0.1}
        trainer = scripted(
            tmp_path,
            model,
            processor,
            charts,
            max_steps=2,
            reward=reward,
            beta=0.02,
            gradient_checkpointing=True,
            peft_config=LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type=task_type),
            **extras,
        )
        before = {name: one.detach().clone() for name, one in trainer.model.named_parameters()}
        trainer.train()
    assert trainer._shares
    assert trainer.ref_model is None
    changed = {name for name, one in trainer.model.named_parameters() if not torch.equal(one, before[name])}
    assert changed == {name for name in before if "lora_" in name}
    rows = RunFolder(tmp_path / "run").read_metrics()
    assert (rows[1]["attribution/divergence"] is not None) == ("iapo" in reward.split("+"))


def adapted(model: PreTrainedModel, **more: Any) -> PeftModel:
    torch.manual_seed(4)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, **more)
    found = get_peft_model(copy.deepcopy(model), config)
    if more.get("use_dora"):
        # At their start they are the norms, so that nothing would tell them from none.
        with torch.no_grad():
            for name, one in found.named_parameters():
                if "magnitude" in name:
                    one.mul_(1 + 0.3 * torch.rand_like(one))
    return found.eval()


@pytest.mark.parametrize("more", [{"task_type": "CAUSAL_LM"}, {"use_rslora": True}, {"use_dora": True}])
@pytest.mark.parametrize("method", ["gradient", "integrated", "occlusion"])
def test_attribution_is_that_of_the_merged_model(
    family: str,
    model: Any,
    qwen3_model: Any,
    processor: Any,
    qwen3_processor: Any,
    samples: list[Sample],
    more: dict[str, Any],
    method: str,
) -> None:
    base, encoder = {
        "qwen2_5_vl": (model, PromptEncoder(processor)),
        "qwen3_vl": (qwen3_model, PromptEncoder(qwen3_processor)),
    }[family]
    wrapped = adapted(base, **more)
    prompts = encode_prompts(samples[:2], encoder)
    ids = encoder.tokenizer("display(focus_on_columns_with_mask(image_1))")["input_ids"]
    turns = [(ids, [True] * len(ids)), (ids[:-2], [False] + [True] * (len(ids) - 3))]
    settings = AttributionSettings(method=method, steps=3 if method == "integrated" else 1, normalization="softmax")

    def explained(one: Any) -> tuple[torch.Tensor, torch.Tensor]:
        attributor = Attributor(one, encoder.pixels, settings)
        calls, pictures = attributor.prepare(prompts, turns)
        scores = attributor.method.scores(attributor.model, calls, pictures, settings)
        return scores, attributor.distributions(prompts, turns)

    found, plain = explained(wrapped), explained(base)
    merged = explained(copy.deepcopy(wrapped).merge_and_unload())
    for one, other, before in zip(found, merged, plain, strict=True):
        scale = float(other.abs().max())
        assert (one - other).abs().max() < 2e-4 * scale
        assert (before - other).abs().max() > 1e-3 * scale


def words(folder: Path, **more: Any) -> tuple[RunArguments, Any]:
    """A short run of `iapo train` on an adapter, its answers sampled by the packaged student."""
    values = {
        "output_dir": str(folder),
        "use_peft": True,
        "lora_r": 4,
        "max_steps": 2,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "train_samples": 16,
        "eval_samples": 0,
        "case_study_steps": 0,
        "save_strategy": "steps",
        "save_steps": 1,
        "learning_rate": 1e-2,
        "use_cpu": True,
        "gradient_checkpointing": True,
        "disable_tqdm": True,
    }
    return parse("demo-iapo", values | more)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora") / "run"
    run(*words(folder), quiet=True)
    return folder


def answers(policy: Policy, samples: list[Sample]) -> torch.Tensor:
    encoder = PromptEncoder(policy.processor)
    (prompt,) = encode_prompts(samples[:1], encoder)
    ids = torch.tensor([prompt.ids])
    inputs = {
        "input_ids": ids,
        "mm_token_type_ids": (ids == encoder.image_token_id).long(),
        **encoder.pixels([samples[0].image]),
    }
    with torch.no_grad():
        found: torch.Tensor = policy.model.eval()(**inputs).logits
    return found


@pytest.mark.slow(3)
def test_a_run_is_saved_resumed_and_exported(trained: Path, tmp_path: Path, samples: list[Sample]) -> None:
    saved = load_file(trained / "policy/adapter_model.safetensors")
    assert all(name.startswith("base_model.model.model.language_model.") for name in saved)
    config = json.loads((trained / "policy/adapter_config.json").read_text())
    assert (config["r"], config["task_type"]) == (4, "CAUSAL_LM")
    policy = load_policy(str(trained / "policy"))
    assert (answers(policy, samples) - answers(load_policy("tiny-student"), samples)).abs().max() > 1e-3

    # Gone on with after the first step, it ends as it ended.
    resumed = tmp_path / "resumed"
    run(*words(resumed, resume_from_checkpoint=str(trained / "checkpoint-1")), quiet=True)
    again = load_file(resumed / "policy/adapter_model.safetensors")
    assert again.keys() == saved.keys()
    assert all(torch.allclose(again[name], saved[name], atol=1e-6) for name in saved)

    done = export(str(trained), tmp_path / "exported", "float32")
    assert done["base"].endswith("tiny-student")
    assert torch.equal(answers(load_policy(str(tmp_path / "exported")), samples), answers(policy, samples))
    # Under the published names, and beside it the published files.
    published = resolve("tiny-student")
    assert (
        load_file(tmp_path / "exported/model.safetensors").keys() == load_file(f"{published}/model.safetensors").keys()
    )
    names = {path.name for path in Path(published).iterdir()} - {"manifest.json", "README.md"}
    assert names <= {path.name for path in (tmp_path / "exported").iterdir()}
    assert json.loads((tmp_path / "exported/config.json").read_text())["dtype"] == "float32"
    assert export(str(trained / "policy"), tmp_path / "own")["dtype"] == "bfloat16"
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(InputError, match="already exists"):
        export(str(trained), tmp_path / "exported")


def test_what_is_exported(tmp_path: Path, student: Policy) -> None:
    """A whole policy is copied in the type that is asked for, its prompt beside it; what is no policy is refused."""
    for folder in (student.model, student.processor):
        folder.save_pretrained(tmp_path / "run/policy")
    find_prompt("tools").write(tmp_path / "run/policy")
    found = export(str(tmp_path / "run"), tmp_path / "out", "float16")
    assert (found["base"], found["dtype"]) == (None, "float16")
    assert {weight.dtype for weight in load_file(tmp_path / "out/model.safetensors").values()} == {torch.float16}
    assert load_policy(str(tmp_path / "out")).template == load_policy(str(tmp_path / "run/policy")).template
    assert load_policy(str(tmp_path / "out")).template.digest == find_prompt("tools").digest
    # A policy of an earlier version has its prompt in the run's folder alone.
    (tmp_path / "run/policy/prompt.yaml").rename(tmp_path / "run/prompt.yaml")
    export(str(tmp_path / "run"), tmp_path / "again")
    assert load_policy(str(tmp_path / "again")).template.digest == find_prompt("tools").digest
    (tmp_path / "begun/checkpoint-3").mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds no trained policy; its last checkpoint is .*checkpoint-3"):
        export(str(tmp_path / "begun"), tmp_path / "no")
    with torch.no_grad():
        student.model.lm_head.weight[0, 0] = torch.nan
    student.model.save_pretrained(tmp_path / "run/policy")
    with pytest.raises(InputError, match="holds NaN or infinity in the weight"):
        export(str(tmp_path / "run"), tmp_path / "no")
    assert not (tmp_path / "no").exists()


@pytest.mark.slow(1)
def test_an_adapter_is_trained_on(trained: Path, tmp_path: Path, samples: list[Sample]) -> None:
    """Its reference is the adapter's start, which is not saved with it."""
    start = load_file(trained / "policy/adapter_model.safetensors")
    with pytest.raises(InputError, match=r"lora_r is set, but .* is an adapter that is trained on"):
        run(*words(tmp_path / "no", model=str(trained / "policy")), quiet=True)
    assert not (tmp_path / "no").exists()
    run(*words(tmp_path / "on", model=str(trained / "policy"), lora_r=16, max_steps=1), quiet=True)
    after = load_file(tmp_path / "on/policy/adapter_model.safetensors")
    assert after.keys() == start.keys()
    assert any(not torch.equal(after[name], start[name]) for name in start)
    assert not (tmp_path / "on/policy/ref").exists()
    # Merged, by name there would be no reference but the base.
    with pytest.raises(InputError, match="no reference policy can be loaded; set use_peft"):
        run(*words(tmp_path / "full", model=str(trained / "policy"), use_peft=False, lora_r=16), quiet=True)


def test_modules(student: Policy) -> None:
    def adapter(**more: Any) -> set[str]:
        arguments = RunArguments(use_peft=True, **more)
        model = copy.deepcopy(student.model)
        config = new_adapter(arguments, model)
        assert config is not None
        wrapped = get_peft_model(model, config)
        names = {name for name, one in wrapped.named_parameters() if one.requires_grad}
        return {name.split(".lora_")[0].removeprefix("base_model.model.") for name in names}

    assert all(".language_model.layers." in name for name in adapter())
    assert len({name.rpartition(".")[2] for name in adapter()}) == 7
    assert any(".visual." in name for name in adapter(lora_target_modules="all-linear"))
    assert not any(".visual." in name for name in adapter(lora_target_modules="all-linear", freeze_vision_tower=True))
    assert {name.rpartition(".")[2] for name in adapter(lora_target_modules=["q_proj"])} == {"q_proj"}
    for names, message in (
        (["q_proj", "qq_proj"], "lora_target_modules names 'qq_proj', which is no module"),
        ("lm_head", "'lm_head', which is the output layer"),
        ("self_attn", "'self_attn', which is a Qwen2_5_VLAttention"),
        ("embed_tokens", "'embed_tokens', which is a Embedding"),
    ):
        with pytest.raises(InputError, match=message):
            adapter(lora_target_modules=names)
    # Layers of both parts are those of the one that is left.
    assert not any(".visual." in name for name in adapter(lora_target_modules=["up_proj"], freeze_vision_tower=True))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"lora_modules_to_save": ["merger"]},
            r"to_save names 'merger', which is model\.visual\.merger, and that freeze",
        ),
        ({"lora_modules_to_save": ["visual"]}, r"lora_modules_to_save names 'visual'"),
        (
            {"lora_target_modules": ["q_proj", "qkv"]},
            r"names 'qkv', which is .* that freeze_vision_tower leaves as it is",
        ),
        ({"lora_target_modules": r".*visual.*proj"}, r"names '\.\*visual\.\*proj', which is model\.visual"),
    ],
)
def test_what_is_named_and_to_be_left_as_it_is(student: Policy, given: dict[str, Any], message: str) -> None:
    assert new_adapter(RunArguments(use_peft=True, **given), student.model) is not None
    with pytest.raises(InputError, match=message):
        new_adapter(RunArguments(use_peft=True, freeze_vision_tower=True, **given), student.model)


def test_a_module_is_trained_whole_or_by_an_adapter(student: Policy) -> None:
    given = {"lora_target_modules": ["q_proj", "v_proj"], "lora_modules_to_save": ["q_proj"]}
    with pytest.raises(InputError, match=r"names 'q_proj', which is .*, and that lora_modules_to_save has whole"):
        new_adapter(RunArguments(use_peft=True, **given), student.model)


def test_a_pattern_of_both_parts_is_told_what_is_left(student: Policy, caplog: pytest.LogCaptureFixture) -> None:
    arguments = RunArguments(use_peft=True, freeze_vision_tower=True, lora_target_modules=r".*\.(q_proj|qkv)")
    new_adapter(arguments, student.model)
    assert "freeze_vision_tower leaves 2 modules without an adapter" in caplog.text


@pytest.mark.parametrize("start", ["pissa", "olora", True])
def test_the_start_of_an_adapter_that_changes_its_base_is_no_reference(model: Any, start: Any) -> None:
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=start)
    adapted = get_peft_model(copy.deepcopy(model), config)
    prepare_reference_policy(adapted, IAPOConfig("x", beta=0.0, bf16=False))
    if start is True:
        prepare_reference_policy(adapted, IAPOConfig("x", beta=0.1, bf16=False))
    else:
        with pytest.raises(InputError, match=f"an adapter of the init_lora_weights '{start}', which changes its base"):
            prepare_reference_policy(adapted, IAPOConfig("x", beta=0.1, bf16=False))


def test_the_vision_tower_is_left_as_it_is() -> None:
    policy = load_student(RunArguments(freeze_vision_tower=True), "tiny-student", torch.device("cpu"))
    frozen = {name for name, one in policy.model.named_parameters() if not one.requires_grad}
    assert frozen == {name for name, _ in policy.model.named_parameters() if name.startswith("model.visual.")}
    assert frozen


def test_full_training_in_bfloat16_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    load_student(RunArguments(dtype="bfloat16"), "tiny-student", torch.device("cpu"))
    assert "rounds small steps away" in caplog.text
    caplog.clear()
    load_student(RunArguments(dtype="bfloat16", use_peft=True), "tiny-student", torch.device("cpu"))
    assert not caplog.text


def test_a_merged_adapter_can_be_trained_whole(trained: Path) -> None:
    model = load_student(RunArguments(), str(trained / "policy"), torch.device("cpu")).model
    assert all(weight.requires_grad for weight in model.parameters())


def test_evaluation_runs_in_the_type_of_the_weights(
    tmp_path: Path, model: Any, processor: Any, charts: list[Sample]
) -> None:
    """Accelerate puts an autocast round the model when training begins: before and after would not be alike."""
    trainer = scripted(tmp_path, model, processor, charts, bf16=True)
    types: list[set[torch.dtype]] = [set()]
    projection = trainer.model.model.language_model.layers[0].self_attn.q_proj
    projection.register_forward_hook(lambda module, given, output: types[-1].add(output.dtype))
    policy = Policy(trainer.model, processor)

    def measured() -> set[torch.dtype]:
        types.append(set())
        evaluate(policy, charts[:1], EvaluationSettings(max_turn_tokens=4))
        return types[-1]

    before = measured()
    types.append(set())
    trainer.train()
    assert types[-1] == {torch.bfloat16}
    assert before == measured() == {torch.float32}
    # The training's own forward pass is as it was.
    types.append(set())
    trainer.compute_loss(trainer.model, trainer._prepare_inputs(next(iter(trainer.get_train_dataloader()))))
    assert types[-1] == {torch.bfloat16}


def test_the_types_of_all_models(tmp_path: Path, charts: list[Sample]) -> None:
    """The teacher's settings reach it, and it sees images as the student does."""
    arguments, settings = words(tmp_path, teacher_dtype="bfloat16", max_pixels=100 * 100)
    student = load_student(arguments, "tiny-student", settings.device)
    teacher = load_teacher("tiny-teacher", settings, student.processor, arguments.loading)
    assert (student.model.dtype, teacher.model.dtype) == (torch.float32, torch.bfloat16)
    assert dict(teacher.processor.image_processor.size) == dict(student.processor.image_processor.size)
    assert dict(student.processor.image_processor.size)["longest_edge"] == 100 * 100
    # Other patches have other limits, but for those that are asked for.
    other = load_teacher("tiny-qwen3-vl-teacher", settings, student.processor, arguments.loading)
    own = load_policy("tiny-qwen3-vl-teacher").processor.image_processor.size
    assert dict(other.processor.image_processor.size) == {**dict(own), "longest_edge": 100 * 100}
    with pytest.raises(InputError, match="teacher_max_pixels is 20000, but the student has 10000"):
        load_teacher("tiny-teacher", words(tmp_path, teacher_max_pixels=20_000)[1], student.processor)


@pytest.mark.parametrize("bits", ["load_in_4bit", "load_in_8bit"])
def test_an_adapter_on_quantised_weights(tmp_path: Path, samples: list[Sample], bits: str) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    run(*words(tmp_path / "run", **{bits: True}, save_strategy="no"), quiet=True)
    rows = RunFolder(tmp_path / "run").read_metrics()
    assert len(rows) == 2
    saved = load_file(tmp_path / "run/policy/adapter_model.safetensors")
    assert any(bool(weight.any()) for name, weight in saved.items() if "lora_B" in name)
    kept = load_policy(str(tmp_path / "run/policy"), LoadSettings(**{bits: True}))
    kinds = {type(one).__name__ for name, one in kept.model.named_modules() if "visual" in name}
    assert "Linear" in kinds
    assert not any("bit" in kind for kind in kinds)
    assert not isinstance(kept.model, PeftModel)
    assert not any(weight.requires_grad for weight in kept.model.parameters())
    # Close to the same adapter on the weights as they were before; also the gradients, after passes without any.
    whole = load_policy(str(tmp_path / "run/policy"))
    apart = (answers(kept, samples) - answers(whole, samples)).abs().mean() / answers(whole, samples).abs().mean()
    assert 0 < apart < 0.3
    encoder = PromptEncoder(whole.processor)
    ids = encoder.tokenizer("display(focus_on_columns_with_mask(image_1))")["input_ids"]
    prompts, turns = encode_prompts(samples[:2], encoder), [(ids, [True] * len(ids))] * 2
    found, wanted = (
        Attributor(one.model, encoder.pixels, AttributionSettings()).distributions(prompts, turns)
        for one in (kept, whole)
    )
    assert (found - wanted).abs().sum(-1).max() < (0.4 if bits == "load_in_4bit" else 0.1)


def test_a_run_is_measured_as_it_was_trained(trained: Path, tmp_path: Path) -> None:
    """Studies find an adapter's run, its policy, and how its models were loaded."""
    copied = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint-*"))
    (found,) = find_runs([str(copied)])
    assert policies(found) == {0: "tiny-student", 2: str(copied / "policy")}
    student, teacher = run_loading(found, {"teacher_dtype": "bfloat16", "max_pixels": 10_000})
    assert (student.dtype, student.max_pixels) == ("float32", 10_000)
    assert (teacher.dtype, teacher.max_pixels) == ("bfloat16", 10_000)
    plan = plan_of(copied, {}, {"dtype": "bfloat16"})
    assert (plan.model, plan.loading.dtype, plan.teacher_loading.dtype) == (
        str(copied / "policy"),
        "bfloat16",
        "float32",
    )
