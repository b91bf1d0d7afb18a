"""What a recording holds, as a table to read."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from replay import schema
from replay.formatting import (
    ELLIPSIS,
    clean,
    clean_line,
    format_bytes,
    format_count,
    format_numbers,
    format_shape,
    pluralize,
)
from replay.schema.suggestions import listed

_LONGEST = 20_000  # characters of a line; the names of a thousand classes are shorter
_LONGEST_NAME, _LONGEST_MODULE = 400, 2_000
_KEYS_SHOWN = 200
_EPOCHS_SHOWN = 12
_SHAPES_SHOWN = 4
_PROBES_SHOWN = 4
_BESIDE = (schema.ATTENTION, schema.GRADIENTS, schema.CAM)


def format_info(document: dict[str, Any]) -> str:
    """Returns what `describe` found as a table; names from the file are cleaned for a terminal."""
    rows = [
        ("file", f"{document['file']}, {format_bytes(document['file_bytes'])}"),
        ("packed", _packed_text(document["packed"])),
        ("run", document["run_id"] or "unknown"),
        ("created", document["created"] or "unknown"),
        *_meta_rows(document),
        ("recorded", _recorded_text(document)),
        ("input", _input_text(document["input"])),
        *(("probe", text) for text in _probe_texts(document["probes"])),
        ("beside", _beside_text(document)),
        ("loss", _loss_text(document["loss"])),
    ]
    if accuracy := document["accuracy"]:
        rows.append(("accuracy", _accuracy_text(accuracy)))
    rows += _problem_rows(document)
    width = min(max(len(key) for key, _ in rows), 16)
    lines = [f"{_bounded(key):<{width}}  {_bounded(value)}" for key, value in rows if value]
    layers = document["layers"]
    return "\n".join([*lines, "", *_layer_table(layers), *_note_lines(layers)])


def _meta_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns what the run's description says, as far as anybody reads on."""
    meta = document["meta"]
    rows = [
        (str(key), _spell(key, value))
        for key, value in islice(meta.items(), _KEYS_SHOWN)
        if key != schema.PROBE or not document["probes"]  # which say the same, and more
    ]
    more = len(meta) - _KEYS_SHOWN
    return rows if more <= 0 else [*rows, ("more", f"{more:,} others")]


def _bounded(text: str) -> str:
    """Returns a text from the file as a line of a terminal, cut where none is as long."""
    return clean_line(text[:_LONGEST] + ELLIPSIS if len(text) > _LONGEST else text)


def _packed_text(packed: dict[str, Any] | None) -> str:
    """Returns how a file is packed; nothing for one that is not."""
    if not packed:
        return ""
    bits = packed.get("bits")
    lossless = ", nothing is lost" if bits == 16 else ""
    return f"{bits} bits, {packed.get('filter')}{lossless}"


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


def _recorded_text(document: dict[str, Any]) -> str:
    return (
        f"{format_count(document['frames'], 'frame')}: "
        f"{format_numbers('epoch', document['epochs'])}, "
        f"{format_numbers('batch', document['batches'])}"
    )


def _input_text(found: dict[str, Any] | None) -> str:
    if found is None:
        return "not recorded"
    known = found["mean"] is not None and found["std"] is not None
    sizes = ", ".join(format_shape(one) for one in found["shapes"][:_SHAPES_SHOWN])
    more = len(found["shapes"]) - _SHAPES_SHOWN
    sizes += f" and {format_count(more, 'other shape')}" if more > 0 else ""
    return sizes + ("" if known else ", normalisation unknown")


def _beside_text(found: dict[str, Any]) -> str:
    """Returns what lies beside the maps: `attention of 4 layers, gradients of 2 layers`."""
    kinds = (kind for kind in _BESIDE if kind in found)
    return ", ".join(f"{kind} of {format_count(len(found[kind]), 'layer')}" for kind in kinds)


def _probe_texts(probes: Sequence[dict[str, Any]]) -> list[str]:
    """Returns a line for each fixed image, or one for all where they are many and alike."""
    texts = [_probe_text(number, probe) for number, probe in enumerate(probes)]
    labels = [probe["label"] for probe in probes]
    alike = {_probe_text(0, {**probe, "label": None}) for probe in probes}
    if len(probes) <= _PROBES_SHOWN or len(alike) > 1:
        return texts
    known = sorted({label for label in labels if label is not None})
    of = f" of {format_numbers('label', known)}" if known else ""
    return [f"{len(probes)} images{of}, each: {alike.pop().partition(': ')[2]}"]


def _probe_text(number: int, probe: dict[str, Any]) -> str:
    image = "no image" if probe["shape"] is None else f"image of {format_shape(probe['shape'])}"
    names = listed([layer["name"] for layer in probe["layers"]])
    layers = pluralize("layer", len(probe["layers"]))
    label = "" if probe["label"] is None else f", label {probe['label']}"
    beside = _beside_text(probe)
    text = f"{number}: {image}{label}, evaluation mode, {layers} {names or 'none'}"
    return f"{text}; {beside}" if beside else text


def _loss_text(loss: dict[str, Any] | None) -> str:
    if loss is None:
        return "not recorded"
    return f"{_loss(loss['first'])} first, {_loss(loss['last'])} last" + _epoch_text(
        loss["epoch_means"], _loss
    )


def _accuracy_text(accuracy: dict[str, Any]) -> str:
    share = accuracy["right"] / accuracy["of"]
    return f"{share:.0%} of {format_count(accuracy['of'], 'recorded image')}" + _epoch_text(
        accuracy["epoch_means"], lambda mean: f"{mean:.0%}"
    )


def _epoch_text(means: Sequence[Sequence[Any]], spell: Callable[[Any], str]) -> str:
    if not 1 < len(means) <= _EPOCHS_SHOWN:
        return ""
    return "; by epoch " + " ".join(spell(mean) for _, mean in means)


def _problem_rows(document: dict[str, Any]) -> Iterable[tuple[str, str]]:
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
            clean(layer["name"], _LONGEST_NAME, mark="?"),
            format_shape(layer["shape"]),
            _axes_text(layer),
            f"{layer['frames']:,}",
            "-" if layer["kernel"] is None else format_shape(layer["kernel"]),
            format_bytes(layer["frame_bytes"]),
            format_bytes(layer["total_bytes"]),
            clean(layer["module"], _LONGEST_MODULE, mark="?"),
        )
        for layer in layers
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(7)]
    return ["  ".join([*map(str.ljust, row[:7], widths), row[7]]).rstrip() for row in rows]


def _note_lines(layers: Sequence[dict[str, Any]]) -> list[str]:
    """Returns a line for each note, with the layers that it is of."""
    names: dict[str, list[str]] = {}
    for layer in layers:
        if layer["note"]:
            names.setdefault(_bounded(layer["note"]), []).append(layer["name"])
    lines = [f"{_bounded(', '.join(those))}: {note}" for note, those in names.items()]
    return ["", *lines] if lines else []


def _axes_text(layer: dict[str, Any]) -> str:
    """Returns `CHW`, or `CHW, means of 4x4` where values were averaged."""
    spatial = [letter for letter in layer["axes"] if letter in "DHWL"]
    if layer["pooled"] == 1:
        return str(layer["axes"]) or "-"
    return f"{layer['axes']}, means of {format_shape([layer['pooled']] * len(spatial))}"


def _loss(loss: float | None) -> str:
    return "not finite" if loss is None else schema.spell_loss(loss)
