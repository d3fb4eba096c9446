"""The table at the end of a training."""

from __future__ import annotations

from rich.console import Console

from iapo.display.tables import training_table
from iapo.estimates import Estimate
from iapo.results import TrainingEvaluation


def written(evaluation: TrainingEvaluation) -> list[list[str]]:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(training_table(evaluation))
    lines = capture.get().splitlines()
    return [[cell.strip() for cell in line.strip("│┃ ").split("│")] for line in lines if line.startswith("│")]


def estimate(value: float) -> Estimate:
    return Estimate(value, value - 0.1, value + 0.1, 10)


def evaluated(**more: object) -> TrainingEvaluation:
    return TrainingEvaluation(
        {"temperature": 1.0},
        10,
        {"accuracy": estimate(0.3), "misuse": estimate(0.8)},
        {"accuracy": estimate(0.9), "misuse": estimate(0.1)},
        {"outcome": estimate(0.6), "misuse": estimate(-0.7)},
        {},
        {},
        **more,  # type: ignore[arg-type]
    )


def test_each_measure_has_its_difference() -> None:
    assert written(evaluated()) == [
        ["accuracy", "0.300 [0.200, 0.400]", "0.900 [0.800, 1.000]", "+0.600 [+0.500, +0.700]"],
        ["misuse", "0.800 [0.700, 0.900]", "0.100 [0.000, 0.200]", "-0.700 [-0.800, -0.600]"],
    ]


def test_greedy_measures_stand_below_and_may_have_no_difference() -> None:
    greedy = {"before": {"accuracy": estimate(0.2)}, "after": {"accuracy": estimate(0.8)}}
    found = written(evaluated(greedy=greedy, greedy_differences={"outcome": estimate(0.6)}))
    greedy_row = ["accuracy, greedy", "0.200 [0.100, 0.300]", "0.800 [0.700, 0.900]", "+0.600 [+0.500, +0.700]"]
    assert found[2:] == [greedy_row]
    # An evaluation of an earlier version does not say.
    assert written(evaluated(greedy=greedy))[2][3] == "-"
