"""A recording, held against the truth, and against what the queue took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from generated.files import File, Frames, layer_of
from generated.recorded import Outcome
from generated.truth import At, Maps, Truth, named
from generated.watching import Sent


def same(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Whether two frames are equal to the bit."""
    return one.shape == other.shape and one.tobytes() == other.tobytes()


def compare(outcome: Outcome, truth: Truth, path: Path) -> list[str]:
    """In what a file differs from the truth; nothing where all is right or counted as lost."""
    file = File(path)
    found = [*outcome.traces, *file.damaged]
    if file.state[3] != 1:
        found.append("the file was not closed")
    absent = 0
    for at in file.cells:
        if at not in truth.frames:
            found.append(f"{at} was recorded, where no batch to record was trained")
    # Of a layer that is another one now, either its frames go on or somebody says so.
    excused = {name for name in truth.replacements if any(name in line for line in outcome.said)}
    for at, frame in truth.frames.items():
        if at not in file.cells:
            absent += 1
            continue
        absent += compare_maps(found, at, frame.maps, file.maps, truth, file, excused, "")
        for number, maps in enumerate(frame.probes):
            there = file.probes[number] if number < len(file.probes) else {}
            absent += compare_maps(
                found, at, maps, there, truth, file, excused, f"probe {number}: "
            )
        for name, kernel in frame.kernels.items():
            written = file.kernels.get(name, {}).get(at)
            if written is not None and not same(written, kernel):
                found.append(f"kernels of {name} at {at}: another value")
        image = file.images.get(at)
        if image is None and frame.image.ndim >= 3 - truth.batched:
            absent += 1
            found.append(f"the input image at {at} is missing")
        unsure = any(line.startswith("input:") and "uncertain" in line for line in outcome.said)
        if image is not None and not unsure and not same(image, frame.image):
            found.append(f"the input image at {at}: recorded {image.shape}, another one")
        loss = frame.values.get("loss", np.nan)
        if not np.array_equal(file.loss[at], loss, equal_nan=True):
            found.append(f"loss at {at}: recorded {file.loss[at]}, true {loss}")
    if absent > outcome.counted:
        found.append(f"{absent} frames are missing, {outcome.counted} were counted")
    found += compare_live(outcome.sent, file)
    found += compare_words(outcome.said, truth, file)
    return found


def compare_maps(
    found: list[str],
    at: At,
    maps: Maps,
    written: Frames,
    truth: Truth,
    file: File,
    excused: set[str],
    of: str,
) -> int:
    """Adds in what the maps of a batch differ; returns how many are missing.

    A layer whose axis nobody can tell may be wrong, where the file says so.
    """
    uncertain = {layer_of(name) for name, note in file.notes.items() if "uncertain" in note}
    absent = 0
    expected = named(maps)
    for name, values in expected.items():
        layer = layer_of(name)
        if layer in uncertain:
            continue
        spelled = f"{name}@{'x'.join(map(str, values.shape))}"
        there = [n for n in (name, spelled) if at in written.get(n, {})]
        if not there:
            absent += layer not in truth.opaque and layer not in excused
            continue
        recorded = written[there[0]][at]
        if len(there) > 1 or not same(recorded, values):
            found.append(
                f"{of}{name} at {at}: recorded {recorded.shape}, true {values.shape}, "
                f"{'another value' if recorded.shape == values.shape else 'another shape'}"
            )
    for name, frames in written.items():
        layer = layer_of(name)
        if "parametrizations" in layer or layer in uncertain:  # came with a weight's new state
            continue
        if at in frames and name.split("@")[0] not in expected:
            found.append(f"{of}{name} at {at} was recorded, but never put out")
    return absent


def compare_live(sent: list[Sent], file: File) -> list[str]:
    """In what the file differs from what the queue took."""
    found = []
    cells = [(frame.header.epoch, frame.header.batch) for frame in sent]
    if sorted(cells) != sorted(file.cells):
        found.append(f"the queue took {len(cells)} frames, the file has {len(file.cells)}")
    for at, frame in zip(cells, sent, strict=True):
        values = np.frombuffer(frame.data, np.float16)
        layout, header = frame.layout, frame.header
        for place, (layer, slot) in enumerate(zip(layout.layers, layout.map_slots, strict=True)):
            group = file.maps if layer.probe is None else file.probes[layer.probe]
            written = group.get(layer.name, {}).get(at)
            if place in header.missing:
                if written is not None:
                    found.append(f"{layer.name} at {at} is in the file, and was not sent")
                continue
            live = values[slot.start : slot.stop].reshape(slot.shape)
            if written is None or not same(written, live):
                found.append(f"{layer.name} at {at} is not what the queue took")
        if header.image is not None:
            slot = layout.image_slots[header.image]
            live = values[slot.start : slot.stop].reshape(slot.shape)
            if at not in file.images or not same(file.images[at], live):
                found.append(f"the input image at {at} is not what the queue took")
    return found


def compare_words(said: list[str], truth: Truth, file: File) -> list[str]:
    """What was said that is not so, and what was not said."""
    found = []
    text = "\n".join(said)
    for line in said:
        if "fire" in line:
            names = line.split(": ", 1)[1].split(" and ")[0].split(", ")
            wrong = sorted(set(names) & truth.fired)
            found += [f"said of {name}, which fired: {line}" for name in wrong]
    recorded = {layer_of(name) for name in file.maps}
    for name in sorted(truth.fired - recorded):
        if truth.frames and name not in text and " more" not in text:
            found.append(f"nothing was said of {name}, which put out nothing that was recorded")
    return found
