"""The way of a frame: how many of our files one animation passes through, counted as it runs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

import replay
from tests.samples import drifting_maps, write_recording

ROOM = Path(replay.__file__).resolve().parent
# As many as there are now, so that a way becomes longer only on purpose: 20, and what came
# since: ranges of each map, gain bars, names that differ, gaps in the loss, words for the blind,
# text in any script, layers in columns within what a frame may have, threads that GIF, WebP and
# APNG have in common, and what keeps HDF5 from following a damaged file (objects, plain_chunks,
# chunk_indexes), with images, fields, layers and frames of batches in files of their own, checksums
# by whichever library, and what refuses options that would change nothing, or are of another kind.
MOST_OF_THE_WHOLE = {"mp4": 55, "gif": 60}  # a GIF has colours for its picture, and a limit
MOST_OF_A_FRAME = {"mp4": 25, "gif": 28}


class Way:
    """Notes in which file of ours each call is, in all threads, while it is entered.

    Attributes:
        files: The files in the order in which they are first entered, and how many calls each has.
        frame: The same of one frame, the last one but one.
        changes: How often a call leads from one of the files to another.
    """

    def __init__(self) -> None:
        self.files: dict[str, int] = {}
        self.frame: dict[str, int] = {}
        self.changes = 0
        self._last: dict[int, str] = {}
        self._within = False

    def __enter__(self) -> Way:
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def progress(self, done: int, total: int) -> None:
        """Begins a frame's way once the frame before it has been written, and ends it."""
        self._within = done == total - 2

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event != "call" or not path.is_relative_to(ROOM):
            return
        name, thread = path.relative_to(ROOM).as_posix(), threading.get_ident()
        self.files[name] = self.files.get(name, 0) + 1
        if self._within:
            self.frame[name] = self.frame.get(name, 0) + 1
        self.changes += self._last.get(thread, name) != name
        self._last[thread] = name


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_an_animation_passes_through_few_files(suffix: str, tmp_path: Path) -> None:
    maps = {"conv1": drifting_maps(4, 8, 8), "conv2": drifting_maps(6, 4, 4)}
    fields: dict[str, Callable[[int, int], float]] = {
        "loss": lambda epoch, batch: 1 / (1 + epoch + batch)
    }
    run = write_recording(tmp_path / "run.h5", maps, epochs=2, batches=3, fields=fields)
    out = tmp_path / f"run.{suffix}"
    replay.animate(run, out)  # imports what it needs, and fills what is kept from call to call
    way = Way()
    with way:
        replay.animate(run, out, progress=way.progress)
    print(
        f"\n{len(way.files)} files, {way.changes:,} changes of file; calls, and those of a frame:"
    )
    for name, calls in way.files.items():
        print(f"  {calls:6,} {way.frame.get(name, 0):4}  {name}")
    print(f"a frame: {len(way.frame)} files: {', '.join(way.frame)}")
    assert "recording/series.py" in way.frame
    assert len(way.files) <= MOST_OF_THE_WHOLE[suffix], (
        f"expected fewer files than {', '.join(way.files)}"
    )
    assert len(way.frame) <= MOST_OF_A_FRAME[suffix], (
        f"expected fewer files than {', '.join(way.frame)}"
    )
