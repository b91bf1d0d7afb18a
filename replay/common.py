"""What two recordings have in common: the layers, and rows of maps of one shape."""

from __future__ import annotations

from collections.abc import Sequence

from replay.recording import Recording
from replay.schema import SelectionError
from replay.shapes import Joint
from replay.together import Row, Together, choose_layers_of
from replay.words import shape


def choose_common_layers(
    recordings: Sequence[Recording], wanted: str | Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """Names of the layers to compare, and remarks on those that only one of the runs has.

    Raises:
        SelectionError: A layer that was asked for is not in both, or none is.
    """
    for recording in recordings:
        recording.require_frames()
    a, b = recordings
    common = [name for name in a.layers if name in b]
    if not common:
        raise SelectionError(
            f"no layer is in both recordings: {a.path} has {', '.join(a.layers)}; "
            f"{b.path} has {', '.join(b.layers)}"
        )
    if wanted is None:
        return common[:1], []
    found: list[str] = []
    for pattern in [wanted] if isinstance(wanted, str) else wanted:
        if (pattern in a) != (pattern in b):
            has, lacks = (a, b) if pattern in a else (b, a)
            raise SelectionError(
                f"layer {pattern!r} is in {has.path} and not in {lacks.path}; both have "
                f"{', '.join(common)}"
            )
        found += choose_layers_of(recordings, [pattern])
    found = list(dict.fromkeys(found))
    chosen = [name for name in found if name in common]
    alone = [name for name in found if name not in common]
    if not chosen:
        raise SelectionError(
            f"{', '.join(alone) or 'no layer'}: not in both recordings; both have "
            f"{', '.join(common)}"
        )
    return chosen, [f"left out {', '.join(alone)}: not in both recordings"] if alone else []


def pair_rows(shown: Together) -> list[tuple[Joint, tuple[Row, Row]]]:
    """The rows of each layer, that of run a first.

    Raises:
        SelectionError: A layer's maps are not of the same shape in both.
    """
    pairs = []
    for a, b in zip(shown.rows[::2], shown.rows[1::2], strict=True):
        if a.maps.layout.shape != b.maps.layout.shape:
            first, second = (shown.recordings[row.place].path for row in (a, b))
            raise SelectionError(
                f"layer {a.maps.layer.name!r} has frames of {shape(a.maps.layer.shape)} in {first} "
                f"and of {shape(b.maps.layer.shape)} in {second}; a comparison needs equal ones, "
                "so choose another layer"
            )
        pairs.append((Joint([a.maps, b.maps]), (a, b)))
    return pairs
