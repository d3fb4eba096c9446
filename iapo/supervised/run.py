"""What `iapo sft` does: transcripts read and checked, TRL's SFTTrainer, a policy that `iapo train` starts from."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from rich.console import Console
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from iapo.data.damage import Damage
from iapo.data.pictures import fresh, reopen
from iapo.data.sources import source_names
from iapo.data.transcripts import Transcript, read_transcripts
from iapo.display.quiet import quiet_libraries
from iapo.endpoints.address import hide_credentials
from iapo.errors import InputError
from iapo.kinds import checks_kinds
from iapo.locks import hold_folder
from iapo.rank import is_first
from iapo.records import image_digest
from iapo.results import MANIFEST, create_result, write_result
from iapo.rollout.prompt import PromptEncoder
from iapo.runs import commit, data_hash, known_or_new_id, versions
from iapo.stopping import stoppable, writes_to
from iapo.storage import append_record, write_records
from iapo.supervised.arguments import SupervisedArguments
from iapo.supervised.config import SupervisedConfig
from iapo.supervised.examples import Collator, ExampleMaker, TranscriptError, is_right
from iapo.supervised.trainer import SupervisedTrainer
from iapo.tools import offered_tools
from iapo.training.aside import drop_lines, set_aside
from iapo.training.batches import dataset_hash, to_dataset
from iapo.training.begun import named_checkpoint
from iapo.training.checkpoints import homes
from iapo.training.ends import check_ended, finish, unfinish
from iapo.training.loaded import load_student, new_adapter
from iapo.training.progress import bar
from iapo.training.ranks import agree
from iapo.training.rehearsal import refused_by_libraries
from iapo.training.resume import Start, check_begun, check_data, find_start, manifest_parts

KIND = "supervised"
"""Kind of a supervised run's `manifest.json`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Chosen:
    """What of the transcripts is used.

    Attributes:
        train: Those that are learnt.
        held_out: Those whose loss alone is measured; no image of theirs is in `train`.
        damages: What cannot be used, and why.
        wrong: How many were left out since their answer is not graded right.
        failed: How many rollouts were left out since they do not follow the protocol: a program that fails, say.
        tokens: Number of tokens of the longest sequence.
    """

    train: Sequence[Transcript]
    held_out: Sequence[Transcript]
    damages: Sequence[Damage]
    wrong: int
    failed: int
    tokens: int


@checks_kinds
def run(arguments: SupervisedArguments, settings: SupervisedConfig, *, quiet: bool = False) -> Path:
    """Trains on transcripts, and writes the run folder: `manifest.json`, `metrics.jsonl`, `policy/`.

    All transcripts are laid out once before anything is written, so that what cannot be learnt is known at the start.

    Args:
        arguments: Arguments of the run.
        settings: The trainer's settings; `output_dir` is the folder.
        quiet: Whether nothing is said of what goes well.

    Returns:
        The folder of the trained policy.

    Raises:
        InputError: If the folder holds a finished run or another one, or is in use; the checkpoint or the transcripts
            cannot be used; or too few are left.
        iapo.stopping.Stopped: If the process was asked to stop; the same call goes on.
    """
    main = is_first()
    console = Console(quiet=quiet or not main)
    folder = Path(str(settings.output_dir))
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with quiet_libraries(), stoppable(), hold_folder(folder) if main else contextlib.nullcontext():
        writes_to(folder)
        return _run(arguments, settings, console)


def _run(arguments: SupervisedArguments, settings: SupervisedConfig, console: Console) -> Path:
    folder = Path(str(settings.output_dir))
    config = {"run": dataclasses.asdict(arguments), "training": settings.to_dict()}
    named = named_checkpoint(settings.resume_from_checkpoint)
    start = agree(find_start(folder, config, KIND, resume=arguments.resume, named=named), settings)
    policy = load_student(arguments, arguments.model, settings.device, arguments.prompt)
    adapter = new_adapter(arguments, policy.model)
    tools = offered_tools(arguments.tools, arguments.tool_timeout)
    maker = ExampleMaker(PromptEncoder(policy.processor), tools, arguments.max_turns)
    chosen = choose(arguments, settings, maker, console)
    _describe(chosen, console)
    datasets = {"train": _dataset(chosen.train)}
    if chosen.held_out:
        datasets["held_out"] = _dataset(chosen.held_out)
    with refused_by_libraries("the settings"):
        trainer = SupervisedTrainer(
            maker.encoder,
            model=policy.model,
            args=settings,
            train_dataset=datasets["train"],
            eval_dataset=datasets.get("held_out"),
            processing_class=policy.processor,
            data_collator=Collator(maker),
            peft_config=adapter,
        )
    main = trainer.is_world_process_zero()
    if main:
        data = _data(chosen, datasets)
        if start.checkpoint is not None:
            for home in homes(start.checkpoint):
                check_data(home, data)
        config["prompt"] = policy.template.to_json()
        begun = (folder / MANIFEST).exists()
        same = begun and check_begun(folder, config, data, KIND, start)
        # Before the manifest says how long the run is to be, and from where.
        set_aside(folder, start)
        unfinish(folder)
        if not same:
            told = {**config, **manifest_parts(folder, config, start)}
            _write_manifest(folder, told, settings.seed, data, again=begun)
        policy.template.write(folder)
        if chosen.damages:
            write_records(folder / "transcripts.quarantine.jsonl", map(dataclasses.asdict, chosen.damages))
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(_Log(folder if main else None, start, console))
    trainer.train(resume_from_checkpoint=start)
    check_ended(trainer.state.global_step, trainer.state.max_steps)
    # What is left is soon done: a signal comes too late.
    with stoppable() as stop, stop.later():
        trainer.save_policy(folder / "policy")
        if main:
            finish(folder, trainer.state.global_step)
    model = shlex.quote(str(folder / "policy"))
    console.print(f"Policy: {model}. Next: iapo train --config CONFIG --model {model}", soft_wrap=True)
    return folder / "policy"


def choose(arguments: SupervisedArguments, settings: SupervisedConfig, maker: ExampleMaker, console: Console) -> Chosen:
    """Reads the transcripts, lays each out once, and chooses what is learnt.

    Raises:
        InputError: If one is damaged and may not be left out, or fewer are left than a batch takes.
    """
    used: list[Transcript] = []
    damages: list[Damage] = []
    wrong = failed = longest = 0
    with bar(console, "transcripts", None, live=console.is_terminal and not settings.disable_tqdm) as progress:
        for one in _read(arguments):
            progress(1)
            if isinstance(one, Damage):
                damages.append(one)
                continue
            if arguments.keep == "correct" and not is_right(one.sample, one.turns):
                wrong += 1
                continue
            try:
                tokens = len(maker.example(fresh(one.sample), one.turns).ids)
            except TranscriptError as error:
                failed += one.sampled
                if not one.sampled:
                    damages.append(Damage(0, one.sample.id, str(error), one.where))
                continue
            if settings.max_length is not None and tokens > settings.max_length:
                reason = f"it has {tokens} tokens, and max_length is {settings.max_length}"
                damages.append(Damage(0, one.sample.id, reason, one.where))
                continue
            longest = max(longest, tokens)
            used.append(one)
    if damages and arguments.damage == "strict":
        raise InputError(
            f"{damages[0]}; mend it, or set damage to quarantine to leave out the {len(damages)} such transcript(s)"
        )
    train, held_out = _hold_out(used, arguments.held_out)
    batch = settings.per_device_train_batch_size * settings.gradient_accumulation_steps * settings.world_size
    if len(train) < batch:
        raise InputError(
            f"{len(train)} transcript(s) are left to learn ({wrong} with another answer than the gold one, {failed} "
            f"rollouts with a failed program, {len(damages)} damaged, {len(held_out)} held out), and one step takes "
            f"{batch}; give more, set keep to all, or lower per_device_train_batch_size or gradient_accumulation_steps"
        )
    return Chosen(train, held_out, damages, wrong, failed, longest)


def _read(arguments: SupervisedArguments) -> Iterator[Transcript | Damage]:
    assert arguments.transcripts is not None
    for source in source_names(arguments.transcripts, "transcripts"):
        yield from read_transcripts(source, split=arguments.transcripts_split)


def _hold_out(transcripts: Sequence[Transcript], count: int) -> tuple[list[Transcript], list[Transcript]]:
    """Splits whole images off the end, so that no held-out image is trained on."""
    if not count:
        return list(transcripts), []
    sharing = _sharing([[image_digest(reopen(image)) for image in one.sample.images] for one in transcripts])
    sizes = Counter(sharing)
    chosen: set[str] = set()
    for name in reversed(sharing):
        if sum(sizes[one] for one in chosen) >= count:
            break
        chosen.add(name)
    parts: tuple[list[Transcript], list[Transcript]] = ([], [])
    for name, one in zip(sharing, transcripts, strict=True):
        parts[name in chosen].append(one)
    return parts


def _sharing(digests: Sequence[Sequence[str]]) -> list[str]:
    """Returns a name for each row that is the same for rows with a common image, directly or through other rows."""
    leader: dict[str, str] = {}

    def find(digest: str) -> str:
        while leader.setdefault(digest, digest) != digest:
            digest = leader[digest]
        return digest

    for first, *more in digests:
        for other in more:
            leader[find(other)] = find(first)
    return [find(first) for first, *_ in digests]


def _dataset(transcripts: Sequence[Transcript]) -> Dataset:
    rows = to_dataset([one.sample for one in transcripts])
    return rows.add_column("turns", [list(one.turns) for one in transcripts])


def _describe(chosen: Chosen, console: Console) -> None:
    calls = sum(len(one.turns) > 1 for one in chosen.train)
    console.print(
        f"{len(chosen.train)} transcripts to learn, {calls} of them with a call; {len(chosen.held_out)} held out; left "
        f"out: {chosen.wrong} with another answer than the gold one, {chosen.failed} rollouts with a failed program, "
        f"{len(chosen.damages)} damaged. "
        f"Longest sequence: {chosen.tokens} tokens.",
        soft_wrap=True,
    )


def _data(chosen: Chosen, datasets: Mapping[str, Dataset]) -> dict[str, Any]:
    data: dict[str, Any] = {"held_out": {"transcripts": 0, "hash": data_hash(())}}
    data |= {name: {"transcripts": len(rows), "hash": dataset_hash(rows)} for name, rows in datasets.items()}
    return {**data, "wrong": chosen.wrong, "failed": chosen.failed, "damaged": len(chosen.damages)}


def _write_manifest(
    folder: Path, config: Mapping[str, Any], seed: int, data: Mapping[str, Any], *, again: bool
) -> None:
    found: dict[str, Any] = {
        "config": hide_credentials(config),
        "versions": versions(),
        "seeds": {"training": seed},
        "data": data,
        "commit": commit(),
        "id": known_or_new_id(folder),
    }
    (write_result if again else create_result)(folder / MANIFEST, KIND, found)


class _Log(TrainerCallback):
    """Writes and says what each logged step came to."""

    def __init__(self, folder: Path | None, start: Start, console: Console) -> None:
        self.folder, self.start, self.console = folder, start, console

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Drops what was logged after the step from which a training goes on."""
        if self.folder is not None:
            drop_lines(self.folder, self.start, state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Takes up each line of the trainer's log."""
        found = {name: value for name, value in (logs or {}).items() if isinstance(value, int | float)}
        if self.folder is None or not {"loss", "eval_loss"} & found.keys():
            return
        append_record(self.folder / "metrics.jsonl", {"step": state.global_step, **found})
        names = ("loss", "mean_token_accuracy", "eval_loss", "eval_mean_token_accuracy")
        said = [f"{name.replace('_', ' ')} {found[name]:.3f}" for name in names if name in found]
        self.console.print(f"step {state.global_step}/{state.max_steps}  " + "  ".join(said), soft_wrap=True)
