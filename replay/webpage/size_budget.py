"""What to leave out so that a page fits a size: fewer frames, smaller maps. Numbers only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

SAMPLED_FRAMES = 5  # that are compressed to estimate what all of them take
MARKUP_BYTES = 150  # around a block, its ranges in the manifest included

# (frames, side): first maps are averaged down to that side as long as fewer than that many frames
# would fit; if that is not enough, the next pair holds. Only then are frames left out.
_STEPS = ((60, 56), (30, 28), (12, 14), (2, 4))


@dataclass(frozen=True)
class PageItem:
    """Something that every frame has: the maps of a layer, or the input picture.

    Attributes:
        side: The longer side of its planes, in pixels.
        cost: Bytes in the page that a frame takes, for each factor by which it is pooled.
    """

    side: int
    cost: Callable[[int], float]


@dataclass(frozen=True)
class PagePlan:
    """How much of a recording a page holds.

    Attributes:
        frames: Number of frames; 0 where not even one fits.
        pools: For each item, the side of the blocks that are averaged.
    """

    frames: int
    pools: tuple[int, ...]


def plan_page(items: Sequence[PageItem], frames: int, budget: float) -> PagePlan:
    """Chooses frames and pooling so that all of it takes no more than the budget.

    Sixty frames (or all, if there are fewer) come before pixels, as long as planes keep 56 pixels
    a side: the largest planes are pooled first. What the budget then has left is filled with
    frames.

    Args:
        items: What each frame has.
        frames: Frames that there are.
        budget: Bytes.
    """
    pools = [1] * len(items)

    def capacity() -> int:
        each = sum(item.cost(pool) for item, pool in zip(items, pools, strict=True))
        return int(max(budget, 0.0) // max(each, 1.0))

    for frames_wanted, least_side in _STEPS:
        while capacity() < min(frames_wanted, frames):
            sides = [-(-item.side // pool) for item, pool in zip(items, pools, strict=True)]
            poolable = [
                place
                for place, item in enumerate(items)
                if -(-item.side // (pools[place] + 1)) >= least_side
            ]
            if not poolable:
                break
            pools[max(poolable, key=lambda place: sides[place])] += 1
        if capacity() >= min(frames_wanted, frames):
            break
    return PagePlan(min(frames, capacity()), tuple(pools))
