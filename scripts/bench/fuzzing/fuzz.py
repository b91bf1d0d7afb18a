"""The readers under a fuzzer: how many executions, how fast, and what was found.

An execution is one reader (`info`, `verify`, a film of one frame) over one changed file. A finding
is a reader that neither reads nor refuses: another exception, a crash, more than 5 s of work, or
more than 1 GiB.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
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


def run(
    files: int, seed: int, readers: Readers, flips: bool, seconds: float, quiet: bool, keeping: bool
) -> Tally:
    """Reads changed files, and says what comes of them."""
    memory = Path("/dev/shm")
    total = Tally()
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        fuzzer = Fuzzer(load_seeds(), seed, Path(folder), readers, flips)
        started = said = time.monotonic()
        for part in fuzzer.run(files, started + seconds):
            for finding in part.findings:
                if finding.key not in total.kinds:
                    kept = f" -> {keep(fuzzer, finding).name}" if keeping else ""
                    print(f"{finding.reader} {finding.number}: {finding.key}{kept}", flush=True)
            total = total_of((total, part))
            now = time.monotonic()
            if not quiet and now > said + EVERY:
                said = now
                print(_summary(total, now - started), flush=True)
        words = _summary(total, time.monotonic() - started)
        print(f"{words}; {', '.join(readers)}, seed {seed}", flush=True)
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
    return (
        f"{total.executions:,} executions, {total.refused:,} refused, {len(total.kinds)} kinds of "
        f"findings ({sum(total.kinds.values())}), {seconds:,.0f} s, {rate:.0f} a second"
    )


def main() -> int:
    """Runs the command line; the exit code is 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executions", type=int, default=30_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the random numbers")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="at most so many")
    parser.add_argument("--readers", default=",".join(READERS), help="of these (default: all)")
    parser.add_argument("--keep", action="store_true", help="findings, in tests/fuzz/findings")
    parser.add_argument("--quiet", action="store_true", help="the last line only")
    parser.add_argument("--flips", action="store_true", help="one bit of superblock or heaps each")
    options = parser.parse_args()
    readers = {name: READERS[name] for name in options.readers.split(",")}
    total = run(
        -(-options.executions // len(readers)),
        options.seed,
        readers,
        options.flips,
        options.seconds,
        options.quiet,
        options.keep,
    )
    return 1 if total.findings else 0


if __name__ == "__main__":
    sys.exit(main())
