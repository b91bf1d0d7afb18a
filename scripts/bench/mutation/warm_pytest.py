"""Runs pytest in forks of a process that has imported torch and the like, which takes seconds.

Nothing of ours is imported before the fork: each run has the source of its own copy.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

HEAVY = ("torch", "torch._dynamo", "h5py", "matplotlib.figure", "PIL.Image", "pytest")
"""What is imported before the fork; no plugin of pytest, which it would rewrite."""

NO_BYTECODE = {"PYTHONDONTWRITEBYTECODE": "1"}
"""Within a second, a module that is changed to the same length would not be compiled anew."""


class WarmPytest:
    """The process that forks, seen from a bench; one run at a time.

    Args:
        heavy: The modules that it imports before.
    """

    def __init__(self, heavy: Sequence[str] = HEAVY) -> None:
        environment = {**os.environ, **NO_BYTECODE, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, *heavy],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def run(
        self, words: Sequence[str], root: Path, output: Path, patience: float
    ) -> tuple[int | None, str]:
        """Runs `pytest WORDS ...` in a folder.

        Args:
            words: The arguments.
            root: The folder, whose modules are imported.
            output: A file for what it prints.
            patience: Seconds for it.

        Returns:
            Its exit code, None where it did not end, and what it printed.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"words": list(words), "root": str(root), "output": str(output)}
        self._process.stdin.write(json.dumps({**order, "patience": patience}) + "\n")
        self._process.stdin.flush()
        code: int | None = json.loads(self._process.stdout.readline())
        return code, output.read_text("utf-8", "replace")

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def serve() -> None:
    """Forks for each order on standard input; answers with the exit code on standard output."""
    for name in sys.argv[1:]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            become(order)
        print(json.dumps(await_end(child, order["patience"])), flush=True)


def become(order: dict[str, str]) -> None:
    """Runs pytest in this process, and ends it."""
    os.setsid()
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for stream, descriptor in enumerate((nothing, output, output)):
        os.dup2(descriptor, stream)
    os.environ["PYTHONPATH"] = order["root"]
    os.chdir(order["root"])
    sys.path[0] = order["root"]
    sys.argv = ["pytest", *order["words"]]
    import pytest

    code = 3
    try:
        code = int(pytest.main(list(order["words"])))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def await_end(child: int, patience: float) -> int | None:
    """Returns a child's exit code; None where it did not end in time."""
    deadline = time.monotonic() + patience
    code: int | None = None
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):  # and whatever it has left behind
        os.killpg(child, signal.SIGKILL)
    if code is None:
        os.waitpid(child, 0)
    return code


if __name__ == "__main__":
    serve()
