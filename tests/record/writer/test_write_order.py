"""The order of the writer's writes, from their log: what is counted has been written before."""

from __future__ import annotations

import itertools
import queue
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from write_journal import Step, WriteJournal

import replay
from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.writer import service as service_module
from record.writer.recording_file import RecordingFile
from record.writer.service import Service
from replay import schema
from replay.recording.live_file import LiveFile
from replay.schema import Layer

ATTRIBUTES = {"format": "mapreel", "version": 1, "run_id": "x", "created": "", "meta": "{}"}
CONV = Layer("conv", "Conv2d(1, 2, kernel_size=(3, 3))", (2, 6, 6), (2, 1, 3, 3))
LATE = Layer("late", "ReLU()", (3, 2, 2))
SUPERBLOCK = 48  # bytes
LAYOUTS = [BatchLayout(((1, 4, 4),), layers) for layers in ((CONV,), (CONV, LATE))]


class Given:
    """An inbox with all that is to come."""

    def __init__(self, received: list[messages.Message]) -> None:
        self._waiting = list(received)

    def get(self, timeout: float) -> list[Any]:
        if not self._waiting:
            raise queue.Empty
        return [self._waiting.pop(0)]

    def give_back(self, message: messages.Message) -> None:
        pass


def message(kind: bytes, data: dict[str, Any] | bytes, payload: bytes = b"") -> messages.Message:
    packed = messages.pack(kind, data, len(payload))
    return messages.Message(kind, packed[messages.HEADER.size :], memoryview(payload), None)


def frame(layout: BatchLayout, epoch: int, batch: int, **values: float) -> messages.Message:
    header = messages.FrameHeader(epoch, batch, 10 * epoch + batch, 0.0, image=0)
    content = np.full(layout.size, 10 * epoch + batch, np.float16).tobytes()
    return message(messages.FRAME, header.encode(values, 0, 0, None), content)


def a_recording(path: Path) -> list[messages.Message]:
    """Two epochs, a late layer, a late field and a budget that is thinned."""
    opening = {"path": str(path), "overwrite": False, "attributes": ATTRIBUTES, "resume": None}
    flushes = (message(messages.FLUSH, {"number": number}) for number in itertools.count(1))
    first, second = (
        message(messages.LAYOUT, {"layout": layout.encode(), "batches": 6, "region": None})
        for layout in LAYOUTS
    )
    thin = message(messages.THIN, {"keep": 2})
    frames = {
        (epoch, batch): frame(LAYOUTS[epoch > 1], epoch, batch, **{"new": 1.0} if batch > 4 else {})
        for epoch in range(4)
        for batch in range(6)
    }
    return [
        message(messages.OPEN, {**opening, "durability": "fsync"}),
        first,
        *(frames[0, batch] for batch in range(3)),
        next(flushes),
        *(frames[0, batch] for batch in range(3, 6)),
        frames[1, 0],
        frames[1, 1],
        next(flushes),
        second,
        frames[2, 0],
        next(flushes),
        thin,
        frames[2, 1],
        next(flushes),
        *(frames[3, batch] for batch in range(4)),
        message(messages.DONE, {"dropped": 4, "lost": 5}),
    ]


@dataclass
class Watched:
    """A recording, and what was done for it.

    Attributes:
        path: The file.
        steps: All that was done, in its order.
        contents: By file, what was in each at its end.
        images: With each answer, the file as a kill would have left it then.
    """

    path: Path
    steps: list[Step]
    contents: dict[int, bytes]
    images: list[tuple[dict[str, Any], bytes]] = field(default_factory=list)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("order")
    path, journal = folder / "run.h5", WriteJournal(folder)
    found = Watched(path, journal.steps, journal.contents)
    commit, wait = RecordingFile.commit, threading.Event()

    def await_disk() -> None:
        """Waits for the thread that asks the disk."""
        while (file := service._file) and file._fsync and file._fsync._busy.is_set():
            wait.wait(0.001)

    def answer(data: dict[str, Any]) -> None:
        await_disk()
        journal.note("answer", path.stat().st_ino if path.exists() else 0, data)
        found.images.append((data, path.read_bytes()))
        if (
            data.get("flushed") == 4
        ):  # from here on each frame is committed as if half a second later
            patch.setattr(service_module, "_COMMIT_SECONDS", 0.0)

    def noted_commit(file: RecordingFile) -> None:
        dirty = file.dirty
        commit(file)
        if dirty:
            journal.note("committed", path.stat().st_ino)
            await_disk()  # what is asked of it next is asked for by itself

    service = Service(Given(a_recording(path)), answer, threading.Event())  # type: ignore[arg-type]
    with journal.watching(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecordingFile, "commit", noted_commit)
        service.run()
    return found


def place_of_counter(path: Path) -> tuple[int, int, int]:
    """The bytes of the counter, and where the header of its dataset lies."""
    with LiveFile(path) as live:
        state = live.file[schema.STATE]
        start = state.id.get_chunk_info(0).byte_offset
        return start, start + state.nbytes, h5py.h5o.get_info(state.id).addr


def test_each_counter_is_written_behind_all_that_it_counts(
    watched: Watched, tmp_path: Path
) -> None:
    places = {}
    for file, content in watched.contents.items():
        (tmp_path / "one.h5").write_bytes(content)
        places[file] = place_of_counter(tmp_path / "one.h5")
    before, commits = 0, 0
    for place, step in enumerate(watched.steps):
        if step.what != "committed":
            continue
        start, stop, header = places[step.file]
        writes = [
            s for s in watched.steps[before:place] if (s.what, s.file) == ("write", step.file)
        ]
        before, commits = place, commits + 1
        # That the dataset of the counter was changed is noted in its header, behind the counter.
        writes = [s for s in writes if not (s.kind == "OHDR" and s.start <= header < s.stop)]
        counters = [n for n, s in enumerate(writes) if s.start < stop and start < s.stop]
        assert counters == [len(writes) - 1], (counters, writes)
        assert {"DRAW", "BTREE"} <= {s.kind for s in writes[:-1]}  # the frames and what leads there
    assert commits >= 6


def test_what_is_said_to_be_in_the_file_is_there_after_a_kill(
    watched: Watched, tmp_path: Path
) -> None:
    said = [(data, image) for data, image in watched.images if data.get("committed")]
    flushed = {data["flushed"]: data["committed"] for data, _ in said if "flushed" in data}
    assert flushed == {1: 3, 2: 8, 3: 9, 4: 6}  # all that was sent; every second of 9, and one
    assert [data["committed"] for data, _ in said][-6:] == [6, 7, 8, 9, 10, 10]
    for data, image in said:
        path = tmp_path / "killed.h5"
        path.write_bytes(image)
        with replay.open(path) as run:
            assert run.committed == len(run.frames) == data["committed"]
            assert run.closed == data.get("closed", False)
            assert not replay.verify(run).problems
            for epoch, batch in run.frames:
                assert (run["conv"][epoch, batch] == 10 * epoch + batch).all()


def is_on_disk(steps: list[Step], place: int, file: int) -> bool:
    """Whether the disk was asked for all that was written to a file before a place.

    But for the superblock, which says whether the file is open for writing; readers take either.
    """
    done = [step for step in steps[:place] if step.file == file]
    asked = [n for n, step in enumerate(done) if step.what == "fsync"]
    written = [n for n, step in enumerate(done) if step.what == "write" and step.stop > SUPERBLOCK]
    return bool(asked) and asked[-1] > max(written, default=-1)


def test_a_copy_is_on_the_disk_before_it_takes_the_place_of_the_recording(watched: Watched) -> None:
    taken = [n for n, step in enumerate(watched.steps) if step.what == "replace"]
    names = {watched.steps[n].facts for n in taken}
    assert names == {("run.h5.copying", "run.h5")}
    assert len(taken) >= 5  # two layouts, a field, and the budget twice: thinned, and begun anew
    for n in taken:
        assert is_on_disk(watched.steps, n, watched.steps[n].file)


def test_the_disk_is_asked_for_what_was_flushed_and_at_the_end(watched: Watched) -> None:
    steps = watched.steps
    said = [n for n, step in enumerate(steps) if step.what == "answer"]
    flushes = [n for n in said if "flushed" in steps[n].facts]
    assert len(flushes) == 4
    (closed,) = (n for n in said if steps[n].facts.get("closed"))
    for n in (*flushes, closed):
        assert is_on_disk(steps, n, steps[n].file), steps[n].facts


def test_counts_at_the_end_are_those_of_the_training(watched: Watched) -> None:
    with replay.open(watched.path) as run:
        assert (run.dropped, run.lost, run.closed) == (4, 5, True)
