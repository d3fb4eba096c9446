"""Rollouts with vLLM, as far as they can be tested without it: what it is given and what becomes of its answers."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from processes import iapo_here, run_ranks
from trl.generation.vllm_generation import VLLMGeneration

from iapo.data.synthetic import generate
from iapo.errors import InputError, NumberError
from iapo.models import features_of_images
from iapo.rollout.policy import ImageTextProcessor, load_policy
from iapo.rollout.prompt import PromptEncoder, build_blocks
from iapo.rollout.vllm_engine import VllmEngine, check_prompts, check_told, merge_bias, one_token_an_image
from iapo.training.shared_prefix import add_shared_prefix
from iapo.training.vllm_rollouts import RolloutEngine, check_server, say_dropout, vllm_for_rollouts

without_vllm = pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")


def test_each_image_is_one_token(encoder: PromptEncoder) -> None:
    sample = next(iter(generate("vbar", 1, seed=3)))
    ids, image = encoder.encode(build_blocks(sample)).ids, encoder.image_token_id
    both = [*ids, 300, 301, *ids]
    short = one_token_an_image(both, image)
    assert short.count(image) == 2
    assert both.count(image) > 2
    assert [token for token in short if token != image] == [token for token in both if token != image]
    assert one_token_an_image([image, image, 1], image) == [image, 1]
    assert one_token_an_image([1, image], image) == [1, image]
    assert one_token_an_image([], image) == []


def test_a_prompt_that_is_read_otherwise_is_refused() -> None:
    check_prompts([[1, 2], [3]], [(1, 2), [3]])
    with pytest.raises(InputError, match="2 tokens as one of 3"):
        check_prompts([[1, 2]], [[1, 1, 2]])


def test_a_users_own_bias_stays() -> None:
    given = {"seed": 3, "logit_bias": {5: 1.0, 7: 2.0}}
    assert merge_bias(given, [7, 8]) == {"seed": 3, "logit_bias": {5: 1.0, 7: -100.0, 8: -100.0}}
    assert given["logit_bias"] == {5: 1.0, 7: 2.0}


class Engine(RolloutEngine):
    """One without vLLM: turn texts are given."""

    def __init__(self, encoder: PromptEncoder, mode: str = "colocate", processes: int = 1) -> None:
        self.encoder, self.mode, self.tensor_parallel_size = encoder, mode, 1
        self.accelerator = SimpleNamespace(num_processes=processes)


@pytest.mark.parametrize("mode", ["colocate", "server"])
def test_rows_go_in_as_each_mode_reads_them(encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """In this process vLLM expands images itself, the server does not; both are shown images in RGB."""
    row = [1, *[encoder.image_token_id] * 4, 2]
    seen: list[Any] = []

    def generate(self: Any, prompts: Any, images: Any, *_: Any) -> Any:
        seen.append((prompts, images))
        # The second writes nothing at all.
        return [row, row], [[9, 8], []], [[[-0.5], [-0.25]], []], [[[9], [8]], []]

    monkeypatch.setattr(VLLMGeneration, "generate", generate)
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    read, written, log_probs, tokens = Engine(encoder, mode).generate([row, row], [[clear], [clear]], 1)
    ((prompts, images),) = seen
    assert prompts == [one_token_an_image(row, encoder.image_token_id) if mode == "colocate" else row] * 2
    assert images[0][0] is images[1][0]
    assert (images[0][0].mode, images[0][0].getpixel((0, 0))) == ("RGB", (255, 255, 255))
    end = encoder.tokenizer.eos_token_id
    assert (read, written, tokens) == ([row, row], [[9, 8], [end]], [[[9], [8]], [[end]]])
    assert log_probs[0] == [[-0.5], [-0.25]]
    assert math.isnan(log_probs[1][0][0])


def test_images_that_vllm_sees_otherwise_end_the_run(encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    row = [1, *[encoder.image_token_id] * 4, 2]
    monkeypatch.setattr(VLLMGeneration, "generate", lambda *_: ([[*row[:-2], 2]], [[9]], [[[-0.5]]], [[[9]]]))
    with pytest.raises(InputError, match="6 tokens as one of 5"):
        Engine(encoder).generate([row], [[Image.new("RGB", (8, 8))]], 1)


def test_ranks_of_a_server_get_their_own_turns() -> None:
    """Two processes with rows in other rounds than each other: nobody waits, nobody gets another's."""
    assert run_ranks(Path(__file__).with_name("vllm_ranks.py")) == ["own rows\n"] * 2


@pytest.mark.parametrize("info", [{"model_config": {"logprobs_mode": "raw_logprobs"}}, {"model_config": {}}, {}])
def test_a_server_with_other_log_probabilities_is_refused(info: dict[str, Any]) -> None:
    check_server({"model_config": {"logprobs_mode": "processed_logprobs"}})
    with pytest.raises(InputError, match="--logprobs-mode processed_logprobs"):
        check_server(info)


@without_vllm
def test_missing_vllm_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="vLLM is not installed"):
        VllmEngine("tiny-student")
    done = iapo_here("evaluate", "--model", "tiny-student", "--vllm", "--out", tmp_path / "run")
    assert (done.returncode, "vLLM is not installed" in done.stderr) == (2, True)
    words = ("--config", "demo-grpo", "--output_dir", tmp_path / "run", "--use_vllm", "true", "--use_cpu", "true")
    done = iapo_here("train", *words)
    assert (done.returncode, "vLLM is not installed" in done.stderr) == (2, True)
    assert not (tmp_path / "run").exists()


def test_two_ways_to_generate_are_refused(tmp_path: Path) -> None:
    words = ("--model", "m", "--vllm", "--endpoint", "http://localhost:1", "--out", tmp_path / "run")
    done = iapo_here("evaluate", *words)
    assert (done.returncode, "two ways to generate" in done.stderr) == (2, True)


def test_a_model_without_a_checkpoint_is_refused(monkeypatch: pytest.MonkeyPatch, model: Any, encoder: Any) -> None:
    """It is loaded by its name."""
    monkeypatch.setattr("iapo.training.vllm_rollouts.check_vllm", lambda: None)
    args: Any = SimpleNamespace(use_vllm=True, vllm_mode="colocate")
    with pytest.raises(InputError, match="no folder or hub id"), vllm_for_rollouts(args, model, encoder):
        pass


def test_a_pass_that_sees_no_image_is_an_error(monkeypatch: pytest.MonkeyPatch, processor: ImageTextProcessor) -> None:
    """As where Transformers took features by an argument that older releases pass over in silence."""
    from iapo.training.packing import pack

    policy = load_policy("tiny-student")
    encoder, backbone = PromptEncoder(policy.processor), policy.model.model
    original = type(backbone).forward

    def blind(self: Any, *args: Any, pixel_values: Any = None, **kwargs: Any) -> Any:
        return original(self, *args, **kwargs)

    monkeypatch.setattr(type(backbone), "forward", blind)
    add_shared_prefix(policy.model)
    sample = next(iter(generate("vbar", 1, seed=3)))
    ids = torch.tensor([[*encoder.encode(build_blocks(sample)).ids, 7]])
    packed = pack(
        backbone,
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == encoder.image_token_id).long(),
        picture_ids=torch.tensor([[0]]),
        completion=1,
        **encoder.pixels([sample.image]),
    )
    inputs = {name: value for name, value in packed.inputs.items() if name != "shift_labels"}
    with pytest.raises(RuntimeError, match="saw no image"):
        backbone(**inputs)
    assert "get_image_features" not in vars(backbone)


@pytest.mark.parametrize("whole", [True, False])
def test_deepstack_features_have_one_form(qwen3_model: Any, whole: bool) -> None:
    """One tensor of all images a layer, as in Transformers 5.17, or one an image."""
    backbone = qwen3_model.model
    pixels, grid = torch.rand(32 + 16, 3 * 2 * 16 * 16), torch.tensor([[1, 4, 8], [1, 4, 4]])
    expected = features_of_images(backbone, pixels, grid)
    seen = backbone.get_image_features(pixels, grid, return_dict=True)
    layers = [torch.cat(list(one)) if not isinstance(one, torch.Tensor) else one for one in seen.deepstack_features]
    seen.deepstack_features = layers if whole else [list(one.split([8, 4])) for one in layers]
    stand_in: Any = SimpleNamespace(config=backbone.config, get_image_features=lambda *_, **__: seen)
    found = features_of_images(stand_in, pixels, grid)
    assert [[one.shape for one in level] for level in found] == [[(8, 64), (4, 64)]] * 3
    for level, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.cat(level), torch.cat(wanted))


@pytest.mark.parametrize(("rates", "said"), [((0.0,), False), ((0.0, 0.05), True)])
def test_dropout_that_vllm_does_not_know_is_told(
    caplog: pytest.LogCaptureFixture, rates: tuple[float, ...], said: bool
) -> None:
    say_dropout(torch.nn.Sequential(*map(torch.nn.Dropout, rates)))
    assert ("A dropout of 0.05 acts in the trainer's passes" in caplog.text) == said


def test_what_a_broken_model_wrote_is_refused() -> None:
    check_told([-3.0, None, 0.0], "student")
    for value in (float("nan"), float("-inf")):
        with pytest.raises(NumberError, match="the model student gives logits that are not finite"):
            check_told([-3.0, value], "student")


@pytest.mark.parametrize(
    ("processes", "given", "together"),
    [
        (1, {"enable_sleep_mode": True}, False),
        (2, {}, False),
        # Each generation begins with weights that all gather.
        (2, {"enable_sleep_mode": True}, True),
        (2, {"tensor_parallel_size": 2}, True),
        (2, {"mode": "server"}, True),
    ],
)
def test_which_processes_generate_together(processes: int, given: dict[str, Any], together: bool) -> None:
    engine: Any = object.__new__(RolloutEngine)
    engine.accelerator = SimpleNamespace(num_processes=processes)
    usual = {"mode": "colocate", "tensor_parallel_size": 1, "enable_sleep_mode": False}
    for name, value in {**usual, **given}.items():
        setattr(engine, name, value)
    assert engine.together is together
