"""`python -m tests.golden --freeze [GROUP ...]` writes the frozen results anew."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest does, for `samples`

from .cases import GROUPS
from .frozen import differences, load, run, save, versions
from .recordings import build


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--freeze", action="store_true", help="write; otherwise only compare")
    options = parser.parse_args()
    unknown = set(options.groups) - set(GROUPS)
    if unknown:
        parser.error(f"expected groups of {', '.join(GROUPS)}, found {', '.join(sorted(unknown))}")
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        recordings = build(Path(folder, "made"))
        for group in options.groups or GROUPS:
            before, results = load(group)[1], {}
            for place, case in enumerate(GROUPS[group]()):
                if not case.possible:
                    parser.error(f"{case.name}: {case.needs} is not installed")
                started = time.monotonic()
                results[case.name], _ = run(case, recordings, Path(folder, group, str(place)))
                changed = differences(before.get(case.name), results[case.name])
                different += bool(changed)
                took = time.monotonic() - started
                print(f"{took:5.2f} s  {group}: {case.name}{': changed' if changed else ''}")
            if options.freeze:
                print(f"{save(group, results)}  {versions(group)}")
    return int(bool(different) and not options.freeze)


if __name__ == "__main__":
    sys.exit(main())
