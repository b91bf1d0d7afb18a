"""What may lie beside the maps in a file, and what is said where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from replay import schema
from replay.schema.suggestions import listed, near_layers

BESIDE = (schema.ATTENTION, schema.GRADIENTS, schema.CAM)

BESIDE_WORDS = {
    schema.ATTENTION: "attention",
    schema.GRADIENTS: "gradients",
    schema.CAM: "class activation weights",
}


def nothing_beside(
    kind: str, name: str, layers: Sequence[str], path: Path, probe: int | None
) -> str:
    """Returns a message: a layer has nothing of a kind, which ones have, or how it is recorded.

    Args:
        kind: One of `BESIDE`.
        name: The layer that was asked for.
        layers: Those of which there is some.
        path: The recording's file.
        probe: The number of the fixed image; None for the batches' own.
    """
    words = BESIDE_WORDS[kind]
    of = "" if probe is None else f" for fixed image {probe}"
    if not layers:
        return f"no {words} in {path}{of}; 'record run --{kind}' or Recorder({kind}=...) records it"
    return (
        f"no {words} of {name!r} in {path}{of}; there are those of "
        f"{listed(layers)}{near_layers(name, layers)}"
    )
