"""Numbers that go wrong: what is NaN or infinite stops a step before it is taken, with its evidence on disk.

Of several processes each looks at its own numbers. One that finds something goes on to where all meet next, since the
others would wait for it, and there all stop.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from accelerate.utils.deepspeed import DeepSpeedOptimizerWrapper
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from iapo.errors import NumberError
from iapo.plugins import function_name
from iapo.records import Trace
from iapo.results import write_result
from iapo.rewards.alignment import Alignment, Measured
from iapo.rollout.turns import Rollout
from iapo.storage import make_folder
from iapo.training.deepspeed_steps import ask_before_steps

FOLDER = "nonfinite"
"""In a run folder: a file for each step that was stopped or skipped."""

logger = logging.getLogger(__name__)


class NumberWatch:
    """Looks at the numbers of a training.

    Args:
        folder: The run folder.
        on_nonfinite: Reaction to one that is not finite: `stop` raises, `skip` leaves out the optimiser step.
        rank: Number of this process.

    Attributes:
        step: Step that is being made, from 1; the trainer sets it.
        traces: Rollouts at hand, for the evidence; the trainer sets them.
    """

    def __init__(self, folder: Path, on_nonfinite: Literal["stop", "skip"] = "stop", rank: int = 0) -> None:
        self.folder, self.on_nonfinite, self.rank = folder / FOLDER, on_nonfinite, rank
        self.step = 1
        self.traces: Sequence[Trace] = ()
        self._bad_batches: set[str] = set()
        self._bad_step, self._mode, self._last_told = False, "train", 0
        # What is to be said where all processes meet.
        self._told: str | None = None

    def new_batch(self, step: int, mode: str = "train") -> None:
        """Takes up that new rollouts begin, to train with or to evaluate."""
        self.step, self.traces, self._mode = step, (), mode
        self._bad_batches.discard(mode)

    def to_state(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps: whether the rollouts at hand, which further steps may share, are bad."""
        return {"bad": sorted(self._bad_batches)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes what `to_state` returned; nothing of a checkpoint of an earlier version."""
        self._bad_batches = set(state.get("bad", ()))

    def of_step(self, loss: Tensor, inputs: Mapping[str, Any]) -> None:
        """Looks at a loss, and takes up that the rollouts at hand are a part of the optimiser step.

        A step may be of several batches, and a batch of several steps: each that has a part of a bad one is bad.

        Raises:
            NumberError: As in `look`.
        """
        self._bad_step = self._bad_step or "train" in self._bad_batches
        self.look("the loss", loss, inputs)

    def look(self, what: str, values: Tensor | Sequence[float], tensors: Mapping[str, Any] | None = None) -> bool:
        """Tells whether all values are finite.

        Args:
            what: What they are, as the sentence says it.
            values: The values; those of a batch one a rollout.
            tensors: Further tensors, whose statistics are a part of the evidence.

        Raises:
            NumberError: If one is not, and such a step is not to be skipped; of several processes `agree` raises it.
        """
        found = torch.as_tensor(values).detach()
        if not found.is_floating_point() or bool(torch.isfinite(found).all()):
            return True
        self.found(what, found, tensors)
        return False

    def found(self, what: str, values: Tensor | None = None, tensors: Mapping[str, Any] | None = None) -> None:
        """Keeps the evidence of a number that is not finite, and stops or marks the step.

        Args:
            what: What is not finite.
            values: Its values.
            tensors: Further tensors.

        Raises:
            NumberError: As in `look`.
        """
        if what.startswith(_OF_STEP):
            self._bad_step = True
        else:
            self._bad_batches.add(self._mode)
        path = self._keep(what, values, tensors or {})
        if self.on_nonfinite == "skip":
            logger.warning("Step %d is skipped: %s is not finite (%s).", self.step, what, path)
            self._last_told = self.step
            return
        sentence = (
            f"step {self.step}: {what} is not finite; the step was not taken, {path} has the samples, texts and "
            "numbers: lower the learning rate or mend what gave it, or set on_nonfinite to skip to leave out such "
            "steps"
        )
        if not _several():
            raise NumberError(sentence)
        self._told = self._told or sentence

    def agree(self, device: torch.device) -> None:
        """Stops all processes if one of them is to stop; all call it, none of them inside of what another waits in.

        Args:
            device: Device on which processes talk to each other.

        Raises:
            NumberError: If so, in all of them.
        """
        if not _several():
            return
        stopped = torch.tensor(float(self._told is not None), device=device)
        dist.all_reduce(stopped)
        if not stopped.item():
            return
        everyone: list[str | None] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, self._told)
        rank, sentence = next((rank, told) for rank, told in enumerate(everyone) if told is not None)
        self._told = None
        raise NumberError(sentence if rank == self.rank else f"process {rank} found: {sentence}")

    def reward(self, function: Any, name: str | None = None) -> Any:
        """Returns a reward function whose values are looked at; None still says that it has no value for a rollout."""
        if isinstance(function, PreTrainedModel) or not callable(function):
            return function
        called = name or function_name(function)

        def checked(values: Sequence[float | None]) -> list[float | None]:
            known = [0.0 if value is None else float(value) for value in values]
            if self.look(f"the reward {called}", known):
                return list(values)
            return [value if math.isfinite(one) else None for value, one in zip(values, known, strict=True)]

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def later(*args: Any, **columns: Any) -> list[float | None]:
                return checked(await function(*args, **columns))

            return later

        def now(*args: Any, **columns: Any) -> list[float | None]:
            return checked(function(*args, **columns))

        functools.update_wrapper(now, function)
        # By which TRL logs it: a partial function, or an object, has none of its own.
        now.__name__ = called
        return now

    def must_skip(self, device: torch.device) -> bool:
        """Tells whether this optimiser step is left out, in all processes alike; the next one starts anew."""
        bad, self._bad_step = self._bad_step, False
        if self.on_nonfinite == "skip" and _several():
            told = torch.tensor(float(bad), device=device)
            dist.all_reduce(told)
            bad = bool(told.item())
        if bad and self.on_nonfinite == "skip" and self._last_told != self.step:
            logger.warning("Step %d is skipped: numbers of rollouts that it shares are not finite.", self.step)
        return bad

    def _keep(self, what: str, values: Tensor | None, tensors: Mapping[str, Any]) -> Path:
        by_row = values is not None and values.ndim > 0 and len(values) == len(self.traces)
        rows = [] if values is None or not by_row else values.reshape(len(values), -1).tolist()
        samples = [
            {
                "source": trace.sample.source,
                "id": trace.sample.id,
                "status": trace.result.status,
                "turn_1": trace.turn_1,
                "turn_2": trace.turn_2,
                **({"turns": [one.text for one in trace.turns]} if len(trace.turns) > 2 else {}),
                **({"values": [_word(one) for one in rows[index]]} if rows else {}),
            }
            for index, trace in enumerate(self.traces)
        ]
        told = {name: statistics(one) for name, one in tensors.items() if isinstance(one, Tensor)}
        if values is not None:
            told = {what: statistics(values), **told}
        rank = f"-rank-{self.rank}" if self.rank else ""
        name = "-".join(what.replace("/", " ").split())
        path = self.folder / f"step-{self.step}-{name}{rank}.json"
        make_folder(self.folder)
        write_result(path, "nonfinite", {"step": self.step, "what": what, "tensors": told, "rollouts": samples})
        return path


_OF_STEP = ("the loss", "the gradient")


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def statistics(tensor: Tensor) -> dict[str, Any]:
    """Returns a tensor's shape and type, how many of its values are NaN and infinite, and those of the finite ones; of
    one that is kept in shards, this process's part.
    """
    tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    values = tensor.detach().float().flatten()
    finite = values[torch.isfinite(values)]
    found: dict[str, Any] = {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
    found |= {"nan": int(values.isnan().sum()), "infinite": int(values.isinf().sum())}
    if len(finite):
        found |= {"min": finite.min().item(), "max": finite.max().item(), "mean": finite.mean().item()}
    return found


def _word(value: float) -> float | str:
    """Returns a number as JSON has it."""
    return value if math.isfinite(value) else str(value)


class WatchCallback(TrainerCallback):
    """Looks at the gradient before it is used, and leaves out the steps that are to be skipped."""

    def __init__(self, watch: NumberWatch) -> None:
        self.watch = watch

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Has DeepSpeed, which takes its steps elsewhere, ask before each."""

        def leaves_out(bad: bool) -> bool:
            if bad:
                self.watch.found("the gradient")
            self.watch.agree(args.device)
            return self.watch.must_skip(args.device)

        if isinstance(kwargs["optimizer"], DeepSpeedOptimizerWrapper):
            ask_before_steps(kwargs["optimizer"].optimizer, leaves_out, fp16=args.fp16)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes up which step is made."""
        self.watch.step = state.global_step + 1

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes up the trainer's call before a step is taken."""
        if isinstance(kwargs["optimizer"], DeepSpeedOptimizerWrapper):
            return
        model = kwargs["model"]
        parts = [one.grad for one in model.parameters() if one.grad is not None]
        # In half precision a scaler looks at them itself.
        if parts and not args.fp16:
            norm = torch.nn.utils.get_total_norm(parts)
            norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
            if not bool(torch.isfinite(norm)):
                named = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
                bad = {name: grad for name, grad in named.items() if not bool(torch.isfinite(grad).all())}
                self.watch.found("the gradient", norm, dict(list(bad.items())[:20]))
        self.watch.agree(args.device)
        if self.watch.must_skip(args.device):
            # Without a gradient the optimiser leaves a parameter and its moments as they are.
            for one in model.parameters():
                one.grad = None


def look_at_log_probs(
    watch: NumberWatch, output: Mapping[str, Any], sampled: Sequence[Sequence[float | None]] | None = None
) -> None:
    """Looks at the log-probabilities that a batch's rollouts were scored with.

    Args:
        watch: The watch.
        output: The scored batch, as TRL has it.
        sampled: Log-probabilities that each rollout was sampled with, where they are known. NaN stands for one that
            nobody knows, which is no fault (`iapo.training.vllm_rollouts`); one that vLLM gave as NaN is None.

    Raises:
        NumberError: As `NumberWatch.look`.
    """
    mask = output["completion_mask"].bool()
    for name, what in _LOG_PROBS.items():
        if isinstance(values := output.get(name), Tensor):
            # Rows of what follows the end say nothing.
            looked_at = mask.clone()
            if name == _SAMPLED:
                for row, given in zip(looked_at, sampled or [], strict=False):
                    unknown = [place for place, value in enumerate(given) if value is not None and math.isnan(value)]
                    row[unknown] = False
            watch.look(f"the log-probability {what}", torch.where(looked_at, values, 0.0))


_SAMPLED = "sampling_per_token_logps"
_LOG_PROBS = {
    "old_per_token_logps": "of the policy",
    "ref_per_token_logps": "of the reference policy",
    _SAMPLED: "of the sampling",
}


def guarded(watch: NumberWatch, what: str, ask: Callable[[], Any], instead: Callable[[], Any]) -> Any:
    """Returns what a function gives, or something else where its numbers are not finite and the step is skipped, or
    other processes are still to be told.

    Raises:
        NumberError: As `NumberWatch.look`.
    """
    try:
        return ask()
    except NumberError:
        watch.found(what)
        return instead()
    except RuntimeError as error:
        # What torch says where it cannot sample from the model's probabilities.
        if "probability tensor contains" not in str(error):
            raise
        # Without rollouts there is no step that could be skipped.
        watch.on_nonfinite = "stop"
        watch.found(what)
        return instead()


def watched_measure(
    watch: NumberWatch, alignment: Alignment, student: PreTrainedModel, rollouts: Sequence[Rollout], step: int
) -> list[Measured]:
    """Returns `Alignment.measure`'s attributions; empty ones where they are not finite and the step is skipped.

    Raises:
        NumberError: As `NumberWatch.look`.
    """
    measured: list[Measured] = guarded(
        watch,
        "the attribution of a call",
        lambda: alignment.measure(student, rollouts, step),
        lambda: [Measured(0.0, {}, {})] * len(rollouts),
    )
    watch.look("the divergence", [one.divergence for one in measured])
    return measured
