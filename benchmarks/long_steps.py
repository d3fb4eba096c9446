"""Steps of `iapo train` whose turns have their greatest length, measured by their phases, and what is planned."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from meter import Peak

CALL_TOKENS = 120
NAMES = {
    "rollout": "rollout",
    "attribution": "attribution",
    "reference": "reference",
    "update": "loss and backward",
    "optimizer": "optimiser step",
}
"""The phases as they are measured, and as the plan names them."""


def twin_of(folder: str, place: Path) -> str:
    """Makes another folder of a checkpoint's files, since no student may be its own teacher."""
    from iapo.rollout.policy import find_checkpoint

    place.mkdir()
    for file in Path(find_checkpoint(folder)).resolve().iterdir():
        (place / file.name).symlink_to(file)
    return str(place)


def changes_of(folder: str, case: Mapping[str, Any], words: Sequence[str], teacher: str | None = None) -> list[str]:
    """Returns the settings of a case as words of a command line, all but the folder of the run.

    Args:
        folder: Checkpoint of the student.
        case: Sizes: rollouts of the `group`, `side` of the square image in pixels.
        words: Further settings, which win.
        teacher: Checkpoint of the teacher; the student's, of which a plan alone is made, if None.
    """
    from iapo.training.settings import read_flags

    given = {
        "model": folder,
        "eval_samples": "0",
        "picture_size": str(case["side"]),
        "per_device_train_batch_size": str(case["group"]),
        "num_generations": str(case["group"]),
        "max_turn_tokens": str(CALL_TOKENS),
        "max_completion_length": str(2 * CALL_TOKENS),
        "teacher": teacher or folder,
        # Every token of a turn is explained, as the plan assumes.
        "attribution_target": "turn",
        "bf16": "false",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": "true",
        "trace_every": "0",
        **read_flags(list(words)),
    }
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def planned(size: tuple[int, int], text_tokens: int, changes: Sequence[str], device: str) -> dict[str, int]:
    """Returns what `iapo plan` says of each phase.

    Args:
        size: Width and height of the images in pixels.
        text_tokens: Tokens of the prompt beside the image.
        changes: Settings, as words of a command line.
        device: Type of the device.
    """
    from iapo.planning.given import read_given
    from iapo.planning.report import make_report

    words = list(changes)
    model, teacher = (words.index(name) + 1 for name in ("--model", "--teacher"))
    with tempfile.TemporaryDirectory() as out:
        if words[teacher] == words[model]:
            words[teacher] = twin_of(words[model], Path(out) / "teacher")
        (Path(out) / "config.yaml").write_text("{}")
        given = read_given(f"{out}/config.yaml", words)
        report = make_report(given, memory=64, size=size, text_tokens=text_tokens, device=device)
    return {phase: report.plan.total(name) for phase, name in NAMES.items()}


def steps(
    folder: str, case: dict[str, Any], words: list[str], peak: Peak, *, every: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Trains a step or two.

    Args:
        folder: Checkpoint of student and teacher.
        case: Sizes, as for `changes_of`, and `words` that the question is longer by.
        words: Further settings.
        peak: Measures the phases.
        every: Whether there are two steps, and all turns are generated; else there is one step, with the optimiser's
            states as a second one has them, and the last turn alone is generated, which has the longest prompts.

    Returns:
        Sizes and what splits the states, and the settings.
    """
    import torch
    from transformers import TrainerCallback

    from iapo.data.synthetic import generate
    from iapo.training import run as run_module
    from iapo.training import settings as settings_module
    from iapo.training.shards import engine_of
    from iapo.training.trainer import IAPOTrainer

    draw = random.Random(0)
    turns: list[dict[str, int]] = []
    images: list[Any] = []
    counts: list[int] = []
    engines: list[str] = []

    class Phases(TrainerCallback):
        def on_step_begin(self, *_: Any, optimizer: Any, **__: Any) -> None:
            if every or optimizer.optimizer.state:
                return
            # The states are there from the second step on. A step without gradients makes them, and changes nothing
            # but for weight decay.
            for group in optimizer.optimizer.param_groups:
                for one in group["params"]:
                    one.grad = torch.zeros_like(one)
            optimizer.optimizer.step()
            optimizer.optimizer.zero_grad(set_to_none=True)

        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            self.inside = peak.phase("optimizer")
            self.inside.__enter__()

        def on_optimizer_step(self, *_: Any, **__: Any) -> None:
            self.inside.__exit__(None, None, None)

    class Measured(IAPOTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs["callbacks"] = [*(kwargs.get("callbacks") or ()), Phases()]
            super().__init__(*args, **kwargs)

        def train(self, *args: Any, **kwargs: Any) -> Any:
            loading.__exit__(None, None, None)
            engines.append(engine_of(self))
            with peak.running():
                return super().train(*args, **kwargs)

        def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
            self.turn = self.turn + 1 if kwargs.get("has_tool_images") else 1
            extra = None
            if every or self.turn == self.args.max_turns:
                with peak.phase("rollout"):
                    _, extra = super()._generate_single_turn(prompt_ids, *args, **kwargs)
            return [self._turn(row, len(ids)) for row, ids in enumerate(prompt_ids)], extra

        def _turn(self, row: int, length: int) -> list[int]:
            """A turn of the greatest length: random words, and a call or, in the last one, an answer."""
            tokenizer, sample = self.encoder.tokenizer, self._batch.samples[row]
            text = "FINAL ANSWER: 1. TERMINATE"
            most = self.args.max_turn_tokens or self.args.max_completion_length
            if self.turn < self.args.max_turns:
                name, axis = next(iter(sample.column_boxes or sample.row_boxes)), sample.axis
                text = f'```python\ndisplay(focus_on_{axis}_with_mask(image_1, ["{name}"], {axis}_bbox))\n```'
            if self.turn == 1:
                turns.append({"prompt": length})
                images.append(sample.image)
                counts.append(self.encoder.image_token_counts([sample.image])[0])
            ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
            if len(ids) > most:
                raise ValueError(f"a turn with a call has {len(ids)} tokens, more than max_turn_tokens {most}")
            blank = tokenizer(" a b c d e f g h i j", add_special_tokens=False)["input_ids"]
            return [draw.choice(blank) for _ in range(most - len(ids))] + ids

        def _measure(self, *args: Any) -> Any:
            with peak.phase("attribution"):
                return super()._measure(*args)

        def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
            if torch.is_grad_enabled():
                return super()._get_per_token_logps_and_entropies(*args, **kwargs)
            with peak.phase("reference"):
                return super()._get_per_token_logps_and_entropies(*args, **kwargs)

        def training_step(self, model: Any, inputs: Any, *args: Any) -> Any:
            self.update = None
            # Seconds are those of the last step, over all of its turns.
            peak.seconds.clear()
            try:
                return super().training_step(model, inputs, *args)
            finally:
                self.update.__exit__(None, None, None)

        def _compute_loss(self, model: Any, inputs: Any) -> Any:
            self.update = peak.phase("update")
            self.update.__enter__()
            return super()._compute_loss(model, inputs)

    def samples(arguments: Any, part: str, *_: Any) -> list[Any]:
        import dataclasses

        some = generate("vbar", case["batch"], seed=0, size=arguments.picture_size)
        return [dataclasses.replace(one, question=one.question + " word" * case["words"]) for one in some]

    with tempfile.TemporaryDirectory() as out:
        teacher = twin_of(folder, Path(out) / "teacher")
        more = ["--output_dir", f"{out}/run", "--max_steps", str(1 + every)]
        changes = [*changes_of(folder, case, words, teacher), *more]
        given = settings_module.read_flags(changes)
        case = {**case, "batch": int(given["per_device_train_batch_size"])}
        (Path(out) / "config.yaml").write_text("{}")
        arguments, settings = settings_module.parse(f"{out}/config.yaml", changes)
        loading = peak.phase("load")
        loading.__enter__()
        # A policy is saved in the end, which is no part of the step.
        Measured.save_policy = lambda *_, **__: None  # type: ignore[method-assign]
        with mock.patch.multiple(run_module, IAPOTrainer=Measured, run_samples=samples):
            run_module.run(arguments, settings, quiet=True)
    prompt, completion = turns[0]["prompt"], int(given["max_completion_length"])
    sizes = {"prompt": prompt, "completion": completion, "text": prompt - counts[0], "size": images[0].size}
    return {**case, **sizes, "engine": engines[0]}, [*changes_of(folder, case, words), *more]
