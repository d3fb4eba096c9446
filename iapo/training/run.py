"""What `iapo train` does: settings from YAML and flags, a trained policy, a run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console

from iapo.attribution.settings import alignment_settings
from iapo.data.intake import Intake, flaw_records
from iapo.data.leakage import leaks
from iapo.data.loading import Damage
from iapo.data.pictures import fresh
from iapo.data.sources import Part, read_sources, sources_of
from iapo.display.quiet import quiet_libraries
from iapo.display.tables import training_table
from iapo.errors import InputError
from iapo.evaluation.local import check_fit
from iapo.kinds import checks_kinds
from iapo.locks import hold_folder
from iapo.rank import is_first
from iapo.records import Sample
from iapo.results import defaults_left
from iapo.rewards.presets import local_verifier
from iapo.rollout.budget import check_texts
from iapo.rollout.load_settings import settings_in
from iapo.rollout.names import check_teacher
from iapo.rollout.policy import Policy, find_checkpoint, prompt_of
from iapo.rollout.prompt import PromptEncoder
from iapo.runs import RunFolder, data_hash
from iapo.stopping import stoppable, writes_to
from iapo.studies.case_study import CaseStudyCallback, CaseStudyPlan
from iapo.teachers.references import Reference, StoredCalls, make_reference
from iapo.tools import ToolDefinition, offered_tools
from iapo.tools.judges import check_judges
from iapo.training.arguments import RunArguments
from iapo.training.aside import set_aside
from iapo.training.batches import to_dataset
from iapo.training.begun import named_checkpoint
from iapo.training.budget import check_samples
from iapo.training.checkpoints import homes
from iapo.training.checks import check_functions, check_settings
from iapo.training.config import IAPOConfig
from iapo.training.ends import check_ended, finish, mark_trained, unfinish, unmark
from iapo.training.held_out import HeldOut, Measurement, evaluation_settings
from iapo.training.keeper import check_prompt
from iapo.training.lengths import long_prompts, without
from iapo.training.loaded import drop_reference_policy, load_student, load_teacher, new_adapter
from iapo.training.progress import bar, step_progress
from iapo.training.ranks import agree, check_world, share_of
from iapo.training.resumable import told_to_all
from iapo.training.resume import Start, check_data, find_start, has_steps
from iapo.training.trainer import IAPOTrainer

logger = logging.getLogger(__name__)


def run_samples(arguments: RunArguments, part: Part, keep: Callable[[Damage], object] | None = None) -> list[Sample]:
    """Returns the samples that a run trains on, or is evaluated on.

    Args:
        arguments: The data, or the synthetic families.
        part: `train` or `test`.
        keep: Callback, called with each damaged row that is left out, with `data_damage: quarantine`.

    Raises:
        InputError: If the data cannot be loaded, have no samples, or have a damaged row that may not be left out.
    """
    if part == "test" and not arguments.eval_samples:
        return []
    names, settings = sources_of(dataclasses.asdict(arguments), part)
    return read_sources(names, settings, None if arguments.data_damage == "strict" else keep or (lambda damage: None))


def shared_pictures(train: Sequence[Sample], test: Sequence[Sample]) -> dict[str, int]:
    """Counts the test samples whose image stands in the training set: the same pixels (`exact`), or alike (`near`).

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
    found = leaks(map(fresh, train), map(fresh, test))
    exact = sum(leak.exact for leak in found)
    return {"exact": exact, "near": len(found) - exact}


@checks_kinds
def run(arguments: RunArguments, settings: IAPOConfig, *, quiet: bool = False) -> RunFolder:
    """Trains, evaluates before and after on the same held-out charts, and writes the run folder.

    The folder is `settings.output_dir`: `manifest.json`, `prompt.yaml`, `metrics.jsonl`, `traces.jsonl`,
    `held-out.jsonl`, `evaluation.json`, and the trained policy in `policy/`. Everything that can be refused is refused
    before the first rollout, and before the folder is made.

    Args:
        arguments: Arguments of the run.
        settings: The training's settings; with `disable_tqdm` each step is a line, also in a terminal.
        quiet: Whether nothing is said of what goes well.

    Raises:
        InputError: If the run folder holds a finished run or another one, or is in use; or the settings, the data or a
            checkpoint cannot be used.
        iapo.stopping.Stopped: If the process was asked to stop; the same call goes on.
    """
    console = Console(quiet=quiet or not is_first())
    live = console.is_terminal and not settings.disable_tqdm and not console.quiet
    path = Path(settings.output_dir)
    with quiet_libraries(), stoppable(), hold_folder(path) if is_first() else contextlib.nullcontext():
        writes_to(path)
        return _run(arguments, settings, console, live=live)


def _run(arguments: RunArguments, settings: IAPOConfig, console: Console, *, live: bool) -> RunFolder:
    path = Path(settings.output_dir)
    start = agree(_check(arguments, settings), settings)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    tools = offered_tools(arguments.tools, arguments.tool_timeout)
    damages: dict[Part, list[Damage]] = {"train": [], "test": []}
    train_samples = run_samples(arguments, "train", damages["train"].append)
    test_samples = run_samples(arguments, "test", damages["test"].append)
    check_judges((*train_samples, *test_samples))
    read = {"train": (train_samples, damages["train"]), "test": (test_samples, damages["test"])}
    rows = {part: intake for part, (some, lost) in read.items() if not (intake := Intake.of(some, lost)).whole}
    for part, intake in rows.items():
        logger.warning("%s data: %s", part, intake)
    shared = None if arguments.data is None else shared_pictures(train_samples, test_samples)
    if shared is not None and any(shared.values()):
        logger.warning("test samples whose picture is trained on: %(exact)d exactly, %(near)d nearly", shared)
    policy = load_student(arguments, arguments.model, settings.device, arguments.prompt)
    adapter = new_adapter(arguments, policy.model)
    dropped = long_prompts(train_samples, settings, PromptEncoder(policy.processor), policy.model.config, tools)
    train_samples = without(train_samples, dropped)
    check_samples(train_samples, settings, PromptEncoder(policy.processor), policy.model.config, tools)
    check_fit(policy, test_samples, evaluation_settings(arguments, settings), tools)
    teacher, reference = make_teacher(arguments, settings, policy, train_samples, tools)
    if teacher is not None:
        # The student's are looked at above; the teacher's tokenizer may have others.
        check_texts(
            [*train_samples, *test_samples],
            PromptEncoder(teacher.processor, PromptEncoder(policy.processor).template),
        )
    held_out = HeldOut(arguments, settings, policy, teacher, reference, test_samples, tools)
    callbacks: list[CaseStudyCallback] = []
    if arguments.case_study_steps and arguments.eval_samples:
        plan = CaseStudyPlan.of_run(dataclasses.asdict(arguments), settings.to_dict(), policy.template)
        callbacks.append(CaseStudyCallback(path, arguments.case_study_steps, plan, policy, held_out.teacher))
    trainer = IAPOTrainer(
        model=policy.model,
        args=settings,
        train_dataset=to_dataset(train_samples),
        processing_class=policy.processor,
        teacher=reference,
        tools=tools,
        callbacks=list(callbacks),
        peft_config=adapter,
    )
    for callback in callbacks:
        callback.whole = trainer.whole
    main = trainer.is_world_process_zero()
    assert trainer.keeper is not None
    trainer.keeper.start = start
    trainer.check_start(start)
    if main:
        trainer.keeper.describe(
            config={"run": dataclasses.asdict(arguments)},
            seeds={"charts": arguments.charts_seed, "evaluation": arguments.eval_seed},
            defaults={"run": defaults_left(arguments)},
            data={
                "test": data_hash(map(fresh, test_samples)),
                **({} if shared is None else {"shared_pictures": shared}),
                **({"long_prompts": dropped.to_json()} if dropped.places else {}),
                **({"rows": {part: intake.to_json() for part, intake in rows.items()}} if rows else {}),
            },
        )
        if start.checkpoint is not None:
            for home in homes(start.checkpoint):
                check_data(home, trainer.keeper.data)
        trainer.keeper.check_begun()
        if start.trained is None:
            # Before the manifest says how long the run is to be, and from where.
            unmark(path)
            set_aside(path, start)
        unfinish(path)
        folder = trainer.keeper.open()
        for part, (some, lost) in read.items():
            folder.write_losses(part, [dataclasses.asdict(one) for one in lost], flaw_records(some))
    before = _evaluate(held_out, trainer, "before training", console, live=live)
    step = start.trained
    if step is None:
        with step_progress(trainer, console, live=live):
            trainer.train(resume_from_checkpoint=start)
        step = trainer.state.global_step
        check_ended(step, trainer.state.max_steps)
        _save_policy(trainer, path)
    else:
        trainer.load_weights(path / "policy")
    after = _evaluate(held_out, trainer, "after training", console, live=live)
    if main:
        if held_out.samples:
            evaluation = held_out.write(folder, before, after, step)
            console.print(training_table(evaluation))
        finish(path, step)
        console.print(f"Run: {folder.path}. Next: iapo report {shlex.quote(str(folder.path))}", soft_wrap=True)
    return RunFolder(path)


def _save_policy(trainer: IAPOTrainer, folder: Path) -> None:
    """Saves the policy of the last step, from which the run goes on where it is stopped from here on."""
    step = trainer.state.global_step
    drop_reference_policy(trainer.accelerator.unwrap_model(trainer.model))
    with stoppable() as stop, stop.later():
        trainer.save_policy(folder / "policy")
        # FSDP and DeepSpeed compute in other precisions than a model that is loaded, so that its evaluation would be
        # another: they go on from a checkpoint.
        marks = not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)
        if marks and trainer.is_world_process_zero():
            mark_trained(folder, step)
        if told_to_all(stop, trainer.args.device):
            if not marks:
                trainer.keep_state()
            stop.check(f" after step {step}, which is saved")


def _check(arguments: RunArguments, settings: IAPOConfig) -> Start:
    """Refuses what can be refused without reading data or loading a model; returns where the training begins."""
    path = Path(settings.output_dir)
    config = {"run": dataclasses.asdict(arguments), "training": settings.to_dict()}
    start = find_start(
        path, config, "training", resume=arguments.resume, named=named_checkpoint(settings.resume_from_checkpoint)
    )
    check_run(arguments, settings)
    if (start.begun and has_steps(path)) or start.checkpoint is not None:
        check_prompt(settings.output_dir, prompt_of(arguments.model, arguments.prompt, arguments.model_revision))
    return start


@checks_kinds
def check_run(arguments: RunArguments, settings: IAPOConfig) -> None:
    """Refuses settings that cannot be, and checkpoints that are not there.

    Raises:
        InputError: If so.
    """
    check_settings(settings)
    # A run has one reward function, that of the outcome.
    check_functions([None], (), settings.reward_weights)
    check_world(settings)
    teacher = settings.teacher if settings.teacher_table is None else None
    arguments.loading.check_packages()
    find_checkpoint(arguments.model, arguments.model_revision)
    if teacher is not None:
        teacher_revision = settings_in(settings, "teacher").model_revision
        check_teacher(arguments.model, teacher, arguments.model_revision, teacher_revision)
    others = [(teacher, "teacher"), (arguments.eval_teacher, "teacher"), (local_verifier(settings), "verifier")]
    for name, who in others:
        if name is not None:
            loading = settings_in(settings, who)
            loading.check_packages()
            find_checkpoint(name, loading.model_revision)


def make_teacher(
    arguments: RunArguments,
    settings: IAPOConfig,
    policy: Policy,
    samples: Sequence[Sample],
    tools: Mapping[str, ToolDefinition],
) -> tuple[Policy | None, Reference | None]:
    """Returns the teacher, loaded where the training runs, and what is compared with; with a table there is no
    teacher.

    Raises:
        InputError: If it cannot be loaded, or a table does not fit the samples.
    """
    if settings.teacher is None and settings.teacher_table is None:
        return None, None
    teacher = None
    if settings.teacher_table is None and settings.teacher is not None:
        teacher = load_teacher(settings.teacher, settings, policy.processor, arguments.loading)
    reference = make_reference(alignment_settings(settings), teacher, PromptEncoder(policy.processor), tools)
    if isinstance(reference, StoredCalls):
        # A table that does not fit is found out now and not in some later step.
        reference.find(samples)
    return teacher, reference


def _evaluate(held_out: HeldOut, trainer: IAPOTrainer, when: str, console: Console, *, live: bool) -> Measurement:
    if not held_out.samples:
        return [], []
    share = share_of(len(held_out.samples), 0, trainer.accelerator.num_processes)
    with bar(console, f"held-out rollouts {when}", share, live=live) as progress, trainer.whole():
        sampled = held_out.traces(trainer.accelerator, progress)
        return sampled, held_out.greedy_traces(trainer.accelerator) if held_out.greedy else []
