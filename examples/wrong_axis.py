"""A reward that prefers tools of the wrong axis, to train a teacher that is misaligned on purpose (docs/results.md).

    iapo train --config demo-grpo --reward examples/wrong_axis.py:wrong_axis --output_dir runs/misaligned
"""


def wrong_axis(trace, outcome):
    """The outcome, and a half more where the call is along the other axis than the image's."""
    return outcome + 0.5 * trace.misused
