"""Every command and example in the documents runs, shrunk as one table says; links and paths lead somewhere.

`make` is checked by its recipes alone. Commands of `iapo` and `python` run in this process, and so do those that
they start, each with the code that it would run. `pip`, `tensorboard` and other programs are not run.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import re
import runpy
import shlex
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import endpoint_server
import pytest
import typer
import yaml
from doc_data import SMALL, give_runs, lay_out, named_files
from documented import (
    DOCUMENTS,
    ROOT,
    Block,
    CommandError,
    blocks,
    few_lessons,
    prose,
    run,
    run_python,
    without_processes,
)
from PIL import Image

from iapo.cli.main import app
from iapo.data.loading import load, strict
from iapo.experiments.forms_grid import read_forms
from iapo.rollout.template import read_prompt

ENDPOINT = "https://api.openai.com/v1"
FEW = " ".join(f"--{name} {value}" for name, value in SMALL.items())
STUDIED = FEW.replace("--case_study_steps 0", "--case_study_samples 2")
SHORT = ["--per_device_train_batch_size", "8", "--max_turn_tokens", "6"]
EVALUATED = FEW.replace("--eval_samples 0", "--eval_samples 2")


def _small_lessons(patch: pytest.MonkeyPatch) -> None:
    """One lesson of a kind a step, eight rollouts in reinforcement learning, a picture a family measured, a tokenizer
    of a tenth of the texts; and no Qwen3-VL, which tests/cli/test_main.py builds.
    """
    from iapo.tiny import build, command

    texts = list(itertools.islice(build._corpus(), 3000))
    patch.setattr(build, "_corpus", lambda: texts)

    patch.delitem(build.RECIPES, "tiny-qwen3-vl-teacher")
    for name, recipe in list(build.RECIPES.items()):
        stages = {
            stage: tuple(dataclasses.replace(part, batch=dict.fromkeys(part.batch, 1)) for part in parts)
            for stage, parts in recipe.stages.items()
        }
        config = recipe.config and f"small-{recipe.config}.yaml"
        patch.setitem(build.RECIPES, name, dataclasses.replace(recipe, stages=stages, config=config))
    patch.setattr(build, "measure", functools.partial(build.measure, count=1))
    patch.setattr(command, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))


def _small_causes(patch: pytest.MonkeyPatch) -> None:
    """A few samples to train on, and a few of each set."""
    from iapo.tiny.causes import command

    patch.setattr(command, "TRAINED", 16)
    patch.setattr(command, "HELD_OUT", 2)


def _few_pages(patch: pytest.MonkeyPatch) -> None:
    """A few pages, a lesson of each kind, and eight rollouts of short turns: hardly taught, none ends by itself."""
    from iapo.experiments import demo_crop

    few_lessons(patch)
    make_job = demo_crop._training_job

    def few(*words: Any) -> Any:
        job = make_job(*words)
        return dataclasses.replace(job, command=lambda threads: [*job.command(threads), *SHORT])

    patch.setattr(demo_crop, "_training_job", few)
    patch.setattr(demo_crop, "TRAINED_PAGES", 16)
    patch.setattr(demo_crop, "run_crop_demo", functools.partial(demo_crop.run_crop_demo, scale=0.005))


def _few_variants(count: int, patch: pytest.MonkeyPatch) -> None:
    """All are parsed and looked up; so many, the reference first, are trained."""
    from iapo.experiments import ablate

    def read(*words: Any) -> Any:
        ablation = read_ablation(*words)
        ablate.check_variants(ablation)
        return dataclasses.replace(ablation, variants=ablation.variants[:count])

    read_ablation = ablate.read_ablation
    patch.setattr(ablate, "read_ablation", read)


def _no_serving(patch: pytest.MonkeyPatch) -> None:
    """It loads, listens, and ends."""
    from iapo.serving.server import Server

    patch.setattr(Server, "serve_forever", lambda *_, **__: None)


@dataclass(frozen=True)
class Rule:
    """How a documented command or example is shrunk, or what stands in for what it needs.

    Attributes:
        pattern: Found in the commands that it is for.
        why: The reason.
        more: What is put behind them; they stand in the place of those that are there.
        changes: What is put in the place of parts of them; `SERVER` is a listening server's address.
        script: What is put in the place of parts of the script that they run, in the copy that lies here.
        patch: Changes a part of the package.
        runs: Whether it reads run folders; those that no command has made are laid out (`doc_data.RUNS`).
    """

    pattern: str
    why: str
    more: str = ""
    changes: tuple[tuple[str, str], ...] = ()
    script: tuple[tuple[str, str], ...] = ()
    patch: Callable[[pytest.MonkeyPatch], None] | None = None
    runs: bool = False


RULES = (
    Rule(r"^iapo demo --world crop", "minutes", "--steps 1 --samples 2", patch=_few_pages),
    Rule(r"^iapo train .*--list-settings", "as it stands"),
    Rule(r"^iapo train .*--report_to", "80 steps take minutes", f"{STUDIED} --report_traces 1"),
    Rule(r"^iapo train .*(--eval_data|--penalty_weight|--use_peft)", "80 steps take minutes", EVALUATED),
    Rule(r"^iapo train ", "80 steps take minutes", FEW),
    Rule(r"^iapo doctor ", "a step of 128 rollouts takes half a minute", "--per_device_train_batch_size 8"),
    Rule(
        r"^iapo teacher attribute ", "TEACHER is the reader's own", "--train_samples 16", (("TEACHER", "tiny-teacher"),)
    ),
    Rule(
        r"^iapo compare --preset full",
        "hundreds of steps take minutes to hours",
        f"--methods grpo --seeds 0 --sets vbar --samples 2 {FEW}",
    ),
    Rule(
        r"^iapo compare --preset smoke",
        "tens of steps take minutes; docs/comparing.md has two methods",
        f"--methods grpo --seeds 0 --sets vbar --samples 2 {FEW}",
    ),
    Rule(
        r"^iapo compare .*,examples/",
        "hundreds of steps take minutes to hours",
        f"--methods grpo,examples/own_reward.py:right_axis --seeds 0 --sets vbar --samples 2 {FEW}",
    ),
    Rule(
        r"^iapo compare ",
        "hundreds of steps take minutes to hours",
        f"--methods grpo,iapo --seeds 0 --sets vbar --samples 2 {FEW}",
    ),
    Rule(r"^iapo evaluate .*--out runs/eval/teacher", "the line behind it learns from it", "--samples 12"),
    Rule(r"^iapo sft ", "a minute", "--max_steps 2"),
    Rule(r"^iapo evaluate .*--endpoint", "no network", "--samples 2", ((ENDPOINT, "SERVER"),)),
    Rule(
        r"^iapo evaluate .*@hub",
        "no network, and hundreds of questions",
        "--samples 2",
        (("vwtq@hub", "vwtq@data/tables"), ("runs/mine/policy", "runs/policies/mine")),
    ),
    Rule(r"^iapo evaluate ", "seconds instead of a minute", "--samples 2"),
    Rule(r"^iapo attribute runs/mine ", "the run takes minutes", runs=True),
    Rule(r"^iapo serve ", "it would serve without end", "--port 0", patch=_no_serving),
    Rule(r"^iapo export runs/mine --output exported", "the run takes minutes", runs=True),
    Rule(r"^iapo report .*--open", "no browser", changes=((" --open", ""),), runs=True),
    Rule(r"^iapo report ", "the runs take minutes to hours", runs=True),
    Rule(r"^iapo study misuse ", "seconds instead of a minute; the runs take minutes", "--samples 2", runs=True),
    Rule(
        r"^iapo study forms ",
        "minutes; the policy is that of a run of minutes",
        "--prompts 4 --rollouts 8 --seeds 0 --names canonical --temperature 1.5",
        (("runs/demo-grpo/policy", "tiny-student"),),
    ),
    Rule(r"^iapo study faithfulness ", "a minute for each model", "--samples 2 --orders 1"),
    Rule(r"^iapo study curves ", "the runs take minutes", runs=True),
    Rule(
        r"^iapo study ablate --file",
        "minutes to hours",
        f"--seeds 0 --sets vbar --samples 2 {FEW}",
        patch=functools.partial(_few_variants, 2),
    ),
    Rule(
        r"^iapo study ablate ",
        "minutes to hours",
        f"--seeds 0 --sets vbar --samples 2 {FEW}",
        patch=functools.partial(_few_variants, 1),
    ),
    Rule(r"^iapo tiny build ", "40 minutes", "--scale 0.001", patch=_small_lessons),
    Rule(r"^iapo tiny evaluate ", "minutes", "--samples 1 --families vbar,vwtq"),
    Rule(r"^iapo tiny causes .*--new", "minutes", "--samples 1 --scale 0.003", patch=_small_causes),
    Rule(r"^iapo tiny causes ", "minutes", "--samples 1", patch=_small_causes),
    Rule(r"^iapo data make ", "seconds; the file is there from the line above", "", (("1000 OUT", "4 made"),)),
    Rule(r"^python benchmarks/boxes.py", "minutes", "--count 1 --sizes 300 --families vbar charxiv"),
    Rule(r"^python benchmarks/cli.py", "a minute", "--repeats 1"),
    Rule(r"^python benchmarks/data.py", "minutes", "--rows 100 --size 112"),
    Rule(
        r"^python benchmarks/step.py",
        "minutes",
        "--steps 1 --repeats 1",
        script=(("train_batch_size=64", "train_batch_size=8"), (r"\(family, 64,", "(family, 4,"), ('"128"', '"8"')),
    ),
    Rule(
        r"^python benchmarks/update.py",
        "a minute",
        "--repeats 1",
        script=(("IMAGE = 8, 250, 2048,", "IMAGE = 2, 25, 256,"), (r"\[1, 20, 50\]", "[1, 10, 10]")),
    ),
    Rule(
        r"^python benchmarks/memory.py",
        "hours; the folder is the reader's own",
        changes=((r"FOLDER --tensors --json FILE", "random --tensors --cases 1"),),
        script=(
            ("hidden: int = 256", "hidden: int = 128"),
            (r"\(4, 0, 224\),", "(2, 0, 112),"),
            # Two of the four trainings have all that there is to choose.
            (r' +"LoRA, IAPO": .*\n +"all weights, GRPO": .*\n', ""),
            ('"48", "--max_completion_length", "96"', '"24", "--max_completion_length", "48"'),
        ),
    ),
    Rule(
        r"^python benchmarks/scaling.py",
        "minutes",
        "--quick --axes distinct",
        script=((r"\(2, 4, 8\)", "(2,)"),),
    ),
    Rule(
        r"^python benchmarks/attribution.py",
        "minutes",
        "--layers 3 --prompt-tokens 150 --group 4 --repeats 1 --methods fast",
        script=(
            (r"GRIDS = \{", "GRIDS = {150: (8, 8), "),
            (r"\(\(3,\), \(600,\)", "((3,), (150,)"),
            (r"CALL_TOKENS = \(60, 137\)", "CALL_TOKENS = (6, 13)"),
        ),
    ),
    Rule(
        r"^python examples/iapo_from_scratch.py",
        "half a minute",
        script=((r"(?m)^STEPS, PROMPTS, GROUP = [\d, ]+", "STEPS, PROMPTS, GROUP = 1, 2, 4 "),),
    ),
    Rule(r"report_to=", "96 steps", changes=((r"256, seed", "8, seed"), ("logging_steps=1", "max_steps=1"))),
    Rule(
        r'IAPOConfig\("runs/python"',
        "96 steps",
        changes=((r"256, seed", "8, seed"), (r'"runs/python"', r"\g<0>, max_steps=1")),
    ),
    Rule(r'IAPOConfig\("runs/own"', "100 steps", changes=(("max_steps=100", "max_steps=1"),)),
    Rule(
        r'load_benchmark\("vwtq"',
        "the test set has 4 questions here",
        changes=((r'"refocus/data"\)\)\)', '"refocus/data", any_size=True)))'),),
    ),
)
"""The first rule whose pattern is found counts; what has none runs as it stands."""

COMMANDS = [command for path in DOCUMENTS.values() for block in blocks(path) for command in block.commands]
EXAMPLES = [block.text for path in DOCUMENTS.values() for block in blocks(path) if block.language == "python"]


def rule_of(text: str) -> Rule | None:
    return next((rule for rule in RULES if re.search(rule.pattern, text)), None)


def shrunk(text: str, server: str) -> str:
    """What is run of a command or an example."""
    if (rule := rule_of(text)) is None:
        return text
    for old, new in rule.changes:
        text = re.sub(old, new, text)
    for name in re.findall(r"--([\w-]+)", rule.more):
        # A setting is given once: the smaller value stands in the place of the document's.
        text = re.sub(rf" --{re.sub('[-_]', '[-_]', name)}[ =](?!-)\S+", "", text)
    return (f"{text} {rule.more}" if rule.more else text).replace("SERVER", server)


WRITTEN = re.compile(r" --out(?:put_dir|put)? (\S+)")


def run_of(command: str) -> str:
    """What runs of a command, wherever that writes to."""
    return WRITTEN.sub("", shrunk(command, "SERVER"))


FIRST = {
    run_of(command): name
    for name, path in reversed(DOCUMENTS.items())
    for block in blocks(path)
    for command in block.commands
}
"""The first document in which it is."""


def steps(document: str) -> list[tuple[str, int]]:
    """A document's commands, each with line 0, and examples, each with its first line, in order."""
    found: list[tuple[str, int]] = []
    for one in blocks(DOCUMENTS[document]):
        found += [(command, 0) for command in one.commands if not command.startswith("make ")]
        found += [(one.text, one.line)] if one.language == "python" else []
    return found


def is_run(document: str, place: int) -> bool:
    """Whether a step of a document is run there: no earlier document has it, or a later step reads what it writes."""
    found = steps(document)
    text, line = found[place]
    written = WRITTEN.search(text)
    later = written and any(re.search(rf"{re.escape(written[1])}\b", more) for more, _ in found[place + 1 :])
    return bool(line or FIRST[run_of(text)] == document or not written or later)


def shrink_script(path: Path, changes: tuple[tuple[str, str], ...]) -> None:
    """Changes a script where it lies, unless it is changed already; each part has to stand in it once."""
    original = (ROOT / path).read_text()
    for old, new in changes:
        original, count = re.subn(old, new, original)
        assert count == 1, (path, old)
    path.write_text(original)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with endpoint_server.serve(lambda request: "FINAL ANSWER: 3. TERMINATE") as found:
        yield found.url


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    lay_out(folder)
    return folder


@pytest.mark.slow(4)
@pytest.mark.parametrize(
    "document",
    [name for name, path in DOCUMENTS.items() if any(one.commands or one.language == "python" for one in blocks(path))],
)
def test_documents_run(
    document: str, server: str, laid_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document's commands and examples in order, in one folder; the examples share their names.

    What runs for an earlier document is not run again, unless something behind it here reads what it writes.
    """
    folder = tmp_path / "here"
    shutil.copytree(laid_out, folder)
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks")
    shutil.copytree(ROOT / "examples", folder / "examples")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("COLUMNS", "160")
    names: dict[str, Any] = {"train_samples": []}
    for place, (text, line) in enumerate(steps(document)):
        if line:
            # As many empty lines before it as in the document, so that a traceback says where.
            Path("example.py").write_text("\n" * (line - 1) + shrunk(text, ""))
            names |= runpy.run_path("example.py", init_globals=names)
        elif is_run(document, place):
            with monkeypatch.context() as patch, without_processes(patch):
                rule, small = rule_of(text), shrunk(text, server)
                if rule and rule.script:
                    shrink_script(Path(small.split()[1]), rule.script)
                if rule and rule.patch:
                    rule.patch(patch)
                if rule and rule.runs:
                    give_runs(shlex.split(small))
                run(small)


def test_the_table_and_the_documents_agree() -> None:
    """A rule for no command, or a change of what no longer stands there, is out of date."""
    found = {text: rule_of(text) for text in [*COMMANDS, *EXAMPLES]}
    assert [rule.pattern for rule in RULES if rule not in found.values()] == []
    for rule in RULES:
        texts = [text for text, its in found.items() if its == rule]
        for old, _ in rule.changes:
            assert any(re.search(old, text) for text in texts), (rule.pattern, old)
    assert COMMANDS
    assert EXAMPLES


def test_every_step_runs_somewhere() -> None:
    """What is left out in one document runs in another."""
    ran = {run_of(text) for name in DOCUMENTS for place, (text, _) in enumerate(steps(name)) if is_run(name, place)}
    assert ran == {run_of(text) for name in DOCUMENTS for text, _ in steps(name)}


@pytest.mark.parametrize("command", sorted({command for command in COMMANDS if command.startswith("make ")}))
def test_make_has_a_recipe(command: str) -> None:
    """There is one, and its commands of `iapo` exist; it is not run, being this very suite or minutes of training."""
    text = (ROOT / "Makefile").read_text()
    (recipe,) = re.findall(rf"^{command.removeprefix('make ')}:.*\n((?:\t.*\n?)+)", text, re.MULTILINE)
    for command in re.findall(r"\$\(BIN\)/(iapo .*)", recipe):
        run(f"{command} --help")


def test_yaml_examples_are_configurations(laid_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a training, or, where they have groups, of an ablation, or, where they have a question, of a prompt."""
    from iapo.experiments.ablations import check_variants, read_ablation
    from iapo.training.settings import parse

    monkeypatch.chdir(laid_out)
    found = [block for path in DOCUMENTS.values() for block in blocks(path) if block.language == "yaml"]
    ablations = [block for block in found if "groups" in yaml.safe_load(block.text)]
    assert ablations
    assert len(found) > len(ablations)
    file = tmp_path / "one.yaml"
    run = {text for _, text in named_files()}
    for block in found:
        if block.text in run:
            continue  # laid out under its name, where commands read it
        if block in ablations:
            file.write_text(block.text)
            check_variants(read_ablation(str(file)))
        elif "forms" in yaml.safe_load(block.text):
            file.write_text(block.text)
            assert read_forms(str(file))
        elif "question" in yaml.safe_load(block.text):
            file.write_text(block.text)
            assert read_prompt(file).name == "my-prompt"
        else:
            file.write_text(yaml.safe_dump({"output_dir": str(tmp_path), "bf16": False, "use_cpu": True}) + block.text)
            parse(str(file))


def test_json_examples_are_rows_of_own_data(tmp_path: Path) -> None:
    found = [block for path in DOCUMENTS.values() for block in blocks(path) if block.language == "json"]
    assert found
    for number, block in enumerate(found):
        folder = tmp_path / str(number)
        row = json.loads(block.text)
        for name in row["images"] if "images" in row else [row["image"]]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (400, 320)).save(folder / name)
        (folder / "train.jsonl").write_text(block.text)
        assert len(list(strict(load(folder)))) == 1


def inline(path: Path) -> list[str]:
    """Commands of `iapo` in running text."""
    return [code for code in re.findall(r"`(iapo [^`]+)`", prose(path)) if "..." not in code]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_the_text_exist(document: str) -> None:
    """Their verbs and options do; they are not run."""
    from iapo.training.config import IAPOConfig
    from iapo.training.run import RunArguments

    settings = {field.name for holder in (RunArguments, IAPOConfig) for field in fields(holder)}
    for code in inline(DOCUMENTS[document]):
        command: Any = typer.main.get_command(app)
        words = code.split()[1:]
        while words and hasattr(command, "commands") and not words[0].startswith("-"):
            assert words[0] in command.commands, f"{document}: `{code}`"
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
        known.add("--help")
        for word in words:
            if word.startswith("--"):
                extra = command.context_settings.get("allow_extra_args") and word[2:] in settings
                assert word in known or extra, f"{document}: `{code}` has an unknown option {word}"


@pytest.mark.parametrize("document", [*DOCUMENTS, "CONTRIBUTING.md"])
def test_links_and_paths_lead_somewhere(document: str) -> None:
    path = ROOT / document
    text = prose(path)
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        assert re.match(r"https?://", link) or (path.parent / link).exists(), f"{document} links to {link}"
    for code in re.findall(r"`([^`\s]+)`", text):
        # Names with an ending, from the root or bare, that the repository could have.
        if re.match(r"(iapo|docs|tests|examples|benchmarks)/[\w./-]*$", code) or re.match(r"[\w-]+\.(md|toml)$", code):
            assert (ROOT / code).exists(), f"{document} names {code}"


def block(text: str, language: str = "") -> Block:
    return Block(language, 1, text)


def test_commands_are_found() -> None:
    """What the tests above stand on."""
    text = "$ iapo data check x   # why\noutput\nmake demo    # so\npython a.py \\\n    --b c\nFOO=1 iapo x\npython\n"
    assert block(text).commands == ["iapo data check x", "make demo", "python a.py --b c"]
    assert block(text, "yaml").commands == []
    assert rule_of("iapo train --config x --list-settings") is RULES[1]
    assert rule_of("iapo tiny") is None


@pytest.mark.parametrize(
    "command", ["iapo train --config nothing", "iapo nothing", "python fails.py", "python exits.py"]
)
def test_a_command_that_fails_is_found(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fails.py").write_text("raise ValueError('no')")
    Path("exits.py").write_text("raise SystemExit('no')")
    with pytest.raises((CommandError, ValueError)):
        run(command)
    Path("says.py").write_text("import sys\nprint(*sys.argv[1:])")
    assert run_python(["says.py", "a", "b"]) == (0, "a b\n")
