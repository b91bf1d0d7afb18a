"""What goes through the couriers, kept; and every buffer filled with a signal before its use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np

from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.transport.courier import Courier
from record.transport.frame_channel import FrameChannel

SIGNAL = 0x7D5A  # a NaN in float16 that no conversion and no arithmetic makes


@dataclass
class Sent:
    """A frame as the queue took it."""

    header: messages.FrameHeader
    layout: BatchLayout
    data: bytes


@dataclass
class Watched:
    """What went through the couriers while they were watched; by the id of each one's channel."""

    sent: dict[int, list[Sent]] = field(default_factory=dict)
    layouts: dict[int, BatchLayout] = field(default_factory=dict)


@contextlib.contextmanager
def watched() -> Iterator[Watched]:
    """Keeps what every courier is given, and fills every buffer with a signal before its use."""
    seen = Watched()
    take, send, set_layout = FrameChannel.buffer, FrameChannel.send, Courier.set_layout

    def taking(channel: FrameChannel) -> Any:
        buffer = take(channel)
        if buffer is not None:
            np.frombuffer(buffer.data, np.uint16)[:] = SIGNAL
        return buffer

    def sending(channel: FrameChannel, queued: Any) -> None:
        data = bytes(queued.buffer.data)
        frame = Sent(queued.header, seen.layouts[id(channel)], data)
        seen.sent.setdefault(id(channel), []).append(frame)
        send(channel, queued)

    def setting(courier: Courier, layout: BatchLayout, *args: Any, **options: Any) -> None:
        seen.layouts[id(courier.channel)] = layout
        set_layout(courier, layout, *args, **options)

    with (
        mock.patch.object(FrameChannel, "buffer", taking),
        mock.patch.object(FrameChannel, "send", sending),
        mock.patch.object(Courier, "set_layout", setting),
    ):
        yield seen
