"""The commands that draw figures for print: `grid` and `sheet`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from replay.cli.console import check_frames, print_result, say, warn
from replay.cli.next_steps import offer
from replay.cli.options import (
    NUMBERS,
    PICTURE_OPTIONS,
    Commands,
    add_options,
    arguments,
    only,
    reader,
    select_probe,
)
from replay.formatting import format_bytes
from replay.option_values import whole_number
from replay.options import FilmOptions, GridOptions, RenderRequest, SheetOptions

if TYPE_CHECKING:
    from replay.figures.figure import Figure

_DRAWING = f"channels {PICTURE_OPTIONS} view query cam_method"

_GRID_EXAMPLES = """
examples:
  python -m replay grid run.h5                     last batch, to run-grid.png
  python -m replay grid run.h5 -o grid.pdf --layer conv2 --channels top:16
  python -m replay grid run.h5 -o grid.svg --epoch 0,2,4
  python -m replay grid run.h5 -o grid.png --kernels --clip -1,1 --cmap RdBu_r
  python -m replay grid run.h5 -o fig.pdf --layer all     a page for each layer
  python -m replay grid run.h5 -o fig.pdf --width 3.3in --latex > fig.tex
"""
_SHEET_EXAMPLES = """
The fixed image is shown where there is one (--probe 1 for the second), else
each batch's first image, and the sheet says so.

examples:
  python -m replay sheet run.h5                    to run-sheet.png
  python -m replay sheet run.h5 -o sheet.pdf --layer conv2 --channels top:8
  python -m replay sheet run.h5 --epochs 0:20 --rows 5 --no-probe
  python -m replay sheet run.h5 -o sheet.pdf --layer all   a page for each layer
  python -m replay sheet run.h5 -o sheet.pdf --width 8.4cm --columns 4 --latex
"""


def add_grid(commands: Commands) -> None:
    """Adds `grid`."""
    parser = commands.add(
        "grid", _grid, "draw the maps of a batch as a figure for print", NUMBERS + _GRID_EXAMPLES
    )
    add = parser.add_argument
    add("-o", "--out", metavar="FILE", help=".png, .pdf or .svg (default: run-grid.png)")
    add_options(parser, GridOptions, f"layer epochs batch {_DRAWING}")
    _add_paper(parser)
    add("--kernels", action="store_true", help="each map's kernel beside it")
    add_options(parser, RenderRequest, "overwrite")


def _grid(options: argparse.Namespace) -> None:
    from replay.figures.map_grid import grid
    from replay.maps.runs import open_runs

    with open_runs(options.recordings) as recordings:
        shown = select_probe(recordings, options.probe)
        check_frames(*recordings)
        drawing = arguments(options, _DRAWING)
        del drawing["probe"]  # it has been selected
        result = grid(
            shown,
            options.out,
            layer=options.layer,
            epochs=options.epochs,
            batch=options.batch,
            dpi=options.dpi,
            width=options.width,
            columns=options.columns,
            kernels=options.kernels,
            overwrite=options.overwrite,
            **drawing,
        )
    _print_figure(result, options.latex)
    offer("sheet", options.recordings[0], *_layers(options))


def add_sheet(commands: Commands) -> None:
    """Adds `sheet`."""
    parser = commands.add(
        "sheet", _sheet, "draw epochs down, channels across", NUMBERS + _SHEET_EXAMPLES
    )
    add = parser.add_argument
    add("-o", "--out", metavar="FILE", help=".png, .pdf or .svg (default: run-sheet.png)")
    add_options(parser, SheetOptions, "layer epochs batch")
    add("--channels", metavar="LIST", help="such as 0,3,8-11 (default: all, or top:12 of many)")
    _add_number(parser, "--rows", 8, "epochs at most (default: 8)")
    add_options(parser, FilmOptions, f"{PICTURE_OPTIONS} view query cam_method")
    add(
        "--no-probe",
        dest="probe",
        action="store_const",
        const=False,
        help="each batch's first image, also where there is a fixed one",
    )
    _add_paper(parser)
    add_options(parser, RenderRequest, "overwrite")


def _sheet(options: argparse.Namespace) -> None:
    from replay.figures.contact_sheet import sheet
    from replay.recording import open_recording

    with open_recording(only(options)) as recording:
        check_frames(recording)
        result = sheet(
            recording,
            options.out,
            layer=options.layer,
            epochs=options.epochs,
            batch=options.batch,
            rows=options.rows,
            dpi=options.dpi,
            width=options.width,
            columns=options.columns,
            overwrite=options.overwrite,
            **arguments(options, _DRAWING),
        )
    _print_figure(result, options.latex)
    offer("animate", options.recordings[0], *_layers(options))


def _add_paper(parser: argparse.ArgumentParser) -> None:
    """Adds what says how the figure stands on paper."""
    add_options(parser, SheetOptions, "width columns")
    _add_number(
        parser, "--dpi", 200, "pixels an inch (default: 200); with --width at least so many"
    )
    parser.add_argument(
        "--latex", action="store_true", help="print a figure environment with caption and label"
    )


def _layers(options: argparse.Namespace) -> list[str]:
    """Returns the layers that were asked for, as words of a command line."""
    return [word for layer in options.layer or () for word in ("--layer", layer)]


def _print_figure(made: Figure, latex: bool) -> None:
    """Prints what was written, on stderr where stdout has the snippet for LaTeX."""
    for remark in made.remarks:
        warn(remark)
    for path in made.replaced:
        say("note", f"replaced {path}")
    if latex:
        print(made.latex())
        for path in made.paths:
            say("note", f"{path}  {format_bytes(path.stat().st_size)}")
        return
    for path in made.paths:
        print_result(path, path.stat().st_size, made.seconds)


def _add_number(parser: argparse.ArgumentParser, flag: str, default: int, help: str) -> None:
    parser.add_argument(flag, metavar="N", type=reader(whole_number), default=default, help=help)
