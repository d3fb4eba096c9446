"""`overlap`: the outcome, and whether the call comes from where in the image its boxes lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from iapo.attribution.calls import ATTRIBUTED, Attributor
from iapo.attribution.overlap import lift
from iapo.attribution.settings import AttributionSettings
from iapo.records import Trace
from iapo.rewards.columns import Column, Preset, Sources, reward
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import Rollout
from iapo.samples import Box

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHT = 0.1
WORST = -1.0
"""Of a rollout that calls nothing: were it 0, not calling would please an explanation that looks beside its boxes."""


@reward("overlaps")
def preset(sources: Sources) -> Preset:
    """Makes the reward `R = outcome + w_k overlap`, which asks no teacher.

    The overlap is `iapo.attribution.overlap.lift` of the call's attribution in the boxes of the columns and rows that
    the call names. It is not in the paper: where the boxes are known, an explanation can be checked against them, as
    Saliency-R1 (arXiv 2604.04500) checks that of an answer against annotated boxes; ours are the call's own, and a
    call that names all there is gains nothing. `w_k` is 0.1 at first and decays as the penalty's weight does.
    """

    def overlap(rollout: Sequence[Rollout], **columns: Any) -> list[float]:
        return sources.overlaps(rollout)

    return Preset((Column("overlap", overlap, WEIGHT, sources.penalty_decay, sources.penalty_scope),))


def overlaps(
    student: PreTrainedModel, encoder: PromptEncoder, settings: AttributionSettings, rollouts: Sequence[Rollout]
) -> list[float]:
    """Measures the overlap of each rollout's first call.

    Args:
        student: The student as it is now, unwrapped.
        encoder: Its encoder.
        settings: Settings of the attribution; how shares are normalised and compared does not matter.
        rollouts: The batch.

    Returns:
        One number a rollout, from -1 to 1; -1 without a call in the first turn's allowed language, 0 where no box of
        what it names is known.
    """
    called = [index for index, one in enumerate(rollouts) if one.trace.result.status in ATTRIBUTED]
    found = [WORST] * len(rollouts)
    if called:
        attributor = Attributor(student, encoder.pixels, settings, tokenizer=encoder.tokenizer)
        turns = [(rollouts[index].first.ids, rollouts[index].first.target) for index in called]
        grids = attributor.patches([rollouts[index].prompt for index in called], turns)
        # Boxes are in the first image.
        for index, (grid, *_) in zip(called, grids, strict=True):
            trace = rollouts[index].trace
            found[index] = lift(grid, called_boxes(trace), trace.sample.image.size)
    return found


def called_boxes(trace: Trace) -> list[Box]:
    """Returns the boxes of the columns or rows that a rollout's first program names."""
    sample = trace.sample
    by_axis = {"columns": sample.column_boxes, "rows": sample.row_boxes}
    return [
        by_axis[call.axis][name]
        for call in trace.result.calls
        if call.axis is not None
        for name in call.targets
        if name in by_axis[call.axis]
    ]
