"""Breaks each promise in a copy of the source, and says which trial notices, and how soon.

    scripts/bench/mutants                     all of them
    scripts/bench/mutants counter-first ...   some, also as globs: 'fsync-*'
    scripts/bench/mutants --quick             every eighth
    scripts/bench/mutants --list              what there is
    scripts/bench/mutants --all-tests NAME    all fast tests that notice it, which takes long

A trial is first run on an unchanged copy, where it has to pass. A mutant is killed where its trial
fails; one whose trial cannot begin, or does not end, is not.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import fnmatch
import itertools
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(HERE))

from catalogue import MUTATIONS  # noqa: E402
from mutation import Mutation  # noqa: E402
from warm_pytest import HEAVY, NO_BYTECODE, WarmPytest  # noqa: E402

PATIENCE = 180.0  # seconds for one trial
FAST = ("-m", "not slow")
KILLED, SURVIVED, HUNG, BROKEN, SKIPPED = "killed", "SURVIVED", "HUNG", "BROKEN", "skipped"


@dataclass(frozen=True)
class Verdict:
    """What a trial said.

    Attributes:
        word: `killed`, `SURVIVED`, `HUNG` where the trial did not end, `BROKEN` where it could not
            begin, `skipped` where it skips itself here.
        seconds: How long it took.
        by: The tests that failed.
        output: What it printed last.
        words: What each test said, by its name in the report.
    """

    word: str
    seconds: float
    by: tuple[str, ...] = ()
    output: str = ""
    words: Mapping[str, str] = field(default_factory=dict)


def copy_source(root: Path, target: Path) -> None:
    """Copies what git knows or would know, as it is now."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True).stdout
    for name in filter(None, os.fsdecode(listed).split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)


@dataclass(frozen=True)
class Copy:
    """A copy of the source, and a process that runs tests in it.

    Attributes:
        root: Its folder.
        pytest: The process.
    """

    root: Path
    pytest: WarmPytest


def run_tests(copy: Copy, tests: Sequence[str], *options: str, patience: float) -> Verdict:
    """Runs tests; killed where some fail, survived where all pass."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}", *options, *tests]
        code, output = copy.pytest.run(words, copy.root, Path(folder) / "output", patience)
        seconds = time.monotonic() - started
        if code is None:
            return Verdict(HUNG, seconds, output=output)
        if code not in (0, 1) or not report.exists():
            return Verdict(BROKEN, seconds, output=output)
        words = {
            f"{case.get('classname')}::{case.get('name')}": _word_of(case)
            for case in ElementTree.parse(report).iter("testcase")
        }
    by = tuple(name for name, word in words.items() if word == KILLED)
    return Verdict(_word_of_all(words.values()), seconds, by, output, words)


def _word_of(case: ElementTree.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return KILLED
    return SKIPPED if case.find("skipped") is not None else SURVIVED


def _word_of_all(words: Collection[str]) -> str:
    return next((word for word in (KILLED, SURVIVED) if word in words), SKIPPED)


def of_killer(killer: str, words: Mapping[str, str]) -> str:
    """Returns what one killer said, among all tests of a report."""
    file, _, test = killer.partition("::")
    name = f"{file.removesuffix('.py').replace('/', '.')}::{test}"
    own = [word for each, word in words.items() if name in (each, each.partition("[")[0])]
    return _word_of_all(own) if own else BROKEN


def run_survive(root: Path, line: str) -> Verdict:
    """Runs a line of scripts/bench/survive in its short form."""
    started = time.monotonic()
    command = [sys.executable, "scripts/bench/survival/survive.py", "--quick", "--only", line]
    environment = {**os.environ, **NO_BYTECODE, "PYTHONPATH": str(root)}
    with tempfile.TemporaryFile() as written:
        process = subprocess.Popen(
            command, cwd=root, env=environment, stdout=written, stderr=written,
            start_new_session=True,
        )  # fmt: skip
        code = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(PATIENCE)
        with contextlib.suppress(ProcessLookupError):  # and whatever it has left behind
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        written.seek(0)
        output = written.read().decode("utf-8", "replace")
    seconds = time.monotonic() - started
    if code is None:
        return Verdict(HUNG, seconds, output=output)
    if code not in (0, 1) or "Traceback" in output:
        return Verdict(BROKEN, seconds, output=output)
    if "skipped" in output:
        return Verdict(SKIPPED, seconds, output=output)
    return Verdict(KILLED if code else SURVIVED, seconds, (f"survive {line}",), output)


def try_killer(copy: Copy, mutation: Mutation) -> Verdict:
    """Runs what is to notice a mutation."""
    if mutation.survive_line:
        return run_survive(copy.root, mutation.survive_line)
    return run_tests(copy, [mutation.killer], "-x", *FAST, patience=PATIENCE)


@contextlib.contextmanager
def copies(root: Path, count: int, heavy: Sequence[str] = HEAVY) -> Iterator[list[Copy]]:
    """Makes copies of the source, and removes them."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        made = []
        for number in range(count):
            copy = Copy(Path(name) / str(number), WarmPytest(heavy))
            stack.callback(copy.pytest.close)
            copy_source(root, copy.root)
            made.append(copy)
        yield made


_times = itertools.count(1_000_000_000)


def set_new_time(path: Path) -> None:
    """Gives a file a time that it never had: by time and size Python tells what it has compiled."""
    seconds = next(_times)
    os.utime(path, (seconds, seconds))


@contextlib.contextmanager
def mutated(copy: Copy, mutation: Mutation) -> Iterator[None]:
    """Within this, the copy has the mutation."""
    path = copy.root / mutation.file
    before = mutation.apply(copy.root)
    set_new_time(path)
    try:
        yield
    finally:
        path.write_text(before, "utf-8")
        set_new_time(path)


def check_unchanged(copy: Copy, mutations: Sequence[Mutation]) -> dict[str, Verdict]:
    """Runs each killer on an unchanged copy.

    Returns:
        What is wrong, by killer: those that do not pass.
    """
    tests = sorted({each.killer for each in mutations if not each.survive_line})
    lines = sorted({each.survive_line for each in mutations if each.survive_line})
    found: dict[str, Verdict] = {}
    together = Verdict(BROKEN, 0.0)
    if tests:
        together = run_tests(copy, tests, *FAST, patience=PATIENCE + 20.0 * len(tests))
    for test in tests:
        word = of_killer(test, together.words)
        if together.word in (HUNG, BROKEN):  # which of them it is
            word = run_tests(copy, [test], *FAST, patience=PATIENCE).word
        if word != SURVIVED:
            found[test] = Verdict(word, together.seconds, output=together.output)
    for line in lines:
        verdict = run_survive(copy.root, line)
        if verdict.word != SURVIVED:
            found[f"survive {line}"] = verdict
    return found


def try_all(
    mutations: Sequence[Mutation],
    jobs: int,
    root: Path = ROOT,
    heavy: Sequence[str] = HEAVY,
    trusted: bool = False,
) -> Iterator[tuple[Mutation, Verdict]]:
    """Yields each mutation with what its killer said, in their order.

    Args:
        mutations: The mutations.
        jobs: How many are tried side by side.
        root: The source.
        heavy: As for `WarmPytest`.
        trusted: Whether the killers are known to pass on the unchanged source.
    """
    with copies(root, jobs, heavy) as made, ThreadPoolExecutor(jobs) as pool:
        idle: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for copy in made:
            idle.put(copy)

        def attempt(mutation: Mutation) -> Verdict:
            copy = idle.get()
            try:
                with mutated(copy, mutation):
                    return try_killer(copy, mutation)
            finally:
                idle.put(copy)

        wrong = {} if trusted else check_unchanged(made[0], mutations)
        sound = [each for each in mutations if each.killer not in wrong]
        tried = [pool.submit(attempt, each) for each in sound]
        for mutation in mutations:
            if mutation.killer in wrong:
                said = wrong[mutation.killer]
                word = SKIPPED if said.word == SKIPPED else BROKEN
                yield mutation, Verdict(word, said.seconds, said.by, said.output)
            else:
                yield mutation, tried.pop(0).result()


def find_killers(mutation: Mutation, root: Path = ROOT) -> Verdict:
    """Runs all fast tests on a copy with a mutation."""
    with copies(root, 1) as (copy,), mutated(copy, mutation):
        return run_tests(copy, ["tests"], *FAST, patience=3600.0)


def choose(names: Sequence[str], quick: bool) -> list[Mutation]:
    """Returns the mutations that were asked for.

    Raises:
        SystemExit: There is none of a name.
    """
    if not names:
        return list(MUTATIONS[:: 8 if quick else 1])
    for name in names:
        if not fnmatch.filter([each.name for each in MUTATIONS], name):
            raise SystemExit(f"error: no mutation {name!r}; --list names them")
    return [each for each in MUTATIONS if any(fnmatch.fnmatch(each.name, n) for n in names)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="some of them, also as globs")
    parser.add_argument("--quick", action="store_true", help="every eighth")
    parser.add_argument("--list", action="store_true", help="names and promises, without a trial")
    parser.add_argument("--all-tests", metavar="NAME", help="all fast tests that notice it")
    parser.add_argument("--jobs", type=int, default=2, help="side by side (default: 2)")
    parser.add_argument(
        "--trusted", action="store_true", help="the tests have just passed on this very source"
    )
    parser.add_argument("--verbose", action="store_true", help="what a trial said that failed us")
    options = parser.parse_args(arguments)
    if options.all_tests:
        (mutation,) = choose([options.all_tests], False)
        verdict = find_killers(mutation)
        print(f"{mutation.name}: {verdict.word}, {verdict.seconds:.0f} s", *verdict.by, sep="\n")
        return int(verdict.word != KILLED)
    chosen = choose(options.names, options.quick)
    if options.list:
        for each in chosen:
            print(f"{each.name:<28} {each.promise}")
        return 0
    print(f"{datetime.date.today()}: scripts/bench/mutants, {len(chosen)} of {len(MUTATIONS)}")
    words: list[str] = []
    for mutation, verdict in try_all(chosen, options.jobs, trusted=options.trusted):
        words.append(verdict.word)
        line = f"{mutation.name:<28} {verdict.word:<8} {verdict.seconds:5.1f} s  {mutation.killer}"
        print(line, flush=True)
        if verdict.word != KILLED and options.verbose and verdict.output:
            print(*(f"    {each}" for each in verdict.output.splitlines()[-30:]), sep="\n")
        elif options.verbose:
            print(*(f"    {each}" for each in verdict.by), sep="\n")
    counts = {word: words.count(word) for word in dict.fromkeys(words)}
    print(", ".join(f"{count} {word}" for word, count in counts.items()))
    return int(set(words) - {KILLED, SKIPPED} != set())


if __name__ == "__main__":
    sys.exit(main())
