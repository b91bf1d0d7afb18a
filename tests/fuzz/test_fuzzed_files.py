"""The readers over changed files: those of what the fuzzer found, and a few hundred new ones.

The long form is `scripts/bench/fuzz`; what it finds comes to `findings` as the change of a seed.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from replay.recording.structures import lookup3

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "bench" / "fuzzing"))

import fork_server
import fuzz
import mutations

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(not hasattr(fork_server.os, "fork"), reason="needs os.fork")

FINDINGS = sorted((HERE / "findings").glob("*.json"))


@pytest.fixture(scope="module")
def seeds() -> list[mutations.Seed]:
    return fork_server.load_seeds()


def test_what_was_found_is_read_or_refused(tmp_path: Path) -> None:
    """Each in the process that others are read in, which forks, and so has no other threads."""
    paths = [str(HERE), str(HERE.parents[1]), *map(str, sys.path)]
    code = (
        f"import sys; sys.path[:0] = {paths!r}\n"
        "from pathlib import Path; import test_fuzzed_files as t\n"
        "t.read_what_was_found(Path(sys.argv[1]))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_each_finding_says_what_it_is() -> None:
    for path in FINDINGS:
        about = json.loads(path.read_text())
        assert list(about) == ["seed", "what", "was", "change"], path.name
        assert path.stem == about["what"].replace(" ", "-")
        assert about["was"]
        assert not path.stem[-1].isdigit(), f"{path.name}: say what it is, once it is mended"


def read_what_was_found(folder: Path) -> None:
    """Reads each; what dies of one is named."""
    seeds = fork_server.load_seeds()
    images = []
    for finding in FINDINGS:
        about = json.loads(finding.read_text())
        data = gzip.decompress((HERE / "seeds" / f"{about['seed']}.h5.gz").read_bytes())
        change = {int(at): bytes.fromhex(value) for at, value in about["change"].items()}
        images.append(mutations.apply(data, change))
    assert len(set(images)) == len(FINDINGS) >= 10

    class Found(fork_server.Fuzzer):
        def image(self, number: int) -> bytes:
            return images[number]

        def name(self, number: int) -> str:
            return str(json.loads(FINDINGS[number].read_text())["seed"])

    fuzzer = Found(seeds, 0, folder, fork_server.READERS)
    tally = fuzz.total_of(fuzzer.run(len(images)))
    named = [(FINDINGS[each.number].stem, each) for each in tally.findings]
    assert not named
    assert tally.executions == len(images) * len(fork_server.READERS)


@pytest.mark.parametrize("flips", [False, True], ids=["changed structures", "flipped bits"])
def test_a_short_run(seeds: list[mutations.Seed], tmp_path: Path, flips: bool) -> None:
    """A hundred files, always the same: of the structures, and of the texts' bits."""
    readers = {"info": fork_server.read_info}
    tally = fuzz.total_of(fork_server.Fuzzer(seeds, 7, tmp_path, readers, flips).run(100))
    assert tally.executions == 100
    assert not tally.findings
    assert 20 < tally.refused < 80  # the changes are neither harmless nor all found at once


def test_a_finding_is_told(seeds: list[mutations.Seed], tmp_path: Path) -> None:
    """A reader that raises, dies or goes round is found, and the next file is read."""

    now = [-1]

    def fails(path: Path) -> None:
        number = now[0]
        if number == 1:
            raise KeyError("nobody expects this")
        if number == 3:
            fork_server.os.kill(fork_server.os.getpid(), fork_server.signal.SIGSEGV)
        while number == 5:
            pass

    class Numbered(fork_server.Fuzzer):
        def image(self, number: int) -> bytes:
            now[0] = number
            return self.seeds[0].data

    fuzzer = Numbered(seeds, 0, tmp_path, {"fails": fails, "reads": fork_server.read_info})
    fuzzer.cpu_seconds = 0.2
    tally = fuzz.total_of(fuzzer.run(7))
    assert [(each.number, each.reader) for each in tally.findings] == [
        (1, "fails"),
        (3, "fails"),
        (5, "fails"),
    ]
    assert [each.what.split(":")[0] for each in tally.findings] == [
        "KeyError",
        "died of 11",
        "more than 0.2 s",
    ]
    assert tally.executions == 14  # also by the other reader, of the files that the first died of
    assert tally.refused == 0


@pytest.mark.parametrize("workers", [1, 3])
def test_a_run_goes_on_where_another_ended(
    seeds: list[mutations.Seed], tmp_path: Path, workers: int
) -> None:
    """In parts, and by several processes, the same files are read once each."""
    read = tmp_path / "read"

    def notes(path: Path) -> None:
        with read.open("ab") as file:
            file.write(f"{hash(path.read_bytes())}\n".encode())

    fuzzer = fork_server.Fuzzer(seeds[-3:], 5, tmp_path, {"notes": notes})
    read.unlink()
    first = fuzz.total_of(fuzzer.run(3, workers=workers))
    assert fuzzer.next == 3
    second = fuzz.total_of(fuzzer.run(7, first=fuzzer.next, workers=workers))
    assert first.executions + second.executions == fuzzer.next == 10
    found = sorted(read.read_text().split())
    assert found == sorted(str(hash(fuzzer.image(number))) for number in range(10))
    assert not list(fuzzer.run(5, until=0.0, first=10))
    assert fuzzer.next == 10


def test_changes_leave_checksums_right(seeds: list[mutations.Seed]) -> None:
    """Or HDF5 would refuse every file at once, and nothing behind that were tried."""
    random = fork_server.random.Random(0)
    for seed in seeds:
        for region in seed.regions:
            if region.checksum >= 0:
                assert region.sum(seed.data) == seed.data[region.checksum :][:4]
        sealed = 0
        for _ in range(10):
            data = mutations.apply(seed.data, seed.change(random))
            changed = [
                region
                for region in seed.regions
                if region.checksum >= 0
                and data[region.start : region.end] != seed.data[region.start : region.end]
            ]
            right = all(region.sum(data) == data[region.checksum :][:4] for region in changed)
            sealed += right and bool(changed)
        assert sealed >= 3 or seed.name.endswith("oldest")
    assert lookup3(b"Four score and seven years ago") == 0x17770551  # lookup3.c's own example
