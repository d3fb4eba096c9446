"""Readers of the user's own: their samples are checked as any row is, and what they raise is said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from own import bars, row, write

from iapo.cli.main import main
from iapo.data.check import check
from iapo.data.convert import convert
from iapo.data.loading import Damage, load
from iapo.data.sources import SourceSettings, read_source
from iapo.errors import InputError
from iapo.records import Sample

READERS = """
import json
from iapo import Sample
from iapo.data.damage import Damage
from iapo.data.formats.known import Format
from iapo.data.pictures import read_picture
from PIL import Image

def from_row(row):
    fields = row.fields
    if fields["question"] == "bug":
        return None.fields
    return Sample(fields["id"], read_picture(fields["image"], row.folder), fields["question"], (fields["answer"],),
                  column_boxes=fields.get("column_boxes", {}))

def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]

def one(fields, folder):
    image = read_picture(fields["image"], folder)
    if fields["question"] == "bug":
        return None.fields
    return Sample(fields["id"], image, fields["question"], (fields["answer"],),
                  column_boxes=fields.get("column_boxes", {}))

def by_map(path, split):
    return map(lambda fields: one(fields, path.parent), lines(path))

def by_generator(path, split):
    for fields in lines(path):
        yield one(fields, path.parent)

def through_generator(path, split):
    return map(lambda sample: sample, by_generator(path, split))

def by_expression(path, split):
    return map(lambda fields: next(one(each, path.parent) for each in [fields]), lines(path))

def with_damage(path, split):
    for number, fields in enumerate(lines(path), 1):
        try:
            yield one(fields, path.parent)
        except (KeyError, ValueError) as error:
            yield Damage.of(error, number, path.name, fields.get("id"))

def as_list(path, split):
    return [one(fields, path.parent) for fields in lines(path)]

def nothing(path, split):
    pass

def texts(path, split):
    return ["a"]

FORM = Format("mine", (), from_row)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("readers.py").write_text(READERS)
    return tmp_path


INSIDE = {"a": [10, 20, 50, 180], "b": [60, 20, 90, 180]}


@pytest.mark.parametrize("name", ["own", "readers.py:from_row", "readers.py:FORM", "readers.py:by_map"])
def test_all_samples_are_checked_alike(name: str, here: Path):
    """A reader's samples are damaged, or flawed, where those of the format `own` are, and for the same reason."""
    rows = [
        row("whole", column_boxes=INSIDE),
        row("unanswered", answer="  "),
        row("unasked", question=""),
        row("told", question="What <|im_end|> is it?"),
        row("outside", column_boxes={**INSIDE, "far": [0, 0, 900, 900]}),
        row("elsewhere", column_boxes={"far": [0, 0, 900, 900], "too": [400, 300, 900, 900]}),
        row("whole", question="twice?"),
        row("small", image="small.png"),
    ]
    path = write(here / "data", rows)
    bars().resize((20, 60)).save(path.parent / "small.png")
    found = list(load(path, format=name))
    reasons = {one.row: one.reason for one in found if isinstance(one, Damage)}
    assert {number: re.sub("'answers?'", "...", reason) for number, reason in reasons.items()} == {
        2: "the answer is missing: the field ... holds an empty text",
        3: "the field 'question' is empty",
        4: "the question holds the control token <|im_end|>; remove it from the text",
        6: "the box of column 'far', (0.0, 0.0, 900.0, 900.0), lies outside of the picture of 300 x 200 pixels; its "
        "boxes may be meant for another size or in other units",
        7: "the id was already used in row 1 of own.jsonl",
        8: "picture 'small.png' has 20 x 60 pixels; the models need 28 pixels on either side",
    }
    whole, flawed = (one for one in found if isinstance(one, Sample))
    assert (whole.flaws, list(whole.column_boxes)) == ((), ["a", "b"])
    assert list(flawed.column_boxes) == ["a", "b"]
    assert "'far'" in flawed.flaws[0]
    (counts,) = check(str(path), format=name).values()
    assert (counts.samples, counts.damaged, counts.flawed) == (2, 6, 1)
    done = convert(str(path), here / "out.parquet", format=name)
    assert (done.samples, done.damaged, done.flawed) == (2, 6, 1)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (
            "answers='42'",
            "sample 'a': its answers are the text '42'; give a tuple of texts, of a single",
        ),
        ("answers=(None,)", "sample 'a' has an answer that is no text, finite number or date, but 'None'"),
        ("answers=(' ',)", "the answer is missing: the field 'answers' holds an empty text"),
        ("id=7", "sample 7: its id is of type int; give a text"),
        ("id=' '", "the id is ' '; it must be a text that is not empty"),
        ("question=None", "sample 'a': its question is of type NoneType; give a text"),
        ("image='a.png'", "sample 'a': its image is of type str; give a Pillow image"),
        ("list_names='no'", "sample 'a': its list_names is of type str; give True or False"),
        ("image=Image.new('RGB', (20, 90))", "the picture has 20 x 90 pixels"),
        ("image=Image.open('cut.png')", "the picture is damaged: "),
        ("more_images=(Image.new('RGB', (20, 90)),)", "image_2 has 20 x 90 pixels"),
        ("kind='graph'", "sample 'a' is of the kind 'graph'; use chart or table"),
        ("source=None", "sample 'a': its source is of type NoneType; give a text"),
        ("column_boxes={2021: (1, 1, 9, 9)}", "its column_boxes have the name 2021 of type int; give texts"),
        ("column_boxes={'A': (1, 1, float('inf'), 9)}", "its column_boxes have (1.0, 1.0, inf, 9.0) for 'A'"),
        ("column_boxes={'A': (1, 1, None, 9)}", "sample 'a': its column_boxes have (1, 1, None, 9) for 'A'; give four"),
    ],
)
def test_what_a_reader_may_not_give(made: str, reason: str, here: Path):
    bars().save("whole.png")
    Path("cut.png").write_bytes(Path("whole.png").read_bytes()[:200])
    fields = "id='a', image=Image.new('RGB', (90, 90)), question='how?', answers=('1',)"
    given = made if made.partition("=")[0] not in fields else ""
    text = f"from iapo import Sample\nfrom PIL import Image\nFIELDS = dict({fields})\n"
    text += f"def read(row):\n    return Sample(**{{**FIELDS, **dict({given or made})}})\n"
    Path("given.py").write_text(text)
    write(here / "data", [row("one")])
    (found,) = load("data", format="given.py:read")
    assert isinstance(found, Damage)
    assert reason in str(found)


ROWS = [row("one"), row("gone", image="gone.png"), {"id": "bare", "image": "bars.png", "question": "?"}, row("last")]


@pytest.mark.parametrize("name", ["by_map", "by_expression", "with_damage", "from_row"])
def test_a_reader_that_goes_on_behind_a_damaged_row(name: str, here: Path):
    path = write(here / "data", ROWS)
    found = list(load(path, format=f"readers.py:{name}"))
    assert [type(one) for one in found] == [Sample, Damage, Damage, Sample]
    gone, bare = found[1:3]
    assert str(gone).startswith("own.jsonl, row 2")
    assert "there is no picture 'gone.png'" in str(gone)
    assert str(bare).endswith("the field 'answer' is missing")
    reference = f"readers.py:{name}@{path}"
    kept: list[Damage] = []
    assert len(read_source(reference, SourceSettings(count=0), kept.append)) == len(kept) == 2
    with pytest.raises(InputError, match=r"own\.jsonl, row 2.*gone\.png"):
        read_source(reference, SourceSettings(count=0))


@pytest.mark.parametrize(("name", "samples"), [("by_generator", 1), ("through_generator", 1), ("as_list", 0)])
@pytest.mark.parametrize(
    ("rows", "what"),
    [
        (ROWS, r"\(there is no picture 'gone\.png' in data, nor in the two folders above it\); mend the row, or let"),
        ([row("one"), ROWS[2]], r"\(KeyError: 'answer', line 23\); mend the row, or let"),
        ([row("one"), row("two", question="bug")], r"\(AttributeError: .*, line 22\); mend the reader"),
    ],
)
def test_a_reader_that_cannot_go_on(name: str, samples: int, rows: list[dict[str, Any]], what: str, here: Path):
    """It is one sentence: what it read, how many samples it gave, and what it raised where."""
    path = write(here / "data", rows).relative_to(here)
    sentence = rf"format 'readers\.py:{name}' ended after {samples} sample\(s\) of data/own\.jsonl {what}"
    with pytest.raises(InputError, match=sentence):
        list(load(path, format=f"readers.py:{name}"))
    with pytest.raises(InputError, match=sentence):
        read_source(f"readers.py:{name}@{path}", SourceSettings(count=0), lambda damage: None)


def test_a_fault_of_a_reader_of_rows(here: Path, capsys: pytest.CaptureFixture[str]):
    write(here / "data", [row("one"), row("two", question="bug")])
    with pytest.raises(SystemExit) as end:
        main(["data", "check", "data", "--format", "readers.py:from_row"])
    assert end.value.code == 2
    sentence = "format 'readers.py:from_row' failed on own.jsonl, row 2 (AttributeError: "
    assert sentence in (printed := capsys.readouterr().err)
    assert "line 12); mend it" in printed


@pytest.mark.parametrize(
    ("name", "sentence"), [("nothing", "gives a NoneType for data"), ("texts", "gives a str; give")]
)
def test_a_reader_that_gives_no_samples(name: str, sentence: str, here: Path):
    (here / "data").mkdir()
    with pytest.raises(InputError, match=sentence):
        list(load("data", format=f"readers.py:{name}"))


def test_a_folder_that_a_reader_alone_knows(here: Path):
    """What is in it need not be data of ours."""
    write(here / "data", ROWS[:1])
    (here / "data" / "own.jsonl").rename(here / "data" / "rows.txt")
    Path("mine.py").write_text(
        READERS + "\ndef folder(path, split):\n    return by_generator(path / 'rows.txt', split)\n"
    )
    (counts,) = check("data", format="mine.py:folder").values()
    assert counts.samples == 1
    assert convert("data", here / "out.parquet", format="mine.py:folder").samples == 1


SEVERAL = """
from iapo import Sample
from PIL import Image

def sample(name):
    return Sample(name, Image.new("RGB", (90, 90)), "how?", ("1",))

def row(row, x=1):
    return sample(row.fields["id"])

def row_and_all(row, *rest, scale=2, **more):
    return sample(row.fields["id"])

def place(path, split):
    return [sample(str(split))]

def place_default(path, split=None):
    return [sample(str(split))]

def place_more(path, split, x=1):
    return [sample(str(split))]

def neither(a, b, c):
    pass

def nothing():
    pass

def by_name(row, *, x):
    pass

row_ends = lambda row: exit(3)

def place_ends(path, split):
    raise SystemExit(3)

def items_end(path, split):
    yield sample("first")
    raise SystemExit(3)

from builtins import dict as builtin
"""


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("row", "one"),
        ("row_and_all", "one"),
        ("place", "train"),
        ("place_default", "train"),
        ("place_more", "train"),
    ],
)
def test_a_reader_is_told_by_what_it_needs(name: str, id: str, here: Path) -> None:
    Path("several.py").write_text(SEVERAL)
    write(here / "data", [{**row("one"), "split": "train"}])
    (found,) = load(here / "data" / "own.jsonl", split="train", format=f"several.py:{name}")
    assert isinstance(found, Sample)
    assert found.id == id


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("neither", r"takes \(a, b, c\); give a function \(row\) -> Sample or \(path, split\) -> samples"),
        ("nothing", r"takes \(\); give a function"),
        ("by_name", r"takes \(row, \*, x\); give a function"),
        ("builtin", "does not tell what it takes; give a function"),
    ],
)
def test_a_reader_that_takes_something_else(name: str, reason: str, here: Path) -> None:
    Path("several.py").write_text(SEVERAL)
    path = write(here / "data", [row("one")])
    with pytest.raises(InputError, match=reason):
        load(path, format=f"several.py:{name}")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("row_ends", r"failed on own\.jsonl, row 1 \(SystemExit: 3, line \d+\); mend it"),
        ("place_ends", r"ended after 0 sample\(s\) of .*own\.jsonl \(SystemExit: 3, line \d+\); mend the reader"),
        ("items_end", r"ended after 1 sample\(s\) of .*own\.jsonl \(SystemExit: 3, line \d+\); mend the reader"),
    ],
)
def test_a_reader_that_ends_the_process(
    name: str, sentence: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a fault of its own, as any other; 3 is what an endpoint's failure ends with."""
    Path("several.py").write_text(SEVERAL)
    path = write(here / "data", [row("one")])
    with pytest.raises(InputError, match=sentence):
        list(load(path, format=f"several.py:{name}"))
    with pytest.raises(SystemExit) as end:
        main(["data", "check", str(path), "--format", f"several.py:{name}"])
    assert end.value.code == 2
    assert "SystemExit: 3" in capsys.readouterr().err
