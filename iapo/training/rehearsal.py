"""What Transformers and TRL would refuse in the midst of a training, tried before anything is loaded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from iapo.errors import InputError, unknown
from iapo.rollout.files import first_line
from iapo.rollout.push import check_hub, hub_errors

if TYPE_CHECKING:
    from transformers import TrainingArguments

_Settings = TypeVar("_Settings")

_IN_BACKWARD = ("lomo", "adalomo")
"""Optimisers that step layer by layer within the backward pass, so that no gradient can be looked at before."""

_OF_WORKERS = ("dataloader_persistent_workers", "dataloader_multiprocessing_context")
"""Settings that PyTorch refuses where no process reads data."""

_WITHOUT_SETTINGS = ("constant", "constant_with_warmup")
"""Schedules to which Transformers hands no settings on."""

_HERE = Path(__file__).parents[1]


def made(kind: Callable[..., _Settings], values: Mapping[str, Any]) -> _Settings:
    """Makes a trainer's settings.

    Args:
        kind: Class of the settings.
        values: Values by name.

    Raises:
        InputError: If it or its libraries refuse one.
    """
    with refused_values():
        return kind(**values)


@contextmanager
def refused_values() -> Iterator[None]:
    """Turns what a library raises over a trainer's settings into a sentence.

    Raises:
        InputError: If it does.
    """
    with refused_by_libraries("the settings"):
        try:
            yield
        except InputError:
            raise
        except ValueError as error:
            # What they say of values are whole sentences.
            raise InputError(" ".join(str(error).split())) from error


def rehearse(args: TrainingArguments) -> None:
    """Makes what a training will make of its settings: its optimiser and schedule, for a model of two numbers.

    Args:
        args: The settings.

    Raises:
        InputError: If one of them is refused, or needs what is not installed.
    """
    from transformers import Trainer, get_scheduler
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    for tracker in args.report_to or ():
        if tracker == "none":
            raise InputError(f"report_to is {', '.join(args.report_to)}; give none alone, or the trackers alone")
        if tracker not in INTEGRATION_TO_CALLBACK:
            raise unknown("tracker", str(tracker), (*sorted(INTEGRATION_TO_CALLBACK), "none"), where=" for report_to")
    if args.push_to_hub:
        check_hub(args.hub_model_id or Path(str(args.output_dir)).name, args.hub_token)
    if args.save_strategy == "best" and args.eval_strategy == "no":
        raise InputError("save_strategy is best, but nothing is measured in the midst of a training; use steps")
    for name in _OF_WORKERS:
        if getattr(args, name) and not args.dataloader_num_workers:
            raise InputError(f"{name} is {getattr(args, name)!r}, which needs workers; set dataloader_num_workers, too")
    if args.optim in _IN_BACKWARD:
        raise InputError(
            f"optim is {_name(args.optim)}, which steps within the backward pass, before a gradient that is not finite "
            "could be found; take adamw_torch or another one"
        )
    if args.deepspeed is not None:
        # Its file may make the optimiser and the schedule.
        return
    weights = list(torch.nn.Linear(1, 1).parameters())
    optimizer: torch.optim.Optimizer = torch.optim.SGD(weights, lr=0.1)
    # Those with target modules are made of a model's layers: left to the trainer.
    if args.optim_target_modules is None:
        with refused_by_libraries(f"optim {_name(args.optim)} with optim_args {args.optim_args}"):
            kind, given = Trainer.get_optimizer_cls_and_kwargs(args, None)
            optimizer = kind(weights, **given)
        words = [] if args.optim_args is None else args.optim_args.split(",")
        for place, word in enumerate(words):
            without = copy.copy(args)
            without.optim_args = ",".join([*words[:place], *words[place + 1 :]]) or None
            # Most optimisers pass over what they do not know.
            if Trainer.get_optimizer_cls_and_kwargs(without, None)[1] == given:
                raise InputError(f"optim {_name(args.optim)} does nothing with optim_args {word}; leave it out")
    if args.lr_scheduler_kwargs and _name(args.lr_scheduler_type) in _WITHOUT_SETTINGS:
        raise InputError(
            f"lr_scheduler_type {_name(args.lr_scheduler_type)} does nothing with lr_scheduler_kwargs "
            f"{args.lr_scheduler_kwargs}; leave them out"
        )
    with refused_by_libraries(
        f"lr_scheduler_type {_name(args.lr_scheduler_type)} with lr_scheduler_kwargs {args.lr_scheduler_kwargs}"
    ):
        schedule = get_scheduler(
            args.lr_scheduler_type,
            optimizer,
            num_warmup_steps=1,
            num_training_steps=4,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs or {},
        )
        if not isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            optimizer.step()
            schedule.step()


def _name(choice: Any) -> str:
    """Returns a choice as the user writes it, also where it is one of an enumeration."""
    return str(getattr(choice, "value", choice))


@contextmanager
def refused_by_libraries(what: str) -> Iterator[None]:
    """Turns an error that a library raises over settings into a sentence; our own errors, and that memory ran out, stay
    what they are.

    Args:
        what: The settings, as the sentence begins.

    Raises:
        InputError: If so.
    """
    try:
        yield
    except InputError:
        raise
    except hub_errors() as error:
        raise InputError(f"{what} cannot be used: the hub says: {first_line(error)}") from error
    except (ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError, AssertionError) as error:
        if _raised_here(error) or isinstance(error, torch.OutOfMemoryError):
            raise
        raise InputError(f"{what} cannot be used: {type(error).__name__}: {first_line(error)}") from error


def _raised_here(error: BaseException) -> bool:
    """Tells whether code of this package has raised an error, and not a library's."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    if at is None:
        return False
    file = Path(at.tb_frame.f_code.co_filename)
    return file.is_relative_to(_HERE) and at.tb_frame.f_code.co_name != rehearse.__name__
