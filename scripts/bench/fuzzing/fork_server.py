"""Runs the readers over changed files: many in one process, a new process where one has died.

What they need is imported once; each process that is forked has little memory and is ended where
one reader takes too long, also by a loop within HDF5, which no signal of Python's could leave.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import gzip
import json
import mmap
import os
import random
import resource
import select
import shutil
import signal
import struct
import sys
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process with other threads is not to be forked

from mutations import Seed, apply  # noqa: E402

import replay  # noqa: E402
from replay.files.verification import verify  # noqa: E402
from replay.options import VIEWS  # noqa: E402
from replay.recording import info, info_text, open_recording  # noqa: E402
from replay.schema import RecordingError  # noqa: E402
from replay.schema.errors import ShortageError  # noqa: E402

SEEDS = ROOT / "tests" / "fuzz" / "seeds"
MEMORY = 1 << 30  # bytes that a process may take
CPU_SECONDS = 5.0  # of one reader
WALL_SECONDS = 60.0  # within which some reader ends, however busy the machine is
BATCH = 500  # files that one process reads
GROWTH = 256 << 20  # bytes by which it may grow meanwhile
HEAVY = 384 << 20  # bytes that a reader does not take before it refuses a file
_TINY = 6  # times that a tiny seed is as likely as another one
_STATE = struct.Struct("<qqqq")  # file, reader, and how many ended well or were refused


def read_info(path: Path) -> None:
    """As `replay info` does."""
    with open_recording(path) as run:
        document = info.describe(run)
        info.describe_problems(run)
    text = info_text.format_info(document) + info.to_json(document)
    assert not any(ord(c) < 32 and c != "\n" for c in text), "a control character is shown"


def read_all(path: Path) -> None:
    """As `replay verify` does."""
    for problem in verify(path).problems:
        str(problem)


def draw_one(path: Path) -> None:
    """As `replay animate` does, of one frame, of that what the seed has beside the maps.

    One file in four has its captions drawn, which takes half of the time.
    """
    view = path.stem.rpartition("-")[2]
    about: dict[str, Any] = {"view": view if view in VIEWS else "maps"}
    if view == "cam":
        about["probe"] = 0
    captions = zlib.crc32(path.read_bytes()) % 4 == 0
    out = path.with_suffix(".gif" if captions else ".apng")
    about.update(epochs="-1", batches="-1", zoom=1, captions=captions, overwrite=True)
    replay.animate(path, out, **about)


Readers = Mapping[str, Callable[[Path], None]]
READERS: Readers = {"info": read_info, "verify": read_all, "animate": draw_one}


@dataclass(frozen=True)
class Finding:
    """A reader that did something else than to read or to refuse.

    Attributes:
        number: Of the changed file, under a seed of random numbers.
        reader: One of `READERS`.
        what: An exception, or how the process died.
        where: The last places of our own in the trace.
    """

    number: int
    reader: str
    what: str
    where: str

    @property
    def key(self) -> str:
        """The same for findings that are likely to be one fault."""
        return f"{self.what.split(':')[0]} at {self.where}"


@dataclass
class Tally:
    """What came of a run.

    Attributes:
        executions: Readers that ran.
        refused: Of them, those that refused the file.
        findings: What else happened.
        kinds: How many findings of each key.
    """

    executions: int = 0
    refused: int = 0
    findings: list[Finding] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, finding: Finding) -> None:
        """Takes in a finding; of each key the first is kept."""
        self.kinds[finding.key] += 1
        if self.kinds[finding.key] == 1:
            self.findings.append(finding)


def load_seeds() -> list[Seed]:
    """Returns the files that are changed."""
    paths = sorted(SEEDS.glob("*.gz"))
    return [Seed(path.name.split(".")[0], gzip.decompress(path.read_bytes())) for path in paths]


class Fuzzer:
    """Changed files by their numbers, and what the readers make of them.

    Args:
        seeds: The files that are changed.
        seed: Of the random numbers.
        folder: Where files are written, in memory if there is such a folder.
        readers: Those that read each file, by name.
        flips: Whether a change is one bit of the superblock or of a heap; its checksum stays.

    Attributes:
        next: The number of the first file that no reader has been given, after `run`.
    """

    cpu_seconds = CPU_SECONDS

    def __init__(
        self, seeds: list[Seed], seed: int, folder: Path, readers: Readers, flips: bool = False
    ) -> None:
        self.seeds, self.seed, self.folder = seeds, seed, folder
        self.readers, self.flips = readers, flips
        self.next = 0
        self._made: tuple[int, Seed, dict[int, bytes]] | None = None
        self._weights = [_TINY if each.name.startswith("tiny") else 1 for each in seeds]
        warm = folder / "warm.h5"
        for each in seeds:
            warm.write_bytes(each.data)
            for reader in readers.values():  # imports what it needs
                with contextlib.suppress(Exception):
                    reader(warm)
        gc.collect()
        gc.freeze()  # so that no child copies these pages

    def file(self, number: int) -> tuple[Seed, dict[int, bytes]]:
        """Returns the seed that a file is made of, and its change."""
        if self._made is None or self._made[0] != number:
            rng = random.Random(f"{self.seed}:{number}")
            seed = rng.choices(self.seeds, self._weights)[0]
            self._made = number, seed, seed.flip(rng) if self.flips else seed.change(rng)
        return self._made[1:]

    def image(self, number: int) -> bytes:
        """Returns a changed file."""
        seed, change = self.file(number)
        return apply(seed.data, change)

    def name(self, number: int) -> str:
        """Returns what a changed file is called, by which a reader may know what it was."""
        return self.file(number)[0].name

    def run(
        self, files: int, until: float = float("inf"), first: int = 0, workers: int = 1
    ) -> Iterator[Tally]:
        """Reads so many files, and yields what came of each few hundred of them.

        Args:
            files: How many.
            until: The time, of `time.monotonic`, after which no more is begun.
            first: The number of the first.
            workers: Processes that read at once.
        """
        end = first + files
        self.next = first
        left = [(range(at, min(end, at + BATCH)), 0) for at in range(first, end, BATCH)][::-1]
        running: list[Child] = []
        while True:
            while left and len(running) < workers and time.monotonic() < until:
                running.append(Child(self, *left.pop(), until))
            if not running:
                break
            select.select([child.said for child in running], [], [], 1.0)
            for child in list(running):
                if child.listen():
                    continue
                running.remove(child)
                tally, rest, place = child.end()
                if rest:
                    left.append((rest, place))
                yield tally
        self.next = min((rest.start for rest, _ in left), default=end)


class Child:
    """A process that reads changed files, until they are read, or it dies of one.

    Args:
        fuzzer: What makes the files.
        numbers: Of the files.
        place: The reader that is the first to be given the first file.
        until: The time after which no more is begun.

    Attributes:
        said: A descriptor on which it says what it found.
    """

    _count = 0

    def __init__(self, fuzzer: Fuzzer, numbers: range, place: int, until: float) -> None:
        self._fuzzer, self._numbers = fuzzer, numbers
        self._names = list(fuzzer.readers)
        self._shared = mmap.mmap(-1, _STATE.size)
        self._shared[:] = _STATE.pack(numbers.start, place, 0, 0)
        Child._count += 1
        self._folder = fuzzer.folder / str(Child._count)
        self._folder.mkdir()
        self._trace = self._folder / "trace.txt"
        self._text = b""
        self._before, self._since = b"", time.monotonic()
        self.said, saying = os.pipe()
        os.set_blocking(self.said, False)
        self._pid = os.fork()
        if not self._pid:
            os.close(self.said)
            self._live(place, saying, until)
        os.close(saying)

    def listen(self) -> bool:
        """Takes in what it said; whether it is still at work. It is ended at a standstill."""
        try:
            part = os.read(self.said, 1 << 16)
        except BlockingIOError:
            now = bytes(self._shared)
            if now != self._before:
                self._before, self._since = now, time.monotonic()
            elif time.monotonic() > self._since + WALL_SECONDS:
                os.kill(self._pid, signal.SIGKILL)
                self._since = time.monotonic()
            return True
        self._text += part
        return bool(part)

    def end(self) -> tuple[Tally, range, int]:
        """Returns what came of it, which files are left, and the reader that goes on."""
        ended = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        os.close(self.said)
        tally = Tally()
        for line in self._text.decode().splitlines():
            tally.add(Finding(*json.loads(line)))
        number, place, well, refused = _STATE.unpack(self._shared[:])
        tally.executions, tally.refused = well + refused, refused
        if ended:
            tally.executions += 1
            tally.add(Finding(number, self._names[place], self._death(ended), self._place()))
            place += 1
            if place == len(self._names):
                number, place = number + 1, 0
        shutil.rmtree(self._folder)
        return tally, range(number, self._numbers.stop), place

    def _death(self, ended: int) -> str:
        names = {
            -signal.SIGPROF: f"more than {self._fuzzer.cpu_seconds} s",
            -signal.SIGKILL: "a standstill",
        }
        return names.get(ended, f"died of {-ended}" if ended < 0 else f"exit {ended}")

    def _place(self) -> str:
        dump = self._trace.read_text() if self._trace.exists() else ""
        lines = [line.strip() for line in dump.splitlines() if "/replay/" in line]
        return " < ".join(_short(line) for line in lines[:2])

    def _live(self, place: int, saying: int, until: float) -> None:
        code = 1
        with contextlib.suppress(BaseException):
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            warnings.simplefilter("ignore")
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            with self._trace.open("w") as file:
                faulthandler.enable(file, all_threads=False)
                faulthandler.register(signal.SIGPROF, file, all_threads=False, chain=True)
                self._read(place, saying, until)
                code = 0
        os._exit(code)

    def _read(self, place: int, saying: int, until: float) -> None:
        fuzzer, well, refused = self._fuzzer, 0, 0
        readers = list(fuzzer.readers.items())
        most, short = _resident() + GROWTH, False
        for number in self._numbers:
            self._shared[:] = _STATE.pack(number, place, well, refused)
            full = number % 16 == 0 and _resident() > most
            if short or full or time.monotonic() > until:
                return  # and another process goes on
            path = self._folder / f"{fuzzer.name(number)}.h5"
            path.write_bytes(fuzzer.image(number))
            os.utime(path, (0, 0))  # no writer is at work on it
            for at, (name, reader) in list(enumerate(readers))[place:]:
                self._shared[:] = _STATE.pack(number, at, well, refused)
                signal.setitimer(signal.ITIMER_PROF, fuzzer.cpu_seconds)
                found, peak = None, _peak()
                try:
                    reader(path)
                    well += 1
                except ShortageError as error:  # at once, or after it has taken what there was
                    short, refused = True, refused + 1
                    found = error if _peak() > peak + HEAVY else None
                except RecordingError:
                    refused += 1
                except Exception as error:
                    well, found = well + 1, error
                signal.setitimer(signal.ITIMER_PROF, 0)
                if found is not None:
                    what = f"{type(found).__name__}: {found}"[:200]
                    line = json.dumps((number, name, what, _where(found))) + "\n"
                    os.write(saying, line.encode())
                    del found
            place = 0
            path.unlink()
        self._shared[:] = _STATE.pack(self._numbers.stop, 0, well, refused)


def _peak() -> int:
    """Returns the most bytes that this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _resident() -> int:
    """Returns the bytes that this process has in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _where(error: BaseException) -> str:
    """Returns the last places of ours in an error's trace."""
    frames = [
        each for each in traceback.extract_tb(error.__traceback__) if "/replay/" in each.filename
    ]
    return " < ".join(
        f"{each.filename.split('/replay/')[-1]}:{each.lineno}" for each in reversed(frames[-2:])
    )


def _short(line: str) -> str:
    """Returns `recording/tree.py:54` of a line of a dumped trace."""
    _, _, rest = line.partition("/replay/")
    name, _, number = rest.partition('", line ')
    return f"{name}:{number.split()[0]}" if number else name
