"""The table at the end of `make fuzz`."""

from __future__ import annotations

import fuzzing
import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not fuzzing.MINUTES:
        return
    terminalreporter.section(f"inputs tried in {fuzzing.MINUTES:g} minutes")
    for count in fuzzing.COUNTS:
        terminalreporter.write_line(f"{count.kind:<40} {count.inputs:>9,} inputs {count.bad:>4} bad outcomes")
