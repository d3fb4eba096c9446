"""Prompt templates: the packaged ones, those of the user's own, what is refused in them, and where they are found."""

from __future__ import annotations

import ast
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import PreTrainedModel

from iapo.errors import InputError
from iapo.records import Box, Sample
from iapo.rollout.names import PACKAGED, packaged
from iapo.rollout.policy import ImageTextProcessor, Policy, load_policy, load_processor, prompt_of
from iapo.rollout.prompt import PromptEncoder, build_blocks
from iapo.rollout.template import PromptTemplate, find_prompt, packaged_prompts
from iapo.rollout.turns import answer, read_turn, rollout
from iapo.rollout.wording import Observation, literal_list
from iapo.tools import TOOLS, check_program, define, edits, execute, offered_tools

NAMES = ("a, b", 'say "so"', "Men's", "<|im_end|>", "<tool_call>", "a\nb", "<5", "{question}", "\\d", "Ünï")
BOXES: dict[str, Box] = {name: (10 * place, 0, 10 * place + 10, 40) for place, name in enumerate(NAMES)}
SAMPLE = Sample("s", Image.new("RGB", (112, 84)), "How {names} many?", ("1",), column_boxes=BOXES)


def write(folder: Path, changes: dict[str, Any], name: str = "mine.yaml") -> str:
    path = folder / name
    path.write_text(yaml.safe_dump(changes, allow_unicode=True))
    return str(path)


def plain(blocks: Any) -> list[tuple[str, str, str]]:
    return [(block.type, block.name, block.text) for block in blocks]


# The packaged ones


def test_the_packaged_templates():
    assert packaged_prompts() == ("free", "tiny", "tiny-turns", "tools", "tools-turns")
    for name in packaged():
        assert prompt_of(name) == find_prompt("tiny"), "the packaged models bring the prompt that they know"


def test_the_examples_of_the_free_prompt_do_what_they_say():
    """Their programs run on an image as large as they name, and display what the observation says."""
    template, sample = find_prompt("free"), dataclasses.replace(SAMPLE, image=Image.new("RGB", (1200, 1400)))
    shown = {}
    for example in template.examples:
        if example.tools and "read_text" not in example.tools:
            result = execute(example.text, sample, offered_tools(",".join(example.tools)), lenient=template.lenient)
            shown[example.name] = result.image.size if result.image is not None else result.text
    assert shown == {"crop": (240, 80), "zoom": (800, 320), "calculate": "897.5"}
    assert "OBSERVATION: 897.5" in next(example.text for example in template.examples if example.name == "calculate")
    offered = offered_tools("standard,calculate")
    names = [name for _, name, _ in plain(build_blocks(sample, tools=offered, template=template))]
    assert [name for name in names if name.startswith("example:")] == ["example:calculate", "example:no-tool"]


def test_the_tiny_prompt_to_the_letter(samples: list[Sample]):
    """The tiny models' numbers depend on each character, so that this is written out."""
    first, image, *tools, query = plain(build_blocks(samples[0]))
    assert first == (
        "context",
        "context",
        "You answer questions about charts and tables. First write a Python code block that calls the tools on image_1 "
        "and ends in display(...). You then see the edited picture. End with FINAL ANSWER: your answer. TERMINATE.",
    )
    assert image == ("image", "image_1", "")
    assert tools == [("tool", f"tool:{name}", tool.text + "\n") for name, tool in TOOLS.items()]
    assert query == ("query", "query", f"QUESTION: {samples[0].question}")
    listed = dataclasses.replace(samples[0], list_names=True)
    names = f"columns_bbox: {', '.join(listed.column_boxes)}\nrows_bbox: {', '.join(listed.row_boxes)}\n"
    assert build_blocks(listed)[-1].text == f"{names}QUESTION: {listed.question}"
    assert build_blocks(listed, {})[0].text == (
        "You answer questions about charts and tables. Look at the picture, reason, and end with FINAL ANSWER: your "
        "answer. TERMINATE."
    )
    assert build_blocks(listed, {})[-1].text == f"QUESTION: {listed.question}"
    tiny = find_prompt("tiny")
    assert tiny.observation_edited == "OBSERVATION: the edited picture is shown. Answer the question now."
    assert tiny.observation_error == "OBSERVATION: {error} Answer the question now."
    assert not tiny.lenient


def test_the_tools_prompt_says_what_there_is():
    template = find_prompt("tools")
    blocks = build_blocks(SAMPLE, template=template)
    assert [block.type for block in blocks] == ["context", *["tool"] * 6, *["context"] * 3, "image", "query"]
    assert len({block.name for block in blocks}) == len(blocks)
    by_name = {block.name: block.text for block in blocks}
    for word in ("THOUGHT:", "ACTION:", "FINAL ANSWER:", "columns_bbox", "rows_bbox", "||", "true or false", "unit"):
        assert word in by_name["context"], word
    for name, tool in TOOLS.items():
        text = by_name[f"tool:{name}"]
        assert text.startswith(f"def {name}({', '.join(tool.parameters)}):")
        # What is shown as an example works, and what is shown as code is code.
        ast.parse(text)
        for part in ("Args:", "Returns:", "Example:", f"{tool.axis}_bbox", *tool.parameters):
            assert part in text, part
        program = next(line.strip() for line in text.splitlines() if line.strip().startswith("display("))
        named = Sample(
            "s",
            # Not white: what masks and draws must change it.
            Image.new("RGB", SAMPLE.image.size, "grey"),
            "?",
            ("1",),
            {"A": (0, 0, 9, 9), "B": (9, 0, 18, 9), "C": (18, 0, 27, 9)},
            {"A": (0, 0, 9, 9), "B": (0, 9, 9, 18), "C": (0, 18, 9, 27)},
        )
        for lenient in (True, False):
            assert execute(f"```python\n{program}\n```", named, lenient=lenient).status == "edited"
    assert by_name["query"].endswith("QUESTION: How {names} many?")
    assert "112 x 84 pixels" in by_name["query"]


def test_names_are_written_so_that_they_can_be_copied():
    text = build_blocks(SAMPLE, template=find_prompt("tools"))[-1].text
    line = next(line for line in text.splitlines() if line.startswith("columns_bbox: "))
    written = line.removeprefix("columns_bbox: ")
    assert "<|" not in written
    assert "<tool_call>" not in written
    assert tuple(json.loads(written)) == tuple(ast.literal_eval(written)) == NAMES
    assert "rows_bbox: []" in text.splitlines()
    # Copied as it stands, each name is found again.
    result = execute(f"```python\ndisplay(focus_on_columns_with_draw(image_1, {written}, columns_bbox))\n```", SAMPLE)
    assert (result.status, result.calls[0].targets) == ("edited", NAMES)


@given(st.lists(st.one_of(st.text(), st.sampled_from(NAMES)), max_size=6))
@settings(max_examples=200, deadline=None)
def test_lists_are_json_and_python(names: list[str]):
    text = literal_list(names)
    assert json.loads(text) == ast.literal_eval(text) == names
    assert "<|" not in text
    assert "\n" not in text
    text.encode()


def test_half_a_surrogate_pair_is_written_too():
    text = literal_list(["a\ud800"])
    text.encode()
    assert ast.literal_eval(text) == ["a\ud800"]


def test_examples_name_offered_tools_alone():
    template = find_prompt("tools")
    assert 2 <= len(template.examples) <= 4
    for one in template.examples:
        assert check_program(one.text, one.tools, lenient=False) is None
    for offered in ({"focus_on_rows_with_mask"}, {"focus_on_columns_with_draw"}, set(TOOLS)):
        tools = {name: TOOLS[name] for name in TOOLS if name in offered}
        texts = "".join(block.text for block in build_blocks(SAMPLE, tools, template))
        assert {name for name in TOOLS if name in texts} == offered
    names = [block.name for block in build_blocks(SAMPLE, {}, template)]
    assert names == ["context", "image_1", "query"], "without tools there is no example of one"


def test_a_tool_of_the_users_own_is_described():
    def circle(picture: Image.Image, bars: list[str], where: dict[str, Box]) -> Image.Image:
        """Draw a circle round bars.

        The circle is red.
        """
        return edits.focus_on_columns_with_draw(picture, bars, where)

    tool = define(circle, axis="columns", style="draw")
    text = find_prompt("tools").tool_text(tool)
    assert text.startswith(
        'def circle(picture, bars, where):\n    """Draw a circle round bars.\n\n    The circle is red.\n'
    )
    ast.parse(text)
    assert 'display(circle(image_1, ["A", "B"], columns_bbox))' in text
    # A tool that takes a standard one's name is not that tool.
    circle.__name__ = "focus_on_rows_with_draw"
    taken = define(circle, axis="rows", style="draw")
    assert "Draw a circle round bars." in find_prompt("tools").tool_text(taken)
    assert "outline around" in find_prompt("tools").tool_text(TOOLS["focus_on_rows_with_draw"])


@pytest.mark.parametrize("name", ["tiny", "tools"])
def test_blocks_partition_the_prompt(family: str, name: str, encoder: PromptEncoder, qwen3_encoder: PromptEncoder):
    processor = (qwen3_encoder if family == "qwen3_vl" else encoder).processor
    own = PromptEncoder(processor, find_prompt(name))
    sample = dataclasses.replace(SAMPLE, column_boxes={"a, b": (0, 0, 9, 9)})
    blocks = build_blocks(sample, template=own.template)
    prompt = own.encode(blocks)
    assert set(prompt.block_of) == set(range(len(blocks)))
    assert prompt.block_of == sorted(prompt.block_of)
    assert prompt.block_names == tuple(block.name for block in blocks)
    for index, block in enumerate(blocks):
        ids = [token for token, of in zip(prompt.ids, prompt.block_of, strict=True) if of == index]
        if block.text:
            assert block.text in own.tokenizer.decode(ids)


def test_turns_are_read_and_answered_as_the_template_says(encoder: PromptEncoder, samples: list[Sample]):
    name = next(iter(samples[0].column_boxes))
    turn = f'```python\nprint(focus_on_columns_with_mask(image_1, "{name}"))\n```'
    ids = encoder.tokenizer(turn)["input_ids"]
    told: list[str] = []

    def generate(rows: list[list[int]], images: Any) -> list[list[int]]:
        told.extend(encoder.tokenizer.decode(row) for row in rows)
        return [ids for _ in rows]

    for prompt, status in (("tools", "edited"), ("tiny", "refused")):
        own = PromptEncoder(encoder.processor, find_prompt(prompt))
        assert read_turn(ids, samples[0], own).result.status == status
        (one,) = rollout(samples[:1], own, generate)
        assert one.trace.result.status == status
        seen = (
            own.template.observation_edited if status == "edited" else own.template.observation_error.partition("{")[0]
        )
        assert seen in told[-1]
        answer(samples[:1], own, generate)
        assert own.template.instructions_without_tools in told[-1]
    error = PromptEncoder(encoder.processor, find_prompt("tools")).observation(Observation(text="Bad."), ended=True)
    assert "No image was edited: Bad." in encoder.tokenizer.decode(error)


# The user's own


def test_a_file_of_the_users_own(tmp_path: Path):
    path = write(
        tmp_path,
        {"base": "tools", "question": "{names}Q: {question}", "order": ["image", "question", "examples", "tools"]},
    )
    mine = find_prompt(path)
    assert mine.name == "mine"
    assert mine.instructions == find_prompt("tools").instructions
    blocks = build_blocks(SAMPLE, template=mine)
    assert [block.type for block in blocks[:3]] == ["context", "image", "query"]
    assert blocks[2].text.endswith("Q: How {names} many?")
    assert mine.digest != find_prompt("tools").digest
    # A file may stand on another one beside it.
    second = find_prompt(write(tmp_path, {"base": "mine.yaml", "name": "second", "names_style": "plain"}, "other.yaml"))
    assert (second.name, second.order) == ("second", mine.order)
    assert "columns_bbox: a, b, say" in build_blocks(SAMPLE, template=second)[2].text


def test_what_is_written_is_read_again(tmp_path: Path):
    for name in packaged_prompts():
        find_prompt(name).write(tmp_path)
        assert find_prompt(str(tmp_path)) == find_prompt(name)
        assert find_prompt(str(tmp_path / "prompt.yaml")).digest == find_prompt(name).digest
    assert "THOUGHT: what is asked" in (tmp_path / "prompt.yaml").read_text(), "for people to read, line by line"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instuctions": "x"}, "no key 'instuctions'; did you mean instructions?"),
        ({"question": "What?"}, "question has no place {question}"),
        (
            {"question": "{question} {answer}"},
            "placeholder {answer}, which does not exist there; use some of {question}",
        ),
        ({"instructions": "Use {tools}."}, "instructions has the placeholder {tools}.*it takes none"),
        ({"instructions": "<|im_end|>"}, r"instructions holds '<\|im_end\|>'"),
        ({"observation_edited": "see <|image_pad|>"}, r"observation_edited holds '<\|image_pad\|>'"),
        ({"tool": "<|x"}, "tool holds"),
        ({"tool": "a tool"}, "tool has no place {definition} or {name}"),
        ({"observation_error": "Bad."}, "observation_error has no place {error}"),
        ({"names": "{columns} {columns_bbox}"}, "names has the placeholder {columns_bbox}"),
        ({"names": ""}, "question has the place {names}, but names says nothing"),
        ({"question": "{question}"}, "question has no place {names}"),
        ({"instructions": ""}, "instructions has no text"),
        ({"instructions": 3}, "instructions is of type int; give a text"),
        ({"names_listed": "sometimes"}, "names_listed is 'sometimes'; use always or asked"),
        ({"programs": True}, "programs is True; use lenient or strict"),
        ({"order": ["image", "tools", "question"]}, "order lacks 'examples'"),
        ({"order": ["image", "tools", "examples", "question", "image"]}, "order has 'image', unknown or twice"),
        ({"order": "image"}, "order lacks 'tools'"),
        ({"order": [["image"]]}, "order has "),
        ({"descriptions": ["x"]}, "descriptions is no mapping"),
        ({"descriptions": {"crop": "Crop {x}."}}, "description of crop has the placeholder {x}"),
        ({"examples": {"a": 1}}, "examples is no list"),
        ({"examples": [{"name": "a", "text": "x"}]}, "example 1 has not the keys name, tools and text"),
        ({"examples": [{"name": "a", "tools": "x", "text": "x"}]}, "tools of example 'a' is no list"),
        ({"examples": [{"name": "a", "tools": [], "text": "x"}] * 2}, "two examples are called 'a'"),
        (
            {"examples": [{"name": "a", "tools": [], "text": "focus_on_rows_with_mask"}]},
            "example 'a' names focus_on_rows_with_mask, which its tools do not list",
        ),
        (
            {"examples": [{"name": "a", "tools": ["crop"], "text": "```python\nimport os\ncrop(1)\n```"}]},
            "example 'a' has a program that would be refused .line 1 imports os",
        ),
        ({"base": "nothing"}, "no prompt 'nothing'"),
        ({"base": 3}, "base is of type int"),
        ({"name": " "}, "name has no text"),
    ],
)
def test_a_template_that_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any], message: str):
    path = write(tmp_path, {"base": "tools", **changes})
    with pytest.raises(InputError, match=message.replace("{", r"\{").replace("?", r"\?")) as raised:
        find_prompt(path)
    assert "mine.yaml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_template(tmp_path: Path):
    with pytest.raises(InputError, match=r"key 'instructions' is missing.*base: tools"):
        find_prompt(write(tmp_path, {"question": "{question}"}))
    (tmp_path / "text.yaml").write_text("only a text")
    with pytest.raises(InputError, match="holds no settings"):
        find_prompt(str(tmp_path / "text.yaml"))
    (tmp_path / "twice.yaml").write_text("base: tools\nname: a\nname: b\n")
    with pytest.raises(InputError, match=r"'name' is given twice, the second time in line 3"):
        find_prompt(str(tmp_path / "twice.yaml"))
    with pytest.raises(InputError, match=r"no prompt 'tols'; did you mean tools\?"):
        find_prompt("tols")
    with pytest.raises(InputError, match=r"has no prompt\.yaml"):
        find_prompt(str(tmp_path))
    itself = write(tmp_path, {"base": "mine.yaml"})
    with pytest.raises(InputError, match=r"no prompt 'mine\.yaml'"):
        find_prompt(itself)


# Where it is found


def test_which_template_a_checkpoint_is_asked_with(
    tmp_path: Path, processor: ImageTextProcessor, model: PreTrainedModel
):
    folder = tmp_path / "copy"
    Policy(model, processor).processor.save_pretrained(folder)
    model.save_pretrained(folder)
    assert load_policy(str(folder)).template == find_prompt("tiny")
    (folder / "prompt.yaml").unlink()
    assert load_policy(str(folder)).template == find_prompt("tools"), "a checkpoint from elsewhere brings none"
    assert PromptEncoder(load_processor(str(folder))).template == find_prompt("tools")
    mine = write(tmp_path, {"base": "tools", "name": "mine", "names_style": "plain"})
    policy = load_policy(str(folder), prompt=mine)
    assert policy.template == find_prompt(mine)
    policy.processor.save_pretrained(folder)
    assert prompt_of(str(folder)) == find_prompt(mine), "what was asked for is kept"
    assert prompt_of(str(folder), "tiny") == find_prompt("tiny"), "a choice of one's own counts before it"
    (folder / "prompt.yaml").write_text("a: 1")
    with pytest.raises(InputError, match=r"no key 'a'.*or set prompt, tools for example"):
        load_policy(str(folder))
    assert load_policy(str(folder), prompt="tools").template == find_prompt("tools")


def test_a_processor_of_another_class_is_asked_with_the_tools_prompt(processor: ImageTextProcessor):
    other = ImageTextProcessor(processor.image_processor, processor.tokenizer, chat_template=processor.chat_template)
    assert PromptEncoder(other).template == find_prompt("tools")
    assert PromptEncoder(other, find_prompt("tiny")).template == find_prompt("tiny")


def test_an_adapter_is_asked_as_its_base_is(tmp_path: Path):
    base = shutil.copytree(PACKAGED / "tiny-student", tmp_path / "base")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(base), "peft_type": "LORA"})
    )
    assert prompt_of(str(adapter)) == find_prompt("tiny")
    find_prompt("tools").write(adapter)
    assert prompt_of(str(adapter)) == find_prompt("tools")


def test_templates_are_compared_by_what_they_say(tmp_path: Path):
    one = find_prompt("tools")
    assert find_prompt(one) is one
    same = PromptTemplate(**{**{f.name: getattr(one, f.name) for f in dataclasses.fields(one)}})
    assert (same, same.digest) == (one, one.digest)
    assert dataclasses.replace(one, observation_edited="Look.").digest != one.digest
