"""`iapo attribute`: which part of the prompt one tool call came from, for a student and beside it for a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from iapo.attribution.calls import ATTRIBUTED, Turn
from iapo.attribution.methods import chosen_method
from iapo.attribution.settings import AttributionSettings
from iapo.display.heatmap import Panel, plot_call
from iapo.display.quiet import quiet_libraries
from iapo.errors import InputError
from iapo.grading.outcome import grade_sample
from iapo.kinds import checks_kinds
from iapo.records import Sample, Score
from iapo.results import write_result
from iapo.rewards.alignment import Alignment
from iapo.rollout.budget import Budget, check_lengths, context_length
from iapo.rollout.generation import make_generate
from iapo.rollout.load_settings import placed
from iapo.rollout.policy import Policy, load_policy, see_alike
from iapo.rollout.prompt import EncodedPrompt, PromptEncoder
from iapo.rollout.turns import Rollout, encode_prompts, finish, read_turn, rollout
from iapo.storage import check_new, make_folder, together
from iapo.studies.attribute_given import no_call
from iapo.studies.attribute_inputs import AttributePlan
from iapo.studies.explanations import Explanation, explain
from iapo.teachers.references import make_reference
from iapo.teachers.student_call import StudentCall
from iapo.tools import ToolDefinition, offered_tools

JSON_NAME, PNG_NAME = "attribution.json", "attribution.png"

WRITTEN = (
    *("target", "score", "normalization", "temperature", "floor", "blocks", "image_cells", "eps"),
    *("teacher_reference", "no_call"),
)
"""Settings that are written beside the numbers."""


@checks_kinds
def run_attribute(
    plan: AttributePlan, out: Path, *, sample: Sample, call: str | None = None, device: str | None = None
) -> dict[str, Any]:
    """Rolls a model out greedily on a sample, attributes its call, prints a table and writes a plot and all numbers.

    Args:
        plan: The models and how they are compared. Heat maps need scores of single tokens, and show the gradient's
            where the method has none.
        out: The folder to write `attribution.png` and `attribution.json` to.
        sample: The question about an image.
        call: The first turn; the model's own if None.
        device: Device of the models; the CPU if None.

    Returns:
        What `attribution.json` holds.

    Raises:
        InputError: If the plan cannot be, `out` already holds an attribution, a checkpoint cannot be loaded, prompt and
            turns are longer than what a model takes, or the turn has no call that can be attributed.
    """
    settings, tools = plan.settings, offered_tools(plan.tools, plan.tool_timeout)
    method = chosen_method(settings)
    if not tools:
        raise InputError("tools are none; there is no call to attribute without a tool")
    check_new(out, JSON_NAME, PNG_NAME)
    with quiet_libraries():
        student = load_policy(plan.model, placed(plan.loading, device), prompt=plan.prompt)
    encoder = PromptEncoder(student.processor)
    whole = _roll_out(student, encoder, sample, call, plan, tools)
    one = whole.from_turn(plan.turn - 1, encoder)
    explanations = {"student": explain(plan.model, student, encoder, one.prompt, _turn(one), settings)}
    divergence = None
    if plan.teacher is not None:
        other = _other(plan, student, device)
        other_encoder = PromptEncoder(other.processor, encoder.template)
        reference = make_reference(settings, other, encoder, tools)
        if isinstance(reference, StudentCall):
            (prompt,), turn = reference.prompts([one]), reference.turn_of(one)
        else:
            (prompt,) = encode_prompts([sample], other_encoder, tools)
            turn = _turn_for(other_encoder, one, encoder, tools)
        if settings.teacher_reference == "own_call":
            check_fits(plan.teacher, other, prompt, settings.max_turn_tokens)
            turn = _own_turn(other, other_encoder, prompt, sample, settings.max_turn_tokens, tools)
        check_fits(plan.teacher, other, prompt, len(turn[0]))
        # As the reward measures it, worst where the teacher makes no call of its own.
        (measured,) = Alignment(reference, encoder, settings, tools).measure(student.model, [one.first_alone()])
        divergence = measured.divergence
        if any(turn[1]):
            explanations["teacher"] = explain(plan.teacher, other, other_encoder, prompt, turn, settings)
    score = grade_sample(one.trace.final_text, sample)
    make_folder(out)
    numbers = _numbers(one, score, explanations, divergence, settings) | {"prompt": encoder.template.to_json()}
    heat = method.name if method.tokens is not None else "gradient"
    with together([out / JSON_NAME, *plots_of(out / PNG_NAME, one)]):
        write_result(out / JSON_NAME, "attribution", numbers)
        _plot(out / PNG_NAME, one, score, explanations, divergence, (method.name, heat), _measure(settings))
    console = Console(highlight=False, markup=False)
    for line in _lines(one, score, explanations):
        console.print(line, soft_wrap=True)
    console.print(_table(one, explanations, method.name))
    if divergence is not None:
        worst = settings.worst(len(settings.places(one.prompt.block_names)))
        silent = "" if "teacher" in explanations else "; the teacher makes no call of its own"
        console.print(
            f"{_measure(settings)}: {divergence:.4f} nats (at most log m = {worst:.4f}{silent})"
            if settings.normalization != "signed"
            else f"{_measure(settings)}: {divergence:.4f} (at most {worst:.0f}{silent})",
            soft_wrap=True,
        )
    for path in plots_of(out / PNG_NAME, one):
        console.print(f"Plot: {path}", soft_wrap=True)
    console.print(f"Numbers: {out / JSON_NAME}", soft_wrap=True)
    return numbers


def plots_of(path: Path, one: Rollout) -> dict[Path, int]:
    """Returns the files of the plots, with the place of the image that each shows among the prompt's.

    There is one, of the image that was shown last; where the prompt has several, of the sample or of what tools made
    before, `attribution.image_1.png` and so on are those of the others.
    """
    last = len(one.prompt.images) - 1
    others = {path.with_name(f"{path.stem}.image_{place + 1}{path.suffix}"): place for place in range(last)}
    return {**others, path: last}


def _other(plan: AttributePlan, student: Policy, device: str | None) -> Policy:
    """Returns the teacher, which is the student where both are the same, and sees images as the student does."""
    assert plan.teacher is not None
    if (plan.teacher, plan.teacher_loading) == (plan.model, plan.loading):
        return student
    with quiet_libraries():
        teacher = load_policy(plan.teacher, placed(plan.teacher_loading, device))
    see_alike(teacher.processor, student.processor, plan.loading)
    return teacher


def check_fits(name: str, policy: Policy, prompt: EncodedPrompt, turn: int) -> None:
    """Refuses a prompt and a turn that are together longer than what a model takes.

    Args:
        name: The model.
        policy: The same, loaded.
        prompt: The prompt.
        turn: Tokens of the turn.

    Raises:
        InputError: If so.
    """
    context = context_length(policy.model.config)
    if len(prompt.ids) + turn > context:
        raise InputError(
            f"the prompt has {len(prompt.ids)} tokens and the turn {turn}, together {len(prompt.ids) + turn}, but "
            f"{name} takes {context}; give a shorter turn or question, or fewer tools"
        )


def _roll_out(
    policy: Policy,
    encoder: PromptEncoder,
    sample: Sample,
    call: str | None,
    plan: AttributePlan,
    tools: Mapping[str, ToolDefinition],
) -> Rollout:
    longest, context = plan.settings.max_turn_tokens, context_length(policy.model.config)
    write = make_generate(policy, encoder, max_new_tokens=longest)
    budget = Budget(turns=plan.max_turns)
    if call is None:
        limits = Budget(longest, sequence=context, turns=plan.max_turns)
        check_lengths([sample], encoder, limits, context, tools)
        (one,) = rollout([sample], encoder, write, tools=tools, budget=budget)
    else:
        ids = [*_ids(encoder, call), encoder.tokenizer.eos_token_id]
        prompts = encode_prompts([sample], encoder, tools)
        check_fits(plan.model, policy, prompts[0], len(ids))
        written = len(ids) + (plan.max_turns - 1) * longest
        limits = Budget(written=written, sequence=context, turns=plan.max_turns)
        check_lengths([sample], encoder, limits, context, tools)
        (one,) = finish([sample], prompts, [ids], encoder, write, tools=tools, budget=budget)
    if len(one.turns) < plan.turn:
        raise InputError(f"the rollout has {len(one.turns)} turns, and no turn {plan.turn}; explain another one")
    result, text = one.trace.turns[plan.turn - 1].result, one.trace.turns[plan.turn - 1].text
    if result.status not in ATTRIBUTED:
        why = "calls no tool (a call stands in a ```python block)"
        if result.status == "refused":
            why = f"has a program that is refused ({(result.error or '').rstrip('.')})"
        raise InputError(no_call("first turn" if plan.turn == 1 else f"turn {plan.turn}", why, text))
    return one


def _ids(encoder: PromptEncoder, text: str) -> list[int]:
    """Returns a text's tokens; nothing in it may turn into a control token."""
    return list(
        encoder.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    )


def _turn(one: Rollout) -> Turn:
    return one.first.ids, one.first.target


def _turn_for(other: PromptEncoder, one: Rollout, own: PromptEncoder, tools: Mapping[str, ToolDefinition]) -> Turn:
    """Returns the first turn in another model's tokens; with one vocabulary these are the tokens themselves."""
    if other.tokenizer.get_vocab() == own.tokenizer.get_vocab():
        return _turn(one)
    first = read_turn(_ids(other, one.first.text), one.trace.sample, other, tools)
    return first.ids, first.target


def _own_turn(
    policy: Policy,
    encoder: PromptEncoder,
    prompt: EncodedPrompt,
    sample: Sample,
    max_turn_tokens: int,
    tools: Mapping[str, ToolDefinition],
) -> Turn:
    """Returns a model's own greedy first turn; no token of it is scored where it makes no call that has an
    attribution.
    """
    write = make_generate(policy, encoder, max_new_tokens=max_turn_tokens)
    (ids,) = write([prompt.ids], [list(prompt.images)])
    first = read_turn(ids, sample, encoder, tools)
    return first.ids, first.target if first.result.status in ATTRIBUTED else [False] * len(first.ids)


def _measure(settings: AttributionSettings) -> str:
    """Names what student and teacher are compared by."""
    name = "half the L1 distance" if settings.normalization == "signed" else "KL(student || teacher)"
    return f"mean {name} for both calls" if settings.teacher_reference == "both" else name


def _called(one: Rollout) -> list[str]:
    """Returns the names of the blocks that define the tools of the call."""
    return [f"tool:{call.name}" for call in one.trace.result.calls]


def _program(one: Rollout) -> str:
    span = one.trace.result.span
    assert span is not None
    return one.trace.turn_1[slice(*span)].strip()


def _status(one: Rollout) -> str:
    result = one.trace.result
    if result.status == "failed":
        return f"failed ({result.error})"
    if not one.trace.misused:
        return str(result.status)
    judged = any(call.misused for call in result.calls)
    return f"{result.status}, {'judged to be misuse' if judged else 'with a tool of the wrong axis'}"


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
    for index, name in enumerate(explanations["student"].blocks):
        shares = [f"{found.shares[index].item():.3f}" for found in explanations.values()]
        score = f"{explanations['student'].scores[index].item():+.4f}"
        table.add_row(Text(name + (" *" if name in called else "")), score, *shares)
    return table


def _numbers(
    one: Rollout,
    score: Score,
    explanations: dict[str, Explanation],
    divergence: float | None,
    settings: AttributionSettings,
) -> dict[str, Any]:
    result = one.trace.result
    names, called, several = explanations["student"].blocks, _called(one), len(one.prompt.images) > 1
    return {
        "method": settings.method_name,
        "steps": settings.steps,
        "settings": {name: getattr(settings, name) for name in WRITTEN},
        "sample": one.trace.sample.to_json(),
        "turn_1": one.trace.turn_1,
        **({"turn": 1 + len(one.past)} if one.past else {}),
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
        "worst_divergence": settings.worst(len(settings.places(one.prompt.block_names))),
        "models": {
            who: {key: getattr(found, key) for key in ("name", "log_prob", "tokens")}
            | {"patches": found.patches.tolist()}
            | ({"images": {name: one.tolist() for name, one in found.maps.items()}} if several else {})
            for who, found in explanations.items()
        },
    }


def _plot(
    path: Path,
    one: Rollout,
    score: Score,
    explanations: dict[str, Explanation],
    divergence: float | None,
    methods: tuple[str, str],
    measure: str,
) -> None:
    lines = [one.trace.sample.question, _program(one), _status(one), f"answer: {_answer(one, score)}"]
    if divergence is not None:
        lines.append(f"{measure} = {divergence:.3f}")
    for name, place in plots_of(path, one).items():
        panels = [
            Panel(f"{who}: {its.name}", list(its.maps.values())[place], its.shares.tolist())
            for who, its in explanations.items()
        ]
        plot_call(
            name,
            one.prompt.images[place],
            panels,
            explanations["student"].blocks,
            called=_called(one),
            title=lines,
            label=f"share of the attribution ({methods[0]})",
            heat_label=f"signed share of the token scores ({methods[1]})",
        )
