"""What an evaluation is to do, in full: `EvaluationPlan`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from iapo.bounds import COUNT, PART, TOGETHER, check_number, check_repeats, split_list
from iapo.data.sources import SourceSettings
from iapo.endpoints.chat import EndpointSettings
from iapo.errors import InputError
from iapo.evaluation.local import EvaluationSettings
from iapo.kinds import check_kinds
from iapo.rollout.load_settings import LoadSettings
from iapo.rollout.template import check_wording, find_prompt
from iapo.tools import offered_tools


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What is evaluated on what, and how; written down in full.

    Attributes:
        model: A checkpoint (packaged name, folder or hub id), or the model's name at the endpoint.
        sets: Names of test sets (`iapo.data.sources`).
        source: Source of their samples.
        tools: The offered tools (`iapo.tools.offered_tools`); None offers the six, `none` has the answer in one turn.
        prompt: Prompt template (`iapo.rollout.template.find_prompt`); None takes the one beside the checkpoint, else
            `tools`.
        repeats: Number of times each sample is rolled out; more than one only makes sense where it samples.
        generation: Settings of its generation; `seed` is that of the sampling.
        endpoint: The endpoint, if the model is behind one; it generates as these settings say.
        concurrency: Samples under way at once at an endpoint.
        loading: Settings of a checkpoint's loading.
        vllm_memory: Share of the device's memory for vLLM, which then generates; None has Transformers generate.
        data_damage: Whether a damaged row of a test set ends the evaluation, as does a test set of the paper that has
            not its size (`strict`), or is listed in the run folder and left out (`quarantine`).
        tool_timeout: Longest call of a tool in seconds, in a process of its own; None: no limit, in this process.
    """

    model: str
    sets: tuple[str, ...]
    source: SourceSettings = field(default_factory=SourceSettings)
    tools: str | None = None
    prompt: str | None = None
    repeats: int = 1
    generation: EvaluationSettings = field(default_factory=EvaluationSettings)
    endpoint: EndpointSettings | None = None
    concurrency: int = 8
    loading: LoadSettings = field(default_factory=LoadSettings)
    vllm_memory: float | None = None
    data_damage: Literal["strict", "quarantine"] = "strict"
    tool_timeout: float | None = None

    def __post_init__(self) -> None:
        check_kinds(self)
        if not self.model:
            raise InputError(
                "model is empty; give a checkpoint's name, a folder or a hub id, or a name at the endpoint"
            )
        if not self.sets or len(set(self.sets)) < len(self.sets):
            raise InputError(f"test sets are {', '.join(self.sets) or 'none'}; name each one once, and at least one")
        check_number("repeats", self.repeats, COUNT)
        check_number("concurrency", self.concurrency, TOGETHER)
        offered_tools(self.tools, self.tool_timeout)
        if self.prompt is not None:
            check_wording(find_prompt(self.prompt), self.generation.max_turns)
        if self.vllm_memory is not None:
            if self.endpoint is not None:
                raise InputError("vllm and endpoint are two ways to generate; give one of them")
            check_number("vllm_memory", self.vllm_memory, PART)
        check_repeats(self.repeats, self.generation.temperature)


def make_plan(
    model: str,
    sets: str,
    *,
    count: int,
    data_seed: int,
    split: str,
    size: int,
    question_types: str,
    tools: str | None,
    prompt: str | None,
    temperature: float,
    top_p: float,
    repeats: int,
    seed: int,
    max_turn_tokens: int,
    batch_size: int,
    loading: LoadSettings,
    endpoint: str | None,
    key_variable: str,
    length_parameter: str,
    endpoint_kind: str,
    concurrency: int,
    timeout: float,
    max_sequence_length: int | None = None,
    max_turns: int = 2,
    vllm_memory: float | None = None,
    data_damage: str = "strict",
    served_as: str | None = None,
    tool_timeout: float | None = None,
) -> EvaluationPlan:
    """Returns the plan that the command line's options describe; lists have commas between.

    Raises:
        InputError: If an option cannot be.
    """
    if length_parameter not in ("max_tokens", "max_completion_tokens"):
        raise InputError(f"length_parameter is {length_parameter!r}; use max_tokens or max_completion_tokens")
    if endpoint_kind not in ("auto", "vllm", "openai"):
        raise InputError(f"endpoint_kind is {endpoint_kind!r}; use auto, vllm or openai")
    asked = None
    if endpoint is not None:
        asked = EndpointSettings(
            url=endpoint,
            model=model,
            key_variable=key_variable,
            temperature=temperature,
            top_p=top_p,
            max_turn_tokens=max_turn_tokens,
            length_parameter="max_tokens" if length_parameter == "max_tokens" else "max_completion_tokens",
            kind="vllm" if endpoint_kind == "vllm" else "openai" if endpoint_kind == "openai" else "auto",
            timeout=timeout,
            served_as=served_as,
        )
    return EvaluationPlan(
        model=model,
        sets=split_list("sets", sets),
        source=SourceSettings(count, data_seed, split, size, split_list("question_types", question_types)),
        tools=tools,
        prompt=prompt,
        repeats=repeats,
        generation=EvaluationSettings(
            max_turn_tokens, temperature, top_p, seed, batch_size, max_sequence_length, max_turns
        ),
        endpoint=asked,
        concurrency=concurrency,
        loading=loading,
        vllm_memory=vllm_memory,
        data_damage="quarantine" if data_damage == "quarantine" else "strict",
        tool_timeout=tool_timeout,
    )
