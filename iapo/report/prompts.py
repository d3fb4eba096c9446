"""The prompts of a report's rollouts, laid out again from what their run folder keeps: template, tools, sample.

The same `build_blocks` as in the run, so that the blocks are those that the model was given. Only what the folder does
not keep is left open: the definitions of a user's own tools, whose file is never run here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from iapo.errors import InputError
from iapo.records import Sample
from iapo.report.read import Run
from iapo.results import MANIFEST
from iapo.rollout.prompt import build_blocks
from iapo.rollout.template import PromptTemplate, prompt_of_data
from iapo.rollout.wording import Observation, observed
from iapo.tools import TOOLS, ToolDefinition

_NO_IMAGE = Image.new("1", (1, 1))

_TOOL = "tool:"


class Texts:
    """Texts that many rollouts share, each once.

    Attributes:
        found: The distinct texts.
    """

    def __init__(self) -> None:
        self.found: list[str] = []
        self._places: dict[str, int] = {}

    def add(self, text: str) -> int:
        """Returns the place of a text."""
        place = self._places.setdefault(text, len(self.found))
        if place == len(self.found):
            self.found.append(text)
        return place


class Prompts:
    """The distinct prompts of a report, without their questions.

    Attributes:
        found: The distinct prompts: `blocks`, each with `type`, `name` and `text` (None where the folder does not keep
            it, and of the image and the question), and `assumed`, whether the tools are the standard ones for want of a
            word about them.
        texts: Store of the questions' texts and the observations.
    """

    def __init__(self, texts: Texts) -> None:
        self.found: list[dict[str, Any]] = []
        self.texts = texts
        self._places: dict[tuple[Any, ...], int] = {}

    def of_run(self, run: Run) -> RunPrompt:
        """Returns the prompts of one run."""
        return RunPrompt(self, run)

    def add(self, key: tuple[Any, ...], blocks: Sequence[Mapping[str, Any]], assumed: bool) -> int:
        """Returns the place of a prompt, which its key stands for."""
        if key not in self._places:
            self._places[key] = len(self.found)
            self.found.append({"blocks": list(blocks), "assumed": assumed})
        return self._places[key]


class RunPrompt:
    """The prompts of one run.

    Args:
        prompts: Store of the report's prompts.
        run: The run.

    Attributes:
        note: Sentence's end about a template that cannot be read, for the head of the page; None where it can.
    """

    def __init__(self, prompts: Prompts, run: Run) -> None:
        self._prompts = prompts
        self.note: str | None = None
        self.template: PromptTemplate | None = None
        kept = run.config.get("prompt")
        if isinstance(kept, dict):
            try:
                # What a run writes is complete; another prompt that it is based on would be a file to read.
                own = {key: value for key, value in kept.items() if key != "base"}
                self.template = prompt_of_data(own, run.path / MANIFEST)
            except InputError as error:
                self.note = f"has a prompt template that cannot be read, so that its prompts are not shown ({error})"
        settings = next(
            (part for name in ("run", "evaluation") if isinstance(part := run.config.get(name), dict)), None
        )
        tools = None if settings is None else settings.get("tools")
        self._says = settings is not None
        self._turns = _most_turns(run)
        self._named = [part.strip() for part in tools.split(",") if part.strip()] if isinstance(tools, str) else None

    def place(
        self, data: Mapping[str, Any], sizes: Sequence[tuple[int, int] | None], attributed: Sequence[str]
    ) -> tuple[int, int] | None:
        """Finds the prompt of a rollout.

        Args:
            data: Its sample, as the trace has it.
            sizes: Width and height of each of the sample's images; None where one cannot be read.
            attributed: Names of the blocks that its attribution has; they tell the tools that were offered.

        Returns:
            The places of the prompt and of its question's text; None where the folder does not hold what it takes.

        Raises:
            ValueError: If the sample is none.
        """
        template = self.template
        if template is None:
            return None
        # Of several images, all sizes are told.
        told_sizes = len(sizes) > 1 or any(f"{{{side}}}" in template.question for side in ("width", "height"))
        if None in sizes and told_sizes:
            return None
        image, *more = (Image.new("1", size or (1, 1)) for size in sizes)
        try:
            sample = Sample.from_json(data, image=image, more_images=more)
        except InputError as error:
            raise ValueError(str(error)) from error
        tools, assumed = self._tools(attributed)
        key = (template.digest, *tools.items(), assumed, len(sizes))
        known = {name: tool or _stand_in(name) for name, tool in tools.items()}
        blocks = build_blocks(sample, known, template)
        query = next(block.text for block in blocks if block.type == "query")
        told = [
            {"type": block.type, "name": block.name, "text": block.text if self._keeps(block.name, tools) else None}
            for block in blocks
        ]
        return self._prompts.add(key, told, assumed), self._prompts.texts.add(query)

    def observation(self, *, edited: bool, error: str | None, said: str | None = None, turn: int = 0) -> int | None:
        """Returns the place of what the model was told after the program of a turn, from 0: beside an edited image, or
        instead of one.
        """
        if self.template is None:
            return None
        # As `PromptEncoder.observation` writes it, for which it does not matter what the image shows.
        shown = Observation(_NO_IMAGE if edited else None, error, max(1, self._turns - turn - 1), said)
        return self._prompts.texts.add(observed(self.template.frame(shown), shown))

    def _keeps(self, block: str, tools: Mapping[str, ToolDefinition | None]) -> bool:
        if block.startswith("image_") or block == "query":
            return False
        return not block.startswith(_TOOL) or tools.get(block.removeprefix(_TOOL)) is not None

    def _tools(self, attributed: Sequence[str]) -> tuple[dict[str, ToolDefinition | None], bool]:
        """Returns the offered tools in order, those of a user's own as None, and whether they are assumed."""
        told = [name.removeprefix(_TOOL) for name in attributed if name.startswith(_TOOL)]
        named = self._named
        if named is not None and any(part not in (*TOOLS, "standard", "none") for part in named):
            # Of a file; what is in it is not known, and may bear a standard tool's name.
            return dict.fromkeys(told or named), False
        if named is None:
            names = told or list(TOOLS)
        else:
            names = [tool for part in named for tool in (TOOLS if part == "standard" else (part,)) if tool != "none"]
        return {name: TOOLS.get(name) for name in names}, not self._says


def _most_turns(run: Run) -> int:
    """Returns the most turns of a run's rollouts; two where it does not say."""
    evaluation = run.config.get("evaluation")
    places = (run.config.get("training"), evaluation.get("generation") if isinstance(evaluation, dict) else None)
    told = [place.get("max_turns") for place in places if isinstance(place, dict)]
    return next((turns for turns in told if isinstance(turns, int)), 2)


def _stand_in(name: str) -> ToolDefinition:
    def unknown(image: Image.Image, names: Sequence[str], boxes: Mapping[str, Any]) -> Image.Image:
        """The definition is not kept."""
        return image

    return ToolDefinition(name, "columns", "mask", unknown)
