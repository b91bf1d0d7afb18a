"""Stands for a training: sends frames of known content through the real courier and writer.

Without torch, so that a thousand of them can be killed. The first line on stdout is the writer's
process id, then `acked N` whenever N frames are said to be in the file, at last `counts`
(acknowledged, lost and dropped) and `done`.

    python feeder.py run.h5 FRAMES [--pause SECONDS] [--end KIND] [--late] [--begun] [--thin]

With --begun the writer has opened the file before the first frame; else frames queue meanwhile.
With --late a layer and a field turn up in the middle; with --thin every second frame is taken out
of the file then. With --limit the writer has so many descriptors, or so much memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.transport.courier import Courier
from record.transport.frame_channel import QueuedFrame
from replay.schema import FORMAT, VERSION, Layer

IMAGE = (1, 4, 4)
LAYERS = (
    Layer("conv", "Conv2d(1, 2, kernel_size=(3, 3))", (2, 12, 12), (2, 1, 3, 3)),
    Layer("deep", "Conv2d(2, 8, kernel_size=(3, 3))", (8, 4, 4)),
)
LATE = Layer("late", "ReLU()", (3, 2, 2))
BATCHES = 25  # in an epoch
FIELD = "extra"  # that turns up late


class Flat:
    """A frame's values, in the memory that is given."""

    def __init__(self, size: int, memory: memoryview | None) -> None:
        self.values = (
            np.zeros(size, np.float16)
            if memory is None
            else np.frombuffer(memory, np.float16, size)
        )

    @property
    def data(self) -> memoryview:
        return self.values.view(np.uint8).data


def content(part: str, shape: tuple[int, ...], epoch: int, batch: int) -> np.ndarray:
    """What a part of a frame holds, float16: known to whoever checks it."""
    seed = (sum(part.encode()) * 31 + epoch) * 1009 + batch
    size = int(np.prod(shape))
    return ((np.arange(size) * 7 + seed) % 2039 - 1000).astype(np.float16).reshape(shape)


def loss(epoch: int, batch: int) -> float:
    """What was logged with a frame."""
    return epoch * 1000 + batch + 0.5


def pack(layout: BatchLayout, epoch: int, batch: int) -> np.ndarray:
    """A whole batch."""
    flat = np.zeros(layout.size, np.float16)
    parts = [(layout.image_slots[0], "input")]
    for layer, maps, kernel in zip(
        layout.layers, layout.map_slots, layout.kernel_slots, strict=True
    ):
        parts.append((maps, layer.name))
        if kernel is not None:
            parts.append((kernel, f"{layer.name} kernels"))
    for slot, name in parts:
        flat[slot.start : slot.stop] = content(name, slot.shape, epoch, batch).ravel()
    return flat


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("frames", type=int)
    parser.add_argument("--pause", type=float, default=0.002)
    parser.add_argument("--end", default="return")
    parser.add_argument("--late", action="store_true")
    parser.add_argument("--begun", action="store_true")
    parser.add_argument("--preload")
    parser.add_argument("--epoch", type=int, default=BATCHES, help="batches in one")
    parser.add_argument("--thin", action="store_true")
    parser.add_argument("--resume", type=int)
    parser.add_argument("--durability", default="fsync")
    parser.add_argument("--limit", nargs=2, metavar=("NAME", "N"), help="NOFILE, or AS in bytes")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background, else
    if options.preload:
        os.environ["LD_PRELOAD"] = options.preload  # in the writer, which is started next
    if options.limit:
        name, value = options.limit
        words = f"ulimit -n {value}" if name == "NOFILE" else f"ulimit -v {int(value) // 1024}"
        limited = options.path.with_name("python")
        limited.write_text(f'#!/bin/sh\n{words}\nexec {sys.executable} "$@"\n')
        limited.chmod(0o755)
        sys.executable = str(limited)  # which the writer is started with
    attributes = {"format": FORMAT, "version": VERSION, "run_id": "0", "created": "", "meta": "{}"}
    courier = Courier(
        options.path.absolute(),
        False,
        attributes,
        "wait",
        lambda text: print(text, file=sys.stderr, flush=True),
        options.resume,
        options.durability,
    )
    os.environ.pop("LD_PRELOAD", None)
    print(courier._process.pid, flush=True)
    layout = BatchLayout((IMAGE,), LAYERS)
    courier.set_layout(layout, options.epoch, lambda memory: Flat(layout.size, memory))
    if options.begun:
        courier.flush()
    acked = 0
    first = 0 if options.resume is None else options.resume * options.epoch
    for number in range(first, options.frames):
        if options.late and number == options.frames // 2:
            layout = BatchLayout((IMAGE,), (*LAYERS, LATE))
            size = layout.size
            courier.set_layout(layout, options.epoch, lambda memory, size=size: Flat(size, memory))
        buffer = courier.channel.buffer()
        if buffer is not None:
            epoch, batch = divmod(number, options.epoch)
            buffer.values[:] = pack(layout, epoch, batch)
            values = {"loss": loss(epoch, batch)}
            if options.late and number >= options.frames // 2:
                values[FIELD] = loss(epoch, batch)
            header = messages.FrameHeader(epoch, batch, number, 1.0, values=values, image=0)
            courier.channel.send(QueuedFrame(buffer, header))
        if courier.committed > acked:
            acked = courier.committed
            print(f"acked {acked}", flush=True)
        if options.thin and number == options.frames // 2:
            courier.thin(2)
        if options.pause:
            time.sleep(options.pause)
        if number == options.frames // 2:
            leave(options.end)
    courier.close()
    print(f"acked {courier.committed}")
    print(
        f"counts {courier._process.acknowledged} {courier.lost} {courier.dropped}\ndone", flush=True
    )


def leave(kind: str) -> None:
    """Ends in the middle, in one of the ways in which programs do."""
    me = os.getpid()
    if kind == "exception":
        raise RuntimeError("asked for")
    if kind == "sys.exit":
        sys.exit(3)
    if kind == "os._exit":
        os._exit(4)
    if kind == "SIGTERM":
        os.kill(me, signal.SIGTERM)
        time.sleep(5)
    if kind == "SIGINT":
        os.kill(me, signal.SIGINT)
        time.sleep(5)
    if kind == "SIGINT twice":
        subprocess.Popen(["sh", "-c", f"kill -INT {me}; sleep 0.05; kill -INT {me}"])
        time.sleep(5)
    if kind == "SIGINT storm":
        subprocess.Popen(["sh", "-c", f"for i in $(seq 40); do kill -INT {me}; sleep 0.01; done"])
        time.sleep(5)
    if kind == "fork":
        pid = os.fork()
        if pid == 0:
            time.sleep(0.2)
            sys.exit(0)
        os.waitpid(pid, 0)
    if kind == "spawn":
        child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(0.2,))
        child.start()
        child.join()
    if kind == "SIGKILL":
        os.kill(me, signal.SIGKILL)


if __name__ == "__main__":
    main()
