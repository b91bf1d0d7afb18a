"""Makes sure that a recording has one writer: locks, their holders, and this process's writers.

May be imported from here: `Lock` and `BusyError` for the process that writes, `Holder` and
`holder_of` for whoever asks who writes. `record.locking.own_recordings` knows the writers that
this process has started. Nothing here needs torch or h5py.
"""

from record.locking.lock import BusyError, Lock
from replay.schema.holders import Holder, holder_of

__all__ = ["BusyError", "Holder", "Lock", "holder_of"]
