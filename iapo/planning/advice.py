"""What to change so that a training fits: concrete settings, each with the peak after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from iapo.errors import InputError
from iapo.planning.given import Given
from iapo.planning.plan import Plan

Planner = Callable[[Given, str], Plan]
"""`(settings, sharding)` -> the plan with them."""


@dataclass(frozen=True, slots=True)
class Change:
    """Settings that take less memory.

    Attributes:
        settings: Settings by name, as `iapo train` takes them.
        effect: What they change about the training.
        sharding: What is split over the processes then; None leaves it.
        remove: Settings that are unset.
    """

    settings: Mapping[str, Any]
    effect: str
    sharding: str | None = None
    remove: Sequence[str] = field(default_factory=tuple)

    @property
    def text(self) -> str:
        """The settings as words of a command line."""
        values = {
            name: str(value).lower() if isinstance(value, bool) else value for name, value in self.settings.items()
        }
        words = [f"--{name} {value}" for name, value in values.items()]
        return " ".join([*words, *(["ZeRO-3 or FSDP"] if self.sharding == "zero3" else [])])

    def apply(self, given: Given) -> Given:
        """Returns the settings with the change."""
        kept = {name: value for name, value in given.values.items() if name not in self.remove}
        return Given({**kept, **self.settings})


@dataclass(frozen=True, slots=True)
class Option:
    """A change, or several, and the plan with it."""

    changes: tuple[Change, ...]
    plan: Plan


def changes(given: Given, plan: Plan) -> Iterator[Change]:
    """Yields what would take less memory, that which changes the training least first."""
    micro, accumulation = plan.load.micro, given.get("gradient_accumulation_steps") or 1
    if given.get("gradient_checkpointing") is False:
        yield Change({"gradient_checkpointing": True}, "same training, about a fifth slower")
    if given.get("attribution_tokens") is None and "attribution" in plan.phases["attribution"]:
        yield Change({"attribution_tokens": plan.load.prompt + plan.load.turn}, "same training, smaller passes")
    if micro > 1:
        less = max(one for one in range(1, micro) if micro % one == 0)
        settings = {"per_device_train_batch_size": less, "gradient_accumulation_steps": accumulation * micro // less}
        yield Change(settings, "same rollouts a step, smaller passes")
    if plan.phases["load"].get("teacher") and not given.get("teacher_load_in_4bit"):
        yield Change({"teacher_load_in_4bit": True}, "a coarser teacher; needs bitsandbytes")
        yield Change(
            {"teacher_table": "FILE"},
            "the teacher's own calls, stored by `iapo teacher attribute`",
            remove=("teacher", "eval_teacher"),
        )
    if given.get("beta") and not given.get("use_peft"):
        yield Change({"beta": 0.0}, "no reference policy, no KL term")
    if plan.gpus > 1 and plan.sharding != "zero3":
        yield Change({}, "split over the GPUs", sharding="zero3")
    if "8bit" not in str(given.get("optim") or "") and not given.get("use_peft"):
        yield Change({"optim": "adamw_8bit"}, "states in 8 bits; needs bitsandbytes")
    if not given.get("freeze_vision_tower") and not given.get("use_peft"):
        yield Change({"freeze_vision_tower": True}, "the vision tower is not trained")
    if plan.load.pixels > 262_144:
        yield Change({"max_pixels": 262_144}, "smaller images for the model")
    if not given.get("use_peft"):
        yield Change({"use_peft": True, "dtype": "bfloat16", "lora_r": 16}, "an adapter is trained, not the weights")
        quantised = {"use_peft": True, "load_in_4bit": True, "dtype": "bfloat16", "lora_r": 16}
        yield Change(quantised, "QLoRA; needs bitsandbytes")
    elif not given.get("load_in_4bit"):
        yield Change({"load_in_4bit": True}, "QLoRA; needs bitsandbytes")


def options(given: Given, plan: Plan, planner: Planner) -> tuple[list[Option], Option | None]:
    """Tries changes.

    Args:
        given: Settings.
        plan: Plan with them.
        planner: Makes the plan of other settings.

    Returns:
        Each change that takes less, alone; and a few of the first that together fit, None if all of them do not.
    """
    alone: list[Option] = []
    for change in changes(given, plan):
        changed = _try(given, plan, (change,), planner)
        if changed is not None and changed.peak < plan.peak:
            alone.append(Option((change,), changed))
    together = Option((), plan)
    for option in alone:
        changes_so_far = (*together.changes, *option.changes)
        tried = _try(given, plan, changes_so_far, planner)
        if tried is None or tried.peak >= together.plan.peak:
            continue
        together = Option(changes_so_far, tried)
        if tried.fits:
            return alone, _fewest(given, plan, together, planner)
    return alone, None


def _try(given: Given, plan: Plan, some: Sequence[Change], planner: Planner) -> Plan | None:
    """Returns the plan with changes; None where they exclude each other."""
    sharding = plan.sharding
    for change in some:
        given, sharding = change.apply(given), change.sharding or sharding
    try:
        return planner(given, sharding)
    except InputError:
        return None


def _fewest(given: Given, plan: Plan, option: Option, planner: Planner) -> Option:
    """Leaves out what later changes have made needless, that which changes the training most first."""
    for change in reversed(option.changes):
        fewer = tuple(one for one in option.changes if one is not change)
        tried = _try(given, plan, fewer, planner) if fewer else None
        if tried is not None and tried.fits:
            option = Option(fewer, tried)
    return option
