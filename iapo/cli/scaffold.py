"""The files that `iapo new` writes, and their texts."""

from __future__ import annotations

import json
import keyword
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml
from PIL import Image, ImageDraw

from iapo.data.pictures import encode_picture
from iapo.errors import InputError
from iapo.storage import check_place, make_folder, write_all

KINDS = ("tool", "reward", "data")

_TAKEN = ("iapo", "PIL", "torch", "numpy", "pytest", "transformers", "trl", "display", "standard", "none")


@dataclass(frozen=True, slots=True)
class Made:
    """What was written.

    Attributes:
        files: The files.
        commands: Command lines that use them.
    """

    files: tuple[Path, ...]
    commands: tuple[str, ...]


def check_name(kind: str, name: str) -> None:
    """Refuses a name that cannot be one, or that something else has.

    Raises:
        InputError: If so.
    """
    if not name.isascii() or not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise InputError(f"name is {name!r}; use letters, digits and _, a letter first, and no word of Python's")
    taken = set(_TAKEN)
    if kind == "tool":
        from iapo.tools import TOOLS
        from iapo.tools.packaged import PACKAGED

        taken |= {*TOOLS, *PACKAGED}
    # The test imports the file by its name.
    if name in taken or name in sys.stdlib_module_names:
        raise InputError(f"name is {name!r}, which is taken; choose another one")


def write(kind: str, name: str, out: Path) -> Made:
    """Writes a part's files.

    Args:
        kind: One of `KINDS`.
        name: Its name, checked by `check_name`.
        out: Folder to write into.

    Raises:
        InputError: If one of the files is there already, or the folder cannot be written; nothing is written then.
    """
    check_place(out / name)
    if out.is_file():
        raise InputError(f"{out} is a file; choose another --out, which is a folder")
    if found := next((letter for letter in str(out) if letter in ",@" or not letter.isprintable()), None):
        raise InputError(f"out is {str(out)!r}; choose a folder without {found!r}, which no setting can have in a path")
    source, test, config = _TEXTS[kind]
    folder = out / f"{name}-data"
    file, rows = _word(out / f"{name}.py"), _word(folder / "rows.csv")
    value = {"tool": f"standard,{file}", "reward": f"{file}:{name}", "data": f"{file}:{name}@{rows}"}[kind]
    where = {"NAME": name, "VALUE": _in_yaml(value)}
    texts = {out / f"{name}.py": source, out / f"test_{name}.py": test, out / f"{name}.yaml": config}
    if kind == "data":
        texts[folder / "rows.csv"] = _ROWS
    for path in (*texts, folder / "chart.png"):
        if path.exists():
            raise InputError(f"{path} already exists; choose another name, or remove it")
    contents = {path: _filled(text, where).encode() for path, text in texts.items()}
    if kind == "data":
        contents[folder / "chart.png"] = encode_picture(_chart())
    for path in contents:
        make_folder(path.parent)
    write_all(contents)
    files = list(contents)
    own = _word(out / f"{name}.yaml")
    commands = [f"pytest {shlex.quote(_word(out / f'test_{name}.py'))}"]
    if kind in _EVALUATED:
        option = shlex.quote(file if kind == "tool" else value)
        commands.append(f"iapo evaluate --model tiny-student {_EVALUATED[kind]} {option} --out runs/{name}-start")
    small = "--max_steps 1 --eval_samples 16 --case_study_steps 0"
    return Made(tuple(files), (*commands, f"iapo train --config {shlex.quote(f'demo-grpo,{own}')} {small}"))


def _word(path: Path) -> str:
    """Returns a path as a word of a command line that is no option, and no home folder."""
    text = path.as_posix()
    return f"./{text}" if text[0] in "-~" else text


def _in_yaml(value: str) -> str:
    """Returns a text as YAML has it: plain where it reads as itself, in quotes where not."""
    try:
        plain = yaml.safe_load(f"value: {value}") == {"value": value}
    except yaml.YAMLError:
        plain = False
    return value if plain else json.dumps(value, ensure_ascii=False)


def _filled(text: str, where: dict[str, str]) -> str:
    for word, value in where.items():
        text = text.replace(f"@{word}@", value)
    return text


def _chart() -> Image.Image:
    image = Image.new("RGB", (112, 112), "white")
    draw = ImageDraw.Draw(image)
    for place, (label, height) in enumerate((("A", 30), ("B", 60), ("C", 45))):
        draw.rectangle((16 + 32 * place, 96 - height, 34 + 32 * place, 96), fill="steelblue")
        draw.text((22 + 32 * place, 98), label, fill="black")
    return image


_TOOL = '''"""The tool @NAME@; `iapo evaluate --tools @NAME@.py` offers it."""

import math
from typing import Annotated

from annotated_types import Interval
from PIL import Image, ImageEnhance

from iapo import define
from iapo.tools import Box


@define
def @NAME@(image: Image.Image, box: Box, strength: Annotated[float, Interval(ge=1, le=4)] = 2.0) -> Image.Image:
    """Cut a part out of the image and raise its contrast."""
    left, top, right, bottom = box
    part = image.convert("RGB").crop((math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)))
    return ImageEnhance.Contrast(part).enhance(strength)
'''

_TOOL_TEST = '''"""Tests of the tool @NAME@."""

from @NAME@ import @NAME@
from PIL import Image

from iapo import Sample, execute

SAMPLE = Sample("one", Image.new("RGB", (60, 40), "grey"), "How many?", ("1",))


def run(call):
    return execute(f"```python\\ndisplay({call})\\n```", SAMPLE, {@NAME@.name: @NAME@})


def test_it_edits_the_image():
    result = run("@NAME@(image_1, [10, 10, 40, 30], strength=3)")
    assert (result.status, result.error) == ("edited", None)
    assert result.image.size == (30, 20)


def test_wrong_arguments_fail_before_it_is_called():
    for call in ("@NAME@(image_1, [10, 10, 400, 30])", "@NAME@(image_1, [10, 10, 40, 30], strength=9)"):
        result = run(call)
        assert (result.status, result.broken) == ("failed", "")
'''

_TOOL_CONFIG = """tools: @VALUE@
tool_timeout: 10
output_dir: runs/@NAME@
"""

_REWARD = '''"""The reward @NAME@; `iapo train --reward @NAME@.py:@NAME@` trains with it."""


def @NAME@(trace, outcome):
    """The outcome, less a tenth for each tool call after the first."""
    return outcome - 0.1 * max(0, len(trace.result.calls) - 1)
'''

_REWARD_TEST = '''"""Tests of the reward @NAME@."""

import pytest
from @NAME@ import @NAME@
from PIL import Image

from iapo import Sample
from iapo.evaluation.solvers import solve_by_chat

BOXES = {"A": (0, 0, 30, 40), "B": (30, 0, 60, 40)}
SAMPLE = Sample("one", Image.new("RGB", (60, 40), "grey"), "How many?", ("1",), column_boxes=BOXES)
CALL = "focus_on_columns_with_draw({}, ['A'], columns_bbox)"


def rollout(calls):
    """Returns a rollout of a model that writes so many calls, and then the right answer."""
    program = "image_1"
    for _ in range(calls):
        program = CALL.format(program)
    turns = iter([f"```python\\ndisplay({program})\\n```", "FINAL ANSWER: 1. TERMINATE"])
    return solve_by_chat(lambda messages: next(turns), SAMPLE)


def test_each_further_call_costs_a_tenth():
    assert [@NAME@(rollout(calls), 1.0) for calls in (1, 2, 3)] == pytest.approx([1.0, 0.9, 0.8])
'''

_REWARD_CONFIG = """reward: @VALUE@
penalty_weight: 0
output_dir: runs/@NAME@
"""

_DATA = '''"""The data format @NAME@: a CSV file; `iapo evaluate --sets @NAME@.py:@NAME@@PATH` reads one."""

import csv
import json

from iapo import Sample
from iapo.data.damage import Damage
from iapo.data.pictures import read_picture

# Else the reader ends at a cell of more than 131,072 characters, such as many boxes.
csv.field_size_limit(2**31 - 1)


def @NAME@(path, split):
    """Yields the samples of a split, and the damage of a row that cannot be used."""
    # Spreadsheets write a byte-order mark, which utf-8-sig skips.
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 1):
            if split in (None, row["split"]):
                try:
                    sample = _sample(path, number, row)
                except (KeyError, TypeError, ValueError) as error:
                    sample = Damage.of(error, number, path.name)
                yield sample


def _sample(path, number, row):
    """Returns the sample of a row; its image is named from the file's folder."""
    return Sample(
        id=f"{path.stem}-{number}",
        image=read_picture(row["image"], path.parent),
        question=row["question"],
        answers=(row["answer"],),
        column_boxes=json.loads(row["boxes"]),
        axis="columns",
        source="@NAME@",
    )
'''

_DATA_TEST = '''"""Tests of the data format @NAME@."""

from pathlib import Path

from @NAME@ import @NAME@

from iapo.data.damage import Damage

ROWS = Path(__file__).parent / "@NAME@-data" / "rows.csv"


def test_it_reads_a_split():
    train, test = list(@NAME@(ROWS, "train")), list(@NAME@(ROWS, "test"))
    assert len(train) == len(test) == 2
    assert (train[0].question, train[0].answers) == ("Which bar is the highest?", ("B",))
    assert train[0].image.size == (112, 112)
    assert train[0].column_boxes["A"] == (8, 0, 40, 112)


def test_a_row_without_its_picture_is_damaged(tmp_path):
    (tmp_path / "rows.csv").write_text("split,image,question,answer,boxes\\ntest,gone.png,Which?,A,{}\\n")
    (row,) = @NAME@(tmp_path / "rows.csv", "test")
    assert isinstance(row, Damage)
    assert "gone.png" in row.reason
'''

_DATA_CONFIG = """data: @VALUE@
per_device_train_batch_size: 8
output_dir: runs/@NAME@
"""

_BOXES = {"A": [8, 0, 40, 112], "B": [40, 0, 72, 112], "C": [72, 0, 104, 112]}

_ROWS = "split,image,question,answer,boxes\n" + "".join(
    '{},chart.png,{},{},"{}"\n'.format(*row, json.dumps(_BOXES).replace('"', '""'))
    for row in (
        ("train", "Which bar is the highest?", "B"),
        ("train", "Which bar is the lowest?", "A"),
        ("test", "How many bars are there?", "3"),
        ("test", "Which bar is in the middle?", "B"),
    )
)

_TEXTS = {
    "tool": (_TOOL, _TOOL_TEST, _TOOL_CONFIG),
    "reward": (_REWARD, _REWARD_TEST, _REWARD_CONFIG),
    "data": (_DATA, _DATA_TEST, _DATA_CONFIG),
}
"""By kind: the file, its test, and its lines of configuration."""

_EVALUATED = {"tool": "--sets vbar --samples 8 --tools", "data": "--samples 0 --sets"}
"""Of a kind whose part an evaluation can try, the options before it."""
