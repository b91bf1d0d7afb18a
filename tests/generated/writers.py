"""Writer processes for thousands of recordings: forked from one that has imported all they need."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from record.transport import writer_process

ROOT = Path(__file__).parents[2]


class Forked:
    """What `subprocess.Popen` would have been, as far as a writer process is concerned."""

    def __init__(
        self, zygote: socket.socket, command: list[str], pass_fds: Any, stderr: Any
    ) -> None:
        assert command[1:3] == ["-m", "record.writer"], command
        inherited = [str(number) for number in pass_fds]
        read_input, write_input = os.pipe()
        read_output, write_output = os.pipe()
        self._alive, held = os.pipe()
        given = [read_input, write_output, stderr.fileno(), held, *pass_fds]
        order = {"arguments": command[3:], "inherited": inherited}
        socket.send_fds(zygote, [json.dumps(order).encode()], given)
        self.pid = int(zygote.recv(64))
        for number in (read_input, write_output, held):
            os.close(number)
        self.stdin = os.fdopen(write_input, "wb", buffering=0)
        self.stdout = os.fdopen(read_output, "rb", buffering=0)
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end."""
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._alive, select.POLLIN)
            if not poll.poll(None if timeout is None else 1000 * timeout):
                raise subprocess.TimeoutExpired("record.writer", timeout or 0.0)
            os.close(self._alive)
            self.returncode = 0
        return self.returncode

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def kill(self) -> None:
        """Ends it at once."""
        os.kill(self.pid, signal.SIGKILL)


@contextlib.contextmanager
def forking() -> Iterator[Callable[..., Forked]]:
    """A process that forks writers, and what starts one as `subprocess.Popen` would."""
    ours, theirs = socket.socketpair()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(Path(__file__).with_name("zygote.py")), str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, cwd=ROOT)
    theirs.close()

    def fork(command: list[str], *, pass_fds: Any = (), stderr: Any, **_: Any) -> Forked:
        return Forked(ours, command, pass_fds, stderr)

    try:
        yield fork
    finally:
        ours.close()
        process.wait()


@contextlib.contextmanager
def started_by(fork: Callable[..., Forked]) -> Iterator[None]:
    """Within this, recorders start their writer processes by that."""
    names = {name: getattr(subprocess, name) for name in dir(subprocess) if name[0].isupper()}
    replaced = SimpleNamespace(**{**names, "Popen": fork})
    with mock.patch.object(writer_process, "subprocess", replaced):
        yield


@contextlib.contextmanager
def quick_writers() -> Iterator[None]:
    """Within this, recorders start their writer processes by a fork."""
    with forking() as fork, started_by(fork):
        yield
