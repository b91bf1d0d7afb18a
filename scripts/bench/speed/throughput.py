"""From the queue to the closed file, against write() of the same bytes to a plain file.

Frames go through the courier, the pipe and the writer process, as they do in a training; the clock
runs until the file is closed, checksums, ranges and commits included. The plain file is written on
the same disk, by turns with the recordings.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from table import Line, ratio, run

from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.transport.courier import Courier
from record.transport.frame_channel import QueuedFrame
from replay.schema import FORMAT, VERSION, Layer

ROOM = 2 << 30  # bytes that the benchmark writes to a file at most


class Flat:
    def __init__(self, values: np.ndarray, memory: memoryview | None) -> None:
        self.values = values.copy()
        if memory is not None:
            self.values = np.frombuffer(memory, np.float16, values.size)
            self.values[:] = values

    @property
    def data(self) -> memoryview:
        return self.values.view(np.uint8).data


def resnet(size: int) -> tuple[Layer, ...]:
    """The 20 convolutions of a ResNet-18, maps of one image."""
    side = size // 2
    shapes = [(64, side, side)]
    side //= 2
    for stage, channels in enumerate((64, 128, 256, 512)):
        side = side if stage == 0 else -(-side // 2)
        shapes += [(channels, side, side)] * (4 if stage == 0 else 5)
    assert len(shapes) == 20
    return tuple(Layer(f"conv{n}", "Conv2d()", shape) for n, shape in enumerate(shapes))


def record(path: Path, layers: tuple[Layer, ...], frames: int) -> float:
    """Seconds from the first frame to the closed file."""
    attributes = {"format": FORMAT, "version": VERSION, "run_id": "0", "created": "", "meta": "{}"}
    courier = Courier(path, True, attributes, "wait", lambda text: print(text, file=sys.stderr))
    layout = BatchLayout((), layers)
    rng = np.random.default_rng(0)
    values = rng.standard_normal(layout.size).astype(np.float16)
    courier.set_layout(layout, frames, lambda memory: Flat(values, memory))
    courier.flush()
    started = time.perf_counter()
    for number in range(frames):
        buffer = courier.channel.buffer()
        assert buffer is not None
        courier.channel.send(QueuedFrame(buffer, messages.FrameHeader(0, number, number, 0.0)))
    courier.close()
    taken = time.perf_counter() - started
    assert courier.committed == frames, courier.failure
    return taken


def plain(path: Path, size: int, frames: int) -> float:
    data = np.random.default_rng(0).bytes(size)
    started = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(frames):
            file.write(data)
    return time.perf_counter() - started


def lines(quick: bool) -> Iterator[Line]:
    rounds = 3 if quick else 7
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        for shape in ((12, 128, 128), (64, 112, 112)):
            layer = (Layer("conv", "Conv2d()", shape),)
            size = 2 * int(np.prod(shape))
            frames = min(ROOM, 400_000_000 if quick else 1_000_000_000) // size
            found = []
            for _ in range(rounds):
                took = record(folder / "run.h5", layer, frames)
                found.append(plain(folder / "plain", size, frames) / took)
            what = f"bytes a second, of those of write(): frames of {size // 1000:,} kB"
            yield ratio(what, found, target=0.5, best="least")
        frames = 3000 if quick else 20_000
        each = [
            1e6 * record(folder / "run.h5", (Layer("conv", "Conv2d()", (512, 2, 2)),), frames)
            / frames
            for _ in range(rounds)
        ]  # fmt: skip
        yield Line("a frame of 4 kB", statistics.median(each), " µs", 60)
        for size, target in ((64, 300), (224, 100)):
            layers = resnet(size)
            frames = 300 if quick else 1000
            frames = min(frames, ROOM // BatchLayout((), layers).nbytes)
            rates = [frames / record(folder / "run.h5", layers, frames) for _ in range(rounds)]
            what = f"20 convolutions of a ResNet-18 at {size}×{size}"
            yield Line(what, statistics.median(rates), " batches/s", target, "least")


if __name__ == "__main__":
    sys.exit(run(lines, "throughput", __doc__.splitlines()[0]))
