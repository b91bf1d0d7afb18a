"""What reading a recording by its address takes: requests, bytes and the processor's seconds.

The built-in run is served by a server of this machine that sends parts of files; docs/scale.md
reckons with what this prints.

    python scripts/bench/speed/reading.py [--strict] [--recording RUN.H5]
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from table import ROOT, Line, show

sys.path.insert(0, str(ROOT / "tests"))

from serving import Served, http_server

import replay

COMMANDS = {
    "info": ["info"],
    "film of ten frames of conv1": ["animate", "--layer", "conv1", "--batches", "0:2"],
    "film of all frames of conv3": ["animate", "--layer", "conv3"],
    "film of all frames of conv1": ["animate", "--layer", "conv1"],
}  # fmt: skip


def shown(path: Path, words: list[str]) -> int:
    """Returns the bytes of the maps and of the input pictures that a command shows."""
    if words[0] == "info":
        return 0
    with replay.open(path) as run:
        frames = 10 if "--batches" in words else len(run.frames)
        values = math.prod(run[words[2]].layer.shape) + math.prod(run.inputs.shape or (0,))
    return 2 * values * frames


def run(served: Served, path: Path, words: list[str], folder: Path) -> tuple[int, int, float]:
    """Runs a command on the served recording: its requests, their bytes, its seconds."""
    served.requests = served.sent = 0
    command = [sys.executable, "-m", "replay", words[0], served.address + path.name, *words[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    before = os.times()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    after = os.times()
    used = sum(after[2:4]) - sum(before[2:4])
    return served.requests, served.sent, used


def lines(recording: Path | None) -> Iterator[Line]:
    """Yields the lines of the table."""
    missing = [name for name in ("fsspec", "aiohttp") if importlib.util.find_spec(name) is None]
    if missing:
        yield Line("reading by address", None, note=f"skipped: no {missing[0]} here")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "run.h5"
        if recording is None:
            train = [sys.executable, "-m", "record", "train", "--probe", "1", "--quiet", "-o", path]
            subprocess.run(train, check=True, cwd=ROOT)
        else:
            path.symlink_to(recording.resolve())
        with http_server(folder) as served:
            for what, words in COMMANDS.items():
                requests, sent, used = run(served, path, words, folder)
                size = shown(path, words)
                note = f"{requests} requests, {sent / 1e6:.1f} MB, {used:.1f} s of the processor"
                if not size:
                    yield Line(f"{what}: read", sent / 1e6, " MB", 20, note=note)
                else:
                    yield Line(f"{what}: read, of the bytes shown", sent / size, "", 2, note=note)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--strict", action="store_true", help="exit code 1 if a target is missed")
    parser.add_argument("--recording", type=Path, help="the built-in run, recorded with --probe 1")
    options = parser.parse_args()
    good = show(lines(options.recording), "scripts/bench/reads")
    return 1 if options.strict and not good else 0


if __name__ == "__main__":
    sys.exit(main())
