"""Whether the files of a checkpoint belong together: told from its configuration, before any weight is read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from PIL.Image import Resampling
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedConfig, ProcessorMixin

from iapo.bounds import ANY, COUNT, Bound
from iapo.errors import InputError, one_line
from iapo.rollout.chat_template import template_of
from iapo.rollout.configuration import told_in
from iapo.rollout.files import DAMAGED, first_line, optional_file
from iapo.rollout.generation_file import FILE as GENERATION_FILE
from iapo.storage import read_json

TOKENIZER_FILE = "tokenizer_config.json"
"""What says of which class a tokenizer is, and which of its tokens ends a turn."""

PICTURE_FILES = ("processor_config.json", "preprocessor_config.json")

_VOCABULARY = ("vocab.json", "merges.txt")
"""What a tokenizer without `tokenizer.json` is made of."""

_ADDED = "added_tokens.json"

_NAMED = {
    "<|vision_start|>": "vision_start_token_id",
    "<|vision_end|>": "vision_end_token_id",
    "<|image_pad|>": "image_token_id",
    "<|video_pad|>": "video_token_id",
}
_OPENING = ("<|im_start|>", *_NAMED)
"""Tokens that end no turn."""

_CONTROL = re.compile(r"<\|[a-z_]+\|>")
"""Tokens that a chat template writes between the texts of a chat."""

_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
"""What a template says to its readers alone."""

_SIDES = ("patch_size", "merge_size", "temporal_patch_size")
_STEPS = ("do_resize", "do_rescale", "do_normalize")
# That colours are RGB is seen to where images are read.
_RESAMPLINGS = tuple(Resampling)
_SPREAD = Bound(1e-3, 1e3)
_SCALE = Bound(0, 1, above=True)
_TEXT = (
    "<|im_start|>system\nYou're to answer, don't guess: 12.50 % of 3, 1,024?<|im_end|>\n<|im_start|>user\n"
    '<|vision_start|><|image_pad|><|vision_end|>  {"a": [1, -2]}\r\n\n\tdef Naïve_e\u0301(x): 中文 + "🙂"<|im_end|>\n'
)
"""Text whose tokens tell tokenizers apart: marks, words, numbers, white space, other scripts, composed letters."""


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


def check_processor(
    name: str, config: PreTrainedConfig, processor: ProcessorMixin, path: str, revision: str | None
) -> None:
    """Refuses a checkpoint whose processor's files are another model's: its images, or the ids of its tokens.

    Args:
        name: Name of the checkpoint.
        config: Configuration of its model.
        processor: Its processor.
        path: Folder or hub id of its model; of an adapter, its base's.
        revision: Branch, tag or commit of that on the hub.

    Raises:
        InputError: If so.
    """
    vocabulary = processor.tokenizer.get_vocab()
    for token, key in _NAMED.items():
        told, expected = vocabulary.get(token), getattr(config, key, None)
        if None not in (told, expected) and told != expected:
            raise InputError(
                f"{token} is {told} for the tokenizer of {name} and {expected} in its config.json; they do not belong "
                "together"
            )
    _check_ends(name, config, processor.tokenizer, path, revision)
    if (found := difference(config, processor, processor.image_token_id)) is not None:
        raise InputError(
            f"the processor of {name} is of another model: {found}; take preprocessor_config.json and "
            "processor_config.json from its source anew"
        )


def _check_ends(name: str, config: PreTrainedConfig, tokenizer: Any, path: str, revision: str | None) -> None:
    """Compares the tokens that end a turn: a tokenizer without its `tokenizer.json` may number them otherwise."""
    whole = told_in(path, revision)
    generation = optional_file(path, GENERATION_FILE, revision)
    rows = config.get_text_config().vocab_size
    ends: set[int] = set()
    for part in (whole, whole.get("text_config"), {} if generation is None else read_json(Path(generation))):
        told = part.get("eos_token_id") if isinstance(part, dict) else None
        # Transformers writes that of published models where none was set.
        ends.update(one for one in (told if isinstance(told, list) else [told]) if type(one) is int and one < rows)
    names = tokenizer.convert_ids_to_tokens(sorted(ends))
    if opening := next((one for one in names if one in _OPENING), None):
        own = tokenizer.convert_tokens_to_ids(opening)
        raise InputError(
            f"{opening} is {own} for the tokenizer of {name}, and ends a turn by its config.json or "
            f"{GENERATION_FILE} (eos_token_id); they do not belong together"
        )
    if ends and tokenizer.eos_token_id not in ends:
        raise InputError(
            f"{tokenizer.eos_token} is {tokenizer.eos_token_id} for the tokenizer of {name}, whose config.json and "
            f"{GENERATION_FILE} end a turn by {', '.join(map(str, sorted(ends)))} (eos_token_id); take them from "
            f"one source, or give all ids that end a turn as the eos_token_id of its {GENERATION_FILE}"
        )


def check_template(name: str, processor: ProcessorMixin) -> None:
    """Refuses a chat template that writes control tokens which are none of the tokenizer's: it would read them letter
    by letter.

    Args:
        name: Name of the checkpoint.
        processor: Its processor.

    Raises:
        InputError: If so, or if there are several templates and none is the one that chats are rendered by.
    """
    if isinstance(processor.chat_template, dict) and not isinstance(processor.chat_template.get("default"), str):
        raise InputError(
            f"{name} has several chat templates and none of the name default; put the one that is meant into its "
            "chat_template.jinja"
        )
    tokenizer = processor.tokenizer
    for token in sorted(set(_CONTROL.findall(_COMMENT.sub("", template_of(processor))))):
        read = tokenizer(token, add_special_tokens=False)["input_ids"]
        if len(read) != 1:
            raise InputError(
                f"the chat template of {name} writes {token}, which its tokenizer reads as {len(read)} tokens; take "
                "tokenizer.json, tokenizer_config.json and the template from one source"
            )


def _check_added(name: str, tokenizer: Any, told: Any, file: str) -> None:
    """Compares the ids of added tokens that a file tells with what was made of them; `told` maps tokens to ids."""
    own = tokenizer.get_vocab()
    for token, expected in told.items():
        if own.get(token) != expected:
            raise InputError(
                f"{one_line(token)[:80]} is {own.get(token)} for the tokenizer of {name} and {str(expected)[:80]} in "
                f"its {file}; take both from one source"
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


def check_vocabulary(name: str, path: str, revision: str | None) -> None:
    """Refuses a tokenizer of two files where one of them is missing.

    Args:
        name: Name of the checkpoint.
        path: Its folder or hub id.
        revision: Its branch, tag or commit on the hub.

    Raises:
        InputError: If so.
    """
    if optional_file(path, "tokenizer.json", revision) is not None:
        return
    lacking = [file for file in _VOCABULARY if optional_file(path, file, revision) is None]
    if len(lacking) == 1:
        there = next(file for file in _VOCABULARY if file not in lacking)
        raise InputError(
            f"{name} has {there} but no {lacking[0]}, and a tokenizer is made of both; take them from its source anew"
        )


def check_alike(name: str, path: str, revision: str | None, processor: ProcessorMixin) -> None:
    """Refuses an adapter that has a tokenizer and no image processor beside it, unless its tokenizer is its base's.

    Args:
        name: Name of the adapter.
        path: Its folder or hub id.
        revision: Its branch, tag or commit on the hub.
        processor: The base's processor.

    Raises:
        InputError: If its tokenizer is another one, or cannot be loaded.
    """
    given = {} if revision is None else {"revision": revision}
    check_vocabulary(name, path, revision)
    try:
        own = AutoTokenizer.from_pretrained(path, trust_remote_code=False, **given)
    except DAMAGED as error:
        raise InputError(
            f"the adapter {name} has a tokenizer beside it that cannot be loaded: {first_line(error)}; remove its "
            "files, and its base's is taken"
        ) from error
    base = processor.tokenizer
    if _content(own) != _content(base):
        what = "that reads otherwise than its base's"
    elif own.chat_template and own.chat_template != processor.chat_template:
        what = "with another chat template than its base's"
    else:
        return
    raise InputError(
        f"the adapter {name} has a tokenizer {what}, and no image processor beside it ({PICTURE_FILES[1]}); put its "
        "base's there, or remove the tokenizer's files, and its base's are taken"
    )


def _content(tokenizer: Any) -> tuple[Any, ...]:
    """Returns all by which a tokenizer reads and what ends a turn, whatever the form of its files."""
    inner = getattr(tokenizer, "backend_tokenizer", None)
    told = tokenizer.get_vocab() if inner is None else json.loads(inner.to_str())
    # How it last filled up or cut off a text is no part of it.
    held = {key: value for key, value in told.items() if key not in ("padding", "truncation")}
    return held, tokenizer.eos_token


def check_reading(name: str, path: str, revision: str | None, tokenizer: Any) -> None:
    """Refuses a tokenizer that does not read a text as its `tokenizer.json` says, or not the same way each time.

    Args:
        name: Name of the checkpoint.
        path: Its folder or hub id.
        revision: Its branch, tag or commit on the hub.
        tokenizer: The tokenizer, as it was loaded.

    Raises:
        InputError: If so, or a text cannot be filled up, or its longest one is no number.
    """
    if tokenizer.pad_token_id is None:
        raise InputError(f"the {TOKENIZER_FILE} of {name} has no pad_token; set it, to <|endoftext|> for example")
    longest = tokenizer.model_max_length
    if isinstance(longest, bool) or not isinstance(longest, int | float):
        raise InputError(f"the {TOKENIZER_FILE} of {name} has the model_max_length {longest!r:.80}; give a number")
    if getattr(tokenizer, "split_special_tokens", False):
        raise InputError(
            f"the {TOKENIZER_FILE} of {name} has split_special_tokens, so that images would have no tokens; leave it "
            "out"
        )
    settings = optional_file(path, TOKENIZER_FILE, revision)
    added = read_json(Path(settings)).get("added_tokens_decoder") if settings is not None else None
    if isinstance(added, dict):
        named = {one["content"]: int(key) for key, one in added.items() if isinstance(one, dict) and "content" in one}
        _check_added(name, tokenizer, named, TOKENIZER_FILE)
    found = optional_file(path, "tokenizer.json", revision)
    if found is None:
        if (other := optional_file(path, _ADDED, revision)) is not None:
            _check_added(name, tokenizer, read_json(Path(other)), _ADDED)
        elif not isinstance(added, dict):
            raise InputError(
                f"{name} has neither a tokenizer.json nor a file that tells the ids of its added tokens ({_ADDED}, or "
                f"added_tokens_decoder in {TOKENIZER_FILE}), so that they would be guessed; take tokenizer.json from "
                "its source"
            )
        return
    told = read_json(Path(found))
    model = told.get("model")
    if isinstance(model, dict) and model.get("dropout"):
        raise InputError(
            f"the tokenizer.json of {name} has the dropout {model['dropout']!r:.40}, by which a text has other tokens "
            "each time; set it to null"
        )
    own = Tokenizer.from_file(found)
    own.no_truncation()
    own.no_padding()
    if own.encode(_TEXT, add_special_tokens=False).ids != tokenizer(_TEXT, add_special_tokens=False)["input_ids"]:
        kind = read_json(Path(settings or "")).get("tokenizer_class")
        raise InputError(
            f"the {TOKENIZER_FILE} of {name} makes another tokenizer than its tokenizer.json describes: the same text "
            f"gets other tokens (tokenizer_class {kind!r:.80}); take both from one source, or set tokenizer_class to "
            "PreTrainedTokenizerFast"
        )


def names_old_pictures(path: str, revision: str | None) -> bool:
    """Tells whether a checkpoint names its image processor as early files of Qwen2.5-VL did; it is Qwen2-VL's."""
    for file in PICTURE_FILES:
        found = optional_file(path, file, revision)
        if found is not None:
            told = read_json(Path(found))
            images = told if file == PICTURE_FILES[1] else told.get("image_processor")
            if isinstance(images, dict):
                return images.get("image_processor_type") == "Qwen2_5_VLImageProcessor"
    return False


def check_pictures(name: str, images: Any) -> None:
    """Refuses settings of an image processor by which no published model sees, or none can.

    Args:
        name: Name of the checkpoint.
        images: Its image processor.

    Raises:
        InputError: If so.
    """
    if not any(one.__name__.startswith("Qwen2VLImageProcessor") for one in type(images).__mro__):
        raise InputError(
            f"{name} has an image processor of the type {type(images).__name__}; Qwen2VLImageProcessor is known, so "
            "take preprocessor_config.json and processor_config.json from its source anew"
        )

    def numbers(value: Any, bound: Bound) -> bool:
        listed = isinstance(value, list | tuple) and len(value) == 3
        return listed and all(bound.allows(one) for one in value)

    size = dict(images.size) if images.size is not None else {}
    edges = {key: size.get(key) for key in ("shortest_edge", "longest_edge")}
    for key, value, fits, want in (
        *((key, value, COUNT.allows(value), "a whole number above 0") for key, value in edges.items()),
        *((key, getattr(images, key), COUNT.allows(getattr(images, key)), "a whole number above 0") for key in _SIDES),
        *((key, getattr(images, key), getattr(images, key) is True, "true") for key in _STEPS),
        ("rescale_factor", images.rescale_factor, _SCALE.allows(images.rescale_factor), str(_SCALE)),
        ("image_mean", images.image_mean, numbers(images.image_mean, ANY), "three numbers"),
        ("image_std", images.image_std, numbers(images.image_std, _SPREAD), f"three numbers, {_SPREAD}"),
        ("resample", images.resample, images.resample in _RESAMPLINGS, "a number from 0 to 5"),
    ):
        if not fits:
            shown = one_line(repr(value) if isinstance(value, str) else str(value))[:80]
            raise InputError(
                f"the image processor of {name} has the {key} {shown}; give {want}, or take "
                "preprocessor_config.json and processor_config.json from its source anew"
            )
