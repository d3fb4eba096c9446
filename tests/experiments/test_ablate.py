"""Ablations: read from YAML, checked before anything runs, equal trainings run once, one table."""

from __future__ import annotations

import copy
import csv
import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml
from documented import without_processes
from hypothesis import given
from hypothesis import strategies as st
from pretended import Pretended
from processes import iapo_here

from iapo.attribution.settings import alignment_settings
from iapo.errors import InputError
from iapo.experiments.ablate import run_ablation
from iapo.experiments.ablations import check_variants, read_ablation
from iapo.results import stamp
from iapo.rollout.policy import find_checkpoint
from iapo.training.settings import parse

SMALL: dict[str, Any] = {
    "settings": {"reward": "iapo", "max_steps": 1},
    "seeds": [0, 1],
    "samples": 4,
    "reference": "rewards/iapo",
    "groups": {
        "rewards": {"title": "Reward", "variants": {"iapo": {}, "grpo": {"reward": "grpo"}}},
        "penalty": {"grid": {"penalty_weight": [0.1, 1.0], "penalty_decay": [0.01, 0.1]}},
        "choices": {"variants": {"magnitude": {"attribution_normalization": "magnitude"}}},
    },
}


def write(path: Path, **changes: Any) -> str:
    path.write_text(yaml.safe_dump({**SMALL, **changes}, sort_keys=False))
    return str(path)


def with_variant(path: Path, **settings: Any) -> str:
    return write(path, groups={**SMALL["groups"], "more": {"variants": {"one": settings}}})


def test_equal_trainings_run_once(tmp_path: Path) -> None:
    told = Pretended()
    found = run_ablation(read_ablation(write(tmp_path / "a.yaml")), tmp_path / "out", run=told)
    names = ["rewards/iapo", "rewards/grpo"]
    names += [f"penalty/penalty_weight={w}, penalty_decay={d}" for w, d in ((0.1, 0.1), (1.0, 0.01), (1.0, 0.1))]
    names += ["choices/magnitude"]
    # 0.1 and 0.01 are the defaults, and so the reference's own training.
    assert list(told.orders) == ["start", "teacher", *(f"{name}, seed {seed}" for seed in (0, 1) for name in names)]
    flags = told.orders["penalty/penalty_weight=1.0, penalty_decay=0.1, seed 1"]["settings"]
    settings = parse("compare", flags)[1]
    assert (settings.penalty_weight, settings.penalty_decay, settings.seed, settings.max_steps) == (1.0, 0.1, 1, 1)
    assert settings.output_dir == str(tmp_path / "out" / "penalty" / "penalty_weight=1.0, penalty_decay=0.1" / "seed-1")
    assert [(row["group"], row["name"]) for row in found["rows"]] == [
        ("", "start"),
        ("", "teacher"),
        ("Reward", "iapo"),
        ("Reward", "grpo"),
        *(("penalty", f"penalty_weight={w}, penalty_decay={d}") for w in (0.1, 1.0) for d in (0.01, 0.1)),
        ("choices", "magnitude"),
    ]
    rows = {row["name"]: row for row in found["rows"]}
    shared = rows["penalty_weight=0.1, penalty_decay=0.01"]
    assert shared["accuracy"] == rows["iapo"]["accuracy"]
    # The pretended accuracy of iapo is 1, all else has 1/2.
    assert shared["difference"] is rows["iapo"]["difference"] is None
    assert rows["magnitude"]["difference"]["average"]["value"] == -0.5
    again = Pretended()
    assert run_ablation(read_ablation(str(tmp_path / "a.yaml")), tmp_path / "out", run=again) == found
    assert again.orders == {}


def test_all_forms_have_the_groups(tmp_path: Path) -> None:
    found = run_ablation(read_ablation(write(tmp_path / "a.yaml")), tmp_path / "out", run=Pretended())
    out = tmp_path / "out"
    assert json.loads((out / "ablation.json").read_text()) == stamp("table", found)
    rows = list(csv.DictReader((out / "ablation.csv").open()))
    assert {row["group"] for row in rows} == {"", "Reward", "penalty", "choices"}
    assert len(rows) == 3 * len(found["rows"])
    latex = (out / "ablation.tex").read_text()
    assert r"\multicolumn{6}{l}{\emph{Reward}} \\" in latex
    assert latex.count(r"\emph") == 3
    lines = [line.split("│")[1].strip() for line in (out / "ablation.txt").read_text().splitlines() if "│" in line]
    assert lines.index("Reward") < lines.index("iapo") < lines.index("grpo") < lines.index("penalty")


def test_a_variant_that_changed_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_ablation(read_ablation(write(tmp_path / "a.yaml")), out, run=Pretended())
    # Another one may come.
    more = Pretended()
    run_ablation(read_ablation(with_variant(tmp_path / "a.yaml", penalty_weight=0.2)), out, run=more)
    assert list(more.orders) == ["more/one, seed 0", "more/one, seed 1"]
    changed = read_ablation(with_variant(tmp_path / "a.yaml", penalty_weight=0.3))
    with pytest.raises(ValueError, match=r"'more/one' with other settings \(penalty_weight: 0.2 there, 0.3 now\)"):
        run_ablation(changed, out, run=Pretended())
    with pytest.raises(ValueError, match=r"other settings \(max_steps: 1 there, 2 now\)"):
        run_ablation(read_ablation(write(tmp_path / "a.yaml", settings={"max_steps": 2})), out, run=Pretended())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"teacher": "teacher-7b"}, r"variant 'more/one': no checkpoint 'teacher-7b': neither packaged \(tiny-"),
        ({"teacher": "runs/teacher/policy"}, "no checkpoint 'runs/teacher/policy'"),
        ({"reward": "trm", "verifier": "nobody"}, "no checkpoint 'nobody'"),
        ({"penalty_wieght": 1}, "variant 'more/one': .*penalty_wieght"),
        ({"penalty_weight": -1}, "variant 'more/one': penalty_weight is -1"),
        (
            {"attribution_target": "word"},
            "variant 'more/one': attribution_target is 'word'; it takes call or turn or name or none",
        ),
        ({"model": "tiny-qwen3-vl-teacher"}, "all variants start from one"),
        ({"seed": 3}, "the setting seed is set by the comparison itself"),
        ({"seeds": [1]}, "variant 'more/one': no setting 'seeds'; did you mean seed"),
    ],
)
def test_bad_variants_are_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, Any], sentence: str
) -> None:
    told = Pretended()
    with pytest.raises(ValueError, match=sentence) as refused:
        run_ablation(read_ablation(with_variant(tmp_path / "a.yaml", **settings)), tmp_path / "out", run=told)
    assert "\n" not in str(refused.value)
    assert told.orders == {}
    assert not (tmp_path / "out").exists()
    # No usage is printed before the sentence.
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"reference": "rewards/torl"}, "the reference 'rewards/torl' is no variant; use one of rewards/iapo"),
        ({"groups": {"start": {"variants": {"a": {}}}}}, "a group cannot be called 'start'"),
        ({"groups": {"a": {"rows": {}}}}, "may have title, variants and grid"),
        ({"groups": {"a": {"variants": {"b/c": {}}}}}, "variant 'b/c' needs a plain name"),
        ({"groups": {"a": {"variants": {"b": 3}}}}, "variant 'b' needs a plain name, and settings"),
        ({"stepz": 3}, "unknown key 'stepz'"),
        ({"seeds": [1, 1]}, "name each one once"),
        ({"groups": None}, "needs groups, and a reference"),
        ({"groups": {"a": {"variants": ["b"]}}}, r"group 'a': variants is \['b'\]; give a mapping"),
        (
            {"groups": {"a": {"grid": {"penalty_weight": 0.1}}}},
            "group 'a': penalty_weight of the grid is 0.1; give a list",
        ),
        ({"groups": {"a": {"grid": {"penalty_weight": []}}}}, "penalty_weight of the grid is"),
        ({"groups": {"a": {"grid": [1]}}}, "group 'a': grid is"),
        ({"groups": {"a": {"grid": {"penalty_weight": [0.1] * 40, "penalty_decay": [0.1] * 40}}}}, "has 1600 points"),
        ({"groups": {"a": {"variants": {"b" * 256: {}}}}}, "needs a plain name"),
        ({"groups": {"a": {"variants": {1: {}, "1": {}}}}}, "'1' is given twice"),
        ({"groups": {"a": {"title": [1], "variants": {"b": {}}}}}, "the title of group 'a' is"),
        ({"groups": {"a": {"title": " ", "variants": {"b": {}}}}}, "the title of group 'a' is ' '; give a text"),
        (
            {"groups": {"a": {"title": "A", "variants": {"b": {}}}, "c": {"title": "A", "variants": {"b": {}}}}},
            "groups 'a' and 'c' have one title, 'A'; give each its own",
        ),
        ({"groups": {"ablation.txt": {"variants": {"b": {}}}}}, "a group cannot be called 'ablation.txt'"),
        ({"config": None}, r"config is empty \(null\); it takes a text"),
        ({"seeds": "x"}, "seeds is 'x'; it takes a whole number"),
        ({"sets": [[1]]}, r"sets is \[1\]; it takes a text"),
        ({"greedy": "perhaps"}, "greedy is 'perhaps'; it takes true or false"),
        ({"settings": {1: 2}}, "settings: no setting '1'"),
        ({"settings": {"penalty_weight": 10**400}}, "penalty_weight is 1000"),
        ({"settings": {"generation_kwargs": {"a": datetime.date(2026, 1, 1)}}}, "generation_kwargs is no plain value"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as refused:
        read_ablation(write(tmp_path / "a.yaml", **changes))
    assert str(tmp_path / "a.yaml") in str(refused.value)
    assert "\n" not in str(refused.value)


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.dates()
    | st.binary(max_size=2)
    | st.sampled_from(["a", "penalty_weight", "reward", "grpo", 10**400]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["variants", "grid", "title", "a", "penalty_weight", "reward", 1, None, True]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
PLACES = (
    *(("config",), ("settings",), ("seeds",), ("sets",), ("samples",), ("data_seed",), ("temperature",), ("repeats",)),
    *(("greedy",), ("reference",), ("groups",), ("groups", "rewards"), ("groups", "rewards", "title")),
    *(("groups", "rewards", "variants"), ("groups", "rewards", "variants", "grpo"), ("groups", "penalty", "grid")),
    *(("groups", "penalty", "grid", "penalty_weight"), ("settings", "reward"), ("settings", "max_steps")),
    *(("seeds", 0), ("groups", "rewards", "variants", "grpo", "reward"), ("groups", "penalty", "grid", "reward")),
)


@hypothesis.settings(max_examples=150, deadline=None, derandomize=True)
@given(place=st.sampled_from(PLACES), odd=ODD)
def test_anything_in_any_place_is_an_ablation_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[Any, ...], odd: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "odd.yaml"
    content = copy.deepcopy(SMALL)
    inner: Any = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = odd
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    said, found = "", None
    try:
        found = read_ablation(str(path))
    except InputError as error:
        said = str(error)
    if found is None:
        assert str(path) in said
        assert "\n" not in said
    else:
        assert found.variants
        assert json.dumps([dict(one.settings) for one in found.variants])


def test_what_is_no_ablation(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no ablation 'huge': neither a file nor one of causes, full, results, smoke"):
        read_ablation("huge")
    for text, sentence in (("[1, 2]", "holds no settings"), ("a: [", "is not YAML")):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(ValueError, match=sentence):
            read_ablation(str(tmp_path / "a.yaml"))


def test_some_groups(tmp_path: Path) -> None:
    ablation = read_ablation(write(tmp_path / "a.yaml"), {"seeds": (4,)}, ["--max_steps", "9"], ["choices"])
    assert [one.key for one in ablation.variants] == ["rewards/iapo", "choices/magnitude"]
    assert ablation.budget.seeds == (4,)
    assert parse("compare", ablation.budget.settings)[1].max_steps == 9
    with pytest.raises(ValueError, match="no group 'nothing'"):
        read_ablation(str(tmp_path / "a.yaml"), groups=["nothing"])


def test_the_packaged_comparison_of_forms() -> None:
    """Each variant is a training of its own, and differs from the reference in what its name says."""
    ablation = read_ablation("results")
    trials = check_variants(ablation)
    assert len({trial.name for trial in trials.values()}) == len(ablation.variants)
    assert set(ablation.titles) == {"methods", "controls", "extensions", "more", "beyond"}
    found = {
        key: parse(ablation.budget.config, {**ablation.budget.settings, **one.settings}) for key, one in trials.items()
    }
    settings = {key: alignment_settings(one) for key, (_, one) in found.items()}
    assert settings["beyond/attention"] == dataclasses.replace(settings["methods/IAPO, paper"], method="attention")
    assert settings["methods/IAPO, paper"].normalization == "magnitude"
    assert settings["methods/IAPO, softmax"].normalization == "softmax"
    assert settings["methods/IAPO, name_odds signed"].normalization == "signed"
    for form in ("softmax", "name_odds"):
        base, shuffled = settings[f"methods/IAPO, {form}"], settings[f"controls/{form}, student shuffled"]
        assert dataclasses.replace(base, control="student_shuffled") == shuffled
    paper = settings["methods/IAPO, paper"]
    assert settings["beyond/paper, student shuffled"] == dataclasses.replace(paper, control="student_shuffled")


@pytest.mark.parametrize("name", ["full", "smoke"])
def test_packaged_ablations(name: str) -> None:
    """They run with what is packaged."""
    ablation = read_ablation(name)
    trials = check_variants(ablation)
    assert trials["penalty/penalty_weight=0.1, penalty_decay=0.01"] is trials[ablation.reference]
    assert trials["teachers/after GRPO"] is trials[ablation.reference]
    assert trials["rewards/grpo"] is not trials[ablation.reference]
    assert set(ablation.titles) == {"rewards", "teachers", "penalty", "choices"}


def test_find_checkpoint() -> None:
    assert Path(find_checkpoint("tiny-student")).is_dir()
    with pytest.raises(ValueError, match="no checkpoint 'nobody'"):
        find_checkpoint("nobody")


@pytest.mark.slow(5)
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = {"rewards": {"variants": {"iapo": {}, "torl": {"reward": "torl"}}}}
    shared = {"reward": "iapo", "max_steps": 1, "per_device_train_batch_size": 8, "train_samples": 16}
    file = write(tmp_path / "a.yaml", seeds=[0], samples=2, settings=shared, groups=groups)
    command = ("study", "ablate", "--file", file, "--out", tmp_path / "out")
    # What a job does is the same in its own process; those of a demo and a comparison have one.
    with without_processes(monkeypatch):
        done = iapo_here(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ablation.txt" in done.stdout
    rows = json.loads((tmp_path / "out" / "ablation.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["start", "teacher", "iapo", "torl"]
    done = iapo_here("study", "ablate", "--file", "huge", "--out", tmp_path / "out")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no ablation 'huge'" in done.stderr
