"""The rollout as an agent loop of VeRL: turn 1, the edited image, turn 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput, register
from verl.utils.profiler import simple_timer

from iapo.errors import InputError
from iapo.rollout.budget import Budget
from iapo.rollout.turns import Asked, Rollout, encode_prompts, steps
from iapo.rollout.vllm_engine import bias_against
from iapo_verl.data import AGENT, sample_of
from iapo_verl.rollouts import advance, fields_of, find_tools, make_encoder


@register(AGENT)
class IAPOAgentLoop(AgentLoopBase):
    """One rollout: the model calls tools, sees the edited image and answers.

    Prompt, tools, observations and limits are those of `iapo train`; of VeRL's own prompt building nothing is used.

    Args:
        args: Passed on to VeRL.
        max_turn_tokens: Longest turn; None shares `response_length` out evenly.
        max_turns: Most turns.
        prompt: Prompt template (docs/prompts.md); that beside the checkpoint, else `tools`, if None.
        offered: Offered tools as `iapo train --tools` names them; the six standard ones if None.
        kwargs: Passed on to VeRL; its own `tools` are not used.

    Raises:
        InputError: If `response_length` has no room for a turn, or a prompt or a tool is unknown.
    """

    def __init__(
        self,
        *args: Any,
        max_turn_tokens: int | None = None,
        max_turns: int = 2,
        prompt: str | None = None,
        offered: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if self.processor is None:
            raise InputError("the model has no processor; the agent loop iapo needs a vision-language model")
        self.encoder, self.offered = make_encoder(self.processor, prompt), find_tools(offered)
        room = self.rollout_config.response_length
        self.max_turns, self.max_turn_tokens = max_turns, max_turn_tokens or room // max_turns
        if not 0 < self.max_turn_tokens <= room:
            raise InputError(f"max_turn_tokens is {self.max_turn_tokens}; give 1 to response_length, which is {room}")

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> AgentLoopOutput:
        """Rolls out one sample.

        Args:
            sampling_params: Settings of the sampling.
            kwargs: Fields of the row, as `iapo_verl.data.write_rows` wrote it.

        Raises:
            InputError: If the prompt is longer than `prompt_length`.
        """
        sample = sample_of(kwargs)
        # Tools and tokenizers take their time, and all rollouts of a worker share one event loop.
        (prompt,) = await self.loop.run_in_executor(None, encode_prompts, [sample], self.encoder, self.offered)
        room, space = self.rollout_config.prompt_length, self.rollout_config.response_length
        if len(prompt.ids) > room:
            raise InputError(f"a prompt has {len(prompt.ids)} tokens; set rollout.prompt_length to that, not {room}")
        # What stands behind the prompt is padded to so many tokens, and nothing of it may be cut off.
        budget = Budget(self.max_turn_tokens, sequence=len(prompt.ids) + space, turns=self.max_turns)
        going = steps(sample, prompt, self.encoder, tools=self.offered, budget=budget)
        request, seconds, written = uuid4().hex, dict[str, float](), []
        asked = next(going)
        while isinstance(asked, Asked):
            with simple_timer("generate_sequences", seconds):
                output = await self.server_manager.generate(
                    request,
                    prompt_ids=asked.ids,
                    sampling_params=self._sampling(sampling_params, asked),
                    image_data=asked.images,
                )
            written.append(output)
            with simple_timer("tool_calls", seconds):
                asked = await self.loop.run_in_executor(None, advance, going, output.token_ids)
        output = as_output(asked, [one.log_probs for one in written], seconds)
        output.extra_fields |= {**_served([one.extra_fields for one in written]), **fields_of(asked, budget)}
        return output

    def _sampling(self, sampling_params: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
        given = {**sampling_params, "max_tokens": asked.limit}
        if self.rollout_config.name == "vllm":
            # An image token that a model writes stands for no image.
            given["logit_bias"] = bias_against(self.encoder.unwritable_ids)
        return given


def as_output(
    one: Rollout, log_probs: Sequence[Sequence[float] | None], seconds: Mapping[str, float]
) -> AgentLoopOutput:
    """Returns a rollout as VeRL takes it.

    The loss counts what the model wrote, of a rollout that could be finished: one whose observation did not fit has no
    answer, which is no fault of the model's.

    Args:
        one: The rollout.
        log_probs: Log-probabilities of each turn as they were sampled; None where the server gives none.
        seconds: Seconds of its parts.
    """
    counts = not one.trace.observation_cut
    sampled: list[float] | None = None
    if all(values is not None for values in log_probs):
        sampled = []
        for place, (turn, values) in enumerate(zip(one.turns, log_probs, strict=True)):
            if place:
                sampled += [0.0] * len(one.observations[place - 1].ids)
            assert values is not None
            sampled += values[: len(turn.ids)]
    return AgentLoopOutput(
        prompt_ids=one.prompt.ids,
        response_ids=one.completion_ids,
        response_mask=[int(own and counts) for own in one.model_written],
        response_logprobs=sampled,
        multi_modal_data={"images": one.images},
        num_turns=len(one.turns) + len(one.observations) + 1,
        metrics=AgentLoopMetrics(**seconds),
        extra_fields={"turn_scores": [], "tool_rewards": []},
    )


def _served(turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what the server says of a rollout's turns: the versions of its weights from the first one to the last."""
    last = turns[-1].get("max_global_steps")
    return {**turns[0], **({} if last is None else {"max_global_steps": last})}
