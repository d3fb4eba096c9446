"""Weights handed to a vLLM server by a file: TRL streams them over NCCL, which takes CUDA. Both ends of it.

All else of server mode is as it is: what is handed over and when, who generates for whom, what the server forgets.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from trl.generation.vllm_client import VLLMClient

from iapo.training.vllm_rollouts import _keep_weights_on_cpu


class TakesFile:
    """What the server's worker is extended by (`--worker-extension-cls`)."""

    model_runner: Any

    def take_weights(self, path: str) -> None:
        """Loads weights, by the names that TRL gives them."""
        self.model_runner.model.load_weights(load_file(path).items())


def hand_over_by_file() -> None:
    """Has TRL's client hand weights over by a file."""

    def update(self: VLLMClient, metadata: Any, parameters: Iterator[tuple[str, torch.Tensor]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.safetensors"
            given = {name: value.detach().contiguous().clone() for name, value in parameters}
            assert [(name, str(one.dtype).removeprefix("torch."), list(one.shape)) for name, one in given.items()] == [
                *map(tuple, metadata)
            ]
            save_file(given, path)
            self._post(f"{self.base_url}/collective_rpc", json={"method": "take_weights", "args": [str(path)]})

    VLLMClient.init_communicator = lambda self, device=0: None
    VLLMClient.update_named_params = update


# The server's worker imports this before it loads the model.
_keep_weights_on_cpu()
