"""A teacher misaligned on purpose, whose reward prefers tools of the wrong axis: what does a bad teacher teach?

    iapo train --config demo-grpo --reward examples/misaligned.py:wrong_axis --output_dir runs/misaligned/teacher
    iapo study ablate --file examples/misaligned.yaml --out runs/misaligned/students

The second command trains students by this teacher, in the forms and with the settings of docs/results.md.
"""


def wrong_axis(trace, outcome):
    """The outcome, and half as much for a call along the other axis than the picture's."""
    return outcome + 0.5 * trace.misused
