"""Renders a chat template in a process of its own, which may be ended: started by `iapo.rollout.chat_template`.

Reads one JSON object a line, the arguments of a rendering; writes one a line, the text or what was wrong. It imports
nothing of iapo, so that nothing of it waits longer than it must.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

_MEMORY = 2 * 2**30
"""Bytes that a rendering may take."""


def _limit_memory() -> None:
    statm = Path("/proc/self/statm")
    if statm.exists():
        import resource

        most = int(statm.read_text().split()[0]) * resource.getpagesize() + _MEMORY
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main() -> None:
    """Answers until there is no further line."""
    # What a library prints must not stand among the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    import jinja2
    from transformers.utils.chat_template_utils import render_jinja_template

    _limit_memory()
    answers.write("{}\n")
    answers.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        longest = asked.pop("longest")
        try:
            (text,), _ = render_jinja_template(**asked)
            found = {"text": text} if len(text) <= longest else {"error": f"it makes a text of {len(text)} characters"}
        except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            found = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        except RecursionError:
            found = {"error": "it is nested too deeply"}
        except MemoryError:
            found = {"error": f"it needs more than {_MEMORY // 2**30} GiB of memory"}
        answers.write(json.dumps(found) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
