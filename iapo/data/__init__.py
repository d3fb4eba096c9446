"""Data sets: read from disk and the hub, checked, converted, drawn; the embedded ones; boxes from images."""
