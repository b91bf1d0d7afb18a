"""Forks writer processes that have imported all they need: a hundred times as many a minute.

Each of them is a process of its own that runs `record.writer.main`, with the descriptors that it
would have inherited. Only the start of the interpreter is left out.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys


def serve(descriptor: int) -> None:
    """Forks a writer for each message, until the other end is closed."""
    from record.writer import __main__ as writer

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as asked:
        while True:
            text, given, _, _ = socket.recv_fds(asked, 4096, 16)
            if not text:
                return
            process = os.fork()
            if not process:
                asked.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _become(json.loads(text), given)
                writer.main()
                os._exit(0)
            for number in given:
                os.close(number)
            asked.sendall(f"{process}\n".encode())


def _become(order: dict[str, list[str]], given: list[int]) -> None:
    """Takes the place that a new interpreter would have: descriptors, arguments, session."""
    os.setsid()
    for target in range(3):
        os.dup2(given[target], target)
        os.close(given[target])
    inherited = given[4:]  # the third is held until the end: who waits hears it close
    names = dict(zip(order["inherited"], map(str, inherited), strict=True))
    sys.argv = ["record.writer", *(names.get(word, word) for word in order["arguments"])]


if __name__ == "__main__":
    serve(int(sys.argv[1]))
