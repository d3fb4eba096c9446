"""What a run's numbers depend on: its settings but for those that are about writing and showing, and its data."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from iapo.errors import InputError
from iapo.own_files import PART, by_contents
from iapo.results import MANIFEST, read_result

# Settings in which a run that goes on may differ, by how their names begin: where and how often it is written and
# shown, on how many threads, and how often and for how long somebody is asked again. No result depends on them.
FREE = (
    *("output_dir", "resume", "threads", "run_name", "logging_dir", "log_level", "disable_tqdm", "report_to"),
    *("report_traces", "save_", "hub_", "push_to_hub", "project", "trackio", "enable_jit_checkpoint", "local_rank"),
    *("dataloader_num_workers", "dataloader_pin", "dataloader_prefetch", "dataloader_persistent", "ddp_timeout"),
    *("judge_timeout", "judge_retries", "judge_concurrency", "judge_cache", "attribution_tokens"),
    *("vllm_server", "vllm_group_port", "on_nonfinite"),
)
LENGTH = ("max_steps", "num_train_epochs")
"""A checkpoint that the user names may be trained for longer than it was to be."""


def course_of(folder: Path) -> str | None:
    """Returns a digest of a run's settings and data, by which its checkpoints are told from those of other runs.

    Args:
        folder: The run folder.

    Returns:
        The digest, which stays where a run is to be longer, or is written elsewhere; None where the folder's manifest
        is missing or damaged.
    """
    try:
        found = read_result(folder / MANIFEST, "training", "supervised")
    except InputError:
        return None
    config = found.get("config", {})
    # Own code is told by its contents, wherever it lies; without digests by its place, as earlier versions did.
    settings = {
        part: {
            name: by_contents(name, value, config.get(PART))
            for name, value in values.items()
            if not name.startswith((*FREE, *LENGTH))
        }
        for part, values in config.items()
        if isinstance(values, dict) and part != PART
    }
    told = json.dumps([settings, found.get("data")], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]
