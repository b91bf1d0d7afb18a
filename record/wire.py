"""The messages on the pipe from the training process to the writer, both halves side by side.

A message is a header (kind, two lengths), a JSON object and a payload of raw bytes:

    OPEN  {path, overwrite, attributes, ...}          create the file, or go on with one
    LAYT  {layout, batches}                           what a frame consists of from now on
    PROB  {shape} + float16 data                      fixed images, before the first LAYT
    FRAM  {epoch, batch, ..., values} + float16 data  one batch
    THIN  {keep}                                      keep the first of every so many frames
    FLUS  {number}                                    commit now, and say so
    DONE  {dropped, lost}                             close the file, as at the end of the pipe

The writer answers with JSON lines: `{"ready": true}`, `{"committed": 12, "bytes": 4096}`,
`{"error": "..."}`, `{"closed": true}`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from replay.schema import FRAME_DTYPE, Layer

HEADER = struct.Struct("<4sIQ")  # kind, bytes of JSON, bytes of payload

OPEN, LAYOUT, PROBES = b"OPEN", b"LAYT", b"PROB"
FRAME, THIN, FLUSH, DONE = b"FRAM", b"THIN", b"FLUS", b"DONE"
KINDS = frozenset((OPEN, LAYOUT, PROBES, FRAME, THIN, FLUSH, DONE))


GROWTH = 64  # batches by which an epoch of unknown length grows
_CHUNK_BYTES = 1 << 16  # of the small datasets, at most


def small_chunk(cell_bytes: int, batches: int | None) -> int:
    """How many batches of an epoch share a chunk in a dataset of small cells.

    Args:
        cell_bytes: Bytes of one batch's cell.
        batches: Batches in an epoch, if it is known.
    """
    fitting = max(1, _CHUNK_BYTES // max(1, cell_bytes))
    return min(fitting, batches or 4 * GROWTH)


class Slot(NamedTuple):
    """Where one array lies in a batch's flat float16 buffer, counted in values."""

    start: int
    stop: int  # one past the last value
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """What one batch consists of, and where each part lies in its flat float16 buffer.

    The images come first, then for each layer its maps and, where they are kept, its kernels.

    Attributes:
        images: Shapes of the input images, (C, H, W), that occur: usually one, none where no
            image is recorded. A batch holds one of them.
        layers: The recorded layer calls.
    """

    images: tuple[tuple[int, ...], ...]
    layers: tuple[Layer, ...]
    image_slots: tuple[Slot, ...] = field(init=False, repr=False, compare=False)
    map_slots: tuple[Slot, ...] = field(init=False, repr=False, compare=False)
    kernel_slots: tuple[Slot | None, ...] = field(init=False, repr=False, compare=False)
    size: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        end = 0

        def place(shape: tuple[int, ...]) -> Slot:
            nonlocal end
            slot = Slot(end, end + int(np.prod(shape, dtype=np.int64)), shape)
            end = slot.stop
            return slot

        images = tuple(place(shape) for shape in self.images)
        maps, kernels = [], []
        for layer in self.layers:
            maps.append(place(layer.shape))
            kernels.append(None if layer.kernel is None else place(layer.kernel))
        object.__setattr__(self, "image_slots", images)
        object.__setattr__(self, "map_slots", tuple(maps))
        object.__setattr__(self, "kernel_slots", tuple(kernels))
        object.__setattr__(self, "size", end)

    @property
    def places(self) -> dict[object, Slot]:
        """Every part by what it is, which a later layout with more parts keeps."""
        named: dict[object, Slot] = dict(zip(self.images, self.image_slots, strict=True))
        for layer, maps, kernel in zip(self.layers, self.map_slots, self.kernel_slots, strict=True):
            named[layer.group, layer.name] = maps
            if kernel is not None:
                named[layer.group, layer.name, "kernel"] = kernel
        return named

    @property
    def nbytes(self) -> int:
        """Bytes of one batch."""
        return self.size * FRAME_DTYPE.itemsize

    def encode(self) -> dict[str, Any]:
        """As JSON-ready values; `decode` reads them back."""
        return {
            "images": [list(shape) for shape in self.images],
            "layers": [layer.encode() for layer in self.layers],
        }

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Layout:
        """The layout that `encode` described."""
        return cls(
            images=tuple(tuple(shape) for shape in data["images"]),
            layers=tuple(Layer.decode(layer) for layer in data["layers"]),
        )


@dataclass(frozen=True)
class FrameHeader:
    """What goes along with one batch's values.

    Attributes:
        epoch: Its epoch, from 0.
        batch: Its number in the epoch, from 0.
        step: Batches trained before it, recorded or not.
        time: Unix time in seconds.
        values: What the training loop logged.
        missing: Places in the layout of the layers without a frame in this batch.
        absent: Layers that put out nothing, though they did in earlier batches.
        image: Which of the layout's images the buffer holds; None where it holds none.
        dropped: Batches not recorded so far because the queue was full.
        lost: Batches and layer frames lost so far for any other reason.
    """

    epoch: int
    batch: int
    step: int
    time: float
    values: dict[str, float] = field(default_factory=dict)
    missing: tuple[int, ...] = ()
    absent: int = 0
    image: int | None = None
    dropped: int = 0
    lost: int = 0

    def encode(self) -> dict[str, Any]:
        """As JSON-ready values; `decode` reads them back."""
        return {**self.__dict__, "missing": list(self.missing)}

    @classmethod
    def decode(cls, data: dict[str, Any]) -> FrameHeader:
        """The header that `encode` described."""
        return cls(**{**data, "missing": tuple(data["missing"])})


def pack(kind: bytes, data: dict[str, Any], payload_size: int = 0) -> bytes:
    """A message up to its payload, whose bytes follow."""
    text = json.dumps(data, default=str).encode()
    return HEADER.pack(kind, len(text), payload_size) + text


def unpack(read_into: Callable[[memoryview], bool], buffer: bytearray) -> Message | None:
    """The next message, its payload in `buffer`, which grows as needed.

    Args:
        read_into: Fills the view that it is given, or returns False at the end of the pipe.
        buffer: Takes the payload if it is large enough; else a larger one takes its place.

    Returns:
        None at the end of the pipe, also where it breaks off within a message.

    Raises:
        ValueError: The bytes are not a message.
    """
    header = bytearray(HEADER.size)
    if not read_into(memoryview(header)):
        return None
    kind, text_size, payload_size = HEADER.unpack(header)
    if kind not in KINDS:
        raise ValueError(f"expected a message of kind {sorted(KINDS)}, found {kind!r}")
    text = bytearray(text_size)
    if not read_into(memoryview(text)):
        return None
    if len(buffer) < payload_size:
        buffer = bytearray(payload_size)
    payload = memoryview(buffer)[:payload_size]
    if not read_into(payload):
        return None
    return Message(kind, json.loads(text), payload, buffer)


class Message(NamedTuple):
    """One message as the writer receives it."""

    kind: bytes
    data: dict[str, Any]
    payload: memoryview
    buffer: bytearray  # that the payload is a view of, to be used again
