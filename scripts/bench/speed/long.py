"""Start-up, and a long recording: what a command costs before and beside its work.

The long recording has 10 GB: 2,000 frames of 5 MB in 100 epochs, by the real writer; --quick makes
0.8 GB of it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from table import ROOT, Line, ratio, run

import replay
from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.writer.recording_file import RecordingFile
from replay.schema import FORMAT, VERSION, Layer

EPOCHS, BATCHES = 100, 20
LAYER = Layer("conv", "Conv2d(3, 64, kernel_size=(3, 3))", (64, 200, 200))


def make(path: Path, epochs: int) -> None:
    """A recording by the real writer, epoch by epoch."""
    attributes = {"format": FORMAT, "version": VERSION, "run_id": "0", "created": "", "meta": "{}"}
    file = RecordingFile(str(path), False, attributes, durability="flush")
    layout = BatchLayout(((3, 32, 32),), (LAYER,))
    file.set_layout(layout, BATCHES)
    rng = np.random.default_rng(0)
    values = rng.standard_normal(layout.size).astype(np.float16)
    for number in range(epochs * BATCHES):
        values[number * 7 % 1000] += np.float16(1)
        header = messages.FrameHeader(*divmod(number, BATCHES), number, 0.0, {"loss": 1.0}, image=0)
        file.write([header], values[None])
        if number % 20 == 19:
            file.commit()
    file.close()


def seconds(*words: str) -> float:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # As for everybody, what was compiled once is kept, that of h5py likewise.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *words], check=True, stdout=subprocess.DEVNULL, cwd=ROOT, env=environment
    )
    return time.perf_counter() - started


def paired(first: list[str], second: list[str], rounds: int) -> list[float]:
    found = []
    seconds(*first)
    for number in range(rounds):
        turns = [(0, first), (1, second)]
        taken = {which: seconds(*words) for which, words in turns[:: 1 if number % 2 else -1]}
        found.append(taken[0] / taken[1])
    return found


MEASURE = """
import sys, replay

def read():
    return int([line for line in open("/proc/self/io") if line.startswith("rchar")][0].split()[1])

# Once before, so that what is imported for it is not counted.
replay.animate(sys.argv[1], sys.argv[2], epochs=0, batches=0, channels="0:12")
before = read()
made = replay.animate(sys.argv[1], sys.argv[2], epochs=slice(0, 3), channels="0:12")
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1]
piped = made.frames * made.width * made.height * 3 // 2  # what ffmpeg, a child, read of it
print(made.frames, read() - before - piped, int(peak) * 1024)
"""


def lines(quick: bool) -> Iterator[Line]:
    rounds = 7 if quick else 21
    plain = ["-c", "import h5py"]
    for words in (["-m", "replay", "--help"], ["-m", "record", "--help"]):
        yield ratio(f"`python {' '.join(words)}` / `import h5py`", paired(words, plain, rounds))
    yield ratio("`import replay` / `pass`", paired(["-c", "import replay"], ["-c", "pass"], rounds))
    epochs = 8 if quick else EPOCHS
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        room = os.statvfs(name).f_bavail * os.statvfs(name).f_frsize
        size = epochs * BATCHES * LAYER.nbytes
        if room < 1.3 * size:
            yield Line("a long recording", None, note=f"skipped: needs {size / 1e9:.0f} GB of disk")
            return
        path = Path(name) / "long.h5"
        make(path, epochs)
        about = f"{path.stat().st_size / 1e9:.1f} GB"
        yield ratio(
            f"`replay info` of {about} / `import h5py`",
            paired(["-m", "replay", "info", str(path)], plain, rounds),
            target=1.5,
        )
        words = [sys.executable, "-c", MEASURE, str(path), f"{name}/out.mp4"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
        frames, read, peak = map(int, done.stdout.split())
        needed = frames * LAYER.nbytes
        yield Line(
            f"bytes read by animate --epochs 0:3 of {about}, of those of its {frames} frames",
            read / needed,
            target=2.0,
            note="each for the picture; 48 of them once before, to choose the scale",
        )
        yield Line("memory of that", peak / 1e6, " MB", 300)
        yield access(path)


def access(path: Path) -> Line:
    """Milliseconds of one frame at a random place, beyond those of reading its bytes."""
    rng = np.random.default_rng(0)
    extra = []
    with replay.open(path) as recording, h5py.File(path, "r") as file:
        dataset = file["maps/conv"]
        cells = [recording.frames[i] for i in rng.integers(0, len(recording.frames), 40)]
        recording["conv"][cells[0]]
        for cell in cells:
            dataset[cell]  # both from the cache of the system
            started = time.perf_counter()
            dataset[cell]
            between = time.perf_counter()
            recording["conv"][cell]
            extra.append(time.perf_counter() - between - (between - started))
    value = 1000 * statistics.median(extra)
    return Line("a frame at random, beyond h5py's read of it", value, " ms", 2.0)


if __name__ == "__main__":
    sys.exit(run(lines, "long", __doc__.splitlines()[0]))
