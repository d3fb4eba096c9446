"""What `iapo train` does: settings from YAML and flags, a trained policy, a run folder."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import TrlParser

from iapo.attribution.settings import alignment_settings
from iapo.data.leakage import leaks
from iapo.data.loading import Damage
from iapo.data.pictures import reopen
from iapo.data.sources import Part, read_sources, sources_of
from iapo.data.synthetic import BAR_FAMILIES
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
from iapo.tools import offered_tools
from iapo.training.batches import to_dataset
from iapo.training.config import IAPOConfig, find_config
from iapo.training.trainer import IAPOTrainer

logger = logging.getLogger(__name__)


@dataclass
class RunArguments:
    """What is trained on what, and how the result is measured.

    Args:
        model: The student: a packaged name, a folder or a hub id.
        families: Families of synthetic pictures (`iapo.data.synthetic.FAMILIES`), in equal shares.
        question_types: What is asked about them; empty: all that each family has.
        picture_size: Longer side of the pictures in pixels.
        train_samples: Training charts.
        charts_seed: Of the training charts.
        data: Sources to train on instead of `families`, with commas between: a file, a folder, a hub id or what else
            docs/data.md names.
        data_split: Its split to train on.
        data_samples: How many of its samples, the first ones; 0 takes all.
        data_damage: Whether a damaged row ends the run (`strict`), or is listed in the run folder and left out
            (`quarantine`).
        eval_data: Sources that are evaluated on; `data` if not given.
        eval_split: Its split to evaluate on.
        eval_samples: Held-out charts, the same for every run of one `eval_seed`, or of `eval_data` the first ones; 0
            evaluates nothing.
        eval_seed: Of the held-out charts and of the sampling on them.
        eval_temperature: 0 is greedy.
        eval_traces: How many held-out rollouts are kept before training, and of the same charts after it.
        eval_teacher: Teacher that the evaluation measures the divergence to; the training's if not given.
        case_study_steps: Make a point of the case study (docs/studies.md) every so many steps; 0 makes none, nor does
            a run that evaluates nothing (`eval_samples: 0`).
        case_study_samples: How many clearly divisible held-out pictures it has.
        threads: Threads of torch; 0 leaves it to torch.
        tools: The offered tools (docs/your-own.md): `FILE.py`, `FILE.py:NAME`, `package.module:NAME` or names of
            standard ones, with commas between; the six standard ones if not given.
    """

    model: str = field(default="tiny-student", metadata={"help": "The student: packaged name, folder or hub id."})
    families: list[str] = field(default_factory=lambda: list(BAR_FAMILIES), metadata={"help": "Families of pictures."})
    question_types: list[str] = field(default_factory=list, metadata={"help": "What is asked; empty: all."})
    picture_size: int = field(default=112, metadata={"help": "Longer side of the pictures in pixels."})
    train_samples: int = field(default=4096, metadata={"help": "Training charts."})
    charts_seed: int = field(default=0, metadata={"help": "Seed of the training charts."})
    data: str | None = field(default=None, metadata={"help": "Sources to train on (docs/data.md)."})
    data_split: str = field(default="train", metadata={"help": "Split of the data to train on."})
    data_samples: int = field(default=0, metadata={"help": "Samples of the data, the first ones; 0: all."})
    data_damage: Literal["strict", "quarantine"] = field(
        default="strict", metadata={"help": "A damaged row ends the run, or is listed and left out."}
    )
    eval_data: str | None = field(default=None, metadata={"help": "What is evaluated on; the training data's."})
    eval_split: str = field(default="test", metadata={"help": "Split of the data to evaluate on."})
    eval_samples: int = field(default=500, metadata={"help": "Held-out charts; 0: no evaluation."})
    eval_seed: int = field(default=0, metadata={"help": "Seed of the held-out charts and the sampling on them."})
    eval_temperature: float = field(default=1.0, metadata={"help": "0 is greedy."})
    eval_traces: int = field(default=32, metadata={"help": "Held-out rollouts kept before and after training."})
    eval_teacher: str | None = field(default=None, metadata={"help": "Teacher of the measured divergence."})
    case_study_steps: int = field(default=0, metadata={"help": "Case study every so many steps; 0: none."})
    case_study_samples: int = field(default=256, metadata={"help": "Divisible pictures of the case study."})
    threads: int = field(default=0, metadata={"help": "Threads of torch; 0: torch's own choice."})
    tools: str | None = field(default=None, metadata={"help": "Offered tools, with commas; the six if not given."})

    def __post_init__(self) -> None:
        if not offered_tools(self.tools):
            raise InputError("tools are none; a training needs one at least")


def parse(config: str, flags: Sequence[str] = ()) -> tuple[RunArguments, IAPOConfig]:
    """Reads a YAML file and flags through TRL's parser; flags win.

    Args:
        config: A path or a packaged name.
        flags: For example `["--learning_rate", "1e-4"]`.

    Raises:
        InputError: If the file or the flags name an unknown setting, or a value cannot be.
    """
    path = find_config(config)
    arguments, settings = TrlParser([RunArguments, IAPOConfig]).parse_args_and_config(["--config", str(path), *flags])
    return arguments, settings


def list_arguments() -> None:
    """Prints every setting with its default."""
    TrlParser([RunArguments, IAPOConfig], prog="iapo train --config FILE").print_help(sys.stdout)


def run_samples(arguments: RunArguments, part: Part, keep: Callable[[Damage], object] | None = None) -> list[Sample]:
    """The samples that a run trains on, or is evaluated on.

    Args:
        arguments: The data, or the synthetic families.
        part: `train` or `test`.
        keep: Called with each damaged row that is left out, with `data_damage: quarantine`.

    Raises:
        InputError: If the data cannot be loaded, have no samples, or have a damaged row that may not be left out.
    """
    if part == "test" and not arguments.eval_samples:
        return []
    names, settings = sources_of(dataclasses.asdict(arguments), part)
    return read_sources(names, settings, None if arguments.data_damage == "strict" else keep or (lambda damage: None))


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
        stored = make_reference(alignment_settings(settings), None, offered_tools(arguments.tools))
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
        tools=offered_tools(arguments.tools),
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
        self.tools = offered_tools(arguments.tools)
        self.quiet, self.kept = settings.disable_tqdm, arguments.eval_traces
        compared = alignment_settings(settings)
        if arguments.eval_teacher is not None:
            compared = dataclasses.replace(compared, teacher_table=None)
            if teacher is None or arguments.eval_teacher != settings.teacher:
                teacher = load_policy(arguments.eval_teacher)
        self.teacher = teacher
        self.alignment = None
        if teacher is not None or compared.teacher_table is not None:
            reference = make_reference(compared, teacher, self.tools)
            # A table of the training samples alone measures no evaluation.
            if not isinstance(reference, StoredCalls) or reference.covers(samples):
                self.alignment = Alignment(reference, PromptEncoder(policy.processor), compared, self.tools)

    def traces(self, when: str) -> list[Trace]:
        if not self.samples:
            return []
        with tqdm(total=len(self.samples), desc=f"evaluating {when}", disable=self.quiet) as bar:
            return evaluate(
                self.policy,
                self.samples,
                self.settings,
                alignment=self.alignment,
                tools=self.tools,
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
