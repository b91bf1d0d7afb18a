"""All benchmarks, as one table."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import adding
import long
import on_gpu
import recording
import rendering
import throughput
from table import Line, run


def lines(quick: bool) -> Iterator[Line]:
    started = time.monotonic()
    for benchmark in (recording, adding, throughput, rendering, long, on_gpu):
        yield from benchmark.lines(quick)
    minutes = (time.monotonic() - started) / 60
    yield Line("all of this", minutes, " min", target=6 if quick else None)


if __name__ == "__main__":
    sys.exit(run(lines, "all", __doc__.splitlines()[0]))
