"""Synthetic charts: a seed fixes every byte, answers follow from the data, boxes hold what they name."""

from __future__ import annotations

import itertools
import re
import sys
from functools import cache

import matplotlib
import numpy as np
import pytest
from processes import run as run_process

from iapo.data.synthetic import BAR_FAMILIES, FAMILIES, TRAINED_FAMILIES, Chart, draw, generate
from iapo.data.synthetic.families import BARS as QUESTION_TYPES
from iapo.records import Sample

TINY = (112, 200, 299)
REAL = (300, 448, 1000)
SIZES = TINY + REAL
TABLE_FAMILIES = ("vwtq", "vwtq_syn", "vtabfact")


@cache
def charts(family: str, size: int) -> tuple[Chart, ...]:
    """Enough charts to meet every style and question type, fewer of the slow ones."""
    return tuple(draw(family, {1000: 3}.get(size, 60 if size in TINY else 10), seed=11, size=size))


@cache
def few(family: str) -> tuple[Chart, ...]:
    """Some charts of real size, of any family."""
    return tuple(draw(family, 10 if family in TABLE_FAMILIES else 5, seed=3, size=448, split="test"))


def frozen(sample: Sample) -> tuple[object, ...]:
    """All of a sample, comparable."""
    boxes = (tuple(sample.column_boxes.items()), tuple(sample.row_boxes.items()))
    text = (sample.id, sample.question, sample.answers, sample.kind, sample.axis, sample.source)
    return (sample.image.mode, sample.image.size, sample.image.tobytes(), *boxes, *text, sample.question_type)


def pixels(chart: Chart) -> np.ndarray:
    """The picture as rows of pixels, turned over its diagonal for `hbar`, so that slots lie side by side."""
    array = np.asarray(chart.sample.image)
    return array if chart.sample.axis == "columns" else array.swapaxes(0, 1)


def turned(chart: Chart) -> tuple[dict[str, tuple[float, ...]], dict[str, tuple[float, ...]]]:
    """Slots and bands, turned like `pixels`."""
    columns, rows = dict(chart.sample.column_boxes), dict(chart.sample.row_boxes)
    if chart.sample.axis == "columns":
        return columns, rows
    turn = {name: (y1, x1, y2, x2) for name, (x1, y1, x2, y2) in rows.items()}
    return turn, {name: (y1, x1, y2, x2) for name, (x1, y1, x2, y2) in columns.items()}


def bar_colour(chart: Chart, label: str) -> np.ndarray:
    """The colour in the middle of the label's bar, found through its two boxes."""
    slots, bands = turned(chart)
    middle = (slots[label][0] + slots[label][2]) / 2, (bands[label][1] + bands[label][3]) / 2
    return pixels(chart)[int(middle[1]), int(middle[0])]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("size", "count"), [(112, 12), (150, 6), (320, 1)])
def test_a_seed_fixes_every_byte_and_longer_runs_start_alike(family: str, size: int, count: int) -> None:
    short = [frozen(sample) for sample in generate(family, count, seed=5, size=size, split="test")]
    long = [frozen(sample) for sample in generate(family, count + 2, seed=5, size=size, split="test")]
    assert short == long[:count]
    assert len({one[2] for one in long}) == count + 2


def test_other_seeds_splits_and_families_give_other_charts() -> None:
    runs = [
        list(generate("vbar", 10, seed=5)),
        list(generate("vbar", 10, seed=6)),
        list(generate("vbar", 10, seed=5, split="test")),
        list(generate("hbar", 10, seed=5)),
    ]
    data = [[(tuple(sample.row_boxes.items()), sample.question) for sample in run] for run in runs]
    assert all(one != other for one, other in itertools.combinations(data, 2))
    assert len({sample.id for run in runs for sample in run}) == 40
    assert runs[2][3].id == "vbar-test-5-3"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_question_types_change_the_question_and_not_the_picture(family: str) -> None:
    mixed = list(generate(family, 8, seed=1, split="test"))
    values = list(generate(family, 8, seed=1, split="test", question_types=("value",)))
    assert [sample.image.tobytes() for sample in mixed] == [sample.image.tobytes() for sample in values]
    assert {sample.question_type for sample in values} == {"value"}


@pytest.mark.parametrize("family", BAR_FAMILIES)
@pytest.mark.parametrize("size", SIZES)
def test_fields(family: str, size: int) -> None:
    for chart in charts(family, size):
        sample = chart.sample
        assert sample.kind == "chart"
        assert sample.axis == {"vbar": "columns", "hbar": "rows"}[family]
        assert sample.source == f"synthetic/{family}"
        assert sample.image.mode == "RGB"
        assert max(sample.image.size) == size
        assert min(sample.image.size) == size if size < 300 else min(sample.image.size) >= size * 0.66
        assert tuple(sample.column_boxes) == tuple(sample.row_boxes) == chart.labels
        assert len(set(chart.labels)) == len(chart.labels) == len(chart.values)
        if size < 300:
            assert len(chart.labels) == 4
            assert set(chart.labels) <= set("ABCDEFGH")
            assert set(chart.values) <= set(range(1, 10))
        else:
            assert 3 <= len(chart.labels) <= 8


@pytest.mark.parametrize("family", BAR_FAMILIES)
@pytest.mark.parametrize("size", [112, 448])
def test_answers_follow_from_the_values(family: str, size: int, no_pictures: None) -> None:
    asked = set()
    for chart in draw(family, 200 if size == 112 else 50, seed=2, size=size):
        value = dict(zip(chart.labels, chart.values, strict=True))
        sample = chart.sample
        (focus,) = chart.focus.values()
        asked.add(sample.question_type)
        (answer,) = sample.answers
        assert list(value.values()).count(max(value.values())) == 1
        if sample.question_type == "value":
            assert answer == f"{value[focus[0]]:g}"
        elif sample.question_type == "largest":
            assert focus == (answer,)
            assert value[answer] == max(value.values())
        elif sample.question_type == "difference":
            assert answer == f"{round(value[focus[0]] - value[focus[1]], 1):g}"
            assert float(answer) > 0
            assert sample.question.index(focus[0]) < sample.question.index(focus[1])
        else:
            limit = float(re.findall(r"[\d.]*\d", sample.question)[-1])
            assert focus == tuple(name for name in chart.labels if value[name] > limit)
            assert answer == str(len(focus)) != "0"
        if sample.question_type in ("value", "difference"):
            assert all(re.search(rf"\b{name}\b", sample.question) for name in focus)
    assert asked == set(QUESTION_TYPES)


def test_tiny_questions_are_short_and_real_ones_are_sentences() -> None:
    tiny = {chart.sample.question_type: chart for chart in charts("vbar", 112)}
    a, b = tiny["difference"].focus["columns"]
    assert tiny["value"].sample.question == f"value of {tiny['value'].focus['columns'][0]}?"
    assert tiny["largest"].sample.question == "largest label?"
    assert tiny["difference"].sample.question == f"{a} minus {b}?"
    assert re.fullmatch(r"how many above [1-8]\?", tiny["count_above"].sample.question)
    real = [chart.sample.question for chart in charts("vbar", 448)]
    assert all(re.fullmatch(r"[A-Z].*\w\?", question) and "{" not in question for question in real)


@pytest.mark.parametrize("family", BAR_FAMILIES)
@pytest.mark.parametrize("size", SIZES)
def test_slots_touch_and_bands_start_at_one_base_line(family: str, size: int) -> None:
    for chart in charts(family, size):
        height, width = pixels(chart).shape[:2]
        slots, bands = turned(chart)
        for x1, y1, x2, y2 in (*slots.values(), *bands.values()):
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
        for one, other in itertools.pairwise(slots.values()):
            assert one[2] == pytest.approx(other[0])
            assert (one[1], one[3]) == pytest.approx((other[1], other[3]))
        # One base line for all, one width for all, and lengths in proportion to the values.
        base = 3 if family == "vbar" else 1
        assert len({round(band[base], 6) for band in bands.values()}) == 1
        assert len({(round(band[0], 6), round(band[2], 6)) for band in bands.values()}) == 1
        lengths = [band[3] - band[1] for band in bands.values()]
        unit = sum(lengths) / sum(chart.values)
        rounding = 0 if size == 112 else 1.5 if size < 300 else 1e-6
        assert lengths == pytest.approx([unit * value for value in chart.values], abs=rounding)


@pytest.mark.parametrize("family", BAR_FAMILIES)
@pytest.mark.parametrize("size", SIZES)
def test_boxes_hold_their_own_bar_and_nothing_of_the_neighbours(family: str, size: int) -> None:
    near = 0 if size < 300 else 2  # anti-aliased edges and outlines
    for chart in charts(family, size):
        array = pixels(chart)
        slots, bands = turned(chart)
        colours = {label: bar_colour(chart, label) for label in chart.labels}
        for label, colour in colours.items():
            assert colour.min() < 225, "the middle of both boxes lies in the bar and not on the page"
            same = (array == colour).all(axis=2)
            x1, _, x2, _ = slots[label]
            _, top, _, bottom = bands[label]
            slot = same[:, round(x1) : round(x2)]
            across, along = np.flatnonzero(slot.any(axis=0)), np.flatnonzero(slot.any(axis=1))
            assert across[0] > 0, "the bar ends inside its slot"
            assert across[-1] < slot.shape[1] - 1
            assert along[0] == pytest.approx(top, abs=near)
            assert along[-1] + 1 == pytest.approx(bottom, abs=near)
            assert slot[along[0] : along[-1] + 1, across[0] : across[-1] + 1].mean() > 0.9
            for other, (left, _, right, _) in slots.items():
                if not (colours[other] == colour).all():
                    assert not same[:, round(left) : round(right)].any()


@pytest.mark.parametrize("family", BAR_FAMILIES)
def test_a_tiny_chart_has_the_promised_measures(family: str) -> None:
    for chart in charts(family, 112):
        slots, bands = turned(chart)
        for index, (label, value) in enumerate(zip(chart.labels, chart.values, strict=True)):
            assert slots[label] == (28 * index, 0, 28 * index + 28, 112)
            expected = (0, 94 - 10 * value, 112, 94) if family == "vbar" else (0, 18, 112, 18 + 10 * value)
            assert bands[label] == expected


@pytest.mark.parametrize("family", BAR_FAMILIES)
@pytest.mark.parametrize("size", REAL)
def test_nothing_is_cut_off_and_no_tick_label_leaves_its_slot(family: str, size: int) -> None:
    for chart in charts(family, size):
        array = pixels(chart)
        page = array[0, 0]
        for edge in (array[0], array[-1], array[:, 0], array[:, -1]):
            assert (edge == page).all()
        slots, bands = turned(chart)
        # Beside the plot area, where the tick labels stand, the line between two slots is bare.
        first = next(iter(bands.values()))
        slot = next(iter(slots.values()))
        below, before = (round(first[3]) + 6, round(slot[3])), (round(slot[1]), round(first[1]) - 6)
        beside = slice(*(below if family == "vbar" else before))
        for slot in list(slots.values())[:-1]:
            assert (array[beside, round(slot[2])] == page).all()
        for slot in slots.values():
            assert (array[beside, round(slot[0]) : round(slot[2])] != page).any(), "each has a tick label"


def test_a_users_matplotlib_settings_change_nothing() -> None:
    before = [frozen(sample) for sample in generate("vbar", 2, seed=3, size=300)]
    with matplotlib.rc_context({"font.size": 40, "axes.facecolor": "red", "text.hinting": "none"}):
        assert [frozen(sample) for sample in generate("vbar", 2, seed=3, size=300)] == before
        assert matplotlib.rcParams["font.size"] == 40


def test_tiny_pictures_need_no_heavy_library() -> None:
    code = (
        "import sys; from iapo.data.synthetic import FAMILIES, generate;"
        "[list(generate(family, 1, seed=0, split='test')) for family in FAMILIES];"
        "sys.exit(bool({'matplotlib', 'torch'} & set(sys.modules)))"
    )
    assert run_process([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("family", "count", "options", "message"),
    [
        ("pie", 1, {}, "unknown family 'pie'"),
        ("vbar", -1, {}, "count is -1"),
        ("vbar", 1, {"seed": -1}, "seed is -1"),
        ("vbar", 1, {"size": 111}, "size is 111"),
        ("vbar", 1, {"size": 1001}, "size is 1001"),
        ("vbar", 1, {"question_types": ("value", "sum")}, "unknown question type 'sum'"),
        ("vbar", 1, {"question_types": ()}, "question_types is empty"),
        ("vtabfact", 1, {"question_types": ("total",)}, "'total' for family 'vtabfact'; use some of value, largest"),
        ("charxiv", 1, {}, "'charxiv' has no split 'train', it is never trained on; use validation or test"),
        ("charxiv", 1, {"split": "pretrain-0"}, "'charxiv' has no split 'pretrain-0'"),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(
    family: str, count: int, options: dict[str, object], message: str
) -> None:
    arguments = {"seed": 0, **options}
    with pytest.raises(ValueError, match=message):
        generate(family, count, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        draw(family, count, **arguments)  # type: ignore[arg-type]


def test_six_families_of_which_five_are_trained_on() -> None:
    assert set(FAMILIES) == {"vbar", "hbar", "charxiv", "vwtq", "vwtq_syn", "vtabfact"}
    assert set(FAMILIES) - set(TRAINED_FAMILIES) == {"charxiv"}
    for family in TRAINED_FAMILIES:
        (sample,) = generate(family, 1, seed=0)
        assert sample.id == f"{family}-train-0-0"
        assert sample.source == f"synthetic/{family}"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [112, 448])
def test_the_focus_is_named_by_boxes_of_its_axis(family: str, size: int) -> None:
    for chart in draw(family, 60, seed=3, split="test") if size == 112 else few(family):
        boxes = {"columns": chart.sample.column_boxes, "rows": chart.sample.row_boxes}
        assert chart.focus
        for axis, names in chart.focus.items():
            assert names
            assert set(names) <= boxes[axis].keys()
        if chart.sample.axis is not None:
            assert list(chart.focus) == [chart.sample.axis]


def test_tiny_families_ask_in_words_of_their_own() -> None:
    """Out of distribution are charxiv's questions too, not its pictures alone."""
    words = {
        family: {word for one in generate(family, 200, seed=0, split="test") for word in one.question[:-1].split()}
        for family in FAMILIES
    }
    others = set().union(*(words[family] for family in TRAINED_FAMILIES))
    assert {word for word in words["charxiv"] - others if len(word) > 1} >= {"reading", "at", "peak", "drop"}
    values = {
        next(iter(generate(one, 1, seed=0, split="test", question_types=("value",)))).question for one in FAMILIES
    }
    shapes = {re.sub(r"\b[A-Z]\b", "X", re.sub(r"\d", "0", question)) for question in values}
    assert shapes == {"value of X?", "value of X in X?", "X in X is 0?", "reading at X?"}


def test_none_are_drawn_where_none_are_asked_for() -> None:
    assert list(generate("vbar", 0, seed=0)) == []
