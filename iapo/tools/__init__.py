"""The visual-editing tools, free tools, and the executor of the programs that call them."""

from iapo.records import Box
from iapo.tools.definitions import TOOLS, ToolDefinition, define, keeps_places, moves_pixels
from iapo.tools.errors import ToolError
from iapo.tools.judges import add_judge
from iapo.tools.offered import offered_tools
from iapo.tools.program import check_program, execute, extract_program
from iapo.tools.signature import BoxName, ColumnName, Point, RowName
from iapo.tools.values import Observation

__all__ = [
    "TOOLS",
    "Box",
    "BoxName",
    "ColumnName",
    "Observation",
    "Point",
    "RowName",
    "ToolDefinition",
    "ToolError",
    "add_judge",
    "check_program",
    "define",
    "execute",
    "extract_program",
    "keeps_places",
    "moves_pixels",
    "offered_tools",
]
