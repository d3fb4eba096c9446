"""What is explained of a token: its log-probability, or a score that does not saturate where a model is sure.

See docs/method.md, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from iapo.attribution.forms import Score
from iapo.attribution.memory import by_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Scored(Protocol):
    """What is needed of a call; see `iapo.attribution.gradient.CallInput`."""

    @property
    def target(self) -> Sequence[bool]:
        """Turn tokens that are scored."""

    @property
    def others(self) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """By place in the turn, the tokens that `contrast` sets the scored one there against."""


def token_log_probs(model: PreTrainedModel, hidden: Tensor, tokens: Tensor) -> Tensor:
    """Computes log-probabilities of tokens, shape (K,), from what predicts them, shape (K, hidden units), in fp32."""

    def of_some(hidden: Tensor, tokens: Tensor) -> Tensor:
        return -cross_entropy(model.lm_head(hidden).float(), tokens, reduction="none")

    return by_rows(of_some, hidden, tokens, _vocabulary(model, hidden))


def token_values(
    model: PreTrainedModel, hidden: Tensor, tokens: Tensor, score: Score, others: Tensor | None = None
) -> Tensor:
    """Computes scores of tokens in fp32; z are the logits at a position, t its token.

    `log_prob` is `log softmax(z)_t`, `logit` is `z_t - mean z`, `log_odds` is `z_t - logsumexp` of all other logits,
    which is `log p - log(1 - p)`, and `contrast` is `z_t - logsumexp` of the logits of some other tokens.

    Args:
        model: The model.
        hidden: Hidden states that predict the tokens, shape (K, hidden units).
        tokens: The tokens, shape (K,).
        score: Name of the score.
        others: Tokens that `contrast` sets each one against, shape (K, A), filled up with -1; where a row has none, or
            this is None, all other tokens are.

    Returns:
        Scores, shape (K,).
    """
    if score == "log_prob":
        return token_log_probs(model, hidden, tokens)
    own = tokens[:, None]

    def of_some(hidden: Tensor, packed: Tensor) -> Tensor:
        logits = model.lm_head(hidden).float()
        own, against = packed[:, :1], packed[:, 1:]
        value = logits.gather(-1, own).squeeze(-1)
        if score == "logit":
            return value - logits.mean(-1)
        rest = logits.scatter(-1, own, -torch.inf).logsumexp(-1)
        if against.shape[1]:
            picked = logits.gather(-1, against.clamp_min(0)).masked_fill(against < 0, -torch.inf)
            has_none = (against < 0).all(-1)
            # A sum of nothing has no gradient, also where it is not taken.
            named = picked.masked_fill(has_none[:, None], 0.0).logsumexp(-1)
            rest = torch.where(has_none, rest, named)
        return value - rest

    packed = torch.cat([own, others], 1) if others is not None and score == "contrast" else own
    return by_rows(of_some, hidden, packed, _vocabulary(model, hidden))


def others_of(calls: Sequence[Scored], device: torch.device) -> Tensor | None:
    """Returns what `token_values` sets scored tokens against, in their order; None where nothing is given."""
    if not any(call.others for call in calls):
        return None
    given = [dict(call.others) for call in calls]
    places = [(row, place) for row, call in enumerate(calls) for place, scored in enumerate(call.target) if scored]
    found = [given[row].get(place, ()) for row, place in places]
    longest = max(len(one) for one in found)
    rows = [[*one, *(-1 for _ in range(longest - len(one)))] for one in found]
    return torch.tensor(rows, dtype=torch.long, device=device).reshape(len(rows), longest)


def _vocabulary(model: PreTrainedModel, hidden: Tensor) -> int:
    # Wrappers of the head, PEFT's for one, do not tell how wide it is.
    return getattr(model.lm_head, "out_features", None) or len(model.lm_head(hidden[0].detach()))
