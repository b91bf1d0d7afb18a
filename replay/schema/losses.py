"""How a loss is spelled: the same wherever one is said, while recording and in pictures."""

from __future__ import annotations

import math


def spell_loss(value: float) -> str:
    """Returns a loss with three significant digits: `0.350`, `2.30`, `0.0227`, `1.23e+04`.

    Trailing zeros stay, so that losses beside each other are equally exact.
    """
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else f"{value:g}"
    return f"{value:#.3g}".removesuffix(".") if value else "0"
