"""`make_plan`: what each phase of a training step takes of one device, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from iapo.errors import InputError
from iapo.planning.attributing import attribution_bytes
from iapo.planning.given import Given
from iapo.planning.loaded import SHARDINGS, Student, itemsize_of, student_of, weight_bytes
from iapo.planning.passes import reading_bytes, rollout_bytes, update_bytes
from iapo.planning.shapes import Shape
from iapo.planning.workload import Workload

GIB = 2**30

CONTEXT = int(0.8 * GIB)
"""What a CUDA process takes before the first tensor, with the libraries' workspaces."""

COMMUNICATION = int(0.5 * GIB)
"""What the buffers of NCCL take where there are several processes."""

PHASES = ("load", "rollout", "attribution", "reference", "loss and backward", "optimiser step")
"""In the order of a step."""


@dataclass(frozen=True, slots=True)
class Models:
    """The shapes of a training's models.

    Attributes:
        student: Student.
        teacher: Teacher that is loaded; None where there is none, or a table.
        eval_teacher: Another teacher that the evaluation loads.
        verifier: Verifier that is loaded.
        measures: Whether the student's calls are attributed.
    """

    student: Shape
    teacher: Shape | None = None
    eval_teacher: Shape | None = None
    verifier: Shape | None = None
    measures: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The memory of one device.

    Attributes:
        phases: Bytes of each part in each phase.
        memory: Bytes of the device.
        gpus: Number of devices, a process each.
        sharding: What is split over them.
        parameters: Number of the student's parameters.
        trainable: Number of those that are trained.
        least: Bytes that the attribution of one call takes at least.
        load: Tokens of a process's step.
    """

    phases: Mapping[str, Mapping[str, int]]
    memory: int
    gpus: int
    sharding: str
    parameters: int
    trainable: int
    least: int
    load: Workload

    def total(self, phase: str) -> int:
        """Returns the bytes of a phase."""
        return sum(self.phases[phase].values())

    @property
    def worst(self) -> str:
        """The phase that takes most."""
        return max(self.phases, key=self.total)

    @property
    def peak(self) -> int:
        """Its bytes."""
        return self.total(self.worst)

    @property
    def fits(self) -> bool:
        """Whether it is within the device's memory."""
        return self.peak <= self.memory


def make_plan(
    given: Given,
    models: Models,
    load: Workload,
    *,
    memory: float,
    gpus: int = 1,
    sharding: str = "none",
    device: str = "cuda",
) -> Plan:
    """Computes what each phase takes.

    Args:
        given: Settings.
        models: Shapes of the models.
        load: Tokens.
        memory: Bytes of one device.
        gpus: Number of devices.
        sharding: One of `SHARDINGS`.
        device: Type of the device; on the CPU what the libraries themselves take is left out.

    Raises:
        InputError: If the sharding is unknown, or there is nothing to split over.
    """
    if sharding not in SHARDINGS:
        raise InputError(f"sharding is {sharding!r}; use one of {', '.join(SHARDINGS)}")
    if sharding != "none" and gpus < 2:
        raise InputError(f"sharding {sharding} splits over several GPUs; give gpus 2 or more, or sharding none")
    student = student_of(given, models.student, device, sharding)
    shares = given.shares_prefix
    always = _always(given, models, student, gpus, sharding, device)
    # Kept in shards, the teacher is whole while calls are attributed.
    away = 0
    if given.get("teacher_shards") and gpus > 1 and "teacher" in always:
        away = always["teacher"] - always["teacher"] // gpus
        always["teacher"] -= away
    states = {"optimiser": student.states // (gpus if sharding != "none" else 1)}
    split = gpus if sharding != "none" else 1
    gradients = student.gradients // split
    buckets = student.gradients if gpus > 1 and sharding == "none" else 0
    held = gradients if (given.get("gradient_accumulation_steps") or 1) > 1 else 0
    whole = _gathered(student, gpus, sharding)

    rollout = rollout_bytes(student, load, shares, device)
    if given.get("use_vllm") and given.get("vllm_mode") != "server":
        share = given.get("vllm_gpu_memory_utilization") or 0.3
        rollout = {"vLLM": int(share * memory), "images": rollout["images"]}
        # Only with its sleep mode it gives the memory back.
        if not given.get("vllm_enable_sleep_mode"):
            always["vLLM"] = rollout.pop("vLLM")
    resident = sum(always.values()) + sum(states.values())
    attribution, least = 0, 0
    for shape, itemsize, adding in _attributed(given, models, student, device):
        one = attribution_bytes(
            shape,
            itemsize,
            load,
            batch=given.number("attribution_batch_size"),
            tokens=given.get("attribution_tokens"),
            left=memory - resident - away - whole["rollout"],
            adding=adding,
        )
        attribution, least = max(attribution, one[0]), max(least, one[1])
    read = load.packed(load.micro, load.completion, shares)
    scored = load.scored(shares)
    reference = reading_bytes(student, read, scored, device) if given.get("beta") else 0
    checkpointing = given.get("gradient_checkpointing") is not False
    update = update_bytes(student, load, shares=shares, checkpointing=checkpointing, device=device)
    peak = update.peak(held)
    pixels = {"images": rollout["images"] // 2}
    phases = {
        "load": always,
        "rollout": {**always, **states, **rollout, "gathered weights": whole["rollout"]},
        "attribution": {
            **always,
            **states,
            **pixels,
            "teacher": always.get("teacher", 0) + away,
            "attribution": attribution,
            "gathered weights": whole["rollout"],
        },
        "reference": {**always, **states, **pixels, "activations": reference, "gathered weights": whole["layer"]},
        "loss and backward": {
            **always,
            **states,
            "gradients": gradients + buckets,
            "activations": max(0, peak - (gradients if sharding == "none" else student.gradients)),
            "gathered weights": whole["layer"],
        },
        "optimiser step": {**always, **states, **pixels, "gradients": gradients + buckets},
    }
    return Plan(
        phases={name: {part: size for part, size in phases[name].items() if size} for name in PHASES},
        memory=int(memory),
        gpus=gpus,
        sharding=sharding,
        parameters=models.student.parameters,
        trainable=student.trainable,
        least=least,
        load=load,
    )


def _always(given: Given, models: Models, student: Student, gpus: int, sharding: str, device: str) -> dict[str, int]:
    """Returns what lies in memory from the loading on."""
    split = gpus if sharding == "zero3" else 1
    parts = {"weights": student.weights // split}
    if given.get("beta") and not given.get("use_peft"):
        parts["reference"] = models.student.parameters * student.itemsize // split
    for shape in (models.teacher, models.eval_teacher):
        if shape is not None:
            size = weight_bytes(given, shape, "teacher_", itemsize_of(given, shape, "teacher_", device))
            parts["teacher"] = parts.get("teacher", 0) + size
    if models.verifier is not None:
        itemsize = itemsize_of(given, models.verifier, "verifier_", device)
        parts["verifier"] = weight_bytes(given, models.verifier, "verifier_", itemsize)
    if device != "cpu":
        parts["CUDA"] = CONTEXT + (COMMUNICATION if gpus > 1 else 0)
    return parts


def _gathered(student: Student, gpus: int, sharding: str) -> dict[str, int]:
    """Returns what is put together of split weights: two layers at a time, and for generation all of them."""
    if sharding != "zero3":
        return {"layer": 0, "rollout": 0}
    most = max(student.shape.block, student.shape.head)
    return {"layer": 2 * most * student.itemsize, "rollout": student.weights * (gpus - 1) // gpus}


def _attributed(given: Given, models: Models, student: Student, device: str) -> list[tuple[Shape, int, int]]:
    """Returns the models that attribute, with the bytes of their numbers, and of what an adapter adds."""
    found = []
    if models.measures:
        adding = student.adding(device) if student.adapts_mlp else 0
        found.append((models.student, student.itemsize, adding))
    if models.teacher is not None:
        found.append((models.teacher, itemsize_of(given, models.teacher, "teacher_", device), 0))
    return found
