"""vLLM in this process: what it is given so that it reads and writes what Transformers would, and its `generate`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import torch
from PIL import Image
from transformers import ProcessorMixin

from iapo.errors import InputError, NumberError
from iapo.images import to_rgb
from iapo.rollout.budget import Budget, context_length, longest_sequence
from iapo.rollout.configuration import read_config
from iapo.rollout.files import first_line, optional_file
from iapo.rollout.fit import check_processor
from iapo.rollout.generation import NOT_FINITE
from iapo.rollout.generation_file import read_generation
from iapo.rollout.load_settings import LoadSettings, check_vllm
from iapo.rollout.loading import check_files
from iapo.rollout.names import ADAPTER
from iapo.rollout.policy import find_checkpoint, load_processor
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.template import PromptTemplate
from iapo.rollout.turns import Generate

NEVER = -100.0
"""Bias of a token that must not be written: the lowest that vLLM takes."""


CPU_CACHE = 2**31
"""Bytes of vLLM's cache on a CPU, where it would take a share of all memory, unless its own variable says otherwise."""


class VllmEngine:
    """A checkpoint in vLLM, which is loaded at the first use.

    Args:
        name: A packaged checkpoint, a local folder or a hub id.
        settings: Settings of its loading; type, revision and limits of images count, and vLLM chooses the device.
        prompt: Prompt template, as in `iapo.rollout.policy.load_policy`.
        sequence: Longest sequence in tokens; None is what the model takes.
        memory: Share of the device's memory that vLLM takes for weights and cache.

    Attributes:
        encoder: The checkpoint's encoder.
        context: Number of tokens that the model takes.

    Raises:
        InputError: If vLLM is missing, the checkpoint cannot be had, is an adapter, has another model's processor or
            files that do not fit its configuration, or a setting is not vLLM's.
    """

    def __init__(
        self,
        name: str,
        settings: LoadSettings | None = None,
        *,
        prompt: str | PromptTemplate | None = None,
        sequence: int | None = None,
        memory: float = 0.9,
    ) -> None:
        settings = settings or LoadSettings()
        check_vllm(settings)
        self._path, self._settings, self._memory = find_checkpoint(name, settings.model_revision), settings, memory
        refuse_adapter(self._path, settings.model_revision)
        self.encoder = PromptEncoder(load_processor(name, settings, prompt=prompt))
        config = read_config(self._path, settings.model_revision)
        check_processor(name, config, self.encoder.processor, self._path, settings.model_revision)
        check_files(self._path, settings)
        self.context = context_length(config)
        self._sequence = longest_sequence(sequence, self.context)
        self._llm: Any = None

    @property
    def llm(self) -> Any:
        """VLLM's own object."""
        if self._llm is None:
            # Its log has a hundred lines of what goes as it should.
            os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
            if on_cpu():
                # Processes of its own pay where a GPU is waited for.
                os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
            import vllm

            settings = self._settings
            options = engine_options(self.encoder.processor)
            # It wants an output with a file behind it.
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), telling_refusals():
                self._llm = vllm.LLM(
                    model=self._path,
                    revision=settings.model_revision,
                    tokenizer_revision=settings.model_revision,
                    dtype=_type_name(settings),
                    max_model_len=self._sequence,
                    gpu_memory_utilization=self._memory,
                    **options,
                )
        return self._llm

    def generator(self, *, max_new_tokens: int, temperature: float = 0.0, top_p: float = 1.0) -> Generate:
        """Makes a `generate` for `iapo.rollout.turns`, as `iapo.rollout.generation.make_generate` does.

        Args:
            max_new_tokens: Longest turn in tokens.
            temperature: 0 is greedy; else each row samples with a seed drawn from torch's global random numbers.
            top_p: Nucleus of the sampling.
        """
        ends = self._end_ids()
        # All of it is named, since what is left open would be a default of vLLM's.
        chosen = {
            "temperature": temperature,
            "top_p": top_p if temperature > 0 else 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "max_tokens": max_new_tokens,
            "stop_token_ids": ends,
            "logit_bias": bias_against(self.encoder.unwritable_ids),
            "detokenize": False,
            # Of what is sampled: they tell a model whose numbers are broken, of which vLLM writes the first token.
            "logprobs": 0,
        }

        def generate(rows: list[list[int]], images: list[list[Image.Image]]) -> list[list[int]]:
            from vllm import SamplingParams

            seeds = [None] * len(rows) if temperature == 0 else torch.randint(2**31, (len(rows),)).tolist()
            outputs = self.llm.generate(
                [self._request(row, shown) for row, shown in zip(rows, images, strict=True)],
                [SamplingParams(**chosen, seed=seed) for seed in seeds],
                use_tqdm=False,
            )
            check_prompts(rows, [one.prompt_token_ids for one in outputs])
            check_told((one.outputs[0].cumulative_logprob for one in outputs), self._path)
            return [list(one.outputs[0].token_ids) or ends[:1] for one in outputs]

        return generate

    def budget(self, turn: int, turns: int) -> Budget:
        """Returns the limits of rollouts with at most so many turns, each of at most so many tokens.

        Args:
            turn: Longest turn in tokens.
            turns: Most turns.
        """
        return Budget(turn, sequence=self._sequence, turns=turns)

    def _request(self, row: list[int], images: Sequence[Image.Image]) -> dict[str, Any]:
        ids = one_token_an_image(row, self.encoder.image_token_id)
        return {"prompt_token_ids": ids, "multi_modal_data": {"image": [to_rgb(image) for image in images]}}

    def _end_ids(self) -> list[int]:
        ends = {self.encoder.tokenizer.eos_token_id}
        generation = read_generation(self._path, self._settings.model_revision)
        if generation is not None:
            eos = generation.eos_token_id
            ends |= set(eos if isinstance(eos, list) else [eos])
        return sorted(ends - {None})


def refuse_adapter(path: str, revision: str | None = None) -> None:
    """Refuses the folder of an adapter, which vLLM would not load with its base.

    Raises:
        InputError: If it is one.
    """
    if optional_file(path, ADAPTER, revision) is not None:
        raise InputError(
            f"{path} is an adapter, and vLLM loads whole checkpoints; `iapo export {path} --output FOLDER` writes one"
        )


def engine_options(processor: ProcessorMixin) -> dict[str, Any]:
    """Returns arguments of `vllm.LLM` that make it see images as this processor does, and no more of them."""
    size = processor.image_processor.size
    limits = {"shortest_edge": size["shortest_edge"], "longest_edge": size["longest_edge"]}
    options: dict[str, Any] = {"mm_processor_kwargs": {"size": limits}, "limit_mm_per_prompt": {"video": 0}}
    if on_cpu():
        # Compiling takes minutes there.
        options["enforce_eager"] = True
        if "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
            options["kv_cache_memory_bytes"] = CPU_CACHE
    return options


@contextmanager
def telling_refusals() -> Iterator[None]:
    """Says in one sentence what vLLM refuses as it starts, such as too little memory.

    Raises:
        InputError: If it refuses.
    """
    try:
        yield
    except ValueError as error:
        raise InputError(f"vLLM does not start: {first_line(error)}") from error


def on_cpu() -> bool:
    """Says whether the vLLM that is installed generates on the CPU."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def bias_against(ids: Iterable[int]) -> dict[int, float]:
    """Returns the `logit_bias` that keeps tokens from being written."""
    return dict.fromkeys(ids, NEVER)


def one_token_an_image(row: Sequence[int], image_token: int) -> list[int]:
    """Returns a row of ids with each run of image tokens as one, which vLLM's own processor expands again.

    Two images never touch, since each stands between its marks.
    """
    return [
        token for place, token in enumerate(row) if token != image_token or place == 0 or row[place - 1] != image_token
    ]


def check_prompts(rows: Sequence[Sequence[int]], read: Sequence[Sequence[int]]) -> None:
    """Refuses to go on if vLLM read other prompts than it was given: what it wrote would not belong to them.

    Args:
        rows: The prompts, images as their tokens.
        read: What vLLM read.

    Raises:
        InputError: If a row differs.
    """
    for row, other in zip(rows, read, strict=True):
        if list(row) != list(other):
            raise InputError(
                f"vLLM reads a prompt of {len(row)} tokens as one of {len(other)}, so that it sees an image otherwise "
                "than this process does; have it load the same checkpoint, and leave out min_pixels and max_pixels"
            )


def check_told(log_probs: Iterable[float | None], name: str) -> None:
    """Refuses what a model wrote whose numbers are not finite.

    Args:
        log_probs: Log-probability of each text; None where nothing was written.
        name: Name of the model.

    Raises:
        NumberError: If one is NaN or infinite.
    """
    if not all(math.isfinite(one) for one in log_probs if one is not None):
        raise NumberError(NOT_FINITE.format(name=name))


def _type_name(settings: LoadSettings) -> str:
    """Returns the type of the weights, as a local model would have it on the same device."""
    if settings.dtype is not None:
        return settings.dtype
    return "float32" if on_cpu() else "bfloat16"


def merge_bias(given: Mapping[str, Any], ids: Iterable[int]) -> dict[str, Any]:
    """Returns generation settings of a user's with the bias against tokens added to theirs."""
    return {**given, "logit_bias": {**(given.get("logit_bias") or {}), **bias_against(ids)}}
