"""An image's block cut into cells, so that an explanation also says where in the image it looks (docs/forms.md)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from iapo.attribution.vision import image_places

_IMAGE = "image_"


def cell_names(names: Sequence[str], cells: int) -> tuple[str, ...]:
    """Names a prompt's blocks with each image's cells in the place of the image.

    Args:
        names: Names of the prompt's blocks, as `iapo.rollout.prompt` gives them.
        cells: Number of cells along each side of an image; 1 leaves the names as they are.

    Returns:
        The names in order; the cells of `image_1` are `image_1:1,1` (row, column, from the top left one on), and so on
        by rows.
    """
    if cells == 1:
        return tuple(names)
    found: list[str] = []
    for name in names:
        places = [f"{name}:{row + 1},{column + 1}" for row in range(cells) for column in range(cells)]
        found += places if name.startswith(_IMAGE) else [name]
    return tuple(found)


def cut_images(
    block_of: Sequence[int],
    names: Sequence[str],
    ids: Sequence[int],
    image_token: int,
    grids: Sequence[tuple[int, int]],
    cells: int,
) -> list[int]:
    """Gives each position of a prompt its block among those that `cell_names` names.

    The marks around an image belong to the cells beside them, its first and its last one. An image with fewer rows or
    columns of tokens than cells leaves some cells without a position.

    Args:
        block_of: The block of each position, length P.
        names: Names of the blocks.
        ids: The prompt's token ids, length P.
        image_token: The id of an image token.
        grids: Rows and columns of tokens of each image, in the order of the prompt.
        cells: Number of cells along each side of an image.

    Returns:
        The new block of each position, length P.

    Raises:
        ValueError: If the prompt's images are not as many, or not as large, as the grids say.
    """
    more = cells * cells - 1
    starts = list(accumulate((1 + more * name.startswith(_IMAGE) for name in names), initial=0))
    found = [starts[block] for block in block_of]
    places = image_places(ids, image_token)
    if [len(place) for place in places] != [rows * columns for rows, columns in grids]:
        raise ValueError(f"images of {[len(place) for place in places]} tokens in the prompt, but grids of {grids}")
    for place, (rows, columns) in zip(places, grids, strict=True):
        start = found[place.start]
        for index, position in enumerate(place):
            row, column = divmod(index, columns)
            found[position] = start + (row * cells // rows) * cells + column * cells // columns
        after = place.stop
        while after < len(found) and block_of[after] == block_of[place.start]:
            found[after] = start + more
            after += 1
    return found
