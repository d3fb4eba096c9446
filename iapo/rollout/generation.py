"""Plain Transformers generation as the `generate` of a rollout, for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from iapo.errors import NumberError
from iapo.models import bare_model, put_in_place
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import Generate

NOT_FINITE = (
    "the model {name} gives logits that are not finite; its weights are damaged, or overflow in their type "
    "(bfloat16 or float32 do not)"
)
"""What is said of a model with such numbers."""


@dataclass(frozen=True, slots=True)
class Greedy:
    """The rules of a greedy turn, as `make_generate` has them, for what runs a model by itself.

    Attributes:
        limit: Longest turn in tokens.
        ends: Tokens that end a turn.
        unwritable: Tokens that are never written.
        name: Name of the model, for messages.
    """

    limit: int
    ends: frozenset[int]
    unwritable: tuple[int, ...]
    name: str

    @classmethod
    def of(cls, policy: Policy, encoder: PromptEncoder, limit: int) -> Greedy:
        """Returns the rules for a policy."""
        eos = policy.model.generation_config.eos_token_id
        ends = {*(eos if isinstance(eos, list) else [eos]), encoder.tokenizer.eos_token_id} - {None}
        name = str(getattr(policy.model, "name_or_path", "") or type(policy.model).__name__)
        return cls(limit, frozenset(ends), tuple(encoder.unwritable_ids), name)

    def pick(self, logits: Tensor) -> Tensor:
        """Returns the next token of each row, shape (N,), of its logits, shape (N, V).

        Raises:
            NumberError: If a row has no finite largest logit.
        """
        logits[:, list(self.unwritable)] = -torch.inf
        check_finite(logits, self.name)
        return logits.argmax(-1)

    def cut(self, turn: list[int]) -> list[int]:
        """Returns a turn up to the token that ends it."""
        return turn[: next((index + 1 for index, token in enumerate(turn) if token in self.ends), len(turn))]


def check_finite(scores: Tensor, name: str) -> None:
    """Refuses logits that are NaN or infinite: the most likely token of such a row is chance, and looks like an answer.

    Args:
        scores: Logits, shape (N, V); -inf is what may not be written.
        name: Name of the model.

    Raises:
        NumberError: If a row has no finite largest score.
    """
    if not bool(torch.isfinite(scores.amax(-1)).all()):
        raise NumberError(NOT_FINITE.format(name=name))


class _Finite(LogitsProcessor):
    """Refuses logits that are not finite.

    Args:
        name: Name of the model.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Returns the scores as they are; `generate` calls it for each token.

        Raises:
            NumberError: If a row has no finite largest score.
        """
        check_finite(scores, self.name)
        return scores


@contextmanager
def own_precision(model: Any) -> Iterator[None]:
    """Runs a model in the type of its weights: without the autocast that Accelerate puts round its forward pass when a
    training begins, so that what is measured before, meanwhile and after it is measured alike.
    """
    original, wrapped = vars(model).get("_original_forward"), vars(model).get("forward")
    if original is None or wrapped is None:
        yield
        return
    with put_in_place(model, "forward", original):
        yield


@contextmanager
def tokens_alone(model: Any) -> Iterator[None]:
    """Has a model generate without the settings of its checkpoint's `generation_config.json`, from which Transformers
    takes whatever it is not told; only the tokens that end, fill up and begin a turn stay the checkpoint's.

    Args:
        model: The model, also with PEFT's wrapper; its settings are as they were afterwards, and are saved with it.
    """
    model = bare_model(model)
    named = {name: getattr(model.generation_config, name) for name in _TOKENS}
    with put_in_place(model, "generation_config", GenerationConfig(**named)):
        yield


_TOKENS = ("eos_token_id", "pad_token_id", "bos_token_id")


def make_generate(
    policy: Policy,
    encoder: PromptEncoder,
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    streamer: BaseStreamer | None = None,
) -> Generate:
    """Makes a `generate` for `iapo.rollout.turns`.

    Args:
        policy: The model; used as it is, in evaluation mode for the time of the call.
        encoder: Its encoder.
        max_new_tokens: Longest turn in tokens.
        temperature: 0 is greedy; else sampling, from torch's global random numbers.
        top_p: Nucleus of the sampling.
        streamer: Takes the tokens as they come (Transformers'), of one row alone.
    """
    model, tokenizer = policy.model, encoder.tokenizer
    rules = Greedy.of(policy, encoder, max_new_tokens)
    # All of it is named, since what is left open is top-50 sampling.
    sampling = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(rules.ends),
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=list(rules.unwritable),
        disable_compile=True,
        **sampling,
    )

    finite = _Finite(rules.name)

    def generate(rows: list[list[int]], images: list[list[Image.Image]]) -> list[list[int]]:
        length = max(len(row) for row in rows)
        ids = torch.full((len(rows), length), tokenizer.pad_token_id)
        mask = torch.zeros(len(rows), length, dtype=torch.long)
        for index, row in enumerate(rows):
            ids[index, length - len(row) :] = torch.tensor(row)
            mask[index, length - len(row) :] = 1
        inputs = {
            "input_ids": ids,
            "attention_mask": mask,
            "mm_token_type_ids": ((ids == encoder.image_token_id) & (mask == 1)).long(),
            **encoder.pixels([image for row in images for image in row]),
        }
        training = model.training
        model.eval()
        try:
            with torch.inference_mode(), own_precision(model), tokens_alone(model):
                output = model.generate(
                    **{name: value.to(model.device) for name, value in inputs.items()},
                    generation_config=config,
                    logits_processor=LogitsProcessorList([finite]),
                    # Beside a training with ZeRO-3, Transformers would wait for other processes at each token.
                    synced_gpus=False,
                    streamer=streamer,
                )
        finally:
            model.train(training)
        return [rules.cut(row) for row in output[:, length:].tolist()]

    return generate
