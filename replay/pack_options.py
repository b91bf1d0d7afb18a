"""Every option of a packed recording, declared once as those of a film are in `replay.options`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from replay.option_values import Numbers, positive_number
from replay.options import BATCH_FLAGS, EPOCH_FLAGS, LAYER_FLAGS, LAYERS, option

FILTERS = ("gzip", "zstd", "blosc2", "none")


@dataclass(frozen=True)
class PackOptions:
    """What a packed recording holds, and how; `replay.pack` says what the values mean."""

    bits: int | None = field(
        default=None,
        metadata=option(
            "of a value of the maps: 16, nothing is lost (default), or 8, within 0.4 %% of each "
            "map's range",
            metavar="16|8",
            read=int,
        ),
    )
    layers: str | Sequence[str] | None = field(
        default=None,
        metadata=option(f"{LAYERS} (default: all)", *LAYER_FLAGS, metavar="NAME", repeated=True),
    )
    epochs: Numbers = field(
        default=None, metadata=option("epochs (default: all)", *EPOCH_FLAGS, metavar="A:B:C")
    )
    batches: Numbers = field(
        default=None,
        metadata=option("batches of each epoch (default: all)", *BATCH_FLAGS, metavar="A:B:C"),
    )
    max_mb: float | None = field(
        default=None,
        metadata=option(
            "largest size in MB: takes 8 bits, then fewer frames, as far as needed, and says so",
            metavar="N",
            read=positive_number,
        ),
    )
    filter: str = field(
        default="gzip",
        metadata=option(
            "gzip, which every HDF5 reads (default); zstd or blosc2, faster, which need hdf5plugin "
            "wherever the file is read; or none",
            choices=FILTERS,
        ),
    )
