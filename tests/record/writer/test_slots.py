"""Slots of the shared memory: the training may write into one as soon as it is given back."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Any

import numpy as np

import replay
from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.writer.service import Service
from replay.schema import Layer

LAYOUT = BatchLayout((), (Layer("a", "ReLU()", (1, 2, 2)),))
FRAMES = 40  # more than are written together


class Memory:
    """The shared memory, with a training behind it that uses a slot again at once."""

    def __init__(self) -> None:
        self.values = np.repeat(np.arange(FRAMES, dtype=np.float16)[:, None], LAYOUT.size, axis=1)
        self.done_with = 0

    def frames(self, slots: list[int], size: int) -> np.ndarray:
        return self.values[slots[0] : slots[-1] + 1, :size]

    def done(self, count: int) -> None:
        self.values[self.done_with : self.done_with + count] = -1
        self.done_with += count


class Given:
    """An inbox in which all frames come at once."""

    def __init__(self, path: Path) -> None:
        attributes = {"format": "mapreel", "version": 1, "run_id": "", "created": "", "meta": "{}"}
        opening = {"path": str(path), "overwrite": False, "attributes": attributes, "resume": None}
        layout = {"layout": LAYOUT.encode(), "batches": FRAMES, "region": None}
        headers = [messages.FrameHeader(0, n, n, 0.0) for n in range(FRAMES)]
        self._waiting = [
            [self._message(messages.OPEN, {**opening, "durability": "flush"})],
            [self._message(messages.LAYOUT, layout)],
            [self._message(messages.SLOT, h.encode({}, 0, 0, h.batch)) for h in headers],
            [self._message(messages.DONE, {"dropped": 0, "lost": 0})],
        ]

    def _message(self, kind: bytes, data: dict[str, Any] | bytes) -> messages.Message:
        text = messages.pack(kind, data)[messages.HEADER.size :]
        return messages.Message(kind, text, memoryview(b""), None)

    def get(self, timeout: float) -> list[messages.Message]:
        if not self._waiting:
            raise queue.Empty
        return self._waiting.pop(0)

    def give_back(self, message: messages.Message) -> None:
        pass


def test_a_slot_is_given_back_when_its_frame_is_written_and_not_before(tmp_path: Path) -> None:
    path, memory = tmp_path / "run.h5", Memory()
    inbox: Any = Given(path)
    shared: Any = memory
    Service(inbox, lambda answer: None, threading.Event(), shared).run()
    assert memory.done_with == FRAMES
    with replay.open(path) as run:
        assert len(run.frames) == FRAMES
        for epoch, batch in run.frames:
            assert (run["a"][epoch, batch] == batch).all()
        assert not replay.verify(run).problems  # nor what lies beside them
