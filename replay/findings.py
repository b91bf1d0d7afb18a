"""What an examination of a network found: findings, each layer's state, how far it moved."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

Cell: TypeAlias = "tuple[int, int]"

KINDS = ("nan", "inf", "dead", "flat", "stuck", "saturated", "unchanging", "duplicate")


@dataclass(frozen=True)
class Finding:
    """One thing that may be wrong.

    Attributes:
        kind: One of `KINDS`: `nan`, `inf`, `dead` (zero in every batch since), `flat` (every map
            of one value, another one from batch to batch), `stuck` (one value that is not zero),
            `saturated` (nearly all values at the channel's smallest or largest one), `unchanging`
            (the same map though the input, or the network, changes) or `duplicate`.
        text: What was found, without the layer and channel.
        layer: The layer's name; empty for the whole run.
        channel: The channel; None for the whole layer.
        epoch: Since when, or where first; None where it is a matter of the whole run.
        batch: Likewise.
        frames: Batches in which it was found, of those that were looked at.
        value: The value at which it is stuck or saturated, the correlation, or the number of
            values that are not finite.
        like: Of a duplicate, the channel that it is like.
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


@dataclass(frozen=True)
class Change:
    """How far a layer moved from one recorded batch to a later one, relative to what it was."""

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
        measure: What `changes` are of: `probe maps`, `kernels` or `ranges`.
        changes: From each epoch's last recorded batch to the next one's; within the only epoch.
        remarks: What could not be looked for.
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
    measure: str = "ranges"
    changes: list[Change] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


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

    @property
    def all_findings(self) -> list[Finding]:
        """Those of the run, then those of each layer."""
        return self.findings + [found for layer in self.layers for found in layer.findings]

    def to_json(self) -> str:
        """One JSON document."""
        from replay.healthwords import to_json

        return to_json(self)

    def to_csv(self) -> str:
        """A table in CSV, a row for each finding."""
        from replay.healthwords import to_csv

        return to_csv(self)

    def __str__(self) -> str:
        from replay.healthwords import as_text

        return as_text(self)
