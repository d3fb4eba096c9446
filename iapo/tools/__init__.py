"""The visual-editing tools, and the executor of the programs that call them."""

from iapo.tools.definitions import TOOLS, ToolDefinition, define
from iapo.tools.errors import ToolError
from iapo.tools.offered import offered_tools
from iapo.tools.program import execute, extract_program

__all__ = ["TOOLS", "ToolDefinition", "ToolError", "define", "execute", "extract_program", "offered_tools"]
