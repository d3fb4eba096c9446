"""A trace's record as a list of turns, which is all that the page knows of; traces of two turns are one case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iapo.records import recorded_turns


def turns_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Reads the turns of a trace's JSON record.

    Args:
        record: The record, as `Trace.to_json` writes it.

    Returns:
        For each turn `text` and, where it wrote a program or was asked for one, `status`, `span`, `calls`, `error`,
        `image` (the edited image as the record names it, or None), `said` (what tools said, or None) and `divergence`,
        of its call where it was measured. A turn that answers alone, behind others, has a status of None.
    """
    found: list[dict[str, Any]] = []
    for one in recorded_turns(record):
        result = one["result"]
        if found and result["status"] == "no_call":
            found.append({"text": str(one["text"]), "status": None})
            continue
        turn = {
            "text": str(one["text"]),
            "status": str(result["status"]),
            "span": result["span"],
            "calls": [_call(call) for call in result["calls"]],
            "error": result["error"],
            "image": result["image"],
            "said": result.get("text"),
            "divergence": one["divergence"],
        }
        found.append(turn)
    return found


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    found = {"name": str(call["name"]), "targets": [str(target) for target in call["targets"]], "axis": call["axis"]}
    # The verdict of a judge, where one looked at it.
    return {**found, "misused": bool(call["misused"])} if call.get("misused") is not None else found
