"""The messages on the pipe from the training process to the writer, both halves side by side.

A message is a header (kind, two lengths), a JSON object and a payload of raw bytes:

    OPEN  {path, overwrite, run_id, created, meta}    create the file
    LAYT  {layout, batches}                           what a frame consists of from now on
    FRAM  {epoch, batch, ..., values} + float16 data  one batch
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

OPEN, LAYOUT, FRAME, DONE = b"OPEN", b"LAYT", b"FRAM", b"DONE"
KINDS = frozenset((OPEN, LAYOUT, FRAME, DONE))


class Slot(NamedTuple):
    """Where one array lies in a batch's flat float16 buffer, counted in values."""

    start: int
    stop: int  # one past the last value
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """What one batch consists of, and where each part lies in its flat float16 buffer.

    The image comes first, then for each layer its maps and, where they are kept, its kernels.

    Attributes:
        image: Shape of the input image, (C, H, W), or None where none is recorded.
        layers: The recorded layer calls.
    """

    image: tuple[int, ...] | None
    layers: tuple[Layer, ...]
    image_slot: Slot | None = field(init=False, repr=False, compare=False)
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

        image = None if self.image is None else place(self.image)
        maps, kernels = [], []
        for layer in self.layers:
            maps.append(place(layer.shape))
            kernels.append(None if layer.kernel is None else place(layer.kernel))
        object.__setattr__(self, "image_slot", image)
        object.__setattr__(self, "map_slots", tuple(maps))
        object.__setattr__(self, "kernel_slots", tuple(kernels))
        object.__setattr__(self, "size", end)

    @property
    def slots(self) -> tuple[Slot | None, ...]:
        """All parts in their order: the image, then maps and kernels of each layer."""
        pairs = zip(self.map_slots, self.kernel_slots, strict=True)
        return (self.image_slot, *(slot for pair in pairs for slot in pair))

    @property
    def nbytes(self) -> int:
        """Bytes of one batch."""
        return self.size * FRAME_DTYPE.itemsize

    def encode(self) -> dict[str, Any]:
        """As JSON-ready values; `decode` reads them back."""
        return {
            "image": None if self.image is None else list(self.image),
            "layers": [layer.encode() for layer in self.layers],
        }

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Layout:
        """The layout that `encode` described."""
        image = data["image"]
        return cls(
            image=None if image is None else tuple(image),
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
        missing: Places in the layout of the layers that put out nothing in this batch.
        image: Whether the buffer holds an input image.
        dropped: Batches not recorded so far because the queue was full.
        lost: Batches and layer frames lost so far for any other reason.
    """

    epoch: int
    batch: int
    step: int
    time: float
    values: dict[str, float] = field(default_factory=dict)
    missing: tuple[int, ...] = ()
    image: bool = True
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
