"""The teacher explains the student's own calls, as the student wrote them (docs/method.md, section 4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from iapo.attribution.calls import Attributor, RowCache, Turn
from iapo.attribution.settings import AttributionSettings
from iapo.records import Grid
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import EncodedPrompt, PromptEncoder
from iapo.rollout.turns import Observed, Rollout, WrittenTurn, encode_prompts
from iapo.teachers.fingerprint import fingerprint, reading_of
from iapo.tools import TOOLS, ToolDefinition

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin


class StudentCall:
    """The live teacher explains the student's own calls; what it explained before, it remembers.

    Args:
        teacher: The teacher; it is put into evaluation mode and its parameters are frozen.
        encoder: The student's encoder.
        settings: Settings of the attribution.
        tools: The offered tools.
        cache: Cache of the teacher's rows; of the usual size if None.

    Attributes:
        teacher: The teacher.
        template: Template of the prompts, the student's.
        log_prob_floor: `-log V`, the log-probability of a guess among the teacher's V tokens.
    """

    per_sample = False

    def __init__(
        self,
        teacher: Policy,
        encoder: PromptEncoder,
        settings: AttributionSettings,
        tools: Mapping[str, ToolDefinition] = TOOLS,
        cache: RowCache | None = None,
    ) -> None:
        model = teacher.model.eval().requires_grad_(False)
        self.teacher, self.template = teacher, encoder.template
        # Of a teacher that reads just as the student does, prompts and images are the student's.
        self._reads_alike = read_alike(teacher.processor, encoder.processor)
        self.encoder = encoder if self._reads_alike else PromptEncoder(teacher.processor, self.template)
        self.tools = tools
        self.log_prob_floor = -math.log(len(self.encoder.tokenizer))
        self.cache = RowCache() if cache is None else cache
        self._attributor = Attributor(
            model,
            self.encoder.pixels,
            settings,
            self.cache,
            fingerprint(model, teacher.processor),
            tokenizer=self.encoder.tokenizer,
        )
        # With one vocabulary the teacher reads the very tokens that the student sampled.
        self._same_tokens = encoder.tokenizer.get_vocab() == self.encoder.tokenizer.get_vocab()

    @property
    def model(self) -> PreTrainedModel:
        """The frozen teacher."""
        return self._attributor.model

    def reads_otherwise(self, student: PromptEncoder) -> str | None:
        """Says why the teacher cannot read the very ids and image patches that the student reads; None where it can.

        Args:
            student: The student's encoder.
        """
        if not self._same_tokens:
            return "it has another vocabulary"
        mine, other = (image_settings(encoder) for encoder in (self.encoder, student))
        if mine != other:
            name = next(name for name in mine if mine[name] != other[name])
            return f"its image processor has {name} {mine[name]}, and the student's {other[name]}"
        return None

    def distributions(self, rollouts: Sequence[Rollout]) -> Tensor:
        return self._attributor.distributions(self.prompts(rollouts), [self.turn_of(one) for one in rollouts])

    def log_probs(self, rollouts: Sequence[Rollout]) -> Tensor:
        """Returns the teacher's mean log-probability of the calls' tokens, shape (n,), fp32, on the CPU."""
        return self._attributor.log_probs(self.prompts(rollouts), [self.turn_of(one) for one in rollouts])

    def patches(self, rollouts: Sequence[Rollout]) -> list[tuple[Grid, ...]]:
        """Returns the teacher's signed shares of the tokens that each image of a rollout's prompt has, in order."""
        return grids(self._attributor, self.prompts(rollouts), [self.turn_of(one) for one in rollouts])

    def turn_of(self, one: Rollout) -> Turn:
        """Returns the first turn in the teacher's tokens, and which belong to the program."""
        if self._same_tokens:
            return one.first.ids, one.first.target
        span = one.trace.result.span
        assert span is not None
        ids, offsets = self._written(one.first)
        return ids, [end > span[0] and start < span[1] and end > start for start, end in offsets]

    def _written(self, turn: WrittenTurn) -> tuple[list[int], list[tuple[int, int]]]:
        """Returns a turn's text in the teacher's tokens, and the place of each in the text."""
        # Nothing that a model wrote may turn into a control token of another model.
        encoding = self.encoder.tokenizer(
            turn.text, return_offsets_mapping=True, add_special_tokens=False, split_special_tokens=True
        )
        return encoding["input_ids"], encoding["offset_mapping"]

    def prompts(self, rollouts: Sequence[Rollout]) -> list[EncodedPrompt]:
        """Returns all that stands before each first turn, in the teacher's tokens."""
        if self._reads_alike:
            return [one.prompt for one in rollouts]
        prompts = encode_prompts([one.trace.sample for one in rollouts], self.encoder, self.tools)
        return [
            self.encoder.extend(prompt, [self._passed(*pair) for pair in one.past]) if one.past else prompt
            for prompt, one in zip(prompts, rollouts, strict=True)
        ]

    def _passed(self, turn: WrittenTurn, seen: Observed) -> tuple[list[int], list[int], Image.Image | None]:
        """Returns an earlier turn, and what was shown behind it, in the teacher's tokens."""
        if not self._same_tokens:
            ids, _ = self._written(turn)
            return ids, self.encoder.observation(seen.shown, ended=False), seen.shown.image
        ended = bool(turn.ids) and turn.ids[-1] == self.encoder.tokenizer.eos_token_id
        # Images may take other numbers of tokens.
        return turn.ids, self.encoder.observation(seen.shown, ended=ended), seen.shown.image


def read_alike(teacher: ProcessorMixin, student: ProcessorMixin) -> bool:
    """Tells whether two processors make the same tokens and patches of everything."""
    one, other = teacher.tokenizer, student.tokenizer
    alike = one.special_tokens_map == other.special_tokens_map and one.chat_template == other.chat_template
    return alike and reading_of(teacher) == reading_of(student)


def image_settings(encoder: PromptEncoder) -> dict[str, object]:
    """Returns what decides which patches an image becomes, by name."""
    processor = encoder.processor.image_processor
    names = ("patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std", "rescale_factor", "size")
    return {name: getattr(processor, name, None) for name in names} | {"image token": encoder.image_token_id}


def grids(attributor: Attributor, prompts: Sequence[EncodedPrompt], turns: Sequence[Turn]) -> list[tuple[Grid, ...]]:
    """Returns shares of the prompts' images to three digits, which is all that a heat map shows."""
    return [tuple(map(_rounded, some)) for some in attributor.patches(prompts, turns)]


def _rounded(grid: NDArray[np.float32]) -> Grid:
    return tuple(tuple(float(f"{share:.3g}") for share in row) for row in grid.tolist())
