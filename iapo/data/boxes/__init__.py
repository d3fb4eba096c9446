"""Finds column and row boxes in images that come without, from the image alone (docs/boxes.md)."""

from iapo.data.boxes.find import FoundBoxes, add_boxes, find_boxes

__all__ = ["FoundBoxes", "add_boxes", "find_boxes"]
