"""Teachers that explain their own calls, live and stored, and what a live one remembers."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from processes import iapo_here
from transformers import PreTrainedModel

from iapo.attribution.calls import RowCache
from iapo.attribution.reading import ReadPrompts
from iapo.attribution.settings import AttributionSettings
from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.records import Sample
from iapo.rewards.alignment import Alignment, Measured
from iapo.rollout.generation import make_generate
from iapo.rollout.load_settings import LoadSettings
from iapo.rollout.policy import ImageTextProcessor, Policy, load_policy, load_processor
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.template import find_prompt
from iapo.rollout.turns import Rollout, encode_prompts, finish
from iapo.teachers.asking import attribute_samples
from iapo.teachers.fingerprint import fingerprint
from iapo.teachers.journal import Journal
from iapo.teachers.references import OwnCall, StoredCalls, StudentCall, make_reference, sample_name
from iapo.teachers.table import TeacherTable
from iapo.tools import TOOLS
from iapo.training.batches import samples_of, to_dataset
from iapo.training.config import IAPOConfig
from iapo.training.store_teacher import store_teacher

WORST = math.log(9)
SETTINGS = AttributionSettings(max_turn_tokens=24, batch_size=3)
NO_CALL = "FINAL ANSWER: 3. TERMINATE"
CALL = '```python\ndisplay(focus_on_{axis}_with_{style}(image_1, ["{name}"], {axis}_bbox))\n```'


@pytest.fixture(scope="module")
def student() -> Policy:
    """The packaged student, here as the teacher; being one freezes it."""
    return load_policy("tiny-student")


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    return [sample for family in ("vbar", "hbar") for sample in generate(family, 3, seed=5, question_types=("value",))]


@pytest.fixture(scope="module")
def encoder(student: Policy) -> PromptEncoder:
    return PromptEncoder(student.processor)


@pytest.fixture(scope="module")
def table(student: Policy, charts: list[Sample]) -> TeacherTable:
    """The packaged student's own calls."""
    return attribute_samples(student, charts, SETTINGS)


@pytest.fixture
def path(table: TeacherTable, tmp_path: Path) -> Path:
    table.write(tmp_path / "some" / "teacher.parquet")
    return tmp_path / "some" / "teacher.parquet"


@pytest.fixture(scope="module")
def learner(student: Policy) -> PreTrainedModel:
    """A student whose weights are not the teacher's."""
    torch.manual_seed(4)
    model = copy.deepcopy(student.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return model


def call(sample: Sample, axis: str = "columns", style: str = "mask") -> str:
    boxes = sample.column_boxes if axis == "columns" else sample.row_boxes
    return CALL.format(axis=axis, style=style, name=next(iter(boxes)))


def rollouts_of(encoder: PromptEncoder, samples: Sequence[Sample], turns: Sequence[str | list[int]]) -> list[Rollout]:
    def answer(rows: list[list[int]], images: list[list[Image.Image]]) -> list[list[int]]:
        return [encoder.tokenizer("FINAL ANSWER: 1. TERMINATE")["input_ids"] for _ in rows]

    ids = [encoder.tokenizer(turn)["input_ids"] if isinstance(turn, str) else turn for turn in turns]
    return finish(samples, encode_prompts(samples, encoder), ids, encoder, answer)


@contextmanager
def forwards(model: PreTrainedModel) -> Iterator[list[int]]:
    """Counts the passes through a model's language model."""
    seen: list[int] = []
    handle = model.model.language_model.register_forward_pre_hook(lambda *_: seen.append(1))
    try:
        yield seen
    finally:
        handle.remove()


def test_own_call_does_not_depend_on_the_students(student: Policy, encoder: PromptEncoder, charts: list[Sample]):
    chart = charts[0]
    turns = [call(chart), call(chart, "rows", "draw"), NO_CALL]
    found = OwnCall(student, SETTINGS).distributions(rollouts_of(encoder, [chart] * 3, turns))
    assert found.shape == (3, 9)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    live = StudentCall(student, encoder, SETTINGS)
    others = live.distributions(rollouts_of(encoder, [chart] * 2, turns[:2]))
    assert (others[0] - others[1]).abs().max() > 1e-3


def test_own_call_is_the_greedy_one(student: Policy, encoder: PromptEncoder, charts: list[Sample]):
    """It is what the teacher says of a student that happens to make the teacher's call."""
    prompts = encode_prompts(charts, encoder)
    greedy = make_generate(student, encoder, max_new_tokens=24)
    turns = greedy([prompt.ids for prompt in prompts], [list(prompt.images) for prompt in prompts])
    rollouts = rollouts_of(encoder, charts, turns)
    assert all(one.trace.result.status == "edited" for one in rollouts)
    own = OwnCall(student, SETTINGS)
    expected = StudentCall(student, encoder, SETTINGS).distributions(rollouts)
    torch.testing.assert_close(own.distributions(rollouts), expected, rtol=0, atol=1e-6)
    assert [row.call for row in own.explain(charts)] == [one.trace.turn_1 for one in rollouts]


def test_stored_is_live(
    student: Policy, learner: PreTrainedModel, encoder: PromptEncoder, charts: list[Sample], path: Path
):
    # As the trainer sees them: through a data set, and in another order.
    samples = samples_of(list(to_dataset(charts)))[::-1]
    rollouts = rollouts_of(encoder, samples, [call(sample) for sample in samples])
    live = Alignment(
        make_reference(dataclasses.replace(SETTINGS, teacher_reference="own_call"), student, encoder), encoder
    )
    reference = make_reference(dataclasses.replace(SETTINGS, teacher_table=str(path)), None, encoder)
    assert isinstance(live.reference, OwnCall)
    assert isinstance(reference, StoredCalls)
    stored = Alignment(reference, encoder)
    for one, other in zip(live.measure(learner, rollouts), stored.measure(learner, rollouts), strict=True):
        assert one.divergence == pytest.approx(other.divergence, abs=1e-6)
        assert one.divergence > 0
        assert dict(one.teacher) == pytest.approx(dict(other.teacher), abs=1e-6)
        assert one.student == other.student
    assert reference.covers(charts)
    assert not reference.covers(list(generate("vbar", 4, seed=5)))


def test_prompts_that_the_teacher_does_not_take_are_refused(
    student: Policy, charts: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("torch.nn.Module.__call__", None)
    long = dataclasses.replace(charts[0], question="value of " + "A " * 3000)
    with pytest.raises(InputError, match=r"may need .* 24 of the turns.*, but a sequence has 2048"):
        attribute_samples(student, [charts[1], long], SETTINGS, out=tmp_path / "t.parquet")
    assert not list(tmp_path.iterdir())


def test_table_round_trip(student: Policy, table: TeacherTable, path: Path):
    found = TeacherTable.read(path)
    wanted: dict[str, Any] = {
        "target": "call",
        "score": "log_prob",
        "normalization": "magnitude",
        "temperature": 1.0,
        "floor": 0.5,
        "blocks": "all",
        "image_cells": 1,
        "eps": 0.01,
        "method": "gradient",
        "steps": 1,
        "prompt": {"name": "tiny", "digest": find_prompt("tiny").digest},
        "view": {"patch": 28, "min_pixels": 56 * 56, "max_pixels": 448 * 448},
    }
    assert found.settings == table.settings == wanted
    assert found.fingerprint == fingerprint(student.model, student.processor)
    assert list(found.rows) == list(table.rows)
    for name, row in table.rows.items():
        # The distributions were single precision before they were stored.
        assert found.rows[name] == row
        assert row.call is not None
        assert row.call.startswith("```python")
    assert pq.read_table(path).column_names[:5] == ["sample", "block_names", "distribution", "call", "fingerprint"]
    assert not list(path.parent.glob("*.part"))


def test_a_seen_call_is_not_attributed_again(student: Policy, encoder: PromptEncoder, charts: list[Sample]):
    teacher = Policy(copy.deepcopy(student.model), student.processor)
    live = StudentCall(teacher, encoder, SETTINGS)
    with forwards(teacher.model) as seen:
        # Each time the samples are other objects, as in a later epoch.
        first = live.distributions(rollouts_of(encoder, charts[:2], [call(one) for one in charts[:2]]))
        count = len(seen)
        assert count > 0
        again = samples_of(list(to_dataset(charts[:2])))
        second = live.distributions(rollouts_of(encoder, again, [call(one) for one in again]))
        assert len(seen) == count
        assert torch.equal(first, second)
        live.distributions(rollouts_of(encoder, charts[:1], [call(charts[0], "rows")]))
        assert len(seen) > count
    own = OwnCall(teacher, SETTINGS)
    with forwards(teacher.model) as seen:
        own.distributions(rollouts_of(encoder, charts[:1], [NO_CALL]))
        count = len(seen)
        own.distributions(rollouts_of(encoder, again[:1], [call(charts[0])]))
        assert len(seen) == count > 0


def test_the_cache_sees_pictures_and_teachers(student: Policy, encoder: PromptEncoder, charts: list[Sample]):
    """Two charts may have one question, and so the same tokens."""
    cache = RowCache()
    live = StudentCall(student, encoder, SETTINGS, cache=cache)
    turn = call(charts[0])
    other = dataclasses.replace(charts[0], image=charts[1].image)
    rows = [live.distributions(rollouts_of(encoder, [one], [turn])) for one in (charts[0], other)]
    assert not torch.allclose(*rows)
    changed = Policy(copy.deepcopy(student.model), student.processor)
    with torch.no_grad():
        changed.model.lm_head.weight[0] += 1
    StudentCall(changed, encoder, SETTINGS, cache=cache).distributions(rollouts_of(encoder, [other], [turn]))
    assert len(cache) == 3


def test_the_cache_forgets_what_was_not_used_for_longest():
    cache = RowCache(2)
    rows = torch.eye(3)
    cache.put("a", rows[0])
    cache.put("b", rows[1])
    assert cache.get("a") is not None
    cache.put("c", rows[2])
    assert cache.get("b") is None
    assert torch.equal(cache.get("a"), torch.tensor([1.0, 0, 0]))  # type: ignore[arg-type]
    assert len(cache) == 2
    # A row that is kept does not keep its batch.
    assert cache.get("c").untyped_storage().nbytes() == 12  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="at least 1"):
        RowCache(0)


@pytest.mark.parametrize("reference", ["student_call", "own_call", "both"])
def test_a_checkpoint_keeps_what_a_teacher_explained(
    student: Policy, encoder: PromptEncoder, charts: list[Sample], tmp_path: Path, reference: Any
):
    """Explained anew, among other calls, it could differ in its last bits."""
    settings = dataclasses.replace(SETTINGS, teacher_reference=reference)
    rollouts = rollouts_of(encoder, charts, [call(one) for one in charts])
    one, other = (Alignment(make_reference(settings, student, encoder), encoder, settings) for _ in range(2))
    told = [part.distributions(rollouts) for part in one.parts]
    torch.save(one.to_state(), tmp_path / "state.pt")
    other.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    with forwards(student.model) as seen:
        again = [part.distributions(rollouts[:1]) for part in other.parts]
    assert not seen
    assert all(torch.equal(some[:1], rest) for some, rest in zip(told, again, strict=True))
    assert other.to_state()["own_calls"] == one.to_state()["own_calls"]


def test_small_memories_change_nothing(student: Policy, encoder: PromptEncoder, charts: list[Sample]):
    rollouts = rollouts_of(encoder, charts, [call(one) for one in charts])
    live = StudentCall(student, encoder, SETTINGS, cache=RowCache(1))
    own = OwnCall(student, SETTINGS, cache_rows=2)
    for reference, more in ((live, StudentCall(student, encoder, SETTINGS)), (own, OwnCall(student, SETTINGS))):
        torch.testing.assert_close(reference.distributions(rollouts), more.distributions(rollouts), rtol=0, atol=1e-6)
    assert len(live.cache) == 1


@pytest.mark.parametrize("no_call", [None, 0.0])
def test_teacher_without_a_call(
    learner: PreTrainedModel,
    encoder: PromptEncoder,
    charts: list[Sample],
    table: TeacherTable,
    tmp_path: Path,
    no_call: float | None,
):
    """Every rollout of such a sample gets one value, so that its group learns nothing from it; others as ever."""
    silent = sample_name(charts[0])
    row = dataclasses.replace(table.rows[silent], distribution=None, call=None)
    dataclasses.replace(table, rows={**table.rows, silent: row}).write(tmp_path / "t.parquet")
    stored = StoredCalls(TeacherTable.read(tmp_path / "t.parquet"), SETTINGS)
    a, b = charts[:2]
    rollouts = rollouts_of(encoder, [a, a, b, b], [call(a), NO_CALL, call(b), NO_CALL])
    settings = dataclasses.replace(SETTINGS, no_call=no_call)
    measured = Alignment(stored, encoder, settings).measure(learner, rollouts)
    assert measured[:2] == [Measured(WORST, {}, {})] * 2
    assert 0 < measured[2].divergence < WORST
    assert measured[2].student
    assert measured[3] == Measured(WORST if no_call is None else no_call, {}, {})


def test_untrained_teacher_makes_no_call(
    model: PreTrainedModel, processor: ImageTextProcessor, encoder: PromptEncoder, charts: list[Sample]
):
    policy = Policy(copy.deepcopy(model), processor)
    rows = attribute_samples(policy, charts[:2], dataclasses.replace(SETTINGS, max_turn_tokens=4)).rows
    assert [(row.call, row.distribution) for row in rows.values()] == [(None, None)] * 2
    own = OwnCall(policy, dataclasses.replace(SETTINGS, max_turn_tokens=4))
    measured = Alignment(own, encoder).measure(model, rollouts_of(encoder, charts[:1], [NO_CALL]))
    assert measured == [Measured(WORST, {}, {})]


def test_what_the_student_has_read_is_not_read_again(
    student: Policy,
    foreign: Policy,
    encoder: PromptEncoder,
    charts: list[Sample],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a teacher that reads alike; another one's prompts are its own."""
    rollouts = rollouts_of(encoder, charts[:2], [call(chart) for chart in charts[:2]])
    settings = dataclasses.replace(SETTINGS, teacher_reference="own_call")
    wanted = OwnCall(student, SETTINGS).distributions(rollouts)
    other = make_reference(settings, foreign, encoder)

    def refuse(*_: Any) -> None:
        raise AssertionError("a prompt is encoded again")

    monkeypatch.setattr("iapo.teachers.own_turns.encode_prompts", refuse)
    found = make_reference(settings, student, encoder).distributions(rollouts)
    assert torch.equal(found, wanted)
    with pytest.raises(AssertionError, match="encoded again"):
        other.distributions(rollouts)


def test_a_teacher_with_another_tokenizer(
    foreign: Policy,
    learner: PreTrainedModel,
    encoder: PromptEncoder,
    charts: list[Sample],
    monkeypatch: pytest.MonkeyPatch,
):
    """Also with patches of another size, and features that enter behind several layers."""
    own = OwnCall(foreign, SETTINGS)
    turn = call(charts[0], "rows", "draw")
    ids = own.encoder.tokenizer(turn)["input_ids"]
    assert ids != encoder.tokenizer(turn)["input_ids"]
    monkeypatch.setattr(ReadPrompts, "write", lambda read, greedy: [ids for _ in read.prompts])
    rollouts = rollouts_of(encoder, charts[:1] * 2, [turn, call(charts[0])])
    first, second = Alignment(own, encoder).measure(learner, rollouts)
    assert dict(first.teacher) == dict(second.teacher)
    assert first.student != second.student
    # The same words as the student's, explained in the teacher's own tokens either way.
    live = StudentCall(foreign, encoder, SETTINGS)
    expected = live.distributions(rollouts[:1])[0].tolist()
    assert list(first.teacher.values()) == pytest.approx(expected, abs=1e-6)


def test_a_stored_qwen3_teacher(
    qwen3_model: PreTrainedModel,
    qwen3_processor: ImageTextProcessor,
    learner: PreTrainedModel,
    encoder: PromptEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    """From its checkpoint through the table to a student of the other family; only its words are put in its mouth."""
    qwen3_model.save_pretrained(tmp_path / "teacher")
    qwen3_processor.save_pretrained(tmp_path / "teacher")
    (sample,) = generate("vbar", 1, seed=0, question_types=("value",))
    written: list[Any] = []

    def write(read: ReadPrompts, greedy: Any) -> list[list[int]]:
        written.append(read.model)
        return [qwen3_processor.tokenizer(call(sample))["input_ids"] for _ in read.prompts]

    monkeypatch.setattr(ReadPrompts, "write", write)
    out = tmp_path / "teacher.parquet"
    flags = ["--train_samples", "1", "--threads", "0", "--attribution_normalization", "magnitude"]
    capfd.readouterr()
    store_teacher("demo-iapo", flags, out, model=str(tmp_path / "teacher"), split="train")
    assert capfd.readouterr().err == ""
    assert [type(model).__name__ for model in written] == ["Qwen3VLForConditionalGeneration"]
    assert TeacherTable.read(out).fingerprint == fingerprint(qwen3_model, qwen3_processor)

    settings = dataclasses.replace(SETTINGS, teacher_table=str(out))
    rollouts = rollouts_of(encoder, [sample] * 2, [call(sample), call(sample, "rows", "draw")])
    stored = Alignment(make_reference(settings, None, encoder), encoder).measure(learner, rollouts)
    # The student's first rollout says what the teacher says.
    live = StudentCall(Policy(copy.deepcopy(qwen3_model), qwen3_processor), encoder, SETTINGS)
    expected = live.distributions(rollouts[:1])[0].tolist()
    for one in stored:
        assert list(one.teacher.values()) == pytest.approx(expected, abs=1e-6)
        assert 0 < one.divergence < WORST


@pytest.mark.parametrize(
    ("name", "value"), [("target", "turn"), ("normalization", "softmax"), ("eps", 0.02), ("steps", 4)]
)
def test_other_attribution_settings(path: Path, encoder: PromptEncoder, name: str, value: Any):
    settings = dataclasses.replace(SETTINGS, teacher_table=str(path), **{name: value})
    with pytest.raises(ValueError, match=f"attribution_{name} .* but the run has {value!r}; set attribution_{name} to"):
        make_reference(settings, None, encoder)


def test_images_that_the_teacher_saw_otherwise(path: Path, charts: list[Sample]) -> None:
    """Limits count where they change how many tokens an image of the run has; charts have sides of 112 pixels."""

    def reference(**limits: int) -> StoredCalls:
        encoder = PromptEncoder(load_processor("tiny-student", LoadSettings(**limits), prompt="tiny"))
        found = make_reference(dataclasses.replace(SETTINGS, teacher_table=str(path)), None, encoder)
        assert isinstance(found, StoredCalls)
        return found

    assert len(reference(max_pixels=112 * 112).find(charts)) == len(charts)
    with pytest.raises(
        InputError, match=r"made with min_pixels 3136 and max_pixels 200704, but the student has .* 9000,"
    ):
        reference(max_pixels=9000).find(charts)
    with pytest.raises(InputError, match="set min_pixels and max_pixels to the table's"):
        reference(min_pixels=200 * 200).find(charts)


def test_missing_rows_and_other_prompts(
    encoder: PromptEncoder, charts: list[Sample], table: TeacherTable, learner: PreTrainedModel
):
    stored = StoredCalls(table, SETTINGS)
    (unknown,) = generate("vbar", 1, seed=99)
    with pytest.raises(ValueError, match=r"no row for sample 'synthetic/vbar/vbar-train-99-0'.*--split"):
        Alignment(stored, encoder).measure(learner, rollouts_of(encoder, [unknown], [call(unknown)]))
    name = sample_name(charts[0])
    fewer = dict(list(TOOLS.items())[:-1])
    with pytest.raises(ValueError, match=f"sample '{name}' has the blocks .*same tools"):
        StoredCalls(table, SETTINGS, fewer).find(charts[:1])
    for other in (
        dataclasses.replace(charts[0], question="What is the value of Z?"),
        dataclasses.replace(charts[0], image=charts[1].image),
    ):
        with pytest.raises(ValueError, match=f"sample '{name}' was made for another picture, question"):
            stored.find([other])

    # A definition may change under its name.
    def function(image, names, boxes):
        """Does the same, in other words."""

    tool = dataclasses.replace(TOOLS["focus_on_rows_with_draw"], function=function)
    with pytest.raises(ValueError, match="wording of the prompt"):
        StoredCalls(table, SETTINGS, {**TOOLS, tool.name: tool}).find(charts[:1])
    with pytest.raises(ValueError, match="two samples are called"):
        TeacherTable.of([table.rows[name], dataclasses.replace(table.rows[name], prompt="other")], "", SETTINGS)


@pytest.mark.parametrize("how", ["cut", "text", "foreign", "missing", "folder"])
def test_damaged_files(path: Path, how: str):
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-400])
    elif how == "text":
        path.write_text("sample,distribution\n")
    elif how == "foreign":
        pq.write_table(pa.table({"sample": ["a"]}), path)
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()
    with pytest.raises(ValueError, match=r"teacher\.parquet.*iapo teacher attribute"):
        TeacherTable.read(path)


@pytest.mark.parametrize("change", ["short", "sum", "zero", "nan", "null", "call", "names", "twice", "teachers"])
def test_damaged_rows(path: Path, charts: list[Sample], change: str):
    stored = pq.read_table(path)
    rows = stored.to_pylist()
    row = rows[1]
    values = row["distribution"]
    if change == "twice":
        rows.append(row)
    else:
        row |= {
            "short": {"distribution": values[:-1]},
            "sum": {"distribution": [value / 2 for value in values]},
            "zero": {"distribution": [0.0, sum(values[:2]), *values[2:]]},
            "nan": {"distribution": [math.nan, *values[1:]]},
            "null": {"distribution": [None, *values[1:]]},
            "call": {"call": None},
            "names": {"block_names": None},
            "teachers": {"fingerprint": "another"},
        }[change]
    pq.write_table(pa.Table.from_pylist(rows, schema=stored.schema), path)
    sentence = "2 different teachers" if change == "teachers" else f"sample '{sample_name(charts[1])}'"
    with pytest.raises(ValueError, match=sentence):
        TeacherTable.read(path)


def _with_settings(path: Path, settings: bytes) -> None:
    stored = pq.read_table(path)
    pq.write_table(stored.replace_schema_metadata({b"iapo_teacher": settings}), path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (b"{", "they are not JSON"),
        (b"\xff\xfe", "they are not JSON"),
        (b"[" * 100_000, "they are not JSON"),
        (b"[]", "they are no record"),
        ({"prompt": "x"}, "the field prompt is of the type str"),
        ({"prompt": {}}, "the field name is missing"),
        ({"view": [1]}, "the field view is of the type list"),
        ({"view": {"patch": "x"}}, "the field patch is of the type str"),
        ({"view": {"patch": 28, "min_pixels": 0, "max_pixels": 1}}, "min_pixels of view is 0"),
        ({"target": {"a": 1}}, "the field target is of the type dict"),
        ({"method": None, "steps": -1}, "steps is -1"),
    ],
)
def test_damaged_settings_of_a_table(path: Path, settings: bytes | dict[str, Any], sentence: str):
    if isinstance(settings, dict):
        whole = json.loads(pq.read_table(path).schema.metadata[b"iapo_teacher"])
        settings = json.dumps({**whole, **settings}).encode()
    _with_settings(path, settings)
    with pytest.raises(InputError, match=sentence) as refused:
        TeacherTable.read(path)
    assert str(path) in str(refused.value)


def test_texts_of_a_table_that_are_no_utf8(path: Path):
    content = path.read_bytes()
    call = pq.read_table(path).column("call").to_pylist()[0].encode()
    path.write_bytes(content.replace(call[:8], b"\xff" * 8))
    with pytest.raises(InputError, match=r"teacher\.parquet is damaged"):
        TeacherTable.read(path)


@pytest.mark.parametrize(
    "line",
    [
        '{"rows": [1]}',
        '{"rows": {}}',
        "{}",
        '{"rows": [{}]}',
        '{"rows": [{"sample": 1}]}',
        '{"rows": [{"distribution": 3}]}',
    ],
)
def test_damaged_journal(tmp_path: Path, line: str):
    asked = {"teacher": "a", "settings": {}}
    Journal(tmp_path / "t.parquet", asked)
    journal = tmp_path / "t.parquet.begun.jsonl"
    with journal.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=r"t\.parquet\.begun\.jsonl is damaged: line 2: "):
        Journal(tmp_path / "t.parquet", asked)


def test_fingerprint(student: Policy, processor: ImageTextProcessor, tmp_path: Path):
    first = fingerprint(student.model, student.processor)
    # Use leaves no trace in it.
    used = copy.deepcopy(student.processor)
    used.tokenizer(["a", "a b c"], padding=True, truncation=True, max_length=2)
    assert fingerprint(copy.deepcopy(student.model), used) == first
    assert fingerprint(student.model, processor) != first
    changed = copy.deepcopy(student.model)
    with torch.no_grad():
        changed.lm_head.weight[3, 3] += 1e-3
    assert fingerprint(changed, student.processor) != first
    changed = copy.deepcopy(student.model)
    changed.config.text_config.rms_norm_eps = 0.5
    assert fingerprint(changed, student.processor) != first
    # Where it was loaded from, and in which way, is nothing of it.
    changed = copy.deepcopy(student.model)
    changed.config._name_or_path, changed.config.text_config.use_cache = "elsewhere", False
    assert fingerprint(changed, student.processor) == first


def test_a_method_of_ones_own_is_compared_by_its_contents(tmp_path: Path):
    file = tmp_path / "meth.py"
    file.write_text("def own(model, calls, pictures, settings):\n    return None\n")
    settings = AttributionSettings(method=f"{file}:own")
    TeacherTable.of([], "a", settings).write(tmp_path / "t.parquet")
    table = TeacherTable.read(tmp_path / "t.parquet")
    table.check_settings(settings)
    Journal(tmp_path / "j.parquet", {"settings": TeacherTable.of([], "a", settings).settings})
    file.write_text(file.read_text() + "# Otherwise.\n")
    with pytest.raises(InputError, match=r"t\.parquet was made with other contents of .*meth\.py:own"):
        table.check_settings(settings)
    with pytest.raises(InputError, match="begun with another settings"):
        Journal(tmp_path / "j.parquet", {"settings": TeacherTable.of([], "a", settings).settings})


def test_settings_choose_the_reference(student: Policy, path: Path, tmp_path: Path):
    encoder = PromptEncoder(student.processor)
    assert isinstance(make_reference(AttributionSettings(), student, encoder), StudentCall)
    assert isinstance(make_reference(AttributionSettings(teacher_reference="own_call"), student, encoder), OwnCall)
    with pytest.raises(ValueError, match="set `teacher` or `teacher_table`"):
        make_reference(AttributionSettings(), None, encoder)
    assert IAPOConfig(str(tmp_path), bf16=False, attribution_form="paper").teacher_reference == "student_call"
    assert (
        IAPOConfig(str(tmp_path), bf16=False, attribution_form="paper", teacher_table=str(path)).teacher_reference
        == "own_call"
    )


def iapo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return iapo_here("teacher", "attribute", "--config", "demo-iapo", *arguments)


@pytest.mark.slow(8)
def test_verb_writes_the_table(student: Policy, encoder: PromptEncoder, tmp_path: Path):
    out = tmp_path / "new" / "teacher.parquet"
    flags = ["--model", "tiny-teacher", "--split", "both", "--train_samples", "3", "--eval_samples", "2"]
    done = iapo("--out", str(out), *flags, "--attribution_normalization", "magnitude")
    assert done.returncode == 0, done.stderr
    assert "5 samples, 0 of them without a call" in done.stdout
    settings = AttributionSettings(teacher_table=str(out), max_turn_tokens=24)
    stored, live = (
        make_reference(settings, None, PromptEncoder(student.processor)),
        OwnCall(load_policy("tiny-teacher"), settings),
    )
    samples = [
        *generate("vbar", 2, seed=0, question_types=("value",)),
        *generate("hbar", 1, seed=0, question_types=("value",)),
        *generate("hbar", 1, seed=0, question_types=("value",), split="test"),
    ]
    rollouts = rollouts_of(encoder, samples, [NO_CALL] * 4)
    found = stored.distributions(rollouts)  # type: ignore[union-attr]
    torch.testing.assert_close(found, live.distributions(rollouts), rtol=0, atol=1e-6)


def test_verb_refuses(path: Path, tmp_path: Path):
    done = iapo("--out", str(path))
    assert done.returncode == 2
    assert "already exists" in done.stderr
    done = iapo("--out", str(tmp_path / "x.parquet"), "--split", "validation")
    assert done.returncode == 2
    assert "use train, test or both" in done.stderr


def test_asking_goes_on_where_it_was_stopped(tmp_path: Path, student: Policy, charts: list[Sample]) -> None:
    settings = dataclasses.replace(SETTINGS, batch_size=2)
    attribute_samples(student, charts[:5], settings, out=tmp_path / "whole.parquet")

    class EndedError(Exception):
        pass

    def end(done: int) -> None:
        raise EndedError

    out = tmp_path / "table.parquet"
    for _ in range(2):
        # Each time one batch, of which nothing is asked twice.
        with pytest.raises(EndedError):
            attribute_samples(student, charts[:5], settings, out=out, progress=end)
        assert not out.exists()
    (journal,) = tmp_path.glob("*.begun.jsonl")
    with journal.open("ab") as file:
        file.write(b'{"rows": [{"sam')
    with pytest.raises(InputError, match="begun with another settings"):
        attribute_samples(student, charts[:5], dataclasses.replace(settings, eps=0.5), out=out)
    with pytest.raises(InputError, match="begun with other samples"):
        attribute_samples(student, charts[1:5], settings, out=out)
    attribute_samples(student, charts[:5], settings, out=out)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not journal.exists()
