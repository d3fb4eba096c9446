"""What `iapo plan` says: the plan of a training as it is set, and with what takes less."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from iapo.kinds import checks_kinds
from iapo.planning.advice import Option, options
from iapo.planning.given import Given
from iapo.planning.plan import GIB, Models, Plan, make_plan
from iapo.planning.shapes import Shape, shape_of
from iapo.planning.workload import Workload, workload_of
from iapo.rewards.presets import find_reward, verifier_checkpoint
from iapo.rollout.policy import load_processor


@dataclass(frozen=True, slots=True)
class Report:
    """A plan, and others.

    Attributes:
        plan: Plan with the settings as they are.
        alone: Changes that take less, each alone.
        together: First changes in order that together fit; None where all of them do not, or none is needed.
        steps: Tokens of an optimiser step over all processes, by what is done with them.
    """

    plan: Plan
    alone: Sequence[Option]
    together: Option | None
    steps: dict[str, int]

    def numbers(self) -> dict[str, Any]:
        """Returns all as JSON takes it, in bytes and tokens."""
        plan, load = self.plan, self.plan.load
        return {
            "fits": plan.fits,
            "peak": plan.peak,
            "peak_phase": plan.worst,
            "memory": plan.memory,
            "gpus": plan.gpus,
            "sharding": plan.sharding,
            "parameters": plan.parameters,
            "trainable": plan.trainable,
            "attribution_of_one_call": plan.least,
            "phases": {name: dict(parts) for name, parts in plan.phases.items()},
            "tokens": {
                "prompt": load.prompt,
                "image": load.image,
                "images": load.images,
                "turn": load.turn,
                "completion": load.completion,
                "rows": load.rows,
            },
            "step": self.steps,
            "changes": [_option(one) for one in self.alone],
            "together": None if self.together is None else _option(self.together),
        }


def _option(option: Option) -> dict[str, Any]:
    settings = {name: value for change in option.changes for name, value in change.settings.items()}
    removed = [name for change in option.changes for name in change.remove]
    return {
        "settings": settings | dict.fromkeys(removed),
        "sharding": option.plan.sharding,
        "peak": option.plan.peak,
        "fits": option.plan.fits,
        "effect": "; ".join(change.effect for change in option.changes),
    }


class Shapes:
    """The shapes of a training's models, each read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str | None], Shape] = {}

    def find(self, name: str, revision: str | None = None) -> Shape:
        """Returns the shape of a checkpoint, as `iapo.planning.shapes.shape_of`."""
        key = (name, revision)
        if key not in self._known:
            self._known[key] = shape_of(name, revision)
        return self._known[key]

    def models(self, given: Given) -> Models:
        """Returns the models that a training loads.

        Args:
            given: Settings.
        """
        reward = given.get("reward") or "iapo"
        uses = find_reward(reward).uses
        penalty = given.get("penalty_weight") if "divergences" in uses else 0
        measures = bool(penalty) or bool(given.get("always_measure"))
        compares = measures or "log_probs" in uses or bool(given.get("token_distill_weight"))
        teacher = given.get("teacher") if given.get("teacher_table") is None else None
        other = given.get("eval_teacher") if given.get("eval_samples") else None
        verifier = verifier_checkpoint(reward, given.get("verifier"), given.get("verifier_url"))
        revision = given.get("teacher_model_revision")
        return Models(
            self.find(given.get("model"), given.get("model_revision")),
            # `iapo train` loads a teacher that is named, and uses it where something is compared.
            self.find(teacher, revision) if teacher and (compares or other is None) else None,
            self.find(other, revision) if other and other != teacher else None,
            self.find(verifier, given.get("verifier_model_revision")) if verifier else None,
            measures=measures or "overlaps" in uses,
        )


@checks_kinds
def make_report(
    given: Given,
    *,
    memory: float,
    gpus: int = 1,
    sharding: str = "none",
    size: tuple[int, int] | None = None,
    text_tokens: int | None = None,
    images: int = 1,
    device: str = "cuda",
) -> Report:
    """Plans a training, and what takes less.

    Args:
        given: Settings.
        memory: GiB of one device.
        gpus: Number of devices, a process each.
        sharding: One of `iapo.planning.loaded.SHARDINGS`.
        size: Width and height of images in pixels; None is the data's, as far as that is known.
        text_tokens: Tokens of the prompt beside the image; None counts them.
        images: Images of a prompt, all of that size.
        device: Type of the device.

    Raises:
        InputError: If a checkpoint's configuration cannot be read, or the settings cannot be.
    """
    shapes, load = Shapes(), functools.cache(load_processor)

    def load_of(changed: Given) -> Workload:
        student = shapes.models(changed).student
        return workload_of(changed, student, gpus, size=size, text_tokens=text_tokens, images=images, load=load)

    def planner(changed: Given, split: str) -> Plan:
        models = shapes.models(changed)
        return make_plan(
            changed, models, load_of(changed), memory=memory * GIB, gpus=gpus, sharding=split, device=device
        )

    plan = planner(given, sharding)
    alone, together = options(given, plan, planner)
    return Report(plan, alone, None if plan.fits else together, _steps(given, plan))


def _steps(given: Given, plan: Plan) -> dict[str, int]:
    """Counts the tokens of an optimiser step over all processes."""
    load, accumulation = plan.load, given.get("gradient_accumulation_steps") or 1
    rows = load.micro * accumulation * plan.gpus
    prompts = max(1, rows // load.generations)
    shares = given.shares_prefix
    trained = load.packed(load.micro, load.completion, shares) * accumulation * plan.gpus
    # The first turn's calls share their prompts; what precedes later ones is their own rows'.
    attributed = prompts * load.prompt + rows * load.turn
    for earlier in range(1, load.turns - 1):
        attributed += rows * (load.prompt + earlier * (load.turn + load.observation + load.image) + load.turn)
    measured = "attribution" in plan.phases["attribution"]
    return {
        "prompts": prompts,
        "rollouts": rows,
        "read": prompts * load.prompt if shares else rows * load.prompt,
        "written": rows * (load.completion - load.edits * load.image),
        "attributed": attributed if measured else 0,
        "trained": trained,
    }
