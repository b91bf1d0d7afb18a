"""The writer as a process of its own: what ends it, and what does not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

import replay
from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.transport.writer_process import WriterProcess
from replay.schema import Layer

ROOT = Path(__file__).parents[3]
LAYOUT = BatchLayout((), (Layer("a", "ReLU()", (1, 2, 2)),))
WRITER = [sys.executable, "-m", "record.writer"]
# A training that only starts the writer, on what it has been given itself, and waits.
TRAINING = "import os, sys\nif os.fork() == 0: os.execv(sys.argv[1], sys.argv[1:])\nos.wait()"
SECONDS = 8.0  # for an end; it takes half of one


class Writer:
    """A writer process, and the two ends of its pipes."""

    def __init__(self, command: list[str], path: Path) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
            # A shell's background ignores Ctrl-C, and so would whatever is started there.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.input: IO[bytes] = self.process.stdin
        self.output: IO[bytes] = self.process.stdout
        self.frames = 0
        attributes = {"format": "mapreel", "version": 1, "run_id": "", "created": "", "meta": "{}"}
        opening = {"path": str(path), "overwrite": path.exists(), "attributes": attributes}
        self.say(messages.OPEN, {**opening, "resume": None, "durability": "flush"})

    def say(self, kind: bytes, data: dict[str, Any] | bytes, payload: bytes = b"") -> None:
        self.input.write(messages.pack(kind, data, len(payload)) + payload)
        self.input.flush()

    def answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.output.readline() or b'{"error": "none"}')
        return answer

    def flush(self) -> None:
        """Waits until all that was said is in the file."""
        self.say(messages.FLUSH, {"number": 1})
        while "flushed" not in (answer := self.answer()):
            assert "error" not in answer, answer

    def begin(self) -> None:
        self.say(messages.LAYOUT, {"layout": LAYOUT.encode(), "batches": 10, "region": None})
        self.flush()

    def send(self, frames: int, dropped: int = 0, lost: int = 0) -> None:
        for _ in range(frames):
            header = messages.FrameHeader(0, self.frames, self.frames, 0.0)
            values = np.full(LAYOUT.size, self.frames, np.float16).tobytes()
            self.say(messages.FRAME, header.encode({}, dropped, lost, None), values)
            self.frames += 1

    def last_answers(self) -> list[dict[str, Any]]:
        """What it says until it ends."""
        return [json.loads(line) for line in self.output]


@contextlib.contextmanager
def started(path: Path, *command: str) -> Iterator[Writer]:
    writer = Writer([*command, *WRITER], path)
    try:
        yield writer
    finally:
        with contextlib.suppress(OSError):
            writer.input.close()  # which ends it, whatever happened
        with contextlib.suppress(ProcessLookupError):
            os.killpg(writer.process.pid, signal.SIGKILL)
        writer.process.wait()
        writer.output.close()


def is_locked(path: Path) -> bool:
    return path.with_name(f"{path.name}.lock").exists()


def test_it_closes_the_file_at_the_end_of_its_input(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with started(path) as writer:
        writer.begin()
        writer.send(5, dropped=2, lost=3)
        writer.input.close()  # as the system does where a training was killed
        assert writer.last_answers()[-1] == {"committed": 5, "acknowledged": 5, "closed": True}
        assert writer.process.wait(SECONDS) == 0
    with replay.open(path) as run:
        assert run.closed
        assert len(run.frames) == 5
        assert (run.dropped, run.lost) == (2, 3)  # as far as the training had come
    assert os.listdir(tmp_path) == ["run.h5"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="not tested: no fork")
def test_it_closes_the_file_when_its_training_dies_and_a_child_holds_the_pipe(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.h5"
    with started(path, sys.executable, "-S", "-c", TRAINING) as writer:
        writer.begin()
        writer.send(3)
        os.kill(writer.process.pid, signal.SIGKILL)  # this process is the child: it has the pipe
        late = threading.Timer(SECONDS, os.killpg, (writer.process.pid, signal.SIGKILL))
        late.start()
        answers = writer.last_answers()
        late.cancel()
        assert answers[-1].get("closed")
    with replay.open(path) as run:
        assert run.closed
        assert len(run.frames) == 3


def test_ctrl_c_is_for_the_training_and_who_tells_it_to_stop_gets_a_closed_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.h5"
    with started(path) as writer:
        writer.begin()
        writer.send(2)
        writer.process.send_signal(signal.SIGINT)
        writer.send(2)
        writer.flush()
        assert writer.process.poll() is None
        writer.process.send_signal(signal.SIGTERM)
        answers = writer.last_answers()
        assert any(answer.get("closed") for answer in answers)
        assert answers[-1]["error"] == "the writer process was told to stop (SIGTERM)"
    with replay.open(path) as run:
        assert run.closed
        assert len(run.frames) == 4
    assert not is_locked(path)


def test_a_second_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with started(path) as first:
        first.begin()
        first.send(2)
        first.flush()
        with started(path) as second:
            assert second.answer()["error"].startswith("another process is recording into it")
            assert second.process.wait(SECONDS) == 1
        first.send(2)
        first.flush()
        assert is_locked(path)
    with replay.open(path) as run:
        assert len(run.frames) == 4


def test_a_terminal_that_is_closed_ends_the_training_alone() -> None:
    process = WriterProcess()
    try:
        assert os.getsid(process.pid) == process.pid != os.getsid(0)
    finally:
        process.kill()
        process.end_input()
        process.listen()
        process.let_go()


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"WHAT" + bytes(12), "expected a message of kind"),
        (messages.pack(messages.FLUSH, {"number": 1}), "expected OPEN first, found b'FLUS'"),
        (messages.pack(messages.THIN, {"keep": 2}), "expected OPEN first"),
    ],
)
def test_what_it_does_not_understand_it_names_and_ends(sent: bytes, words: str) -> None:
    done = subprocess.run(
        WRITER, input=sent, capture_output=True, cwd=ROOT, timeout=60, check=False
    )
    assert words in json.loads(done.stdout.splitlines()[-1])["error"]
    assert done.returncode == 1


def test_a_frame_of_another_size_is_refused_and_those_before_it_stay(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with started(path) as writer:
        writer.begin()
        writer.send(3)
        writer.flush()
        header = messages.FrameHeader(0, 3, 3, 0.0)
        writer.say(messages.FRAME, header.encode({}, 0, 0, None), bytes(2 * LAYOUT.size + 2))
        assert "expected frames of 4 values, found (1, 5)" in writer.last_answers()[-1]["error"]
        assert writer.process.wait(SECONDS) == 1
    with replay.open(path) as run:
        assert len(run.frames) == 3
