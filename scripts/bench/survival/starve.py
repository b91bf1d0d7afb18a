"""What happens without memory and without descriptors: at every allocation, and at every limit.

    python starve.py [--quick] [--only WORD ...] [--trials N] [--seed N]

A library between a process and the system lets the n-th allocation fail, or from then on all of a
kilobyte or more; RLIMIT_NOFILE and RLIMIT_AS set limits. What is tried: each command that reads,
from when Python has started; the writer process of a recording, from its start; the training
process of a recording, where the n-th array that the recorder makes is refused.

Right: as if nothing had failed. Refused: one line on stderr, an exit code, no target. Counted: the
training went on, and every frame is in the file, or in a count. Bad: a traceback, more than one
line, half a target, a wrong frame, a frame in no count, a hang (a minute), a training that ended.
Died: a signal within C code of others that does not look at what malloc answers, or that has lost
the MemoryError (which Python calls a SystemError, or worse); nothing is left behind then either.
"""

from __future__ import annotations

import argparse
import datetime
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT), str(HERE)]

from survive import Feeder, build_shim, check  # noqa: E402

import replay  # noqa: E402

HANG = 120.0  # seconds, on a machine that has other things to do
WORKERS = os.cpu_count() or 2
FRAMES = 12
LARGE = 1024  # bytes, of an allocation that fails from then on

# The target of each, and what makes it.
COMMANDS: dict[str, tuple[str, list[str]]] = {
    "info": ("", ["info", "run.h5", "--json"]),
    "verify": ("", ["verify", "run.h5", "--quiet"]),
    "animate": ("out.gif", ["animate", "run.h5", "--epochs", "0", "--batches", "1"]),
    "page": ("out.html", ["page", "run.h5"]),
    "pack": ("out.h5", ["pack", "run.h5"]),
    "repair": ("out.h5", ["repair", "run.h5"]),
}
START = """
import ctypes, os, resource, sys
kind, value = sys.argv[1], int(sys.argv[2])
sys.path.insert(0, os.getcwd())
from replay.__main__ import entry  # Python's own start is not ours
if kind == "malloc":
    ctypes.CDLL(None).starve_begin()
elif kind == "NOFILE":
    resource.setrlimit(resource.RLIMIT_NOFILE, (value, value))
elif kind == "AS":
    pages = int(open("/proc/self/statm").read().split()[0])
    limit = pages * resource.getpagesize() + value
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.argv[1:3] = []
entry()
"""


@dataclass
class Line:
    """One line of the table."""

    what: str
    counts: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, note: str = "") -> None:
        self.counts[kind] += 1
        if note:
            self.notes[f"{kind}: {note}"] += 1

    @property
    def good(self) -> bool:
        return not self.counts["bad"]


class Starving:
    """The file by which a library and whoever watches it speak of allocations."""

    def __init__(self, path: Path, at: int, onwards: bool, *, begun: bool) -> None:
        self.path = path
        path.write_bytes(struct.pack("<5q", 0, at, LARGE * onwards, 0, int(begun)))

    @property
    def counted(self) -> int:
        return struct.unpack_from("<q", self.path.read_bytes())[0]


# Commands that read


def environment(**more: str) -> dict[str, str]:
    usual = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    return {**os.environ, **usual, **more}


def run_command(
    word: str, recording: Path, folder: Path, kind: str, value: int, more: dict[str, str]
) -> tuple[int | None, str, str, bytes | None]:
    """The exit code (None: it hung), stdout, stderr and target of a command."""
    target, words = COMMANDS[word]
    words = [str(recording) if each == "run.h5" else each for each in words]
    if target:
        words += ["-o", str(folder / target), "--quiet"]
    try:
        done = subprocess.run(
            [sys.executable, "-c", START, kind, str(value), *words],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=HANG,
            env=environment(**more),
        )
    except subprocess.TimeoutExpired:
        return None, "", "", None
    made = folder / target if target else None
    content = made.read_bytes() if made is not None and made.exists() else None
    return done.returncode, done.stdout, done.stderr, content


def same(word: str, content: bytes | None, usual: bytes | None, folder: Path) -> bool:
    """Whether a target is what it should be."""
    if COMMANDS[word][0] != "out.h5" or content is None:
        return content == usual
    path = folder / "compare.h5"
    path.write_bytes(content)
    return check(path, FRAMES) == (0, 0) and bool(replay.verify(path))


def judge(
    line: Line,
    word: str,
    found: tuple[int | None, str, str, bytes | None],
    usual: tuple[int | None, str, str, bytes | None],
    folder: Path,
    note: str,
) -> None:
    code, out, error, content = found
    error = re.sub(r"HDF5-DIAG.*\n(?:  .*\n)*", "", error)  # its own words where it cannot start
    lines = [text for text in error.splitlines() if text.strip()]
    left = [path.name for path in folder.iterdir() if path.name not in ("compare.h5", "starve")]
    if COMMANDS[word][0] in left:
        left.remove(COMMANDS[word][0])
    if code is None:
        line.add("bad", f"hangs ({note})")
    elif (
        code == usual[0]
        and (out == usual[1] or content is not None)  # which says how long it took
        and same(word, content, usual[3], folder)
    ):
        line.add("right")
    elif code < 0 or "Fatal Python error" in error:
        line.add("died", died_in(error, code))
        if content is not None and not same(word, content, usual[3], folder):
            line.add("bad", f"half a target ({note})")
    elif content is not None and not same(word, content, usual[3], folder):
        line.add("bad", f"half a target ({note}): {lines[-1:]}")
    elif content is None and lines and lines[-1].startswith(("SystemError", "SyntaxError")):
        line.add("died", lines[-1][:80])
    elif code == 0:
        line.add("bad", f"exit code 0 ({note}): {lines[-1:]} {out[:80]!r}")
    elif "Traceback" in error or len(lines) != 1:
        line.add("bad", f"{len(lines)} lines ({note}): {lines[-1][:150] if lines else ''}")
    elif left:
        line.add("bad", f"left behind ({note}): {left}")
    else:
        line.add("refused", re.sub(r"/\S+", "...", lines[0])[:60])


def died_in(error: str, code: int) -> str:
    """Where a process was when a signal ended it, as faulthandler says."""
    frames = re.findall(r'File "(.*?)", line \d+ in (\S+)', error)
    if not frames:
        return f"signal {-code}, {error.strip().splitlines()[0][:60] if error.strip() else ''}"
    path, function = frames[0]
    parts = path.split("site-packages/")[-1].split("/")
    return f"{'/'.join(parts[-2:])} {function}"


def readers_without_memory(word: str, shim: Path, count: int, seed: int) -> Line:
    line = Line(f"{word}: the n-th allocation fails, once or from then on")
    with tempfile.TemporaryDirectory() as name:
        recording = make_recording(Path(name))

        def one(number: int) -> tuple[int, ...]:
            rng = random.Random(f"{seed} {word} {number}")
            folder = Path(name) / str(number)
            folder.mkdir()
            at, onwards = 0, False
            if number:
                at, onwards = rng.randint(1, total), number % 2 == 0
            starving = Starving(folder / "starve", at, onwards, begun=False)
            more = {"LD_PRELOAD": str(shim), "STARVE": str(starving.path)}
            if number % 3:  # else Python's own objects lie in large blocks, which never fail
                more["PYTHONMALLOC"] = "malloc"
            found = run_command(word, recording, folder, "malloc", 0, more)
            if not number:
                return found, starving.counted
            note = f"{word} at {at} of {total}{' onwards' * onwards}, {len(more)}"
            judge(line, word, found, usual, folder, note)
            return ()

        total = 0
        usual, total = one(0)
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(one, range(1, count + 1)))
    return line


def readers_at_a_limit(word: str, kind: str, values: list[int]) -> Line:
    line = Line(f"{word}: RLIMIT_{kind} of {values[0]:,} to {values[-1]:,}")
    with tempfile.TemporaryDirectory() as name:
        recording = make_recording(Path(name))

        def one(value: int) -> tuple[int | None, str, str, bytes | None]:
            folder = Path(name) / str(value)
            folder.mkdir()
            found = run_command(word, recording, folder, kind if value else "none", value, {})
            if value:
                judge(line, word, found, usual, folder, f"{word} {kind} {value}")
            return found

        usual = one(0)
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(one, values))
    return line


def make_recording(folder: Path) -> Path:
    feeder = Feeder(folder, FRAMES, "--pause", "0.002")
    assert feeder.wait(120.0)
    assert feeder.done
    return feeder.path


# Recordings


def judge_recording(line: Line, feeder: Feeder, ended: bool, note: str) -> None:
    """The training went on; what was acknowledged is there, and every frame is in a count."""
    if not ended:
        line.add("bad", f"hangs ({note})")
    elif not feeder.done or feeder.process.returncode:
        line.add("bad", f"the training ended: {feeder.process.returncode} ({note})")
    elif sum(feeder.counts) != FRAMES:
        line.add("bad", f"counts {feeder.counts} of {FRAMES} ({note})")
    else:
        lost, wrong = check(feeder.path, feeder.acked) if feeder.acked else (0, 0)
        if lost or wrong:
            line.add("bad", f"{lost} lost, {wrong} wrong ({note})")
        else:
            line.add("right" if feeder.counts == (FRAMES, 0, 0) else "counted")


def writer_without_memory(shim: Path, count: int, seed: int) -> Line:
    line = Line("writer process: the n-th allocation fails, once or from then on")
    with tempfile.TemporaryDirectory() as name:

        def one(number: int) -> int:
            rng = random.Random(f"{seed} {number}")
            folder = Path(name) / str(number)
            folder.mkdir()
            at, onwards = 0, False
            if number:
                at, onwards = rng.randint(1, total), number % 2 == 0
            starving = Starving(folder / "starve", at, onwards, begun=True)
            more = {"STARVE": str(starving.path)}
            if number % 3:
                more["PYTHONMALLOC"] = "malloc"
            feeder = Feeder(
                folder, FRAMES, "--late", "--pause", "0.05", "--preload", str(shim), **more
            )
            ended = feeder.wait(HANG)
            if number:
                judge_recording(line, feeder, ended, f"at {at} of {total}{' onwards' * onwards}")
            return starving.counted

        total = 0
        total = one(0)
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(one, range(1, count + 1)))
    return line


def writer_at_a_limit(kind: str, values: list[int]) -> Line:
    line = Line(f"writer process: RLIMIT_{kind} of {values[0]:,} to {values[-1]:,}")
    with tempfile.TemporaryDirectory() as name:

        def one(value: int) -> None:
            folder = Path(name) / str(value)
            folder.mkdir()
            feeder = Feeder(
                folder, FRAMES, "--late", "--pause", "0.05", "--limit", kind, str(value)
            )
            judge_recording(line, feeder, feeder.wait(HANG), f"{kind} {value}")

        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(one, values))
    return line


def training_line(kind: str, values: list[int], what: str) -> Line:
    """A real training with torch, in `starved.py`, which says what it found of itself."""
    line = Line(what)
    with tempfile.TemporaryDirectory() as name:

        def one(value: int) -> None:
            folder = Path(name) / str(value)
            folder.mkdir()
            command = [sys.executable, str(HERE / "starved.py"), str(folder / "run.h5")]
            note = f"{kind} {value}"
            try:
                done = subprocess.run(
                    [*command, kind, str(value)],
                    capture_output=True,
                    text=True,
                    cwd=ROOT,
                    timeout=HANG,
                    env=environment(),
                )
            except subprocess.TimeoutExpired:
                line.add("bad", f"hangs ({note})")
                return
            said = (done.stdout.splitlines() or [""])[-1]
            if done.returncode or said not in ("right", "counted", "refused", "plain fails too"):
                last = (done.stderr.strip().splitlines() or [""])[-1]
                line.add("bad", f"{done.returncode} {said} {last[:200]} ({note})")
            else:
                line.add("refused" if said.startswith("plain") else said)

        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(one, values))
    return line


def lines(
    quick: bool, seed: int, trials: int | None = None
) -> Iterator[tuple[str, Callable[[Path | None], Line | None]]]:
    """What makes each line of the table, by a word."""
    count = trials or (6 if quick else 200)
    files = [8, 16, 32] if quick else list(range(8, 65))
    step = 24 << 20 if quick else 2 << 20
    room = list(range(step, 200 << 20, step))
    of_writer = [4 * each for each in room]  # of its whole memory

    def with_shim(make: Callable[[Path], Line]) -> Callable[[Path | None], Line | None]:
        return lambda shim: None if shim is None else make(shim)

    for word in COMMANDS:
        yield (
            f"{word} memory",
            with_shim(lambda shim, word=word: readers_without_memory(word, shim, count, seed)),
        )
        yield f"{word} files", lambda _, word=word: readers_at_a_limit(word, "NOFILE", files)
        yield f"{word} room", lambda _, word=word: readers_at_a_limit(word, "AS", room)
    yield "writer memory", with_shim(lambda shim: writer_without_memory(shim, 2 * count, seed))
    yield "writer files", lambda _: writer_at_a_limit("NOFILE", files)
    yield "writer room", lambda _: writer_at_a_limit("AS", of_writer)
    calls = [3, 9, 25, 60] if quick else list(range(1, 200, max(1, 200 // count)))
    yield (
        "training memory",
        lambda _: training_line(
            "call", calls, "training process: MemoryError at the n-th array of the recorder"
        ),
    )
    yield (
        "training files",
        lambda _: training_line(
            "NOFILE", files, f"training process: RLIMIT_NOFILE of {files[0]} to {files[-1]}"
        ),
    )
    yield (
        "training room",
        lambda _: training_line(
            "AS", room, f"training process: RLIMIT_AS of {room[0]:,} to {room[-1]:,} more"
        ),
    )


def main() -> int:
    words = [word for word, _ in lines(True, 0)]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few trials of each")
    parser.add_argument(
        "--only", nargs="+", metavar="WORD", help="lines whose name has it: " + ", ".join(words)
    )
    parser.add_argument("--trials", type=int, help="allocations that fail, of each line")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{datetime.date.today()}: scripts/bench/starve, seed {options.seed}")
    form = "{:<64} {:>6} {:>8} {:>8} {:>6} {:>5} {:>7}"
    print(form.format("", "right", "refused", "counted", "died", "bad", "s"), flush=True)
    good = True
    with tempfile.TemporaryDirectory() as name:
        shim = build_shim(Path(name), "starve")
        for word, make in lines(options.quick, options.seed, options.trials):
            if options.only and not any(each in word for each in options.only):
                continue
            started = time.monotonic()
            line = make(shim)
            if line is None:
                print(f"{word}: skipped: no C compiler")
                continue
            figures = (line.counts[each] for each in ("right", "refused", "counted", "died", "bad"))
            print(form.format(line.what, *figures, f"{time.monotonic() - started:.0f}"), flush=True)
            for note, times in line.notes.most_common():
                if not note.startswith("refused"):
                    print(f"    {times} x {note}", flush=True)
            good = good and line.good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
