"""What `iapo train` does: settings from YAML and flags, a trained policy, a run folder."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from iapo.attribution.settings import alignment_settings
from iapo.data.leakage import leaks
from iapo.data.loading import Damage, load, quarantine, strict
from iapo.data.pictures import reopen
from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.evaluation.local import EvaluationSettings, evaluate
from iapo.evaluation.measures import mean_attribution, paired_difference, summarize
from iapo.records import Sample, Trace
from iapo.rewards.alignment import Alignment
from iapo.rollout.policy import Policy, load_policy
from iapo.rollout.prompt import PromptEncoder
from iapo.runs import RunFolder, data_hash, metric_name
from iapo.studies.case_study import CaseStudyCallback, CaseStudyPlan
from iapo.teachers.references import StoredCalls, make_reference
from iapo.training.arguments import RunArguments
from iapo.training.batches import to_dataset
from iapo.training.config import IAPOConfig
from iapo.training.trainer import IAPOTrainer

logger = logging.getLogger(__name__)

Part = Literal["train", "test"]


def chart_samples(arguments: RunArguments, split: str, count: int, seed: int) -> list[Sample]:
    """Synthetic samples of a split, families in turn.

    Args:
        arguments: Families, question types and size.
        split: `train` or `test`; their charts differ whatever the seeds.
        count: How many in all.
        seed: Of the charts.
    """
    shares = [count // len(arguments.families)] * len(arguments.families)
    for index in range(count % len(arguments.families)):
        shares[index] += 1
    columns = [
        list(
            generate(
                family,
                share,
                seed=seed,
                size=arguments.picture_size,
                question_types=arguments.question_types or None,
                split=split,
            )
        )
        for family, share in zip(arguments.families, shares, strict=True)
    ]
    return [column[index] for index in range(max(shares, default=0)) for column in columns if index < len(column)]


def run_samples(arguments: RunArguments, part: Part, keep: Callable[[Damage], object] | None = None) -> list[Sample]:
    """The samples that a run trains on, or is evaluated on.

    Args:
        arguments: The data, or the synthetic families.
        part: `train` or `test`.
        keep: Called with each damaged row that is left out, with `data_damage: quarantine`.

    Raises:
        InputError: If the data cannot be loaded, have no samples, or have a damaged row that may not be left out.
    """
    testing = part == "test"
    source = (arguments.eval_data or arguments.data) if testing else arguments.data
    if source is None:
        if testing:
            return chart_samples(arguments, "test", arguments.eval_samples, arguments.eval_seed)
        return chart_samples(arguments, "train", arguments.train_samples, arguments.charts_seed)
    if testing and not arguments.eval_samples:
        return []
    split = arguments.eval_split if testing else arguments.data_split
    rows = load(source, split=split)
    samples = strict(rows) if arguments.data_damage == "strict" else quarantine(rows, keep or (lambda damage: None))
    found = list(islice(samples, (arguments.eval_samples if testing else arguments.data_samples) or None))
    if not found:
        raise InputError(f"{source} has no sample of the split {split!r} that loads")
    return found


def shared_pictures(train: Sequence[Sample], test: Sequence[Sample]) -> dict[str, int]:
    """Counts the test samples whose picture stands in the training set: the same pixels (`exact`), or alike (`near`).

    Raises:
        InputError: If a test sample is a training sample.
    """
    ids = {(sample.source, sample.id) for sample in train}
    both = next((sample for sample in test if (sample.source, sample.id) in ids), None)
    if both is not None:
        raise InputError(
            f"sample {both.id!r} of {both.source} is trained and evaluated on; give eval_data or another eval_split, "
            "or set eval_samples to 0"
        )
    found = leaks(map(_fresh, train), map(_fresh, test))
    exact = sum(leak.exact for leak in found)
    return {"exact": exact, "near": len(found) - exact}


def _fresh(sample: Sample) -> Sample:
    """The sample without its picture's pixels, so that looking at all of them does not keep all of them."""
    return dataclasses.replace(sample, image=reopen(sample.image))


def run(arguments: RunArguments, settings: IAPOConfig) -> RunFolder:
    """Trains, evaluates before and after on the same held-out charts, and writes the run folder.

    The folder is `settings.output_dir`: `manifest.json`, `metrics.jsonl`, `traces.jsonl`, `held-out.jsonl`,
    `evaluation.json`, and the trained policy in `policy/`.

    Raises:
        InputError: If the run folder already holds a run.
    """
    folder = RunFolder(Path(settings.output_dir))
    if (folder.path / "metrics.jsonl").exists() and settings.resume_from_checkpoint is None:
        raise InputError(f"{folder.path} already holds a run; choose another output_dir or remove it")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    train_samples = run_samples(arguments, "train", folder.quarantine("train"))
    test_samples = run_samples(arguments, "test", folder.quarantine("test"))
    shared = None
    if arguments.data is not None:
        shared = shared_pictures(train_samples, test_samples)
        if any(shared.values()):
            logger.warning("test samples whose picture is trained on: %(exact)d exactly, %(near)d nearly", shared)
    policy = load_policy(arguments.model)
    folder.write_manifest(
        {"run": dataclasses.asdict(arguments), "training": settings.to_dict()},
        seeds={"training": settings.seed, "charts": arguments.charts_seed, "evaluation": arguments.eval_seed},
        data={
            "train": data_hash(map(_fresh, train_samples)),
            "test": data_hash(map(_fresh, test_samples)),
            **({} if shared is None else {"shared_pictures": shared}),
        },
    )
    teacher = None
    if settings.teacher_table is not None:
        # A table that does not fit is found out now and not in some later step.
        stored = make_reference(alignment_settings(settings), None)
        assert isinstance(stored, StoredCalls)
        stored.find(train_samples)
    elif settings.teacher is not None:
        teacher = load_policy(settings.teacher)
    evaluator = _Evaluator(arguments, settings, policy, teacher, test_samples)
    callbacks: list[TrainerCallback] = [MetricsWriter(folder)]
    if arguments.case_study_steps and arguments.eval_samples:
        plan = CaseStudyPlan.of_run(dataclasses.asdict(arguments), settings.to_dict())
        callbacks.append(CaseStudyCallback(folder.path, arguments.case_study_steps, plan, policy, evaluator.teacher))
    before = evaluator.traces("before")
    trainer = IAPOTrainer(
        model=policy.model,
        args=settings,
        train_dataset=to_dataset(train_samples),
        processing_class=policy.processor,
        teacher=teacher,
        on_rollouts=_TraceKeeper(folder, settings),
        callbacks=callbacks,
    )
    trainer.train(resume_from_checkpoint=settings.resume_from_checkpoint)
    trainer.save_model(str(folder.path / "policy"))
    if trainer.accelerator.is_main_process:
        policy.processor.save_pretrained(folder.path / "policy")
        evaluator.write(folder, before, evaluator.traces("after"), trainer.state.global_step)
    return folder


class MetricsWriter(TrainerCallback):
    """Writes each logged step to `metrics.jsonl` under the run folder's names."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Called by Transformers' trainer with each line of its log."""
        if state.is_world_process_zero and logs and "loss" in logs:
            row = {metric_name(name): value for name, value in logs.items()}
            self.folder.append_metrics({**row, "step": state.global_step})


class _TraceKeeper:
    """Saves some traces of some steps."""

    def __init__(self, folder: RunFolder, settings: IAPOConfig) -> None:
        self.folder, self.settings = folder, settings

    def __call__(self, step: int, traces: list[Trace]) -> None:
        if (count := self.settings.traces_at(step)) and _is_main():
            self.folder.append_traces(traces[:count])


class _Evaluator:
    """Evaluates a policy on the held-out charts, always in the same way."""

    def __init__(
        self,
        arguments: RunArguments,
        settings: IAPOConfig,
        policy: Policy,
        teacher: Policy | None,
        samples: Sequence[Sample],
    ) -> None:
        # Every process holds the whole policy here; one of them measures it.
        self.policy, self.samples = policy, samples if _is_main() else []
        self.settings = EvaluationSettings(
            max_turn_tokens=settings.max_turn_tokens or settings.max_completion_length,
            temperature=arguments.eval_temperature,
            top_p=settings.top_p,
            seed=arguments.eval_seed,
        )
        self.quiet, self.kept = settings.disable_tqdm, arguments.eval_traces
        compared = alignment_settings(settings)
        if arguments.eval_teacher is not None:
            compared = dataclasses.replace(compared, teacher_table=None)
            if teacher is None or arguments.eval_teacher != settings.teacher:
                teacher = load_policy(arguments.eval_teacher)
        self.teacher = teacher
        self.alignment = None
        if teacher is not None or compared.teacher_table is not None:
            reference = make_reference(compared, teacher)
            # A table of the training samples alone measures no evaluation.
            if not isinstance(reference, StoredCalls) or reference.covers(samples):
                self.alignment = Alignment(reference, PromptEncoder(policy.processor), compared)

    def traces(self, when: str) -> list[Trace]:
        if not self.samples:
            return []
        with tqdm(total=len(self.samples), desc=f"evaluating {when}", disable=self.quiet) as bar:
            return evaluate(
                self.policy,
                self.samples,
                self.settings,
                alignment=self.alignment,
                progress=bar.update,
                patches=self.kept,
            )

    def write(self, folder: RunFolder, before: Sequence[Trace], after: Sequence[Trace], steps: int) -> None:
        if not self.samples:
            return
        kept = [(0, before[: self.kept]), (steps, after[: self.kept])]
        folder.write_held_out(dataclasses.replace(one, step=step) for step, some in kept for one in some)
        differences = {"outcome": dataclasses.asdict(paired_difference(after, before))}
        folder.write_evaluation(
            {
                "settings": dataclasses.asdict(self.settings),
                "samples": len(self.samples),
                "before": {name: dataclasses.asdict(value) for name, value in summarize(before).items()},
                "after": {name: dataclasses.asdict(value) for name, value in summarize(after).items()},
                "after_minus_before": differences,
                "attribution": {"before": mean_attribution(before), "after": mean_attribution(after)},
                "outcomes": {
                    "before": [trace.scores["outcome"].value for trace in before],
                    "after": [trace.scores["outcome"].value for trace in after],
                },
            }
        )


def _is_main() -> bool:
    return int(os.environ.get("RANK", "0")) == 0
