"""All benchmarks, as one table."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import long
import recording
import rendering
import throughput
from table import Line, run


def lines(quick: bool) -> Iterator[Line]:
    for benchmark in (recording, throughput, rendering, long):
        yield from benchmark.lines(quick)


if __name__ == "__main__":
    sys.exit(run(lines, "all", __doc__.splitlines()[0]))
