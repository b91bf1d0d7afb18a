"""Runs many random trainings and prints in how many a recording was not as it should be."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from generated.cases import Case, cases, differences
from generated.writers import quick_writers

TOGETHER = 250  # trainings that share a seed of hypothesis

Found = tuple[Case, list[str]]


def attempt(number: int, count: int) -> tuple[int, list[Found]]:
    """Runs so many trainings.

    Args:
        number: The seed.
        count: How many.

    Returns:
        How many were run, and those in which something was wrong, with what that was.
    """
    torch.set_num_threads(1)
    wrong: list[Found] = []
    run = 0

    with tempfile.TemporaryDirectory() as folder, quick_writers():
        path = Path(folder) / "run.h5"

        @seed(number)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(cases())
        def train(case: Case) -> None:
            nonlocal run
            if run == count:
                return
            run += 1
            path.unlink(missing_ok=True)
            try:
                found = differences(case, path)
            except Exception as error:
                found = [f"the training broke off: {type(error).__name__}: {error}"]
            if found:
                wrong.append((case, found))

        train()
    return run, wrong


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench/trainings", description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="trainings (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of models and loops (%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (%(default)s)")
    options = parser.parse_args()
    sizes = [min(TOGETHER, options.count - n) for n in range(0, options.count, TOGETHER)]
    seeds = [1000 * options.seed + n for n in range(len(sizes))]
    began = time.monotonic()
    run, wrong = 0, list[Found]()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, context) as pool:
        for count, found in pool.map(attempt, seeds, sizes):
            run += count
            wrong += found
            print(f"{run} trainings, {len(wrong)} with differences", file=sys.stderr)
    seconds = time.monotonic() - began
    for case, found in sorted(wrong, key=lambda entry: len(repr(entry[0])))[:10]:
        print(case)
        for line in found[:6]:
            print(f"    {line}")
    print(
        f"seed {options.seed}: {run} random trainings in {seconds:.0f} s "
        f"({run / seconds:.1f} a second), {len(wrong)} with a difference"
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
