"""The models of a training, loaded as its settings say: the student with its adapter, and the teacher beside it."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PreTrainedModel, ProcessorMixin

from iapo.attribution.settings import alignment_settings
from iapo.errors import InputError
from iapo.models import bare_model
from iapo.rewards.alignment import Alignment
from iapo.rollout.load_settings import LoadSettings, placed, settings_in
from iapo.rollout.loading import adapter_base
from iapo.rollout.names import resolve
from iapo.rollout.policy import Policy, load_policy, see_alike
from iapo.rollout.prompt import PromptEncoder
from iapo.teachers.references import Reference, make_reference
from iapo.tools import ToolDefinition
from iapo.training.config import IAPOConfig
from iapo.training.model_settings import LORA, StudentSettings

if TYPE_CHECKING:
    from peft import LoraConfig

logger = logging.getLogger(__name__)

_LANGUAGE_MODEL = r".*\.language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
_CHANGING = ("pissa", "olora")
"""Beginnings of adapters that take out of their base what they begin with."""
_VISION_TOWER = r"(.*\.)?visual(\..*)?"


def load_student(arguments: StudentSettings, name: str, device: torch.device, prompt: str | None = None) -> Policy:
    """Loads the student of a training, its adapter as a `PeftModel` where that is trained on.

    Args:
        arguments: How.
        name: The checkpoint.
        device: Device of the model, where the settings do not place it.
        prompt: Prompt template; the checkpoint's own if None.

    Raises:
        InputError: As `iapo.rollout.policy.load_policy`, or if settings of a new adapter are given for one that is
            trained on.
    """
    goes_on = arguments.use_peft and adapter_base(resolve(name), arguments.model_revision) is not None
    settings = placed(arguments.loading, str(device))
    if goes_on:
        _refuse_new(arguments, name)
        settings = dataclasses.replace(settings, merge_adapter=False)
    policy = load_policy(name, settings, prompt=prompt)
    if arguments.freeze_vision_tower:
        vision = [one for key, one in policy.model.named_parameters() if ".visual." in f".{key}"]
        for weight in vision:
            weight.requires_grad_(False)
    if not arguments.use_peft and policy.model.dtype == torch.bfloat16:
        logger.warning(
            "the student's own weights are trained in bfloat16, which rounds small steps away; set dtype to float32 "
            "(and bf16 for fast products), or use_peft"
        )
    return policy


def _refuse_new(arguments: StudentSettings, name: str) -> None:
    defaults = {one.name: one.default for one in dataclasses.fields(StudentSettings)}
    changed = [one for one in LORA if getattr(arguments, one) != defaults[one]]
    if changed:
        raise InputError(
            f"{changed[0]} is set, but {name!r} is an adapter that is trained on as it is; unset it, or merge the "
            "adapter first (`iapo export`)"
        )


def new_adapter(arguments: StudentSettings, model: PreTrainedModel) -> LoraConfig | None:
    """Returns the adapter that is put on a student; None where none is, or one is there.

    Raises:
        InputError: If a module that the settings name is not there, cannot have an adapter, or is to be left as it is.
    """
    if not arguments.use_peft or hasattr(model, "peft_config"):
        return None
    from peft import LoraConfig

    targets = _targets(arguments.lora_target_modules)
    _check_modules(model, "lora_target_modules", targets, nn.Linear | nn.Conv3d | nn.Conv2d)
    _check_modules(model, "lora_modules_to_save", arguments.lora_modules_to_save or (), nn.Module)
    _check_left(model, targets, arguments.lora_modules_to_save or (), frozen=arguments.freeze_vision_tower)
    return LoraConfig(
        task_type=arguments.lora_task_type,
        r=arguments.lora_r,
        lora_alpha=arguments.lora_alpha,
        lora_dropout=arguments.lora_dropout,
        target_modules=targets,
        exclude_modules=_VISION_TOWER if arguments.freeze_vision_tower else None,
        modules_to_save=arguments.lora_modules_to_save,
        use_rslora=arguments.use_rslora,
        use_dora=arguments.use_dora,
        revision=arguments.model_revision,
    )


def _targets(given: str | list[str] | None) -> str | list[str]:
    if given is None:
        return _LANGUAGE_MODEL
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    # A text alone would be a pattern to PEFT, and fit no whole name.
    return [given] if isinstance(given, str) and given != "all-linear" and re.fullmatch(r"[\w.]+", given) else given


def _check_left(model: nn.Module, targets: str | list[str], saved: Iterable[str], *, frozen: bool) -> None:
    """Refuses names of modules to be trained that other settings take away: PEFT passes over them without a word."""
    modules = [name for name, _ in model.named_modules()]
    vision = {one for one in modules if frozen and re.fullmatch(_VISION_TOWER, one)}
    whole: set[str] = set()
    for name in saved:
        # As PEFT reads them: by the end of a name, also amid a word, and with all that is inside.
        inside = tuple(f"{one}." for one in modules if one.endswith(name))
        found = {one for one in modules if f"{one}.".startswith(inside)}
        if at := min(found & vision, default=None):
            raise _contradiction("lora_modules_to_save", name, at, "freeze_vision_tower leaves as it is")
        whole |= found
    if targets == "all-linear":
        return
    for name in [targets] if isinstance(targets, str) else targets:
        fits = _fits(name, isinstance(targets, str))
        asked = {one for one in modules if fits(one)}
        for taken, why in ((vision, "freeze_vision_tower leaves as it is"), (whole, "lora_modules_to_save has whole")):
            if asked and asked <= taken:
                raise _contradiction("lora_target_modules", name, min(asked), why)
        if isinstance(targets, str) and (passed := len(asked & vision)):
            logger.warning("freeze_vision_tower leaves %d modules without an adapter that %r fits", passed, targets)


def _contradiction(setting: str, name: str, at: str, why: str) -> InputError:
    return InputError(f"{setting} names {name!r}, which is {at}, and that {why}; leave one of them out")


def _fits(name: str, is_pattern: bool) -> Callable[[str], Any]:
    """Tells which modules a name or a pattern fits."""
    return re.compile(name if is_pattern else rf"(.*\.)?{re.escape(name)}").fullmatch


def _check_modules(model: nn.Module, setting: str, names: Any, kinds: Any) -> None:
    """PEFT passes over names of a list that fit nothing, and an adapter of the output layer would not be trained."""
    if names == "all-linear":
        return
    for name in [names] if isinstance(names, str) else names:
        fits = _fits(name, isinstance(names, str))
        found = {key: module for key, module in model.named_modules() if fits(key)}
        if not found:
            raise InputError(f"{setting} names {name!r}, which is no module of the model")
        for key, module in found.items():
            if key == "lm_head" or not isinstance(module, kinds):
                what = "the output layer" if key == "lm_head" else f"a {type(module).__name__}"
                raise InputError(f"{setting} names {name!r}, which is {what}; name linear layers of its inside")


def load_teacher(name: str, args: IAPOConfig, student: ProcessorMixin, asked: LoadSettings | None = None) -> Policy:
    """Loads the teacher where training runs; it is asked, and sees images, as the student.

    Args:
        name: The checkpoint.
        args: The training's settings.
        student: The student's processor.
        asked: Settings of the student's loading.

    Raises:
        InputError: As `iapo.rollout.policy.load_policy`, or if the teacher shall see images otherwise.
    """
    size = student.image_processor.size
    for limit, edge in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
        given = getattr(args, f"teacher_{limit}")
        if given not in (None, size[edge]):
            raise InputError(
                f"teacher_{limit} is {given}, but the student has {size[edge]}; they are compared on one view of an "
                f"image, so set {limit} alone"
            )
    prompt = getattr(student, "prompt", None)
    teacher = load_policy(name, placed(settings_in(args, "teacher"), str(args.device)), prompt=prompt)
    see_alike(teacher.processor, student, asked)
    return teacher


def find_reference(
    args: IAPOConfig,
    teacher: Policy | Reference | None,
    encoder: PromptEncoder,
    tools: Mapping[str, ToolDefinition],
    asked: LoadSettings | None = None,
) -> Reference:
    """Returns what a training compares with: what is given, or the teacher or the table that its settings name.

    Args:
        args: The training's settings.
        teacher: A loaded teacher, or what was made of one.
        encoder: The student's encoder.
        tools: The offered tools.
        asked: Settings of the student's loading.
    """
    if teacher is None and args.teacher_table is None and args.teacher is not None:
        teacher = load_teacher(args.teacher, args, encoder.processor, asked)
    if teacher is None or isinstance(teacher, Policy):
        return make_reference(alignment_settings(args), teacher, encoder, tools, args.device)
    return teacher


def make_alignment(
    args: IAPOConfig, teacher: Policy | Reference | None, encoder: PromptEncoder, tools: Mapping[str, ToolDefinition]
) -> Alignment | None:
    """Returns what measures rollouts against the teacher, or None where a training asks no teacher.

    Args:
        args: The training's settings.
        teacher: Teacher as in `find_reference`.
        encoder: The student's encoder.
        tools: The offered tools.
    """
    if not args.asks_teacher:
        return None
    return Alignment(find_reference(args, teacher, encoder, tools), encoder, alignment_settings(args), tools)


def drop_reference_policy(model: Any) -> None:
    """Takes away the copy of an adapter's start that TRL keeps while it is trained on, so as not to save it."""
    if "ref" in getattr(model, "peft_config", {}):
        model.delete_adapter("ref")


def prepare_reference_policy(model: Any, args: IAPOConfig) -> None:
    """Sees to it that the reference policy of `beta`, which TRL loads by the student's name, is the student's start.

    Under an adapter TRL loads none: the reference is the student without it.

    Args:
        model: The student.
        args: The training's settings; the revision is put into `model_init_kwargs`, from where TRL takes it.

    Raises:
        InputError: If the student is an adapter that was added to its base: by name there is only the base. Or if it is
            one whose start changes its base.
    """
    name = getattr(model.config, "_name_or_path", "")
    start = next((one.init_lora_weights for one in getattr(model, "peft_config", {}).values()), True)
    if args.beta and isinstance(start, str) and start.lower().startswith(_CHANGING):
        raise InputError(
            f"beta is {args.beta} and the student is an adapter of the init_lora_weights {start!r}, which changes its "
            "base, for the reference policy once more; set beta to 0, or make a checkpoint of it first (`iapo export`)"
        )
    if args.beta == 0 or bare_model(model) is not model or not name:
        return
    if adapter_base(name) is not None:
        raise InputError(
            f"beta is {args.beta} and {name!r} is an adapter that was merged, so that no reference policy can be "
            "loaded; set use_peft to train the adapter on, beta to 0, or make a checkpoint of it first (`iapo export`)"
        )
    revision = getattr(model.config, "_commit_hash", None)
    if revision is not None:
        args.model_init_kwargs = {"revision": revision}
