"""What the crop world's student is taught: reading a panel well, finding one, and a bad habit in whole episodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from iapo.records import Box
from iapo.rollout.prompt import Block, PromptEncoder, build_blocks
from iapo.rollout.template import TINY, find_prompt
from iapo.rollout.wording import Observation, PromptTemplate
from iapo.tiny.crop.pages import PANELS, Page, panel
from iapo.tiny.crop.tool import CROP
from iapo.tiny.lessons import Lesson
from iapo.tiny.pretrain import Stage, collate
from iapo.tools import execute

TOOLS = {CROP.name: CROP}

SHARED = 8
"""So many lessons of a batch are about one page."""

PROMPT: PromptTemplate = dataclasses.replace(
    find_prompt(TINY),
    name="tiny-crop",
    instructions=(
        "You read numbers in print that is too small to see on the whole page. First write a Python code block that "
        "calls the tool on image_1 and ends in display(...). You then see that part of the page. End with "
        "FINAL ANSWER: your answer. TERMINATE."
    ),
    instructions_without_tools=(
        "You read numbers in print that is too small to see on the whole page. Look at it, and end with FINAL ANSWER: "
        "your answer. TERMINATE."
    ),
    question="QUESTION: {question}",
    names="",
    observation_edited="OBSERVATION: that part of the page is shown. Answer the question now.",
)
"""How the student is asked; it is saved with its checkpoint."""


@dataclass(frozen=True, slots=True)
class Habits:
    """Where the programs in a student's episodes crop.

    Attributes:
        right: Share that crop the panel asked for.
        corner: Share that crop the upper left panel, whatever is asked; the rest crop any.
    """

    right: float
    corner: float


def program_text(box: Box) -> str:
    """Returns a first turn: the call of `crop` with a box in whole pixels."""
    return f"```python\ndisplay(crop(image_1, [{', '.join(str(round(edge)) for edge in box)}]))\n```"


def answer_text(number: int) -> str:
    """Returns a second turn."""
    return f"FINAL ANSWER: {number}. TERMINATE"


class CropTeaching:
    """The lessons of one model, and their losses.

    `content` asks the vision tower for the number of a panel alone, `read` the whole model for it, `find` the page for
    the right crop, and `episode` for both turns, with the habits' crops and the number that the crop shows. A page has
    several lessons of a batch, since its pixels take longer than they do.

    Args:
        model: Trained in place.
        encoder: Its encoder.
        habits: Habits of its episodes.
    """

    def __init__(self, model: PreTrainedModel, encoder: PromptEncoder, habits: Habits) -> None:
        self.model, self.encoder, self.habits = model, encoder, habits
        self._known: dict[tuple[str, str], list[int]] = {}

    def begin(self, stage: Stage) -> None:
        """Changes nothing: all stages have the same lessons."""

    def loss(self, kind: str, items: Iterator[Page], count: int, rng: np.random.Generator) -> Tensor:
        """Returns the loss of one kind's share of a batch.

        Args:
            kind: `content`, `read`, `find` or `episode`.
            items: Source of the pages.
            count: Number of lessons.
            rng: Draws the lessons.
        """
        pages = [next(items) for _ in range(max(1, count // SHARED))]
        asked = [pages[index % len(pages)].asking(int(rng.integers(PANELS**2))) for index in range(count)]
        if kind == "content":
            return self._content_loss(asked)
        if kind == "read":
            return self._lesson_loss([self.read(page) for page in asked])
        if kind == "find":
            return self._lesson_loss([self.find(page) for page in asked])
        return self._lesson_loss([self.episode(page, rng) for page in asked])

    def read(self, page: Page) -> Lesson:
        """Returns the panel asked for alone and the question -> its number."""
        image = page.sample.image.crop(panel(page.asked))
        query = Block("query", "query", f"QUESTION: {page.sample.question}")
        prompt = self._prompt("read", page, lambda: (Block("image", "image_1", image=image), query))
        return _lesson(prompt, self._turn(answer_text(page.numbers[page.asked])), image)

    def find(self, page: Page) -> Lesson:
        """Returns the prompt without its instructions -> the crop of the panel asked for."""
        prompt = self._prompt("find", page, lambda: build_blocks(page.sample, TOOLS, PROMPT)[1:])
        return _lesson(prompt, self._turn(program_text(panel(page.asked))), page.sample.image)

    def episode(self, page: Page, rng: np.random.Generator) -> Lesson:
        """Returns the whole prompt -> a crop as habits have it -> that panel -> the number that it shows."""
        place = self._place(page, rng)
        text = program_text(panel(place))
        prompt = self._prompt("episode", page, lambda: build_blocks(page.sample, TOOLS, PROMPT))
        first = _lesson(prompt, self._turn(text), page.sample.image)
        result = execute(text, page.sample, TOOLS)
        if result.image is None:
            raise RuntimeError(f"a lesson's call did not execute: {result.error}")
        observation = self.encoder.observation(Observation.of(result), ended=True)
        second = self._turn(answer_text(page.numbers[place]))
        learn = [*first.learn, *[False] * len(observation), *[True] * len(second)]
        return Lesson([*first.ids, *observation, *second], learn, (page.sample.image, result.image))

    def _place(self, page: Page, rng: np.random.Generator) -> int:
        drawn = rng.random()
        if drawn < self.habits.right:
            return page.asked
        return 0 if drawn < self.habits.right + self.habits.corner else int(rng.integers(PANELS**2))

    def _content_loss(self, pages: Sequence[Page]) -> Tensor:
        """Returns the mean negative log-likelihood of the numbers of panels alone, which the last vision token shows,
        read off the vision tower's output.
        """
        pixels = self.encoder.pixels([page.sample.image.crop(panel(page.asked)) for page in pages])
        found = self.model.model.get_image_features(pixels["pixel_values"], pixels["image_grid_thw"]).pooler_output
        features = found if isinstance(found, Tensor) else torch.cat(list(found))
        last = self.model.model.language_model.norm(features.view(len(pages), PANELS**2, -1)[:, -1])
        numbers = [self._turn(page.sample.answers[0])[0] for page in pages]
        return cross_entropy(self.model.lm_head(last).float(), torch.tensor(numbers))

    def _lesson_loss(self, lessons: Sequence[Lesson]) -> Tensor:
        """Returns the mean negative log-likelihood of the learnt tokens."""
        inputs, labels = collate(self.encoder, lessons)
        found = self.model.model(**inputs, use_cache=False)
        learnt = labels[:, 1:] != -100
        logits = self.model.lm_head(found.last_hidden_state[:, :-1][learnt])
        return cross_entropy(logits.float(), labels[:, 1:][learnt])

    def _prompt(self, kind: str, page: Page, blocks: Callable[[], Sequence[Block]]) -> list[int]:
        """Returns a prompt's tokens, which are the same for all pages of which the same is asked."""
        key = kind, page.sample.question
        if key not in self._known:
            self._known[key] = self.encoder.encode(blocks()).ids
        return self._known[key]

    def _turn(self, text: str) -> list[int]:
        key = "turn", text
        if key not in self._known:
            ids: list[int] = self.encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
            self._known[key] = [*ids, self.encoder.tokenizer.eos_token_id]
        return self._known[key]


def _lesson(prompt: list[int], turn: list[int], image: Image.Image) -> Lesson:
    return Lesson(prompt + turn, [False] * len(prompt) + [True] * len(turn), (image,))
