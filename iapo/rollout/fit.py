"""Whether the files of a checkpoint belong together: told from its configuration, before any weight is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedConfig, ProcessorMixin

from iapo.errors import InputError
from iapo.rollout.files import optional_file
from iapo.storage import read_json

TOKENIZER_FILE = "tokenizer_config.json"
"""What says of which class a tokenizer is, and which of its tokens ends a turn."""


def difference(config: PreTrainedConfig, processor: ProcessorMixin, image_token: int) -> str | None:
    """Says wherein a processor is of another model; None where it is not: its images and tokens would be none of this
    one's.

    Args:
        config: Configuration of the model.
        processor: The processor.
        image_token: Id of its image token.
    """
    vision, images = config.vision_config, processor.image_processor
    for what, mine, theirs in (
        ("image token", config.image_token_id, image_token),
        ("patch size", vision.patch_size, images.patch_size),
        ("merge size", vision.spatial_merge_size, images.merge_size),
        ("number of frames in a patch", vision.temporal_patch_size, images.temporal_patch_size),
    ):
        if mine != theirs:
            return f"its {what} is {theirs}, the model's {mine}"
    return None


def check_processor(name: str, config: PreTrainedConfig, processor: ProcessorMixin) -> None:
    """Refuses a checkpoint whose processor's files are another model's.

    Args:
        name: Name of the checkpoint.
        config: Its configuration.
        processor: Its processor.

    Raises:
        InputError: If so.
    """
    told, expected = processor.image_token_id, config.image_token_id
    if told != expected:
        raise InputError(
            f"<|image_pad|> is {told} for the tokenizer of {name} and {expected} in its config.json; they do not "
            "belong together"
        )
    if (found := difference(config, processor, told)) is not None:
        raise InputError(
            f"the processor of {name} is of another model: {found}; take preprocessor_config.json and "
            "processor_config.json from its source anew"
        )


def check_tokenizer(name: str, path: str, revision: str | None) -> None:
    """Refuses a tokenizer whose class or end token would be guessed, since a file is missing or says nothing.

    Args:
        name: Name of the checkpoint.
        path: Its folder or hub id.
        revision: Its branch, tag or commit on the hub.

    Raises:
        InputError: If so.
    """
    found = optional_file(path, TOKENIZER_FILE, revision)
    if found is None:
        raise InputError(
            f"{name} has no {TOKENIZER_FILE}, without which its tokenizer would be another one; take it from its "
            "source anew"
        )
    told = read_json(Path(found))
    for key in ("tokenizer_class", "eos_token"):
        # A class has an end token of its own, which need not be the checkpoint's.
        if not told.get(key):
            raise InputError(f"the {TOKENIZER_FILE} of {name} has no {key}; take it from its source anew")


def check_positions(name: str, config: PreTrainedConfig) -> None:
    """Refuses a `mrope_section` that does not share out the positions' part of a head.

    Args:
        name: Name of the checkpoint.
        config: Its configuration.

    Raises:
        InputError: If so.
    """
    text = config.get_text_config()
    section = (getattr(text, "rope_parameters", None) or {}).get("mrope_section")
    if section is None:
        return
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    fits = (
        isinstance(section, Sequence)
        and len(section) == 3
        and all(type(one) is int and one >= 0 for one in section)
        and 2 * sum(section) == size
    )
    if not fits:
        raise InputError(
            f"the config.json of {name!r} has the mrope_section {str(section)[:80]}; give three whole numbers that sum "
            f"to {size // 2}, half of the size of a head"
        )
