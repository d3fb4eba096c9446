"""One step of a training that is thrown away: rollouts, rewards, loss, gradient."""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.trainer_callback import PrinterCallback

from iapo.records import Sample, ToolResult, Trace
from iapo.rollout.policy import Policy
from iapo.teachers.references import Reference
from iapo.tools import ToolDefinition
from iapo.training.batches import to_dataset
from iapo.training.config import IAPOConfig
from iapo.training.doctor.findings import Findings, share
from iapo.training.progress import duration
from iapo.training.trainer import IAPOTrainer

CHECK = "step"

_THROWN_AWAY: Mapping[str, Any] = {
    "max_steps": 1,
    "logging_steps": 1,
    "logging_strategy": "steps",
    "save_strategy": "no",
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "report_to": "none",
    "push_to_hub": False,
    "disable_tqdm": True,
    "log_completions": False,
    "resume_from_checkpoint": None,
}
"""What a step does otherwise than the training's first one; it writes nothing that stays."""


def try_step(
    given: Mapping[str, Any],
    policy: Policy,
    reference: Reference | None,
    samples: Sequence[Sample],
    tools: Mapping[str, ToolDefinition],
    findings: Findings,
    adapter: Any = None,
) -> None:
    """Makes the rollouts of one step and takes it.

    Args:
        given: The training's settings as they were given.
        policy: The student, which is changed by the step.
        reference: What the divergence is measured to.
        samples: Training samples, at least as many as one batch has prompts.
        tools: The offered tools.
        findings: Where it is said.
        adapter: Configuration of the adapter that is put on the student, if one is.
    """
    traces: list[Trace] = []
    with tempfile.TemporaryDirectory() as folder, findings.refusals(CHECK):
        args = IAPOConfig(**{**given, **_THROWN_AWAY, "output_dir": folder})
        trainer = IAPOTrainer(
            model=policy.model,
            args=args,
            train_dataset=to_dataset(samples),
            processing_class=policy.processor,
            teacher=reference,
            tools=tools,
            on_rollouts=lambda step, more: traces.extend(more),
            keep_run=False,
            peft_config=adapter,
        )
        trainer.remove_callback(PrinterCallback)
        if on_gpu := args.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        try:
            trainer.train()
        except torch.cuda.OutOfMemoryError as error:
            findings.error(
                CHECK,
                f"a step does not fit into the memory of {args.device} ({str(error).split('.')[0]}); lower "
                "per_device_train_batch_size and raise gradient_accumulation_steps, or set a smaller max_pixels",
            )
            return
        numbers: dict[str, Any] = {"seconds": time.perf_counter() - started, "rollouts": len(traces)}
        if on_gpu:
            numbers["memory_bytes"] = torch.cuda.max_memory_allocated()
        logged = next(row for row in trainer.state.log_history if "loss" in row)
        names = ("loss", "grad_norm", "frac_reward_zero_std", "completions/clipped_ratio", "tools/observation_cut")
        numbers |= {name: logged.get(name) for name in names}
        findings.numbers[CHECK] = numbers
        _check_numbers(logged, findings)
        _check_rollouts(traces, numbers, logged, findings)
        _check_rewards(traces, numbers, logged, findings)


def steps_of(args: IAPOConfig, samples: int) -> int:
    """Returns how many steps a training takes on so many samples, on one process."""
    if args.max_steps > 0:
        return args.max_steps
    rollouts = args.per_device_train_batch_size * args.gradient_accumulation_steps
    epochs = args.num_train_epochs * args.num_iterations
    return max(1, math.ceil(samples * args.num_generations * epochs / rollouts))


def say_duration(seconds: float, steps: int) -> str:
    """Says how long so many steps take, if they are like the one that was tried."""
    return f"{steps} steps like it take {duration(seconds * steps)}"


def _check_numbers(logged: Mapping[str, Any], findings: Findings) -> None:
    for name, what in (("loss", "the loss"), ("grad_norm", "the norm of the gradient")):
        value = logged.get(name)
        if value is not None and not math.isfinite(value):
            findings.error(
                CHECK, f"{what} of the first step is {value}; try dtype float32, or a checkpoint that is not damaged"
            )


def _check_rollouts(
    traces: Sequence[Trace], numbers: dict[str, Any], logged: Mapping[str, Any], findings: Findings
) -> None:
    called = [(one, result) for one in traces for result in one.results]
    failed = [(one, result) for one, result in called if not result.executed]
    # With more than two turns a rollout may have several.
    numbers |= {"calls": len(called), "calling": sum(bool(one.results) for one in traces), "failed_calls": len(failed)}
    if not called:
        findings.warn(
            CHECK,
            f"none of the {len(traces)} rollouts calls a tool: neither the tools nor the penalty have an effect before "
            "one does; start from a student that knows the format, or try a higher temperature",
        )
    elif 2 * len(failed) > len(called):
        (reason, count), *_ = Counter(result.error or "" for _, result in failed).most_common(1)
        findings.warn(
            CHECK,
            f"{share(len(failed), len(called))} calls fail; {count} of them because: {reason}",
        )
    unknown = [(one, result) for one, result in failed if result.status == "failed" and _names_nothing(result)]
    numbers["calls_of_unknown_names"] = len(unknown)
    if unknown:
        sample, error = unknown[0][0].sample, unknown[0][1].error
        boxes = ", ".join(repr(name) for name in [*sample.column_boxes, *sample.row_boxes][:5])
        listed = "" if sample.list_names else "; prompts do not list the names of these samples"
        findings.warn(
            CHECK,
            f"{share(len(unknown), len(called))} calls name a column or row that no box has; sample {sample.id!r}: "
            f"{error} (its boxes: {boxes}){listed}",
        )
    cut = sum(one.observation_cut for one in traces)
    if cut:
        findings.error(
            CHECK,
            f"what tools returned did not fit in {share(cut, len(traces))} rollouts, which then teach nothing; raise "
            "max_sequence_length, or have the tools return smaller images",
        )
    clipped = logged.get("completions/clipped_ratio") or 0.0
    if clipped > 0.5:
        findings.warn(
            CHECK,
            f"{clipped:.0%} of the rollouts run out of tokens before they end; raise max_completion_length and "
            "max_turn_tokens",
        )


def _names_nothing(result: ToolResult) -> bool:
    return "there is no column " in (result.error or "") or "there is no row " in (result.error or "")


def _check_rewards(
    traces: Sequence[Trace], numbers: dict[str, Any], logged: Mapping[str, Any], findings: Findings
) -> None:
    components: dict[str, list[float]] = {}
    for trace in traces:
        for name, score in trace.scores.items():
            components.setdefault(name, []).append(score.value)
    numbers["rewards"] = {
        name: {"low": min(values), "mean": sum(values) / len(values), "high": max(values), "rollouts": len(values)}
        for name, values in components.items()
    }
    for name, values in components.items():
        if bad := [value for value in values if not math.isfinite(value)]:
            findings.error(CHECK, f"the reward {name} is {bad[0]} for {share(len(bad), len(values))} rollouts")
    outcomes = components.get("outcome", [])
    if logged.get("frac_reward_zero_std") == 1:
        which = "; all answers are wrong" if not any(outcomes) else "; all answers are right" if all(outcomes) else ""
        findings.warn(
            CHECK,
            "in every group all rollouts have the same reward, so that this step taught nothing"
            f"{which if outcomes else ''}; if that goes on, take a stronger start, easier data or more num_generations",
        )
