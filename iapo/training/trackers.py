"""Live logging: a training's metrics and images in TensorBoard, Weights & Biases and Trackio, as they come.

The callbacks are Transformers' own but for what they log: the run folder's names instead of a second set, and images.
What connects to a tracker (projects, folders, environment variables) stays Transformers'.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from iapo.images import side_by_side, to_rgb
from iapo.records import Trace
from iapo.runs import metric_name

OnRollouts = Callable[[int, list[Trace]], None]
"""Called with the optimiser step, from 1, and the scored traces of a training batch."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One rollout as trackers show it.

    Attributes:
        texts: Texts beside the images, by kind.
        pictures: `original`; `edited` where an image was made; `attribution`, bars, where it was measured.
    """

    texts: dict[str, str]
    pictures: dict[str, Image.Image]


COLUMNS = ("question", "gold", "status", "program", "answer", "scores")
PICTURES = ("original", "edited", "attribution")
"""Names of the texts and of the images, in the order in which tables have them."""


def show(trace: Trace) -> Shown:
    """Makes ready what is logged of a rollout."""
    from iapo.display.heatmap import draw_blocks

    result = trace.result
    # A rollout that ended with its call has no answer.
    answer = "" if trace.turns[-1].result.span else trace.final_text
    programs = [one.text[slice(*one.result.span)].strip() for one in trace.turns if one.result.span is not None]
    texts = {
        "question": trace.sample.question,
        "gold": " || ".join(trace.sample.answers),
        "status": ", ".join(map(str, dict.fromkeys(one.status for one in trace.results))) or str(result.status),
        "program": "\n\n".join(programs),
        "answer": answer.strip(),
        "scores": ", ".join(f"{name} {score.value:.3f}" for name, score in trace.scores.items()),
    }
    texts["status"] += f", {_wrong(trace)}" if trace.misused else ""
    pictures = {"original": side_by_side(trace.sample.images)}
    if edited := [one.image for one in trace.results if one.image is not None]:
        pictures["edited"] = edited[-1]
    if trace.attribution:
        pictures["attribution"] = draw_blocks(trace.attribution, called=[f"tool:{call.name}" for call in result.calls])
    return Shown(texts, {name: to_rgb(picture) for name, picture in pictures.items()})


def _wrong(trace: Trace) -> str:
    return "judged misuse" if any(call.misused for call in trace.calls) else "wrong axis"


def pick(traces: Sequence[Trace], count: int) -> list[Trace]:
    """Returns the first traces of different samples, then second ones of each, and so on.

    Args:
        traces: A batch, the rollouts of a group one behind the other.
        count: Number of at most.
    """
    seen: Counter[tuple[str, str]] = Counter()
    places = []
    for trace in traces:
        key = (trace.sample.source, trace.sample.id)
        places.append(seen[key])
        seen[key] += 1
    order = sorted(range(len(traces)), key=places.__getitem__)
    return [traces[index] for index in order[:count]]


def named(logs: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of a line of the trainer's log under the run folder's names; those of evaluations behind
    `eval/`.
    """
    found = {}
    for name, value in logs.items():
        if isinstance(value, (int, float)):
            evaluated = name.startswith("eval_")
            found[f"eval/{metric_name(name[5:])}" if evaluated else metric_name(name)] = value
    return found


class _Reporter(TrainerCallback):
    """What the callbacks share: when something is logged, and under which names."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Takes up each line of the trainer's log."""
        if not state.is_world_process_zero or not logs:
            return
        if not self.ready:
            # An evaluation before or after the training.
            self.on_train_begin(args, state, control, model=model)
        self.write(named(logs), state.global_step)

    @property
    def ready(self) -> bool:
        """Whether the tracker was started."""
        raise NotImplementedError

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Logs numbers by name."""
        raise NotImplementedError

    def show(self, traces: Sequence[Shown], step: int) -> None:
        """Logs rollouts with their images."""
        raise NotImplementedError


class TensorBoardReporter(_Reporter, TensorBoardCallback):
    """Scalars, images and texts in event files."""

    @property
    def ready(self) -> bool:
        return self.tb_writer is not None

    def write(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.tb_writer.add_scalar(name, value, step)
        self.tb_writer.flush()

    def show(self, traces: Sequence[Shown], step: int) -> None:
        for number, shown in enumerate(traces, 1):
            self.tb_writer.add_text(f"traces/{number}", _markdown(shown.texts), step)
            for name, picture in shown.pictures.items():
                tag = f"traces/{number}/{name}"
                self.tb_writer.add_image(tag, np.asarray(picture), step, dataformats="HWC")
        self.tb_writer.flush()


class WandbReporter(_Reporter, WandbCallback):
    """Numbers over the optimiser step, and one table of rollouts."""

    @property
    def ready(self) -> bool:
        return self._initialized

    def setup(self, args: TrainingArguments, state: TrainerState, model: Any, **kwargs: Any) -> None:
        """Starts the run as Transformers does, with `step` as the axis of all charts."""
        super().setup(args, state, model, **kwargs)
        if state.is_world_process_zero:
            self._wandb.define_metric("step")
            self._wandb.define_metric("*", step_metric="step", step_sync=True)

    def write(self, values: Mapping[str, float], step: int) -> None:
        self._wandb.log({**values, "step": step})

    def show(self, traces: Sequence[Shown], step: int) -> None:
        # Rollouts without an edited image or an attribution leave places empty.
        table = self._wandb.Table(columns=list(COLUMNS + PICTURES), data=_rows(traces, self._wandb.Image))
        self._wandb.log({"traces": table, "step": step})


class TrackioReporter(_Reporter, TrackioCallback):
    """Numbers over the optimiser step, and one table of rollouts."""

    @property
    def ready(self) -> bool:
        return self._initialized

    def write(self, values: Mapping[str, float], step: int) -> None:
        self._trackio.log(dict(values), step=step)

    def show(self, traces: Sequence[Shown], step: int) -> None:
        table = self._trackio.Table(columns=list(COLUMNS + PICTURES), data=_rows(traces, self._trackio.Image))
        self._trackio.log({"traces": table}, step=step)


REPORTERS = {
    TensorBoardCallback: TensorBoardReporter,
    WandbCallback: WandbReporter,
    TrackioCallback: TrackioReporter,
}
"""Transformers' callback -> ours in its place."""


def report_live(trainer: Any, on_rollouts: OnRollouts | None) -> OnRollouts | None:
    """Puts our callbacks in the place of Transformers', and images behind what already sees the rollouts.

    Args:
        trainer: An `IAPOTrainer` that is made; its `args.report_to` has been carried out.
        on_rollouts: Callback that sees the rollouts otherwise.

    Returns:
        What is to see the rollouts.
    """
    reporters: list[_Reporter] = []
    for theirs, ours in REPORTERS.items():
        if trainer.pop_callback(theirs) is not None:
            reporters.append(ours())
            trainer.add_callback(reporters[-1])
    every, count = trainer.args.trace_every, trainer.args.report_traces
    if not reporters or not every or not count:
        return on_rollouts

    def see(step: int, traces: list[Trace]) -> None:
        if on_rollouts is not None:
            on_rollouts(step, traces)
        if (step - 1) % every == 0 and trainer.is_world_process_zero():
            shown = [show(trace) for trace in pick(traces, count)]
            for reporter in reporters:
                reporter.show(shown, step)

    return see


def _rows(traces: Sequence[Shown], picture: Callable[[Image.Image], Any]) -> list[list[Any]]:
    """Returns the rows of a table; where a rollout has no such image, there is None."""
    rows = []
    for shown in traces:
        made = {name: picture(one) for name, one in shown.pictures.items()}
        rows.append([*(shown.texts[name] for name in COLUMNS), *(made.get(name) for name in PICTURES)])
    return rows


def _markdown(texts: Mapping[str, str]) -> str:
    """Writes texts as indented blocks, so that nothing in them is read as markup."""
    parts = []
    for name, text in texts.items():
        lines = "\n".join(f"    {line}" for line in text.splitlines())
        parts.append(f"{name}\n\n{lines}")
    return "\n\n".join(parts)
