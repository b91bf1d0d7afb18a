"""Verifies, repairs and exports recordings.

To be imported from here:

- `verify`, which gives a `Report` of `Problem`s;
- `repair`, which copies what is whole and gives a `Repaired`;
- `export`, which writes arrays for other programs and gives an `Exported`.

The room writes with h5py, in `hdf5_writer` only.
"""

from replay.files.exporting import Exported, export
from replay.files.repairing import Repaired, repair
from replay.files.verification import Problem, Report, verify

__all__ = ["Exported", "Problem", "Repaired", "Report", "export", "repair", "verify"]
