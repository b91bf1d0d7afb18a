"""TensorBoard: event files, written without torch and TensorFlow.

It has neither video nor HTML: the film is a GIF among the images, where it plays, and the page lies
beside the event file, which a text names.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from replay.schema import OptionError
from replay.schema.format import encode_meta
from replay.trackers.interface import PAGE, PREFIX, File, Point, RunFacts, Tracker

_EVENTS = "events.out.tfevents."
_OURS = ".mapreel"  # what the names of our event files end in


class TensorBoard(Tracker):
    """Event files in a folder of TensorBoard's.

    Args:
        folder: Where they go.
        name: What the recording is called; event files of an earlier push of it are replaced.
    """

    film_suffix = ".gif"

    def __init__(self, folder: Path, name: str) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        ending = f".{name}{_OURS}"
        earlier = list(folder.glob(f"{_EVENTS}*")) if folder.is_dir() else []
        self._folder, self._name = folder, name
        self._writer: Any = EventFileWriter(str(folder), filename_suffix=ending)
        for path in earlier:
            if path.name.endswith(ending):
                path.unlink()

    @classmethod
    def begin(cls, value: str, about: RunFacts) -> TensorBoard:
        """Begins event files, in the folder of a training's own if it is one, else in one of it."""
        folder = Path(value)
        if folder.exists() and not folder.is_dir():
            raise OptionError(f"tensorboard={folder}: expected a folder, found a file")
        theirs = folder.glob(f"{_EVENTS}*")
        if not any(not path.name.endswith(_OURS) for path in theirs):
            folder = folder / about.name
        begun = cls(folder, about.name)
        begun._add_text("run", f"```\n{encode_meta(dict(about.facts))}\n```", 0)
        return begun

    def log_points(self, points: Sequence[Point]) -> None:
        """Writes numbers as scalars, at the time at which they were recorded."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        for point in points:
            values = [
                Summary.Value(tag=PREFIX + name, simple_value=value)
                for name, value in point.values.items()
            ]
            self._add(Summary(value=values), point.step, point.time)

    def log_file(self, file: File) -> None:
        """Writes a picture as its bytes are; lays a page beside the event file."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        if file.kind == PAGE:
            kept = self._folder / f"{self._name}{file.path.suffix}"
            shutil.copyfile(file.path, kept)
            words = f"The page to scrub and explore the maps: `{kept.absolute()}`"
            self._add_text(file.name, words, file.step)
            return
        from PIL import Image

        with Image.open(file.path) as opened:
            width, height = opened.size
        picture = Summary.Image(
            height=height,
            width=width,
            colorspace=3,
            encoded_image_string=file.path.read_bytes(),
        )
        self._add(Summary(value=[Summary.Value(tag=PREFIX + file.name, image=picture)]), file.step)

    def _add_text(self, name: str, words: str, step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING
        from tensorboard.plugins.text.metadata import create_summary_metadata

        text = TensorProto(dtype=DT_STRING, string_val=[words.encode()])
        about = create_summary_metadata(display_name="", description="")
        value = Summary.Value(tag=PREFIX + name, tensor=text, metadata=about)
        self._add(Summary(value=[value]), step)

    def _add(self, summary: Any, step: int, when: float | None = None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        event = Event(step=step, summary=summary, wall_time=time.time() if when is None else when)
        self._writer.add_event(event)
        self._writer.flush()

    def close(self) -> str:
        """Closes the event file."""
        self._writer.close()
        return str(self._folder)
