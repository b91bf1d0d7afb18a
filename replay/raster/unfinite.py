"""The colors of NaN and infinity: such that nobody takes them for a value, or for each other.

They are at least 10 apart, in CIEDE2000, from every color of the map, from the paper of both themes
and from each other, to anyone's eyes (`vision`): ten times what is just noticed. The page and
figures have the same ones as films.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from replay.raster.vision import color_difference, least_difference, seen_colors

Table = npt.NDArray[np.uint8]

# Tried in this order: those that stand out first, then what is left beside a map of many colors.
_CANDIDATES = np.array(
    [
        *((230, 0, 150), (0, 190, 220), (255, 130, 0), (90, 200, 0), (90, 60, 255), (255, 0, 255)),
        *((224, 0, 255), (0, 255, 0), (255, 128, 255), (160, 32, 0), (128, 160, 255), (0, 32, 224)),
        *((160, 96, 255), (128, 0, 192), (255, 160, 0), (0, 96, 0), (96, 64, 0), (128, 192, 224)),
        *((96, 255, 0), (0, 0, 255), (128, 128, 255), (160, 0, 0), (160, 255, 0), (192, 64, 255)),
        *((160, 160, 255), (64, 128, 255), (255, 192, 255), (160, 192, 0), (192, 192, 0)),
        *((192, 255, 32), (160, 255, 96), (192, 160, 255), (96, 0, 0), (128, 0, 64), (64, 0, 64)),
        *((32, 0, 64), (0, 32, 0), (64, 32, 0), (64, 160, 160), (32, 64, 96), (64, 96, 128)),
        *((96, 32, 64), (160, 96, 128), (128, 96, 128), (128, 96, 96), (192, 160, 192)),
        *((192, 160, 160), (160, 128, 128), (96, 128, 128), (128, 128, 160), (160, 128, 96)),
        *((192, 192, 160), (96, 64, 64), (64, 64, 64), (96, 96, 96), (128, 128, 128)),
        *((160, 160, 160), (192, 192, 192)),
    ]
)
# What is left beside two maps that hold nearly all colors: found by trying all, in steps of 6.
_LAST = np.array([((72, 72, 84), (110, 110, 126)), ((108, 126, 120), (183, 175, 174))])
_ENOUGH = 18.0  # CIEDE2000; of what is farther apart than that, the first are taken
_NEEDED = 10.5  # below which others than the candidates are tried, nearby; 10 with a margin
_LEAST = 10.0
_NEARBY = 25.0
_STEPS = (16, 8, 4, 2)


def choose_colors(maps: Table, papers: npt.ArrayLike) -> Table:
    """Returns the colors of NaN and of infinity, uint8 (2, 3).

    Args:
        maps: The colors of all colormaps that are shown together, uint8 (N, 3).
        papers: Those that lie around the maps, (M, 3).
    """
    around = np.unique(np.concatenate([maps, np.asarray(papers, np.uint8)]), axis=0)
    chosen: Table = _choose(around.tobytes()).copy()
    return chosen


@lru_cache(maxsize=64)
def _choose(around: bytes) -> Table:
    others = np.frombuffer(around, np.uint8).reshape(-1, 3)
    far = least_difference(_CANDIDATES, others)
    seen = seen_colors(_CANDIDATES)
    between = color_difference(seen[:, :, None], seen[:, None]).min(axis=0)
    score = np.minimum(np.minimum.outer(far, far), between)
    np.fill_diagonal(score, 0.0)
    late = np.add.outer(np.arange(len(far)), np.arange(len(far)))
    order = np.lexsort((late.ravel(), -np.minimum(score, _ENOUGH).ravel()))
    chosen = _CANDIDATES[sorted(divmod(int(order[0]), len(far)))]
    if score.flat[order[0]] < _NEEDED:
        chosen = _improve(chosen, others)
        if _score(chosen[None], others)[0] < _LEAST:
            chosen = max((chosen, *_LAST), key=lambda pair: _score(pair[None], others)[0])
    return chosen.astype(np.uint8)


def _improve(pair: npt.NDArray[np.int_], others: Table) -> npt.NDArray[np.int_]:
    """Returns a pair that is farther apart from all, nearby: by the steepest climb."""
    best = _score(pair[None], others)[0]
    for step in _STEPS:
        near = others[least_difference(others, pair) < _NEARBY]  # the rest cannot matter soon
        near = near if len(near) else others
        moves = np.array([move for move in np.ndindex(3, 3, 3) if move != (1, 1, 1)]) - 1
        while best < _NEEDED:
            none = np.zeros_like(moves)
            both = np.concatenate([np.stack([moves, none], 1), np.stack([none, moves], 1)])
            tried = np.clip(pair + step * both, 0, 255)
            scores = _score(tried, near)
            if scores.max() <= best + 0.01:
                break
            pair, best = tried[scores.argmax()], scores.max()
    return pair


def _score(pairs: npt.NDArray[np.int_], others: Table) -> npt.NDArray[np.float64]:
    """Returns how far apart each of some pairs is, (N, 2, 3) to (N,)."""
    far = least_difference(pairs.reshape(-1, 3), others).reshape(-1, 2).min(axis=1)
    seen = seen_colors(pairs)  # (4, N, 2, 3)
    between = color_difference(seen[:, :, 0], seen[:, :, 1]).min(axis=0)
    least: npt.NDArray[np.float64] = np.minimum(far, between)
    return least
