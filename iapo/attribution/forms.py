"""What of a call is explained, and how explanations are compared: single settings, and bundles of them by name.

Without torch, so that a wrong setting is refused at once. docs/forms.md says what each is good for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from iapo.errors import InputError, unknown

Target = Literal["call", "turn", "name"]
Score = Literal["log_prob", "logit", "log_odds", "contrast"]
Normalization = Literal["magnitude", "softmax", "floored", "signed"]
BlockSet = Literal["all", "tools", "tools+image", "tools+image+question"]
TeacherReference = Literal["student_call", "own_call", "both"]
Control = Literal[
    "none",
    "student_uniform",
    "student_named",
    "student_same_tools",
    "student_shuffled",
    "teacher_shuffled",
    "teacher_random",
    "entropy",
]


@dataclass(frozen=True, slots=True)
class Form:
    """One way to explain calls and to compare the explanations.

    Attributes:
        teacher_reference: Call that the teacher explains.
        attribution_score: Score of a token that is explained.
        attribution_target: Tokens whose scores are summed up and explained.
        attribution_normalization: Rule by which block scores become shares.
        attribution_temperature: Divisor of the scores under `softmax`.
        attribution_floor: Addend to each block's magnitude under `floored`.
        attribution_blocks: Blocks that are compared.
        attribution_image_cells: Number of cells along each side of an image, each a block of its own; 1 is the whole.
    """

    teacher_reference: TeacherReference = "student_call"
    attribution_score: Score = "log_prob"
    attribution_target: Target = "call"
    attribution_normalization: Normalization = "magnitude"
    attribution_temperature: float = 1.0
    attribution_floor: float = 0.5
    attribution_blocks: BlockSet = "all"
    attribution_image_cells: int = 1


FORMS: Mapping[str, Form] = {
    "paper": Form(),
    "softmax": Form(attribution_normalization="softmax"),
    "logit_floor": Form(attribution_score="logit", attribution_normalization="floored"),
    "name_odds": Form("own_call", "log_odds", "name", "softmax"),
    "name_signed": Form("own_call", "logit", "name", "signed", attribution_blocks="tools"),
    "name_contrast": Form("own_call", "contrast", "name", "softmax"),
}
"""Forms by name. `paper` is the paper's text as docs/method.md reads it, `name_odds` the one that carried best
(docs/results.md).
"""

_KINDS: Mapping[BlockSet, tuple[str, ...]] = {
    "tools": ("tool:",),
    "tools+image": ("tool:", "image_"),
    "tools+image+question": ("tool:", "image_", "query"),
}


def find_form(name: str) -> Form:
    """Returns the form of that name.

    Raises:
        InputError: If there is none.
    """
    if name not in FORMS:
        raise unknown("attribution form", name, FORMS)
    return FORMS[name]


def usual_form(given: Mapping[str, Any], *, explains_student: bool) -> str:
    """Returns the form of a training that names none.

    It is `name_odds`, which needs the teacher's own call and the gradient of log-odds. Single settings, other methods,
    and what has the teacher explain the student's call, start from the paper's form.

    Args:
        given: Settings by name: fields of `Form`, `attribution_method`, `attribution_steps`, `alignment_control`.
        explains_student: Whether something else needs the student's own call explained by the teacher.
    """
    single = any(given.get(name) is not None for name in asdict(Form()))
    method = given.get("attribution_method") is not None or given.get("attribution_steps", 1) != 1
    random = given.get("alignment_control") == "teacher_random"
    return "paper" if single or method or random or explains_student else "name_odds"


def form_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Completes the settings of a form.

    Args:
        given: Settings by name: `attribution_form` (`paper` where there is none), and fields of `Form`, of which
            None and those that are missing are left to the form. Others are ignored.

    Returns:
        All fields of `Form` by name.

    Raises:
        InputError: If there is no such form.
    """
    form = asdict(find_form(given.get("attribution_form") or "paper"))
    return {name: own if given.get(name) is None else given[name] for name, own in form.items()}


def check_form(given: Mapping[str, Any]) -> None:
    """Refuses settings of a form that cannot be, or not together.

    Args:
        given: Settings by name, as in `form_values`; also `attribution_eps`, `teacher_table` and `alignment_control`.

    Raises:
        InputError: If there are such.
    """
    values = form_values(given)
    temperature, floor = values["attribution_temperature"], values["attribution_floor"]
    if not 0 < temperature < float("inf"):
        raise InputError(f"attribution_temperature is {temperature}; give a number above 0")
    if not 0 <= floor < float("inf"):
        raise InputError(f"attribution_floor is {floor}; give 0 or a number above it")
    eps = given.get("attribution_eps")
    if eps is not None and not 0 < eps < 1:
        raise InputError(f"attribution_eps is {eps}; it must lie between 0 and 1")
    if values["attribution_score"] == "contrast" and values["attribution_target"] != "name":
        raise InputError(
            "attribution_score contrast sets the called tool's name against the other offered ones, but "
            f"attribution_target is {values['attribution_target']}; set attribution_target to name"
        )
    has_table = given.get("teacher_table") is not None
    if has_table and values["teacher_reference"] == "both":
        raise InputError(
            "teacher_reference both needs a live teacher, which a teacher_table replaces; set teacher_reference to "
            "own_call, or leave teacher_table out"
        )
    if given.get("alignment_control") == "teacher_random":
        if has_table:
            raise InputError("alignment_control teacher_random draws a live teacher's weights; leave teacher_table out")
        if values["teacher_reference"] != "student_call":
            raise InputError(
                "alignment_control teacher_random needs teacher_reference student_call, not "
                f"{values['teacher_reference']}: a teacher with random weights writes no call of its own"
            )


def compared_blocks(names: Sequence[str], blocks: BlockSet) -> list[int]:
    """Returns the places of the blocks that are compared.

    Args:
        names: Names of a prompt's blocks, as `iapo.rollout.prompt.build_blocks` gives them.
        blocks: Set of blocks.

    Raises:
        InputError: If fewer than two are left, so that there is nothing to compare.
    """
    if blocks == "all":
        return list(range(len(names)))
    found = [index for index, name in enumerate(names) if name.startswith(_KINDS[blocks])]
    if len(found) < 2:
        raise InputError(
            f"attribution_blocks {blocks} leaves {len(found)} of the prompt's {len(names)} blocks, and at least two "
            "are needed to compare; offer more tools, or take a wider set"
        )
    return found


def tools_in(names: Sequence[str]) -> list[str]:
    """Returns the names of the tools that a prompt's blocks define."""
    return [name.removeprefix("tool:") for name in names if name.startswith("tool:")]
