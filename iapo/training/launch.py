"""How a training was started, as far as its environment tells; without torch."""

from __future__ import annotations

from collections.abc import Mapping

from iapo.errors import InputError


def check_launch(environment: Mapping[str, str]) -> None:
    """Refuses a start that asked for several processes and made none that know of each other.

    `accelerate launch --cpu --num_processes 2` starts one process, and `srun --ntasks 8` alone starts eight trainings
    of one process each, which would all write into one folder.

    Args:
        environment: The process's environment variables.

    Raises:
        InputError: If so.
    """
    if "WORLD_SIZE" in environment:
        return
    if "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_PORT" in environment:
        raise InputError(
            "accelerate launch was asked for several processes and started one, as it does on CPUs; start them by "
            "`python -m torch.distributed.run --standalone --nproc_per_node N -m iapo train ... --use_cpu true`"
        )
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks.isdigit() and int(tasks) > 1:
        raise InputError(
            f"srun started {tasks} tasks that do not know of each other (WORLD_SIZE is not set), each a training of "
            "its own; set RANK, LOCAL_RANK and WORLD_SIZE for each, as configs/slurm/one-node.sbatch does"
        )
