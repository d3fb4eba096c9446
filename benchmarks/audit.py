"""Says which of the tested versions have known vulnerabilities, by the service of osv.dev, and lists their licences.

    python benchmarks/audit.py

Exit code 0 if there is none, 1 if there are some, and 3 if the service did not answer: then nothing is known.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

PINS = Path(__file__).parent.parent / "constraints.txt"
SECONDS = 300


def pinned() -> list[str]:
    """Returns the names of the tested packages."""
    lines = (line.partition("#")[0].strip() for line in PINS.read_text().splitlines())
    return [line.partition("==")[0] for line in lines if line]


def licence(found: Distribution) -> str:
    """Returns a package's licence as its metadata has it: an expression, else classifiers, else the first words."""
    said = found.metadata.get_all("License-Expression") or []
    said = said or [
        one.rpartition(" :: ")[2]
        for one in found.metadata.get_all("Classifier") or []
        if one.startswith("License :: ") and not one.endswith("OSI Approved")
    ]
    said = said or [line for line in (found.metadata.get("License") or "").strip().splitlines()[:1] if line]
    return re.sub(r"\s+", " ", " / ".join(said))[:80] or "not said"


def list_licences(names: list[str]) -> None:
    """Prints the licences, the most frequent one first, and what is under it."""
    by_licence: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        try:
            by_licence[licence(distribution(name))].append(name)
        except PackageNotFoundError:
            by_licence["not installed here"].append(name)
    for said, found in sorted(by_licence.items(), key=lambda item: (-len(item[1]), item[0])):
        print(f"{len(found):3} {said}: {', '.join(found)}")


def audit() -> int:
    """Prints the known vulnerabilities, and returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(PINS), "--no-deps", "--disable-pip"]
        command += ["--vulnerability-service", "osv", "--format", "json", "--output", str(path), "--timeout", "20"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        except subprocess.TimeoutExpired:
            reason = f"no answer in {SECONDS} seconds"
        try:
            packages = json.loads(path.read_text())["dependencies"]
        except (OSError, ValueError, KeyError):
            print(f"No vulnerability service answered, so that nothing was audited ({reason[:200]}).")
            return 3
    passed_over = [one["name"] for one in packages if "skip_reason" in one]
    bad = [(one["name"], one["version"], found) for one in packages for found in one.get("vulns", [])]
    for name, version, found in bad:
        print(f"{name} {version}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'no version yet'}")
    print(f"{len(bad)} known vulnerabilities in {len(packages) - len(passed_over)} packages")
    if passed_over:
        print(f"Not audited: {', '.join(passed_over)}.")
    return 1 if bad or passed_over else 0


if __name__ == "__main__":
    list_licences(pinned())
    raise SystemExit(audit())
