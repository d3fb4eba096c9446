"""A tool that sends Python to an isolated runner of your own, here Piston; off unless PISTON_URL says where it is.

Nothing is run in this process. What the runner isolates, and what not, is its matter (docs/your-own.md).
"""

import json
import os
import urllib.request
from typing import Annotated

from annotated_types import MaxLen

from iapo import define

if not os.environ.get("PISTON_URL"):
    raise RuntimeError("PISTON_URL is not set; it says where the runner is, for example http://localhost:2000")


@define
def run_python(code: Annotated[str, "Python", MaxLen(2000)]) -> str:
    """Run a program on a machine without files, and see what it prints."""
    asked = {"language": "python", "version": "*", "files": [{"content": code}], "run_timeout": 3000}
    address = f"{os.environ['PISTON_URL'].rstrip('/')}/api/v2/execute"
    request = urllib.request.Request(address, json.dumps(asked).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        run = json.loads(answer.read(1 << 20))["run"]
    return f"{run['stdout']}{run['stderr']}".strip() or "(it printed nothing)"
