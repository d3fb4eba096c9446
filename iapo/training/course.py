"""Which settings of a run a training that goes on may change."""

from __future__ import annotations

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
