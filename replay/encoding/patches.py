"""A sink that compresses, frame by frame, only what is new, on all cores; WebP and APNG are two.

Both formats place a rectangle at each frame, and one only, so that what is compressed is the
smallest one around all that changed. A frame in which nothing did is time for the one before it.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from typing import BinaryIO

from replay.encoding.pixel_formats import Bytes, Patch
from replay.encoding.side_by_side import InOrder, open_empty
from replay.output import EncodeOptions, Output
from replay.raster.mosaic import Box
from replay.raster.palette import Palette

_AHEAD = 2  # patches that a thread has, the one that it compresses and those that wait
_LONGEST = 10_000  # seconds that a frame stays at most, which both formats have numbers for


class PatchSink(ABC):
    """Takes patches, as `as_patches` gives them; a subclass compresses them and writes the file.

    Attributes:
        name: What the file becomes, as a message has it.
    """

    name: str

    def begin(
        self, output: Output, palette: Palette, size: tuple[int, int], options: EncodeOptions
    ) -> None:
        """Opens the file and starts the threads that compress."""
        self.size, self.options = size, options
        self._output = output
        self.file: BinaryIO = output.resources.enter_context(open_empty(output.path, self.name))
        self._work: InOrder[bytes] = InOrder(output.resources, _AHEAD)
        self._most = max(1, int(_LONGEST * options.fps))
        self._boxes: deque[Box] = deque()  # of the patches that are not written yet
        self._counts: deque[int] = deque()  # the frames for which each of them stays
        self._compressed: deque[bytes] = deque()  # the first of them
        self._written = 0  # patches

    def write(self, pixels: Patch) -> None:
        """Has a patch compressed, and writes those that are and are known to end."""
        if pixels.same and self._counts and self._counts[-1] < self._most:
            self._counts[-1] += 1
            return
        self._boxes.append(pixels.box)
        self._counts.append(1)
        self._collect(self._work.add(functools.partial(self.compress, pixels.pixels)))

    def finish(self) -> None:
        """Writes the patches that are left, and the end of the file."""
        self._collect(self._work.rest())
        alone = self._written == 0 and list(self._counts) == [1]
        while self._counts:
            self._write_first(alone)
        self.end(alone)

    def _collect(self, compressed: Iterable[bytes]) -> None:
        for data in compressed:
            self._compressed.append(data)
            while self._compressed and len(self._counts) > 1:  # the last one may go on
                self._write_first(alone=False)

    def _write_first(self, alone: bool) -> None:
        if self._written == 0:
            self.file.write(self.head(alone))
        data = self.frame(
            self._compressed.popleft(), self._boxes.popleft(), self._counts.popleft(), alone
        )
        self._written += 1
        self._output.count_frame(len(data))
        self.file.write(data)

    @abstractmethod
    def compress(self, pixels: Bytes) -> bytes:
        """Returns compressed pixels, uint8 (h, w, 4); called in threads."""

    @abstractmethod
    def head(self, alone: bool) -> bytes:
        """Returns the bytes before the first frame, which may be all there is."""

    @abstractmethod
    def frame(self, data: bytes, box: Box, count: int, alone: bool) -> bytes:
        """Returns the bytes of a patch; called once for each, in their order.

        Args:
            data: What `compress` returned.
            box: Where it lies.
            count: The number of frames for which it stays.
            alone: Whether it is the only frame.
        """

    @abstractmethod
    def end(self, alone: bool) -> None:
        """Writes the end of the file, and what is known only now."""
