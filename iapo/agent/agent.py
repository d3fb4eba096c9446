"""`Agent`: asks a policy about images, and runs the tools that it calls."""

from __future__ import annotations

import atexit
import dataclasses
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, Self

from iapo.agent.answers import Answer, AnswerEvent, Event
from iapo.agent.policies import Asked, LocalPolicy, ServedModel
from iapo.agent.questions import Pictures, Question, check_kind, make_question
from iapo.agent.sources import find_source
from iapo.agent.watching import Check, Watch
from iapo.bounds import ASKED_HEAT, check_number
from iapo.data.boxes.names import Names, check_names
from iapo.display.quiet import quiet_libraries
from iapo.endpoints.chat import EndpointSettings
from iapo.errors import InputError, unknown
from iapo.evaluation.local import EvaluationSettings
from iapo.kinds import check_kind as check_type
from iapo.kinds import checks_kinds, plain
from iapo.rollout.load_settings import placed, prefixed_names
from iapo.rollout.names import check_name
from iapo.rollout.policy import Policy, load_policy
from iapo.rollout.template import DEFAULT, PromptTemplate, check_wording, find_prompt
from iapo.tools import ToolDefinition, offered_tools
from iapo.tools.offered import limited

Tools = Mapping[str, ToolDefinition] | str | None
"""Tools by name, or the setting that names them (`iapo.tools.offered_tools`); None is the six."""


_WANTED = {"loading": "a mapping of loading settings (iapo.LoadSettings)", "device": "its name, as torch has it"}


class Agent:
    """Answers questions about images with a policy and the tools that it calls.

    It rolls out as `iapo evaluate` does: the same prompts, tools and limits, so that greedy answers are the same.
    Several threads may share one.

    Args:
        policy: The policy; `Agent.from_pretrained` loads one by name, `Agent.from_endpoint` asks a served model.
        tools: The offered tools.
        settings: Settings of its turns, greedy unless they say otherwise; of the seed the sampling starts anew with
            each call.
        kind: Content of images without boxes, in which they are looked for (`auto` tries a bar chart, then a table).
        names: How found boxes are named: by their `places`, or by `ocr`.

    Raises:
        InputError: If a setting cannot be.
    """

    def __init__(
        self,
        policy: Policy | Asked,
        *,
        tools: Tools = None,
        settings: EvaluationSettings | None = None,
        kind: Literal["auto", "chart", "table"] = "auto",
        names: Names = "places",
    ) -> None:
        if not isinstance(policy, Policy | Asked):
            raise InputError(
                f"the policy is of type {type(policy).__name__}; Agent.from_pretrained(...) loads one by its name"
            )
        if isinstance(policy, Policy):
            name = str(getattr(policy.model, "name_or_path", "") or "the policy")
            policy = LocalPolicy(policy, _tools(tools), name)
        elif tools is not None:
            raise InputError("tools are given with what has its own; give them where it is made")
        check_names(names)
        check_kind(kind)
        self._asked, self._kind, self._names = policy, kind, names
        self.settings = EvaluationSettings() if settings is None else settings

    @property
    def settings(self) -> EvaluationSettings:
        """Settings of its turns."""
        return self._settings

    @settings.setter
    def settings(self, settings: EvaluationSettings) -> None:
        self._settings = checked(settings)
        check_wording(self._asked.template, settings.max_turns)

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str],
        *,
        tools: Tools = None,
        prompt: str | PromptTemplate | None = None,
        settings: EvaluationSettings | None = None,
        loading: Mapping[str, Any] | None = None,
        device: str | None = None,
        tool_timeout: float | None = None,
        kind: Literal["auto", "chart", "table"] = "auto",
        names: Names = "places",
    ) -> Self:
        """Loads a policy by name.

        Args:
            model: Packaged name, run folder of `iapo train`, folder of a policy, a checkpoint or an adapter, or hub
                id. One that lies in a run has its run's tools, prompt, longest turn and loading unless others are
                given.
            tools: The offered tools; the run's, or the six, if None.
            prompt: Prompt template; the policy's own if None.
            settings: Settings of its turns; greedy, with the run's longest turn and number of turns, or 512 tokens
                and two turns, if None.
            loading: Loading settings by name (`iapo.LoadSettings`).
            device: Device of the model; the CPU if None.
            tool_timeout: Longest call of a tool in seconds, in a process of its own; the run's, or no limit, if None.
            kind: As in `Agent`.
            names: As in `Agent`.

        Raises:
            InputError: If there is no such policy, or a setting cannot be.
        """
        model = check_name(model)
        for name, value, kind_of_it in (("loading", loading, Mapping), ("device", device, str)):
            if not isinstance(value, kind_of_it | None):
                raise InputError(f"{name} is of type {type(value).__name__}; give {_WANTED[name]}")
        for name in loading or ():
            if name not in (known := prefixed_names("")):
                raise unknown("loading setting", str(name), known)
        source = find_source(model, loading)
        usage = source.usage
        timeout = usage.tool_timeout if tool_timeout is None else tool_timeout
        offered = _tools(source.tools(None) if tools is None else tools, timeout)
        usual = EvaluationSettings(max_turn_tokens=usage.longest_turn, max_turns=usage.max_turns)
        asked = usual if settings is None else settings
        # Refused before seconds of loading.
        checked(asked)
        check_names(names)
        check_kind(kind)
        with quiet_libraries():
            wanted = prompt if prompt is not None else source.prompt
            policy = load_policy(source.model, placed(source.loading, device), prompt=wanted)
        return cls(
            LocalPolicy(policy, offered, source.model, source.attribution), settings=asked, kind=kind, names=names
        )

    @classmethod
    @checks_kinds
    def from_endpoint(
        cls,
        endpoint: EndpointSettings,
        *,
        tools: Tools = None,
        prompt: str | PromptTemplate | None = None,
        settings: EvaluationSettings | None = None,
        tool_timeout: float | None = None,
        kind: Literal["auto", "chart", "table"] = "auto",
        names: Names = "places",
    ) -> Self:
        """Asks a model behind an OpenAI-compatible endpoint, such as a vLLM server; the tools run here.

        Args:
            endpoint: The endpoint; the sampling is that of `settings`.
            tools: The offered tools; the six if None.
            prompt: Prompt template; `tools` if None.
            settings: Settings of its turns.
            tool_timeout: Longest call of a tool in seconds, in a process of its own; no limit if None.
            kind: As in `Agent`.
            names: As in `Agent`.

        Raises:
            InputError: If the `openai` package or the key is missing, or a setting cannot be.
        """
        template = find_prompt(DEFAULT if prompt is None else prompt)
        return cls(
            ServedModel(endpoint, template, _tools(tools, tool_timeout)), settings=settings, kind=kind, names=names
        )

    @property
    def template(self) -> PromptTemplate:
        """Template of its prompts."""
        return self._asked.template

    @property
    def tools(self) -> Mapping[str, ToolDefinition]:
        """The offered tools."""
        return self._asked.tools

    @property
    def at_once(self) -> int:
        """Number of questions that it works on at a time; more wait."""
        return self._asked.at_once

    def question(self, image: Pictures, question: str, boxes: Mapping[str, Any] | None = None) -> Question:
        """Makes of an image and a question what is asked, with its boxes (`iapo.agent.questions.make_question`)."""
        return make_question(image, question, boxes, kind=self._kind, names=self._names)

    def answer(
        self,
        image: Pictures,
        question: str,
        boxes: Mapping[str, Any] | None = None,
        *,
        attribution: bool = False,
        settings: EvaluationSettings | None = None,
    ) -> Answer:
        """Answers one question.

        Args:
            image: Image (Pillow's, of any mode), its encoded bytes, or the path of its file; or a list of several.
            question: The question.
            boxes: Boxes by `column_boxes` and `row_boxes`, in pixels of the first image; also `kind`, `axis` and
                `list_names`, as in one's own data (docs/data.md). `{}` has none; None has them looked for in it.
            attribution: Whether each turn's call is attributed to the blocks that stand before it (`Turn.attribution`).
            settings: Settings of its turns, instead of the agent's.

        Raises:
            InputError: If the image, the question or the boxes cannot be used, or the rollout may not fit into what
                the model takes.
            iapo.endpoints.chat.EndpointError: If an endpoint fails.
        """
        attribution = _truth("attribution", attribution)
        return self.ask(self.question(image, question, boxes), attribution=attribution, settings=settings)

    def answer_many(
        self,
        questions: Iterable[tuple[Pictures, str] | tuple[Pictures, str, Mapping[str, Any] | None]],
        *,
        attribution: bool = False,
        settings: EvaluationSettings | None = None,
    ) -> list[Answer]:
        """Answers questions in batches of the settings' `batch_size`; greedily, each as `answer` would.

        Args:
            questions: Image and question, and maybe boxes, of each, as `answer` takes them.
            attribution: As in `answer`.
            settings: As in `answer`.

        Raises:
            InputError: As `answer`, before any is answered; the message says which question it is.
        """
        attribution = _truth("attribution", attribution)
        if not isinstance(questions, Iterable) or isinstance(questions, str | bytes):
            raise InputError(f"the questions are of type {type(questions).__name__}; give tuples (image, question)")
        asked = []
        for number, one in enumerate(questions, 1):
            if not isinstance(one, tuple) or len(one) not in (2, 3):
                raise InputError(f"question {number} is no (image, question) or (image, question, boxes)")
            try:
                asked.append(self.question(*one))
            except InputError as error:
                raise InputError(f"question {number}: {error}") from error
        how = self.settings if settings is None else checked(settings)
        return self._asked.ask(asked, how, attribution=attribution) if asked else []

    def stream(
        self,
        image: Pictures,
        question: str,
        boxes: Mapping[str, Any] | None = None,
        *,
        attribution: bool = False,
        settings: EvaluationSettings | None = None,
    ) -> Iterator[Event]:
        """Answers one question, and yields what happens as it happens.

        Args:
            image: As in `answer`.
            question: As in `answer`.
            boxes: As in `answer`.
            attribution: As in `answer`.
            settings: As in `answer`.

        Yields:
            Pieces of text (`iapo.agent.answers.TextEvent`; an endpoint's turns in one piece each), calls and
            observations, and at last an `AnswerEvent`. The rollout ends where the iterator is closed.

        Raises:
            InputError: As `answer`; at the call, not at the first event, where it is about what is asked.
        """
        attribution = _truth("attribution", attribution)
        asked = self.question(image, question, boxes)
        how = self.settings if settings is None else checked(settings)
        return self._events(asked, attribution, how)

    def ask(
        self,
        question: Question,
        *,
        attribution: bool = False,
        settings: EvaluationSettings | None = None,
        watch: Watch | None = None,
        check: Check | None = None,
    ) -> Answer:
        """Answers one question that was made before.

        Args:
            question: The question.
            attribution: As in `answer`.
            settings: As in `answer`.
            watch: Callback, called with each event but the last one; what it raises ends the rollout.
            check: Callback, called before each token, of an endpoint before each turn; what it raises ends the rollout.
        """
        attribution = _truth("attribution", attribution)
        for name, one in (("watch", watch), ("check", check)):
            check_type(name, one, (Callable, type(None)))
        check_type("the question", question, (Question,))
        how = self.settings if settings is None else checked(settings)
        (found,) = self._asked.ask([question], how, attribution=attribution, watch=watch, check=check)
        return found

    def _events(self, question: Question, attribution: bool, settings: EvaluationSettings) -> Iterator[Event]:
        events: queue.Queue[Event | BaseException] = queue.Queue()
        closed = threading.Event()

        def check() -> None:
            if closed.is_set():
                raise _ClosedError

        def work() -> None:
            how: dict[str, Any] = {"attribution": attribution, "settings": settings}
            try:
                events.put(AnswerEvent(self.ask(question, **how, watch=events.put, check=check)))
            except _ClosedError:
                return
            except BaseException as error:  # noqa: BLE001 - raised again by the one who iterates
                events.put(error)

        thread = threading.Thread(target=work, daemon=True)

        def stop() -> None:
            closed.set()
            thread.join()

        thread.start()
        # An interpreter that ends in the middle of a model's work aborts.
        atexit.register(stop)
        try:
            while True:
                event = events.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
                if isinstance(event, AnswerEvent):
                    return
        finally:
            atexit.unregister(stop)
            stop()


class _ClosedError(Exception):
    """Nobody wants the events any more."""


def checked(settings: EvaluationSettings) -> EvaluationSettings:
    """Returns settings of turns as they are; what no evaluation takes, their class has refused.

    Raises:
        InputError: If they are none, or hotter than a question is asked with.
    """
    if not isinstance(settings, EvaluationSettings):
        raise InputError(f"settings are of type {type(settings).__name__}; give iapo.EvaluationSettings")
    check_number("temperature", settings.temperature, ASKED_HEAT)
    return settings


def _truth(name: str, value: bool) -> bool:
    """Returns a truth value, NumPy's as Python's, and refuses all else."""
    check_type(name, found := plain(value), (bool,))
    return bool(found)


def _tools(tools: Tools, timeout: float | None = None) -> Mapping[str, ToolDefinition]:
    if tools is None or isinstance(tools, str):
        return offered_tools(tools, timeout)
    return limited(tools, timeout)


def with_limits(settings: EvaluationSettings, **changes: Any) -> EvaluationSettings:
    """Returns settings with changes, unless they are None."""
    return checked(dataclasses.replace(settings, **{k: v for k, v in changes.items() if v is not None}))
