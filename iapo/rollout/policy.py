"""Student, teacher, processor: real Qwen2.5-VL and Qwen3-VL checkpoints, and the packaged tiny ones by name."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from transformers import PreTrainedModel, ProcessorMixin, Qwen2_5_VLConfig, Qwen2_5_VLProcessor

from iapo.errors import InputError
from iapo.models import MODEL_FAMILIES
from iapo.rollout.adapter import add_adapter
from iapo.rollout.configuration import (
    check_complete,
    check_deepstack,
    check_kind_of_model,
    check_positions,
    read_config,
    told_in,
)
from iapo.rollout.files import DAMAGED, first_line, optional_file
from iapo.rollout.fit import (
    PICTURE_FILES,
    TOKENIZER_FILE,
    check_alike,
    check_pictures,
    check_processor,
    check_reading,
    check_template,
    check_tokenizer,
    check_vocabulary,
    names_old_pictures,
)
from iapo.rollout.load_settings import LoadSettings, is_hub_id
from iapo.rollout.loading import adapter_base, limit_pixels, load_model
from iapo.rollout.names import check_name, packaged, resolve
from iapo.rollout.template import DEFAULT, PromptTemplate, find_prompt, read_prompt
from iapo.rollout.template import FILE as PROMPT_FILE
from iapo.rollout.trial import check_runs

# By the side of a patch in pixels: the classes whose names a saved processor bears.
_PUBLISHED = {14: ("Qwen2_5_VLProcessor", "Qwen2VLVideoProcessor"), 16: ("Qwen3VLProcessor", "Qwen3VLVideoProcessor")}
_VIDEO_FILE = "video_preprocessor_config.json"


class ImageTextProcessor(Qwen2_5_VLProcessor):
    """The processor of Qwen2.5-VL and Qwen3-VL with the video part left out, since that part needs torchvision.

    The two families treat text and images alike, but for numbers that each checkpoint's image processor holds: the
    patch size (14 and 16), the mean and the deviation of pixels. Only videos are written into the text differently.
    What is saved bears the names of the published classes and has the settings of the video part, so that it opens
    where this package is not installed.

    Attributes:
        prompt: Prompt template that the model knows, saved as `prompt.yaml` beside it; None: it brings none.
    """

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None) -> None:
        self.prompt: PromptTemplate | None = None
        self.image_token = "<|image_pad|>"
        self.video_token = "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        self.video_settings: dict[str, Any] | None = None
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Self:
        if names_old_pictures(str(pretrained_model_name_or_path), kwargs.get("revision")):
            # By a configuration Transformers finds the class where it does not know the name.
            kwargs["config"] = Qwen2_5_VLConfig()
        processor: Self = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        processor.video_settings = _video_settings(str(pretrained_model_name_or_path), kwargs.get("revision"))
        return processor

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as the published processor of this family has them, video part included."""
        processor_class, video_class = _PUBLISHED[self.image_processor.patch_size]
        settings: dict[str, Any] = super().to_dict()
        video = self.video_settings
        if video is None:
            video = {k: v for k, v in settings["image_processor"].items() if k != "image_processor_type"}
        video = {**video, "video_processor_type": video_class}
        return {**settings, "video_processor": video, "processor_class": processor_class}

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """Writes the processor's files, and the image processor's own that vLLM and evaluation kits read."""
        written: list[str] = super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        folder = Path(save_directory)
        settings = self.to_dict()
        images = settings["image_processor"]
        # Of older releases' two names for one limit.
        limits = {"min_pixels": images["size"]["shortest_edge"], "max_pixels": images["size"]["longest_edge"]}
        named = {"processor_class": settings["processor_class"]}
        _write_json(folder / "preprocessor_config.json", {**images, **limits, **named})
        _write_json(folder / _VIDEO_FILE, {**settings["video_processor"], **named})
        tokenizer_file = folder / "tokenizer_config.json"
        tokenizer = json.loads(tokenizer_file.read_text(encoding="utf-8"))
        # How it was loaded is not how it is.
        tokenizer = {k: v for k, v in tokenizer.items() if k not in ("is_local", "local_files_only")}
        _write_json(tokenizer_file, {**tokenizer, **named})
        if self.prompt is not None:
            self.prompt.write(folder)
        return written


@dataclass(frozen=True, slots=True)
class Policy:
    """A model and the processor that belongs to it."""

    model: PreTrainedModel
    processor: ProcessorMixin

    @property
    def template(self) -> PromptTemplate:
        """The prompt template that it is asked with: the one that its processor brings along, else `tools`."""
        return getattr(self.processor, "prompt", None) or find_prompt(DEFAULT)


def file_beside(name: str, file: str, revision: str | None = None) -> Path | None:
    """Finds a file that lies beside a checkpoint's; None where there is none.

    Args:
        name: A packaged checkpoint, a local folder or a hub id; of what is neither there is none.
        file: Name of the file.
        revision: Its branch, tag or commit on the hub.
    """
    path = resolve(name)
    found = optional_file(path, file, revision) if _is_known(path) else None
    return None if found is None else Path(found)


def _is_known(path: str) -> bool:
    # What is neither is refused where it is loaded.
    return Path(path).is_dir() or is_hub_id(path)


def prompt_of(name: str, prompt: str | PromptTemplate | None = None, revision: str | None = None) -> PromptTemplate:
    """Says which prompt template a checkpoint is asked with, reading no more than its `prompt.yaml`.

    Args:
        name: A packaged checkpoint, a local folder or a hub id; also an adapter's, whose base counts where it has none.
        prompt: Template of one's own choice (`iapo.rollout.template.find_prompt`), which counts before all else.
        revision: Its branch, tag or commit on the hub.

    Returns:
        The chosen one, else the one beside the checkpoint, as trainings save it, else `tools`.

    Raises:
        InputError: If there is no such template, or the file beside the checkpoint is none.
    """
    if prompt is not None:
        return find_prompt(prompt)
    path, beside = resolve(name), file_beside(name, PROMPT_FILE, revision)
    if _is_known(path) and beside is None and (base := adapter_base(path, revision)) is not None:
        return prompt_of(base[0], None, base[1])
    try:
        return find_prompt(DEFAULT) if beside is None else read_prompt(beside)
    except InputError as error:
        raise InputError(f"{error}; or set prompt, {DEFAULT} for example, which counts instead") from error


def load_processor(
    name: str | os.PathLike[str], settings: LoadSettings | None = None, *, prompt: str | PromptTemplate | None = None
) -> ProcessorMixin:
    """Loads the processor of a checkpoint, without torchvision.

    Args:
        name: A packaged checkpoint, a local folder or a hub id.
        settings: Its revision, and the limits of its images.
        prompt: Prompt template (`prompt_of`); the checkpoint's own, else `tools`, if None.

    Raises:
        InputError: If its image processor, its tokenizer, what that is, a token of images or the chat template is
            missing, or the limits do not fit; or as `prompt_of`.
    """
    settings = _checked(settings)
    name = path = resolve(name)
    template = prompt_of(path, prompt, settings.model_revision)
    revision = {} if settings.model_revision is None else {"revision": settings.model_revision}
    check_vocabulary(name, path, settings.model_revision)
    try:
        processor = ImageTextProcessor.from_pretrained(path, trust_remote_code=False, **revision)
    except DAMAGED as error:
        raise InputError(f"{name} has no processor that can be loaded: {first_line(error)}") from error
    tokenizer = processor.tokenizer
    vocabulary = tokenizer.get_vocab()
    lacking = [token for token in ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>") if token not in vocabulary]
    if lacking:
        raise InputError(
            f"the tokenizer of {name} does not know {lacking[0]}; its files (tokenizer.json, tokenizer_config.json) "
            "are missing or another model's"
        )
    check_tokenizer(name, path, settings.model_revision)
    check_reading(name, path, settings.model_revision, tokenizer)
    # Older files have it in tokenizer_config.json alone.
    processor.chat_template = processor.chat_template or tokenizer.chat_template
    if not processor.chat_template:
        raise InputError(f"{name} has no chat template; put its chat_template.jinja or chat_template.json beside it")
    check_template(name, processor)
    check_pictures(name, processor.image_processor)
    if processor.image_processor.patch_size not in _PUBLISHED:
        raise InputError(
            f"{name} has image patches of {processor.image_processor.patch_size} pixels; 14 or 16 are known"
        )
    limit_pixels(processor, settings)
    processor.prompt = template
    return processor


def find_checkpoint(name: str, revision: str | None = None) -> str:
    """Says where a checkpoint is, reading its configuration alone.

    Args:
        name: A packaged checkpoint (`tiny-student`, `tiny-teacher`), a local folder or a hub id; also an adapter's.
        revision: Its branch, tag or commit on the hub.

    Returns:
        Its folder, or the hub id.

    Raises:
        InputError: If there is no such checkpoint (the message names what is packaged), it is of another model type,
            its positions do not fit its heads, or it is an adapter whose base cannot be found.
    """
    path = resolve(name)
    unknown = f"no checkpoint {name!r}: neither packaged ({', '.join(packaged()) or 'none'}) nor a local folder"
    # A hub id is an owner and a name; what cannot be one is refused without asking the hub.
    if not Path(path).is_dir() and not is_hub_id(name):
        raise InputError(unknown)
    base = adapter_base(path, revision)
    if base is not None:
        try:
            find_checkpoint(*base)
        except InputError as error:
            raise InputError(
                f"the base of the adapter {name!r} cannot be had ({error}); set base_model_name_or_path in its "
                "adapter_config.json to where it is"
            ) from error
        return path
    file = Path(path) / "config.json"
    # A folder is asked for many times, by who refuses early and by who loads; an unchanged file is read once.
    written = (file.stat().st_mtime_ns, file.stat().st_size) if file.is_file() else None
    (_check_config if written is None else _check_config_once)(name, path, revision, unknown, written)
    return path


def _check_config(name: str, path: str, revision: str | None, unknown: str, written: tuple[int, int] | None) -> None:
    try:
        config = read_config(path, revision)
    except DAMAGED as error:
        if (inner := Path(path) / "policy").is_dir() and not (Path(path) / "config.json").is_file():
            raise InputError(f"{name!r} is the folder of a run; name its policy, {str(inner)!r}") from error
        if Path(path).is_dir():
            raise InputError(f"{name!r} is no checkpoint: {first_line(error)}") from error
        raise InputError(f"{unknown}, nor to be had from the hub ({first_line(error)})") from error
    for part in (config, *(getattr(config, one, None) for one in config.sub_configs)):
        attention = str(getattr(part, "_attn_implementation", None))
        if "|" in attention:
            raise InputError(
                f"the config.json of {name!r} has the attn_implementation {attention[:80]!r}, which is for another way "
                "to generate; leave it out"
            )
        if "/" in attention:
            raise InputError(
                f"the config.json of {name!r} names an attention of the hub, which is code that would be fetched and "
                "run; leave its attn_implementation out"
            )
    if config.model_type not in MODEL_FAMILIES:
        titles = " or ".join(f"a {family.title}" for family in MODEL_FAMILIES.values())
        raise InputError(f"{name!r} is a {config.model_type!r} model; use {titles} checkpoint")
    check_complete(name, told_in(path, revision))
    check_kind_of_model(name, config)
    check_positions(name, config)
    check_deepstack(name, config)


_check_config_once = functools.lru_cache(maxsize=64)(_check_config)


def load_policy(
    name: str | os.PathLike[str],
    settings: LoadSettings | None = None,
    *,
    device: str | None = None,
    prompt: str | PromptTemplate | None = None,
) -> Policy:
    """Loads a vision-language model and its processor.

    Args:
        name: A packaged checkpoint (`tiny-student`, `tiny-teacher`), a local folder or a hub id; also the folder of
            an adapter (PEFT), which is loaded with its base.
        settings: Settings of the loading.
        device: Device of the model, instead of the settings' one.
        prompt: Prompt template that it is asked with: a packaged name, a YAML file, or a loaded one; that beside the
            checkpoint, as trainings save it, else `tools`, if None (docs/prompts.md).

    Raises:
        InputError: As `find_checkpoint`, `prompt_of`, `load_processor` and `iapo.rollout.loading.load_model`; or if the
            model has fewer tokens than its tokenizer, its processor is another model's, or it cannot be run.
    """
    settings, name = _checked(settings), check_name(name)
    if device is not None:
        settings = replace(settings, device=device)
    path = find_checkpoint(name, settings.model_revision)
    template = prompt_of(path, prompt, settings.model_revision)
    base = adapter_base(path, settings.model_revision)
    if base is None:
        processor = load_processor(path, settings, prompt=template)
        check_processor(name, read_config(path, settings.model_revision), processor, path, settings.model_revision)
        model = load_model(path, settings)
    else:
        base_path, at_base = resolve(base[0]), replace(settings, model_revision=base[1])
        # A trained adapter has its processor beside it, one from elsewhere a part of it or none.
        tokenizer, *pictures = (
            optional_file(path, file, settings.model_revision) is not None for file in (TOKENIZER_FILE, *PICTURE_FILES)
        )
        home, at = (path, settings) if tokenizer and any(pictures) else (base_path, at_base)
        processor = load_processor(home, at, prompt=template)
        if tokenizer and home is base_path:
            check_alike(name, path, settings.model_revision, processor)
        check_processor(
            name, read_config(base_path, at_base.model_revision), processor, base_path, at_base.model_revision
        )
        model = add_adapter(load_model(base_path, at_base), path, settings)
    # There may be gaps among the ids.
    tokens = max(processor.tokenizer.get_vocab().values()) + 1
    if tokens > (rows := model.get_input_embeddings().weight.shape[0]):
        raise InputError(f"the tokenizer of {name} has {tokens} tokens, its model {rows}; they do not belong together")
    check_runs(name, model, processor)
    return Policy(model, processor)


def _checked(settings: LoadSettings | None) -> LoadSettings:
    """Refuses what are no settings of a loading; the usual ones if None."""
    if settings is None:
        return LoadSettings()
    if not isinstance(settings, LoadSettings):
        raise InputError(f"settings are of type {type(settings).__name__}; give iapo.LoadSettings")
    return settings


def see_alike(processor: ProcessorMixin, other: ProcessorMixin, asked: LoadSettings | None = None) -> None:
    """Gives a processor another one's limits of images, in place, so that two models see an image alike.

    Where patches differ in size, limits of whole checkpoints differ for that reason, and only those hold that are asked
    for.

    Args:
        processor: The processor.
        other: The one whose limits are taken.
        asked: Settings of the other model's loading.

    Raises:
        InputError: If the limits do not fit the model.
    """
    images, own = other.image_processor, processor.image_processor
    if (images.patch_size, images.merge_size) == (own.patch_size, own.merge_size):
        low, high = images.size["shortest_edge"], images.size["longest_edge"]
        limit_pixels(processor, LoadSettings(min_pixels=low, max_pixels=high))
    elif asked is not None:
        limit_pixels(processor, LoadSettings(min_pixels=asked.min_pixels, max_pixels=asked.max_pixels))


def _video_settings(path: str, revision: str | None) -> dict[str, Any] | None:
    """Returns what a checkpoint says of videos, to be saved again as it is."""
    for name in ("processor_config.json", _VIDEO_FILE):
        found = optional_file(path, name, revision)
        if found is not None:
            content = json.loads(Path(found).read_text(encoding="utf-8"))
            video = content if name == _VIDEO_FILE else content.get("video_processor")
            if isinstance(video, dict):
                return {key: value for key, value in video.items() if key != "processor_class"}
    return None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
