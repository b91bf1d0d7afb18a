"""The messages on the pipe from the training process to the writer, both halves side by side.

A message is a header (kind, two lengths), a text and a payload of raw bytes. The text is a JSON
object but for the many messages of frames, for which JSON would cost too much:

    OPEN  {path, overwrite, attributes, ...}          create the file, or go on with one
    LAYT  {layout, batches, region}                   what a frame consists of from now on
    PROB  {shape} + float16 data                      fixed images, before the first LAYT
    FRAM  a `FrameHeader` + float16 data              one batch
    SLOT  a `FrameHeader`                             one batch, in a slot of `shared_memory`
    HELD  a `FrameHeader`                             one that is a SLOT later, or at the pipe's end
    THIN  {keep}                                      keep the first of every so many frames
    FLUS  {number}                                    commit now, and say so
    DONE  {dropped, lost}                             close the file, as at the end of the pipe

The writer answers with JSON lines: `{"ready": true}`, `{"committed": 12, "bytes": 4096}`,
`{"error": "..."}`, `{"closed": true}`.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

# The kinds of messages.
OPEN, LAYOUT, PROBES = b"OPEN", b"LAYT", b"PROB"  # once, or seldom
FRAME, SLOT = b"FRAM", b"SLOT"  # once for each batch
HELD = b"HELD"  # once for each epoch
THIN, FLUSH, DONE = b"THIN", b"FLUS", b"DONE"  # what the writer is asked to do
KINDS = frozenset((OPEN, LAYOUT, PROBES, FRAME, SLOT, HELD, THIN, FLUSH, DONE))

HEADER = struct.Struct("<4sIQ")  # kind, bytes of text, bytes of payload
# epoch, batch, step, time, absent, image, dropped, lost, slot, number of missing layers; -1 is None
_FRAME_HEADER = struct.Struct("<qqqdqqqqqI")

REPLACED = "another program has put a file in its place"  # why a writer has failed
LARGEST_NUMBER = (1 << 62) - 1  # of an epoch, a batch or a step that is sent


class Moved:
    """Why a frame is not written where the training said.

    Attributes:
        AGAIN: Its place holds a frame already.
        FAR: Its epoch is too far from those before.
        FULL: A file has no room for it.
    """

    AGAIN, FAR, FULL = "again", "far", "full"


_BLOCK = 1 << 16  # bytes that are read from the pipe at once
_NO_PAYLOAD = memoryview(b"")


class FrameHeader(NamedTuple):
    """What goes along with one batch's values.

    Attributes:
        epoch: The batch's epoch, from 0.
        batch: The batch's number in the epoch, from 0.
        step: The number of batches trained before it, recorded or not.
        time: Unix time in seconds.
        values: What the training loop logged.
        missing: Places in the layout of the layers without a frame in this batch.
        absent: Layers that put out nothing, though they did in earlier batches.
        image: Which of the layout's images the buffer holds; None where it holds none.
        dropped: Batches not recorded so far because the queue was full.
        lost: Batches and layer frames lost so far for any other reason.
        slot: In which slot of the shared memory the frame lies; None where it comes along.
    """

    epoch: int
    batch: int
    step: int
    time: float
    values: Mapping[str, float] = MappingProxyType({})
    missing: tuple[int, ...] = ()
    absent: int = 0
    image: int | None = None
    dropped: int = 0
    lost: int = 0
    slot: int | None = None

    def encode(
        self, values: Mapping[str, float], dropped: int, lost: int, slot: int | None
    ) -> bytes:
        """Returns the header as bytes; `decode` reads them back.

        Args:
            values: What the training loop logged, in the place of the header's own.
            dropped: Likewise, batches not recorded so far because the queue was full.
            lost: Likewise, batches and layer frames lost so far for any other reason.
            slot: Likewise, the slot of the shared memory in which the frame lies.
        """
        image, missing = self.image, self.missing
        fixed = _FRAME_HEADER.pack(
            self.epoch,
            self.batch,
            self.step,
            self.time,
            self.absent,
            -1 if image is None else image,
            dropped,
            lost,
            -1 if slot is None else slot,
            len(missing),
        )
        if missing:
            fixed += struct.pack(f"<{len(missing)}I", *missing)
        return fixed + json.dumps(values).encode() if values else fixed

    @classmethod
    def decode(cls, text: bytes) -> FrameHeader:
        """Returns the header that `encode` has described."""
        epoch, batch, step, time, absent, image, dropped, lost, slot, count = (
            _FRAME_HEADER.unpack_from(text)
        )
        end = _FRAME_HEADER.size + 4 * count
        return cls(
            epoch,
            batch,
            step,
            time,
            json.loads(text[end:]) if len(text) > end else {},
            struct.unpack_from(f"<{count}I", text, _FRAME_HEADER.size) if count else (),
            absent,
            None if image < 0 else image,
            dropped,
            lost,
            None if slot < 0 else slot,
        )


def pack(kind: bytes, data: dict[str, Any] | bytes, payload_size: int = 0) -> bytes:
    """Returns a message up to its payload, whose bytes follow.

    Args:
        kind: One of `KINDS`.
        data: What the message says, for JSON; for a frame its encoded header.
        payload_size: The number of bytes of the payload.
    """
    text = data if isinstance(data, bytes) else json.dumps(data, default=str).encode()
    return HEADER.pack(kind, len(text), payload_size) + text


class Message(NamedTuple):
    """One message as the writer receives it.

    Attributes:
        kind: One of `KINDS`.
        text: What the message says, encoded.
        payload: The raw bytes behind it.
        buffer: The buffer that the payload is a view of, to be used again; None without payload.
    """

    kind: bytes
    text: bytes
    payload: memoryview
    buffer: bytearray | None

    @property
    def data(self) -> dict[str, Any]:
        """What the message says, if it is none of a frame."""
        data: dict[str, Any] = json.loads(self.text)
        return data

    @property
    def header(self) -> FrameHeader:
        """What the message says, if it is one of a frame."""
        return FrameHeader.decode(self.text)


class MessageReader:
    """Reads messages from a pipe by the block: small ones need no system call each.

    Args:
        descriptor: The end of the pipe.
        take: Called where there is a payload; returns a buffer for it, which is replaced by a
            larger one if it is too small.
    """

    def __init__(self, descriptor: int, take: Callable[[], bytearray]) -> None:
        self._file = os.fdopen(descriptor, "rb", buffering=0)
        self._take_buffer = take
        self._block = memoryview(bytearray(_BLOCK))
        self._start = self._stop = 0  # of what was read and not yet taken

    @property
    def waiting(self) -> bool:
        """Whether something was read that `next` has not returned yet."""
        return self._start < self._stop

    def next(self) -> Message | None:
        """Returns the next message; None at the end, also where a message breaks off.

        Raises:
            ValueError: The bytes are not a message.
        """
        header = self._take(HEADER.size)
        if header is None:
            return None
        kind, text_size, payload_size = HEADER.unpack(header)
        if kind not in KINDS:
            raise ValueError(f"expected a message of kind {sorted(KINDS)}, found {kind!r}")
        text = self._take(text_size)
        if text is None:
            return None
        if not payload_size:
            return Message(kind, text, _NO_PAYLOAD, None)
        buffer = self._take_buffer()
        if len(buffer) < payload_size:
            buffer = bytearray(payload_size)
        payload = memoryview(buffer)[:payload_size]
        return Message(kind, text, payload, buffer) if self._fill(payload) else None

    def _take(self, count: int) -> bytes | None:
        stop = self._start + count
        if stop <= self._stop:
            taken = bytes(self._block[self._start : stop])
            self._start = stop
            return taken
        view = memoryview(bytearray(count))
        return bytes(view) if self._fill(view) else None

    def _fill(self, view: memoryview) -> bool:
        while view:
            if not self.waiting:
                large = len(view) >= _BLOCK
                count = self._file.readinto(view if large else self._block)
                if not count:
                    return False
                if large:
                    view = view[count:]
                    continue
                self._start, self._stop = 0, count
            count = min(len(view), self._stop - self._start)
            view[:count] = self._block[self._start : self._start + count]
            self._start += count
            view = view[count:]
        return True
