"""What `health` found: findings, the state of each layer, how far it moved; also as text."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from replay.formatting import (
    clean_line,
    format_count,
    format_module,
    format_number,
    format_numbers,
    format_shape,
)
from replay.html import table_html, text_html
from replay.schema import Cell
from replay.schema.faces import call

_CHANGES_SHOWN = 8  # in a line
_ROWS = 40  # of the table in a notebook
_LONGEST_TITLE = 400  # characters
_ADVICE_WIDTH = 83  # letters of a line

KINDS = (
    *("nan", "inf", "dead", "flat", "stuck", "saturated", "unchanging", "duplicate"),
    *("vanishing", "exploding", "one-token", "uniform"),
)
OF_HEADS = ("one-token", "uniform")


@dataclass(frozen=True)
class Finding:
    """One thing that may be wrong.

    Attributes:
        kind: One of `KINDS`: `nan`, `inf`, `dead` (zero in every batch since), `flat` (every map
            of one value, another one from batch to batch), `stuck` (one value that is not zero),
            `saturated` (nearly all values at the channel's smallest or largest one), `unchanging`
            (the same map though the input, or the network, changes) or `duplicate`; of gradients
            `vanishing` or `exploding`; of the heads of attention `one-token` or `uniform`.
        text: What was found, without the layer and channel.
        layer: The layer's name; empty for the whole run.
        channel: The channel, or the head; None for the whole layer.
        epoch: Since when, or where first; None where it is a matter of the whole run.
        batch: Likewise.
        frames: Batches in which it was found, of those that were looked at.
        value: The value at which it is stuck or saturated, the correlation, the number of values
            that are not finite, how many times the gradients are as large as others, or the share
            of attention.
        like: Of a duplicate, the channel that it is like.
        advice: What to do about it, or how to tell whether it is a fault.
    """

    kind: str
    text: str
    layer: str = ""
    channel: int | None = None
    epoch: int | None = None
    batch: int | None = None
    frames: int | None = None
    value: float | None = None
    like: int | None = None
    advice: str = ""


@dataclass(frozen=True)
class Change:
    """How far a layer moved from one recorded batch to a later one.

    Attributes:
        start: (epoch, batch) of the earlier one.
        end: (epoch, batch) of the later one.
        value: The distance, as a share of how large the earlier values were.
    """

    start: Cell
    end: Cell
    value: float


@dataclass
class LayerHealth:
    """What was found in one layer.

    Attributes:
        name: The layer's name.
        module: The module in words.
        shape: Shape of a frame.
        channels: Number of channels.
        frames: Frames in the recording.
        sampled: (epoch, batch) of the frames whose maps were read.
        findings: What may be wrong, in the order of `KINDS`.
        zero: By (epoch, batch), at most 240 evenly spaced, the share of channels that are zero.
        saturated: By (epoch, batch) sampled, the share of channels at a bound of theirs.
        not_finite: By (epoch, batch) read because the file counts some, the share of channels with
            values that are NaN or infinite; frames without any are not among them.
        measure: What `changes` are of: `the fixed image's maps`, `kernels` or `ranges`.
        changes: From each epoch's last recorded batch to the next one's; within the only epoch.
        remarks: What could not be looked for.
        gradients: By (epoch, batch), at most 240 evenly spaced, how large the gradients were: their
            largest value times the square root of how many there are; empty without any.
        kind: Empty, or `attention` where channels are heads.
    """

    name: str
    module: str
    shape: tuple[int, ...]
    channels: int
    frames: int
    sampled: list[Cell] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    zero: dict[Cell, float] = field(default_factory=dict)
    saturated: dict[Cell, float] = field(default_factory=dict)
    not_finite: dict[Cell, float] = field(default_factory=dict)
    measure: str = "ranges"
    changes: list[Change] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    gradients: dict[Cell, float] = field(default_factory=dict)
    kind: str = ""

    @property
    def title(self) -> str:
        """The layer's name, and what of it is looked at where that is not its maps."""
        return f"{self.kind} of {self.name}" if self.kind else self.name


@dataclass
class Health:
    """What `health` found; false where there is a finding.

    Attributes:
        path: The recording.
        frames: (epoch, batch) of all frames, in the order of time.
        layers: Each layer, in the order of the recording.
        findings: What concerns no single layer.
        damaged: Frames that were passed over because they are damaged.
    """

    path: Path
    frames: list[Cell]
    layers: list[LayerHealth] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    damaged: int = 0

    def __bool__(self) -> bool:
        return not self.all_findings

    def __repr__(self) -> str:
        kinds = Counter(found.kind for found in self.all_findings)
        found = format_count(sum(kinds.values()), "finding")
        if kinds:
            found += f" ({', '.join(f'{kind} {kinds[kind]}' for kind in KINDS if kinds[kind])})"
        layers = format_count(len(self.layers), "layer")
        frames = format_count(len(self.frames), "frame")
        return f"<Health of {str(self.path)!r}: {found} in {layers}, {frames}; print() tells all>"

    def _repr_html_(self) -> str:
        """Shows itself in a notebook: a table of what was found, and what to do about it."""
        rows = [
            (layer, kind, text, advice)
            for layer, findings in (
                ("all layers", self.findings),
                *((layer.name, layer.findings) for layer in self.layers),
            )
            for kind, texts, advice in group_findings(findings)
            for text in texts
        ]
        table = table_html(("layer", "", "found", "what to do"), rows[:_ROWS]) if rows else ""
        more = f"<small>and {len(rows) - _ROWS:,} more</small>" if len(rows) > _ROWS else ""
        head = text_html(repr(self)[1:-1].partition(";")[0])
        return f"<div><b>{head}</b>{table}{more}</div>"

    @property
    def all_findings(self) -> list[Finding]:
        """The findings of the run, then those of each layer."""
        return self.findings + [found for layer in self.layers for found in layer.findings]

    @property
    def caption(self) -> str:
        """What was found, in one line: `Health of run.h5: 3 findings in 2 layers, 24 batches`."""
        findings = format_count(len(self.all_findings), "finding")
        layers = format_count(len(self.layers), "layer")
        frames = format_count(len(self.frames), "batch")
        return clean_line(f"Health of {self.path.name}: {findings} in {layers}, {frames}")

    def to_json(self) -> str:
        """Returns one JSON document, without NaN tokens."""
        document = {
            "file": str(self.path),
            "frames": len(self.frames),
            "damaged": self.damaged,
            "findings": [asdict(each) for each in self.findings],
            "layers": [_layer_document(layer) for layer in self.layers],
        }
        return json.dumps(_finite(document), indent=2, allow_nan=False)

    def to_csv(self) -> str:
        """Returns a table in CSV, a row for each finding; what does not apply is empty."""
        names = [entry.name for entry in fields(Finding)]
        names = [name for name in names if name != "text"] + ["text"]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(names)
        for finding in self.all_findings:
            row = asdict(finding)
            writer.writerow(["" if row[name] is None else row[name] for name in names])
        return text.getvalue()

    def __str__(self) -> str:
        findings = format_count(len(self.all_findings), "finding")
        layers = format_count(len(self.layers), "layer")
        frames = format_count(len(self.frames), "batch")
        paragraphs = [clean_line(f"{self.path}: {findings} in {layers}, {frames}")]
        if self.findings:
            lines = list(_lines(self.findings))
            paragraphs.append("\n".join(clean_line(line) for line in ["all layers", *lines]))
        for layer in sorted(self.layers, key=lambda layer: not layer.findings):
            paragraphs.append("\n".join(clean_line(line) for line in _layer_lines(layer)))
        if self.damaged:
            damaged = format_count(self.damaged, "damaged frame")
            paragraphs.append(f"{damaged} passed over; '{call('verify', self.path)}' names them")
        return "\n\n".join(paragraphs)


def format_place(cell: Cell, word: str) -> str:
    """Returns a place in the run as text: `since epoch 3 batch 0`."""
    return f"{word} epoch {cell[0]} batch {cell[1]}"


def format_batches(number: int) -> str:
    """Returns a number of batches as text: `1 batch`, `1,200 batches`."""
    return format_count(number, "batch")


def finding_to_the_end(
    layer: LayerHealth,
    kind: str,
    sign: str,
    channel: int | None,
    start: int,
    frames: Sequence[Cell],
    value: float | None = None,
    since: Cell | None = None,
) -> Finding:
    """Returns what a channel shows from a frame on, to the end.

    Args:
        layer: The layer.
        kind: One of `KINDS`.
        sign: What it shows, in words.
        channel: The channel; None for the whole layer.
        start: Which of the frames is the first.
        frames: Those that were looked at, in the order of time.
        value: As in `Finding`.
        since: The frame in which it begins, where that is between two that were looked at.
    """
    (epoch, batch), lasts = since or frames[start], len(frames) - start
    all_of_them = format_batches(len(frames))
    if len(frames) < layer.frames:
        all_of_them += " that were read"
    if start == 0:
        text = f"{sign} in all {all_of_them}"
    else:
        text = f"{sign} {format_place((epoch, batch), 'since')}, the last {lasts} of {all_of_them}"
    return Finding(kind, text, layer.name, channel, epoch, batch, lasts, value)


def group_findings(findings: Sequence[Finding]) -> list[tuple[str, list[str], str]]:
    """Returns findings by their kind and what to do about them, channels with the same text in one.

    Returns:
        The kind, a text for each of its findings, and the advice, in the order of the findings.
    """
    grouped: dict[tuple[str, str], dict[str, list[int]]] = {}
    for found in findings:
        channels = grouped.setdefault((found.kind, found.advice), {}).setdefault(found.text, [])
        if found.channel is not None:
            channels.append(found.channel)
    return [
        (
            kind,
            [
                f"{format_numbers(_noun(kind), channels)}: {text}" if channels else text
                for text, channels in texts.items()
            ],
            advice,
        )
        for (kind, advice), texts in grouped.items()
    ]


def _noun(kind: str) -> str:
    """Returns what a finding of a kind calls a channel."""
    return "head" if kind in OF_HEADS else "channel"


def _lines(findings: Sequence[Finding]) -> Iterable[str]:
    """Yields a line for each finding, and behind those of a kind what to do about them."""
    for kind, texts, advice in group_findings(findings):
        for text in texts:
            yield f"  {kind:<10}  {text}"
        for place, part in enumerate(textwrap.wrap(advice, _ADVICE_WIDTH)):
            yield f"  {'':<10}  {'   ' if place else '-> '}{part}"


def _layer_lines(layer: LayerHealth) -> Iterable[str]:
    heading = [layer.title[:_LONGEST_TITLE], format_module(layer.module), format_shape(layer.shape)]
    yield "   ".join(part for part in heading if part)
    yield from _lines(layer.findings)
    if not layer.findings:
        yield "  nothing found"
    for remark in layer.remarks:
        yield f"  {'note':<10}  {remark}"
    if layer.changes:
        values = _shortened([change.value for change in layer.changes])
        epochs = layer.changes[0].start[0] != layer.changes[-1].end[0]
        unit = "epoch to epoch" if epochs else "batch to batch"
        yield f"  {'change':<10}  of {layer.measure}, {unit}: {', '.join(values)}"
    if layer.gradients:
        sizes = list(layer.gradients.values())
        step = -(-len(sizes) // _CHANGES_SHOWN)
        parts = [statistics.median(sizes[at : at + step]) for at in range(0, len(sizes), step)]
        yield f"  {'gradient':<10}  size, over the run: {', '.join(_shortened(parts))}"


def _shortened(values: Sequence[float]) -> list[str]:
    """Returns numbers as texts, without those in the middle where there are many."""
    texts = [format_number(value) for value in values]
    if len(texts) > _CHANGES_SHOWN:
        texts = [*texts[: _CHANGES_SHOWN - 2], "...", texts[-1]]
    return texts


def _layer_document(layer: LayerHealth) -> dict[str, Any]:
    def series(shares: dict[Cell, float], name: str = "share") -> list[dict[str, float]]:
        return [{"epoch": e, "batch": b, name: share} for (e, b), share in shares.items()]

    gradients = {"gradients": series(layer.gradients, "size")} if layer.gradients else {}
    return {
        **({"kind": layer.kind} if layer.kind else {}),
        "name": layer.name,
        "module": layer.module,
        "shape": list(layer.shape),
        "channels": layer.channels,
        "frames": layer.frames,
        "frames_read": len(layer.sampled),
        "findings": [asdict(each) for each in layer.findings],
        "zero": series(layer.zero),
        "saturated": series(layer.saturated),
        "not_finite": series(layer.not_finite),
        "change": {
            "of": layer.measure,
            "steps": [
                {"start": list(one.start), "end": list(one.end), "value": one.value}
                for one in layer.changes
            ],
        },
        **gradients,
        "remarks": layer.remarks,
    }


def _finite(value: Any) -> Any:
    """Returns the value with None for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
