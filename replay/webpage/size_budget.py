"""What to leave out so that a page fits a size: detail that the eye misses, frames, pixels.

Numbers only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

SAMPLED_FRAMES = 5  # input pictures that are compressed to estimate what all of them take
MARKUP_BYTES = 70  # around a block, its ranges in the manifest included

# How coarse a step may be at first, times what an item tolerates; the last one is what the eye
# does not miss beside the maps themselves, as they are enlarged.
_COARSENESS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)

_OPENING = 2.0  # shares of what a page opens with, where others have one

# (frames, side): where even that is not enough, frames are left out until so many remain; then maps
# are averaged, down to that side, and the next pair holds.
_STEPS = ((60, 56), (30, 28), (12, 14), (2, 4))


@dataclass(frozen=True)
class Fidelity:
    """How much of its planes an item keeps.

    Attributes:
        pool: The side of the blocks that are averaged.
        step: As in `plane_codec.encode_planes`.
    """

    pool: int = 1
    step: float = 1.0


@dataclass(frozen=True)
class PageItem:
    """Something that every frame has: the maps of a layer, or the input picture.

    Attributes:
        side: The longer side of its planes, in pixels.
        cost: Bytes in the page that a frame takes, for each fidelity.
        tolerance: How much coarser a step may be than that of others.
        source: The place of the images that it belongs to: each have frames of their own.
        most: The coarsest step that it allows.
        exact: Whether it loses nothing as long as it is not averaged: others are told from it.
    """

    side: int
    cost: Callable[[Fidelity], float]
    tolerance: float = 1.0
    source: int = 0
    most: float = math.inf
    exact: bool = False


@dataclass(frozen=True)
class PagePlan:
    """How much of a recording a page holds.

    Attributes:
        frames: Number of frames of each source; 0 where not even one fits.
        fidelity: For each item.
    """

    frames: tuple[int, ...]
    fidelity: tuple[Fidelity, ...]


def plan_page(
    items: Sequence[PageItem], frames: Sequence[int], budget: float, first: int = 0
) -> PagePlan:
    """Chooses frames and fidelity so that all of it takes no more than the budget.

    All frames come first, at steps as coarse as the eye does not see: coarser where maps are
    large. Where those do not suffice, the budget is shared: what takes less than a fair share is
    whole, what the page opens with has two shares of what is left, and all others one. Then
    frames are left out evenly, but sixty (or all, if there are fewer) come before pixels, as long
    as planes keep 56 pixels a side: the largest planes are pooled first.

    Args:
        items: What each frame has.
        frames: Frames that there are, of each source.
        budget: Bytes.
        first: The source that the page opens with.
    """
    plan = _plan_together(items, frames, budget)
    whole = plan.frames == tuple(frames) and all(each.pool == 1 for each in plan.fidelity)
    if whole or len(frames) < 2:
        return plan
    costs = _cost_of_sources(items, _coarse(items, _COARSENESS[-1]), len(frames))
    weights = [_OPENING if place == first else 1.0 for place in range(len(frames))]
    shares = _share([cost * n for cost, n in zip(costs, frames, strict=True)], weights, budget)
    kept: list[int] = []
    fidelity = list(plan.fidelity)
    for source, share in enumerate(shares):
        places = [place for place, item in enumerate(items) if item.source == source]
        own = [replace(items[place], source=0) for place in places]
        alone = _plan_together(own, [frames[source]], share)
        kept += alone.frames
        for place, each in zip(places, alone.fidelity, strict=True):
            fidelity[place] = each
    return PagePlan(tuple(kept), tuple(fidelity)) if min(kept) else plan


def _share(wanted: Sequence[float], weights: Sequence[float], budget: float) -> list[float]:
    """Returns the part of each: what it wants, or a share by weight of what is left."""
    parts = [0.0] * len(wanted)
    rest, left = list(range(len(wanted))), max(budget, 0.0)
    while rest:
        each = left / sum(weights[place] for place in rest)
        content = [place for place in rest if wanted[place] <= each * weights[place]]
        for place in content or rest:
            parts[place] = wanted[place] if content else each * weights[place]
        left -= sum(parts[place] for place in content)
        rest = [place for place in rest if place not in content] if content else []
    return parts


def _plan_together(items: Sequence[PageItem], frames: Sequence[int], budget: float) -> PagePlan:
    """Chooses frames and fidelity, alike for all sources."""
    first, last = 0, len(_COARSENESS)  # where the answer lies; costs are found by trying
    while first < last:
        middle = (first + last) // 2
        if _fits(items, _coarse(items, _COARSENESS[middle]), frames, budget):
            last = middle
        else:
            first = middle + 1
    coarsest = _COARSENESS[min(first, len(_COARSENESS) - 1)]
    fidelity = _coarse(items, coarsest)
    if first < len(_COARSENESS):
        return PagePlan(tuple(frames), tuple(fidelity))
    for wanted, least_side in _STEPS:
        least = [min(wanted, count) for count in frames]
        while not _fits(items, fidelity, least, budget):
            sides = [-(-item.side // each.pool) for item, each in zip(items, fidelity, strict=True)]
            poolable = [
                place
                for place, item in enumerate(items)
                if -(-item.side // (fidelity[place].pool + 1)) >= least_side
            ]
            if not poolable:
                break
            largest = max(poolable, key=lambda place: sides[place])
            before = fidelity[largest]
            fidelity[largest] = Fidelity(before.pool + 1, _step(items[largest], coarsest))
        if _fits(items, fidelity, least, budget):
            break
    return PagePlan(_fill(items, fidelity, frames, budget), tuple(fidelity))


def fits_as_it_is(items: Sequence[PageItem], frames: Sequence[int], budget: float) -> bool:
    """Returns whether all of it takes no more than the budget without anything lost."""
    return _fits(items, _coarse(items, _COARSENESS[0]), frames, budget)


def planned_bytes(items: Sequence[PageItem], plan: PagePlan) -> float:
    """Returns how many bytes the frames of a plan are expected to take."""
    return sum(
        item.cost(each) * plan.frames[item.source]
        for item, each in zip(items, plan.fidelity, strict=True)
    )


def _coarse(items: Sequence[PageItem], coarseness: float) -> list[Fidelity]:
    if coarseness <= 1:
        return [Fidelity()] * len(items)
    return [Fidelity(1, 1.0 if item.exact else _step(item, coarseness)) for item in items]


def _step(item: PageItem, coarseness: float) -> float:
    return min(max(1.0, math.floor(coarseness * item.tolerance)), item.most)


def _cost_of_sources(
    items: Sequence[PageItem], fidelity: Sequence[Fidelity], count: int
) -> list[float]:
    costs = [0.0] * count
    for item, each in zip(items, fidelity, strict=True):
        costs[item.source] += item.cost(each)
    return costs


def _fits(
    items: Sequence[PageItem],
    fidelity: Sequence[Fidelity],
    frames: Sequence[int],
    budget: float,
) -> bool:
    """Returns whether all of it takes no more than the budget; asks no cost once that is known."""
    total = 0.0
    for item, each in zip(items, fidelity, strict=True):
        total += item.cost(each) * frames[item.source]
        if total > budget:
            return False
    return True


def _fill(
    items: Sequence[PageItem],
    fidelity: Sequence[Fidelity],
    frames: Sequence[int],
    budget: float,
) -> tuple[int, ...]:
    """Returns how many frames of each source fit, as equal in number as can be."""
    costs = _cost_of_sources(items, fidelity, len(frames))
    filled = [0] * len(frames)
    open_places = sorted(range(len(frames)), key=lambda place: frames[place])
    left = max(budget, 0.0)
    while open_places:
        each = int(left // max(sum(costs[place] for place in open_places), 1.0))
        place = open_places.pop(0)
        filled[place] = min(frames[place], each)
        left -= filled[place] * costs[place]
    return tuple(filled)
