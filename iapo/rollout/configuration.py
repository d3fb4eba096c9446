"""A checkpoint's `config.json`, looked at before Transformers makes what it counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from iapo.bounds import Bound
from iapo.errors import InputError
from iapo.rollout.files import optional_file
from iapo.storage import read_json

FILE = "config.json"

_COUNTED = ("num_hidden_layers", "depth", "num_labels")
_COUNT = Bound(0, 1000, whole=True)


def read_config(path: str, revision: str | None) -> PreTrainedConfig:
    """Reads a checkpoint's configuration.

    Args:
        path: Its folder or hub id.
        revision: Its branch, tag or commit on the hub.

    Raises:
        InputError: If the file is damaged, or counts more layers than any model has; Transformers would list them all.
        OSError: If there is none; or another of `iapo.rollout.files.DAMAGED`, as Transformers has it.
    """
    found = optional_file(path, FILE, revision)
    if found is not None:
        told = read_json(Path(found))
        for part in (told, *(one for one in told.values() if isinstance(one, dict))):
            _refuse_many(path, part)
    return AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)


def _refuse_many(path: str, part: dict[str, Any]) -> None:
    for name in _COUNTED:
        value = part.get(name)
        # Of another kind it is Transformers' to refuse.
        if type(value) is int and not _COUNT.allows(value):
            raise InputError(
                f"the {FILE} of {path!r} has the {name} {str(value)[:80]}; give {_COUNT}, or take the file from its "
                "source anew"
            )
