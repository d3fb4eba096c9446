"""Teach small vision-language models to use tools: GRPO with input-attribution alignment (IAPO).

The names below are the API. They are imported on first use, so that `import iapo` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iapo.agent.agent import Agent
    from iapo.agent.answers import Answer
    from iapo.evaluation.local import EvaluationSettings, evaluate
    from iapo.evaluation.measures import summarize
    from iapo.records import Sample, Score, ToolCall, ToolResult, Trace
    from iapo.rollout.load_settings import LoadSettings
    from iapo.rollout.policy import Policy, load_policy, load_processor
    from iapo.tools import TOOLS, Observation, ToolDefinition, ToolError, define, execute
    from iapo.training.batches import to_dataset
    from iapo.training.config import IAPOConfig
    from iapo.training.trainer import IAPOTrainer

_HOMES = {
    "iapo.agent.agent": ("Agent",),
    "iapo.agent.answers": ("Answer",),
    "iapo.training.config": ("IAPOConfig",),
    "iapo.evaluation.local": ("EvaluationSettings", "evaluate"),
    "iapo.evaluation.measures": ("summarize",),
    "iapo.rollout.load_settings": ("LoadSettings",),
    "iapo.rollout.policy": ("Policy", "load_policy", "load_processor"),
    "iapo.records": ("Sample", "Score", "ToolCall", "ToolResult", "Trace"),
    "iapo.tools": ("TOOLS", "Observation", "ToolDefinition", "ToolError", "define", "execute"),
    "iapo.training.batches": ("to_dataset",),
    "iapo.training.trainer": ("IAPOTrainer",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "TOOLS",
    "Agent",
    "Answer",
    "EvaluationSettings",
    "IAPOConfig",
    "IAPOTrainer",
    "LoadSettings",
    "Observation",
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
