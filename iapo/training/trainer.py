"""`IAPOTrainer`: TRL's GRPO with two turns around an edited picture, and rewards by name.

Every use of TRL's private seams is in this file. The rollouts run inside TRL's own generation path, so that vLLM,
PEFT, DeepSpeed and FSDP stay TRL's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from accelerate.utils import is_peft_model
from datasets import Dataset
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin
from transformers.utils import logging
from trl import GRPOTrainer

from iapo.attribution.divergence import misuse_auc, penalty_weight
from iapo.attribution.settings import alignment_settings
from iapo.errors import InputError
from iapo.records import Sample, Trace
from iapo.rewards.alignment import Alignment, Measured
from iapo.rewards.columns import RewardFunction
from iapo.rewards.presets import make_outcome, make_preset, scored_traces
from iapo.rollout.loading import load_settings
from iapo.rollout.policy import Policy, load_policy
from iapo.rollout.prompt import EncodedPrompt, PromptEncoder
from iapo.rollout.turns import Rollout, encode_prompts, finish
from iapo.teachers.references import make_reference
from iapo.tools import TOOLS, ToolDefinition
from iapo.training.batches import check_enough, join_logprobs, messages, picture_ids, samples_of
from iapo.training.config import IAPOConfig
from iapo.training.packing import pack
from iapo.training.shared_prefix import add_shared_prefix, cannot_share
from iapo.training.trackers import report_live

logger = logging.get_logger(__name__)

SEAMS = (
    "_generate",
    "_generate_and_score_completions",
    "_generate_single_turn",
    "_calculate_rewards",
    "_tokenize_prompts",
    "_tool_call_loop",
    "_compute_loss",
    "_get_per_token_logps_and_entropies",
    "_load_from_checkpoint",
)
"""The private methods of `GRPOTrainer` that are overridden here."""


class IAPOTrainer(GRPOTrainer):
    """GRPO for a vision-language agent that edits its picture in turn 1 and answers in turn 2, aligned to a teacher.

    With `penalty_weight = 0` it is plain GRPO on the same rollouts, to the last bit.

    Args:
        model: The student: a checkpoint (packaged name, folder or hub id) or a loaded model.
        reward_funcs: TRL reward functions; they also receive `trace` (a list of `iapo.records.Trace`) and `rollout`
            as columns, instead of the outcome. The other components of `args.reward` are columns after them.
        args: The settings.
        train_dataset: As `to_dataset` makes it.
        eval_dataset: The same.
        processing_class: The student's processor; loaded with the model where that is a name.
        teacher: A loaded teacher, instead of `args.teacher`.
        tools: The offered tools, by name.
        on_rollouts: Called with the optimiser step and the scored traces of each training batch of this process.
        kwargs: Passed to `GRPOTrainer`; its own `tools`, `rollout_func` and `environment_factory` cannot be used.

    Raises:
        InputError: If a penalty is asked for without a teacher, or the data set has not the columns it needs.
    """

    _tag_names: ClassVar = ["trl", "grpo", "iapo"]

    def __init__(
        self,
        model: str | PreTrainedModel,
        reward_funcs: RewardFunction | list[RewardFunction] | None = None,
        args: IAPOConfig | None = None,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | None = None,
        processing_class: ProcessorMixin | None = None,
        teacher: Policy | None = None,
        tools: Mapping[str, ToolDefinition] = TOOLS,
        on_rollouts: Callable[[int, list[Trace]], None] | None = None,
        **kwargs: Any,
    ) -> None:
        args = IAPOConfig("iapo-run") if args is None else args
        for taken in ("tools", "rollout_func", "environment_factory"):
            if kwargs.get(taken) is not None:
                raise InputError(f"{taken} is GRPOTrainer's own tool protocol; IAPOTrainer takes `tools` of iapo.tools")
        for dataset in (train_dataset, eval_dataset):
            missing = {"prompt", "image", "sample"} - set(dataset.column_names or ()) if dataset is not None else set()
            if missing:
                raise InputError(f"the data set has no column {sorted(missing)[0]!r}; make it with iapo.to_dataset")
        if train_dataset is not None:
            check_enough(len(train_dataset), args.generation_batch_size // args.num_generations)
        if isinstance(model, str):
            policy = load_policy(model)
            model, processing_class = policy.model, processing_class or policy.processor
        if processing_class is None:
            raise InputError("a loaded model needs its processing_class; iapo.rollout.policy.load_processor gives it")
        asks_teacher = args.measures or args.distills
        if asks_teacher and teacher is None and args.teacher_table is None:
            if args.teacher is None:
                raise InputError(
                    f"reward is {args.reward} with penalty_weight {args.penalty_weight} and always_measure "
                    f"{args.always_measure}, but there is no teacher; set `teacher` or `teacher_table`, or take grpo"
                )
            teacher = load_policy(args.teacher)
        # The rows carry what TRL would drop as unused.
        args.remove_unused_columns = False
        outcome = make_outcome(args)
        super().__init__(
            model=model,
            reward_funcs=list(reward_funcs) if isinstance(reward_funcs, list) else [reward_funcs or outcome],
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        self.encoder = PromptEncoder(processing_class)
        self.offered_tools = tools
        # Non-empty `tools` make TRL hand each batch to `_tool_call_loop` and carry its pictures to the loss. They are
        # set after its own checks, which concern JSON tool calls; our protocol is Python text.
        self.tools = [tool.function for tool in tools.values()]
        self._limit_turns(args.max_turn_tokens)
        self.on_rollouts = report_live(self, on_rollouts)
        self.alignment: Alignment | None = None
        if asks_teacher:
            settings = alignment_settings(args)
            reference = make_reference(settings, teacher, tools, self.accelerator.device)
            self.alignment = Alignment(reference, self.encoder, settings, tools)
        preset = make_preset(
            args, outcome, self._divergences, self._log_probs, tools=tools, device=self.accelerator.device
        )
        if args.reward_weights is None:
            self.reward_weights: Tensor = self.reward_weights * preset.outcome_weight
        self._columns = preset.columns
        self.reward_funcs += [column.function for column in self._columns]
        self.reward_func_names += [column.name for column in self._columns]
        self.reward_processing_classes += [None] * len(self._columns)
        self.reward_weights = torch.cat([self.reward_weights, torch.zeros(len(self._columns))])
        self._shares = args.share_prefix and self._add_shared_prefix()
        self._picture_ids: Tensor | None = None
        self._samples: list[Sample] = []
        self._rollouts: list[Rollout] = []
        self._measured: list[Measured] = []
        self._rollout_time = 0.0

    @property
    def penalty(self) -> float:
        """The divergence's weight in the next batch's reward."""
        return penalty_weight(self.state.global_step, self.args.penalty_weight, self.args.penalty_decay)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any) -> Tensor:
        self._rollout_time = 0.0
        start = time.perf_counter()
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._metrics["train"]["time/update"].append(time.perf_counter() - start - self._rollout_time)
        return loss

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        start = time.perf_counter()
        self._samples = samples_of(inputs)
        self._measured = []
        for index, column in enumerate(reversed(self._columns), 1):
            self.reward_weights[-index] = column.weight_at(self.state.global_step)
        output = super()._generate_and_score_completions(inputs)
        # The rows' pictures stay beside them when TRL shuffles and splits the batch.
        output["picture_ids"] = self._picture_ids
        self._record()
        self._rollout_time = time.perf_counter() - start
        return output

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], list[list[Image.Image]], dict[str, Any]]:
        encoded = encode_prompts(self._samples, self.encoder, self.offered_tools)
        self._prompts: list[EncodedPrompt] = encoded
        ids = [prompt.ids for prompt in encoded]
        images = [list(prompt.images) for prompt in encoded]
        return ids, images, self._multimodal(ids, images)

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        start = time.perf_counter()
        *rest, images, _ = super()._generate(prompts)
        self._metrics[self._mode]["time/rollout"].append(time.perf_counter() - start)
        # TRL rebuilds a batch's pictures from the image lists only if some tool made one, and else from its own
        # rendering of the prompt, which is not ours. Every picture of a sequence is in `images`, so name that.
        return (*rest, images, images)

    def _tool_call_loop(
        self,
        prompts: list[Any],
        prompt_ids: list[list[int]],
        completion_ids: list[list[int]],
        completions: list[Any],
        logprobs: list[list[float]] | None,
        images: list[list[Image.Image]],
        multimodal_fields: dict[str, Any],
    ) -> tuple[Any, ...]:
        second_logprobs: list[list[float]] | None = None

        def second_turns(ids: list[list[int]], pictures: list[list[Image.Image]]) -> list[list[int]]:
            nonlocal second_logprobs
            new, second_logprobs = self._generate_single_turn(
                ids, pictures, self._multimodal(ids, pictures), num_generations=1, has_tool_images=True
            )
            return new

        rollouts = finish(
            self._samples,
            self._prompts,
            completion_ids,
            self.encoder,
            second_turns,
            tools=self.offered_tools,
            max_completion=self.max_completion_length,
        )
        self._rollouts = rollouts
        self._picture_ids = picture_ids([one.images for one in rollouts]).to(self.accelerator.device)
        if logprobs is not None:
            logprobs = join_logprobs(rollouts, logprobs, second_logprobs or [])
        chats = [messages(one) for one in rollouts]
        calls = sum(one.trace.result.status != "no_call" for one in rollouts)
        failures = sum(one.trace.result.status in ("refused", "failed") for one in rollouts)
        mask = [[int(written) for written in one.model_written] for one in rollouts]
        return (
            mask,
            chats,
            [one.completion_ids for one in rollouts],
            logprobs,
            calls,
            failures,
            [one.edits for one in rollouts],
        )

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: Any, completions: Any, completion_ids_list: Any
    ) -> Tensor:
        rows = [{**row, "trace": one.trace, "rollout": one} for row, one in zip(inputs, self._rollouts, strict=True)]
        rewards: Tensor = super()._calculate_rewards(rows, prompts, completions, completion_ids_list)
        if self.args.measures and not self._measured:
            self._divergences(self._rollouts)
        self._rewards = rewards
        return rewards

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        self._picture_ids = inputs["picture_ids"]
        loss: Tensor = super()._compute_loss(model, inputs)
        return loss

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **inputs: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        given = {name for name, value in inputs.items() if value is not None and value is not False}
        if not self._shares or given != {"pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids"}:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, **inputs
            )
        assert self._picture_ids is not None
        patches = inputs["pixel_values"].split(inputs["image_grid_thw"].prod(-1).tolist())
        log_probs, entropies = [], []
        step = batch_size or len(input_ids)
        for start in range(0, len(input_ids), step):
            rows = slice(start, start + step)
            first, last = sum(inputs["num_images"][:start]), sum(inputs["num_images"][: start + step])
            packed = pack(
                self._backbone,
                input_ids=input_ids[rows],
                attention_mask=attention_mask[rows],
                pixel_values=torch.cat(patches[first:last]),
                image_grid_thw=inputs["image_grid_thw"][first:last],
                mm_token_type_ids=inputs["mm_token_type_ids"][rows],
                picture_ids=self._picture_ids[rows],
                completion=logits_to_keep,
            )
            with self.accelerator.autocast():
                outputs = model(**packed.inputs, fused_lm_head=True)
            log_probs.append(packed.spread(outputs.log_probs))
            if compute_entropy:
                entropies.append(packed.spread(outputs.entropy))
        return torch.cat(log_probs), torch.cat(entropies) if compute_entropy else None, None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        target = self.model if model is None else model
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or not isinstance(target, PreTrainedModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        # Files of Qwen-VL models name the weights otherwise than the model in memory does. Transformers' own resuming
        # does not translate the names: it finds no weight, warns, and trains on from the start.
        dtype = str(target.dtype).removeprefix("torch.")
        saved = load_policy(resume_from_checkpoint, load_settings({"dtype": dtype})).model
        target.load_state_dict(saved.state_dict())

    def _add_shared_prefix(self) -> bool:
        """Prepares student and reference for packed rows, or says in one log line why TRL's pass is used."""
        student = self.accelerator.unwrap_model(self.model)
        student = student.get_base_model() if is_peft_model(student) else student
        reason = cannot_share(student.config)
        if reason is None and (self.is_deepspeed_enabled or self.is_fsdp_enabled):
            reason = "packed rows are untested in training with sharded parameters (DeepSpeed, FSDP)"
        if reason is not None:
            logger.info("Each row runs its own prompt in the loss: %s.", reason)
            return False
        add_shared_prefix(student)
        self._backbone = student.model
        if self.ref_model is not None:
            add_shared_prefix(self.accelerator.unwrap_model(self.ref_model))
        return True

    def _divergences(self, rollouts: Sequence[Rollout]) -> list[float]:
        assert self.alignment is not None
        start = time.perf_counter()
        self._measured = self.alignment.measure(self.accelerator.unwrap_model(self.model), rollouts)
        self._metrics[self._mode]["time/attribution"].append(time.perf_counter() - start)
        return [one.divergence for one in self._measured]

    def _log_probs(self, rollouts: Sequence[Rollout]) -> list[float]:
        assert self.alignment is not None
        return self.alignment.log_probs(rollouts)

    def _multimodal(self, ids: list[list[int]], images: list[list[Image.Image]]) -> dict[str, Any]:
        image_token = self.encoder.image_token_id
        # Plain generation reads equal rows once; vLLM has its own prefix cache.
        plain = self._shares and not (self.use_vllm or self.use_transformers_continuous_batching)
        return {
            **({"picture_ids": picture_ids(images)} if plain else {}),
            **self.encoder.pixels([image for row in images for image in row]),
            "mm_token_type_ids": [[int(token == image_token) for token in row] for row in ids],
        }

    def _limit_turns(self, tokens: int | None) -> None:
        if not self.use_vllm:
            limits: dict[str, Any] = {"suppress_tokens": self.encoder.unwritable_ids}
            self.generation_kwargs |= limits if tokens is None else limits | {"max_new_tokens": tokens}
            self.generation_config.update(**self.generation_kwargs)
        elif tokens is not None:
            self.vllm_generation.max_completion_length = tokens

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    def _record(self) -> None:
        """Logs what the batch's rollouts did, over all processes, and hands the traces on."""
        results = [one.trace.result for one in self._rollouts]
        called = [result.status != "no_call" for result in results]
        edited = [result.status == "edited" for result in results]
        judged = [one.trace.sample.axis is not None and ok for one, ok in zip(self._rollouts, edited, strict=True)]
        misused = [one.trace.misused for one in self._rollouts]
        sums = torch.tensor([len(results), sum(called), sum(edited), sum(judged), sum(misused)], dtype=torch.float32)
        total = self.accelerator.reduce(sums.to(self.accelerator.device), reduction="sum").tolist()
        metrics = self._metrics[self._mode]
        metrics["tools/call_ratio"].append(_ratio(total[1], total[0]))
        metrics["tools/success_rate"].append(_ratio(total[2], total[1]))
        metrics["tools/misuse_rate"].append(_ratio(total[4], total[3]))
        metrics["attribution/lambda"].append(self.penalty)
        for name, weight in zip(self.reward_func_names, self.reward_weights.tolist(), strict=True):
            metrics[f"rewards/{name}/weight"].append(weight)
        if self._measured:
            right = [ok and not wrong for ok, wrong in zip(judged, misused, strict=True)]
            rows = zip((one.divergence for one in self._measured), misused, right, strict=True)
            told = self.accelerator.gather(torch.tensor([*rows], device=self.accelerator.device))
            group = self.num_generations if self._mode == "train" else self.num_generations_eval
            divergences, *calls = told.T.reshape(3, -1, group)
            metrics["attribution/divergence"].append(divergences.mean().item())
            metrics["attribution/misuse_auc"].append(misuse_auc(divergences, *(one.bool() for one in calls)))
        if self.on_rollouts is not None and self._mode == "train":
            step, offset = self.state.global_step + 1, self.accelerator.process_index * len(results)
            names = [name.removesuffix("_reward") for name in self.reward_func_names]
            rewards = self._rewards[offset : offset + len(results)]
            if self.alignment is not None and self._measured:
                student, count = self.accelerator.unwrap_model(self.model), self.args.traces_at(step)
                self._measured = self.alignment.add_patches(student, self._rollouts, self._measured, count)
            self.on_rollouts(step, scored_traces(self._rollouts, names, rewards, self._measured, step))


def _ratio(part: float, whole: float) -> float:
    """A share; NaN, which TRL leaves out of its averages, where there is nothing to share."""
    return part / whole if whole else float("nan")
