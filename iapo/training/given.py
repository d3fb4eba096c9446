"""What `IAPOTrainer` is given in Python besides settings: other kinds are refused before anything is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel, ProcessorMixin

from iapo.errors import InputError
from iapo.grading.outcome import Outcome, outcome_reward
from iapo.plugins import function_name
from iapo.rewards.own import own_function
from iapo.rewards.presets import check_logged, check_reward, logged_as
from iapo.rollout.load_settings import is_hub_id
from iapo.rollout.policy import Policy
from iapo.teachers.own import check_reference
from iapo.tools.definitions import check_tools
from iapo.training.checks import check_enough, check_functions
from iapo.training.config import IAPOConfig

_TAKEN = ("rollout_func", "environment_factory")
"""Arguments of `GRPOTrainer` that have no meaning here."""


def check_arguments(
    model: Any, args: Any, processor: Any, teacher: Any, tools: Any, on_rollouts: Any, keep_run: Any, more: Any
) -> None:
    """Refuses arguments of another kind, and those of `GRPOTrainer` that have no meaning here.

    Args:
        model: Argument of `IAPOTrainer`.
        args: The same.
        processor: Its `processing_class`.
        teacher: As `model`.
        tools: The same.
        on_rollouts: The same.
        keep_run: The same.
        more: Arguments for `GRPOTrainer`, by name.

    Raises:
        InputError: If there is one.
    """
    if isinstance(model, Policy):
        raise InputError("model is a loaded policy; give its `model`, and its `processor` as processing_class")
    if not isinstance(model, str) and not (isinstance(model, nn.Module) and hasattr(model.config, "vision_config")):
        raise InputError(f"model is {_shown(model)}; give a checkpoint's name or a loaded model")
    if not isinstance(args, IAPOConfig):
        raise InputError(f"args is {_shown(args)}; give an IAPOConfig, which has TRL's settings, too")
    if processor is not None and not _is_processor(processor):
        raise InputError(f"processing_class is {_shown(processor)}; give a processor (iapo.load_processor)")
    if teacher is not None and not isinstance(teacher, Policy):
        check_reference(teacher)
    check_tools(tools)
    if not tools:
        raise InputError("tools are none; a training needs one at least")
    if on_rollouts is not None and not _takes_two(on_rollouts):
        raise InputError(f"on_rollouts is {_shown(on_rollouts)}; give a function (step, traces)")
    if not isinstance(keep_run, bool):
        raise InputError(f"keep_run is {keep_run!r}; give True or False")
    for taken in _TAKEN:
        if more.get(taken) is not None:
            raise InputError(f"{taken} is GRPOTrainer's own tool protocol; IAPOTrainer takes `tools` of iapo.tools")


def check_data(args: IAPOConfig, train: Any, evaluation: Any) -> None:
    """Refuses data sets of another kind or layout, and too few training data; None is not looked at.

    Args:
        args: The settings.
        train: The training data.
        evaluation: The `eval_dataset`.

    Raises:
        InputError: If there is one, or as `check_enough`.
    """
    for dataset in (train, evaluation):
        if dataset is None:
            continue
        if not isinstance(dataset, Dataset):
            raise InputError(f"the data set is {_shown(dataset)}; make it with iapo.to_dataset")
        if missing := {"prompt", "image", "sample"} - set(dataset.column_names):
            raise InputError(f"the data set has no column {sorted(missing)[0]!r}; make it with iapo.to_dataset")
    check_enough(train, args)


def reward_functions(given: Any, args: IAPOConfig) -> list[Any]:
    """Returns the reward functions in the outcome's place, with what they raise and return looked at.

    Args:
        given: The argument `reward_funcs`: one or several; None leaves the outcome there.
        args: The settings.

    Returns:
        The functions; none where the outcome stays.

    Raises:
        InputError: If one is of another kind or bears a name that something else has in logs, or their weights are not
            theirs, or would all be 0.
    """
    functions = [Outcome()] if given is None else list(given) if isinstance(given, list | tuple) else [given]
    if not functions:
        raise InputError("reward_funcs is empty; leave it out, and the outcome is rewarded")
    found, preset = [_reward_function(one) for one in functions], check_reward(args)
    check_functions(found, [column.name for column in preset.columns], args.reward_weights)
    if given is None:
        return []
    chosen = "outcome" in (args.component_weights or {})
    if args.reward_weights is None and preset.outcome_weight == 0 and not chosen:
        raise InputError(
            f"reward {args.reward!r} takes the outcome's place, and so do reward_funcs, which would count with weight "
            "0; set reward_weights, or give one of the two"
        )
    return found


def _reward_function(function: Any) -> Any:
    # TRL loads the reward model of a name.
    if isinstance(function, str) and not (is_hub_id(function) or Path(function).is_dir()):
        raise InputError(
            f"reward_funcs has {function!r}; give a function (**columns) -> list of numbers, or a reward model (a "
            "packaged reward is the setting `reward`)"
        )
    if isinstance(function, str | PreTrainedModel | Outcome) or function is outcome_reward:
        return function
    if not callable(function):
        raise InputError(f"reward_funcs has {_shown(function)}; give functions (**columns) -> list of numbers")
    name = function_name(function)
    check_logged("a reward function is called", name)
    if logged_as(name) == "outcome":
        raise InputError(f"a reward function is called {name!r}, which is the rules' verdict in logs; rename it")
    return own_function(f"reward function {name!r}", function)


def _takes_two(function: Any) -> bool:
    """Tells whether something can be called with two arguments, as far as its signature says."""
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(1, [])
    except TypeError:
        return False
    except ValueError:
        # What is built in may have no signature.
        return True
    return True


def _is_processor(value: Any) -> bool:
    parts: Sequence[str] = ("tokenizer", "image_processor")
    return isinstance(value, ProcessorMixin) and all(getattr(value, part, None) is not None for part in parts)


def _shown(value: Any) -> str:
    if inspect.isclass(value):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, str | int | float):
        return repr(value)
    return f"a {type(value).__name__}"
