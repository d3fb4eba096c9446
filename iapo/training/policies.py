"""What `IAPOTrainer` trains: a model with its processor and its prompt, which stay together where it is saved."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel, ProcessorMixin

from iapo.errors import InputError
from iapo.rollout.fit import difference
from iapo.rollout.generation import tokens_alone
from iapo.rollout.load_settings import load_settings
from iapo.rollout.policy import load_policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.template import PromptTemplate, find_prompt
from iapo.training.adapted import check_head
from iapo.training.numbers import WatchCallback
from iapo.training.resumable import ResumableTrainer
from iapo.training.shards import whole_checkpoints, whole_parameters
from iapo.training.teacher_shards import TeacherShards, teacher_shards


def with_processor(
    model: str | PreTrainedModel, processor: ProcessorMixin | None, device: torch.device
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Returns a model and its processor, loaded onto a device where the model is a name.

    Raises:
        InputError: If it cannot be loaded, or a loaded model comes without its processor.
    """
    if isinstance(model, str):
        policy = load_policy(model, device=str(device))
        return policy.model, processor or policy.processor
    if processor is None:
        raise InputError("a loaded model needs its processing_class; iapo.rollout.policy.load_processor gives it")
    return model, processor


def make_encoder(
    processor: ProcessorMixin, template: PromptTemplate | str | None, config: PreTrainedConfig
) -> PromptEncoder:
    """Returns a processor's encoder; a template that is given stays with the processor, for all that is made of it.

    Args:
        processor: The processor.
        template: The template; the processor's own if None.
        config: Configuration of the model that it is to fit.

    Raises:
        InputError: If there is no such template, or the processor is of another model.
    """
    if template is not None:
        processor.prompt = find_prompt(template)
    encoder = PromptEncoder(processor)
    if (found := difference(config, processor, encoder.image_token_id)) is not None:
        raise InputError(
            f"the processing_class is of another model: {found}; iapo.load_processor gives a checkpoint's own"
        )
    return encoder


class PolicyTrainer(ResumableTrainer):
    """A trainer whose policies are whole: saved with their prompt, and found again by the published names of weights.

    The template is written also where the processor is of another class than iapo's own.

    Attributes:
        encoder: The policy's encoder.

    Raises:
        InputError: As `iapo.training.adapted.check_head`.
    """

    encoder: PromptEncoder

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_head(self.accelerator.unwrap_model(self.model))

    def whole(self, wanted: bool = True) -> AbstractContextManager[Any]:
        """Has each process hold all parameters while it is open, if wanted, and gives the unwrapped model; all enter
        and leave it together.
        """
        return whole_parameters(self) if wanted else nullcontext()

    @contextmanager
    def sampled_as_set(self) -> Iterator[None]:
        """Has the policy generate as the settings say while it is open, and not as its checkpoint's file does."""
        with tokens_alone(self.accelerator.unwrap_model(self.model, keep_torch_compile=False)):
            yield

    @functools.cached_property
    def teacher_shards(self) -> TeacherShards | None:
        """What keeps the teacher in shards; None where it is not."""
        return teacher_shards(self.args, getattr(self, "alignment", None))

    @contextmanager
    def measuring(self) -> Iterator[Any]:
        """Has each process hold all parameters of the student, and of a teacher that is kept in shards, while it is
        open, and gives the unwrapped student; all enter and leave it together.
        """
        with self.whole() as student, self.teacher_shards.whole() if self.teacher_shards else nullcontext():
            yield student

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Trains, looks at the gradient of each step, and has a teacher in shards meanwhile, if it is to be."""
        # Behind all others: what they measure as a training begins finds the teacher whole.
        own = [one for one in (WatchCallback(self.watch), self.teacher_shards) if one is not None]
        for one in own:
            self.add_callback(one)
        try:
            return super().train(*args, **kwargs)
        finally:
            for one in own:
                self.remove_callback(one)

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns a part of a step's loss, which is looked at before anything is made of it."""
        found = super().compute_loss(model, inputs, *args, **kwargs)
        if model.training:
            self.watch.of_step(found[0] if isinstance(found, tuple) else found, inputs)
        return found

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves the model and, beside it, the prompt template; a sharded one in one piece, in any checkpoint."""
        with whole_checkpoints(self):
            super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            self.encoder.template.write(Path(output_dir or self.args.output_dir))

    def load_weights(self, folder: Path) -> None:
        """Gives the policy the weights of a saved one, or its adapter's; not once training has begun.

        Args:
            folder: What `save_policy` wrote.
        """
        if isinstance(self.model, PreTrainedModel):
            self._load_whole(self.model, str(folder))
        else:
            super()._load_from_checkpoint(str(folder))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        target = self.model if model is None else model
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or not isinstance(target, PreTrainedModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self._load_whole(target, resume_from_checkpoint)

    def _load_whole(self, target: PreTrainedModel, folder: str) -> None:
        # Files of Qwen-VL models name the weights otherwise than the model in memory does. Transformers' own resuming
        # does not translate the names: it finds no weight, warns, and trains on from the start.
        dtype = str(target.dtype).removeprefix("torch.")
        saved = load_policy(folder, load_settings({"dtype": dtype})).model
        target.load_state_dict(saved.state_dict())

    def _load_best_model(self) -> None:
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        if sharded or not isinstance(self.model, PreTrainedModel) or self.state.best_model_checkpoint is None:
            super()._load_best_model()
        else:
            # As above: Transformers' own way finds no weight, warns, and keeps the last ones.
            self._load_from_checkpoint(self.state.best_model_checkpoint)
