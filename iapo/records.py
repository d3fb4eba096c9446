"""What flows through the system: samples, tool calls, tool results, traces, scores.

Every record is frozen, typed and JSON-serialisable both ways. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any, Self

from iapo.answer_texts import is_blank
from iapo.calls import Status, ToolCall, ToolResult
from iapo.errors import InputError
from iapo.kinds import check_kinds, plain
from iapo.read_only import read_only, read_only_maps
from iapo.samples import (
    AXES,
    FIRST_IMAGE,
    GRADINGS,
    MOST_IMAGES,
    Axis,
    Box,
    Grading,
    Kind,
    Sample,
    image_address,
    image_digest,
    image_from_text,
    image_to_text,
    images_digest,
    save_png,
)
from iapo.storage import take, take_list

__all__ = [
    "AXES",
    "FIRST_IMAGE",
    "GRADINGS",
    "MOST_IMAGES",
    "Axis",
    "Box",
    "Grading",
    "Grid",
    "Kind",
    "Sample",
    "Score",
    "Status",
    "ToolCall",
    "ToolResult",
    "Trace",
    "Turn",
    "image_address",
    "image_digest",
    "image_from_text",
    "image_to_text",
    "images_digest",
    "recorded_turns",
    "save_png",
]

Grid = tuple[tuple[float, ...], ...]
"""Numbers laid out as an image lies, the top row first; all rows are of one length."""


@dataclass(frozen=True, slots=True)
class Score:
    """One component of a reward or an evaluation.

    Attributes:
        value: The number, which need not be finite: a report may be about one that is not. Of a comparison, which is
            worth 0 or 1, its truth value, too.
        answer: Text that was scored, for example the extracted final answer; None where there was nothing.
        explanation: Why this value, one sentence.

    Raises:
        InputError: If a field is of another type.
    """

    value: float
    answer: str | None = None
    explanation: str = ""

    def __post_init__(self) -> None:
        value = plain(self.value)
        object.__setattr__(self, "value", float(value) if isinstance(value, bool) else value)
        check_kinds(self, "the score's ")

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "answer": self.answer, "explanation": self.explanation}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Reads what `to_json` wrote.

        Raises:
            InputError: If it is something else.
        """
        return cls(take(data, "value", float), take(data, "answer", str, NoneType), take(data, "explanation", str))


_NOT_RUN = ToolResult("no_call")


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a model.

    Attributes:
        text: What it wrote.
        result: Result of the program in it.
        divergence: Divergence of its call from the teacher's explanation, where the rollout has several programs and
            they were measured; else None.
        attribution: Block distributions of its call, as `Trace.attribution`, where `divergence` is there and it has
            one. Blocks are those of all that stands before the turn.
        cut: Whether its tokens were used up before the model ended it.
    """

    text: str
    result: ToolResult = _NOT_RUN
    divergence: float | None = None
    attribution: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    cut: bool = False

    def __post_init__(self) -> None:
        check_kinds(self, "the turn's ")
        object.__setattr__(self, "attribution", read_only_maps(self.attribution))

    @property
    def empty(self) -> bool:
        """Whether the model said nothing, or nothing that a reader sees."""
        return is_blank(self.text)

    def to_json(self, edited_path: str | None = None) -> dict[str, Any]:
        """Returns a JSON-ready dict; the image is embedded unless a path says where it lies."""
        return {
            "text": self.text,
            "result": self.result.to_json(edited_path),
            "divergence": self.divergence,
            "attribution": _shares(self.attribution),
            **({"cut": True} if self.cut else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], root: Path | None = None) -> Self:
        """Reads what `to_json` wrote; paths of images start from `root`.

        Raises:
            InputError: If it is something else, or an image cannot be read.
        """
        return cls(
            take(data, "text", str),
            ToolResult.from_json(take(data, "result", dict), root),
            take(data, "divergence", float, NoneType),
            _blocks(data),
            take(data, "cut", bool, default=False),
        )


@dataclass(frozen=True, slots=True)
class Trace:
    """One rollout: the turns that a model wrote, of which all but the last one call tools.

    Attributes:
        sample: The question and image.
        turns: The turns, one at least. Behind a turn with a program stands an observation, but at the end.
        scores: Reward components by name, for example `outcome`, `divergence`.
        attribution: Block distributions of the first turn's call by whose they are (`student`, `teacher`), each a map
            from block name to probability; empty where it has no attribution.
        step: Optimiser step in which a training rollout was sampled, from 1; number of steps that the policy of a
            held-out rollout of a training run had taken, 0 before training; else None.
        patches: Signed share of each token of the sample's images in that attribution, by whose they are (`student`,
            `teacher`), a grid an image in order (`iapo.attribution.tokens.picture_shares`), to three digits; empty
            where they were not kept, and of the first image alone in records of earlier versions.
        observation_cut: Whether the rollout ended because what its last call gave did not fit into the longest
            sequence. It says nothing about the model, so that training leaves it out.
    """

    sample: Sample
    turns: tuple[Turn, ...]
    scores: Mapping[str, Score] = field(default_factory=dict)
    attribution: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    step: int | None = None
    patches: Mapping[str, tuple[Grid, ...]] = field(default_factory=dict)
    observation_cut: bool = False

    def __post_init__(self) -> None:
        check_kinds(self, "the trace's ")
        if not self.turns:
            raise InputError(f"the trace of sample {self.sample.id!r} has no turn; give at least one")
        # Rewards of the user's own are handed traces; what one changed, all that follows would read.
        object.__setattr__(self, "scores", read_only(self.scores))
        object.__setattr__(self, "patches", read_only(self.patches))
        object.__setattr__(self, "attribution", read_only_maps(self.attribution))

    @classmethod
    def of(
        cls,
        sample: Sample,
        turn_1: str,
        result: ToolResult,
        turn_2: str | None = None,
        scores: Mapping[str, Score] | None = None,
        attribution: Mapping[str, Mapping[str, float]] | None = None,
        step: int | None = None,
        patches: Mapping[str, tuple[Grid, ...]] | None = None,
        observation_cut: bool = False,
    ) -> Self:
        """Makes the record of a rollout of at most two turns.

        Args:
            sample: The question and image.
            turn_1: The first turn.
            result: Result of its program.
            turn_2: The second turn, if there is one.
            scores: Scores by name.
            attribution: Block distributions of its call.
            step: Its step.
            patches: Shares of the images' tokens.
            observation_cut: Whether what its call gave did not fit.
        """
        turns = (Turn(turn_1, result),) if turn_2 is None else (Turn(turn_1, result), Turn(turn_2))
        return cls(sample, turns, scores or {}, attribution or {}, step, patches or {}, observation_cut)

    @property
    def turn_1(self) -> str:
        """The first turn's text."""
        return self.turns[0].text

    @property
    def result(self) -> ToolResult:
        """Result of the first turn's program."""
        return self.turns[0].result

    @property
    def turn_2(self) -> str | None:
        """The second turn's text; None where the rollout ended before."""
        return self.turns[1].text if len(self.turns) > 1 else None

    @property
    def final_text(self) -> str:
        """The turn that is graded, the last one."""
        return self.turns[-1].text

    @property
    def results(self) -> tuple[ToolResult, ...]:
        """What came of the programs, in order, also of those that were refused or failed."""
        return tuple(one.result for one in self.turns if one.result.called)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tool calls that were understood, of all turns."""
        return tuple(call for result in self.results for call in result.calls)

    @property
    def called(self) -> bool:
        """Whether there was a program at all."""
        return bool(self.results)

    @property
    def succeeded(self) -> bool:
        """Whether there were programs, and all of them displayed an image that was then seen."""
        return self.called and all(one.executed for one in self.results) and not self.observation_cut

    @property
    def misuse(self) -> bool | None:
        """Whether an executed program used a tool of the wrong axis; None where no program is judged by it."""
        verdicts = [one.misuse(self.sample.axis) for one in self.results]
        judged = [verdict for verdict in verdicts if verdict is not None]
        return any(judged) if judged else None

    @property
    def misused(self) -> bool:
        """Whether an executed program is known to have used a wrong tool (`ToolResult.misuse`)."""
        return bool(self.misuse)

    def sample_at(self, turn: int) -> Sample:
        """Returns the sample as a turn's program works on it, with the image that was shown last.

        Args:
            turn: Number of the turn, from 0.
        """
        sample = self.sample
        for result in (one.result for one in self.turns[:turn]):
            if result.image is not None:
                sample = sample.showing(result.image, result.made_of, moved=result.moved, kept=result.kept)
        return sample

    def without_edits(self) -> Self:
        """Returns the record without the images that tools made, which are large and which sums do not need."""
        turns = tuple(replace(one, result=replace(one.result, image=None)) for one in self.turns)
        return replace(self, turns=turns)

    def to_json(
        self,
        image_path: str | None = None,
        edited_paths: Sequence[str | None] = (),
        more_paths: Sequence[str | None] = (),
    ) -> dict[str, Any]:
        """Returns a JSON-ready dict; images are embedded unless a path says where they lie.

        Args:
            image_path: Path of the sample's image; of several the first.
            edited_paths: Paths of the turns' edited images, in the turns' order; none are given, or one a turn.
            more_paths: Paths of the sample's further images, as `Sample.to_json` takes them.
        """
        paths = edited_paths or (None,) * len(self.turns)
        first, *rest = self.turns
        if len(rest) > 1 or any(replace(one, cut=False) != Turn(one.text) for one in rest):
            turns: dict[str, Any] = {"turns": [one.to_json(path) for one, path in zip(self.turns, paths, strict=True)]}
        else:
            # Rollouts as the paper has them are written as they were before there were others.
            result = first.result.to_json(paths[0])
            turns = {"turn_1": first.text, "result": result, "turn_2": self.turn_2}
            cut = [number for number, one in enumerate(self.turns) if one.cut]
            turns |= {"cut_turns": cut} if cut else {}
        return {
            "sample": self.sample.to_json(image_path, more_paths),
            **turns,
            "scores": {name: score.to_json() for name, score in self.scores.items()},
            "attribution": _shares(self.attribution),
            "step": self.step,
            **_patches(self.patches),
            "observation_cut": self.observation_cut,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], root: Path | None = None, sample: Sample | None = None) -> Self:
        """Reads what `to_json` wrote.

        Args:
            data: The dict.
            root: The folder that relative paths of images start from.
            sample: The sample itself, where the caller has it.

        Raises:
            InputError: If it is something else, or an image cannot be read.
        """
        return cls(
            sample=Sample.from_json(take(data, "sample", dict), root) if sample is None else sample,
            turns=tuple(Turn.from_json(one, root) for one in recorded_turns(data)),
            scores={name: Score.from_json(score) for name, score in take(data, "scores", dict).items()},
            attribution=_blocks(data),
            step=take(data, "step", int, NoneType),
            patches={
                who: tuple(tuple(map(tuple, grid)) for grid in some) for who, some in recorded_grids(data).items()
            },
            observation_cut=take(data, "observation_cut", bool, default=False),
        )


def recorded_turns(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the turns of a trace's JSON, each as `Turn.to_json` gives it: of `turns`, else of `turn_1`, `result` and
    `turn_2`, as rollouts of at most two turns have them, with the numbers, from 0, of those that were cut off in
    `cut_turns`.

    Raises:
        InputError: If they are something else.
    """
    if "turns" in data:
        turns = take_list(data, "turns", dict)
        if not turns:
            raise InputError("the field turns is empty")
        return turns
    first, second = take(data, "turn_1", str), take(data, "turn_2", str, NoneType)
    found = [{"text": first, "result": take(data, "result", dict), "divergence": None, "attribution": {}}]
    found += [] if second is None else [Turn(second).to_json()]
    cut = take_list(data, "cut_turns", int) if "cut_turns" in data else []
    return [{**one, "cut": True} if number in cut else one for number, one in enumerate(found)]


def _blocks(data: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Takes the block distributions out of a turn's or a trace's record."""
    found = take(data, "attribution", dict)
    return {who: {name: take(found[who], name, float) for name in take(found, who, dict)} for who in found}


def recorded_grids(data: Mapping[str, Any]) -> dict[str, list[list[list[float]]]]:
    """Returns the grids of a trace's JSON by whose they are, one an image in order: those of `patches`, and behind them
    those of `more_patches`, which only samples with several images have. Earlier versions have neither.

    Raises:
        InputError: If they are something else.
    """
    first, more = take(data, "patches", dict, default={}), take(data, "more_patches", dict, default={})
    return {who: [take_list(first, who, list), *(take_list(more, who, list) if who in more else ())] for who in first}


def _patches(patches: Mapping[str, tuple[Grid, ...]]) -> dict[str, dict[str, Any]]:
    """Writes grids as `recorded_grids` reads them; those of a single image as they were before there were several."""
    lists = {who: [[list(row) for row in grid] for grid in grids] for who, grids in patches.items()}
    more = {who: rest for who, (_, *rest) in lists.items() if rest}
    return {"patches": {who: first for who, (first, *_) in lists.items()}} | ({"more_patches": more} if more else {})


def _shares(attribution: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {who: dict(blocks) for who, blocks in attribution.items()}
