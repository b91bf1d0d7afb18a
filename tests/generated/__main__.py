"""Runs many random trainings and prints in how many a recording was not as it should be."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from generated.many import Found, attempt

TOGETHER = 250  # trainings that share a seed of hypothesis


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
            for case, words in found:
                print(f"{case}\n    " + "\n    ".join(words[:6]), flush=True)
    seconds = time.monotonic() - began
    print(
        f"seed {options.seed}: {run} random trainings in {seconds:.0f} s "
        f"({run / seconds:.1f} a second), {len(wrong)} with a difference"
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
