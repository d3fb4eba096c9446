"""How an adapter is put on its base: its names, its weights, and what it makes of tied embeddings."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import PreTrainedModel

from iapo.errors import InputError, one_line
from iapo.rollout.adapter_settings import check_kinds_of_settings
from iapo.rollout.files import DAMAGED, LONGEST_REASON, first_line, optional_file
from iapo.rollout.load_settings import LoadSettings
from iapo.rollout.loading import refuse_not_finite
from iapo.rollout.names import ADAPTER
from iapo.rollout.weights import NO_FLOATS, UNEXPLAINED, refuse_keys
from iapo.storage import read_json

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

ADAPTER_WEIGHTS = "adapter_model.safetensors"

_UNFIT: tuple[type[Exception], ...] = (ImportError, *DAMAGED)

_OLD_NAMES = {
    r"^visual\.": "model.visual.",
    r"^model\.(?=(?:layers|embed_tokens|norm)\.)": "model.language_model.",
}
"""What adapters that were made before Transformers 4.52 name otherwise; as Transformers renames a checkpoint's."""

_NEW_NAMES = {r"^model\.visual\.": "visual.", r"^model\.language_model\.": "model."}
_PREFIX = "base_model."
_MISFIT = f"its {ADAPTER_WEIGHTS} does not fit its {ADAPTER}"
_UNNAMED = f"PEFT writes {_PREFIX}model. before each name"


def add_adapter(base: PreTrainedModel, path: str, settings: LoadSettings) -> PreTrainedModel:
    """Puts an adapter on its base.

    Args:
        base: The loaded base; it is changed.
        path: The adapter's folder or hub id.
        settings: The loading settings; `model_revision` is the adapter's.

    Returns:
        The base with the adapter added to its weights or left in its layers, or a `PeftModel`, as `merge_adapter` says.

    Raises:
        InputError: If PEFT is missing, or the adapter does not fit the base.
    """
    if find_spec("peft") is None:
        raise InputError(f"{path} is an adapter; pip install peft to load it")
    from peft import LoraConfig, PeftModel, get_peft_model_state_dict, load_peft_weights

    revision: dict[str, Any] = {} if settings.model_revision is None else {"revision": settings.model_revision}
    trainable = settings.merge_adapter is False
    file = optional_file(path, ADAPTER_WEIGHTS, settings.model_revision)
    if file is None:
        raise InputError(f"{path} has no {ADAPTER_WEIGHTS}; weights are read from safetensors alone, so convert them")
    try:
        with safe_open(file, framework="pt") as content:
            names = list(content.keys())
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    refuse_keys(path, "has", "unknown weight", (one for one in names if not one.startswith(_PREFIX)), _UNNAMED)
    told = optional_file(path, ADAPTER, settings.model_revision)
    check_kinds_of_settings(path, read_json(Path(told or "")), LoraConfig)
    try:
        weights = load_peft_weights(path, device="cpu", key_mapping=_OLD_NAMES, **revision)
        # Early files have the adapter's name in those of its weights, which PEFT reads as well.
        weights = {re.sub(r"\.default(?=\.|$)", "", key): weight for key, weight in weights.items()}
        held = _held(base, weights)
        config = LoraConfig.from_pretrained(path, **revision)
        if any(_renamed(one.removeprefix(f"{_PREFIX}model."), _OLD_NAMES) is not None for one in names):
            _rename_targets(config, base)
        model = PeftModel.from_pretrained(
            base, path, is_trainable=trainable, key_mapping=_OLD_NAMES, config=config, **revision
        )
        with _named(model, base.name_or_path):
            expected = get_peft_model_state_dict(model)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    except _UNFIT as error:
        # A size or a module that does not fit; PEFT has no exception of its own.
        raise InputError(f"the adapter {path} does not fit its base: {_adapter_reason(error)}") from error
    if len(weights) < len(names):
        raise InputError(
            f"{path} holds weights twice, under their names and those of earlier releases; take it from its source anew"
        )
    refuse_keys(path, "lacks", "weight", expected.keys() - weights.keys(), _MISFIT)
    more = weights.keys() - expected.keys()
    refuse_keys(path, "has", "unknown weight", more - held.keys(), _MISFIT)
    odd = [key for key, weight in weights.items() if not weight.is_floating_point()]
    refuse_keys(path, NO_FLOATS, "weight", odd, UNEXPLAINED)
    refuse_not_finite(path, weights)
    lost = [key for key, weight in expected.items() if not _is_near(weight, weights[key])]
    refuse_keys(path, "has", "weight", lost, "PEFT reads other numbers than its file holds")
    other = {key: weights[key] for key in more if not _is_same(held[key], weights[key])}
    if other:
        _check_taken(path, model, other)
    if trainable:
        return cast(PreTrainedModel, model)
    if settings.quantised:
        return cast(PreTrainedModel, model.eval().requires_grad_(False).get_base_model())
    # PEFT froze the base, whose weights are now all there is.
    tied = bool(getattr(base.config, "tie_word_embeddings", False))
    _separate(path, base)
    try:
        merged = model.merge_and_unload().requires_grad_(True)
    except _UNFIT as error:
        # Such as a bias for a layer that has none.
        raise InputError(
            f"the adapter {path} cannot be added to its base ({_adapter_reason(error)}); load it with "
            "merge_adapter=False, or train one without what is named"
        ) from error
    _refuse_left(path, merged)
    if tied:
        _note_separate(merged)
    refuse_not_finite(path, dict(merged.named_parameters()))
    # What it was made of: the base alone is another model.
    merged.config._name_or_path = path
    return cast(PreTrainedModel, merged)


def _unreadable(path: str, error: Exception) -> InputError:
    return InputError(f"the weights of the adapter {path} cannot be read: {first_line(error)}")


def _renamed(name: str, mapping: Mapping[str, str]) -> str | None:
    """Renames a module or a weight as a release did; None where that leaves the name as it is."""
    for pattern, new in mapping.items():
        found, count = re.subn(pattern, new, name)
        if count:
            return found
    return None


def _held(base: PreTrainedModel, weights: Iterable[str]) -> dict[str, torch.Tensor]:
    """Copies those weights of a base that an adapter's file names as well, before PEFT writes over them."""
    own = base.state_dict()
    places = {key: key.removeprefix(f"{_PREFIX}model.").replace(".base_layer.", ".") for key in weights}
    return {key: own[place].clone() for key, place in places.items() if place in own}


def _is_same(one: torch.Tensor | None, other: torch.Tensor) -> bool:
    if one is None or one.is_meta or one.shape != other.shape:
        return False
    return torch.equal(one, other.to(device=one.device, dtype=one.dtype))


def _is_near(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Tells it of a weight in memory and that in a file, which may be of another type; of one elsewhere nothing."""
    if one.is_meta or not other.numel():
        return True
    apart = one.detach().float().cpu() - other.float()
    return bool(apart.abs().max() <= 0.01 * other.float().abs().max())


def _check_taken(path: str, model: PeftModel, other: Mapping[str, torch.Tensor]) -> None:
    """Refuses other values of its base's weights, which no setting of the adapter names, unless they are the model's
    now and become a whole checkpoint's; beside a trained adapter they would not be saved again.
    """
    taken, trainable = model.state_dict(), any(one.requires_grad for one in model.parameters())
    if lost := sorted(key for key in other if trainable or not _is_same(taken.get(key), other[key])):
        raise InputError(
            f"the adapter {path} holds another {lost[0]} than its base, which its {ADAPTER} names in neither "
            "modules_to_save nor bias; "
            + ("trained on, it would be lost, so `iapo export` it first" if trainable else "PEFT does not take it")
        )


def _rename_targets(config: LoraConfig, base: PreTrainedModel) -> None:
    """Has an adapter of earlier names adapt what it adapted: its lists and patterns are read on the names that the
    modules had, and replaced by the whole names that these have.
    """
    from peft.tuners.tuners_utils import check_target_module_exists
    from peft.utils.other import get_pattern_key

    old = {name: _renamed(name, _NEW_NAMES) or name for name, _ in base.named_modules()}
    found = [name for name in old if config.target_modules and check_target_module_exists(config, old[name])]
    for patterns in (config.rank_pattern or {}, config.alpha_pattern or {}):
        keys, told = list(patterns), dict(patterns)
        then = {name: told.get(get_pattern_key(keys, old[name])) for name in found}
        if any(then[name] != told.get(get_pattern_key(keys, name)) for name in found):
            patterns.clear()
            patterns.update({re.escape(name): value for name, value in then.items() if value is not None})
    # Where nothing is found PEFT says so, with the names that were sought.
    if found and found != [name for name in old if check_target_module_exists(config, name)]:
        config.target_modules = found
        config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
    if config.target_parameters:
        # PEFT takes the end of a name, as it does here.
        early = {_renamed(name, _NEW_NAMES) or name for name, _ in base.named_parameters()}
        config.target_parameters = [
            (_renamed(one, _OLD_NAMES) or one) if one in early else one for one in config.target_parameters
        ]
    if config.modules_to_save:
        config.modules_to_save = [_renamed(f"{one}.", _OLD_NAMES) or f"{one}." for one in config.modules_to_save]
        config.modules_to_save = [one.removesuffix(".") for one in config.modules_to_save]


def _separate(path: str, base: PreTrainedModel) -> None:
    """Gives the output layer a weight of its own where it shares that of the embeddings and one of them is adapted:
    added to the one weight, the adapter of either layer would change both.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    head, embeddings = base.get_output_embeddings(), base.get_input_embeddings()
    if not any(isinstance(one, BaseTunerLayer) for one in (head, embeddings)):
        return
    inner = head.get_base_layer() if isinstance(head, BaseTunerLayer) else head
    if inner.weight is embeddings.weight:
        if inner.weight.is_meta:
            raise InputError(
                f"{path} adapts embeddings that are the output layer as well, which cannot be taken apart where they "
                "are not in memory; load it without device_map"
            )
        inner.weight = nn.Parameter(inner.weight.detach().clone(), requires_grad=inner.weight.requires_grad)


def _refuse_left(path: str, merged: PreTrainedModel) -> None:
    """Of a layer that is adapted in two ways at once PEFT merges one alone."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    left = (name for name, one in merged.named_modules() if isinstance(one, BaseTunerLayer | AuxiliaryTrainingWrapper))
    if (name := next(left, None)) is not None:
        raise InputError(
            f"the adapter {path} adapts {name} in two ways at once, which PEFT cannot add to its base; load it with "
            "merge_adapter=False, or train one without trainable_token_indices"
        )


def _note_separate(merged: PreTrainedModel) -> None:
    """Writes into the configuration that the output layer is not the embeddings, where an adapter made it another."""
    if merged.get_output_embeddings().weight is merged.get_input_embeddings().weight:
        return
    # PEFT notes it in the first alone, and not where the values are the same.
    for part in (merged.config, merged.config.get_text_config()):
        part.tie_word_embeddings = False
    # Else a later tie_weights() would make them one again.
    merged.all_tied_weights_keys = merged.get_expanded_tied_weights_keys(all_submodels=True)


@contextlib.contextmanager
def _named(model: Any, base: str) -> Iterator[None]:
    """Lets an adapter's configuration name its base by the place where it lies; PEFT reads that, and asks the hub for
    what it cannot find.
    """
    config = model.peft_config[model.active_adapter]
    named, config.base_model_name_or_path = config.base_model_name_or_path, base
    try:
        yield
    finally:
        config.base_model_name_or_path = named


def _adapter_reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in lines if "size mismatch" in line), lines[0] if lines else type(error).__name__)
    if isinstance(error, KeyError) and str(error.args[0]).startswith(_PREFIX):
        said = f"it lacks the weight {error.args[0]}, which its {ADAPTER} names"
    return one_line(said)[:LONGEST_REASON]
