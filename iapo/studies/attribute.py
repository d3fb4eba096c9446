"""`iapo attribute`: which part of the prompt one tool call came from, for a student and beside it for a teacher."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from iapo.attribution.calls import ATTRIBUTED, Turn
from iapo.attribution.divergence import block_distribution, kl_divergence, worst_divergence
from iapo.attribution.gradient import CallInput, Pictures, block_scores, call_log_probs
from iapo.attribution.occlusion import occlusion_scores
from iapo.attribution.settings import AttributionSettings
from iapo.attribution.tokens import picture_shares, token_scores
from iapo.data.synthetic import generate
from iapo.display.heatmap import Panel, plot_call
from iapo.errors import InputError
from iapo.grading.outcome import grade
from iapo.records import Sample, Score
from iapo.rollout.generation import make_generate
from iapo.rollout.policy import Policy, load_policy
from iapo.rollout.prompt import EncodedPrompt, PromptEncoder
from iapo.rollout.turns import Rollout, encode_prompts, finish, read_first_turn, rollout

Method = Literal["gradient", "integrated", "occlusion"]

METHODS: tuple[Method, ...] = get_args(Method)

JSON_NAME, PNG_NAME = "attribution.json", "attribution.png"


@dataclass(frozen=True, slots=True)
class Explanation:
    """One model's attribution of a call.

    Attributes:
        name: The model.
        log_prob: `s`, the log-probability of the program under the model, in nats.
        scores: Block scores by the chosen method, shape (m,), fp32, on the CPU.
        shares: The block distribution, shape (m,).
        tokens: The prompt as the model reads it: text, block and score of each token.
        patches: Signed shares of the picture's tokens, shape (rows, columns): scores over the sum of all prompt
            tokens' absolute scores.
    """

    name: str
    log_prob: float
    scores: Tensor
    shares: Tensor
    tokens: list[dict[str, Any]]
    patches: NDArray[np.float32]


def run_attribute(
    model: str,
    out: Path,
    *,
    teacher: str | None = None,
    sample: Sample,
    call: str | None = None,
    method: str = "gradient",
    steps: int = 32,
    max_turn_tokens: int = 512,
    device: str | None = None,
) -> dict[str, Any]:
    """Rolls a model out greedily on a sample, attributes its call, prints a table and writes a plot and all numbers.

    Args:
        model: The student's checkpoint.
        out: The folder to write `attribution.png` and `attribution.json` to.
        teacher: A checkpoint that explains the same call, if given.
        sample: The question about a picture.
        call: The first turn; the model's own if None.
        method: `gradient` (x embedding), `integrated` (gradients along the path from zero embeddings) or `occlusion`
            (blocks removed). Heat maps need scores of single tokens and show gradients with `occlusion` as well.
        steps: Points of the integrated path.
        max_turn_tokens: Longest turn in tokens.
        device: Where the models run; the CPU if None.

    Returns:
        What `attribution.json` holds.

    Raises:
        InputError: If the method is unknown, `steps` is below 1, `out` already holds an attribution, a checkpoint
            cannot be loaded, or the first turn has no call that can be attributed.
    """
    if method not in METHODS:
        raise InputError(f"no method {method!r}; use one of {', '.join(METHODS)}")
    if steps < 1:
        raise InputError(f"steps is {steps}; give at least 1")
    taken = [out / name for name in (JSON_NAME, PNG_NAME) if (out / name).exists()]
    if taken:
        raise InputError(f"{taken[0]} already exists; choose another --out or remove it")
    points = steps if method == "integrated" else 1
    student = load_policy(model, device=device)
    encoder = PromptEncoder(student.processor)
    one = _roll_out(student, encoder, sample, call, max_turn_tokens)
    explanations = {"student": explain(model, student, encoder, one.prompt, _turn(one), method, points)}
    if teacher is not None:
        other = student if teacher == model else load_policy(teacher, device=device)
        other_encoder = PromptEncoder(other.processor)
        (prompt,) = encode_prompts([sample], other_encoder)
        turn = _turn_for(other_encoder, one, encoder)
        explanations["teacher"] = explain(teacher, other, other_encoder, prompt, turn, method, points)
    divergence = None
    if teacher is not None:
        divergence = kl_divergence(explanations["student"].shares, explanations["teacher"].shares).item()
    score = grade(one.trace.final_text, sample.answers)
    out.mkdir(parents=True, exist_ok=True)
    numbers = _numbers(one, score, explanations, divergence, method, points)
    (out / JSON_NAME).write_text(json.dumps(numbers, indent=1) + "\n")
    _plot(out / PNG_NAME, one, score, explanations, divergence, method)
    console = Console(highlight=False, markup=False)
    for line in _lines(one, score, explanations):
        console.print(line, soft_wrap=True)
    console.print(_table(one, explanations, method))
    if divergence is not None:
        worst = worst_divergence(len(one.prompt.block_names))
        console.print(f"KL(student || teacher): {divergence:.4f} nats (at most log m = {worst:.4f})", soft_wrap=True)
    for name in (PNG_NAME, JSON_NAME):
        console.print(f"{'Plot' if name == PNG_NAME else 'Numbers'}: {out / name}", soft_wrap=True)
    return numbers


def chart_sample(family: str, index: int, *, seed: int, size: int) -> Sample:
    """One synthetic picture of the test split, with a question that the packaged models know.

    Args:
        family: One of `iapo.data.synthetic.FAMILIES`; the packaged models know `vbar` and `hbar`.
        index: Which one, from 0.
        seed: Of the charts.
        size: The picture's side in pixels.

    Raises:
        InputError: If an argument is outside what `iapo.data.synthetic.generate` takes, or the index is negative.
    """
    if index < 0:
        raise InputError(f"index is {index}; it must not be negative")
    charts = generate(family, index + 1, seed=seed, size=size, question_types=("value",), split="test")
    return next(itertools.islice(charts, index, None))


def read_sample(path: Path) -> Sample:
    """Reads a sample from a JSON file, as `Sample.to_json` makes it; a picture's path starts at the file's folder.

    Raises:
        InputError: If the file or its picture cannot be read, or it is not a sample.
    """
    try:
        return Sample.from_json(json.loads(path.read_text()), root=path.parent)
    except OSError as error:
        raise InputError(f"cannot read the sample {path}: {error}") from error
    except KeyError as error:
        raise InputError(f"{path} is not a sample: {error} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a sample: {error}") from error


def read_call(text: str) -> str:
    """A first turn as the command line gives it: the text itself, or `@file` with the text in it.

    Raises:
        InputError: If the file cannot be read.
    """
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the first turn from {text[1:]}: {error}") from error


def explain(
    name: str,
    policy: Policy,
    encoder: PromptEncoder,
    prompt: EncodedPrompt,
    turn: Turn,
    method: str = "gradient",
    steps: int = 1,
) -> Explanation:
    """Attributes one call by one model.

    Args:
        name: What the model is called.
        policy: The model.
        encoder: Its encoder.
        prompt: The prompt in its tokens.
        turn: The first turn in its tokens, and which of them belong to the program.
        method: One of `METHODS`.
        steps: 1, or the number of points of the integrated path.

    Raises:
        InputError: If an attribution is not finite.
    """
    pixels = encoder.pixels(prompt.images)
    pictures = Pictures(pixels["pixel_values"], pixels["image_grid_thw"])
    call = CallInput(
        prompt_ids=prompt.ids,
        block_of=prompt.block_of,
        blocks=len(prompt.block_names),
        turn_ids=turn[0],
        target=turn[1],
        picture=0,
    )
    tokens = token_scores(policy.model, call, pictures, steps).cpu()
    if method == "occlusion":
        scores = occlusion_scores(policy.model, [call], pictures)[0].cpu()
    else:
        scores = block_scores(policy.model, [call], pictures, steps)[0].cpu()
    settings = AttributionSettings()
    shares = block_distribution(scores, settings.normalization, settings.eps)
    merge = encoder.processor.image_processor.merge_size
    texts = [encoder.tokenizer.decode([token]) for token in prompt.ids]
    return Explanation(
        name=name,
        log_prob=call_log_probs(policy.model, [call], pictures).item(),
        scores=scores,
        shares=shares,
        tokens=[
            {"text": text, "block": prompt.block_names[block], "score": score}
            for text, block, score in zip(texts, prompt.block_of, tokens.tolist(), strict=True)
        ],
        patches=picture_shares(tokens, prompt.ids, encoder.image_token_id, pictures.grid_thw[0], merge),
    )


def _roll_out(
    policy: Policy, encoder: PromptEncoder, sample: Sample, call: str | None, max_turn_tokens: int
) -> Rollout:
    write = make_generate(policy, encoder, max_new_tokens=max_turn_tokens)
    if call is None:
        (one,) = rollout([sample], encoder, write)
    else:
        ids = [*_ids(encoder, call), encoder.tokenizer.eos_token_id]
        (one,) = finish([sample], encode_prompts([sample], encoder), [ids], encoder, write)
    result, text = one.trace.result, one.trace.turn_1
    if result.status not in ATTRIBUTED:
        why = "calls no tool (a call stands in a ```python block)"
        if result.status == "refused":
            why = f"has a program that is refused ({(result.error or '').rstrip('.')})"
        quoted = repr(text if len(text) <= 200 else text[:200] + "...")
        raise InputError(
            f"the first turn {why}, so that there is nothing to attribute: {quoted}; take another sample, or give a "
            "first turn with --call"
        )
    return one


def _ids(encoder: PromptEncoder, text: str) -> list[int]:
    """A text's tokens; nothing in it may turn into a control token."""
    return list(encoder.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def _turn(one: Rollout) -> Turn:
    return one.first.ids, one.first.target


def _turn_for(other: PromptEncoder, one: Rollout, own: PromptEncoder) -> Turn:
    """The first turn in another model's tokens; with one vocabulary these are the tokens themselves."""
    if other.tokenizer.get_vocab() == own.tokenizer.get_vocab():
        return _turn(one)
    first = read_first_turn(_ids(other, one.first.text), one.trace.sample, other)
    return first.ids, first.target


def _called(one: Rollout) -> list[str]:
    """Names of the blocks that define the tools of the call."""
    return [f"tool:{call.name}" for call in one.trace.result.calls]


def _program(one: Rollout) -> str:
    span = one.trace.result.span
    assert span is not None
    return one.trace.turn_1[slice(*span)].strip()


def _status(one: Rollout) -> str:
    result = one.trace.result
    if result.status == "failed":
        return f"failed ({result.error})"
    return f"{result.status}, with a tool of the wrong axis" if one.trace.misused else str(result.status)


def _answer(one: Rollout, score: Score) -> str:
    gold = " || ".join(one.trace.sample.answers)
    if score.answer is None:
        return f"none (gold: {gold})"
    return f"{score.answer} (right)" if score.value == 1 else f"{score.answer} (wrong; gold: {gold})"


def _lines(one: Rollout, score: Score, explanations: dict[str, Explanation]) -> list[str]:
    log_probs = ", ".join(f"{who} {found.log_prob:.3f}" for who, found in explanations.items())
    return [
        f"sample    {one.trace.sample.id}",
        f"question  {one.trace.sample.question}",
        "program   " + _program(one).replace("\n", "\n          "),
        f"status    {_status(one)}",
        f"answer    {_answer(one, score)}",
        f"log p     {log_probs} (of the program, in nats)",
    ]


def _table(one: Rollout, explanations: dict[str, Explanation], method: str) -> Table:
    called = _called(one)
    title = "; ".join(f"{who}: {found.name}" for who, found in explanations.items())
    # Names of checkpoints and tools are not markup.
    table = Table(
        title=Text(f"{method} attribution ({title})"), caption="* the call uses this tool" if called else None
    )
    table.add_column("block", no_wrap=True)
    for heading in ("student's score", *(f"{who}'s share" for who in explanations)):
        table.add_column(heading, justify="right")
    for index, name in enumerate(one.prompt.block_names):
        shares = [f"{found.shares[index].item():.3f}" for found in explanations.values()]
        score = f"{explanations['student'].scores[index].item():+.4f}"
        table.add_row(Text(name + (" *" if name in called else "")), score, *shares)
    return table


def _numbers(
    one: Rollout,
    score: Score,
    explanations: dict[str, Explanation],
    divergence: float | None,
    method: str,
    steps: int,
) -> dict[str, Any]:
    result = one.trace.result
    names, called = one.prompt.block_names, _called(one)
    return {
        "method": method,
        "steps": steps,
        "sample": one.trace.sample.to_json(),
        "turn_1": one.trace.turn_1,
        "program": _program(one),
        "status": result.status,
        "error": result.error,
        "calls": [call.to_json() for call in result.calls],
        "misused": one.trace.misused,
        "turn_2": one.trace.turn_2,
        "outcome": score.to_json(),
        "blocks": [
            {
                "name": name,
                "called": name in called,
                **{
                    who: {"score": found.scores[index].item(), "share": found.shares[index].item()}
                    for who, found in explanations.items()
                },
            }
            for index, name in enumerate(names)
        ],
        "divergence": divergence,
        "worst_divergence": worst_divergence(len(names)),
        "models": {
            who: {key: getattr(found, key) for key in ("name", "log_prob", "tokens")}
            | {"patches": found.patches.tolist()}
            for who, found in explanations.items()
        },
    }


def _plot(
    path: Path,
    one: Rollout,
    score: Score,
    explanations: dict[str, Explanation],
    divergence: float | None,
    method: str,
) -> None:
    lines = [one.trace.sample.question, _program(one), _status(one), f"answer: {_answer(one, score)}"]
    if divergence is not None:
        lines.append(f"KL(student || teacher) = {divergence:.3f} nats")
    panels = [Panel(f"{who}: {its.name}", its.patches, its.shares.tolist()) for who, its in explanations.items()]
    plot_call(
        path,
        one.trace.sample.image,
        panels,
        one.prompt.block_names,
        called=_called(one),
        title=lines,
        label=f"share of the attribution ({method})",
        heat_label=f"signed share of the token scores ({'gradient' if method == 'occlusion' else method})",
    )
