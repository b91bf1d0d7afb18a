"""The maximum of a moving window over many frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def greatest_around(values: npt.NDArray[np.float64], reach: int) -> npt.NDArray[np.float64]:
    """Returns the maximum of each column within `reach` rows, float64 (rows, columns).

    It is found in two passes over blocks of 2 `reach` + 1 rows, whatever the reach is
    (van Herk, Pattern Recognition Letters 13, 1992; Gil and Werman, IEEE PAMI 15, 1993).
    """
    rows, columns = values.shape
    size = 2 * reach + 1
    padded = np.full((-(-(rows + 2 * reach) // size) * size, columns), -np.inf)
    padded[reach : reach + rows] = values
    blocks = padded.reshape(-1, size, columns)
    ahead = np.maximum.accumulate(blocks, axis=1).reshape(padded.shape)
    back = np.maximum.accumulate(blocks[:, ::-1], axis=1)[:, ::-1].reshape(padded.shape)
    greatest: npt.NDArray[np.float64] = np.maximum(back[:rows], ahead[size - 1 : size - 1 + rows])
    return greatest
