"""What a recording holds, as one JSON-ready document and as a table to read.

Needs neither torch nor matplotlib, and reads no frame: it answers in a fraction of a second.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.formatting import (
    clean_line,
    format_bytes,
    format_count,
    format_numbers,
    format_shape,
    pluralize,
)
from replay.recording.recording import Probe, Recording

_EPOCHS_SHOWN = 12
_SHAPES_SHOWN = 4


def describe(recording: Recording) -> dict[str, Any]:
    """The recording as one document: the same keys for every file, null where unknown.

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
        "fields": sorted(recording.batches),
        "loss": _loss(recording),
        "accuracy": _accuracy(recording),
        "not_finite": {
            kind: _counted(recording, kind) for kind in ("nan", "inf") if kind in recording.batches
        },
        "missing": _counted(recording, "missing"),
    }


def trouble(recording: Recording) -> str | None:
    """One line on a recording that was not closed or lost frames; None where all is well."""
    whole = int((recording.order > 0).sum())
    found = []
    if not recording.closed:
        found.append("was not closed (its writer is at work, or was killed)")
    if recording.lost > 0:
        found.append(f"lost {format_count(recording.lost, 'frame')}")
    if recording.dropped > 0:
        found.append(f"left out {format_count(recording.dropped, 'frame')} that came too fast")
    if not found:
        return None
    return f"{recording.path} {' and '.join(found)}; {format_count(whole, 'frame')} whole"


def as_text(document: dict[str, Any]) -> str:
    """What `describe` found, as a table; names from the file are cleaned for a terminal."""
    rows = [
        ("file", f"{document['file']}, {format_bytes(document['file_bytes'])}"),
        ("run", document["run_id"] or "unknown"),
        ("created", document["created"] or "unknown"),
        *(
            (str(key), _spell(key, value))
            for key, value in document["meta"].items()
            if key != schema.PROBE or not document["probes"]  # which say the same, and more
        ),
        ("recorded", _recorded_words(document)),
        ("input", _input_words(document["input"])),
        *(("probe", _probe_words(place, probe)) for place, probe in enumerate(document["probes"])),
        ("loss", _loss_words(document["loss"])),
    ]
    if accuracy := document["accuracy"]:
        rows.append(("accuracy", _accuracy_words(accuracy)))
    rows += _trouble_rows(document)
    width = min(max(len(key) for key, _ in rows), 16)
    lines = [f"{clean_line(key):<{width}}  {clean_line(value)}" for key, value in rows if value]
    layers = document["layers"]
    return "\n".join([*lines, "", *_layer_table(layers), *_note_lines(layers)])


def to_json(document: dict[str, Any] | list[dict[str, Any]]) -> str:
    """The document, or several, as JSON text, in ASCII, without NaN tokens."""
    return json.dumps(document, indent=2, allow_nan=False)


def _layer(recording: Recording, name: str) -> dict[str, Any]:
    layer = recording[name].layer
    frames = int(recording[name].present.sum())
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
    }


def _probe(probe: Probe) -> dict[str, Any]:
    label = probe.batches.get("label")
    return {
        "shape": None if probe.inputs.shape is None else list(probe.inputs.shape),
        "layers": [_layer(probe, name) for name in probe.layers],
        "label": None if label is None else int(label.max()),
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
    """How often the recorded image of a batch was predicted right."""
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
    """[epoch, mean] for each epoch in which something is known."""
    found = np.flatnonzero(known.any(axis=1))
    with np.errstate(over="ignore", invalid="ignore"):
        return [[int(e), _number(values[e][known[e]].mean())] for e in found]


def _counted(recording: Recording, name: str) -> dict[str, Any] | None:
    """What a field counts in all, in how many frames, and where it first occurred."""
    if name not in recording.batches:
        return None
    counts = np.maximum(recording.batches[name], 0)
    order = np.where(counts > 0, recording.order, 0)
    at = np.argwhere(order > 0)
    first = at[np.argmin(order[order > 0])].tolist() if len(at) else None
    return {"count": int(counts.sum()), "frames": len(at), "first": first}


def _json_ready(value: Any) -> Any:
    """The value with null for what JSON cannot say: NaN and infinities."""
    if isinstance(value, dict):
        return {str(key): _json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_ready(item) for item in value]
    return _number(value) if isinstance(value, float) else value


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


# From here on: words.


def _spell(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_spell(name, item)}" for name, item in value.items())
    if isinstance(value, list):
        if key == "command":
            return shlex.join(str(item) for item in value)
        return ", ".join(_spell("", item) for item in value)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def _recorded_words(document: dict[str, Any]) -> str:
    return (
        f"{format_count(document['frames'], 'frame')}: "
        f"{format_numbers('epoch', document['epochs'])}, "
        f"{format_numbers('batch', document['batches'])}"
    )


def _input_words(found: dict[str, Any] | None) -> str:
    if found is None:
        return "not recorded"
    known = found["mean"] is not None and found["std"] is not None
    sizes = ", ".join(format_shape(one) for one in found["shapes"][:_SHAPES_SHOWN])
    more = len(found["shapes"]) - _SHAPES_SHOWN
    sizes += f" and {format_count(more, 'other shape')}" if more > 0 else ""
    return sizes + ("" if known else ", normalisation unknown")


def _probe_words(number: int, probe: dict[str, Any]) -> str:
    image = "no image" if probe["shape"] is None else f"image of {format_shape(probe['shape'])}"
    names = ", ".join(layer["name"] for layer in probe["layers"])
    layers = pluralize("layer", len(probe["layers"]))
    label = "" if probe["label"] is None else f", label {probe['label']}"
    return f"{number}: {image}{label}, evaluation mode, {layers} {names or 'none'}"


def _loss_words(loss: dict[str, Any] | None) -> str:
    if loss is None:
        return "not recorded"
    return f"{_short(loss['first'])} first, {_short(loss['last'])} last" + _epoch_words(
        loss["epoch_means"], _short
    )


def _accuracy_words(accuracy: dict[str, Any]) -> str:
    share = accuracy["right"] / accuracy["of"]
    return f"{share:.0%} of {format_count(accuracy['of'], 'recorded image')}" + _epoch_words(
        accuracy["epoch_means"], lambda mean: f"{mean:.0%}"
    )


def _epoch_words(means: Sequence[Sequence[Any]], spell: Any) -> str:
    if not 1 < len(means) <= _EPOCHS_SHOWN:
        return ""
    return "; by epoch " + " ".join(spell(mean) for _, mean in means)


def _trouble_rows(document: dict[str, Any]) -> Iterable[tuple[str, str]]:
    if not document["closed"]:
        yield "not closed", "its writer is still at work, or was killed"
    for what in ("lost", "dropped"):
        if document[what] > 0:
            yield what, format_count(document[what], "frame")
    names = {"nan": "NaN", "inf": "inf"}
    for kind, found in document["not_finite"].items():
        if found["count"]:
            yield names[kind], f"{format_count(found['count'], 'value')} {_where(found)}"
    if (missing := document["missing"]) and missing["count"]:
        yield (
            "missing",
            f"a layer put out nothing {format_count(missing['count'], 'time')} {_where(missing)}",
        )


def _where(found: dict[str, Any]) -> str:
    epoch, batch = found["first"]
    frames = format_count(found["frames"], "frame")
    return f"in {frames}, first in epoch {epoch}, batch {batch}"


def _layer_table(layers: Sequence[dict[str, Any]]) -> list[str]:
    rows = [("layer", "maps", "axes", "frames", "kernels", "a frame", "in all", "module")]
    rows += [
        (
            clean_line(layer["name"]),
            format_shape(layer["shape"]),
            _axes_words(layer),
            f"{layer['frames']:,}",
            "-" if layer["kernel"] is None else format_shape(layer["kernel"]),
            format_bytes(layer["frame_bytes"]),
            format_bytes(layer["total_bytes"]),
            clean_line(layer["module"]),
        )
        for layer in layers
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(7)]
    return ["  ".join([*map(str.ljust, row[:7], widths), row[7]]).rstrip() for row in rows]


def _note_lines(layers: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each note, with the layers that it is of."""
    names: dict[str, list[str]] = {}
    for layer in layers:
        if layer["note"]:
            names.setdefault(clean_line(layer["note"]), []).append(clean_line(layer["name"]))
    lines = [f"{', '.join(those)}: {note}" for note, those in names.items()]
    return ["", *lines] if lines else []


def _axes_words(layer: dict[str, Any]) -> str:
    """`CHW`, or `CHW, means of 4x4` where values were averaged."""
    spatial = [letter for letter in layer["axes"] if letter in "DHWL"]
    if layer["pooled"] == 1:
        return str(layer["axes"]) or "-"
    return f"{layer['axes']}, means of {format_shape([layer['pooled']] * len(spatial))}"


def _short(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"
