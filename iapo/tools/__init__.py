"""The visual-editing tools, and the executor of the programs that call them."""

from iapo.tools.definitions import TOOLS, ToolDefinition, define
from iapo.tools.errors import ToolError
from iapo.tools.offered import offered_tools
from iapo.tools.program import check_program, execute, extract_program

__all__ = [
    "TOOLS",
    "ToolDefinition",
    "ToolError",
    "check_program",
    "define",
    "execute",
    "extract_program",
    "offered_tools",
]
