"""Finds column and row boxes in images that come without, from the image alone (docs/boxes.md)."""

from iapo.data.boxes.find import add_boxes, find_boxes
from iapo.data.boxes.found import FoundBoxes

__all__ = ["FoundBoxes", "add_boxes", "find_boxes"]
