"""A recording that is still being written, as a live page asks for it.

Frames are numbered in the order of recording, so that a number once given does not change, and a
block once sent stays valid. Where a budget or a resumed run takes frames out of the file, all is
numbered anew, and the page is told that it shows another run.
"""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.formatting import clean
from replay.idle_options import check_given
from replay.maps.input_picture import InputPicture
from replay.maps.selection import choose_layers
from replay.maps.views import look_at, views_of
from replay.option_values import Numbers
from replay.options import MADE, SCALES, FilmOptions
from replay.recording import Closing, Recording
from replay.recording.address import read_path
from replay.schema import Cell, RecordingError
from replay.webpage.components_data import GROWTH, LiveBases, has_components, has_places
from replay.webpage.input_data import InputData
from replay.webpage.layer_data import LayerData
from replay.webpage.manifest import (
    CMAPS,
    color_tables,
    describe_frames,
    describe_page,
    describe_source,
    made_of,
    tell_layers_apart,
)
from replay.webpage.over_input import usual_colors
from replay.webpage.template import render

_FRESH = 0.25  # seconds for which what was read of the file's state is used again
_NOTE = (
    "Live, 8 bits a value: each map of a frame is sent in steps of 1/253 of the narrowest range "
    "under which it is shown. Ranges are told from the frames before, scales are those of the run "
    "so far and follow as it grows."
)
_FIELDS = (
    "frame",
    "unfinite",
    "reach",
    "bare",
    "absent",
    "remarks",
)  # of a layer, for each frame that was sent


@dataclass
class _Source:
    """The images of one kind in a recording that grows.

    Attributes:
        run: The recording, or what it has of a fixed image, as it is seen by its view.
        options: The view, and the colours that suit it.
        cells: (epoch, batch) of its frames, in the order of recording.
        timeline: Those of all frames of the run, likewise, in which they may not be shown.
        layers: Those that were asked for so far.
        measured: Of how many frames their scales are.
        input: The input pictures.
        made: As in `PageSource`.
    """

    run: Recording
    options: FilmOptions
    cells: list[Cell] = field(default_factory=list)
    timeline: list[Cell] = field(default_factory=list)
    layers: dict[str, LayerData] = field(default_factory=dict)
    measured: dict[str, int] = field(default_factory=dict)
    input: InputData | None = None
    made: str = ""

    def refresh(self) -> bool:
        """Takes in the frames that have been committed.

        Returns:
            Whether those known before have kept their numbers.
        """
        order, there = self.run.order, self.run.order > 0
        self.timeline, kept = _take_in(self.timeline, order, there)
        if self.options.view != "maps" or self.run.probe_number is not None:  # not in each batch
            shown = [self.run[name].present for name in self.run.layers]
            there = there & (np.logical_or.reduce(shown) if shown else False)
            self.cells, kept = _take_in(self.cells, order, there)
        else:
            self.cells = self.timeline
        if self.input is None and self.cells and InputPicture.possible(self.run):
            self.input = InputData(self.run, self.cells)
        return kept

    def layer(self, name: str, channels: Numbers) -> LayerData:
        """Returns a layer, on the scales of about as many frames as there are."""
        count = len(self.cells)
        if name not in self.layers:
            layer = LayerData(self.run[name], channels, self.cells, live=True)
            if has_components(self.options.view, self.made) and has_places(layer):
                layer.components = "components"
            self.layers[name] = layer
            self.measured[name] = count
        elif count >= GROWTH * self.measured[name]:
            self.layers[name].measure(self.cells)
            self.measured[name] = count
        return self.layers[name]


class Live(Closing):
    """A recording that grows, as the page asks for it; safe to use from several threads.

    Args:
        path: The recording. It may be empty still.
        layers: As in `choose_layers`.
        channels: As in `choose_channels`.
        cmap: The colormap at first.
        title: A heading.
        probe: The fixed image that the page opens with; by default the first, if there is one.
        scale: The scale at first.
        view: What is shown; by default all that is recorded.

    Raises:
        RecordingError: It cannot be read, or does not hold what was asked for.
    """

    def __init__(
        self,
        path: str | Path,
        layers: str | list[str] | None = "all",
        channels: Numbers = None,
        cmap: str = "gray",
        title: str | None = None,
        probe: int | None = None,
        scale: str = SCALES[0],
        view: str | None = None,
    ) -> None:
        check_given({"view": view, "scale": scale, "cmap": cmap})
        self._asked, self._channels, self._probe, self._view = layers, channels, probe, view
        self._cmap, tables = cmap, color_tables([cmap, *CMAPS])
        self._settings = {"scale": scale, "cmap": cmap, "symmetric": False, "colours": tables}
        self._settings["usual"] = usual_colors()
        self._bases = LiveBases()
        self._title = "" if title is None else clean(title)
        self._path = read_path(path)
        self._lock = threading.RLock()
        self._recording: Recording | None = Recording(path)
        self._resumed = self._recording.meta.get("resumed")
        self._read_at = 0.0
        self._renumbered = 0  # how many times frames were taken out
        self._sources: list[_Source] = []
        self._shown: dict[int | None, Recording] = {}  # what there is of each image, by its number
        self._refresh()

    def close(self) -> None:
        """Closes the recording."""
        with self._lock:
            if self._recording is not None:
                self._recording.close()
            self._recording = None

    @property
    def count(self) -> int:
        """Number of frames."""
        with self._lock:
            self._refresh()
            return len(self._sources[0].cells) if self._sources else 0

    def page(self) -> bytes:
        """Returns the page as it is served."""
        with self._lock:
            run = self._refresh()
            run.require_frames()
            if self._probe is not None:
                run.probe(self._probe)  # which raises, and says what is there
            there = [len(source.cells) > 0 for source in self._sources]
            first = self._first()
            manifest = {
                "live": True,
                "run": self._identity(run),
                **describe_page(self._title, [run]),
                "notes": [_NOTE],
                "sources": [self._describe(source) for source in self._sources],
                "first": first if there[first] else 0,
                **self._settings,
            }
            title = f"{self._title or clean(run.path.name)}: feature maps, live"
            return render(title, manifest, [], live=True)

    def _describe(self, source: _Source) -> dict[str, Any]:
        layers = [source.layer(name, self._channels) for name in self._names(source)]
        probe = source.run.probe_number
        stays = any(layer.stays for layer in layers) or probe is not None
        about = describe_source(source.run, source.options, 1, stays)
        about |= made_of(about, source.made)
        about["scales"]["run"] = about["scales"]["run"].replace("whole run", "run so far")
        empty: dict[str, Any] = {"run": [0.0, 1.0], "epochs": {}, "channel": []}
        return {
            **about,
            "frames": self._frames(source, 0),
            "input": source.input.describe() if source.input else None,
            "layers": tell_layers_apart(
                [{**layer.outline(), **empty, **{name: [] for name in _FIELDS}} for layer in layers]
            ),
        }

    def state(self) -> dict[str, Any]:
        """Returns how far the recording is, in JSON's types."""
        with self._lock:
            run = self._refresh()
            sources = [
                {
                    "layers": [clean(name) for name in self._names(source)],
                    "count": len(source.cells),
                }
                for source in self._sources
            ]
            return {
                "run": self._identity(run),
                "sources": sources,
                "closed": run.closed,
                "dropped": run.dropped,
                "lost": run.lost,
            }

    def frames(self, since: int, source: int = 0) -> dict[str, Any] | None:
        """Returns numbers and fields of the frames from one on, and the time axis of all.

        None where there is no such source.
        """
        with self._lock:
            self._refresh()
            if source >= len(self._sources):
                return None
            return self._frames(self._sources[source], since)

    def block(self, name: str) -> bytes | None:
        """Returns a block by its name, behind the facts of a layer's frame; None if there is none.

        Returns:
            The length of the facts (uint32), the facts (JSON; `null` where there are none), and the
            block as a page of its own holds it.
        """
        match = re.fullmatch(
            r"s(\d{1,4})-(?:layer-(\d{1,6})|input)-(\d{1,9}|extremes|components)", name
        )
        if match is None:
            return None
        with self._lock:
            run = self._refresh()
            if int(match[1]) >= len(self._sources):
                return None
            source = self._sources[int(match[1])]
            if match[2] is None:
                return _with_facts(self._picture(source, match[3]))
            names = self._names(source)
            if int(match[2]) >= len(names):
                return None
            layer = source.layer(names[int(match[2])], self._channels)
            if match[3] == "extremes":
                run.require_frames()
                return _with_facts(layer.extremes(source.cells))
            if match[3] == "components":
                run.require_frames()
                return self._basis(source, layer)
            if int(match[3]) >= len(source.cells):
                return None
            return _with_facts(*layer.block(source.cells[int(match[3])]))

    def _basis(self, source: _Source, layer: LayerData) -> bytes | None:
        """Returns the basis of a layer's components, one for all fixed images; None without."""
        if not layer.components:
            return None
        fixed = source.run.probe_number is not None
        alike = (
            each.layer(layer.name, self._channels)
            for each in self._sources
            if (each.run.probe_number is not None) == fixed
            and each.options.view == "maps"
            and each.cells
            and layer.name in self._names(each)
        )
        group = [each for each in alike if each.places and each.channels == layer.channels]
        key = layer.name if fixed else f"first {layer.name}"
        return _with_facts(self._bases.block(f"{key} {layer.channels}", group))

    def _refresh(self) -> Recording:
        """Returns the recording as it is now; opened again where its writer has replaced it."""
        if self._recording is None or time.monotonic() - self._read_at > _FRESH:
            try:
                if self._recording is None:
                    raise RecordingError("the recording is closed")
                self._recording.refresh()
            except RecordingError:
                if self._recording is not None:
                    self._recording.close()
                self._recording = None
                self._recording = Recording(self._path)
                self._sources, self._shown = [], {}
            self._read_at = time.monotonic()
            before = self._resumed
            self._resumed = self._recording.meta.get("resumed")
            if not self._find_sources(self._recording) or before != self._resumed:
                self._renumbered += 1
                self._sources, self._shown = [], {}
                self._find_sources(self._recording)
        return self._recording

    def _find_sources(self, run: Recording) -> bool:
        """Looks for what there is to show; returns whether frames have kept their numbers."""
        for number in (None, *range(run.probes)):
            if number not in self._shown:
                self._shown[number] = run if number is None else run.probe(number)
            shown = self._shown[number]
            if number is not None:
                shown.refresh()
            views = views_of([shown]) if self._view is None else [self._view]
            if self._view is None and number is None and "maps" not in views:
                views = ["maps", *views]  # which there will be
            for view in views:
                self._add_source(shown, view)
        kept = True
        for source in self._sources:
            if source.options.view != "maps":
                source.run.refresh()
            kept = source.refresh() and kept
        return kept

    def _add_source(self, shown: Recording, view: str) -> None:
        """Adds what is shown of one kind of image, unless it is there or nothing of it is."""
        known = ((each.run.probe_number, each.made or each.options.view) for each in self._sources)
        if (shown.probe_number, view) in known:
            return
        made = view if self._view in ("maps", *MADE) else ""
        cmap = self._cmap if self._view else FilmOptions.cmap  # else each view has its own
        try:
            (run,), options = look_at([shown], FilmOptions(self._asked, view=view, cmap=cmap), True)
        except RecordingError:
            if self._view is not None and shown.probe_number is None and shown.order.any():
                raise
            return
        self._sources.append(_Source(run, options, made=made))

    def _first(self) -> int:
        """Returns the place of what the page opens with: of a fixed image, where there is one."""
        number = self._probe or 0
        probes = [each.run.probe_number for each in self._sources]
        return probes.index(number) if number in probes else 0

    def _names(self, source: _Source) -> list[str]:
        if source.options.view != "maps":
            return list(source.run.layers)  # which were chosen
        return choose_layers(source.run, self._asked) if source.cells else []

    def _frames(self, source: _Source, since: int) -> dict[str, Any]:
        if not source.cells:
            nothing: dict[str, Any] = {
                name: [] for name in ("epoch", "batch", "at", "breaks", "ends")
            }
            return {**nothing, "epochs": "", "batches": ""}
        cells = source.cells
        return describe_frames(source.run, cells, cells[since:], None, source.timeline, cells)

    @staticmethod
    def _picture(source: _Source, place: str) -> bytes:
        if source.input is None or not place.isdigit() or int(place) >= len(source.cells):
            raise RecordingError(f"no input picture {place}")
        return source.input.block(source.cells[int(place)])

    def _identity(self, run: Recording) -> str:
        return clean(f"{run.run_id} {run.created} {self._renumbered or ''}").strip()


def _take_in(
    known: list[Cell], order: npt.NDArray[np.int64], there: npt.NDArray[np.bool_]
) -> tuple[list[Cell], bool]:
    """Returns the frames there are, in the order of recording, and whether it begins as before."""
    cells = np.argwhere(there)
    cells = cells[np.argsort(order[there], kind="stable")]
    before = np.fromiter(chain.from_iterable(known), np.int64, 2 * len(known)).reshape(-1, 2)
    begins = np.array_equal(cells[: len(known)], before)
    kept = known if begins else []
    return [*kept, *((epoch, batch) for epoch, batch in cells[len(kept) :].tolist())], begins


def _with_facts(block: bytes, facts: dict[str, Any] | None = None) -> bytes:
    text = json.dumps(facts, allow_nan=False).encode("ascii")
    return len(text).to_bytes(4, "little") + text + block
