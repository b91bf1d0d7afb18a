"""What `health` found, in words: a table to read, one JSON document, rows of CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import Any

from replay.findings import Finding, Health, LayerHealth
from replay.words import clean, count, module_words, number, numbered, shape

_CHANGES_SHOWN = 8


def as_text(found: Health) -> str:
    """A block for each layer, those with findings first."""
    several = len(found.all_findings)
    frames = count(len(found.frames), "batch").replace("batchs", "batches")
    head = f"{found.path}: {count(several, 'finding')} in {count(len(found.layers), 'layer')}, "
    blocks = [clean(f"{head}{frames}")]
    if found.findings:
        lines = [f"  {each.kind:<10}  {each.text}" for each in found.findings]
        blocks.append("\n".join(["all layers", *lines]))
    for layer in sorted(found.layers, key=lambda layer: not layer.findings):
        blocks.append("\n".join(clean(line) for line in _block(layer)))
    if found.damaged:
        frames = count(found.damaged, "damaged frame")
        blocks.append(f"{frames} passed over; 'python -m replay verify' names them")
    return "\n\n".join(blocks)


def _block(layer: LayerHealth) -> Iterable[str]:
    words = [layer.name, module_words(layer.module), shape(layer.shape)]
    yield "   ".join(word for word in words if word)
    grouped: dict[tuple[str, str], list[Finding]] = {}
    for found in layer.findings:
        grouped.setdefault((found.kind, found.text), []).append(found)
    for (kind, text), some in grouped.items():
        channels = [found.channel for found in some if found.channel is not None]
        which = ""
        if channels:
            which = f"{numbered('channel', channels)}: "
        yield f"  {kind:<10}  {which}{text}"
    if not layer.findings:
        yield "  nothing found"
    for remark in layer.remarks:
        yield f"  {'note':<10}  {remark}"
    if layer.changes:
        values = [number(change.value) for change in layer.changes]
        if len(values) > _CHANGES_SHOWN:
            values = [*values[: _CHANGES_SHOWN - 2], "...", values[-1]]
        epochs = layer.changes[0].start[0] != layer.changes[-1].end[0]
        unit = "epoch to epoch" if epochs else "batch to batch"
        yield f"  {'change':<10}  of {layer.measure}, {unit}: {', '.join(values)}"


def to_json(found: Health) -> str:
    """One document, without NaN tokens."""
    document = {
        "file": str(found.path),
        "frames": len(found.frames),
        "damaged": found.damaged,
        "findings": [asdict(each) for each in found.findings],
        "layers": [_document(layer) for layer in found.layers],
    }
    return json.dumps(_finite(document), indent=2, allow_nan=False)


def _document(layer: LayerHealth) -> dict[str, Any]:
    def series(shares: dict[tuple[int, int], float]) -> list[dict[str, float]]:
        return [{"epoch": e, "batch": b, "share": share} for (e, b), share in shares.items()]

    return {
        "name": layer.name,
        "module": layer.module,
        "shape": list(layer.shape),
        "channels": layer.channels,
        "frames": layer.frames,
        "frames_read": len(layer.sampled),
        "findings": [asdict(each) for each in layer.findings],
        "zero": series(layer.zero),
        "saturated": series(layer.saturated),
        "change": {
            "of": layer.measure,
            "steps": [
                {"start": list(one.start), "end": list(one.end), "value": one.value}
                for one in layer.changes
            ],
        },
        "remarks": layer.remarks,
    }


def _finite(value: Any) -> Any:
    """The same with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_csv(found: Health) -> str:
    """A header and a row for each finding; what does not apply is empty."""
    names = [entry.name for entry in fields(Finding)]
    names = [name for name in names if name != "text"] + ["text"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for each in found.all_findings:
        row = asdict(each)
        writer.writerow(["" if row[name] is None else row[name] for name in names])
    return text.getvalue()
