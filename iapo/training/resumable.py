"""`ResumableTrainer`: stops where it is asked to with a whole state, and goes on from one bit for bit."""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.utils import broadcast_object_list, gather_object
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.utils import RepeatSampler

from iapo.endpoints.address import ADDRESSES, hide_credentials
from iapo.errors import InputError
from iapo.rollout.writing import writing
from iapo.runs import run_id
from iapo.stopping import Stopping, stoppable
from iapo.training.aside import make_room, make_room_for_policy, newest, rotate, set_aside
from iapo.training.best import Best, find_best, place_in, saying_itself, take_best
from iapo.training.checkpoints import last_whole, step_of
from iapo.training.contents import INCOMPLETE, Contents, list_contents, names_in
from iapo.training.kept import load_reference, save_reference
from iapo.training.numbers import NumberWatch
from iapo.training.resume import Start
from iapo.training.shards import engine_of

logger = logging.getLogger(__name__)

_LOGGED = ("_tr_loss", "_globalstep_last_logged", "_total_loss_scalar", "_total_train_tokens", "_step")
_THEN = ", which goes on from the last whole checkpoint"
_LATER: Mapping[str, Any] = {"push_to_hub": False, "save_total_limit": None, "save_only_model": False}
"""What is not done while a checkpoint is being written."""


class ResumableTrainer(Trainer):
    """A trainer that keeps, beside Transformers' own state, what a step in the middle of something depends on.

    That are the rollouts that several optimiser steps share (`num_iterations`, `steps_per_generation`), and the numbers
    since the last line of the log (`logging_steps`). SIGTERM, SIGUSR1 and SIGHUP have it save after the step that runs.
    """

    args: Any
    _saved: Path | None = None
    _whole: Path | None = None
    best: Best | None = None
    _stop: Stopping | None = None
    _stops = _is_best = _evaluated_before = _waits = _is_late = _unplanned = False
    _given: Any = None
    _sampler: Any = None

    @functools.cached_property
    def watch(self) -> NumberWatch:
        """What looks at the training's numbers."""
        reaction: Literal["stop", "skip"] = getattr(self.args, "on_nonfinite", "stop")
        return NumberWatch(Path(self.args.output_dir), reaction, self.args.process_index)

    def train(self, resume_from_checkpoint: str | bool | Start | None = None, **kwargs: Any) -> Any:
        """Trains as Transformers' trainer does.

        Args:
            resume_from_checkpoint: A checkpoint's folder; true takes the last whole one of the output folder. What
                `find_start` returned is not read through once more.
            kwargs: Passed on.

        Raises:
            InputError: If there is no such checkpoint, it is not whole, or as `begin`.
            Stopped: If the process was asked to stop; the state is saved.
        """
        start = self._start(resume_from_checkpoint)
        self.check_start(start)
        self.begin(start)
        self.best = None
        if start.checkpoint is not None:
            self.best = find_best(start.checkpoint)
        # What an earlier training of this trainer saved is of another course.
        self._saved = self._whole = None if start.checkpoint is None else start.checkpoint.resolve()
        self._stops = self._is_best = self._waits = self._is_late = self._unplanned = False
        # What `eval_on_start` measures was measured when the training began.
        self._evaluated_before = bool(start.step) and self.args.eval_on_start
        if self.args.should_save:
            set_aside(Path(self.args.output_dir), start)
        with stoppable() as self._stop, self._stop.later():
            ends = _StopsWhenAsked(self, self._stop)
            self.add_callback(ends)
            try:
                place = None if start.checkpoint is None else str(start.checkpoint)
                with saying_itself():
                    result = super().train(resume_from_checkpoint=place, **kwargs)
            finally:
                self.remove_callback(ends)
            # With the best policy in the place of the last one there is no state any more, and little left to do.
            if not self._is_best and told_to_all(self._stop, self.args.device):
                self.keep_state()
                self._stop.check(f" after step {self.state.global_step}, which is saved")
        return result

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        if self._stop is not None and told_to_all(self._stop, self.args.device):
            # The state of the last step, before the best policy takes its place, and older ones are removed.
            self.keep_state()
            with self._with(load_best_model_at_end=False, save_total_limit=None):
                return super()._finalize_training(*args, **kwargs)
        with self._with(save_total_limit=None):
            result = super()._finalize_training(*args, **kwargs)
        self._is_best = self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None
        if self.args.should_save:
            # With one checkpoint alone, the last one goes as well, as Transformers has it.
            self._rotate(best_alone=self._is_best and self.args.save_total_limit == 1)
        return result

    def _evaluate(self, *args: Any, **kwargs: Any) -> Any:
        if self._evaluated_before:
            self._evaluated_before = False
            return {}
        return super()._evaluate(*args, **kwargs)

    def check_start(self, start: Start) -> None:
        """Refuses a checkpoint that another number of processes or another engine wrote.

        Raises:
            InputError: If so.
        """
        if start.checkpoint is not None and (contents := Contents.read(start.checkpoint)):
            contents.check(start.checkpoint, self.accelerator.num_processes, engine_of(self))

    def begin(self, start: Start) -> None:
        """Refuses what cannot be begun, before anything in the output folder is changed."""

    def keep_state(self) -> None:
        """Saves a checkpoint of the step that the training has come to, where there is none; all processes call it."""
        self.stops()
        self._save_checkpoint(self.model, None)

    def wait(self, saves: bool) -> None:
        """Has checkpoints wait for the epoch's end, so that what that measures and writes is a part of their state.

        Args:
            saves: Whether one is to be saved.
        """
        self._waits, self._is_late = True, saves

    def waited(self) -> bool:
        """Ends the waiting, if there is any; tells whether a checkpoint is to be saved now."""
        is_late, self._waits, self._is_late = self._is_late, False, False
        return is_late

    @property
    def is_stopped(self) -> bool:
        """Whether the training ends before its last step, since it was asked to."""
        return self._stops

    def stops(self, *, planned: bool = True) -> None:
        """Has the next checkpoint be one that the training goes on from, also with `save_only_model`.

        Args:
            planned: Whether there would be one without the stop, too.
        """
        self._stops, self._unplanned = True, not planned

    def _start(self, named: str | bool | Start | None) -> Start:
        if isinstance(named, Start):
            return named
        if named is True:
            whole = last_whole(Path(self.args.output_dir))
            if whole is None:
                raise InputError(f"{self.args.output_dir} has no whole checkpoint; leave out resume_from_checkpoint")
            return Start(*whole)
        return Start(Path(named), step_of(Path(named)), named=True) if named else Start()

    def save_policy(self, folder: Path) -> None:
        """Saves the policy, whole or not at all."""
        part = folder.with_name(f"{folder.name}.part")
        if self.args.should_save:
            make_room_for_policy(part)
        self.accelerator.wait_for_everyone()
        with writing(part, _THEN, keep=self.accelerator.num_processes > 1):
            self.save_model(str(part))
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            make_room_for_policy(folder)
            part.rename(folder)

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        self._sampler = super()._get_train_sampler(*args, **kwargs)
        return self._sampler

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        first = kwargs["epochs_trained"]
        if kwargs["epoch"] == first and isinstance(self._sampler, RepeatSampler) and self._sampler.shuffle:
            # One generator draws the orders of all epochs; Transformers passes over those that are done.
            for _ in range(first):
                torch.randperm(self._sampler.num_samples, generator=self._sampler.generator)
        if self.state.global_step >= self.state.max_steps:
            # Gone on from its last step, Transformers' loop would make one more.
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    @contextlib.contextmanager
    def _with(self, **changes: Any) -> Iterator[None]:
        """Has other settings within the block; blocks may be nested."""
        before = self.args
        self.args = copy.copy(before)
        for name, value in changes.items():
            setattr(self.args, name, value)
        try:
            yield
        finally:
            self.args = before

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # Transformers writes the settings as they are: as they were given, but what is sent to an endpoint is no part
        # of a checkpoint.
        given = self._given or self.args
        own = {name: getattr(given, name) for name in _LATER}
        addresses = {name: hide_credentials(getattr(given, name, None)) for name in ADDRESSES}
        with self._with(**own, **addresses):
            super()._save(output_dir, state_dict)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
        if folder.resolve() == self._saved:
            return
        if self._waits:
            self._is_late = True
            return
        if self._unplanned and self.state.best_global_step == self.state.global_step:
            # One that was never stopped has no checkpoint of this step, and takes another one for the best.
            self.state.best_global_step = None
        if self.args.should_save:
            make_room(folder)
            folder.mkdir(parents=True)
            (folder / INCOMPLETE).touch()
        self.accelerator.wait_for_everyone()
        only_model = self.args.save_only_model and not self._stops
        self._given = self.args
        # What is done with a checkpoint is done when it is whole.
        later = {**_LATER, "save_only_model": only_model}
        try:
            with writing(folder, _THEN, keep=self.accelerator.num_processes > 1), self._with(**later):
                super()._save_checkpoint(model, trial)
                if not only_model:
                    self._write_contents(folder)
        finally:
            self._given = None
        if self.args.should_save:
            (folder / INCOMPLETE).unlink()
        self._saved = None if only_model else folder.resolve()
        self._whole = self._saved or self._whole
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder))
        if self.args.should_save:
            self._rotate()

    def _rotate(self, *, best_alone: bool = False) -> None:
        """Removes checkpoints beyond `save_total_limit`, but not the best, the newest and the last to go on from."""
        folder, best = Path(self.args.output_dir), self.state.best_model_checkpoint
        kept = [] if best_alone else [*newest(folder), *([self._whole] if self._whole else [])]
        rotate(folder, self.args.save_total_limit, [*kept, *([Path(best)] if best else [])])

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        state = {name: getattr(self, name) for name in _LOGGED if hasattr(self, name)}
        state["metrics"] = {kind: dict(values) for kind, values in getattr(self, "_metrics", {}).items()}
        if self._is_between_generations():
            state["buffer"] = [_plain(part) for part in self._buffered_inputs]
        state |= {"more": self.more_state(), "numbers": self.watch.to_state()}
        torch.save(state, self._own_state(output_dir))
        save_reference(self, Path(output_dir))

    def _write_contents(self, folder: Path) -> None:
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        self.accelerator.wait_for_everyone()
        # Each process reads a share of the files, where all see them.
        together = processes > 1 and not self.args.save_on_each_node
        names = names_in(folder) if self.args.should_save else []
        if together:
            (names,) = broadcast_object_list([names])
        found = list_contents(folder, names[rank::processes] if together else names)
        if together:
            found = dict(sorted(gather_object(list(found.items()))))
        if self.args.should_save:
            best = place_in(folder.parent, self.state.best_model_checkpoint)
            Contents(processes, engine_of(self), found, run_id(folder.parent), best).write(folder)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is not None:
            load_reference(self, Path(checkpoint))
        path = None if checkpoint is None else self._own_state(checkpoint)
        if path is None or not path.exists():
            return
        # Of several processes on CPUs each is told to be on "cpu:0", a place that torch does not load to.
        device = "cpu" if self.args.device.type == "cpu" else self.args.device
        state = torch.load(path, map_location=device, weights_only=True)
        for name in _LOGGED:
            if name in state:
                setattr(self, name, state[name])
        for kind, values in state["metrics"].items():
            self._metrics[kind] = defaultdict(list, {name: list(some) for name, some in values.items()})
        self.load_more_state(state.get("more", {}))
        self.watch.load_state(state.get("numbers", {}))
        if "buffer" in state:
            self._buffered_inputs: Any = state["buffer"]

    def more_state(self) -> dict[str, Any]:
        """Returns what else a checkpoint keeps: plain values and tensors."""
        return {}

    def load_more_state(self, state: Mapping[str, Any]) -> None:
        """Takes what `more_state` returned; nothing of a checkpoint of an earlier version."""

    def _is_between_generations(self) -> bool:
        """Tells whether the next optimiser step takes up rollouts that are there already."""
        if getattr(self, "_buffered_inputs", None) is None:
            return False
        every = self.args.steps_per_generation * self.num_iterations
        return bool(self._step % every)

    def _own_state(self, folder: str) -> Path:
        rank = "" if self.args.world_size <= 1 else f"_{self.args.process_index}"
        return Path(folder) / f"iapo_state{rank}.pt"


class _StopsWhenAsked(TrainerCallback):
    """Ends a training after the step in which its process was asked to, with its state saved; and has what an epoch's
    end measures be a part of the state that is saved there.
    """

    def __init__(self, trainer: ResumableTrainer, stop: Stopping) -> None:
        self.trainer, self.stop = trainer, stop
        self._ends = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Saves as often as is asked for now, and knows where the best checkpoint is; Transformers goes on as the
        checkpoint says.
        """
        state.compute_steps(args, state.max_steps)
        if self.trainer.best is not None:
            take_best(state, self.trainer.best, needed=args.load_best_model_at_end)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        # The share of an epoch that is done, in floating point.
        epoch = state.epoch or 0
        self._ends = abs(epoch - round(epoch)) < 1e-9 or state.global_step >= state.max_steps
        if told_to_all(self.stop, args.device):
            # The best ones are saved where they are found, and those of an epoch at its end, which come later.
            later = args.save_strategy == "best" or (args.save_strategy == "epoch" and self._ends)
            self.trainer.stops(planned=control.should_save or later)
            control.should_save = control.should_training_stop = True
        if self._ends and "epoch" in (args.eval_strategy, args.logging_strategy):
            self.trainer.wait(control.should_save)
            control.should_save = False

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.trainer.waited():
            control.should_save = True
        elif self.trainer.is_stopped and not self._ends:
            # The epoch has not ended; it will once more.
            control.should_log = control.should_evaluate = control.should_save = False


def told_to_all(stop: Stopping, device: torch.device) -> bool:
    """Tells whether any process was asked to stop: a signal reaches them at different moments, and all end together.

    Args:
        stop: The process's own; it is told where another one is asked.
        device: The process's device.
    """
    asked = stop.asked is not None or stop.told
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    if together and torch.distributed.get_world_size() > 1:
        told = torch.tensor(float(asked), device=device)
        torch.distributed.all_reduce(told)
        # No signal of this process's own: the first one that reaches it later is not the second.
        asked = stop.told = bool(told.item())
    return asked


def _plain(part: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a buffered batch as it can be read back without running what was written."""
    return {name: value for name, value in part.items() if isinstance(value, torch.Tensor | list | int | float | None)}
