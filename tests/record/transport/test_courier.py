"""The way of a batch to the writer: who carries it, and what waits for what."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import replay
from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.transport.courier import Courier
from record.transport.frame_channel import QueuedFrame
from replay.schema import FORMAT, VERSION, Layer

LAYOUT = BatchLayout((), (Layer("conv", "Conv2d()", (2, 4, 4)),))


class Flat:
    def __init__(self, memory: memoryview | None) -> None:
        if memory is None:
            self.values = np.zeros(LAYOUT.size, np.float16)
        else:
            self.values = np.frombuffer(memory, np.float16, LAYOUT.size)

    @property
    def data(self) -> memoryview:
        return self.values.view(np.uint8).data


def open_courier(path: Path, shared: bool = True) -> Courier:
    attributes = {"format": FORMAT, "version": VERSION, "run_id": "", "created": "", "meta": "{}"}
    courier = Courier(path, False, attributes, "wait", pytest.fail)
    courier.set_layout(LAYOUT, 100, Flat, shared)
    assert courier.flush()
    return courier


def send(
    courier: Courier,
    number: int,
    arrived: Callable[[], object] | None = None,
    values: dict[str, float] | None = None,
) -> None:
    buffer = courier.channel.buffer()
    assert isinstance(buffer, Flat)
    buffer.values[:] = number
    header = messages.FrameHeader(0, number, number, 0.0)
    courier.channel.send(QueuedFrame(buffer, header, values or {}, arrived))


def check(path: Path, frames: int) -> None:
    with replay.open(path) as run:
        assert (len(run.frames), run.lost, run.dropped) == (frames, 0, 0)
        for epoch, batch in run.frames:
            assert (run["conv"][epoch, batch] == batch).all()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_is_here_does_not_wait_for_what_is_still_on_a_gpu(tmp_path: Path) -> None:
    courier = open_courier(tmp_path / "run.h5")
    gates = [threading.Event() for _ in range(6)]
    for number, gate in enumerate(gates):
        send(courier, number, gate.wait)
    for number, gate in enumerate(gates):
        assert courier.sent == number
        gate.set()
        until(lambda expected=number + 1: courier.sent == expected)  # type: ignore[misc]
        until(lambda expected=number + 1: courier.committed == expected)  # type: ignore[misc]
    courier.close()
    check(tmp_path / "run.h5", 6)


def test_no_thread_wakes_up_for_a_frame_that_is_here(tmp_path: Path) -> None:
    courier = open_courier(tmp_path / "run.h5")
    queued = courier.channel.queued
    for number in range(80):
        send(courier, number, values={"loss": 1.0})
    assert courier.channel.queued == queued
    assert courier.sent == 80
    courier.close()
    check(tmp_path / "run.h5", 80)


def test_frames_stay_in_their_order_whoever_carries_them(tmp_path: Path) -> None:
    courier = open_courier(tmp_path / "run.h5")
    gate = threading.Event()
    send(courier, 0, gate.wait)
    send(courier, 1)  # here, but behind one that is not
    assert courier.sent == 0
    gate.set()
    until(lambda: courier.sent == 2)
    send(courier, 2)
    send(courier, 3, values={f"a field with a long name, number {n}": n for n in range(40)})
    send(courier, 4)
    courier.close()
    check(tmp_path / "run.h5", 5)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.order[0, :5].tolist() == [1, 2, 3, 4, 5]
        assert run.batches["a field with a long name, number 39"][0, 3] == 39


def test_frames_go_through_the_pipe_where_they_have_memory_of_their_own(tmp_path: Path) -> None:
    courier = open_courier(tmp_path / "run.h5", shared=False)
    for number in range(80):
        send(courier, number)
    courier.close()
    check(tmp_path / "run.h5", 80)


def test_the_training_never_waits_for_a_pipe_that_holds_little(tmp_path: Path) -> None:
    """Where a user's pipes are small, a thread sends what might not fit."""
    courier = open_courier(tmp_path / "run.h5")
    courier._process.capacity = 4096
    courier.set_layout(LAYOUT, 100, Flat)
    queued = courier.channel.queued
    for number in range(80):
        send(courier, number)
    assert courier.channel.queued == queued + 80
    courier.close()
    check(tmp_path / "run.h5", 80)
    assert courier._process.memory is None  # it is given back
