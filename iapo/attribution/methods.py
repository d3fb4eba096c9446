"""The attribution methods by name, for training and for `iapo attribute` alike; a new one is a line in `METHODS`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from iapo.attribution.attention import attention_scores, attention_token_scores
from iapo.attribution.given import real_tensor
from iapo.attribution.gradient import CallInput, Pictures, block_scores
from iapo.attribution.memory import budget_of
from iapo.attribution.occlusion import occlusion_scores
from iapo.attribution.prefix import prefix_block_scores
from iapo.attribution.settings import AttributionSettings
from iapo.attribution.tokens import all_token_scores
from iapo.errors import InputError
from iapo.kinds import checks_kinds
from iapo.plugins import is_reference, look_up, name_in, resolve, users_code

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Scores = Callable[["PreTrainedModel", Sequence[CallInput], Pictures, AttributionSettings], Tensor]
"""`(model, calls, pictures, settings)` -> scores of the calls' blocks, shape (len(calls), m)."""

TokenScores = Callable[["PreTrainedModel", Sequence[CallInput], Pictures, AttributionSettings], list[Tensor]]
"""The same arguments -> scores of each call's prompt tokens, shapes (P,)."""


@dataclass(frozen=True, slots=True)
class Method:
    """One attribution method.

    Attributes:
        name: Name as settings and plots call it.
        scores: Scores the blocks.
        cost: Cost of a call, in words.
        tokens: Scores single tokens, for heat maps; None where the method has no such scores.
        scores_with_log_probs: Scores, and from the same passes the log-probabilities of each turn's tokens up to the
            last scored one; None where they need a pass of their own.
        takes_steps: Whether `AttributionSettings.steps` counts, 2 at least.
        cuts_images: Whether an image's tokens may lie in several blocks (`AttributionSettings.image_cells`).
    """

    name: str
    scores: Scores
    cost: str
    tokens: TokenScores | None = None
    scores_with_log_probs: (
        Callable[[PreTrainedModel, Sequence[CallInput], Pictures, AttributionSettings], tuple[Tensor, list[Tensor]]]
        | None
    ) = None
    takes_steps: bool = False
    cuts_images: bool = True


def _gradient(
    model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures, settings: AttributionSettings
) -> Tensor:
    return prefix_block_scores(model, calls, pictures, budget=budget_of(model, settings.tokens))


def _gradient_with_log_probs(
    model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures, settings: AttributionSettings
) -> tuple[Tensor, list[Tensor]]:
    budget = budget_of(model, settings.tokens)
    return prefix_block_scores(model, calls, pictures, budget=budget, with_log_probs=True)


def _gradient_tokens(
    model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures, settings: AttributionSettings
) -> list[Tensor]:
    return all_token_scores(model, calls, pictures, budget=budget_of(model, settings.tokens))


def _integrated(
    model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures, settings: AttributionSettings
) -> Tensor:
    return block_scores(model, calls, pictures, settings.steps, budget_of(model, settings.tokens))


def _integrated_tokens(
    model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures, settings: AttributionSettings
) -> list[Tensor]:
    return all_token_scores(model, calls, pictures, settings.steps, budget_of(model, settings.tokens))


def _occlusion(
    model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures, settings: AttributionSettings
) -> Tensor:
    return occlusion_scores(model, calls, pictures, settings.batch_size, budget_of(model, settings.tokens))


def _attention(
    model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures, settings: AttributionSettings
) -> Tensor:
    return attention_scores(model, calls, pictures, budget_of(model, settings.tokens))


def _attention_tokens(
    model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures, settings: AttributionSettings
) -> list[Tensor]:
    return attention_token_scores(model, calls, pictures, budget_of(model, settings.tokens))


METHODS: Mapping[str, Method] = {
    "gradient": Method(
        "gradient",
        _gradient,
        "a forward and a backward pass, the prompt's shared by a group",
        tokens=_gradient_tokens,
        scores_with_log_probs=_gradient_with_log_probs,
    ),
    "integrated": Method(
        "integrated",
        _integrated,
        "a forward and a backward pass for each point of the path",
        tokens=_integrated_tokens,
        takes_steps=True,
    ),
    "occlusion": Method("occlusion", _occlusion, "a forward pass for each block, and one", cuts_images=False),
    "attention": Method("attention", _attention, "a forward pass", tokens=_attention_tokens),
}
"""By name; docs/method.md has their mathematics."""


@checks_kinds
def find_method(name: str) -> Method:
    """Returns the attribution method of that name.

    Args:
        name: One of `METHODS`, or a reference (`iapo.plugins`) to a `Method`, or to a function
            `(model, calls, pictures, settings) -> scores`, shape (len(calls), m).

    Raises:
        InputError: If there is none.
    """
    if not is_reference(name):
        return look_up(METHODS, name, "attribution method")
    found = resolve(name, "attribution method", _is_method, "a function (model, calls, pictures, settings)")
    if inspect.iscoroutinefunction(found):
        raise InputError(f"attribution method {name!r} is async; give a plain function")
    if isinstance(found, Method):
        return found if found in METHODS.values() else _own(name, found)
    return Method(name_in(name), _checked(name, found), "the function's own")


def chosen_method(settings: AttributionSettings) -> Method:
    """Returns the method of settings; where they name none, the gradient, or with several steps the integrated path.

    Raises:
        InputError: If there is none, or it does not go with the number of steps.
    """
    if settings.steps < 1:
        raise InputError(f"attribution steps are {settings.steps}; give at least 1")
    method = find_method(settings.method_name)
    if method.takes_steps and settings.steps == 1:
        raise InputError(f"attribution method {method.name!r} needs a path of 2 steps at least; set 32 steps, say")
    if settings.steps > 1 and method is METHODS["gradient"]:
        raise InputError(f"attribution method 'gradient' has one step, not {settings.steps}; take 'integrated'")
    if settings.image_cells > 1 and not method.cuts_images:
        raise InputError(
            f"attribution_image_cells is {settings.image_cells}, but attribution method {method.name!r} removes an "
            "image as a whole; set attribution_image_cells to 1, or take another method"
        )
    return method


def _is_method(value: object) -> bool:
    return isinstance(value, Method) or callable(value)


def _own(name: str, method: Method) -> Method:
    """Returns a method of the user's own, with what its functions raise and give looked at."""
    what, tokens, both = f"attribution method {name!r}", method.tokens, method.scores_with_log_probs

    def given_tokens(
        model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures, settings: AttributionSettings
    ) -> list[Tensor]:
        assert tokens is not None
        with users_code(what, tokens):
            found = tokens(model, calls, pictures, settings)
        return _each(f"{what} (tokens)", found, [len(call.prompt_ids) for call in calls])

    def given_both(
        model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures, settings: AttributionSettings
    ) -> tuple[Tensor, list[Tensor]]:
        assert both is not None
        with users_code(what, both):
            found: Any = both(model, calls, pictures, settings)
        if not isinstance(found, tuple) or len(found) != 2:
            raise InputError(f"{what} (scores_with_log_probs) gives a {type(found).__name__}; give (scores, log_probs)")
        scores, log_probs = found
        told = _each(f"{what} (log_probs)", log_probs, [call.length for call in calls])
        return _scores(what, scores, calls), told

    return replace(
        method,
        scores=_checked(name, method.scores),
        tokens=tokens and given_tokens,
        scores_with_log_probs=both and given_both,
    )


def _checked(name: str, function: Scores) -> Scores:
    """Returns the function, with what it returns checked: a wrong shape would be taken for scores of other blocks."""

    def scores(
        model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures, settings: AttributionSettings
    ) -> Tensor:
        with users_code(f"attribution method {name!r}", function):
            found = function(model, calls, pictures, settings)
        return _scores(f"attribution method {name!r}", found, calls)

    return scores


def _scores(what: str, found: Any, calls: Sequence[CallInput]) -> Tensor:
    wanted = (len(calls), calls[0].blocks)
    return real_tensor(what, found, wanted, f"give a tensor of shape {wanted}")


def _each(what: str, found: Any, lengths: Sequence[int]) -> list[Tensor]:
    if not isinstance(found, list | tuple) or len(found) != len(lengths):
        shown = f"{len(found)} of them" if isinstance(found, list | tuple) else f"a {type(found).__name__}"
        raise InputError(f"{what} gives {shown}; give a list of {len(lengths)} tensors, one a call")
    return [
        real_tensor(what, one, (length,), f"give a tensor of shape {(length,)} for each call")
        for one, length in zip(found, lengths, strict=True)
    ]
