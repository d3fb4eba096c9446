"""The alignment reward: how far the student's attribution of its tool call is from the teacher's.

See docs/method.md, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from iapo.attribution.divergence import Normalization, block_distribution, kl_divergence, worst_divergence
from iapo.attribution.gradient import CallInput, Pictures, block_scores
from iapo.policy import Policy
from iapo.prompt import EncodedPrompt, PromptEncoder
from iapo.rollout import Rollout, encode_prompts
from iapo.tools import TOOLS, ToolDefinition

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class AttributionSettings:
    """How calls are attributed and compared.

    Attributes:
        target: Whose log-probability is explained: the program's tokens (`call`) or all of turn 1 (`turn`).
        normalization: How block scores become a distribution.
        eps: Weight of the uniform distribution in it.
        steps: 1 is gradient x embedding; more are midpoints of the integrated path.
        no_call: The divergence of a rollout without an attribution; None is the worst value, `log m`.
        batch_size: Calls in one forward pass.
    """

    target: Literal["call", "turn"] = "call"
    normalization: Normalization = "magnitude"
    eps: float = 0.01
    steps: int = 1
    no_call: float | None = None
    batch_size: int = 32


@dataclass(frozen=True, slots=True)
class Measured:
    """The attribution of one rollout.

    Attributes:
        divergence: `KL(student || teacher)` in nats, or the value for a rollout without attribution.
        student: Block distribution by block name; empty without attribution.
        teacher: The same of the teacher, explaining the student's call.
    """

    divergence: float
    student: Mapping[str, float]
    teacher: Mapping[str, float]


class Alignment:
    """Measures rollouts against a live, frozen teacher that explains the student's own calls.

    Args:
        teacher: The teacher; it is put into evaluation mode and its parameters are frozen.
        encoder: The student's encoder.
        settings: How attributions are computed and compared.
        tools: The offered tools.
    """

    def __init__(
        self,
        teacher: Policy,
        encoder: PromptEncoder,
        settings: AttributionSettings | None = None,
        tools: Mapping[str, ToolDefinition] = TOOLS,
    ) -> None:
        self.teacher = teacher.model.eval().requires_grad_(False)
        self.teacher_encoder = PromptEncoder(teacher.processor)
        self.encoder = encoder
        self.settings = settings or AttributionSettings()
        self.tools = tools
        # With one vocabulary the teacher reads the very tokens that the student sampled.
        self._same_tokens = encoder.tokenizer.get_vocab() == self.teacher_encoder.tokenizer.get_vocab()

    def measure(self, student: PreTrainedModel, rollouts: Sequence[Rollout]) -> list[Measured]:
        """Attributes each rollout's call by student and teacher.

        A rollout that called nothing, or whose program is not in the allowed language, has no attribution and gets
        `settings.no_call`: were it 0, not calling a tool would please the teacher best.

        Args:
            student: The student as it is now, unwrapped.
            rollouts: The batch.
        """
        attributed = [index for index, one in enumerate(rollouts) if one.trace.result.status in ("edited", "failed")]
        chosen = [rollouts[index] for index in attributed]
        measured = [Measured(self._without(one.prompt.block_names), {}, {}) for one in rollouts]
        if not chosen:
            return measured
        p = self._distributions(student, self.encoder, chosen, [one.prompt for one in chosen], own=True)
        prompts = encode_prompts([one.trace.sample for one in chosen], self.teacher_encoder, self.tools)
        q = self._distributions(self.teacher, self.teacher_encoder, chosen, prompts, own=self._same_tokens)
        for index, p_row, q_row, d in zip(
            attributed, p.tolist(), q.tolist(), kl_divergence(p, q).tolist(), strict=True
        ):
            names = rollouts[index].prompt.block_names
            measured[index] = Measured(d, dict(zip(names, p_row, strict=True)), dict(zip(names, q_row, strict=True)))
        return measured

    def _without(self, names: tuple[str, ...]) -> float:
        return worst_divergence(len(names)) if self.settings.no_call is None else self.settings.no_call

    def _distributions(
        self,
        model: PreTrainedModel,
        encoder: PromptEncoder,
        rollouts: Sequence[Rollout],
        prompts: Sequence[EncodedPrompt],
        *,
        own: bool,
    ) -> Tensor:
        turns = [self._turn(one, encoder, own=own) for one in rollouts]
        # The same call after the same words to the same prompt is scored once.
        keys = [(id(one.prompt), tuple(ids), tuple(target)) for one, (ids, target) in zip(rollouts, turns, strict=True)]
        distinct = {key: index for index, key in reversed(list(enumerate(keys)))}
        order = list(distinct)
        rows: list[Tensor] = []
        for start in range(0, len(order), self.settings.batch_size):
            some = [distinct[key] for key in order[start : start + self.settings.batch_size]]
            rows.append(self._scores(model, encoder, [prompts[i] for i in some], [turns[i] for i in some]))
        scores = torch.cat(rows)
        place = {key: row for row, key in enumerate(order)}
        scores = scores[[place[key] for key in keys]]
        return block_distribution(scores, self.settings.normalization, self.settings.eps).cpu()

    def _turn(self, one: Rollout, encoder: PromptEncoder, *, own: bool) -> tuple[list[int], list[bool]]:
        """The first turn in a model's tokens up to the last one scored, and which are scored."""
        if own:
            ids, target = one.first.ids, one.first.target
        else:
            span = one.trace.result.span
            assert span is not None
            # Nothing that a model wrote may turn into a control token of another model.
            encoding = encoder.tokenizer(
                one.first.text, return_offsets_mapping=True, add_special_tokens=False, split_special_tokens=True
            )
            ids = encoding["input_ids"]
            target = [end > span[0] and start < span[1] and end > start for start, end in encoding["offset_mapping"]]
        if self.settings.target == "turn":
            target = [True] * len(ids)
        last = max(index for index, scored in enumerate(target) if scored)
        return list(ids[: last + 1]), list(target[: last + 1])

    def _scores(
        self,
        model: PreTrainedModel,
        encoder: PromptEncoder,
        prompts: Sequence[EncodedPrompt],
        turns: Sequence[tuple[list[int], list[bool]]],
    ) -> Tensor:
        # Rollouts of a group share their picture object.
        pictures = {id(prompt.images[0]): prompt.images[0] for prompt in prompts}
        place = {key: index for index, key in enumerate(pictures)}
        pixels = encoder.pixels(list(pictures.values()))
        calls = [
            CallInput(
                prompt_ids=prompt.ids,
                block_of=prompt.block_of,
                blocks=len(prompt.block_names),
                turn_ids=ids,
                target=target,
                picture=place[id(prompt.images[0])],
            )
            for prompt, (ids, target) in zip(prompts, turns, strict=True)
        ]
        grouped = Pictures(pixels["pixel_values"], pixels["image_grid_thw"])
        return block_scores(model, calls, grouped, self.settings.steps)
