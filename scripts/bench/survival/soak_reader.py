"""The readers of a soak: one that follows the recording, and one that reads what was closed.

    python soak_reader.py SEED SIZE

Takes lines of JSON on stdin, and answers each with what it has compared so far:
{"follow": PATH, "segment": N} from now on, {"settle": FRAMES}, {"check": PATH, "segment": N, ...}.
"""

from __future__ import annotations

import json
import select
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import soak_content
from soak_content import FIELD, Segment

import replay
from replay.schema import RecordingError

PAUSE = 0.05  # between two looks at a recording that grows
PATIENCE = 60.0  # for all frames of a part to be seen


class Comparison:
    """What was compared, of all recordings.

    Attributes:
        frames: Frames, each with all its layers, its image and its values.
        maps: Maps of layers among them.
        wrong: Frames that are not what was sent.
        opened: Files that were opened.
        first: What the first wrong thing was.
    """

    def __init__(self) -> None:
        self.frames = self.maps = self.wrong = self.opened = 0
        self.first = ""

    def fail(self, words: str) -> None:
        self.wrong += 1
        self.first = self.first or words

    def compare(self, run: replay.Recording, segment: Segment, fresh: Any, final: bool) -> None:
        """Compares frames with what was sent.

        Args:
            run: The recording.
            segment: What it should be.
            fresh: Which frames, bool (epoch, batch).
            final: Whether no recorder will go on with it: then each frame is of the last part.
        """
        layers = {name: (run[name], run[name].present) for name in run.layers}
        values, inputs = run.batches, run.inputs
        losses, extra = values["loss"], values.get(FIELD)
        for epoch, batch in np.argwhere(fresh).tolist():
            self.frames += 1
            image = inputs[epoch, batch]
            part = int(image[0, 0, 2]) if np.isfinite(image).all() else -1
            if not 0 <= part < len(segment.parts) or not (
                segment.parts[part][0] <= epoch < segment.parts[part][1]
            ):
                self.fail(f"segment {segment.number}: ({epoch}, {batch}) says it is of part {part}")
                continue
            if final and part != segment.part_of(epoch):
                self.fail(f"segment {segment.number}: ({epoch}, {batch}) is of part {part} still")
                continue
            self._compare_one(
                segment,
                (part, epoch, batch),
                image,
                {name: series for name, (series, there) in layers.items() if there[epoch, batch]},
                float(losses[epoch, batch]),
                None if extra is None else float(extra[epoch, batch]),
            )

    def _compare_one(
        self,
        segment: Segment,
        at: tuple[int, int, int],
        image: Any,
        layers: dict[str, Any],
        loss: float,
        extra: float | None,
    ) -> None:
        part, epoch, batch = at
        key = (segment.number, part, epoch, segment.length)
        trained = segment.trained_before(*at)
        where = f"segment {segment.number} ({segment.kind}), part {part}, ({epoch}, {batch})"
        right = image.tobytes() == soak_content.images(*key)[batch].astype(np.float16).tobytes()
        for name, series in layers.items():
            self.maps += 1
            frame = series[epoch, batch]
            right &= frame.tobytes() == soak_content.maps(*key, name)[batch].tobytes()
        if not right:
            self.fail(f"{where}: maps or image of another frame")
        expected = {name for name, since in segment.late.items() if trained >= since}
        if set(layers) != expected:
            self.fail(f"{where}: layers {sorted(layers)}, expected {sorted(expected)}")
        value = soak_content.loss(segment.number, *at)
        logged = value if trained >= segment.late["later"] else None
        if loss != value or (logged is not None and extra != logged):
            self.fail(f"{where}: loss {loss}, {FIELD} {extra}, expected {value}")

    def told(self) -> dict[str, Any]:
        return {"frames": self.frames, "maps": self.maps, "wrong": self.wrong, "first": self.first}


class Follower:
    """Reads a recording while it is written: each frame once.

    Args:
        compared: Counts.
    """

    def __init__(self, compared: Comparison) -> None:
        self.compared = compared
        self.run: replay.Recording | None = None
        self.path: Path | None = None
        self.segment: Segment | None = None
        self.errors: list[str] = []

    def follow(self, path: Path, segment: Segment) -> None:
        if segment != self.segment:
            self.seen: dict[tuple[int, int], float] = {}  # when each that was seen was recorded
        self.path, self.segment = path, segment

    def look(self) -> int:
        """Compares what is new; returns the number of frames in the file, -1 if it has another."""
        if self.path is None or self.segment is None or not self.path.exists():
            return -1
        try:
            if self.run is None:
                self.run = replay.open(self.path)
                self.compared.opened += 1
            else:
                self.run.refresh()
            run = self.run
            if run.meta.get("segment") != self.segment.number:
                self.run = None  # the recording before, or what took its place
                run.close()
                return -1
            order, times = run.order, run.batches["time"]
            fresh = order > 0
            for cell in np.argwhere(fresh).tolist():
                fresh[tuple(cell)] = self.seen.get(tuple(cell)) != times[tuple(cell)]
            if fresh.any():
                self.compared.compare(run, self.segment, fresh, final=False)
                for cell in np.argwhere(fresh).tolist():
                    self.seen[tuple(cell)] = float(times[tuple(cell)])
            return int((order > 0).sum())
        except RecordingError as error:
            if self.run is not None:
                self.run.close()
            self.run = None
            self.errors.append(str(error))
            return -1

    def settle(self, frames: int) -> bool:
        """Waits until so many frames are in the file and compared."""
        deadline = time.monotonic() + PATIENCE
        while self.look() != frames:
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE / 5)
        return True


def check(path: Path, segment: Segment, asked: dict[str, Any], compared: Comparison) -> None:
    """Compares everything in a recording that was closed."""
    with replay.open(path) as run:
        compared.opened += 1
        there = {tuple(cell) for cell in np.argwhere(run.order > 0).tolist()}
        missing = segment.cells - there
        if len(there) != asked["committed"] or not run.closed:
            compared.fail(f"segment {segment.number}: {len(there)} frames, said: {asked}")
        if there - segment.cells or (asked["whole"] and missing):
            compared.fail(f"segment {segment.number}: {len(missing)} frames are not there")
        if segment.kind == "budget":
            steps = np.sort(run.batches["step"][run.order > 0])
            stride = int(steps[1]) if len(steps) > 1 else 1
            if not np.array_equal(steps, np.arange(len(steps)) * stride) or (
                (len(steps) + 1) * stride < segment.size
            ):
                compared.fail(
                    f"segment {segment.number}: a budget has kept {len(steps)} of {segment.size} "
                    f"batches: {steps[:9]} ... {steps[-9:]}"
                )
        compared.compare(run, segment, run.order > 0, final=True)
        if asked.get("verify"):
            for problem in replay.verify(run).problems:
                compared.fail(f"segment {segment.number}: {problem}")


def main() -> None:
    seed, size = map(int, sys.argv[1:3])
    compared = Comparison()
    follower = Follower(compared)
    while True:
        if not select.select([sys.stdin], [], [], PAUSE)[0]:
            follower.look()
            continue
        line = sys.stdin.readline()
        if not line:
            return
        asked = json.loads(line)
        answer: dict[str, Any] = {}
        if "follow" in asked:
            follower.follow(Path(asked["follow"]), soak_content.plan(seed, asked["segment"], size))
        if "settle" in asked:
            answer["settled"] = follower.settle(asked["settle"])
            answer["errors"], follower.errors = follower.errors, []
        if "check" in asked:
            path = Path(asked["check"])
            check(path, soak_content.plan(seed, asked["segment"], size), asked, compared)
            path.unlink()
        print(json.dumps(answer | compared.told()), flush=True)


if __name__ == "__main__":
    main()
