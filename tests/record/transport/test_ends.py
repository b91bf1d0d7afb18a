"""The ways in which a training may end or a writer may stop, without torch, and soon over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

import replay
from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.transport import frame_channel, writer_process
from record.transport.courier import Courier
from record.transport.frame_channel import QueuedFrame
from replay.schema import Layer, OutputError, RecordingError

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


def test_what_is_waited_for_of_a_writer_that_stands_still_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush says so, the close says what becomes of the file; and then it goes on after all."""
    monkeypatch.setattr(frame_channel, "STALL_SECONDS", 0.2)
    path, said = tmp_path / "run.h5", list[str]()
    courier = begun(path, said)
    os.kill(courier._process.pid, signal.SIGSTOP)
    try:
        assert not courier.flush()
        courier.close()
        courier.close()  # has nothing more to say
    finally:
        os.kill(courier._process.pid, signal.SIGCONT)
    assert len(said) == 1
    assert "has stood still for 0 s; it closes the file by itself" in said[0]
    assert courier._process.finished.wait(10)
    courier._process.wait(10)
    courier._let_go()
    with replay.open(path) as run:
        assert run.closed


def test_a_writer_that_ends_while_the_training_waits_for_it_is_waited_for_no_longer(
    tmp_path: Path,
) -> None:
    courier = begun(tmp_path / "run.h5", [])
    os.kill(courier._process.pid, signal.SIGSTOP)
    for number in range(64):  # as many as the queue holds
        buffer = courier.channel.buffer()
        assert buffer is not None
        header = messages.FrameHeader(0, number, number, 0.0)
        courier.channel.send(QueuedFrame(buffer, header))
    killer = threading.Timer(0.3, courier._process.kill)
    killer.start()
    assert courier.channel.buffer() is None
    assert courier.channel.last_refusal == "lost"
    killer.join()
    courier.close()
    assert (courier.lost, courier.dropped) == (65, 0)


@pytest.mark.parametrize("stands_still", [True, False])
def test_a_writer_that_nobody_waits_for_any_more_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stands_still: bool
) -> None:
    """It is told to close its file; where it does nothing it is killed."""
    monkeypatch.setattr(writer_process, "_END_SECONDS", 0.1 if stands_still else 20.0)
    courier = begun(tmp_path / "run.h5", [])
    process = courier._process
    if stands_still:
        os.kill(process.pid, signal.SIGSTOP)

    def interrupted(timeout: float) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(process._ready, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        process.await_ready()
    assert process.finished.is_set()
    assert process._process.returncode == (-signal.SIGKILL if stands_still else 0)
    courier.close()


@pytest.mark.parametrize("shares", [True, False])
def test_a_writer_that_cannot_be_started_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shares: bool
) -> None:
    if not shares:
        monkeypatch.setattr(writer_process, "_shared_frames", lambda: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RecordingError, match="cannot start the writer process.*no-python"):
        begun(tmp_path / "run.h5", [])
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # of the refusal's own traceback
    assert not list(tmp_path.iterdir())


def test_without_a_folder_for_its_errors_a_writer_says_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> None:
        raise FileNotFoundError("no usable temporary folder")

    monkeypatch.setattr(tempfile, "TemporaryFile", nowhere)
    said = list[str]()
    courier = begun(tmp_path / "run.h5", said)
    os.kill(courier._process.pid, signal.SIGKILL)
    assert courier._process.finished.wait(10)
    assert courier.failure == "the writer process ended (exit code -9)"
    courier.close()


def test_a_frame_that_cannot_be_said_ends_the_recording_and_is_counted(tmp_path: Path) -> None:
    said = list[str]()
    courier = begun(tmp_path / "run.h5", said)
    buffer = courier.channel.buffer()
    assert buffer is not None
    header = messages.FrameHeader(0, 0, 0, 0.0)
    courier.channel.send(QueuedFrame(buffer, header, {"loss": object()}))
    assert courier.failure is not None
    assert "TypeError" in courier.failure
    courier.close()
    assert (courier.lost, courier.dropped) == (1, 0)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ("", "cannot resume: .*(file signature|truncated|No such file|unable)"),
        ("nothing of ours", "cannot resume: it is no recording of this version of the format"),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused_by_its_name(
    tmp_path: Path, made: str, words: str
) -> None:
    path = tmp_path / "run.h5"
    if made:
        with h5py.File(path, "w") as file:
            file["numbers"] = np.arange(3)
    else:
        path.write_bytes(b"no HDF5 at all")
    before = path.read_bytes()
    attributes = {"format": "mapreel", "version": 1, "run_id": "", "created": "", "meta": "{}"}
    with pytest.raises(OutputError, match=f"run.h5: {words}"):
        Courier(path, False, attributes, "wait", pytest.fail, resume=0)
    assert path.read_bytes() == before


def test_a_second_one_of_this_process_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    first = begun(path, [])
    with pytest.raises(OutputError, match="this process records into it already"):
        begun(path, [])
    first.close()
    with replay.open(path) as run:
        assert run.closed


def test_a_folder_that_went_away_is_named(tmp_path: Path) -> None:
    said = list[str]()
    path = tmp_path / "gone" / "run.h5"
    attributes = {"format": "mapreel", "version": 1, "run_id": "", "created": "", "meta": "{}"}
    courier = Courier(path, False, attributes, "wait", said.append)
    assert courier._process.finished.wait(10)
    assert courier.failure is not None
    assert "No such file or directory" in courier.failure
    courier.close()
