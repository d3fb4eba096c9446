"""Teach small vision-language models to use tools: GRPO with input-attribution alignment (IAPO).

The names below are the API. They are imported on first use, so that `import iapo` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iapo.batches import to_dataset
    from iapo.config import IAPOConfig
    from iapo.evaluation import EvaluationSettings, evaluate, summarize
    from iapo.policy import Policy, load_policy, load_processor
    from iapo.records import Sample, Score, ToolCall, ToolResult, Trace
    from iapo.tools import TOOLS, ToolDefinition, ToolError, define, execute
    from iapo.trainer import IAPOTrainer

_HOMES = {
    "iapo.config": ("IAPOConfig",),
    "iapo.evaluation": ("EvaluationSettings", "evaluate", "summarize"),
    "iapo.policy": ("Policy", "load_policy", "load_processor"),
    "iapo.records": ("Sample", "Score", "ToolCall", "ToolResult", "Trace"),
    "iapo.tools": ("TOOLS", "ToolDefinition", "ToolError", "define", "execute"),
    "iapo.batches": ("to_dataset",),
    "iapo.trainer": ("IAPOTrainer",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "TOOLS",
    "EvaluationSettings",
    "IAPOConfig",
    "IAPOTrainer",
    "Policy",
    "Sample",
    "Score",
    "ToolCall",
    "ToolDefinition",
    "ToolError",
    "ToolResult",
    "Trace",
    "define",
    "evaluate",
    "execute",
    "load_policy",
    "load_processor",
    "summarize",
    "to_dataset",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'iapo' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
