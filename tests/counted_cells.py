"""(epoch, batch) of frames that count how often somebody looks at them."""

from __future__ import annotations


class Counted(tuple):
    """(epoch, batch) of a frame; of all of them together, parts were looked at so many times."""

    looked = 0

    def __getitem__(self, place: int) -> int:
        Counted.looked += 1
        return super().__getitem__(place)
