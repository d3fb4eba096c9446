"""What a checkpoint's folder holds, by which one that was written anew is told from what it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from iapo.own_files import digest_of
from iapo.rollout.loading import adapter_base

_INDEX = "*.index.json"

_SMALL = (
    *("config.json", "config.*.json", "generation_config.json", "adapter_config.json", _INDEX),
    *("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"),
    *("tokenizer.json", "tokenizer.*.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model"),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja"),
)
"""Files of a checkpoint beside its weights by which these are found, a prompt becomes numbers, and numbers text."""


def weights_of(model: str, revision: str | None = None) -> dict[str, int] | None:
    """Returns sizes and times of a checkpoint folder's weights, and of those that an adapter adapts: enough to notice
    that they were written anew.

    Args:
        model: The checkpoint.
        revision: Its branch, tag or commit on the hub.

    Returns:
        Numbers by file and kind; None for what is no folder.
    """
    if not Path(model).is_dir():
        return None
    stats = {name: file.stat() for name, file in weight_files(model, revision).items()}
    return {f"{name}, bytes": stat.st_size for name, stat in stats.items()} | {
        f"{name}, written": stat.st_mtime_ns for name, stat in stats.items()
    }


def weight_files(model: str, revision: str | None = None) -> dict[str, Path]:
    """Returns the files of a checkpoint folder's weights by name, and those of the folder that an adapter adapts; none
    for what is no folder.
    """
    return {
        f"{file.relative_to(folder).as_posix()}{of}": file
        for folder, of in _folders(model, revision)
        for file in _weights(folder)
    }


def small_files_of(model: str, revision: str | None = None) -> dict[str, str]:
    """Returns digests of a checkpoint folder's small files by name, and of those of the folder that an adapter adapts;
    none for what is no folder.
    """
    return {
        f"{file.relative_to(folder).as_posix()}{of}": digest_of(file)
        for folder, of in _folders(model, revision)
        for pattern in _SMALL
        for file in sorted(folder.glob(pattern))
        if file.is_file()
    }


def _folders(model: str, revision: str | None) -> Iterator[tuple[Path, str]]:
    """Yields a checkpoint's folder and that of its base, each with what stands behind its files' names."""
    if not Path(model).is_dir():
        return
    yield Path(model), ""
    base = adapter_base(model, revision)
    if base is not None and Path(base[0]).is_dir():
        yield Path(base[0]), " of the base"


def _weights(folder: Path) -> list[Path]:
    """Returns the files of weights in a folder, and those below it that an index names."""
    # A pipe would be waited for, and a link may lead to nothing; who loads it says so.
    found = {file for file in folder.glob("*.safetensors") if file.is_file()}
    for index in folder.glob(_INDEX):
        try:
            named = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            found |= {file for name in named if (file := folder / name).is_file()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # Who loads it says what is wrong with it.
            continue
    return sorted(found)
