"""Verifies, repairs, packs and exports recordings.

To be imported from here:

- `verify`, which gives a `Report` of `Problem`s;
- `repair`, which copies what is whole and gives a `Repaired`;
- `pack` and `unpack`, which write the same recording smaller, or as it was, and give a `Packed`;
- `export`, which writes arrays for other programs and gives an `Exported`.

The room writes with h5py: in `hdf5_writer` from frames, in `tree_copy` from a whole file.
"""

from replay.files.exporting import Exported, export
from replay.files.packing import Packed, pack, unpack
from replay.files.problem import Problem
from replay.files.repairing import Repaired, repair
from replay.files.verification import Report, verify

__all__ = [
    "Exported",
    "Packed",
    "Problem",
    "Repaired",
    "Report",
    "export",
    "pack",
    "repair",
    "unpack",
    "verify",
]
