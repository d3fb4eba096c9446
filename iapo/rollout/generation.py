"""Plain Transformers generation as the `generate` of a rollout, for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from iapo.errors import NumberError
from iapo.models import put_in_place
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import Generate


class _Finite(LogitsProcessor):
    """Refuses logits that are NaN or infinite: the most likely token of such a row is chance, and looks like an answer.

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
        if not bool(torch.isfinite(scores.amax(-1)).all()):
            raise NumberError(
                f"the model {self.name} gives logits that are not finite; its weights are damaged, or overflow in "
                "their type (bfloat16 or float32 do not)"
            )
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
    eos = model.generation_config.eos_token_id
    ends = set(eos if isinstance(eos, list) else [eos]) | {tokenizer.eos_token_id}
    # All of it is named, since what is left open is taken from the checkpoint's own settings or is top-50 sampling.
    sampling = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(ends - {None}),
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=encoder.unwritable_ids,
        disable_compile=True,
        repetition_penalty=1.0,
        **sampling,
    )

    finite = _Finite(str(getattr(model, "name_or_path", "") or type(model).__name__))

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
            with torch.inference_mode(), own_precision(model):
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
        new = []
        for row in output[:, length:].tolist():
            end = next((index + 1 for index, token in enumerate(row) if token in ends), len(row))
            new.append(row[:end])
        return new

    return generate
