"""Run by the tests of ranks in one process or several: a training whose turns are written by hand, under an engine."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from peft import LoraConfig
from scripted import four_ways, scripted
from sharded_on_cpu import allow
from torch.distributed.tensor import DTensor
from trl.kernels import chunked_logprob

from iapo.data.synthetic import generate
from iapo.records import Sample
from iapo.rollout.policy import Policy, load_policy


def uneven(sample: Sample, index: int) -> tuple[str, str]:
    """Half of the samples have all that can happen; on the others nobody calls, or all do the same."""
    kind = sum(map(ord, sample.question + sample.id)) % 4
    if kind == 0:
        return f"FINAL ANSWER: {sample.answers[0] if index % 2 else 0}. TERMINATE", ""
    if kind == 1:
        first, _ = four_ways(sample, 0)
        return first, f"FINAL ANSWER: {sample.answers[0] if index % 2 else 0}. TERMINATE"
    return four_ways(sample, index)


def whole(parameter: torch.Tensor) -> torch.Tensor:
    """A parameter in one piece."""
    if isinstance(parameter, DTensor):
        return parameter.full_tensor().detach()
    if hasattr(parameter, "ds_id"):
        import deepspeed

        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().clone()
    return parameter.detach().clone()


def gathered(parameter: torch.Tensor, *, fsdp: bool) -> bool:
    """Whether a parameter that is kept in shards is there in one piece; small ones always are, under ZeRO-3."""
    if hasattr(parameter, "ds_id"):
        return parameter.ds_status.name != "NOT_AVAILABLE" and not parameter.ds_persist
    return fsdp and not isinstance(parameter, DTensor)


def in_float64(*policies: Policy) -> None:
    """Has all be computed in float64: the models, and what makes float32 of their numbers for good."""
    original = torch.Tensor.float

    def kept(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self if self.dtype == torch.float64 else original(self, *args, **kwargs)

    class Wider:
        """PyTorch for TRL's log-probabilities, which sum up in float32."""

        float32 = torch.float64

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    torch.Tensor.float = kept  # type: ignore[method-assign]
    chunked_logprob.torch = Wider()
    for policy in policies:
        policy.model.double()


def main(out: Path, options: dict[str, Any]) -> None:
    """Trains, and writes what came of it: `told-RANK.json`, and `parameters.pt` in the main process."""
    lora, sets = options.pop("lora", False), options.pop("settings")
    student, teacher = load_policy("tiny-student"), load_policy("tiny-teacher")
    if options.pop("float64", False):
        in_float64(student, teacher)
    charts = list(generate("vbar", 16, seed=5, question_types=("value",)))
    told: list[dict[str, Any]] = []

    def see(step: int, traces: list[Any]) -> None:
        for trace in traces:
            scores = {name: score.value for name, score in trace.scores.items()}
            told.append({"step": step, "sample": trace.sample.id, "turn": trace.turn_1, "scores": scores})

    trainer = scripted(
        out,
        student.model,
        student.processor,
        charts,
        script=uneven,
        teacher=None if "teacher_table" in sets else teacher,
        on_rollouts=see,
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM") if lora else None,
        **sets,
    )
    trainer.train()
    rank = trainer.accelerator.process_index
    left = [
        name
        for name, one in trainer.accelerator.unwrap_model(trainer.model).named_parameters()
        if gathered(one, fsdp=trainer.is_fsdp_enabled)
    ]
    names = ("loss", "grad_norm", "reward", "attribution/divergence")
    log = [{k: row[k] for k in names if k in row} for row in trainer.state.log_history if "loss" in row]
    parameters = {name: whole(one) for name, one in trainer.accelerator.unwrap_model(trainer.model).named_parameters()}
    result = {"log": log, "told": told, "unsharded": left, "world": trainer.accelerator.num_processes}
    result["engine"] = type(trainer.model_wrapped).__name__
    (out / f"told-{rank}.json").write_text(json.dumps(result))
    if rank == 0:
        torch.save(parameters, out / "parameters.pt")
    trainer.save_model(str(out / "policy"))
    del trainer
    gc.collect()
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    allow()
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
