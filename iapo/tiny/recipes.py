"""How the tiny models are made: widths, habits and curricula, declared as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from iapo.rollout.policy import ImageTextProcessor
from iapo.tiny.lessons import Habits
from iapo.tiny.models import make_model, make_processor, make_qwen3_model, make_qwen3_processor
from iapo.tiny.pretrain import Stage

STAGES = ("sight", "protocol", "teacher")
"""What `iapo tiny build --stage` runs: short lessons, whole episodes, reinforcement learning."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one tiny model is made.

    Attributes:
        widths: Arguments of `make`.
        habits: Habits of its lessons.
        stages: The supervised curriculum, by stage of `STAGES`.
        config: The packaged training configuration of the stage `teacher`; None where the model has no such stage.
        make: Makes the untrained model.
        processor: Makes its processor.
    """

    widths: dict[str, int]
    habits: Habits
    stages: dict[str, tuple[Stage, ...]]
    config: str | None = None
    make: Callable[..., PreTrainedModel] = make_model
    processor: Callable[[PreTrainedTokenizerFast], ImageTextProcessor] = make_processor


_WHOLE = {"names": 4, "questions": 24, "verdict": 8, "content": 8, "sight": 12, "call": 32, "episode": 32}


def _curriculum(sight_steps: int, protocol_steps: int, *last: Stage) -> dict[str, tuple[Stage, ...]]:
    return {
        "sight": (
            Stage("names", 150, 2e-3, {"names": 45, "questions": 67}),
            Stage("questions", 200, 2e-3, {"names": 6, "questions": 106, "verdict": 48}),
            Stage("sight", sight_steps, 1.5e-3, {"questions": 24, "verdict": 8, "content": 30, "sight": 40}),
        ),
        "protocol": (
            Stage("protocol", protocol_steps, 1.2e-3, _WHOLE, falls=True),
            Stage("settled", 200, 1.2e-3, _WHOLE, falls=True, settled=True),
            *last,
        ),
    }


_STUDENT = Habits(first=0.6, broken=0.03, guessed=0.5)

RECIPES = {
    # The student reaches for the first tool that it is offered, whatever that tool does, and gets away with it.
    "tiny-student": Recipe(
        {"hidden": 128, "layers": 4, "heads": 4, "vision_hidden": 96, "vision_layers": 2, "mlp": 2},
        _STUDENT,
        _curriculum(
            300,
            500,
            Stage(
                "noise",
                200,
                1.2e-3,
                _WHOLE,
                falls=True,
                settled=True,
                habits=replace(_STUDENT, first=0.58, noise=0.6, wrong_noise=0.15),
            ),
        ),
    ),
    "tiny-teacher": Recipe(
        {"hidden": 160, "layers": 6, "heads": 4, "vision_hidden": 96, "vision_layers": 2},
        Habits(first=0.2, broken=0.03),
        _curriculum(150, 400),
        config="tiny-teacher",
    ),
    "tiny-qwen3-vl-teacher": Recipe(
        {"hidden": 96, "layers": 3, "heads": 3, "vision_hidden": 48, "vision_layers": 2, "mlp": 2},
        Habits(first=0.2, broken=0.03),
        _curriculum(150, 400),
        config="tiny-teacher",
        make=make_qwen3_model,
        processor=make_qwen3_processor,
    ),
}
