"""`PromptTemplate`: how a prompt is worded, as data, and the texts of its blocks (docs/prompts.md)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from PIL import Image

from iapo.control import spaced
from iapo.kinds import check_kinds
from iapo.records import Sample, ToolResult
from iapo.storage import write_text
from iapo.tools import TOOLS, ToolDefinition

FILE = "prompt.yaml"
"""What a template is called beside a checkpoint and in a run folder."""

Part = Literal["image", "tools", "examples", "question"]

MORE = ("observation_edited_more", "observation_error_more")
"""Texts that a template for more than two turns has."""

OBSERVATION_TEXT = "OBSERVATION: {text}\nAnswer the question now, and end with FINAL ANSWER: your answer. TERMINATE"
OBSERVATION_TEXT_MORE = "OBSERVATION: {text}\nWrite another program, or answer the question now."

SEVERAL = "There are {count} images, in this order: {images}. columns_bbox and rows_bbox are on image_1 alone.\n"
SEVERAL_WITHOUT_TOOLS = "There are {count} images, in this order: {images}.\n"

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Observation:
    """What a model is shown behind a turn with a program.

    Attributes:
        image: Image that the program displayed, if any.
        text: Reason why a program was refused or failed.
        left: Number of turns that the model has left. Before the last one it may write another program.
        said: Text that tools gave, beside the image or instead of one.
    """

    image: Image.Image | None = None
    text: str | None = None
    left: int = 1
    said: str | None = None

    @classmethod
    def of(cls, result: ToolResult, left: int = 1) -> Self:
        """Returns what is shown of a program's result."""
        return cls(result.image, result.error, left, result.text)


@dataclass(frozen=True, slots=True)
class Example:
    """One worked example.

    Attributes:
        name: Name of it; its block is called `example:NAME`.
        tools: Tools that it uses; it is left out where one of them is not offered.
        text: The example.
    """

    name: str
    tools: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The wording of a prompt, and how the programs that answer it are read.

    Attributes:
        name: Name of it.
        instructions: The system message.
        instructions_without_tools: The system message where no tool is offered.
        tool: One definition's block, with the placeholders of `tool_text`.
        question: The last text, with `{question}`, and maybe `{names}`, `{width}` and `{height}`.
        question_without_tools: The same where no tool is offered, without `{names}`.
        observation_edited: What is said beside the edited image before the last turn.
        observation_error: What is said there where there is none, with `{error}`.
        observation_text: What is said there where tools gave a text, beside the image if there is one, with `{text}`.
        order: Order of the parts of the user's message.
        names: How the boxes' names are told, with `{columns}` and `{rows}`; empty where they never are.
        names_listed: `always`, or where the sample asks for it (`Sample.list_names`).
        names_style: `literal`, as lists that are JSON and Python alike, or `plain`, with commas between.
        descriptions: Longer descriptions by the tool's name, instead of its docstring.
        examples: Worked examples, a block each.
        observation_edited_more: What is said beside the edited image while another program may follow, maybe with
            `{left}`, the number of turns left; empty in a template for two turns.
        observation_error_more: What is said there where there is none, with `{error}`, and maybe `{left}`.
        observation_text_more: What is said there where tools gave a text, with `{text}`, and maybe `{left}`.
        several: What stands before the question of a sample with several images, with `{images}` (their names and
            sizes in pixels), and maybe `{count}`.
        several_without_tools: What stands there where no tool is offered.
        programs: Whether programs are read as `strict`ly as the tiny models write them, or with what instruction
            models write (`iapo.tools.lenient`).

    Raises:
        InputError: If one of them is of another kind.
    """

    name: str
    instructions: str
    instructions_without_tools: str
    tool: str
    question: str
    question_without_tools: str
    observation_edited: str
    observation_error: str
    order: tuple[Part, ...] = ("image", "tools", "examples", "question")
    names: str = ""
    names_listed: Literal["asked", "always"] = "always"
    names_style: Literal["literal", "plain"] = "literal"
    descriptions: Mapping[str, str] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    programs: Literal["lenient", "strict"] = "lenient"
    observation_edited_more: str = ""
    observation_error_more: str = ""
    observation_text: str = OBSERVATION_TEXT
    observation_text_more: str = OBSERVATION_TEXT_MORE
    several: str = SEVERAL
    several_without_tools: str = SEVERAL_WITHOUT_TOOLS

    def __post_init__(self) -> None:
        check_kinds(self)

    @property
    def lenient(self) -> bool:
        """Whether programs are read with what instruction models write."""
        return self.programs == "lenient"

    @property
    def digest(self) -> str:
        """SHA-256 of all that it says."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Returns it as plain data, as the YAML file has it."""
        found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        # Templates for two turns, and those with the usual words for texts and several images, are written, and told
        # apart, as they were before there were others.
        usual = {"observation_text": OBSERVATION_TEXT, "observation_text_more": OBSERVATION_TEXT_MORE}
        usual |= dict.fromkeys(MORE, "") | {"several": SEVERAL, "several_without_tools": SEVERAL_WITHOUT_TOOLS}
        return {key: value for key, value in found.items() if key not in usual or value != usual[key]}

    def tool_text(self, tool: ToolDefinition) -> str:
        """Returns a definition's block.

        Placeholders of `tool` are `{definition}` (name, parameters and docstring as code), `{name}`, `{image}`,
        `{names}` and `{boxes}` (what its parameters are called), `{description}`, `{axis}` and `{boxes_name}`. The
        template's own description of a standard tool counts for that tool alone, not for another of its name. A free
        tool has other parameters: its definition is all of its block.
        """
        if tool.free is not None:
            return f"{tool.text}\n"
        image, names, boxes = tool.parameters
        own = self.descriptions.get(tool.name) if TOOLS.get(tool.name, tool) == tool else None
        values = {"name": tool.name, "axis": str(tool.axis), "image": image, "names": names, "boxes": boxes}
        values |= {"definition": tool.text, "boxes_name": f"{tool.axis}_bbox"}
        return fill(self.tool, {**values, "description": own or tool.description})

    def question_text(self, sample: Sample, *, with_tools: bool) -> str:
        """Returns the text with the question: with the images' names before it where there are several, and with the
        boxes' names where they are listed.
        """
        several = ""
        if sample.more_images:
            sizes = [f"{name} ({image.width} x {image.height} pixels)" for name, image in sample.named_images.items()]
            told = {"images": ", ".join(sizes), "count": str(len(sizes))}
            several = fill(self.several if with_tools else self.several_without_tools, told)
        return several + self._question(sample, with_tools=with_tools)

    def _question(self, sample: Sample, *, with_tools: bool) -> str:
        width, height = sample.image.size
        values = {"question": sample.question, "width": str(width), "height": str(height), "names": ""}
        if not with_tools:
            return fill(self.question_without_tools, values)
        if self.names_listed == "always" or sample.list_names:
            lists = {"columns": self._listed(sample.column_boxes), "rows": self._listed(sample.row_boxes)}
            values["names"] = fill(self.names, lists)
        return fill(self.question, values)

    def frame(self, observation: Observation) -> str:
        """Returns the text of an observation before `observed` has filled it."""
        edited, error, text = (
            (self.observation_edited, self.observation_error, self.observation_text)
            if observation.left == 1
            else (self.observation_edited_more, self.observation_error_more, self.observation_text_more)
        )
        if observation.said is not None:
            return text
        return error if observation.image is None else edited

    def examples_for(self, tools: Iterable[str]) -> tuple[Example, ...]:
        """Returns the examples that use offered tools alone."""
        offered = set(tools)
        return tuple(one for one in self.examples if offered.issuperset(one.tools))

    def write(self, folder: Path) -> None:
        """Writes it as `prompt.yaml` into a folder."""
        text = yaml.dump(
            self.to_json(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000, default_flow_style=False
        )
        write_text(folder / FILE, text)

    def _listed(self, names: Iterable[str]) -> str:
        return literal_list(names) if self.names_style == "literal" else ", ".join(names)


def observed(frame: str, observation: Observation, neutral: Callable[[str], str] = spaced) -> str:
    """Fills the text of an observation, or the chat around it; what a model wrote must not turn into control tokens.

    Args:
        frame: Text with the places `{error}`, `{text}` and `{left}`, where it has them.
        observation: Observation.
        neutral: Function that takes control tokens apart; by default whatever may be one for some model.
    """
    said = {"left": str(observation.left)}
    said |= {"error": neutral(observation.text or ""), "text": neutral(observation.said or "")}
    return re.sub(r"\{(left|error|text)\}", lambda found: said[found[1]], frame)


def fill(text: str, values: Mapping[str, str]) -> str:
    """Puts values in the place of their placeholders, once: what looks like one within a value stays.

    The further lines of a value are indented as the line is in which its placeholder stands.
    """

    def value(found: re.Match[str]) -> str:
        line = text[text.rfind("\n", 0, found.start()) + 1 : found.start()]
        indent = line[: len(line) - len(line.lstrip())]
        return re.sub(r"\n(?=[^\n])", "\n" + indent, values.get(found[1], found[0]))

    return PLACEHOLDER.sub(value, text)


def literal_list(names: Iterable[str]) -> str:
    """Writes names as a list that JSON and Python read alike.

    Of what could be read as a control token, such as `<|im_end|>` or `<tool_call>`, the `<` is written by its code
    point, and so is half a surrogate pair, which no tokenizer takes.
    """
    text = json.dumps(list(names), ensure_ascii=False)
    return re.sub(r"<(?=\||/?\w+\|?>)|[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
