"""What `iapo export` does: a trained policy, its adapter added, as a folder of the published form."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from iapo.checkpoint_names import numbered
from iapo.errors import InputError
from iapo.models import dtype_of
from iapo.results import MANIFEST, Manifest
from iapo.rollout.card import Exported, run_of, write_card
from iapo.rollout.configuration import read_config
from iapo.rollout.load_settings import LoadSettings
from iapo.rollout.loading import adapter_base
from iapo.rollout.names import ADAPTER, check_name, resolve
from iapo.rollout.policy import load_policy
from iapo.rollout.push import check_repository, push
from iapo.rollout.usage import USAGE, Usage
from iapo.rollout.wording import FILE
from iapo.rollout.writing import folder_at, whole_folder

DTYPES = ("bfloat16", "float16", "float32")
"""Types of written weights that may be asked for."""


def export(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    dtype: str | None = None,
    revision: str | None = None,
    *,
    push_to: str | None = None,
    private: bool = False,
) -> dict[str, Any]:
    """Writes a policy as a checkpoint that opens without iapo and PEFT, with a model card (`iapo.rollout.card`).

    `usage.json` beside it says which tools and turns its run had (`iapo.rollout.usage`).

    An adapter is added to its base in float32, so that the sum is rounded once, to the type that is written.

    Args:
        source: A run folder, whose trained policy is taken, the folder of a policy or an adapter, or a hub id.
        output: The folder to write; it is made last, under this name whole or not at all.
        dtype: Type of the written weights: `float32`, `bfloat16`, `float16`; None is the type that the policy's
            `config.json` names, of an adapter its base's.
        revision: Branch, tag or commit of a hub id.
        push_to: Repository of the hub, `OWNER/NAME`, that the folder is uploaded to when it is written; None uploads
            nothing.
        private: Whether that repository is private, where it is new.

    Returns:
        The policy's `source`, its `base` (None where it is no adapter), `dtype` and number of `parameters`, the `run`
        whose numbers the card has (None where it lies in none), and where it was `pushed` (None where it was not).

    Raises:
        InputError: If there is no such policy or type, the folder is taken or cannot be, an adapter makes weights that
            are no numbers, a file of its run is damaged, or it cannot be pushed.
    """
    if push_to is not None:
        check_repository(push_to)
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; use one of {', '.join(DTYPES)}")
    path, output = find_policy(source), folder_at(output, "output")
    if output.exists():
        raise InputError(f"{output} already exists; choose another --output or remove it")
    base = adapter_base(resolve(path), revision)
    merged = base is not None
    # A run's own prompt, where its policy brings none.
    asked = next((str(one) for one in (Path(path), Path(source)) if (one / FILE).is_file()), None)
    loading = LoadSettings(dtype="float32" if merged else "auto", model_revision=revision)
    policy = load_policy(path, loading, prompt=asked)
    model = policy.model
    if not all(bool(weight.isfinite().all()) for weight in model.parameters()):
        raise InputError(f"{path} has weights that are no finite numbers; export an earlier checkpoint")
    wanted = dtype or (_type_of(resolve(base[0]), base[1]) if base is not None else str(model.dtype))
    # Written down in config.json, too.
    model.to(getattr(torch, wanted.removeprefix("torch.")))
    exported = Exported(
        name=output.name,
        base=None if base is None else base[0],
        dtype=str(model.dtype).removeprefix("torch."),
        parameters=sum(weight.numel() for weight in model.parameters()),
        prompt=policy.template.name,
    )
    run = run_of(Path(path))
    final = run is not None and Path(path).resolve() == (run / "policy").resolve()
    with whole_folder(output) as part:
        model.save_pretrained(part)
        policy.processor.save_pretrained(part)
        if run is not None:
            manifest = run / MANIFEST
            Usage.of_run(Manifest.read(manifest).config, manifest).write(part)
        elif (Path(path) / USAGE).is_file():
            Usage.read(Path(path) / USAGE).write(part)
        write_card(part, exported, run, final=final)
    return {
        "source": path,
        "base": exported.base,
        "dtype": exported.dtype,
        "parameters": exported.parameters,
        "run": None if run is None else str(run),
        "pushed": None if push_to is None else push(output, push_to, private=private),
    }


def find_policy(source: str | os.PathLike[str]) -> str:
    """Finds the policy of a run folder; another name is returned as it is.

    Raises:
        InputError: If the run has no trained policy yet, or it is no name.
    """
    source = check_name(source)
    folder = Path(source)
    if (folder / "policy").is_dir():
        return str(folder / "policy")
    if folder.is_dir() and not any((folder / name).is_file() for name in ("config.json", ADAPTER)):
        steps = numbered(folder)
        hint = f"; its last checkpoint is {steps[max(steps)]}" if steps else ""
        raise InputError(f"{source} holds no trained policy{hint or '; give a run folder, or the folder of a policy'}")
    return source


def _type_of(path: str, revision: str | None) -> str:
    """Returns the type of a checkpoint's weights, as its configuration has it."""
    return str(dtype_of(read_config(path, revision)) or torch.float32)
