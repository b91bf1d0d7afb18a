"""Looks for heads of attention that look at one token only, or at all of them alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.diagnosis import symptoms
from replay.diagnosis.beginnings import Beginnings
from replay.diagnosis.report import OF_HEADS, Finding, LayerHealth, finding_to_the_end
from replay.formatting import format_number
from replay.maps.axes import spread
from replay.recording import Recording, Series
from replay.schema import ATTENTION, Cell, DamagedError, Float16Array

ONE = 0.95  # of a row's weight, on one token: more than that is on it only
ALIKE = 0.99  # of the largest entropy that there can be: more than that is on all alike
_FEWEST = 4  # tokens, of which to look at one only, or at all, says something
_SAMPLED = 64  # frames of a layer that are read

Shares = npt.NDArray[np.float64]


def examine_attention(run: Recording, damaged: set[tuple[str, Cell]]) -> list[LayerHealth]:
    """Looks at the heads of each layer whose attention was recorded.

    Args:
        run: The recording.
        damaged: To which the name and the (epoch, batch) of what cannot be read are added.

    Returns:
        What was found in each layer, without advice. A channel is a head. Of a recording that has
        none of the batches' own images, as of a compiled model, that of the first fixed image.
    """
    own = [_examine(run.attention(name), damaged) for name in run.attentions]
    if own or not run.probes or run.probe_number is not None:
        return own
    fixed = run.beside(ATTENTION, probe=0)
    return [_examine(fixed[name], damaged) for name in fixed.layers]


def _examine(series: Series, damaged: set[tuple[str, Cell]]) -> LayerHealth:
    name = series.name
    layer = series.layer
    found = LayerHealth(
        name, layer.module, layer.shape, layer.channels, len(series.frames), kind=ATTENTION
    )
    if layer.probe is not None:
        found.remarks.append(f"of fixed image {layer.probe}")
    if layer.shape[-1] < _FEWEST:
        found.remarks.append(f"too few tokens to tell: {layer.shape[-1]}")
        return found
    shares: list[tuple[Shares, Shares]] = []
    for cell in spread(series.frames, _SAMPLED):
        try:
            shares.append(focus_and_entropy(series[cell]))
        except DamagedError:
            damaged.add((f"{layer.group}{name}", cell))
            continue
        found.sampled.append(cell)
    if len(shares) < symptoms.SHORTEST:
        found.remarks.append("too few frames to tell what lasts")
        return found
    focus, entropy = (np.stack(each) for each in zip(*shares, strict=True))  # (frames, heads)

    def shows(cell: Cell) -> object | None:
        try:
            return focus_and_entropy(series[cell])
        except DamagedError:
            damaged.add((f"{layer.group}{name}", cell))
            return None

    beginnings = Beginnings(series.frames, shows)
    whose = " on average" if layer.queries == "mean" else ""
    found.findings += _lasting(found, "one-token", focus, ONE, f"on one token{whose}", beginnings)
    words = f"of the largest entropy{whose}"
    found.findings += _lasting(found, "uniform", entropy, ALIKE, words, beginnings)
    return found


def _lasting(
    layer: LayerHealth,
    kind: str,
    shares: Shares,
    least: float,
    words: str,
    beginnings: Beginnings,
) -> list[Finding]:
    """Returns a finding for each head whose share, (frames, heads), is above a bound to the end."""
    of = OF_HEADS.index(kind)
    since = symptoms.since(shares > least)
    found = []
    for head in np.flatnonzero(since < len(shares)).tolist():
        start = int(since[head])
        share = float(shares[start:, head].mean())
        sign = f"{format_number(round(100 * share, 1))} % {words},"
        frames = layer.sampled

        def has(one: Any, head: int = head) -> bool:
            return bool(one[of][head] > least)

        begins = beginnings.find(frames, start, has)
        found.append(finding_to_the_end(layer, kind, sign, head, start, frames, share, begins))
    return found


def focus_and_entropy(weights: Float16Array) -> tuple[Shares, Shares]:
    """Returns for each head how much is on one token, and how even it is, float64 (heads,) each.

    Rows of several queries are looked at one by one, and the mean of what they show is taken.

    Args:
        weights: Attention, float16 (heads, T) or (heads, T_q, T_k); what is masked is 0.

    Returns:
        The largest weight as a share of all, and the entropy as a share of the largest that there
        can be for so many tokens as are not masked: 1 where all are alike. NaN where rows are.
    """
    heads, tokens = len(weights), weights.shape[-1]
    rows = weights.reshape(heads, -1, tokens).astype(np.float64)  # (heads, T_q, T_k)
    if rows.shape[1] == tokens and not np.triu(rows, 1).any():
        rows = rows[:, _FEWEST - 1 :]  # a causal mask: the first have nothing else to look at
    with np.errstate(all="ignore"):
        rows /= rows.sum(axis=2, keepdims=True)
        seen = (rows > 0).sum(axis=2)
        entropy = -np.where(rows > 0, rows * np.log(rows), 0.0).sum(axis=2)
        even = np.where(seen < _FEWEST, 0.0, entropy / np.log(np.maximum(seen, 2)))
    even[np.isnan(rows).any(axis=2)] = np.nan
    return _mean(rows.max(axis=2)), _mean(even)


def _mean(rows: Shares) -> Shares:
    """Returns the mean over the rows that are known, (heads, T_q) -> (heads,); NaN without any."""
    known = ~np.isnan(rows)
    with np.errstate(invalid="ignore"):
        mean: Shares = np.where(known, rows, 0.0).sum(axis=1) / known.sum(axis=1)
    return mean
