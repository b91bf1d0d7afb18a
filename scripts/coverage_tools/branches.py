"""Says which share of each room's branches was taken, and names those that were not."""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path


def main() -> int:
    """Prints a line for each room and one for each file with something left.

    Returns:
        0 where each room has the share that is asked for, otherwise 1.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, help="what `coverage json` has written")
    parser.add_argument("--at-least", type=float, default=95, metavar="PERCENT")
    options = parser.parse_args()
    files = json.loads(options.report.read_text())["files"]
    rooms: dict[str, list[dict]] = defaultdict(list)
    for name, found in sorted(files.items()):
        rooms["/".join(Path(name).parts[-3:-1])].append({"name": Path(name).name, **found})
    short = []
    for room, modules in rooms.items():
        taken = sum(module["summary"]["covered_branches"] for module in modules)
        every = sum(module["summary"]["num_branches"] for module in modules)
        share = 100 * taken / max(1, every)
        print(f"{room}: {taken} of {every} branches, {share:.1f} %")
        for module in modules:
            if module["missing_branches"]:
                print(f"    {module['name']}: {', '.join(map(_words, module['missing_branches']))}")
        if share < options.at_least:
            short.append(f"{room} ({share:.1f} %)")
    if not rooms:
        print("error: no file was measured", file=sys.stderr)
        return 1
    if short:
        words = f"error: below {options.at_least:g} % of branches: {', '.join(short)}"
        print(words, file=sys.stderr)
    return 1 if short else 0


def _words(branch: list[int]) -> str:
    """One branch by its lines; a negative one is the way out of what begins there."""
    start, end = branch
    return f"{start}-{end}" if end > 0 else f"{start}-end"


if __name__ == "__main__":
    sys.exit(main())
