"""A day of recording in an hour: a million small batches, read and watched meanwhile.

One training process makes one small recording after the other, in the same place: plain ones, ones
that are gone on with once and twice, ones whose last epochs are recorded anew, ones with a budget
that is met several times, ones that give frames up rather than wait, and ones of `record.Writer`.
In each, two layers and a value turn up late. A reader follows it and compares every frame with what
was sent, another does so once the recording is closed; `watch` serves it to three clients. What
each process takes (memory, descriptors, threads), and what lies in the folders and in /dev/shm, is
measured throughout.

    python soak.py [--batches N] [--seed N] [--quick]

Good: nothing wrong; acknowledged + lost + dropped = batches; every frame that is in the file when a
part ends was seen by the live reader; nothing grown from the beginning, behind a warm-up, to the
end.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import http.client
import json
import os
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT), str(HERE)]

from soak_content import KINDS, plan  # noqa: E402
from soak_measures import Measures, names_in, writers_of  # noqa: E402

SIZE = 4000  # batches of a recording, about
HANG = 120.0  # seconds in which something has to happen
PATH = "run.h5"


class EndedError(Exception):
    """A process has ended that should not."""


class Talker:
    """A process that takes and says lines of JSON.

    Args:
        words: What follows the interpreter.
        folder: For its temporary files.
    """

    def __init__(self, words: list[str], folder: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
        environment["OMP_NUM_THREADS"] = "1"
        self.process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self.pid = self.process.pid
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._hearing = threading.Thread(target=self._hear, daemon=True)
        self._hearing.start()

    def _hear(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self._said.put(line)
        self._said.put("")

    def tell(self, words: str) -> None:
        stdin: IO[str] | None = self.process.stdin
        assert stdin is not None
        stdin.write(words + "\n")
        stdin.flush()

    def hear(self) -> str:
        """Returns the next line; empty once the process has ended.

        Raises:
            queue.Empty: Nothing has come for long.
        """
        return self._said.get(timeout=HANG)

    def ask(self, **what: Any) -> dict[str, Any]:
        self.tell(json.dumps(what))
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Returns the next answer.

        Raises:
            EndedError: The process has ended.
            queue.Empty: Nothing has come for long.
        """
        line = self.hear()
        if not line:
            raise EndedError(f"ended, exit code {self.process.wait()}: {self.process.args}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        with contextlib.suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._hearing.join()


class Clients:
    """Three browsers, as far as `watch` sees them; what it answered, by its status."""

    def __init__(self, port: int, seed: int) -> None:
        self.answers: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._poll, args=(port, seed + number), daemon=True)
            for number in range(3)
        ]
        for thread in self._threads:
            thread.start()

    def _poll(self, port: int, seed: int) -> None:
        rng = random.Random(seed)
        connection: http.client.HTTPConnection | None = None
        frames = 0
        while not self._stop.wait(rng.uniform(0.2, 0.8)):
            kind = rng.choice(("/", "/state", "/state", "/frames", "/block", "/block", "/block"))
            path = {
                "/frames": f"/frames?since={max(0, frames - 50)}",
                "/block": f"/block/s0-layer-{rng.randrange(2)}-{rng.randrange(max(1, frames))}",
            }.get(kind, kind)
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read()
                self.answers[str(answer.status)] += 1
                if kind == "/state" and answer.status == 200:
                    sources = json.loads(body)["sources"]
                    frames = sources[0]["count"] if sources else 0
                if rng.random() < 0.05:  # a tab is closed
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.answers[type(error).__name__] += 1
                connection = None
        if connection is not None:
            connection.close()

    def stop(self) -> None:
        """Ends them."""
        self._stop.set()
        for thread in self._threads:
            thread.join(35)

    @property
    def good(self) -> bool:
        """Whether nothing else was said than an answer, and that it has to be asked again."""
        return self.answers["200"] > 0 and set(self.answers) <= {"200", "404", "503"}


class Soak:
    """A soak and what it finds.

    Args:
        batches: How many are trained at least.
        seed: Of what befalls each recording.
        folder: An empty one.
        size: Batches of a recording, about.
    """

    def __init__(self, batches: int, seed: int, folder: Path, size: int = SIZE) -> None:
        self.seed, self.folder, self.size = seed, folder, size
        self.plans = []
        while sum(each.size for each in self.plans) < batches or len(self.plans) < len(KINDS):
            self.plans.append(plan(seed, len(self.plans), size))
        self.batches = sum(each.size for each in self.plans)
        self.trained = 0
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.measures = Measures()
        self.read: dict[str, dict[str, Any]] = {}  # what each reader has compared
        self.reopened: Counter[str] = Counter()
        self.clients: Clients | None = None
        self.watch: Talker | None = None
        self._left = self._whole = self._checking = 0
        self._names: set[str] = set()
        self._stop = threading.Event()

    def run(self) -> bool:
        room, temporary = self.folder / "room", self.folder / "temporary"
        room.mkdir()
        temporary.mkdir()
        self._names = set(names_in(Path("/dev/shm"))) if Path("/dev/shm").is_dir() else set()
        words = [str(room), str(self.seed), str(len(self.plans)), str(self.size)]
        training = Talker([str(HERE / "soak_training.py"), *words], temporary)
        reader, checker = (
            Talker([str(HERE / "soak_reader.py"), str(self.seed), str(self.size)], temporary)
            for _ in range(2)
        )
        self._processes = {"training": training, "live reader": reader, "file reader": checker}
        sampler = threading.Thread(target=self._sample, args=(room, temporary))
        sampler.start()
        try:
            while not (said := training.answer()).get("done"):
                self._meet(said, room, training, reader, checker)
            while self._checking:
                self._end_check(checker)
        except queue.Empty:
            self.problems.append(f"nothing has happened for {HANG:.0f} s")
        except EndedError as error:
            self.problems.append(str(error))
        finally:
            self._stop.set()
            sampler.join()
            if self.clients is not None:
                self.clients.stop()
            for talker in (training, reader, checker, self.watch):
                if talker is not None:
                    if talker is self.watch:
                        talker.process.terminate()
                    talker.end()
        return self.good

    def _meet(
        self,
        said: dict[str, Any],
        room: Path,
        training: Talker,
        reader: Talker,
        checker: Talker,
    ) -> None:
        """Does what the training's line asks for."""
        if "problem" in said:
            self.problems.append(said["problem"])
        elif "begins" in said:
            if not said["part"]:
                self._left = self._whole = 0
            self._take("live", reader.ask(follow=str(room / PATH), segment=said["begins"]))
        elif "settle" in said:
            answer = reader.ask(settle=said["committed"])
            if not answer["settled"]:
                self.problems.append(f"the live reader has not seen all of {said}")
            self.reopened.update(error.replace(str(room), "") for error in answer["errors"])
            self._take("live", answer)
            if self.watch is None:
                self._start_watch(room)
        elif "segment" in said:
            self._count(said)
        elif "closed" in said:
            number = said["closed"]
            beside = {name for name in names_in(room) if name != PATH}
            beside = {name for name in beside if not name.startswith("closed")}
            self.measures.add(self._at, "folder", "names left", len(beside), 0, True)
            # The next one takes the place of the name; the file stays for its reader.
            kept = room / f"closed{number}.h5"
            os.link(room / PATH, kept)
            asked: dict[str, Any] = {"committed": self._left}
            asked["whole"] = self._whole == self.plans[number].size
            asked["verify"] = number % 20 < len(KINDS)
            checker.tell(json.dumps({"check": str(kept), "segment": number, **asked}))
            self._checking += 1
            while self._checking > 2:
                self._end_check(checker)
        if said.get("waits"):
            training.tell("go")

    def _end_check(self, checker: Talker) -> None:
        self._checking -= 1
        self._take("file", checker.answer())

    def _count(self, said: dict[str, Any]) -> None:
        """Counts a part: what was sent is acknowledged, lost or dropped."""
        known = said["acknowledged"] + said["lost"] + said["dropped"]
        kind = self.plans[said["segment"]].kind
        if known != (said["trained"] if kind != "budget" else said["sent"] + said["dropped"]):
            self.problems.append(f"counts do not add up: {said}")
        if said["lost"]:
            self.problems.append(f"frames were lost: {said}")
        self._left = said["committed"]
        self._whole += said["acknowledged"]
        self.trained += said["trained"]
        for name in ("acknowledged", "lost", "dropped"):
            self.counts[name] += said[name]
        self.counts["left out by a budget"] += said["trained"] - known
        self.counts["recorders"] += 1

    def _take(self, who: str, answer: dict[str, Any]) -> None:
        self.read[who] = answer
        if answer["wrong"] and not any(answer["first"] in problem for problem in self.problems):
            self.problems.append(f"{who}: {answer['first']}")

    def _start_watch(self, room: Path) -> None:
        self.watch = Talker(
            ["-m", "replay", "watch", str(room / PATH), "--port", "0", "--no-browser"],
            room.parent / "temporary",
        )
        line = self.watch.hear()
        self._processes["watch"] = self.watch
        self.clients = Clients(int(line.strip().rstrip("/").rpartition(":")[2]), self.seed)

    @property
    def _at(self) -> float:
        return self.trained / self.batches

    def _sample(self, room: Path, temporary: Path) -> None:
        """Measures now and then; runs in a thread."""
        pause = 0.05
        while not self._stop.wait(pause):
            at = self._at
            for who, talker in list(self._processes.items()):
                self.measures.add_process(at, who, talker.pid)
            writers = writers_of(self._processes["training"].pid)
            for pid in writers:
                self.measures.add_process(at, "writer", pid)
            self.measures.add(at, "training", "children", len(writers), 0, True)
            self.measures.add(at, "folder", "temporary names", len(names_in(temporary)), 0, True)
            if Path("/dev/shm").is_dir():
                ours = {
                    name: size
                    for name, size in names_in(Path("/dev/shm")).items()
                    if name not in self._names and ("mapreel" in name or name == PATH)
                }
                self.measures.add(at, "/dev/shm", "names", len(ours), 0, True)
                self.measures.add(at, "/dev/shm", "MB", sum(ours.values()) / 1e6, 0, True)
            pause = min(1.0, pause * 1.1)

    @property
    def good(self) -> bool:
        """Whether all that was to hold has held."""
        live = self.read.get("live", {"wrong": 1})
        file = self.read.get("file", {"wrong": 1})
        clients = self.clients is not None and self.clients.good
        wrong = live["wrong"] or file["wrong"]
        return not self.problems and not wrong and clients and self.measures.good

    def lines(self) -> list[str]:
        """Returns the verdict in words."""
        counts = ", ".join(f"{count:,} {name}" for name, count in sorted(self.counts.items()))
        found = [f"{self.trained:,} batches in {len(self.plans)} recordings: {counts}"]
        for who, read in self.read.items():
            found.append(
                f"{who}: {read['frames']:,} frames ({read['maps']:,} maps) compared, "
                f"{read['wrong']} wrong"
            )
        if self.clients is not None:
            answers = ", ".join(
                f"{n:,} x {code}" for code, n in sorted(self.clients.answers.items())
            )
            found.append(f"watch: {answers}{'' if self.clients.good else '  WRONG'}")
        if self.reopened:
            found.append(f"opened again by the live reader: {dict(self.reopened)}")
        found.append(f"{'':<12} {'':<20} {'begins':>10} {'ends':>10} {'limit':>8}")
        return found + self.measures.lines() + [f"PROBLEM: {each}" for each in self.problems[:20]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, metavar="N", default=1_000_000)
    parser.add_argument("--seed", type=int, metavar="N", default=1)
    parser.add_argument("--quick", action="store_true", help="20,000 batches, in half a minute")
    options = parser.parse_args()
    batches = 20_000 if options.quick else options.batches
    print(
        f"{datetime.date.today()}: scripts/bench/soak"
        f"{' --quick' * options.quick}, {batches:,} batches, seed {options.seed}",
        flush=True,
    )
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(batches, options.seed, Path(folder), 1000 if options.quick else SIZE)
        good = soak.run()
    for line in soak.lines():
        print(line.rstrip())
    print(f"{'good' if good else 'NOT GOOD'}, in {time.monotonic() - started:,.0f} s")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
