"""A recording as one HTML file that opens from disk: no network, no server, nothing to install.

`page.html` is the page itself; this module fills it with a manifest (JSON) and blocks of
compressed 8-bit maps (base64), and makes both fit a size. What the page's canvases then show is
`canvas_pixels`, to the exact pixel.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.film.comparison_facts import choose_common_layers
from replay.formatting import clean, format_count
from replay.maps.axes import spread
from replay.maps.runs import Recordings, RunSet, open_runs
from replay.maps.selection import choose_frames, choose_layers
from replay.option_values import Numbers, either
from replay.output import check_suffix, replacing
from replay.overwriting import check_replaceable
from replay.raster.palette import Range
from replay.recording import Recording
from replay.schema import OptionError, OutputError
from replay.schema.faces import spell
from replay.schema.suggestions import unknown
from replay.webpage.eight_bit import quantize, rescale, widen
from replay.webpage.manifest import (
    CMAPS,
    SCALES,
    color_table,
    color_tables,
    describe_frames,
    scale_words,
)
from replay.webpage.pair import check_runs, describe_runs, join_items, layers_of, pictures_of
from replay.webpage.size_budget import PagePlan, plan_page
from replay.webpage.template import render

SUFFIXES = (".html", ".htm")
_ATTEMPTS = 8
_DEPTH = (
    "8 bits a value: each frame of a layer is stored as 254 equal steps between its smallest and "
    "largest value, cut to what the widest scale here shows; the recording has float16. "
    "Histograms are of these steps."
)


@dataclass(frozen=True)
class Page:
    """What `page` wrote.

    Attributes:
        path: The file.
        frames: Frames in it.
        asked: Frames that were asked for.
        layers: Names of the layers in it.
        notes: What was left out or averaged so that it fits, one sentence each.
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
    scale: str = "run",
    symmetric: bool = False,
    cmap: str = "gray",
    title: str | None = None,
    input: bool = True,
    max_mb: float = 20.0,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Page:
    """Writes an interactive page: scrub, play, choose layer, channels, scale and colormap.

        page("run.h5", "report.html")
        page("run.h5", "conv1.html", layers="conv1", channels="top:16", max_mb=5)

    It is one file that any browser of 2023 or later opens from disk. The maps in it have 8 bits
    under a stated range; frames are left out evenly, and maps averaged over whole blocks, as far as
    `max_mb` demands, and the page says so.

    Args:
        recording: An open recording, or the path of one; also one that is being written. Of two,
            the page shows the maps beside each other, on one scale, at the epochs and batches
            that both have; they are named by their files.
        out: A name ending in `.html`; by default `run.html` beside `run.h5`. A page of mapreel's
            that is there is replaced, once the new one is whole.
        layers: As in `replay.animate`; all by default.
        channels: As in `replay.animate`, for every layer. The scales are those of these channels.
        epochs: Which epochs, as in `replay.animate`.
        batches: Which batches of each epoch.
        epoch: Another name of `epochs`.
        batch: Another name of `batches`.
        scale: The scale at first: `run`, `epoch` or `frame`.
        symmetric: Whether the scale is at first symmetric around zero.
        cmap: The colormap at first, any of matplotlib's; a few others are always on offer.
        title: A heading; the layer's name follows it.
        input: Whether the input picture is in it.
        max_mb: Largest size of the file, in millions of bytes.
        overwrite: Whether a file may be replaced that mapreel has not made, as in `replay.animate`.
        progress: Called with (blocks done, blocks in all).

    Returns:
        What was written.

    Raises:
        FileError: The recording cannot be read.
        SelectionError: A layer, channel, epoch or batch that it does not hold.
        OptionError: An option that cannot be used, or a size into which not even one frame fits.
        OutputError: The target cannot be written; what stood there is untouched.
    """
    epochs = either("epochs", epochs, "epoch", epoch)
    batches = either("batches", batches, "batch", batch)
    started = time.monotonic()
    if scale not in SCALES:
        raise OptionError(unknown("scale", scale, SCALES))
    if not (math.isfinite(max_mb) and max_mb > 0):
        raise OptionError(f"{spell('max_mb')} {max_mb:g}: expected a number of megabytes above 0")
    tables = color_tables([cmap, *CMAPS])
    if isinstance(channels, Iterator):  # each of the layers reads them
        channels = tuple(channels)
    with open_runs(recording) as runs:
        check_runs(runs)
        run, labels = runs[0], [""]
        remarks: list[str] = []
        path = run.path.with_suffix(".html") if out is None else Path(out)
        check_suffix(path, SUFFIXES)
        if path.exists() and any(path.samefile(each.path) for each in runs):
            raise OutputError(f"{path} is the recording itself")
        replaced = bool(check_replaceable([path], overwrite))
        if len(runs) == 1:
            names, cells = choose_layers(run, layers), choose_frames(run, epochs, batches)
        else:
            names, remarks = choose_common_layers(runs, layers)
            shown = RunSet(runs, names)
            cells, labels = shown.cells(epochs, batches), shown.labels
            remarks += [each for each in shown.remarks if "different runs" not in each]
        with replacing(path) as unfinished:
            settings = {"scale": scale, "cmap": cmap, "symmetric": symmetric, "colours": tables}
            content = _PageContent(
                runs, labels, names, channels, cells, input, title, settings, remarks
            )
            document, kept, notes = content.write(int(max_mb * 1_000_000), progress)
            unfinished.write_bytes(document)
    seconds = time.monotonic() - started
    return Page(path, kept, len(cells), tuple(names), notes, len(document), seconds, replaced)


def canvas_pixels(
    maps: npt.NDArray[np.float16],
    stored: Range,
    shown: Range,
    cmap: str = "gray",
    symmetric: bool = False,
) -> npt.NDArray[np.uint8]:
    """Returns what the page's canvases show for one frame of a layer.

    Args:
        maps: float16 (C, H, W), after averaging where the page averaged.
        stored: The frame's stored range: `layers[i].stored[frame]` of the page's manifest.
        shown: The range of the scale that is chosen: `run`, `epochs` or `frame` there.
        cmap: The colormap.
        symmetric: Whether the scale is made symmetric around zero.

    Returns:
        uint8 (C, H, W, 3), red, green and blue.
    """
    levels = rescale(stored, widen(shown) if symmetric else shown)
    pixels: npt.NDArray[np.uint8] = color_table(cmap)[levels[quantize(maps, stored)]]
    return pixels


class _PageContent:
    """Everything that goes into a page, at any size.

    Args:
        runs: One recording or two.
        labels: What to call each of them.
        names: The layers.
        channels: As in `page`.
        cells: (epoch, batch) of the frames that were asked for.
        input: Whether the input pictures are in the page.
        title: A heading, or None.
        settings: What the page's controls are set to, for the manifest.
        remarks: What a reader should know.
    """

    def __init__(
        self,
        runs: Sequence[Recording],
        labels: Sequence[str],
        names: Sequence[str],
        channels: Numbers,
        cells: list[tuple[int, int]],
        input: bool,
        title: str | None,
        settings: dict[str, Any],
        remarks: Sequence[str] = (),
    ) -> None:
        self._runs, self._labels, self._cells, self._settings = runs, labels, cells, settings
        self._remarks = list(remarks)
        self._title = "" if title is None else clean(title)
        self._groups = [layers_of(runs, name, channels, cells) for name in names]
        self._pictures = pictures_of(runs, cells) if input else [None] * len(runs)

    def write(
        self, limit: int, progress: Callable[[int, int], None] | None
    ) -> tuple[bytes, int, tuple[str, ...]]:
        """Returns a document of at most `limit` bytes, its number of frames, and the notes."""
        items = [join_items([layer.item for layer in group]) for group in self._groups]
        pictures = [picture.item for picture in self._pictures if picture]
        items += [join_items(pictures)] if pictures else []
        empty = len(self._document({"frames": {}, "layers": [], **self._settings}, []))
        budget = (limit - empty) * 0.985 - 40 * len(self._cells) ** 0.5
        for _ in range(_ATTEMPTS):
            plan = plan_page(items, len(self._cells), budget)
            if plan.frames < 1:
                break
            document, notes = self._build(plan, limit, progress)
            if len(document) <= limit:
                return document, plan.frames, notes
            budget -= 1.1 * (len(document) - limit)
        each = sum(item.cost(max(1, item.side // 4)) for item in items)
        raise OptionError(
            f"max-mb {limit / 1e6:g}: not even one frame fits; the page without maps takes "
            f"{empty / 1e6:.2f} MB and a frame at its smallest {each / 1e6:.2f} MB; choose a "
            "larger size, or fewer layers or channels"
        )

    def _build(
        self, plan: PagePlan, limit: int, progress: Callable[[int, int], None] | None
    ) -> tuple[bytes, tuple[str, ...]]:
        kept = spread(self._cells, plan.frames)
        layers = [(place, layer) for place, group in enumerate(self._groups) for layer in group]
        pictures = [(run, picture) for run, picture in enumerate(self._pictures) if picture]
        done, total = 0, len(kept) * (len(layers) + len(pictures))
        blocks: list[tuple[str, bytes]] = []

        def add_blocks(name: str, made: Iterator[bytes]) -> None:
            nonlocal done
            for place, block in enumerate(made):
                if place == len(kept):
                    blocks.append((f"{name}-extremes", block))
                    continue
                blocks.append((f"{name}-{place}", block))
                done += 1
                if progress is not None:
                    progress(done, total)

        for number, (place, layer) in enumerate(layers):
            layer.prepare(kept, plan.pools[place])
            add_blocks(f"layer-{number}", layer.blocks())
        for run, picture in pictures:
            picture.prepare(kept, plan.pools[-1])
            add_blocks("input-b" if run else "input", picture.blocks())

        notes = [*map(clean, self._remarks), *(group[0].note() for group in self._groups)]
        notes += [note for _, layer in layers for note in layer.damage()]
        if len(kept) < len(self._cells):
            share = f"{len(kept):,} of {format_count(len(self._cells), 'frame')}, evenly spread"
            notes.insert(0, f"{share}, so that the file stays below {limit / 1e6:g} MB")
        given = tuple(note for note in notes if note is not None)
        manifest = {
            "title": self._title,
            "file": self._files,
            "created": " and ".join(clean(run.created) for run in self._runs if run.created),
            "notes": [*given, _DEPTH],
            **self._describe_frames(kept),
            "layers": [layer.describe() for _, layer in layers],
            "words": {name: scale_words(name, len(self._runs)) for name in SCALES},
            **self._settings,
        }
        return self._document(manifest, blocks), given

    @property
    def _files(self) -> str:
        return " and ".join(clean(run.path.name) for run in self._runs)

    def _describe_frames(self, kept: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """Returns the manifest's parts on the frames, the input picture, and two runs."""
        if len(self._runs) == 1:
            picture = self._pictures[0].describe() if self._pictures[0] else None
            return {"frames": describe_frames(self._runs[0], self._cells, kept), "input": picture}
        frames, runs = describe_runs(self._runs, self._labels, self._cells, kept, self._pictures)
        return {"frames": frames, "input": None, "runs": runs}

    def _document(self, manifest: dict[str, Any], blocks: Sequence[tuple[str, bytes]]) -> bytes:
        name = self._title or self._files
        return render(f"{name}: feature maps", manifest, blocks)
