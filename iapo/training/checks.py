"""What `IAPOTrainer` refuses before anything is loaded or written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Sized
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import GenerationConfig, GenerationMixin, PreTrainedConfig

from iapo.bounds import SECONDS, check_number
from iapo.errors import InputError
from iapo.plugins import function_name
from iapo.rewards.presets import check_reward, logged_as
from iapo.rollout.load_settings import check_vllm
from iapo.training.config import IAPOConfig
from iapo.training.rehearsal import refused_by_libraries, rehearse

_NO_PROCESSOR = frozenset({"max_time"})
"""Keys of `generation_kwargs` that act otherwise than on a token's scores."""


def check_settings(args: IAPOConfig, *, has_teacher: bool = False) -> None:
    """Refuses a reward that cannot be, vLLM where there is none, and what TRL and Transformers would refuse later.

    Args:
        args: The settings.
        has_teacher: Whether a teacher is loaded already.

    Raises:
        InputError: As `iapo.rewards.presets.check_reward` and `rehearse`, if vLLM is missing, or if a teacher is asked
            about and there is none.
    """
    rehearse(args)
    if args.fp16 and args.device.type == "cpu":
        raise InputError("fp16 is true, but the training runs on the CPU, which computes in float32 then; leave it out")
    _check_checkpointing(args)
    if not args.use_vllm:
        _check_generation(args.generation_kwargs or {})
    preset = check_reward(args)
    if args.use_vllm:
        check_vllm()
    scoped = next((column for column in preset.columns if column.scope != "rollout"), None)
    if scoped is not None and args.multi_objective_aggregation != "sum_then_normalize":
        raise InputError(
            f"the component {scoped.name!r} counts for some tokens alone ({scoped.scope}), which needs "
            f"multi_objective_aggregation sum_then_normalize, not {args.multi_objective_aggregation}"
        )
    if args.asks_teacher and not has_teacher and args.teacher is None and args.teacher_table is None:
        raise InputError(
            f"reward is {args.reward} with penalty_weight {args.penalty_weight}, always_measure "
            f"{args.always_measure}, token_distill_weight {args.token_distill_weight}, but there is no teacher; set "
            "`teacher` or `teacher_table`, or take grpo"
        )


def _check_checkpointing(args: IAPOConfig) -> None:
    """Refuses values that PyTorch's checkpoints do not take."""
    for name in ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"):
        # Up to Transformers 5.17 there is one of them.
        if given := getattr(args, name, None):
            with refused_by_libraries(f"{name} {given}"):
                checkpoint(torch.neg, torch.ones(1, requires_grad=True), **{"use_reentrant": False, **given})


class _Sampling(GenerationMixin):
    """Makes of a configuration what changes the next token's scores, without a model."""

    def __init__(self) -> None:
        self.config = PreTrainedConfig(vocab_size=8, eos_token_id=0)

    def processors(self, given: Mapping[str, Any]) -> int:
        """Counts what `generation_kwargs` make of it."""
        config = GenerationConfig(do_sample=True, top_k=0, **given)
        config._eos_token_tensor = torch.tensor([0])
        ids = torch.ones(1, 2, dtype=torch.long)
        found = self._get_logits_processor(config, 2, encoder_input_ids=ids, device="cpu")
        return len(found)


def _check_generation(given: Mapping[str, Any]) -> None:
    """Refuses keys whose values are none to Transformers, or change nothing, such as a `typical_p` of 1."""
    check_number("max_time of generation_kwargs", given.get("max_time"), SECONDS)
    with refused_by_libraries(f"generation_kwargs {given}"):
        sampling = _Sampling()
        every = sampling.processors(given)
        for key in given.keys() - _NO_PROCESSOR:
            if sampling.processors({name: value for name, value in given.items() if name != key}) == every:
                raise InputError(f"generation_kwargs has {key} {given[key]!r}, which changes nothing; leave it out")


def check_functions(functions: Sequence[Any], components: Collection[str], weights: Sequence[float] | None) -> None:
    """Refuses reward functions that bear one name, or that of a reward's component, by which logs and records tell them
    apart, and weights that are not theirs.

    Args:
        functions: The reward functions.
        components: Names of the reward's components.
        weights: The setting `reward_weights`.

    Raises:
        InputError: If there are such functions, or another number of weights than of functions.
    """
    if weights is not None and len(weights) != len(functions):
        raise InputError(
            f"reward_weights has {len(weights)} numbers for {len(functions)} reward function(s); give one for each "
            "(components have component_weights)"
        )
    taken = {logged_as(name) for name in components}
    names = [logged_as(function_name(one)) for one in functions if callable(one)]
    for place, name in enumerate(names):
        if name in taken:
            raise InputError(f"a reward function and a component of the reward are both {name!r}; rename the function")
        if name in names[:place]:
            raise InputError(f"two reward functions are called {name!r}; give one of them another `__name__`")


def check_enough(dataset: Sized | None, args: IAPOConfig) -> None:
    """Refuses a data set that does not fill a single batch: the sampler drops what is left over, so nothing is trained.

    Args:
        dataset: Training data; None is not checked.
        args: Settings.

    Raises:
        InputError: If there are fewer samples than prompts in one batch, over all processes.
    """
    prompts = args.generation_batch_size // args.num_generations
    if dataset is not None and len(dataset) < prompts:
        raise InputError(
            f"the training data have {len(dataset)} sample(s), one batch has {prompts} prompts, so that nothing would "
            "be trained; give more data, or lower per_device_train_batch_size or gradient_accumulation_steps"
        )
