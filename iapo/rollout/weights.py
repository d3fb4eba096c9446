"""What the files of a checkpoint's weights hold, told from their headers, before any weight is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from iapo.errors import InputError, one_line
from iapo.rollout.files import first_line, optional_file
from iapo.storage import read_json

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"

NO_FLOATS = "holds no floating-point numbers in"
UNEXPLAINED = "no quantisation in its configuration explains that"

_QUANTISATION = "quantization_config"
# As safetensors names them; smaller ones are a quantisation's.
_PLAIN = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
_PACKED = 16
"""Numbers of a model that one number of a file may stand for where it is quantised."""

# The parts of a name that layouts of different releases have or leave out.
_PREFIX = re.compile(r"^(?:(?:model|language_model)\.)+")

_NAMED, _LONGEST_NAME = 3, 200


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a checkpoint, as the headers of its files tell.

    Attributes:
        shapes: Shapes by name; empty where no file was found.
        quantised: Whether its configuration speaks of a quantisation.
        types: Names of the types of its plain floating-point numbers, as torch has them.
    """

    shapes: Mapping[str, tuple[int, ...]]
    quantised: bool
    types: tuple[str, ...]


def read_weights(path: str, revision: str | None) -> Weights:
    """Reads the headers of a checkpoint's files.

    Args:
        path: Its folder or hub id.
        revision: Its branch, tag or commit on the hub.

    Raises:
        InputError: If a file cannot be read, a weight is there twice or in another file than the index says, the index
            names files outside of the folder, two checkpoints lie in it, weights are of integers or of 8 bits and no
            quantisation explains it, or the quantisation is one that Transformers would pass over.
    """
    config = read_json(Path(optional_file(path, "config.json", revision) or ""))
    method = _quantisation(path, config)
    shapes: dict[str, tuple[int, ...]] = {}
    names: dict[str, str] = {}
    odd: list[str] = []
    small: list[str] = []
    plain: set[str] = set()
    for file, places in _files(path, config.get("transformers_weights"), revision).items():
        found = optional_file(path, file, revision)
        if found is None:
            continue
        try:
            with safe_open(found, framework="pt") as content:
                slices = {key: content.get_slice(key) for key in content.keys()}  # noqa: SIM118
                held = {key: (tuple(one.get_shape()), one.get_dtype()) for key, one in slices.items()}
        except (OSError, SafetensorError) as error:
            raise InputError(f"the weights of {path} cannot be read: {first_line(error)}") from error
        for key, (shape, kind) in held.items():
            if places is not None and places.get(key) != file:
                said = f"places in {_short(str(places[key]))}" if key in places else "does not name"
                raise InputError(
                    f"{file} of {path} holds the weight {_short(key)}, which {_INDEX} {said}; take the index and all "
                    "shards from one source"
                )
            other = names.setdefault(_PREFIX.sub("", key), key)
            if other != key:
                raise InputError(
                    f"{path} holds one weight under two names, {_short(other)} and {_short(key)}; remove one of them, "
                    "or take it from its source anew"
                )
            shapes[key] = shape
            # Transformers rounds or cuts whatever numbers there are to the type that is asked for, without a word.
            if kind in _PLAIN:
                plain.add(_PLAIN[kind])
            else:
                (small if "F" in kind else odd).append(key)
    if method is None:
        refuse_keys(path, NO_FLOATS, "weight", odd, UNEXPLAINED)
        refuse_keys(path, "holds numbers of 8 bits or fewer in", "weight", small, UNEXPLAINED)
    elif method == "fp8" and shapes and not small:
        raise InputError(
            f"the config.json of {path} has a {_QUANTISATION} of the method 'fp8', but its files hold no such numbers; "
            "leave it out, or take them from one source"
        )
    return Weights(shapes, method is not None, tuple(sorted(plain)))


def _quantisation(path: str, config: Mapping[str, Any]) -> str | None:
    """Returns the method by which Transformers takes the weights to be quantised, None where by none. It looks at two
    places alone, and passes over what it does not know with no more than a warning.
    """
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    text = config.get("text_config")
    told = config.get(_QUANTISATION) or (text.get(_QUANTISATION) if isinstance(text, dict) else None)
    if not told:
        return None
    method = told.get("quant_method") if isinstance(told, dict) else None
    for bits in ("load_in_4bit", "load_in_8bit"):
        if isinstance(told, dict) and told.get(bits):
            method = f"bitsandbytes_{bits.removeprefix('load_in_')}"
    if not isinstance(method, str) or method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        raise InputError(
            f"the config.json of {path} has a {_QUANTISATION} of the method {_short(repr(method))}, which Transformers "
            "does not know and would pass over; take the checkpoint in another form"
        )
    return method


def _files(path: str, named: Any, revision: str | None) -> dict[str, Mapping[str, Any] | None]:
    """Names the files of weights, each with the index that tells what lies where; without one, None."""
    if isinstance(named, str):
        whole, index = (None, named) if named.endswith(".json") else (named, None)
        _check_inside(path, "config.json", named)
    else:
        whole, index = _WHOLE, _INDEX
    at = None if index is None else optional_file(path, index, revision)
    if whole is not None and (at is None or optional_file(path, whole, revision) is not None):
        if at is not None:
            raise InputError(
                f"{path} holds two checkpoints, {whole} and the shards of {index}; remove the one that is not meant"
            )
        return {whole: None}
    if at is None:
        return {}
    places = read_json(Path(at)).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(one, str) for one in places.values()):
        raise InputError(f"{index} of {path} has no weight_map from weights to files; take it from its source anew")
    shards = sorted(set(places.values()))
    for shard in shards:
        _check_inside(path, str(index), shard)
    return dict.fromkeys(shards, places)


def _check_inside(path: str, who: str, name: str) -> None:
    place = PurePosixPath(name)
    if not name or place.is_absolute() or ".." in place.parts or not name.isprintable():
        raise InputError(
            f"{who} of {path} names the file {_short(name)!r}, which is none of its folder; take it from its source "
            "anew"
        )


def check_size(path: str, model: PreTrainedModel, held: Weights) -> None:
    """Refuses a configuration of a much larger model than the files hold, whose weights would be made in vain.

    Args:
        path: Folder or hub id.
        model: The model that the configuration describes, on the meta device.
        held: What the files hold.

    Raises:
        InputError: If so.
    """
    numbers = sum(prod(shape) for shape in held.shapes.values())
    # The output layer may be the embeddings, and a few missing weights are named once all are read.
    told = sum(weight.numel() for weight in model.parameters())
    if held.shapes and told > 2 * numbers * (_PACKED if held.quantised else 1):
        raise InputError(
            f"the config.json of {path} describes a model of {told:,} numbers, but its files hold {numbers:,}; take "
            "them from one source"
        )


def refuse_keys(
    path: str, verb: str, what: str, keys: Iterable[str], why: str = "its files do not fit its config.json"
) -> None:
    """Refuses weights by name, where there are any.

    Args:
        path: Folder or hub id.
        verb: What it does with them.
        what: Noun for one of them.
        keys: Their names.
        why: What that says of it.

    Raises:
        InputError: If there is one.
    """
    names = [_short(key) for key in sorted(keys)]
    if not names:
        return
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    count = f"the {what}" if len(names) == 1 else f"{len(names)} {what}s:"
    raise InputError(f"{path} {verb} {count} {shown}; {why}, take it from its source anew")


def _short(name: str) -> str:
    return one_line(name)[:_LONGEST_NAME]
