"""Products of wide matrices by pieces: as numpy has them whole."""

import numpy as np
import pytest

from replay.webpage.products import inner_product, outer_product


@pytest.mark.parametrize("rows", [0, 1, 12, 400])
@pytest.mark.parametrize("wide", [0, 1, 511, 10_001])
def test_pieces_are_the_whole_product(rows: int, wide: int) -> None:
    rng = np.random.default_rng(rows + wide)
    left, right = rng.normal(size=(rows, wide)), rng.normal(size=(28, wide))
    np.testing.assert_allclose(inner_product(left, right), left @ right.T, atol=1e-9)

    factors = rng.normal(size=(rows, 28))
    np.testing.assert_allclose(outer_product(factors, right), factors @ right, atol=1e-9)
