"""Runs Python commands in forks of a process that has imported torch, which takes seconds.

For tests of what a training script or a command does and says; those of the start itself use
`subprocess`. Each command still is a process of its own, with its folder, its environment, its
output and its end.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 120.0
HEAVY = ("h5py", "matplotlib.figure", "matplotlib.backends.backend_agg", "PIL.Image")


class WarmPython:
    """The process that forks, seen from the tests.

    Args:
        server: The end of the socket by which it is asked.
    """

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        server.settimeout(LIMIT_SECONDS)

    def run(
        self, words: Sequence[object], cwd: Path, env: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Runs `python WORDS ...`, a script or `-m` and a module, as `subprocess.run` would."""
        command = [str(word) for word in words]
        order = json.dumps({"words": command, "cwd": str(cwd), "env": env}).encode()
        with (
            open(os.devnull, "rb") as given,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            files = [given.fileno(), out.fileno(), err.fileno()]
            socket.send_fds(self._server, [order], files)
            status = int(self._server.recv(64))
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        code = os.waitstatus_to_exitcode(status)
        return subprocess.CompletedProcess(["python", *command], code, *texts)


@contextlib.contextmanager
def warm_python() -> Iterator[WarmPython]:
    """Starts the process, and ends it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, __file__, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    theirs.close()
    try:
        yield WarmPython(ours)
    finally:
        ours.close()
        process.wait()


def serve(descriptor: int) -> dict[str, object]:
    """Forks for each order, and answers with how that process ended.

    Returns:
        In a forked process: what is to be run. In the process that forks it does not return.
    """
    import torch
    import torch._dynamo  # which an optimizer imports when it is made

    for name in HEAVY:  # what commands of replay import
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # or each fork would look at, and so copy, all that torch has made
    assert torch.get_num_threads() == 1  # a fork of a process with threads may wait for ever
    with socket.socket(fileno=descriptor) as asked:
        while True:
            text, files, _, _ = socket.recv_fds(asked, 1 << 20, 3)
            if not text:
                sys.exit()
            process = os.fork()
            if not process:
                for target, file in enumerate(files):
                    os.dup2(file, target)
                    os.close(file)
                return json.loads(text)
            for file in files:
                os.close(file)
            asked.sendall(str(os.waitpid(process, 0)[1]).encode())


def become(order: dict[str, object]) -> None:
    """Does what `python WORDS ...` does, in this process."""
    words, env = order["words"], order["env"]
    assert isinstance(words, list)
    assert isinstance(env, dict)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(str(order["cwd"]))
    sys.orig_argv = [sys.executable, *words]
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.path[0] = os.getcwd()
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path[0] = str(Path(words[0]).parent)
        runpy.run_path(words[0], run_name="__main__")


def end(code: object) -> None:
    """Ends this process as the interpreter does, but for taking torch to pieces: that takes seconds."""
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit((code or 0) & 0xFF)


if __name__ == "__main__":
    ordered = serve(int(sys.argv[1]))
    try:
        become(ordered)
    except SystemExit as stopped:
        end(stopped.code)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        end(1)
    end(0)
