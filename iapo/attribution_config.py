"""What a training's configuration says about attribution."""

from __future__ import annotations

from iapo.attribution.calls import AttributionSettings
from iapo.config import IAPOConfig


def alignment_settings(args: IAPOConfig) -> AttributionSettings:
    """The part of the configuration that says how attributions are computed and compared."""
    return AttributionSettings(
        target=args.attribution_target,
        normalization=args.attribution_normalization,
        eps=args.attribution_eps,
        steps=args.attribution_steps,
        no_call=args.no_call_divergence,
        batch_size=args.attribution_batch_size,
        teacher_reference=args.teacher_reference,
        teacher_table=args.teacher_table,
        max_turn_tokens=args.max_turn_tokens or args.max_completion_length,
        log_probs=args.distills,
    )
