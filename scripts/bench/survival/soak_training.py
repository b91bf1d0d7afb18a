"""The training of a soak: one process that makes one small recording after the other.

    python soak_training.py FOLDER SEED SEGMENTS SIZE

Says what it does in lines of JSON on stdout, and waits for a line on stdin where it says `waits`.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import soak_content
import torch
from soak_content import CHANNELS, FIELD, Segment
from torch import nn

from record import Recorder, RecordingWarning, Writer

BUDGET_PER_FRAME = 110_000  # bytes that a budget counts for a frame of these layers, about
EXPECTED = ("did not fire in the first batch", "never fired in a rec", "dropped (queue full)")


class Net(nn.Module):
    """Layers that multiply and add whole numbers, which float16 holds exactly.

    Args:
        segment: Whose numbers they are.
    """

    def __init__(self, segment: Segment) -> None:
        super().__init__()
        self.segment = segment
        self.trained = 0
        for name, channels in CHANNELS.items():
            layer = nn.Conv2d(1, channels, 1)
            factors, added = soak_content.weights(segment.number, name)
            layer.weight.data[:] = torch.from_numpy(factors)[:, None, None, None]
            layer.bias.data[:] = torch.from_numpy(added)
            self.add_module(name, layer)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        for name, since in self.segment.late.items():
            if self.trained >= since:
                out = getattr(self, name)(image)
        return out


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def wait(**what: Any) -> None:
    """Says that something is ready, and waits until it has been looked at."""
    say(waits=True, **what)
    if not sys.stdin.readline():
        os._exit(1)  # whoever started this is gone


def values_of(segment: Segment, part: int, cell: tuple[int, int, int]) -> dict[str, float]:
    """What is logged with a batch."""
    value = soak_content.loss(segment.number, part, *cell[:2])
    return {"loss": value} | ({FIELD: value} if cell[2] >= segment.late["later"] else {})


def record_part(segment: Segment, part: int, path: Path, net: Net) -> None:
    options: dict[str, Any] = {"durability": segment.durability, "quiet": True}
    if segment.kind == "drop":
        options["when_full"] = "drop"
    if segment.kind == "budget":
        options["budget"] = max(10, segment.size // segment.thinned) * BUDGET_PER_FRAME
    if part:
        options["resume"] = segment.parts[part][0] if segment.kind == "replace" else True
    else:
        options["overwrite"] = True
    metadata = {"segment": segment.number, "part": part}
    start, end = segment.parts[part]
    images = (
        torch.from_numpy(image[None])
        for epoch in range(start, end)
        for image in soak_content.images(segment.number, part, epoch, segment.length)
    )
    with Recorder(net, path, layers=list(CHANNELS), metadata=metadata, **options) as recorder:
        cells = segment.batches(part)
        for _ in range(start, end):
            for image in recorder.track(next(images) for _ in range(segment.length)):
                cell = next(cells)
                net.trained = cell[2]
                net(image)
                recorder.log(**values_of(segment, part, cell))
        settle(recorder, segment, part)
    report(recorder, segment, part)


def write_part(segment: Segment, part: int, path: Path) -> None:
    options: dict[str, Any] = {"durability": segment.durability, "quiet": True}
    options |= {"resume": True} if part else {"overwrite": True}
    metadata = {"segment": segment.number, "part": part}
    with Writer(path, metadata, batches=segment.length, **options) as writer:
        for cell in segment.batches(part):
            epoch, batch, trained = cell
            key = (segment.number, part, epoch, segment.length)
            writer.write(
                epoch=epoch,
                batch=batch,
                maps={
                    name: soak_content.maps(*key, name)[batch]
                    for name, since in segment.late.items()
                    if trained >= since
                },
                input=soak_content.images(*key)[batch],
                **values_of(segment, part, cell),
            )
        settle(writer, segment, part)
    report(writer, segment, part)


def settle(recorder: Recorder | Writer, segment: Segment, part: int) -> None:
    """Waits until the live reader has seen all that was recorded."""
    if not recorder.flush():
        say(problem=f"segment {segment.number} could not be flushed")
    wait(settle=segment.number, part=part, committed=recorder.committed)


def report(recorder: Recorder | Writer, segment: Segment, part: int) -> None:
    start, end = segment.parts[part]
    courier = recorder._courier
    assert courier is not None
    say(
        part=part,
        segment=segment.number,
        trained=(end - start) * segment.length,
        sent=recorder.sent,
        acknowledged=courier._process.acknowledged,
        committed=recorder.committed,
        lost=recorder.lost,
        dropped=recorder.dropped,
    )


def main() -> None:
    folder, seed, count, size = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    torch.set_num_threads(1)
    path = folder / "run.h5"
    for number in range(count):
        segment = soak_content.plan(seed, number, size)
        net = Net(segment)
        with warnings.catch_warnings(record=True) as warned, torch.no_grad():
            warnings.simplefilter("always", RecordingWarning)
            for part in range(len(segment.parts)):
                wait(begins=number, part=part)
                if segment.kind == "arrays":
                    write_part(segment, part, path)
                else:
                    record_part(segment, part, path, net)
        for warning in warned:
            if not any(words in str(warning.message) for words in EXPECTED):
                say(problem=f"segment {number} ({segment.kind}): {warning.message}")
        wait(closed=number)
        if number % 10 == 0:
            gc.collect()
    say(done=True)


if __name__ == "__main__":
    main()
