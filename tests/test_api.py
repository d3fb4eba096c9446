"""The names that `import iapo` promises."""

from __future__ import annotations

import sys

import pytest
from processes import run as run_process

import iapo


def test_every_promised_name_is_there() -> None:
    for name in iapo.__all__:
        assert getattr(iapo, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = iapo.nothing


def test_import_needs_no_torch() -> None:
    code = "import sys, iapo; iapo.execute; assert 'torch' not in sys.modules"
    assert run_process([sys.executable, "-c", code]).returncode == 0
