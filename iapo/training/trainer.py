"""`IAPOTrainer`: TRL's GRPO with turns around edited images, and rewards by name.

Every use of TRL's private seams is in this file. The rollouts run inside TRL's own generation path, so that vLLM,
PEFT, DeepSpeed and FSDP stay TRL's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from datasets import Dataset
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin
from trl import GRPOTrainer

from iapo.attribution.divergence import penalty_weight
from iapo.attribution.settings import alignment_settings
from iapo.models import bare_model
from iapo.records import Trace
from iapo.rewards.alignment import Measured
from iapo.rewards.columns import RewardFunction
from iapo.rewards.overlap import overlaps
from iapo.rewards.presets import make_outcome, make_preset
from iapo.rollout.policy import Policy
from iapo.rollout.template import PromptTemplate
from iapo.rollout.turns import Rollout, encode_prompts, finish
from iapo.teachers.references import Reference
from iapo.tools import TOOLS, ToolDefinition
from iapo.tools.failing import Failing
from iapo.training import kept, memories
from iapo.training.batches import Batch, finished, join_logprobs, picture_ids, samples_of
from iapo.training.budget import check_datasets, leave_out
from iapo.training.checks import check_settings
from iapo.training.config import IAPOConfig
from iapo.training.given import check_arguments, check_data, reward_functions
from iapo.training.groups import told_groups
from iapo.training.handing_on import hand_on
from iapo.training.keeper import RunKeeper
from iapo.training.lengths import short_enough
from iapo.training.loaded import make_alignment, prepare_reference_policy
from iapo.training.metrics import call_counts, call_flags, call_metrics, divergence_metrics, measured_columns, reward_of
from iapo.training.numbers import NumberWatch, guarded, look_at_log_probs, watched_measure
from iapo.training.packing import pack_parts
from iapo.training.policies import PolicyTrainer, make_encoder, with_processor
from iapo.training.ranks import EqualRows, look_at_tools
from iapo.training.rehearsal import refused_by_libraries
from iapo.training.resampling import draw_batch
from iapo.training.resume import Start
from iapo.training.scope import component_advantages, scopes_of, token_advantages
from iapo.training.shards import generating, prepare_shards
from iapo.training.shared_prefix import share_prefixes
from iapo.training.token_teacher import make_token_teacher
from iapo.training.trackers import report_live
from iapo.training.vllm_rollouts import take_part, vllm_for_rollouts

SEAMS = tuple(
    "_generate _generate_and_score_completions _generate_single_turn _calculate_rewards "  # noqa: SIM905
    "_tokenize_prompts _tool_call_loop _compute_loss _get_per_token_logps_and_entropies".split()
)
"""The private methods of `GRPOTrainer` that are overridden here."""


class IAPOTrainer(PolicyTrainer, GRPOTrainer):
    """GRPO for a vision-language agent that edits its image and then answers, aligned to a teacher.

    With `penalty_weight = 0` it is plain GRPO on the same rollouts, to the last bit. Training writes a run folder
    (`iapo.training.keeper`) into `args.output_dir`, which reports and studies read.

    Args:
        model: The student: a checkpoint (packaged name, folder or hub id) or a loaded model.
        reward_funcs: TRL reward functions; they also receive `trace` (a list of `iapo.records.Trace`) and `rollout`
            as columns, instead of the outcome. The other components of `args.reward` are columns after them.
        args: The settings.
        train_dataset: Train dataset as `to_dataset` makes it.
        eval_dataset: Eval dataset, the same.
        processing_class: The student's processor; loaded with the model where that is a name.
        teacher: A loaded teacher, or what `iapo.teachers.references.make_reference` made of one, instead of
            `args.teacher`.
        tools: The offered tools, by name.
        template: Prompt template, which the processing class keeps; its own, else `tools`, if None.
        on_rollouts: Callback, called with the optimiser step and the scored traces of each training batch of this
            process; given in all processes or in none.
        keep_run: Whether training writes `manifest.json`, `metrics.jsonl`, `traces.jsonl` and the traces' images into
            `args.output_dir`.
        kwargs: Passed to `GRPOTrainer`; its own `tools`, `rollout_func` and `environment_factory` cannot be used.

    Raises:
        InputError: If an argument is of another kind, the reward or its verifier cannot be, a penalty is asked for
            without a teacher, or the data set has not the columns it needs; nothing is loaded or written before.
            Or if the processing class is another model's, or does not take the prompts.
    """

    _tag_names: ClassVar = ["trl", "grpo", "iapo"]

    def __init__(
        self,
        model: str | Path | PreTrainedModel,
        reward_funcs: RewardFunction | list[RewardFunction] | None = None,
        args: IAPOConfig | None = None,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | None = None,
        processing_class: ProcessorMixin | None = None,
        teacher: Policy | Reference | None = None,
        tools: Mapping[str, ToolDefinition] = TOOLS,
        template: PromptTemplate | str | None = None,
        on_rollouts: Callable[[int, list[Trace]], None] | None = None,
        keep_run: bool = True,
        **kwargs: Any,
    ) -> None:
        args = IAPOConfig("iapo-run") if args is None else args
        model = str(model) if isinstance(model, Path) else model
        check_arguments(model, args, processing_class, teacher, tools, on_rollouts, keep_run, kwargs)
        check_settings(args, has_teacher=teacher is not None)
        functions = reward_functions(reward_funcs, args)
        check_data(args, train_dataset, eval_dataset)
        model, processing_class = with_processor(model, processing_class, args.device)
        # All that may be refused comes before TRL's own start, which makes the output folder.
        self.encoder, self.offered_tools = make_encoder(processing_class, template, model.config), tools
        train_dataset = short_enough(train_dataset, args, self.encoder, model.config, tools)
        self.budget = check_datasets((train_dataset, eval_dataset), args, self.encoder, model.config, tools)
        self.alignment = make_alignment(args, teacher, self.encoder, tools)
        outcome = make_outcome(args)
        asked = self._divergences, self._log_probs, self._overlaps
        preset = make_preset(args, outcome, *asked, tools=tools, device=args.device)
        self._columns = {column.name: column for column in preset.columns}
        watch = self.watch = NumberWatch(Path(args.output_dir), args.on_nonfinite, args.process_index)
        functions = list(map(watch.reward, functions or [outcome]))
        self.keeper = RunKeeper(args, train_dataset, self.encoder.template) if keep_run else None
        prepare_reference_policy(model, args)
        callbacks = [*((self.keeper,) if self.keeper else ()), *(kwargs.pop("callbacks", None) or ())]
        # The rows carry what TRL would drop as unused.
        args.remove_unused_columns = False
        with vllm_for_rollouts(args, model, self.encoder), refused_by_libraries("the settings"):
            super().__init__(
                model, functions, args, train_dataset, eval_dataset, processing_class, callbacks=callbacks, **kwargs
            )
        self._generates_in_step = prepare_shards(self)
        # Non-empty `tools` make TRL hand each batch to `_tool_call_loop` and carry its images to the loss. They are
        # set after its own checks, which concern JSON tool calls; our protocol is Python text.
        self.tools = [tool.function for tool in tools.values()]
        self._limit_turns(self.budget.first or args.max_completion_length)
        self.on_rollouts = report_live(self, on_rollouts)
        if args.reward_weights is None:
            self.reward_weights: Tensor = self.reward_weights * preset.outcome_weight
        self.reward_funcs += [watch.reward(memories.remembering(column), column.name) for column in preset.columns]
        self.reward_func_names += list(self._columns)
        self.reward_processing_classes += [None] * len(self._columns)
        self.reward_weights = torch.cat([self.reward_weights, torch.zeros(len(self._columns))])
        student = bare_model(self.accelerator.unwrap_model(self.model))
        # With `torch_compile` TRL has compiled the reference policy; packed rows are run by the model in it.
        found = [] if self.ref_model is None else [self.ref_model]
        references = [self.accelerator.unwrap_model(one, keep_torch_compile=False) for one in found]
        self._backbone, self._shares = student.model, args.share_prefix and share_prefixes(student, *references)
        self.token_teacher = make_token_teacher(args, self.alignment, shares=self._shares)
        self._batch = Batch([])
        self._loss_picture_ids: Tensor | None = None
        self._rollout_time, self._failing = 0.0, Failing()

    @property
    def penalty(self) -> float:
        """The divergence's weight in the next batch's reward."""
        return penalty_weight(self.state.global_step, self.args.penalty_weight, self.args.penalty_decay)

    def begin(self, start: Start) -> None:
        """Has the run's folder be this training's."""
        if self.keeper is not None:
            self.keeper.begin(start)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any) -> Tensor:
        self._rollout_time = 0.0
        start = time.perf_counter()
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._metrics["train"]["time/update"].append(time.perf_counter() - start - self._rollout_time)
        return loss

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        start = time.perf_counter()
        self.watch.new_batch(self.state.global_step + 1, self._mode)
        for index, name in enumerate(self.reward_func_names):
            if name in self._columns:
                self.reward_weights[index] = self._columns[name].weight_at(self.state.global_step)
        if self.args.dynamic_sampling and self._mode == "train":
            inputs = draw_batch(self, inputs)
        else:
            self._batch = Batch(samples_of(inputs))
        output = super()._generate_and_score_completions(inputs)
        look_at_log_probs(self.watch, output, self._batch.log_probs)
        self.watch.agree(self.accelerator.device)
        # The rows' images stay beside them when TRL shuffles and splits the batch.
        output["picture_ids"] = self._batch.picture_ids
        if scopes := scopes_of(self.reward_func_names, self._columns):
            weights, rank = self.reward_weights.to(self.accelerator.device), self.accelerator.process_index
            parts = component_advantages(self._batch.rewards, weights, self._group, self.scale_rewards)
            output["advantages"] = token_advantages(output, self._batch, scopes, parts, rank)
        if self.token_teacher is not None:
            passes = self._get_per_token_logps_and_entropies
            self.token_teacher.credit(output, self.model, passes, self.state.global_step, self._metrics[self._mode])
        self._record(self._batch)
        self._rollout_time = time.perf_counter() - start
        return output

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], list[list[Image.Image]], dict[str, Any]]:
        self._batch.prompts = encoded = self._batch.prompts or encode_prompts(
            self._batch.samples, self.encoder, self.offered_tools
        )
        ids = [prompt.ids for prompt in encoded]
        images = [list(prompt.images) for prompt in encoded]
        return ids, images, self._multimodal(ids, images)

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        start = time.perf_counter() - self._batch.seconds
        with generating(self):
            *rest, images, _ = super()._generate(prompts)
        self._metrics[self._mode]["time/rollout"].append(time.perf_counter() - start)
        # TRL rebuilds a batch's images from the image lists only if some tool made one, and else from its own
        # rendering of the prompt, which is not ours. Every image of a sequence is in `images`, so name that.
        return (*rest, images, images)

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if self._batch.rollouts:
            return [one.completion_ids for one in self._batch.rollouts], self._batch.log_probs
        made, end = self.sampled_as_set()(super()._generate_single_turn), self.encoder.tokenizer.eos_token_id
        nothing = [[end]] * len(prompt_ids), [[0.0]] * len(prompt_ids) if self.use_vllm else None
        what = "the policy's next token"
        turns: tuple[Any, Any] = guarded(self.watch, what, lambda: made(prompt_ids, *args, **kwargs), lambda: nothing)
        return turns

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
        if self._batch.rollouts:
            return finished(self._batch)
        rounds = [logprobs or []]

        def further_turns(ids: list[list[int]], pictures: list[list[Image.Image]]) -> list[list[int]]:
            fields = self._multimodal(ids, pictures)
            new, of_new = self._generate_single_turn(ids, pictures, fields, num_generations=1, has_tool_images=True)
            rounds.append(of_new or [])
            return new

        spare = prompt_ids[0], images[0]
        together = EqualRows(further_turns, self.accelerator, spare, self._generates_in_step, self.budget.turns - 1)
        rollouts = finish(
            self._batch.samples,
            self._batch.prompts,
            completion_ids,
            self.encoder,
            together,
            tools=self.offered_tools,
            budget=self.budget,
        )
        together.settle()
        if self.use_vllm:
            take_part(self.vllm_generation, self.budget.turns - len(rounds))
        self._batch.rollouts = rollouts
        self.watch.traces = [one.trace for one in rollouts]
        look_at_tools(self._failing, self.watch.traces)
        self._batch.picture_ids = picture_ids([one.images for one in rollouts]).to(self.accelerator.device)
        if logprobs is not None:
            self._batch.log_probs = join_logprobs(rollouts, rounds)
        return finished(self._batch)

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: Any, completions: Any, completion_ids_list: Any
    ) -> Tensor:
        batch = self._batch
        if batch.rewards is not None:
            return batch.rewards
        if self.args.measures:
            batch.measured = self._measure(batch.rollouts)
        rows = [{**row, "trace": one.trace, "rollout": one} for row, one in zip(inputs, batch.rollouts, strict=True)]
        rewards: Tensor = super()._calculate_rewards(rows, prompts, completions, completion_ids_list)
        batch.rewards = leave_out(rewards, batch.rollouts, self.accelerator)
        return batch.rewards

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        # The rows of a loss are some of a generation batch's, in another order.
        self._loss_picture_ids = inputs["picture_ids"]
        try:
            loss: Tensor = super()._compute_loss(model, inputs)
        finally:
            self._loss_picture_ids = None
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
        row_pictures = self._batch.picture_ids if self._loss_picture_ids is None else self._loss_picture_ids
        assert row_pictures is not None
        rows = {name: inputs[name] for name in given} | {"input_ids": input_ids, "attention_mask": attention_mask}
        log_probs, entropies = [], []
        step = batch_size or len(input_ids)
        for packed in pack_parts(self._backbone, step, completion=logits_to_keep, picture_ids=row_pictures, **rows):
            with self.accelerator.autocast():
                outputs = model(**packed.inputs, fused_lm_head=True)
            log_probs.append(packed.spread(outputs.log_probs))
            if compute_entropy:
                entropies.append(packed.spread(outputs.entropy))
        return torch.cat(log_probs), torch.cat(entropies) if compute_entropy else None, None

    def _measure(self, rollouts: Sequence[Rollout]) -> list[Measured]:
        assert self.alignment is not None
        start = time.perf_counter()
        with self.measuring() as student:
            measured = watched_measure(self.watch, self.alignment, student, rollouts, self.state.global_step)
        self._metrics[self._mode]["time/attribution"].append(time.perf_counter() - start)
        return measured

    def _divergences(self, rollouts: Sequence[Rollout]) -> list[float]:
        return [one.divergence for _, one in zip(rollouts, self._batch.measured, strict=True)]

    def _log_probs(self, rollouts: Sequence[Rollout]) -> list[float]:
        assert self.alignment is not None
        with self.measuring():
            return self.alignment.log_probs(rollouts)

    def _overlaps(self, rollouts: Sequence[Rollout]) -> list[float]:
        with self.whole() as student:
            return overlaps(student, self.encoder, alignment_settings(self.args), rollouts)

    def _multimodal(self, ids: list[list[int]], images: list[list[Image.Image]]) -> dict[str, Any]:
        image_token = self.encoder.image_token_id
        # Plain generation reads equal rows once; vLLM has its own prefix cache.
        others = self._generates_in_step or self.use_vllm or self.use_transformers_continuous_batching
        plain = self._shares and not others
        return {
            **({"picture_ids": picture_ids(images)} if plain else {}),
            **self.encoder.pixels([image for row in images for image in row]),
            "mm_token_type_ids": [[int(token == image_token) for token in row] for row in ids],
        }

    def more_state(self) -> dict[str, Any]:
        return kept.kept_state(self.alignment, self._columns.values())

    def load_more_state(self, state: Mapping[str, Any]) -> None:
        kept.load_kept(state, self.alignment, self._columns.values())

    def _limit_turns(self, tokens: int) -> None:
        if not self.use_vllm:
            self.generation_kwargs |= {"suppress_tokens": self.encoder.unwritable_ids, "max_new_tokens": tokens}
            self.generation_config.update(**self.generation_kwargs)
        else:
            self.vllm_generation.max_completion_length = tokens

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    @property
    def _group(self) -> int:
        return int(self.num_generations if self._mode == "train" else self.num_generations_eval)

    def _record(self, batch: Batch) -> None:
        """Logs what the batch's rollouts did, over all processes, and hands the traces on."""
        metrics, device = self._metrics[self._mode], self.accelerator.device
        flags, counts = call_flags(batch.rollouts), call_counts(batch.rollouts).to(device)
        of_calls = call_metrics(self.accelerator.reduce(counts, reduction="sum"), self.args.max_turns)
        for name, value in of_calls.items():
            metrics[name].append(value)
        metrics["attribution/lambda"].append(self.penalty)
        for name, weight in zip(self.reward_func_names, self.reward_weights.tolist(), strict=True):
            metrics[f"rewards/{name}/weight"].append(weight)
        for name, value in told_groups(batch, self.reward_weights, self._group).items():
            metrics[name].append(value)
        if batch.measured:
            told = self.accelerator.gather(torch.cat([measured_columns(batch.measured), flags], 1).to(device))
            rest = reward_of(batch.rewards, self.reward_weights, self.reward_func_names)
            for name, value in divergence_metrics(told, rest, self._group).items():
                metrics[name].append(value)
        if self._mode == "train":
            hand_on(self, batch, self.state.global_step + 1)
