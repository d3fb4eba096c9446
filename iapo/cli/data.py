"""`iapo data`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iapo.cli.base import Verb, make_app
from iapo.cli.checks import offered
from iapo.cli.options import Json, Quiet, at_least, between, folder, one_of, write_json
from iapo.errors import InputError

if TYPE_CHECKING:
    from iapo.data.boxes.names import Names

app = make_app(help="Data sets: check, convert and look at them, make synthetic ones.")

Source = Annotated[str, typer.Argument(metavar="PATH", help="File, folder or hub id.")]
Split = Annotated[str | None, typer.Option(help="Split; needed where there are several.")]
Format = Annotated[str | None, typer.Option(help="Format of the data; detected if not given.")]
FindBoxes = Annotated[bool, typer.Option("--find-boxes", help="Search images without boxes for some.")]

NamesOption = Annotated[
    str | None,
    typer.Option(
        "--names",
        callback=one_of("places", "ocr"),
        help="Names of found boxes: places (1, 2, ...), the default, or ocr, which needs iapo[ocr].",
    ),
]


def _names(names: str | None, find_boxes: bool) -> Names:
    if names is not None and not find_boxes:
        raise InputError("--names is for found boxes; give --find-boxes, too")
    return "ocr" if names == "ocr" else "places"


@app.command("check", cls=Verb)
def data_check(
    path: Source,
    split: Annotated[str | None, typer.Option(help="Split; of a folder all of them if not given.")] = None,
    format: Format = None,
    tools: Annotated[
        str | None,
        typer.Option(callback=offered, help="Tools of the run, FILE.py, whose judges the samples may name."),
    ] = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """List what is wrong with a data set, three rows of each kind, and count what is in it; exit code 1 if a row is
    damaged.
    """
    from iapo.data.check import check

    found = check(path, split=split, format=format)
    write_json(json, found)
    if tools is not None:
        from iapo.tools.judges import check_names

        check_names(name for counts in found.values() for name in counts.judges)
    if any(counts.damaged or not counts.samples for counts in found.values()):
        raise typer.Exit(1)


@app.command("convert", cls=Verb)
def data_convert(
    path: Source,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Parquet file to write.")],
    split: Split = None,
    format: Format = None,
    find_boxes: FindBoxes = False,
    names: NamesOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Write nothing if any row is damaged.")] = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Write a data set as one parquet file with its images; damaged rows are listed in OUT.damaged.jsonl."""
    from iapo.data.convert import convert
    from iapo.display.terminal import say

    done = convert(
        path,
        out,
        split=split,
        format=format,
        find_boxes=find_boxes,
        names=_names(names, find_boxes),
        refuse_damage=strict,
    )
    say(f"{done.samples} samples in {out}")
    if done.quarantine is not None:
        say(f"{done.damaged} damaged rows, listed in {done.quarantine}")
    if done.flawed:
        say(f"{done.flawed} samples with a flaw; iapo data check {out} says why")
    if find_boxes:
        say(f"boxes found for {done.boxed} pictures without; none for {done.boxless.total()}")
        for reason, count in done.boxless.most_common():
            say(f"  {count}: {reason}")
    write_json(json, done)


@app.command("show", cls=Verb)
def data_show(
    path: Source,
    out: Annotated[Path, typer.Option(callback=folder, help="Folder to write sheet.png and sheet.html to.")] = Path(
        "runs/sheet"
    ),
    count: Annotated[int, typer.Option(callback=at_least(1), help="Rows, from the first.")] = 24,
    split: Split = None,
    format: Format = None,
    find_boxes: FindBoxes = False,
    names: NamesOption = None,
    flawed: Annotated[
        bool,
        typer.Option(
            "--flawed", help="Doubtful rows alone: damaged ones, those with a flaw in a box or where none are found."
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Draw the first rows of a data set with their boxes and flaws, as an image and as an HTML page."""
    from iapo.data.sheet import show
    from iapo.display.terminal import say

    drawn = show(
        path,
        out,
        count=count,
        split=split,
        format=format,
        find_boxes=find_boxes,
        names=_names(names, find_boxes),
        flawed=flawed,
    )
    for file in drawn:
        say(str(file))


@app.command("make", cls=Verb)
def data_make(
    family: Annotated[
        str, typer.Argument(metavar="FAMILY", help="Family: vbar, hbar, charxiv, vwtq, vwtq_syn or vtabfact.")
    ],
    count: Annotated[int, typer.Argument(metavar="N", callback=at_least(1), help="Number of samples.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Parquet file to write.")],
    seed: Annotated[int, typer.Option(callback=at_least(0), help="Seed of the images.")] = 0,
    size: Annotated[
        int, typer.Option(callback=between(112, 1000), help="Side of the images in pixels, 112 to 1000.")
    ] = 112,
    split: Annotated[
        str,
        typer.Option(
            callback=one_of("train", "validation", "test"),
            help="Split, train, validation or test; their structures differ.",
        ),
    ] = "train",
    quiet: Quiet = False,
) -> None:
    """Write synthetic samples as one parquet file. For example: iapo data make vbar 1000 runs/vbar.parquet"""
    from iapo.data.convert import make
    from iapo.display.terminal import say

    say(f"{make(family, count, out, seed=seed, size=size, split=split)} samples in {out}")
