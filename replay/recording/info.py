"""What a recording holds, as one JSON-ready document.

Needs neither torch nor matplotlib, and reads no frame: it answers in a fraction of a second.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.formatting import (
    format_count,
)
from replay.recording.beside_words import BESIDE
from replay.recording.probe_fields import of_a_probe
from replay.recording.recording import Probe, Recording
from replay.schema.suggestions import listed


def describe(recording: Recording) -> dict[str, Any]:
    """Returns the recording as one document: the same keys for every file, None where unknown.

    Only where something lies beside the maps, such as attention, there is a key for it.

    Args:
        recording: An open recording with at least one layer and one committed frame.

    Raises:
        FileError: The recording is empty, or damaged.
    """
    recording.require_frames()
    present = recording.order > 0
    frames = int(present.sum())
    epochs = [int(epoch) for epoch in np.flatnonzero(present.any(axis=1))]
    batches = [int(batch) for batch in np.flatnonzero(present.any(axis=0))]
    inputs = recording.inputs
    return {
        "file": str(recording.path),
        "file_bytes": recording.path.stat().st_size,
        "format_version": recording.version,
        "packed": _json_ready(recording.packed) or None,
        "run_id": recording.run_id or None,
        "created": recording.created or None,
        "meta": _json_ready(recording.meta),
        "closed": recording.closed,
        "frames": frames,
        "dropped": recording.dropped,
        "lost": recording.lost,
        "epochs": epochs,
        "batches": batches,
        "layers": [_layer(recording, name) for name in recording.layers],
        "input": None
        if inputs.shape is None
        else {
            "shape": list(inputs.shape),
            "shapes": [list(shape) for shape in inputs.shapes],
            "mean": None if inputs.mean is None else _json_ready(inputs.mean.tolist()),
            "std": None if inputs.std is None else _json_ready(inputs.std.tolist()),
        },
        "probes": [_probe(recording.probe(number)) for number in range(recording.probes)],
        "fields": sorted(name for name in recording.batches if not of_a_probe(name)),
        "loss": _loss(recording),
        "accuracy": _accuracy(recording),
        "not_finite": {
            kind: _counted(recording, kind) for kind in ("nan", "inf") if kind in recording.batches
        },
        "missing": _counted(recording, "missing"),
        **_beside(recording),
    }


def describe_problems(recording: Recording) -> str | None:
    """Returns one line on a recording that was not closed, or not all of which is shown."""
    whole = int((recording.order > 0).sum())
    problems = []
    if not recording.closed:
        problems.append("was not closed (its writer is at work, or was killed)")
    if recording.lost > 0:
        problems.append(f"lost {format_count(recording.lost, 'frame')}")
    if recording.dropped > 0:
        problems.append(f"left out {format_count(recording.dropped, 'frame')} that came too fast")
    if recording.left_out:
        names = listed([repr(name) for name in recording.left_out])
        problems.append(f"has maps under names that no layer can have, left out here: {names}")
    if not problems:
        return None
    return f"{recording.path} {' and '.join(problems)}; {format_count(whole, 'frame')} whole"


def to_json(document: dict[str, Any] | list[dict[str, Any]]) -> str:
    """Returns the document, or several, as JSON text, in ASCII, without NaN tokens."""
    return json.dumps(document, indent=2, allow_nan=False)


def _layer(recording: Recording, name: str) -> dict[str, Any]:
    layer = recording[name].layer
    frames = int(recording[name].present.sum())
    more = {"queries": layer.queries, "grid": layer.grid and list(layer.grid), "of": layer.of}
    return {
        "name": name,
        "module": layer.module,
        "shape": list(layer.shape),
        "axes": layer.axes,
        "pooled": layer.pooled,
        "note": layer.note or None,
        "frames": frames,
        "kernel": None if layer.kernel is None else list(layer.kernel),
        "frame_bytes": layer.nbytes,
        "total_bytes": layer.nbytes * frames,
        **{key: value for key, value in more.items() if value},
    }


def _probe(probe: Probe) -> dict[str, Any]:
    label = probe.batches.get("label")
    return {
        "shape": None if probe.inputs.shape is None else list(probe.inputs.shape),
        "layers": [_layer(probe, name) for name in probe.layers],
        "label": None if label is None else int(label.max()),
        **_answers(probe),
        **_beside(probe),
    }


def _beside(recording: Recording) -> dict[str, Any]:
    """Returns the layers of what lies beside the maps, by its kind, as far as there is some."""
    found = ((kind, recording.beside(kind)) for kind in BESIDE)
    return {
        kind: [_layer(each, name) for name in each.layers] for kind, each in found if each.layers
    }


def _answers(probe: Probe) -> dict[str, Any]:
    """Returns what the network said of a fixed image in the last frame, if the file has it."""
    fields, last = probe.batches, probe.frames[-1:]
    names = ("class", "prediction", "probability", "label_probability")
    numbers = {name: float(fields[name][last[0]]) for name in names if last and name in fields}
    return {
        name: int(value) if name in names[:2] else _number(value) for name, value in numbers.items()
    }


def _loss(recording: Recording) -> dict[str, Any] | None:
    if "loss" not in recording.batches:
        return None
    losses = recording.batches["loss"]
    by_time = losses[recording.order > 0][np.argsort(recording.order[recording.order > 0])]
    known = by_time[~np.isnan(by_time)]
    if known.size == 0:
        return None
    return {
        "first": _number(known[0]),
        "last": _number(known[-1]),
        "epoch_means": _by_epoch(losses, ~np.isnan(losses) & (recording.order > 0)),
    }


def _accuracy(recording: Recording) -> dict[str, Any] | None:
    """Returns how often the recorded image of a batch was predicted right."""
    if not {"label", "prediction"} <= set(recording.batches):
        return None
    label, prediction = recording.batches["label"], recording.batches["prediction"]
    known = (recording.order > 0) & (label >= 0) & (prediction >= 0)
    if not known.any():
        return None
    right = (label == prediction).astype(np.float64)
    return {
        "of": int(known.sum()),
        "right": int(right[known].sum()),
        "epoch_means": _by_epoch(right, known),
    }


def _by_epoch(values: npt.NDArray[Any], known: npt.NDArray[np.bool_]) -> list[list[Any]]:
    """Returns [epoch, mean] for each epoch in which something is known."""
    found = np.flatnonzero(known.any(axis=1))
    with np.errstate(over="ignore", invalid="ignore"):
        return [[int(e), _number(values[e][known[e]].mean())] for e in found]


def _counted(recording: Recording, name: str) -> dict[str, Any] | None:
    """Returns what a field counts in all, in how many frames, and where it first occurred."""
    if name not in recording.batches:
        return None
    counts = np.maximum(recording.batches[name], 0)
    order = np.where(counts > 0, recording.order, 0)
    at = np.argwhere(order > 0)
    first = at[np.argmin(order[order > 0])].tolist() if len(at) else None
    return {"count": int(counts.sum()), "frames": len(at), "first": first}


def _json_ready(value: Any) -> Any:
    """Returns the value with None for what JSON cannot say: NaN and infinities."""
    if isinstance(value, dict):
        return {str(key): _json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_ready(item) for item in value]
    return _number(value) if isinstance(value, float) else value


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
