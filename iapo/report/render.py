"""Puts the page together: one file without requests, in which no text of a run is ever markup or script."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

GENERATOR = "iapo report"
"""The page's `generator`, by which an older report is known."""

STYLES = ("vendor/uPlot.min.css", "page/report.css")
SCRIPTS = (
    ("vendor/uPlot.iife.min.js",),
    tuple(
        f"page/{name}.js"
        for name in (
            *("common", "export", "svg", "charts", "heatmap", "parts", "blocks", "prompt", "sides", "detail"),
            *("order", "lost", "browser", "main"),
        )
    ),
)
"""Each group is one script element; our own files share one function's scope, in this order."""


def to_json(data: Any) -> Markup:
    """Writes JSON without `<` for a `<script type="application/json">`, which only `</script` and `<!--` leave."""
    text = json.dumps(_finite(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A lone surrogate, which JSON may hold, has no encoding.
    return Markup(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def _finite(data: Any) -> Any:
    """Puts null where JSON has no number for a value: a run may log NaN."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, list | tuple) else data


def render(view: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """Renders the whole page.

    Args:
        view: Values that the template writes itself.
        data: JSON data for the scripts by the id of their element.
    """
    styles = [_read(name) for name in STYLES]
    scripts = ["\n".join(map(_read, group)) for group in SCRIPTS]
    scripts[-1] = f'(function () {{\n"use strict";\n{scripts[-1]}\n}})();'
    for text in (*styles, *scripts):
        if "</script" in text.lower() or "</style" in text.lower() or "<!--" in text:
            raise ValueError("a packaged file of the report holds the end of its own element; install iapo anew")
    environment = Environment(
        loader=PackageLoader("iapo.report", "page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html").render(
        **view,
        generator=GENERATOR,
        styles=[Markup(text) for text in styles],
        scripts=[Markup(text) for text in scripts],
        policy=_policy(styles, scripts),
        data={name: to_json(one) for name, one in data.items()},
        uplot_license=_read("vendor/uPlot.LICENSE"),
    )


def _policy(styles: list[str], scripts: list[str]) -> str:
    """Writes a content security policy under which nothing but the packaged files runs, and nothing is requested."""
    style, script = (" ".join(map(_hash, texts)) for texts in (styles, scripts))
    return f"default-src 'none'; img-src 'self' file: data:; style-src {style}; script-src {script}; base-uri 'none'"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _read(name: str) -> str:
    return resources.files("iapo.report").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n").strip("\n")
