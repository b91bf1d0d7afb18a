"""A recording as one HTML file that opens from disk: no network, no server, nothing to install.

The files in `page/` are the page itself; this module fills it with a manifest (JSON) and blocks of
compressed maps, and makes both fit a size. What the page's canvases then show is `canvas_pixels`,
to the exact pixel.
"""

from __future__ import annotations

import math
import numbers
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from replay.formatting import format_bytes, format_count
from replay.html import file_html, text_html
from replay.idle_options import check_given
from replay.maps.percentiles import Bounds
from replay.maps.runs import Recordings, open_runs
from replay.option_values import Numbers, either
from replay.options import SCALES, VIEWS
from replay.output import check_suffix, replacing
from replay.overwriting import check_replaceable
from replay.raster.palette import Range
from replay.schema import OptionError, OutputError
from replay.schema.faces import spell
from replay.schema.suggestions import unknown
from replay.webpage.eight_bit import color_levels, widen
from replay.webpage.frame_block import FrameBlock
from replay.webpage.manifest import CMAPS, color_table, color_tables
from replay.webpage.page_content import PageContent
from replay.webpage.pair import check_runs

SUFFIXES = (".html", ".htm")
SETTINGS = "scale cmap symmetric"  # of the page's controls


@dataclass(frozen=True)
class Page:
    """What `page` wrote.

    Attributes:
        path: The file.
        frames: Frames in it, of the images that it opens with.
        asked: Frames that were asked for.
        layers: Names of the layers in it.
        notes: What was left out, averaged or rounded so that it fits, one sentence each.
        bytes: Its size.
        seconds: How long it took.
        replaced: Whether there was a file before.
    """

    path: Path
    frames: int
    asked: int
    layers: tuple[str, ...]
    notes: tuple[str, ...]
    bytes: int
    seconds: float
    replaced: bool = False

    def __repr__(self) -> str:
        notes = f"; {format_count(len(self.notes), 'note')}" if self.notes else ""
        return f"<Page {str(self.path)!r}: {self._in_words()}{notes}>"

    def _repr_html_(self) -> str:
        """Shows itself in a notebook as a link, and what is in it."""
        notes = "".join(f"<br><small>{text_html(note)}</small>" for note in self.notes)
        return f"{file_html(self.path, '', self._in_words())}{notes}"

    def _in_words(self) -> str:
        frames = format_count(self.frames, "frame")
        if self.frames < self.asked:
            frames = f"{self.frames:,} of {format_count(self.asked, 'frame')}"
        layers = format_count(len(self.layers), "layer")
        return f"{frames}, {layers}, {format_bytes(self.bytes)}"


def page(
    recording: Recordings,
    out: str | os.PathLike[str] | None = None,
    *,
    layers: str | Sequence[str] | None = "all",
    channels: Numbers = None,
    epochs: Numbers = None,
    batches: Numbers = None,
    epoch: Numbers = None,
    batch: Numbers = None,
    layer: str | Sequence[str] | None = None,
    probe: int | None = None,
    view: str | None = None,
    scale: str = "adaptive",
    symmetric: bool = False,
    cmap: str = "gray",
    title: str | None = None,
    input: bool = True,
    max_mb: float = 20.0,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Page:
    """Writes an interactive page: scrub, play, choose image, layer, channels, scale and colormap.

        page("run.h5", "report.html")
        page("run.h5", "conv1.html", layers="conv1", channels="top:16", max_mb=5)

    It is one file that any browser of 2023 or later opens from disk, on its last frame. It has the
    first image of each batch, and every fixed image that was recorded, which it then opens with. To
    stay below `max_mb`, maps are stored in steps as coarse as the eye does not see, more so where
    they are large; if that is not enough, frames are left out evenly, and maps averaged over whole
    blocks. The page says so.

    Args:
        recording: An open recording, or the path of one; also one that is being written. Of two,
            the page shows the maps beside each other, and their difference if the reader likes, at
            the epochs and batches that both have; they are named by their files.
        out: A name ending in `.html`; by default `run.html` beside `run.h5`. A page of mapreel's
            that is there is replaced, once the new one is whole.
        layers: As in `replay.animate`; all by default.
        channels: As in `replay.animate`, for every layer. The scales are those of these channels.
        epochs: Which epochs, as in `replay.animate`.
        batches: Which batches of each epoch.
        epoch: Another name of `epochs`.
        batch: Another name of `batches`.
        layer: Another name of `layers`.
        probe: Only this fixed image; by default all, and the first image of each batch.
        view: Only `maps`, `components`, `attention`, `gradient` or `cam`, or `overlay`, maps (or
            heads) over the input at first; by default all that there is, among which the reader
            switches.
        scale: The scale at first: `adaptive`, `map`, `run`, `epoch`, `frame` or `channel`, as in
            `replay.animate`.
        symmetric: Whether the scale is at first symmetric around zero.
        cmap: The colormap at first, any of matplotlib's; a few others are always on offer.
        title: A heading; by default the name of the file.
        input: Whether the input picture is in it.
        max_mb: Largest size of the file, in millions of bytes.
        overwrite: Whether a file may be replaced that mapreel has not made, as in `replay.animate`.
        progress: Called with (blocks done, blocks in all).

    Returns:
        What was written.

    Raises:
        FileError: The recording cannot be read.
        SelectionError: A layer, channel, epoch, batch or fixed image that it does not hold.
        OptionError: An option that cannot be used, or a size into which not even one frame fits.
        OutputError: The target cannot be written; what stood there is untouched.
    """
    check_given(locals(), SETTINGS)
    epochs = either("epochs", epochs, "epoch", epoch)
    batches = either("batches", batches, "batch", batch)
    layers = either("layers", layers, "layer", layer, "all")
    started = time.monotonic()
    if scale not in SCALES:
        raise OptionError(unknown("scale", scale, SCALES))
    if not isinstance(max_mb, numbers.Real):
        raise OptionError(f"{spell('max_mb')}: expected a number of megabytes, found {max_mb!r}")
    if not (math.isfinite(max_mb) and max_mb > 0):
        raise OptionError(f"{spell('max_mb')} {max_mb:g}: expected a number of megabytes above 0")
    if view is not None and view not in VIEWS:
        raise OptionError(unknown("view", view, VIEWS))
    tables = color_tables([cmap, *CMAPS])
    if isinstance(channels, Iterator):  # each of the layers reads them
        channels = tuple(channels)
    with open_runs(recording) as runs:
        check_runs(runs)
        path = runs[0].path.with_suffix(".html") if out is None else Path(out)
        check_suffix(path, SUFFIXES)
        if path.exists() and any(path.samefile(each.path) for each in runs):
            raise OutputError(f"{path} is the recording itself")
        replaced = bool(check_replaceable([path], overwrite))
        with replacing(path) as unfinished:
            settings = {
                "scale": scale,
                "cmap": cmap,
                "symmetric": bool(symmetric),
                "colours": tables,
            }
            content = PageContent(
                runs, layers, channels, epochs, batches, probe, input, title, settings, view
            )
            document, notes = content.write(int(max_mb * 1_000_000), progress)
            unfinished.write_bytes(document)
    seconds = time.monotonic() - started
    kept, asked = content.kept
    return Page(path, kept, asked, content.names, notes, len(document), seconds, replaced)


def canvas_pixels(
    block: FrameBlock,
    shown: Range | Bounds | None = None,
    cmap: str = "gray",
    symmetric: bool = False,
) -> npt.NDArray[np.uint8]:
    """Returns what the page's canvases show for one frame of a layer.

    Args:
        block: What the page holds of it.
        shown: The range of the scale that is chosen, or one for each channel, (C, 2); by default
            the adaptive ones, which the block has.
        cmap: The colormap.
        symmetric: Whether the scale is made symmetric around zero.

    Returns:
        uint8 (C, H, W, 3), red, green and blue.
    """
    ranges = block.bounds
    if shown is not None:
        ends = (shown.low, shown.high) if isinstance(shown, Range) else shown
        ranges = np.atleast_2d(np.array(ends, np.float64))
    if symmetric:
        widened = [widen(Range(*each)) for each in ranges.tolist()]
        ranges = np.array([[each.low, each.high] for each in widened])
    ranges = np.broadcast_to(ranges, (len(block.levels), 2))
    pixels: npt.NDArray[np.uint8] = color_table(cmap)[
        color_levels(block.levels, block.odd, block.stored, ranges)
    ]
    return pixels
