"""What an agent asks: a policy in this process, or a model behind an endpoint."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from transformers import set_seed
from transformers.generation.streamers import BaseStreamer

from iapo.agent.answers import Answer, answer_of
from iapo.agent.questions import Question
from iapo.agent.watching import Check, Checked, Watch, Watched, watched_chat
from iapo.attribution.calls import ATTRIBUTED
from iapo.attribution.settings import AttributionSettings
from iapo.endpoints.chat import ChatEndpoint, EndpointSettings
from iapo.errors import InputError
from iapo.evaluation.local import EvaluationSettings, budget_of, check_fit, same_randomness
from iapo.evaluation.solvers import solve_by_chat
from iapo.rollout.generation import make_generate
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.template import PromptTemplate
from iapo.rollout.turns import Generate, Rollout, answer, rollout
from iapo.studies.explanations import explain
from iapo.tools import ToolDefinition


@runtime_checkable
class Asked(Protocol):
    """What an agent asks; safe to be used by several threads.

    Attributes:
        template: Template of the prompts.
        tools: The offered tools.
        at_once: Number of questions that may be under way at a time.
    """

    template: PromptTemplate
    tools: Mapping[str, ToolDefinition]
    at_once: int

    def ask(
        self,
        questions: Sequence[Question],
        settings: EvaluationSettings,
        *,
        attribution: bool = False,
        watch: Watch | None = None,
        check: Check | None = None,
    ) -> list[Answer]:
        """Answers questions, in order.

        Args:
            questions: The questions; one alone where they are watched.
            settings: How turns are written.
            attribution: Whether each turn's call is attributed to the blocks that stand before it.
            watch: Takes the events of the rollout.
            check: Called at each token, of an endpoint at each turn.

        Raises:
            InputError: If a question cannot be asked.
        """


class LocalPolicy:
    """A policy in this process: the rollouts of `iapo evaluate`.

    Args:
        policy: The policy.
        tools: The offered tools.
        name: Name of the model, for messages.
        attribution: How calls are attributed.

    Attributes:
        template: Template of its prompts.
        tools: The offered tools.
        at_once: 1: one model, one question.
    """

    at_once = 1

    def __init__(
        self,
        policy: Policy,
        tools: Mapping[str, ToolDefinition],
        name: str,
        attribution: AttributionSettings | None = None,
    ) -> None:
        self.policy, self.tools, self.name = policy, tools, name
        self.encoder = PromptEncoder(policy.processor)
        self.template = self.encoder.template
        eos = policy.model.generation_config.eos_token_id
        self._ends = {*(eos if isinstance(eos, list) else [eos]), self.encoder.tokenizer.eos_token_id}
        self._attribution = attribution or AttributionSettings()

    def ask(
        self,
        questions: Sequence[Question],
        settings: EvaluationSettings,
        *,
        attribution: bool = False,
        watch: Watch | None = None,
        check: Check | None = None,
    ) -> list[Answer]:
        """Answers questions, as `Asked.ask`; a batch at a time."""
        if attribution and not self.tools:
            raise InputError("no tool is offered, so that there is no call to attribute; leave the attribution out")
        found: list[Answer] = []
        # One question of the process at a time, whichever policy it is for.
        with same_randomness():
            check_fit(self.policy, [one.sample for one in questions], settings, self.tools)
            set_seed(settings.seed)
            for start in range(0, len(questions), settings.batch_size):
                batch = questions[start : start + settings.batch_size]
                found += self._batch(batch, settings, attribution, watch, check)
        return found

    def _batch(
        self,
        questions: Sequence[Question],
        settings: EvaluationSettings,
        attribution: bool,
        watch: Watch | None,
        check: Check | None,
    ) -> list[Answer]:
        def make(streamer: BaseStreamer | None) -> Generate:
            return make_generate(
                self.policy,
                self.encoder,
                max_new_tokens=settings.max_turn_tokens,
                temperature=settings.temperature,
                top_p=settings.top_p,
                streamer=streamer,
            )

        if watch is None:
            generate = make(None if check is None else Checked(check))
        else:
            generate = Watched(make, self.encoder, self.tools, watch, check)
        samples = [one.sample for one in questions]
        if not self.tools:
            traces = answer(samples, self.encoder, generate)
            return [answer_of(one, note=asked.note) for one, asked in zip(traces, questions, strict=True)]
        budget = budget_of(settings, self.policy)
        rollouts = rollout(samples, self.encoder, generate, tools=self.tools, budget=budget)
        return [self._answer(one, asked, attribution) for one, asked in zip(rollouts, questions, strict=True)]

    def _answer(self, one: Rollout, asked: Question, attribution: bool) -> Answer:
        shares = [self._shares(one, turn) for turn in range(len(one.turns))] if attribution else []
        ended = bool(one.completion_ids) and one.completion_ids[-1] in self._ends
        return answer_of(
            one.trace,
            shares,
            note=asked.note,
            whole=ended and not one.trace.observation_cut,
            prompt_tokens=len(one.prompt.ids),
            written_tokens=sum(one.model_written),
        )

    def _shares(self, one: Rollout, turn: int) -> dict[str, float]:
        """Attributes the call of a turn to the blocks of all that stands before it."""
        end = one.from_turn(turn, self.encoder)
        if end.trace.result.status not in ATTRIBUTED:
            return {}
        written = end.first.ids, end.first.target
        found = explain(self.name, self.policy, self.encoder, end.prompt, written, self._attribution)
        return dict(zip(found.blocks, found.shares.tolist(), strict=True))


class ServedModel:
    """A model behind an OpenAI-compatible endpoint: its tools run here.

    Args:
        endpoint: The endpoint; its sampling is replaced by what is asked with.
        template: Template of the prompts.
        tools: The offered tools.

    Attributes:
        at_once: Number of questions that may be under way at a time.
    """

    def __init__(
        self, endpoint: EndpointSettings, template: PromptTemplate, tools: Mapping[str, ToolDefinition]
    ) -> None:
        self.endpoint, self.template, self.tools = endpoint, template, tools
        self.at_once = endpoint.concurrency
        self._chats: dict[EndpointSettings, ChatEndpoint] = {endpoint: ChatEndpoint(endpoint)}
        self._lock = threading.Lock()

    def ask(
        self,
        questions: Sequence[Question],
        settings: EvaluationSettings,
        *,
        attribution: bool = False,
        watch: Watch | None = None,
        check: Check | None = None,
    ) -> list[Answer]:
        """Answers questions, as `Asked.ask`; one after the other.

        Raises:
            iapo.endpoints.chat.EndpointError: If the endpoint fails.
        """
        if attribution:
            raise InputError("an attribution needs the model in this process; ask without it, or without an endpoint")
        endpoint = self._chat(settings)
        # What is greedy has no seed, and not every server knows the word.
        more = {"seed": settings.seed} if settings.temperature > 0 else {}
        found = []
        for one in questions:

            def chat(messages: Sequence[Mapping[str, object]]) -> str:
                if check is not None:
                    check()
                return endpoint(messages, more)

            asked = chat if watch is None else watched_chat(chat, self.template, self.tools, watch)
            trace = solve_by_chat(asked, one.sample, self.tools, self.template, settings.max_turns)
            found.append(answer_of(trace, note=one.note))
        return found

    def _chat(self, settings: EvaluationSettings) -> ChatEndpoint:
        wanted = dataclasses.replace(
            self.endpoint,
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_turn_tokens=settings.max_turn_tokens,
        )
        with self._lock:
            if wanted not in self._chats:
                if len(self._chats) >= _KEPT:
                    self._chats = {}
                self._chats[wanted] = ChatEndpoint(wanted)
            return self._chats[wanted]


_KEPT = 16
"""Clients of one endpoint with different sampling that are kept."""
