"""A tool that sends code to a runner over HTTP (`examples/own_runner.py`), against a server of ours."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from iapo.errors import InputError
from iapo.records import Sample
from iapo.tools import execute, offered_tools

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "own_runner.py"
SAMPLE = Sample("s", Image.new("RGB", (30, 20)), "?", ("1",))


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Speaks Piston's protocol; code is looked at, and never run."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append({"path": self.path, **request})
            code = request["files"][0]["content"]
            ran = {"stdout": "42\n" if "print" in code else "", "stderr": "", "code": 0, "signal": None}
            body = b"not JSON" if "garbage" in code else json.dumps({"language": "python", "run": ran}).encode()
            self.send_response(500 if "fail" in code else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("PISTON_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_code_goes_to_the_runner_alone(runner: list[dict[str, Any]]) -> None:
    tools = offered_tools(str(EXAMPLE))

    def run(code: str) -> Any:
        return execute(f'```python\ndisplay(run_python("""{code}"""))\n```', SAMPLE, tools)

    good = run("import os\nprint(6 * 7)")
    assert (good.status, good.text) == ("edited", "42")
    assert runner[0]["path"] == "/api/v2/execute"
    assert runner[0]["files"] == [{"content": "import os\nprint(6 * 7)"}]
    assert run("pass").text == "(it printed nothing)"
    for code, reason in (("fail()", "HTTPError: HTTP Error 500"), ("garbage", "JSONDecodeError")):
        result = run(code)
        assert (result.status, result.broken) == ("failed", "run_python")
        assert reason in result.error
    asked = len(runner)
    assert run("x" * 2001).broken == ""
    assert len(runner) == asked


def test_it_is_off_where_no_runner_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PISTON_URL", raising=False)
    # A copy, since a file that was loaded is not loaded again.
    (tmp_path / "runner.py").write_text(EXAMPLE.read_text())
    with pytest.raises(InputError, match="RuntimeError: PISTON_URL is not set"):
        offered_tools(f"{tmp_path}/runner.py")
