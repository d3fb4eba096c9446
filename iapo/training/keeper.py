"""`RunKeeper`: what a training writes into its run folder while it runs: manifest, metrics, traces, images."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from iapo.errors import InputError
from iapo.records import Trace
from iapo.results import MANIFEST
from iapo.rollout.template import FILE as PROMPT_FILE
from iapo.rollout.template import PromptTemplate, read_prompt
from iapo.runs import RunFolder, metric_name
from iapo.training.aside import drop_lines
from iapo.training.batches import dataset_hash
from iapo.training.config import IAPOConfig
from iapo.training.resume import Start, check_begun, manifest_parts


def refuse_taken(output_dir: str) -> None:
    """Refuses a folder in which a training has begun to log.

    Raises:
        InputError: If there is one.
    """
    for name in ("metrics.jsonl", "traces.jsonl"):
        if (Path(output_dir) / name).exists():
            raise InputError(f"{output_dir} already holds a run; choose another output_dir or remove it")


def check_prompt(output_dir: str, template: PromptTemplate) -> None:
    """Refuses to go on with a training under another prompt.

    Raises:
        InputError: If the folder's `prompt.yaml` is another.
    """
    path = Path(output_dir) / PROMPT_FILE
    if path.is_file() and (begun := read_prompt(path)) != template:
        raise InputError(
            f"{output_dir} was begun with the prompt {begun.name!r}, now it is {template.name!r} or worded otherwise; "
            f"set prompt to {path} to go on"
        )


class RunKeeper(TrainerCallback):
    """Writes a training's run folder, in the main process alone; nothing is written before the folder is opened.

    Args:
        settings: The training's settings, as they were given; `output_dir` is the folder.
        dataset: Data set that is trained on.
        template: Template of the prompts; kept whole, as `prompt.yaml` and in the manifest.

    Attributes:
        folder: The run folder; None until it is opened.
        begun: Whether what the folder holds is a part of this training, which goes on with it or starts again.
    """

    def __init__(self, settings: IAPOConfig, dataset: Dataset | None, template: PromptTemplate) -> None:
        self.settings, self.dataset, self.template = settings, dataset, template
        self.folder: RunFolder | None = None
        self.start = Start()
        # In every process, of which the main one alone has the folder.
        self._keeps = False
        # The trainer changes some settings for its own needs.
        self._given = settings.to_dict()
        self._defaults: dict[str, Mapping[str, Any]] = {"training": settings.defaults_left}
        self._config: dict[str, Any] = {}
        self._seeds: dict[str, int] = {}
        self._data: dict[str, Any] = {}

    def describe(
        self,
        *,
        config: Mapping[str, Any],
        seeds: Mapping[str, int],
        data: Mapping[str, Any],
        defaults: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Adds parts to the manifest that `open` will write.

        Args:
            config: Settings beside the training's own, by whose they are.
            seeds: Further seeds.
            data: Facts about the data beside the hash of the training set.
            defaults: Defaults of those settings that are otherwise, by whose they are.
        """
        self._defaults |= defaults
        self._config |= config
        self._seeds |= seeds
        self._data |= data

    def begin(self, start: Start) -> None:
        """Refuses a folder in which another training has begun to log, before anything in it is changed.

        Args:
            start: Where the training begins.

        Raises:
            InputError: If there is one.
        """
        self.start = start
        if start.checkpoint is None and not start.begun:
            refuse_taken(self.settings.output_dir)
        elif self.folder is None and self.settings.process_index == 0:
            self.check_begun()

    @property
    def data(self) -> dict[str, Any]:
        """Facts about the data, as the manifest keeps them."""
        return self._train_hash | self._data

    @functools.cached_property
    def _train_hash(self) -> dict[str, Any]:
        return {"train": dataset_hash(self.dataset)} if isinstance(self.dataset, Dataset) else {}

    def check_begun(self) -> bool:
        """Refuses a folder whose run was begun otherwise; tells whether it holds this one, as it was.

        Raises:
            InputError: If the folder holds a run with other settings or other data.
        """
        path = Path(self.settings.output_dir)
        config = {**self._config, "training": self._given}
        return (path / MANIFEST).exists() and check_begun(path, config, self.data, start=self.start)

    def open(self) -> RunFolder:
        """Makes the folder and writes the manifest, the first time; a run that goes on keeps the one it was begun with.

        Raises:
            InputError: If the folder holds a run with other settings or other data.
        """
        self._keeps = True
        if self.folder is None:
            path = Path(self.settings.output_dir)
            begun = (path / MANIFEST).exists()
            same = self.check_begun()
            folder = RunFolder(path)
            if not same:
                config = {**self._config, "training": self._given}
                seeds = {"training": self.settings.seed, **self._seeds}
                whole = {**config, **manifest_parts(path, config, self.start), "prompt": self.template.to_json()}
                folder.write_manifest(whole, seeds, self.data, defaults=self._defaults, again=begun)
            self.template.write(folder.path)
            self.folder = folder
        return self.folder

    def traces_at(self, step: int) -> int:
        """Returns how many traces of a step are kept, of all processes together; in each process the same."""
        return self.settings.traces_at(step) if self._keeps else 0

    def keep_traces(self, traces: Sequence[Trace]) -> None:
        """Keeps the main process's scored traces, which it has gathered from all."""
        if self.folder is not None:
            self.folder.append_traces(traces)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes up the trainer's call before the first step, also where a training goes on."""
        self._keeps = True
        if state.is_world_process_zero:
            drop_lines(self.open().path, self.start, state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Takes up each line of the trainer's log."""
        if self.folder is not None and logs and "loss" in logs:
            row = {metric_name(name): value for name, value in logs.items()}
            self.folder.append_metrics({**row, "step": state.global_step})
