"""How long a training waits for the recording to begin.

A small network is trained for a few steps in a process of its own, plain and recorded by turns.
What is measured is the time from just before the recorder is made to the end of the first step, of
the first eight and of the first forty, by which a queue of the writer's that nobody empties would
be full. The median of some processes is taken of each, and the ratio of recorded to plain.

    python scripts/bench/speed/startup.py [--processes N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MARKS = (1, 8, 40)  # steps after which the clock is read


def train(path: str | None) -> list[float]:
    """Milliseconds from before the recorder is made to the marks."""
    import contextlib

    import torch
    from torch import nn

    from record import Recorder

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.LazyLinear(9),
    )
    images = torch.randn(16, 3, 20, 20)
    optimizer = torch.optim.SGD([*model.train().parameters()], 0.01)

    def step() -> None:
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()

    for _ in range(5):  # what torch does once
        step()
    marks = []
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        recorder = None if path is None else stack.enter_context(Recorder(model, path))
        for number in range(1, MARKS[-1] + 1):
            step()
            if recorder is not None:
                recorder.step()
            if number in MARKS:
                marks.append(1000 * (time.perf_counter() - began))
    return marks


def measure(recorded: bool) -> list[float]:
    """The same, of a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        words = [str(Path(folder) / "run.h5")] if recorded else []
        command = [sys.executable, __file__, "--train", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    times: list[float] = json.loads(done.stdout.splitlines()[-1])
    return times


def columns(rows: list[list[float]]) -> list[list[float]]:
    """What was measured at each mark."""
    return [list(column) for column in zip(*rows, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=7, help="of each kind (default: 7)")
    parser.add_argument("--train", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train is not None:
        print(json.dumps(train(*options.train or [None])))
        return
    plain, recorded = [], []
    for _ in range(options.processes):
        plain.append(measure(False))
        recorded.append(measure(True))
    print("first steps | plain, ms | recorded, ms | ratio")
    for mark, one, other in zip(MARKS, columns(plain), columns(recorded), strict=True):
        without, beside = statistics.median(one), statistics.median(other)
        print(f"{mark:11} | {without:9.1f} | {beside:12.1f} | {beside / without:5.1f}")


if __name__ == "__main__":
    main()
