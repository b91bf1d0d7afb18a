"""Draws a contact sheet: epochs down, channels across, of the same image where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike

from replay.figures.batch import LEVELS, choose_batches, input_pictures, load_panels, one_group
from replay.figures.canvas import Canvas
from replay.figures.figure import Figure, write_figure
from replay.figures.page import PageOptions, level_colors, open_canvas
from replay.figures.paper import read_width
from replay.figures.sheet_page import SheetPage
from replay.idle_options import check_given, check_layers
from replay.maps.axes import choose_channels, spread
from replay.maps.runs import Recordings, RunSet, choose_layers_of, open_runs
from replay.maps.scaling import choose_scalers
from replay.option_values import Numbers, either, one_number
from replay.options import FilmOptions
from replay.schema import OptionError

_MOST_BY_DEFAULT = 16  # channels; of more, those that vary most
_CHOSEN = "top:12"


def sheet(
    recording: Recordings,
    out: str | PathLike[str] | None = None,
    *,
    layer: str | Sequence[str] | None = None,
    channels: Numbers = None,
    epochs: Numbers = None,
    batch: Numbers = -1,
    epoch: Numbers = None,
    batches: Numbers = None,
    layers: str | Sequence[str] | None = None,
    probe: int | bool | None = None,
    rows: int = 8,
    scale: str = "adaptive",
    clip: tuple[float, float] | None = None,
    symmetric: bool = False,
    cmap: str = "gray",
    dpi: int = 200,
    title: str | None = None,
    input: bool = True,
    theme: str = "light",
    slices: Numbers = "middle",
    tokens: str = "auto",
    view: str = "maps",
    query: str | int | tuple[int, int] | None = None,
    cam_method: str = "grad-cam",
    width: str | float | None = None,
    columns: int | None = None,
    overwrite: bool = False,
) -> Figure:
    """Draws how each channel developed: a row for each epoch, a column for each channel.

    Args:
        recording: An open recording, or its path.
        out: A .png, .pdf or .svg; by default `run-sheet.png` beside `run.h5`.
        layer: One or more layers, globs, or `all`; the first recorded one by default. Each layer
            is a page of a PDF, and a file of its own otherwise: `run-sheet-conv1.png`.
        channels: As in `replay.animate`; by default all of up to 16, and of more the 12
            that vary most.
        epochs: The epochs to show; all by default.
        batch: The batch of each epoch; -1 is its last one.
        epoch: Another name of `epochs`.
        batches: Another name of `batch`; one number, too.
        layers: Another name of `layer`.
        probe: The number of a fixed image. By default the first one, if there is one, and else the
            first image of each batch; False for the latter in any case.
        rows: Epochs at most: evenly spaced, the first and the last among them.
        scale: `adaptive` (each map on a range of its own, with a gain bar), `map`, `run`, `epoch`,
            `frame` or `channel`, as in `replay.animate`.
        clip: An explicit (low, high).
        symmetric: A range symmetric around zero.
        cmap: Name of a registered matplotlib colormap.
        dpi: Pixels an inch; with `width` at least so many.
        title: Instead of the layer's name.
        input: Whether to draw the input picture.
        theme: `light` or `dark`.
        slices: Of a volume: `middle`, `all`, or numbers, as in `replay.animate`.
        tokens: `auto`, `square` or `strip`, as in `replay.animate`.
        view: `maps`, or another view, as in `replay.animate`.
        query: Of attention, as in `replay.animate`.
        cam_method: Of class activation, as in `replay.animate`.
        width: The width on paper, for which the figure is laid out, as in `replay.grid`.
        columns: Channels side by side; those that follow begin anew below, with all epochs. By
            default as many as look well.
        overwrite: Whether a file may be replaced that mapreel has not made, as in `replay.animate`.

    Returns:
        The figure: its files, its size in pixels, and what LaTeX needs to show it.

    Raises:
        RecordingError: What was asked for is not there, the file is unusable or `out` cannot be
            written; nothing is left half-written.
    """
    check_given(locals())
    epochs = either("epochs", epochs, "epoch", epoch)
    batch = one_number(either("batch", batch, "batches", batches, -1), "sheet", "batch")
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
    if rows < 1:
        raise OptionError(f"rows {rows}: expected 1 or more")
    with open_runs(recording) as runs:
        if len(runs) > 1:
            raise OptionError(f"sheet: expected one recording, found {len(runs)}")
        run = runs[0]
        path, canvas = open_canvas(run.path, out, "sheet", dpi, theme)
        run.require_frames()
        if probe is None and run.probe_number is None and run.probes:
            probe = 0
        if probe is not None and probe is not False:
            run = run.probe(int(probe))
        if view != "maps":
            from replay.maps.views import look_at

            (run,), scales = look_at([run], replace(scales, tokens=tokens))
        colors = level_colors(scales.cmap)
        remarks: list[str] = []

        def draw(name: str) -> Canvas:
            shown = RunSet(run, [name], slices, tokens)
            cells = spread(choose_batches(shown, epochs, batch), rows)
            joint, (row,) = one_group(shown)
            which = scales.channels
            if which is None and row.maps.channels > _MOST_BY_DEFAULT:
                which = _CHOSEN
            chosen = choose_channels(joint, which, shown.cells())
            (scaler,) = choose_scalers(joint, shown.cells(), chosen, scales, LEVELS)
            pictures = input_pictures(shown, input)
            panels, without = load_panels(
                shown, [row], cells, chosen, [scaler], False, pictures, remarks
            )
            remarks.extend(each for each in shown.remarks if each not in remarks)
            page = SheetPage(row.maps, chosen, scaler, panels, options, run.probe_number)
            if isinstance(which, str) and which.strip().startswith("top"):
                page.subtitle += ", those that vary most"
            page.subtitle += without
            drawn = page.draw(colors, canvas.fresh())
            remarks.extend(page.remarks)
            return drawn

        names = choose_layers_of([run], scales.layers)
        of_layers = {"view": view, "slices": slices, "tokens": tokens}
        check_layers(of_layers, [run[each].layer.axes for each in names])
        return write_figure(path, names, draw, paper, remarks, overwrite)
