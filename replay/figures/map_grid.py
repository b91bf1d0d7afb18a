"""Draws the maps of one batch, or of a few epochs under one another, as a figure for print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike

from replay.figures.batch import LEVELS, choose_batches, input_pictures, load_panels, one_group
from replay.figures.canvas import Canvas
from replay.figures.figure import Figure, write_figure
from replay.figures.grid_page import GridPage
from replay.figures.page import PageOptions, level_colors, open_canvas
from replay.figures.paper import read_width
from replay.idle_options import check_given, check_layers
from replay.maps.axes import choose_channels
from replay.maps.kernels import kernel_series
from replay.maps.runs import Recordings, RunSet, choose_layers_of, open_runs
from replay.maps.scaling import choose_scalers
from replay.option_values import Numbers, either, one_number
from replay.options import FilmOptions
from replay.schema import SelectionError


def grid(
    recording: Recordings,
    out: str | PathLike[str] | None = None,
    *,
    layer: str | Sequence[str] | None = None,
    epochs: Numbers = -1,
    batch: Numbers = -1,
    epoch: Numbers = None,
    batches: Numbers = None,
    layers: str | Sequence[str] | None = None,
    channels: Numbers = None,
    scale: str = "adaptive",
    clip: tuple[float, float] | None = None,
    symmetric: bool = False,
    cmap: str = "gray",
    dpi: int = 200,
    kernels: bool = False,
    title: str | None = None,
    input: bool = True,
    theme: str = "light",
    slices: Numbers = "middle",
    tokens: str = "auto",
    probe: int | None = None,
    view: str = "maps",
    query: str | int | tuple[int, int] | None = None,
    cam_method: str = "grad-cam",
    width: str | float | None = None,
    columns: int | None = None,
    overwrite: bool = False,
) -> Figure:
    """Draws a static figure: the input picture, every map with its number, a colour bar.

    Several epochs, and several recordings, stand under one another. The ranges are those of an
    animation of all that was recorded, whatever part is drawn.

    Args:
        recording: An open recording, or its path; or several, as of the ranks of one run.
        out: A .png, .pdf or .svg; by default `run-grid.png` beside `run.h5`.
        layer: One or more layers, globs, or `all`; the first recorded one by default. Each layer
            is a page of a PDF, and a file of its own otherwise: `run-grid-conv1.png`.
        epochs: The epochs to compare, by number; -1 is the last.
        batch: The batch, by number; -1 is the last of each epoch. Epochs and batches are those
            in which the layer has a frame.
        epoch: Another name of `epochs`.
        batches: Another name of `batch`; one number, too.
        layers: Another name of `layer`.
        channels: As in `replay.animate`; all by default.
        scale: `adaptive` (each map on a range of its own, with a gain bar), `map`, `run`, `epoch`,
            `frame` or `channel`, as in `replay.animate`.
        clip: An explicit (low, high).
        symmetric: A range symmetric around zero.
        cmap: Name of a registered matplotlib colormap.
        dpi: Pixels an inch. A map's pixel is a block of whole pixels, so that the page grows
            where the maps need it; with `width` the pixels an inch grow instead.
        kernels: Draws each map's kernel beside it, as it was in that forward.
        title: Instead of the layer's name.
        input: Whether to draw the input picture.
        theme: `light` or `dark`.
        slices: Of a volume: `middle`, `all`, or numbers, as in `replay.animate`.
        tokens: `auto`, `square` or `strip`, as in `replay.animate`.
        probe: The number of a fixed image, whose maps are shown.
        view: `maps`, or another view, as in `replay.animate`.
        query: Of attention, as in `replay.animate`.
        cam_method: Of class activation, as in `replay.animate`.
        width: The width on paper, for which the figure is laid out: inches, or a length such as
            `3.3in`, `8.4cm`, `84mm`, `239pt` (of TeX), or `full` for 7 inches. No text is
            smaller than 7 points.
        columns: Maps side by side; by default as many as look well.
        overwrite: Whether a file may be replaced that mapreel has not made, as in `replay.animate`.

    Returns:
        The figure: its files, its size in pixels, and what LaTeX needs to show it.

    Raises:
        RecordingError: What was asked for is not there, the file is unusable or `out` cannot be
            written; nothing is left half-written.
    """
    check_given(locals())
    epochs = either("epochs", epochs, "epoch", epoch, -1)
    batch = one_number(either("batch", batch, "batches", batches, -1), "grid", "batch")
    layer = either("layer", layer, "layers", layers)
    paper = None if width is None else read_width(width)
    options = PageOptions(dpi, title, paper, columns)
    scales = FilmOptions(
        layer,
        channels,
        scale=scale,
        clip=clip,
        symmetric=symmetric,
        cmap=cmap,
        view=view,
        query=query,
        cam_method=cam_method,
    )
    with open_runs(recording, probe) as runs:
        path, canvas = open_canvas(runs[0].path, out, "grid", dpi, theme)
        if view != "maps":
            from replay.maps.views import look_at

            runs, scales = look_at(runs, replace(scales, tokens=tokens))
        colors = level_colors(scales.cmap)
        remarks: list[str] = []

        def draw(name: str) -> Canvas:
            shown = RunSet(runs, [name], slices, tokens)
            cells = choose_batches(shown, epochs, batch)
            joint, rows = one_group(shown)
            chosen = choose_channels(joint, scales.channels, shown.cells())
            for row in rows if kernels else []:
                series = kernel_series(row)
                if series.kernels(*cells[0]).shape[0] != row.maps.channels:
                    raise SelectionError(
                        f"the kernels of {series.name!r} do not belong to one map each"
                    )
            scalers = choose_scalers(joint, shown.cells(), chosen, scales, LEVELS)
            pictures = input_pictures(shown, input)
            panels, without = load_panels(
                shown, rows, cells, chosen, scalers, kernels, pictures, remarks
            )
            remarks.extend(each for each in shown.remarks if each not in remarks)
            page = GridPage(rows[0].maps, chosen, scalers[0], panels, options)
            page.subtitle += without
            drawn = page.draw(colors, canvas.fresh())
            remarks.extend(page.remarks)
            return drawn

        names = choose_layers_of(runs, scales.layers)
        of_layers = {"view": view, "slices": slices, "tokens": tokens}
        check_layers(
            of_layers, [run[each].layer.axes for run in runs for each in names if each in run]
        )
        return write_figure(path, names, draw, paper, remarks, overwrite)
