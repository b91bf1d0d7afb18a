"""How many values of a frame are no numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_INFINITE = 0x7C00  # a float16's bits without its sign; NaN lies above
_WITHOUT_SIGN = 0x7FFF


def count_unfinite(maps: npt.NDArray[np.floating]) -> tuple[int, int]:
    """Returns the numbers of NaN and of infinite values in maps of any type."""
    if maps.dtype != np.float16:
        return int(np.isnan(maps).sum()), int(np.isinf(maps).sum())
    bits = maps.view(np.uint16) & _WITHOUT_SIGN
    if bits.max(initial=0) < _INFINITE:
        return 0, 0
    return int(np.count_nonzero(bits > _INFINITE)), int(np.count_nonzero(bits == _INFINITE))
