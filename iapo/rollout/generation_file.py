"""`generation_config.json` of a checkpoint: the tokens that end a turn are heard, all else is kept or left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from iapo.errors import InputError
from iapo.rollout.files import DAMAGED, optional_file
from iapo.storage import read_json

FILE = "generation_config.json"


def read_generation(path: str, revision: str | None) -> GenerationConfig | None:
    """Reads a checkpoint's `generation_config.json`; None where it has none.

    What Transformers does not take of it is left out, but for the tokens: nothing else of it is heard.

    Args:
        path: Its folder or hub id.
        revision: Its branch, tag or commit on the hub.

    Raises:
        InputError: If the file cannot be read, or its `eos_token_id` is no token or list of tokens.
    """
    found = optional_file(path, FILE, revision)
    if found is None:
        return None
    told = read_json(Path(found))
    eos = told.get("eos_token_id")
    if not (eos is None or _is_token(eos) or (isinstance(eos, list) and all(map(_is_token, eos)))):
        raise InputError(
            f"the {FILE} of {path} has the eos_token_id {str(eos)[:80]!r}; give the id of a token, or a list of ids"
        )
    # Filling up is the tokenizer's, and beginnings are the chat template's.
    told.update({name: None for name in ("pad_token_id", "bos_token_id") if not _is_token(told.get(name))})
    try:
        whole = GenerationConfig.from_dict(told)
        whole.validate()
    except DAMAGED:
        return GenerationConfig(**{name: told.get(name) for name in ("eos_token_id", "pad_token_id", "bos_token_id")})
    return whole


def _is_token(value: Any) -> bool:
    return type(value) is int
