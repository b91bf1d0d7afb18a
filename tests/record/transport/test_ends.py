"""The ways in which a training may end or a writer may stop, without torch, and soon over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import replay
from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.transport import frame_channel
from record.transport.courier import Courier
from record.transport.frame_channel import QueuedFrame
from replay.schema import Layer

ROOT = Path(__file__).parents[3]
LAYOUT = BatchLayout((), (Layer("a", "ReLU()", (1, 2, 2)),))


def test_a_program_that_ends_without_close_has_all_its_frames(tmp_path: Path) -> None:
    """They wait in the queue while the writer starts; the end of the program waits for it."""
    path = tmp_path / "run.h5"
    program = (
        "import sys, numpy as np, record\n"
        "writer = record.Writer(sys.argv[1], quiet=True, durability='flush')\n"
        "for batch in range(30):\n"
        "    writer.write(epoch=0, batch=batch, maps={'a': np.full((1, 4, 4), batch)})\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, cwd=ROOT, timeout=60)
    with replay.open(path) as run:
        assert run.closed
        assert run.frames == [(0, batch) for batch in range(30)]
        assert (run.lost, run.dropped) == (0, 0)


def test_each_frame_that_a_dead_writer_does_not_take_is_counted(tmp_path: Path) -> None:
    path, said = tmp_path / "run.h5", list[str]()
    courier = begun(path, said)
    courier._process.kill()
    assert courier._process.finished.wait(10)
    assert [courier.channel.buffer() for _ in range(5)] == [None] * 5
    assert (courier.lost, courier.dropped, courier.channel.last_refusal) == (5, 0, "lost")
    courier.close()
    assert courier.lost == 5
    assert len(said) == 1
    assert "has ended" in said[0]


class Flat:
    def __init__(self, memory: memoryview | None) -> None:
        assert memory is not None
        self.values = np.frombuffer(memory, np.float16, LAYOUT.size)

    @property
    def data(self) -> memoryview:
        return self.values.view(np.uint8).data


def begun(path: Path, said: list[str]) -> Courier:
    attributes = {"format": "mapreel", "version": 1, "run_id": "", "created": "", "meta": "{}"}
    courier = Courier(path, False, attributes, "wait", said.append)
    courier.set_layout(LAYOUT, 100, Flat)
    assert courier.flush()
    return courier


def test_a_writer_that_stands_still_holds_nobody_up_and_what_that_costs_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_channel, "STALL_SECONDS", 0.2)
    path, said = tmp_path / "run.h5", list[str]()
    courier = begun(path, said)
    # Nothing holds the training up for ever, whatever is wrong.
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("the training waits"))
    signal.setitimer(signal.ITIMER_REAL, 10.0)
    os.kill(courier._process.pid, signal.SIGSTOP)
    try:
        given_up = 0
        for number in range(68):
            buffer = courier.channel.buffer()
            if buffer is None:
                given_up += 1
                continue
            header = messages.FrameHeader(0, number, number, 0.0)
            courier.channel.send(QueuedFrame(buffer, header))
        assert given_up == 4  # of as many as the queue does not hold
        assert (courier.dropped, courier.lost) == (4, 0)
        assert len(said) == 1
        assert "has stood still" in said[0]
    finally:
        os.kill(courier._process.pid, signal.SIGCONT)
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    courier.close()
    with replay.open(path) as run:
        assert (len(run.frames), run.dropped, run.lost) == (64, 4, 0)
