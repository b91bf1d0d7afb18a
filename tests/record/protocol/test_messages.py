"""What goes over the pipe to the writer, and that the writer needs no torch."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from record.protocol import messages
from record.protocol.layout import BatchLayout
from replay.schema import Layer

ROOT = Path(__file__).parents[3]


def test_the_writer_needs_no_torch() -> None:
    code = "import record.writer.__main__, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_messages_come_back_as_they_went() -> None:
    layout = BatchLayout(
        ((3, 4, 5), (3, 8, 8)),
        (Layer("a", "Conv2d", (2, 4, 5), (2, 3, 1, 1)), Layer("b#1", "ReLU", (2, 4, 5))),
    )
    assert BatchLayout.decode(layout.encode()) == layout
    assert layout.size == 60 + 192 + 40 + 6 + 40
    assert [slot.start for slot in layout.places.values()] == [0, 60, 252, 292, 298]
    header = messages.FrameHeader(1, 2, 3, 4.5, {"loss": float("nan")}, (1, 70), 0, 1, 5, 6, 7)
    plain = messages.FrameHeader(1 << 40, 2, 3, 4.5)
    assert messages.FrameHeader.decode(plain.encode({}, 0, 0, None)) == plain
    text = header.encode(header.values, header.dropped, header.lost, header.slot)
    message = messages.pack(messages.FRAME, text, 4) + b"data"

    def read(data: bytes) -> messages.Message | None:
        out, into = os.pipe()
        os.write(into, data)
        os.close(into)
        stream = messages.MessageReader(out, bytearray)
        try:
            return stream.next()
        finally:
            stream._file.close()

    received = read(message)
    assert received is not None
    assert (received.kind, bytes(received.payload)) == (messages.FRAME, b"data")
    assert repr(received.header) == repr(header)
    for cut in range(len(message)):
        assert read(message[:cut]) is None
    with pytest.raises(ValueError, match="expected a message of kind"):
        read(b"WHAT" + bytes(12))


def test_much_that_comes_in_pieces_is_put_together() -> None:
    payload = os.urandom(1 << 20)
    data = messages.pack(messages.PROBES, {"shape": [1]}, len(payload)) + payload
    out, into = os.pipe()

    def send() -> None:
        with open(into, "wb", buffering=0) as pipe:
            for start in range(0, len(data), 50_000):
                pipe.write(data[start : start + 50_000])

    sender = threading.Thread(target=send)
    sender.start()
    stream = messages.MessageReader(out, bytearray)
    received = stream.next()
    assert received is not None
    assert bytes(received.payload) == payload
    assert stream.next() is None
    sender.join()
    stream._file.close()


def test_each_part_keeps_its_place_in_a_layout_with_more() -> None:
    first = Layer("a", "Conv2d", (2, 4, 5), (2, 3, 1, 1))
    gradient = Layer("a", "Conv2d", (2, 4, 5), kind="gradients", scaled=True)
    plain, later = BatchLayout((), (first,)), BatchLayout((), (first, gradient))
    assert plain.places.items() <= later.places.items()
    added = later.places.keys() - plain.places.keys()
    assert sorted(later.places[key].shape for key in added) == [(), (2, 4, 5)]
    assert BatchLayout.decode(later.encode()) == later
