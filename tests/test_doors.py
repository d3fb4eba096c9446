"""A contributor's own parts from outside of the package: one file each, named by a reference."""

from __future__ import annotations

import csv
import dataclasses
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from calls import call_text
from documented import DOCUMENTS, blocks
from transformers import PreTrainedModel, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from iapo.attribution.calls import Attributor
from iapo.attribution.gradient import CallInput, Pictures, block_scores
from iapo.attribution.methods import METHODS, chosen_method, find_method
from iapo.attribution.prefix import prefix_block_scores
from iapo.attribution.settings import AttributionSettings
from iapo.data.loading import Damage, load
from iapo.data.sources import SourceSettings, open_source, read_source, read_sources
from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.evaluation.plan import EvaluationPlan
from iapo.experiments.compare import Comparison
from iapo.models import MODEL_FAMILIES, DecoderLayers, ModelFamily, add_family
from iapo.plugins import check_reference, resolve
from iapo.records import Sample
from iapo.rewards.presets import find_reward, make_outcome, make_preset
from iapo.rollout.policy import ImageTextProcessor, Policy, load_policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import encode_prompts, read_turn
from iapo.runs import RunFolder
from iapo.studies.attribute import run_attribute
from iapo.studies.attribute_inputs import held_out_sample, plan_of
from iapo.studies.case_study import CaseStudyPlan
from iapo.tools import TOOLS, offered_tools
from iapo.training.arguments import RunArguments
from iapo.training.config import IAPOConfig
from iapo.training.run import run
from iapo.training.settings import parse, reward_label

TOOL = '''
from iapo import define
from PIL import ImageOps

def invert_columns(image, names, boxes):
    """Invert the colours of the named columns."""
    edited = image.convert("RGB")
    for name in names:
        box = tuple(map(int, boxes[name]))
        edited.paste(ImageOps.invert(edited.crop(box)), box)
    return edited

invert = define(invert_columns, axis="columns", style="highlight")
'''

REWARDS = """
from iapo.rewards.columns import Column, Preset, reward

def short(trace):
    return -len(trace.turn_1)

def careful(trace, outcome):
    return outcome - 0.25 * trace.misused

def batch(trace, **columns):
    return [float(len(trace))] * len(trace)

def shape(sources):
    return Preset((Column("short", lambda trace, **columns: [short(one) for one in trace], 0.5),))

@reward("divergences")
def far(sources):
    return Preset((Column("far", lambda rollout, **columns: sources.divergences(rollout), 2.0),))

def greedy(sources):
    return Preset((Column("greedy", lambda rollout, **columns: sources.divergences(rollout)),))

def many(a, b, c):
    return 0

number = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, text: str) -> None:
    Path(name).write_text(textwrap.dedent(text))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("absent.py:f", r"reward: there is no file 'absent\.py'"),
        (
            "absent_module_of_mine:f",
            "imported .*ModuleNotFoundError: No module named 'absent_module_of_mine'",
        ),
        ("broken.py:f", r"broken\.py cannot be imported \(SyntaxError"),
        ("needy.py:f", "cannot be imported .*No module named 'absent_module_of_mine'"),
        ("mine.py:shrot", r"no reward 'shrot' in mine\.py; did you mean short\? Or use one of .*short"),
        ("mine.py:number", "is of type int; give a function"),
        ("mine.py:many", "takes 3 arguments; give a function"),
    ],
)
def test_a_bad_reference_is_one_sentence(reference: str, sentence: str) -> None:
    write("mine.py", REWARDS)
    write("broken.py", "def f(:\n")
    write("needy.py", "import absent_module_of_mine\n")
    with pytest.raises(InputError, match=sentence) as error:
        IAPOConfig("x", bf16=False, reward=reference)
    assert "\n" not in str(error.value)


def test_files_and_modules_are_read_once(here: Path) -> None:
    write("mine.py", REWARDS)
    (here / "pack").mkdir()
    write("pack/inner_of_doors.py", "def f(trace): return 1.0\n")
    first, second = (resolve(f"{place}:short", "reward", callable, "") for place in ("mine.py", str(here / "mine.py")))
    assert first is second
    assert resolve("pack.inner_of_doors:f", "reward", callable, "")(None) == 1.0


def components(reward: str, traces: list[Any]) -> tuple[dict[str, list[float]], dict[str, float]]:
    args = IAPOConfig("x", bf16=False, reward=reward, teacher="tiny-teacher", penalty_weight=0.1)
    outcome = make_outcome(args)
    made = make_preset(args, outcome, *(lambda rows, value=value: [value] * len(rows) for value in (2.0, 0.0, 0.0)))
    values = {one.name: one.function(trace=traces, rollout=traces) for one in made.columns}
    return values, {"outcome": made.outcome_weight} | {one.name: one.weight for one in made.columns}


@pytest.mark.usefixtures("here")
def test_a_reward_from_outside() -> None:
    from iapo.records import ToolCall, ToolResult, Trace

    write("mine.py", REWARDS)
    sample = next(iter(generate("vbar", 1, seed=0)))
    wrong_axis = ToolResult("edited", (ToolCall("f", ("a",), "rows_bbox", "rows"),), sample.image)
    right = f"FINAL ANSWER: {sample.answers[0]}. TERMINATE"
    wrong = Trace.of(sample, "FINAL ANSWER: no. TERMINATE", ToolResult("no_call"), None)
    traces = [Trace.of(sample, "four", wrong_axis, right), wrong]
    assert components("mine.py:short", traces) == ({"short": [-4.0, -27.0]}, {"outcome": 0.0, "short": 1.0})
    assert components("mine.py:careful", traces)[0] == {"careful": [0.75, 0.0]}
    assert components("mine.py:batch", traces)[0] == {"batch": [2.0, 2.0]}
    assert components("mine.py:shape", traces) == ({"short": [-4.0, -27.0]}, {"outcome": 1.0, "short": 0.5})
    assert components("mine.py:far", traces)[0] == {"far": [2.0, 2.0]}
    # Beside a preset: the columns of both, and the outcome's weights multiplied.
    values, weights = components("iapo+mine.py:careful", traces)
    assert values == {"alignment": [-2.0, -2.0], "careful": [0.75, 0.0]}
    assert weights == {"outcome": 0.0, "alignment": 0.1, "careful": 1.0}
    with pytest.raises(InputError, match="asks for divergences that it did not declare"):
        components("mine.py:greedy", traces)
    with pytest.raises(InputError, match="two components 'short'"):
        components("mine.py:short+mine.py:shape", traces)


@pytest.mark.usefixtures("here")
def test_what_a_reward_uses_tells_the_settings() -> None:
    write("mine.py", REWARDS)
    used = {name: find_reward(name).uses for name in ("grpo", "iapo", "distill", "trm", "iapo+distill", "mine.py:far")}
    assert {name: set(uses) for name, uses in used.items()} == {
        "grpo": set(),
        "iapo": {"divergences"},
        "distill": {"log_probs"},
        "trm": {"verify"},
        "iapo+distill": {"divergences", "log_probs"},
        "mine.py:far": {"divergences"},
    }
    assert IAPOConfig("x", bf16=False, reward="mine.py:far").penalty_weight == 0.1
    assert IAPOConfig("x", bf16=False, reward="mine.py:short").penalty_weight == 0
    with pytest.raises(InputError, match=r"no reward 'iapoo'; did you mean iapo\?"):
        IAPOConfig("x", bf16=False, reward="iapoo")
    comparison = Comparison(methods=("grpo", "iapo+mine.py:short"), reference="iapo+mine.py:short")
    assert [(one.name, one.settings) for one in comparison.trials] == [
        ("grpo", {"reward": "grpo"}),
        ("iapo+short", {"reward": "iapo+mine.py:short"}),
    ]
    assert reward_label("pack.mine:short") == "short"


@pytest.mark.usefixtures("here")
def test_a_tool_from_outside() -> None:
    write("mine.py", TOOL)
    assert list(offered_tools("mine.py")) == list(offered_tools("mine.py:invert")) == ["invert_columns"]
    assert list(offered_tools("standard, mine.py")) == [*TOOLS, "invert_columns"]
    assert list(offered_tools("focus_on_rows_with_mask")) == ["focus_on_rows_with_mask"]
    assert offered_tools(None) is TOOLS
    assert offered_tools("none") == {}
    # The whole mapping of a module, too.
    assert offered_tools("iapo.tools:TOOLS") == TOOLS
    write("empty.py", "from iapo import TOOLS\n")
    for setting, sentence in (
        ("empty.py", "holds no tool"),
        ("focus_on_rows_with_msk", r"did you mean focus_on_rows_with_mask\?"),
        ("mine.py,mine.py:invert", "name 'invert_columns' twice"),
        (",", "nothing stands before or behind a comma"),
        (" ", "name some"),
        ("mine.py:invert_columns", "parameter 'image' of tool invert_columns has no annotation"),
        ("mine.py:ImageOps", "of type module; give a function, what iapo.define makes"),
    ):
        with pytest.raises(InputError, match=sentence):
            offered_tools(setting)
        with pytest.raises(InputError, match=sentence):
            EvaluationPlan("tiny-student", ("vbar",), tools=setting)
        with pytest.raises(InputError, match=sentence):
            RunArguments(tools=setting)
    with pytest.raises(InputError, match="needs one at least"):
        RunArguments(tools="none")


@pytest.mark.usefixtures("here")
def test_a_name_that_a_file_does_not_have() -> None:
    """What is listed instead is what the file makes, and neither imports nor what can be no part."""
    names = "LIMIT = 3\nNAMES = ['a']\nalso = invert\n\nclass Kept:\n    pass\n\ndef _hidden(image, names, boxes):\n"
    write("mine.py", TOOL + names + "    inner = sorted(names)\n    return image\n")
    for refuse in (lambda: check_reference("mine.py:nothing", "tool"), lambda: offered_tools("mine.py:nothing")):
        with pytest.raises(InputError) as refused:
            refuse()
        assert str(refused.value).endswith("no tool 'nothing' in mine.py; use one of invert_columns, invert, also")
    # An import can be named all the same, and is listed where there is nothing else.
    write("theirs.py", "from iapo import TOOLS\n")
    assert list(offered_tools("theirs.py:TOOLS")) == list(TOOLS)
    with pytest.raises(InputError, match=r"no tool 'nothing' in theirs\.py; use one of TOOLS$"):
        offered_tools("theirs.py:nothing")


FORMATS = """
import csv
from iapo import Sample
from iapo.data.pictures import read_picture

def rows(row):
    if row.fields["gold"] == "?":
        raise ValueError("the gold answer is not known")
    image = read_picture(row.fields["file"], row.folder)
    return Sample(row.fields["key"], image, row.fields["ask"], (row.fields["gold"],))

def table(path, split):
    with path.open() as file:
        for one in csv.DictReader(file):
            yield Sample(one["key"], read_picture(one["file"], path.parent), one["ask"], (one["gold"],), source=split)
"""


@pytest.mark.usefixtures("here")
def test_a_data_format_from_outside() -> None:
    write("formats.py", FORMATS)
    chart = next(iter(generate("vbar", 1, seed=0)))
    chart.image.save("a.png")
    fields = [{"key": key, "file": "a.png", "ask": "how?", "gold": gold} for key, gold in (("one", "1"), ("two", "?"))]
    lines = [json.dumps(one) + "\n" for one in [*fields, {"key": "three"}]]
    Path("test.jsonl").write_text("".join(lines))
    found = list(load("test.jsonl", format="formats.py:rows"))
    assert [type(one) for one in found] == [Sample, Damage, Damage]
    assert [str(one).partition(": ")[2] for one in found[1:]] == [
        "the gold answer is not known",
        "the field 'gold' is missing",
    ]
    settings = SourceSettings(count=1)
    (sample,) = read_source("formats.py:rows@test.jsonl", settings)
    assert (sample.id, sample.image.size, sample.answers) == ("one", chart.image.size, ("1",))
    Path("other.csv").write_text("key,file,ask,gold\nfour,a.png,how?,4\nfive,a.png,how?,5\n")
    (sample,) = read_source("formats.py:table@other.csv", settings)
    assert (sample.id, sample.source) == ("four", "test")
    plan = CaseStudyPlan(samples=1, data="formats.py:table@other.csv")
    with pytest.raises(InputError, match="has no picture of the split"):
        plan.read_samples()
    with pytest.raises(InputError, match="no format 'tabel'"):
        open_source("formats.py:tabel@other.csv", settings)


@pytest.mark.usefixtures("here")
def test_the_documents_reader_of_tables_takes_long_cells() -> None:
    (code,) = (block.text for block in blocks(DOCUMENTS["docs/data.md"]) if "def from_csv" in block.text)
    write("readers.py", code)
    next(iter(generate("vbar", 1, seed=0))).image.save("a.png")
    Path("long.csv").write_text(f"key,picture,question,gold\none,a.png,{'how ' * 50_000}?,4\ntwo,a.png,how?,5\n")
    csv.field_size_limit(131_072)
    samples = read_source("readers.py:from_csv@long.csv", SourceSettings(count=0))
    assert [(one.id, one.answers) for one in samples] == [("one", ("4",)), ("two", ("5",))]


@pytest.mark.usefixtures("here")
def test_several_sources_in_turn() -> None:
    """A list of families is the same by `families`, by `data` and by `--sets`."""
    from iapo.training.run import run_samples

    by_name = run_samples(RunArguments(data="vbar,hbar", train_samples=5), "train")
    assert by_name == run_samples(RunArguments(families=["vbar", "hbar"], train_samples=5), "train")
    assert [one.source for one in by_name] == ["synthetic/vbar", "synthetic/hbar"] * 2 + ["synthetic/vbar"]
    assert len(run_samples(RunArguments(data="vbar", data_samples=3), "train")) == 3
    sets = read_sources(("vbar",), SourceSettings(count=4))
    assert run_samples(RunArguments(data="hbar", eval_data="vbar", eval_samples=4), "test") == sets


METHOD = """
import torch
from iapo.attribution.methods import Method

def first_block(model, calls, pictures, settings):
    scores = torch.zeros(len(calls), calls[0].blocks)
    scores[:, 0] = 1
    return scores

def flat(model, calls, pictures, settings):
    return torch.ones(len(calls))

def unreal(model, calls, pictures, settings):
    return torch.ones(len(calls), calls[0].blocks, dtype=torch.cfloat)

def sparse(model, calls, pictures, settings):
    return first_block(model, calls, pictures, settings).to_sparse()

def graph(model, calls, pictures, settings):
    return first_block(model, calls, pictures, settings).requires_grad_()

whole = Method("whole", graph, "none", tokens=lambda model, calls, pictures, settings: [torch.ones(1)])
pair = Method("pair", graph, "none", scores_with_log_probs=lambda *given: (graph(*given), []))

def raising(model, calls, pictures, settings):
    return {}["score"]

async def later(model, calls, pictures, settings):
    return first_block(model, calls, pictures, settings)
"""


@pytest.fixture
def explained(encoder: PromptEncoder, samples: list[Sample]) -> tuple[list[Any], list[Any]]:
    prompts = encode_prompts(samples[:1], encoder)
    name = next(iter(samples[0].column_boxes))
    ids = encoder.tokenizer(call_text("focus_on_columns_with_mask", name, "columns"))["input_ids"]
    first = read_turn(ids, samples[0], encoder)
    return list(prompts), [(first.ids, first.target)]


@pytest.mark.usefixtures("here")
def test_an_attribution_method_from_outside(
    model: PreTrainedModel, encoder: PromptEncoder, explained: tuple[list[Any], list[Any]]
) -> None:
    write("mine.py", METHOD)
    settings = AttributionSettings(method="mine.py:first_block", eps=1e-6, log_probs=True)
    attributor = Attributor(model, encoder.pixels, settings)
    (shares,) = attributor.distributions(*explained)
    assert shares.tolist() == pytest.approx([1.0] + [0.0] * (len(shares) - 1), abs=1e-5)
    # Log-probabilities and heat maps do not need the method's help.
    gradient = Attributor(model, encoder.pixels, AttributionSettings(log_probs=True))
    assert torch.equal(attributor.log_probs(*explained), gradient.log_probs(*explained))
    assert (attributor.patches(*explained)[0][0] == gradient.patches(*explained)[0][0]).all()
    assert IAPOConfig("x", bf16=False, attribution_method="mine.py:first_block").attribution_method
    for name, sentence in (
        ("flat", r"gives \(1,\); give a tensor of shape \(1, "),
        ("unreal", "gives a tensor of torch.complex64; give one of real numbers"),
        ("sparse", "gives a nested or sparse tensor; give a plain one"),
        ("pair", r"'mine.py:pair' \(log_probs\) gives 0 of them; give a list of 1 tensors, one a call"),
        ("raising", r"attribution method 'mine.py:raising' failed \(KeyError: 'score', line 26\); mend it"),
        ("later", "attribution method 'mine.py:later' is async; give a plain function"),
    ):
        how = AttributionSettings(method=f"mine.py:{name}", log_probs=name == "pair")
        with pytest.raises(InputError, match=sentence):
            Attributor(model, encoder.pixels, how).distributions(*explained)
    own = Attributor(model, encoder.pixels, AttributionSettings(method="mine.py:whole"))
    assert not own.distributions(*explained)[0].requires_grad
    with pytest.raises(InputError, match=r"'mine.py:whole' \(tokens\) gives \(1,\); give a tensor of shape"):
        own.patches(*explained)


def test_the_methods_of_the_table(
    model: PreTrainedModel, encoder: PromptEncoder, explained: tuple[list[Any], list[Any]]
) -> None:
    assert chosen_method(AttributionSettings()) is METHODS["gradient"]
    assert chosen_method(AttributionSettings(steps=4)) is METHODS["integrated"]
    by_steps, by_name = (
        Attributor(model, encoder.pixels, AttributionSettings(method=method, steps=4)).distributions(*explained)
        for method in (None, "integrated")
    )
    assert torch.equal(by_steps, by_name)
    for settings, sentence in (
        (AttributionSettings(method="integrated"), "needs a path of 2 steps"),
        (AttributionSettings(method="gradient", steps=3), "has one step, not 3"),
        (AttributionSettings(method="gradeint"), r"did you mean gradient\?"),
    ):
        with pytest.raises(InputError, match=sentence):
            chosen_method(settings)
        with pytest.raises(InputError, match=sentence):
            IAPOConfig("x", bf16=False, attribution_method=settings.method, attribution_steps=settings.steps)
    with pytest.raises(InputError, match="give 1 to 10000"):
        AttributionSettings(steps=0)
    assert find_method("occlusion").tokens is None


def qwen2_vl(processor: ImageTextProcessor) -> Qwen2VLForConditionalGeneration:
    tokenizer = processor.tokenizer
    names = ("image_pad", "video_pad", "vision_start", "vision_end")
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in names}
    text = {
        **{"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2},
        **{"num_key_value_heads": 1, "vocab_size": len(tokenizer), "max_window_layers": 2},
        "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10_000.0},
    }
    vision = {"depth": 1, "embed_dim": 48, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14}
    config = Qwen2VLConfig(
        text_config=text,
        vision_config={**vision, "spatial_merge_size": 2, "temporal_patch_size": 2},
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
    )
    torch.manual_seed(0)
    return Qwen2VLForConditionalGeneration(config).float().eval()


def test_a_model_family_from_outside(
    here: Path,
    processor: ImageTextProcessor,
    encoder: PromptEncoder,
    explained: tuple[list[Any], list[Any]],
) -> None:
    """Qwen2-VL, by one record: loaded, and explained by the fast way as by the reference."""
    from transformers.models.qwen2_vl import modeling_qwen2_vl as qwen2

    from iapo.attribution.tangent import is_known
    from iapo.training.shared_prefix import cannot_share

    qwen2_vl(processor).save_pretrained(here / "model")
    processor.save_pretrained(here / "model")
    with pytest.raises(InputError, match=r"'qwen2_vl' model; use a Qwen2\.5-VL or a dense Qwen3-VL checkpoint"):
        load_policy(str(here / "model"))
    decoder = DecoderLayers(
        qwen2.Qwen2VLTextModel, qwen2.Qwen2VLDecoderLayer, qwen2.Qwen2VLRMSNorm, qwen2.Qwen2VLAttention, qwen2.Qwen2MLP
    )
    family = ModelFamily("qwen2_vl", "Qwen2-VL", decoder=decoder)
    try:
        add_family(family)
        policy = load_policy(str(here / "model"))
        assert isinstance(policy, Policy)
        attributor = Attributor(policy.model, encoder.pixels, AttributionSettings())
        (call,), pictures = attributor.prepare(*explained)
        calls: list[CallInput] = [
            dataclasses.replace(call, turn_ids=[*call.turn_ids[:-1], token]) for token in range(20, 44)
        ]
        assert isinstance(pictures, Pictures)
        fast, reference = (score(policy.model, calls, pictures) for score in (prefix_block_scores, block_scores))
        assert torch.allclose(fast, reference, rtol=1e-3, atol=1e-4 * reference.abs().max().item())
        assert is_known(policy.model)
        assert cannot_share(policy.model.config) == "the model is a 'qwen2_vl'"
        with pytest.raises(InputError, match="known already"):
            add_family(dataclasses.replace(family, title="other"))
    finally:
        MODEL_FAMILIES.pop("qwen2_vl", None)


@pytest.mark.slow(3)
@pytest.mark.parametrize("reference", ["student_call", "own_call"])
def test_a_run_of_ones_own_is_explained_as_it_was_rewarded(here: Path, reference: str) -> None:
    """Tool and reward from files; `iapo attribute RUN` measures what the run's evaluation measured."""
    write("mine.py", TOOL + REWARDS)
    flags = "--output_dir run --max_steps 1 --per_device_train_batch_size 8 --train_samples 8 --eval_samples 8"
    flags += " --eval_temperature 0 --case_study_steps 0 --disable_tqdm true --attribution_target turn"
    flags += f" --attribution_eps 0.05 --teacher_reference {reference}"
    words = [*flags.split(), "--tools", "standard,mine.py", "--reward", "iapo+mine.py:careful"]
    folder = run(*parse("demo-iapo", words))
    config = json.loads((folder.path / "manifest.json").read_text())["config"]
    assert config["run"]["tools"] == "standard,mine.py"
    row = json.loads((folder.path / "metrics.jsonl").read_text().splitlines()[0])
    assert {"reward/outcome", "reward/alignment", "reward/careful", "weight/careful"} <= row.keys()
    traces = [one for one in RunFolder(folder.path).read_held_out() if one.step == 1]
    index, trace = next((i, one) for i, one in enumerate(traces) if one.attribution)
    assert "tool:invert_columns" in trace.attribution["student"]
    plan = plan_of(folder.path, {})
    assert (plan.teacher, plan.settings.target, plan.settings.normalization) == ("tiny-teacher", "turn", "magnitude")
    assert (plan.settings.eps, plan.settings.teacher_reference) == (0.05, reference)
    run_attribute(plan, here / "out", sample=held_out_sample(folder.path, index))
    numbers = json.loads((here / "out" / "attribution.json").read_text())
    assert numbers["turn_1"] == trace.turn_1
    assert numbers["divergence"] == pytest.approx(trace.scores["divergence"].value, rel=1e-3)
    for who in ("student", "teacher"):
        shares = {block["name"]: block[who]["share"] for block in numbers["blocks"]}
        assert shares == pytest.approx(dict(trace.attribution[who]), rel=1e-3, abs=1e-5)
    with pytest.raises(InputError, match="has 8 held-out samples"):
        held_out_sample(folder.path, 8)
