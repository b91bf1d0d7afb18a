"""A recording that is still being written, as a live page asks for it.

Frames are numbered in the order of recording, so that a number once given never changes, and a
block once sent stays valid.
"""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from replay.formatting import clean
from replay.maps.input_picture import InputPicture
from replay.maps.selection import choose_layers
from replay.option_values import Numbers
from replay.recording import Closing, Recording
from replay.schema import RecordingError
from replay.webpage.input_data import InputData
from replay.webpage.layer_data import LayerData
from replay.webpage.manifest import CMAPS, SCALES, color_tables, describe_frames, scale_words
from replay.webpage.template import render

_FRESH = 0.25  # seconds for which what was read of the file's state is used again
_GROWTH = 1.25  # the scales are measured again when there are so many times more frames
_NOTE = (
    "Live, 8 bits a value: each frame of a layer is sent as 254 equal steps between its smallest "
    "and largest value. The scales are those of the run so far, and follow as it grows."
)


class Live(Closing):
    """A recording that grows, as the page asks for it; safe to use from several threads.

    Args:
        path: The recording. It may be empty still.
        layers: As in `choose_layers`.
        channels: As in `choose_channels`.
        cmap: The colormap at first.
        title: A heading.

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
    ) -> None:
        self._asked, self._channels = layers, channels
        tables = color_tables([cmap, *CMAPS])
        self._settings = {"scale": "run", "cmap": cmap, "symmetric": False, "colours": tables}
        self._title = "" if title is None else clean(title)
        self._path = Path(path)
        self._lock = threading.RLock()
        self._recording: Recording | None = Recording(path)
        self._read_at = 0.0
        self._layers: dict[str, LayerData] = {}
        self._measured: dict[str, int] = {}
        self._input: InputData | None = None
        self._cells: list[tuple[int, int]] = []
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
            return len(self._cells)

    def page(self) -> bytes:
        """Returns the page as it is served."""
        with self._lock:
            run = self._refresh()
            run.require_frames()
            outlines = [self._layer(name).outline() for name in self._names()]
            empty: dict[str, Any] = {"run": [0.0, 1.0], "epochs": {}}
            scales = {name: scale_words(name) for name in SCALES}
            scales["run"] = scales["run"].replace("whole run", "run so far")
            manifest = {
                "live": True,
                "title": self._title,
                "run": self._identity(run),
                "file": clean(run.path.name),
                "created": clean(run.created),
                "notes": [_NOTE],
                "frames": self._frames(0),
                "layers": [
                    {
                        **outline,
                        **empty,
                        "stored": [],
                        "frame": [],
                        "unfinite": [],
                        "reach": [],
                        "bare": [],
                    }
                    for outline in outlines
                ],
                "input": self._input.describe() if self._input else None,
                "words": scales,
                **self._settings,
            }
            title = f"{self._title or clean(run.path.name)}: feature maps, live"
            return render(title, manifest, [], live=True)

    def state(self) -> dict[str, Any]:
        """Returns how far the recording is, in JSON's types."""
        with self._lock:
            run = self._refresh()
            return {
                "run": self._identity(run),
                "layers": [clean(name) for name in self._names()],
                "count": len(self._cells),
                "closed": run.closed,
                "dropped": run.dropped,
                "lost": run.lost,
            }

    def frames(self, since: int) -> dict[str, Any]:
        """Returns numbers and fields of the frames from one on, and the time axis of all."""
        with self._lock:
            self._refresh()
            return self._frames(since)

    def block(self, name: str) -> tuple[bytes, dict[str, Any] | None] | None:
        """Returns a block by its name, and the facts of a layer's frame; None if there is none."""
        match = re.fullmatch(r"(?:layer-(\d{1,6})|input)-(\d{1,9}|extremes)", name)
        if match is None:
            return None
        with self._lock:
            run = self._refresh()
            names = self._names()
            if match[1] is None:
                return self._picture(match[2]), None
            if int(match[1]) >= len(names):
                return None
            layer = self._layer(names[int(match[1])])
            if match[2] == "extremes":
                run.require_frames()
                return layer.extremes(self._cells), None
            if int(match[2]) >= len(self._cells):
                return None
            return layer.block(self._cells[int(match[2])])

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
                self._layers.clear()
                self._input = None
            self._read_at = time.monotonic()
            order = self._recording.order
            cells = np.argwhere(order > 0)
            cells = cells[np.argsort(order[tuple(cells.T)], kind="stable")]
            self._cells = [(int(epoch), int(batch)) for epoch, batch in cells]
            if self._input is None and self._cells and InputPicture.possible(self._recording):
                self._input = InputData(self._recording, self._cells)
        return self._recording

    def _names(self) -> list[str]:
        assert self._recording is not None
        return choose_layers(self._recording, self._asked) if self._cells else []

    def _layer(self, name: str) -> LayerData:
        assert self._recording is not None
        count = len(self._cells)
        if name not in self._layers:
            self._layers[name] = LayerData(self._recording[name], self._channels, self._cells)
            self._measured[name] = count
        elif count >= _GROWTH * self._measured[name]:
            self._layers[name].measure(self._cells)
            self._measured[name] = count
        return self._layers[name]

    def _frames(self, since: int) -> dict[str, Any]:
        assert self._recording is not None
        return describe_frames(self._recording, self._cells, self._cells[since:])

    def _picture(self, place: str) -> bytes:
        if self._input is None or place == "extremes" or int(place) >= len(self._cells):
            raise RecordingError(f"no input picture {place}")
        return self._input.block(self._cells[int(place)])

    @staticmethod
    def _identity(run: Recording) -> str:
        return clean(f"{run.run_id} {run.created}")
