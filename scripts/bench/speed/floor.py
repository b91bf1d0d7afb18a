"""The process behind `recording.Floor`: write()s pieces of shared memory to a file, nothing else.

The arguments are the memory's name, the bytes of a piece and the file. A byte on standard input is
the number of a piece; `ALL_DONE` is answered with a byte once all before it are written.
"""

from __future__ import annotations

import os
import select
import sys
import time
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

ALL_DONE = 255
_GATHER_SECONDS = 0.1  # as the recorder's writer waits for more, instead of waking up for each


def main(name: str, size: int, path: Path) -> None:
    memory = SharedMemory(name)
    resource_tracker.unregister(memory._name, "shared_memory")  # it is its maker's to remove
    with path.open("wb", buffering=0) as file:
        while numbers := os.read(0, 1):
            if numbers[0] != ALL_DONE:
                time.sleep(_GATHER_SECONDS)
                numbers += os.read(0, 4096) if _waits() else b""
            for number in numbers:
                if number == ALL_DONE:
                    os.write(1, b".")
                else:
                    file.write(memory.buf[number * size : (number + 1) * size])
    memory.close()


def _waits() -> bool:
    """Whether there is more to read."""
    return bool(select.select([0], [], [], 0)[0])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
