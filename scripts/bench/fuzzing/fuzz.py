"""The readers under a fuzzer: how many executions, how fast, and what was found.

An execution is one reader (`info`, `verify`, a film of one frame) over one changed file. A finding
is a reader that neither reads nor refuses: another exception, a crash, more than 5 s of work, or
memory taken up to the limit of 1 GiB; a request beyond it that fails at once is a refusal.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fork_server import READERS, ROOT, Finding, Fuzzer, Readers, Tally, load_seeds

FINDINGS = ROOT / "tests" / "fuzz" / "findings"
EVERY = 60.0  # seconds between two lines


def keep(fuzzer: Fuzzer, finding: Finding) -> Path:
    """Writes a finding as a file of the tree: the change of a seed that leads to it."""
    seed, change = fuzzer.file(finding.number)
    FINDINGS.mkdir(parents=True, exist_ok=True)
    path = FINDINGS / f"{seed.name}-{fuzzer.seed}-{finding.number}.json"
    about = {
        "seed": seed.name,
        "reader": finding.reader,
        "found": f"{finding.what} at {finding.where}",
        "change": {str(at): value.hex() for at, value in change.items()},
    }
    path.write_text(json.dumps(about, indent=1) + "\n")
    return path


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        executions: How many.
        first: The number of the first, under a seed of random numbers.
        seed: Of the random numbers.
        readers: Those that read each file, by name.
        flips: See `Fuzzer`.
        workers: Processes that read at once.
        seconds: At most so many.
        quiet: Whether only the last line is said.
        keeping: Whether findings are kept.
    """

    executions: int
    first: int
    seed: int
    readers: Readers
    flips: bool = False
    workers: int = 1
    seconds: float = float("inf")
    quiet: bool = False
    keeping: bool = False


def run(plan: Plan) -> Tally:
    """Reads changed files, and says what comes of them."""
    memory = Path("/dev/shm")
    total = Tally()
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        each = len(plan.readers)
        fuzzer = Fuzzer(load_seeds(), plan.seed, Path(folder), plan.readers, plan.flips)
        started = said = time.monotonic()
        files, first = -(-plan.executions // each), plan.first // each
        for part in fuzzer.run(files, started + plan.seconds, first, plan.workers):
            for finding in part.findings:
                if finding.key not in total.kinds:
                    kept = f" -> {keep(fuzzer, finding).name}" if plan.keeping else ""
                    print(f"{finding.reader} {finding.number}: {finding.key}{kept}", flush=True)
            total = total_of((total, part))
            now = time.monotonic()
            if not plan.quiet and now > said + EVERY:
                said = now
                print(_summary(total, now - started), flush=True)
        words = _summary(total, time.monotonic() - started)
        names = ", ".join(plan.readers)
        print(f"{words}; {names}, seed {plan.seed}, from {first * each:,}", flush=True)
        if fuzzer.next < first + files:
            print(f"goes on with --first {fuzzer.next * each}", flush=True)
    return total


def total_of(parts: Iterable[Tally]) -> Tally:
    """Returns what came of all parts of a run."""
    total = Tally()
    for part in parts:
        total.executions += part.executions
        total.refused += part.refused
        for finding in part.findings:
            total.add(finding)
        total.kinds.update(part.kinds - Counter(dict.fromkeys(part.kinds, 1)))
    return total


def _summary(total: Tally, seconds: float) -> str:
    rate = total.executions / max(seconds, 1e-9)
    worked = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    work = f"{1000 * worked / max(total.executions, 1):.1f} ms of work each"
    return (
        f"{total.executions:,} executions, {total.refused:,} refused, {len(total.kinds)} kinds of "
        f"findings ({sum(total.kinds.values())}), {seconds:,.0f} s, {rate:.0f} a second, {work}"
    )


def main() -> int:
    """Runs the command line; the exit code is 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executions", type=int, default=30_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the random numbers")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="begin with this one")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes at once")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="at most so many")
    parser.add_argument("--readers", default=",".join(READERS), help="of these (default: all)")
    parser.add_argument("--keep", action="store_true", help="findings, in tests/fuzz/findings")
    parser.add_argument("--quiet", action="store_true", help="the last line only")
    parser.add_argument("--flips", action="store_true", help="one bit of superblock or heaps each")
    options = parser.parse_args()
    readers = {name: READERS[name] for name in options.readers.split(",")}
    plan = Plan(
        options.executions,
        options.first,
        options.seed,
        readers,
        options.flips,
        options.workers,
        options.seconds,
        options.quiet,
        options.keep,
    )
    total = run(plan)
    return 1 if total.findings else 0


if __name__ == "__main__":
    sys.exit(main())
