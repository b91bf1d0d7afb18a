"""Runs the readers over changed files: many in one process, a new process where one has died.

What they need is imported once; each process that is forked has little memory and is ended where
one reader takes too long, also by a loop within HDF5, which no signal of Python's could leave.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gzip
import json
import mmap
import os
import random
import resource
import select
import signal
import struct
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from mutations import Seed, apply  # noqa: E402

import replay  # noqa: E402
import replay.encoding.gif  # noqa: E402
import replay.rendering.animation  # noqa: E402
from replay.files.verification import verify  # noqa: E402
from replay.recording import info, info_text, open_recording  # noqa: E402
from replay.schema import RecordingError  # noqa: E402

SEEDS = ROOT / "tests" / "fuzz" / "seeds"
MEMORY = 1 << 30  # bytes that a process may take
CPU_SECONDS = 5.0  # of one reader
WALL_SECONDS = 60.0  # within which some reader ends, however busy the machine is
BATCH = 100  # files that one process reads
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
    """As `replay animate` does, of one frame."""
    out = path.with_suffix(".gif")
    replay.animate(path, out, epochs="-1", batches="-1", zoom=1, overwrite=True)


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
    """

    cpu_seconds = CPU_SECONDS

    def __init__(
        self, seeds: list[Seed], seed: int, folder: Path, readers: Readers, flips: bool = False
    ) -> None:
        self.seeds, self.seed, self.folder = seeds, seed, folder
        self.readers, self.flips = readers, flips
        self._shared = mmap.mmap(-1, _STATE.size)
        warm = folder / "warm.h5"
        warm.write_bytes(seeds[0].data)
        for reader in readers.values():  # imports what it needs
            if reader is not draw_one:  # whose threads a forked process would wait for
                reader(warm)

    def file(self, number: int) -> tuple[Seed, dict[int, bytes]]:
        """Returns the seed that a file is made of, and its change."""
        rng = random.Random(f"{self.seed}:{number}")
        seed = rng.choice(self.seeds)
        return seed, seed.flip(rng) if self.flips else seed.change(rng)

    def image(self, number: int) -> bytes:
        """Returns a changed file."""
        seed, change = self.file(number)
        return apply(seed.data, change)

    def run(self, files: int, until: float = float("inf")) -> Iterator[Tally]:
        """Reads so many files, and yields what came of each hundred of them.

        Args:
            files: How many.
            until: The time, of `time.monotonic`, after which no more is begun.
        """
        first = 0
        while first < files and time.monotonic() < until:
            last = min(files, first + BATCH)
            tally, first = self.run_some(range(first, last))
            yield tally

    def run_some(self, numbers: range) -> tuple[Tally, int]:
        """Reads some files in one process; returns what came of it, and which is the next."""
        self._shared[:] = _STATE.pack(numbers.start, 0, 0, 0)
        trace = self.folder / "trace.txt"
        said, saying = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(said)
            self._child(numbers, saying, trace)
        os.close(saying)
        text, ended = _listen(said, pid, self._shared)
        os.close(said)
        tally = Tally()
        for line in text.splitlines():
            tally.add(Finding(*json.loads(line)))
        number, reader, well, refused = _STATE.unpack(self._shared[:])
        tally.executions, tally.refused = well + refused, refused
        if ended == 0:
            return tally, numbers.stop
        names = {signal.SIGPROF: f"more than {self.cpu_seconds} s", signal.SIGKILL: "a standstill"}
        what = names.get(-ended, f"died of {-ended}" if ended < 0 else f"exit {ended}")
        dump = trace.read_text() if trace.exists() else ""
        lines = [line.strip() for line in dump.splitlines() if "/replay/" in line]
        where = " < ".join(_short(line) for line in lines[:2])
        tally.add(Finding(number, list(self.readers)[reader], what, where))
        return tally, number + 1

    def _child(self, numbers: range, saying: int, trace: Path) -> None:
        code = 1
        with contextlib.suppress(BaseException):
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            warnings.simplefilter("ignore")
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            with trace.open("w") as file:
                faulthandler.enable(file, all_threads=False)
                faulthandler.register(signal.SIGPROF, file, all_threads=False, chain=True)
                self._read(numbers, saying)
                code = 0
        os._exit(code)

    def _read(self, numbers: range, saying: int) -> None:
        path, well, refused = self.folder / "run.h5", 0, 0
        for number in numbers:
            path.write_bytes(self.image(number))
            os.utime(path, (0, 0))  # no writer is at work on it
            for place, (name, reader) in enumerate(self.readers.items()):
                self._shared[:] = _STATE.pack(number, place, well, refused)
                signal.setitimer(signal.ITIMER_PROF, self.cpu_seconds)
                try:
                    reader(path)
                    well += 1
                except RecordingError:
                    refused += 1
                except Exception as error:
                    well += 1
                    what = f"{type(error).__name__}: {error}"[:200]
                    line = json.dumps((number, name, what, _place(error))) + "\n"
                    os.write(saying, line.encode())
                signal.setitimer(signal.ITIMER_PROF, 0)
        self._shared[:] = _STATE.pack(numbers.stop, 0, well, refused)


def _listen(said: int, pid: int, shared: mmap.mmap) -> tuple[str, int]:
    """Returns what a process said, and its exit code, below 0 for a signal."""
    text, before = b"", b""
    while True:
        ready, _, _ = select.select([said], [], [], WALL_SECONDS)
        if not ready:
            now = bytes(shared)
            if now == before:
                os.kill(pid, signal.SIGKILL)
            before = now
            continue
        part = os.read(said, 1 << 16)
        if not part:
            break
        text += part
    return text.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _place(error: BaseException) -> str:
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
