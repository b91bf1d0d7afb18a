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
    take, send, set_layout = Courier.buffer, Courier.send, Courier.set_layout

    def taking(courier: Courier) -> Any:
        buffer = take(courier)
        if buffer is not None:
            np.frombuffer(buffer.data, np.uint16)[:] = SIGNAL
        return buffer

    def sending(courier: Courier, parcel: Any) -> None:
        data = bytes(parcel.buffer.data)
        frame = Sent(parcel.header, seen.layouts[id(courier)], data)
        seen.sent.setdefault(id(courier), []).append(frame)
        send(courier, parcel)

    def setting(courier: Courier, layout: BatchLayout, *args: Any, **options: Any) -> None:
        seen.layouts[id(courier.channel)] = layout
        set_layout(courier, layout, *args, **options)

    with (
        mock.patch.object(Courier, "buffer", taking),
        mock.patch.object(Courier, "send", sending),
        mock.patch.object(Courier, "set_layout", setting),
    ):
        yield seen
