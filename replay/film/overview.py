"""Several layers in one frame: their columns, the space of each, and how large a frame may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Protocol, TypeVar

from replay.maps.axes import Maps
from replay.maps.runs import Row, RunSet
from replay.options import FilmOptions
from replay.raster.arrangement import (
    BARE,
    GUTTER,
    SECTION_HEAD,
    Space,
    Tiling,
    arrange,
    count_fitting,
    surroundings,
    worth,
)
from replay.raster.mosaic import Mosaic
from replay.schema import NOTE_OF_8_BITS, Layer, OptionError
from replay.schema.faces import spell


class Framed(Protocol):
    """Something whose frames have a size: a film."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a frame."""


FramedT = TypeVar("FramedT", bound=Framed)
Options = TypeVar("Options", bound=FilmOptions)

VIDEO_BOUNDS = (4096, 2304)
"""Greatest width and height of a video at H.264 level 5.1 or 5.2, which common players decode."""

LEAST_TILE = 28
"""Pixels: of maps that would be smaller, rather fewer are shown."""

APART = 14  # rows between two layers, of the rows of a head
_FRAMES = ((1920, 1080), (2560, 1440), (3840, 2160))  # the smallest that does is taken
_STACKED = 100  # pixels: layers that have so much height need not stand side by side
_TRIALS = 4  # a heading that needs more lines leaves less space for the maps
_HIGHER = 1 << 16  # than any frame
_ROOMY = 360, 60  # pixels: width and height of a mosaic of which something is seen
_TIGHT = 300, 40  # where there is no more space


@dataclass(frozen=True)
class Overview:
    """How many layers stand in one frame.

    Attributes:
        columns: Layers side by side.
        space: The space for the mosaic of each.
        most: Number of layers that fit the frame.
        bounds: Greatest width and height of the frame, in pixels.
    """

    columns: int
    space: Space
    most: int
    bounds: tuple[int, int]

    def describe_bits(self, layers: Iterable[Layer]) -> str:
        """Returns what to add to a line where layers have 8 bits: their headings are too short."""
        bits = describe_bits(layers)
        return f"; {bits}" if bits else ""


def plan_overview(
    layers: int,
    captions: bool,
    pictures: Sequence[tuple[int, int]],
    bounds: tuple[int, int] | None = None,
    maps: Sequence[tuple[int, int, int]] = (),
    stacked: int = _STACKED,
) -> Overview | None:
    """Returns how many layers are arranged in columns; None where they stand under one another.

    Of the numbers of columns that the frame has space for, that is chosen with which most is seen
    of the maps.

    Args:
        layers: Number of mosaics, each with a line about it if there are captions.
        captions: Whether there is more than mosaics and input pictures.
        pictures: Height and width of each input picture.
        bounds: Greatest width and height of the frame; None for one that is chosen.
        maps: Number, height and width of the maps of each layer.
        stacked: Pixels: layers that have so much height need not stand side by side.
    """
    beside, above = surroundings(1, captions, pictures)
    head, apart = (SECTION_HEAD, APART) if captions else (BARE, BARE)
    usual = 1000 if bounds is None else bounds[1] - above
    if layers == 1 or usual // layers - head >= stacked:
        return None
    frames = _FRAMES if bounds is None else (bounds,)
    for frame in frames:
        width, height = frame[0] - beside, frame[1] - above + apart
        for narrowest, least in (_ROOMY, _TIGHT)[: 1 if frame != frames[-1] else 2]:
            highest = max(1, height // (head + least))  # layers under one another
            widest = max(1, min(layers, (width + GUTTER) // (narrowest + GUTTER)))
            most = highest * widest
            possible = range(-(-layers // highest), widest + 1)
            if possible:
                break
        else:
            continue
        break
    spaces = {}
    for columns in possible or [widest]:
        rows = highest if most < layers else -(-layers // columns)
        columns = -(-min(layers, most) // rows)
        each = max(1, height // rows - head)
        one = (width + GUTTER) // columns - GUTTER
        spaces[columns] = Space(one, each, stretch=1.0)

    def value(columns: int) -> tuple[float, int]:
        space = spaces[columns]
        if stacked == _HIGHER:  # single pictures, the larger the better
            return min(space.width, space.height), -columns
        return worth_in(space, maps, captions), columns

    best = max(spaces, key=value)
    return Overview(best, spaces[best], max(most, layers) if possible else most, frame)


def overview_of(
    runs: RunSet, sections: int, options: FilmOptions, pictures: Sequence[tuple[int, int]]
) -> Overview | None:
    """Returns how the layers of a film are arranged in columns; see `plan_overview`.

    Args:
        runs: The layers, of one run or of several.
        sections: Number of mosaics.
        options: What is asked for.
        pictures: Height and width of each input picture.
    """
    # Layers that are a single picture each stand side by side.
    alone = all(row.maps.series.in_colour and row.maps.channels == 1 for row in runs.rows)
    stacked = _HIGHER if alone else _STACKED
    shapes = shapes_of(runs)
    return plan_overview(sections, options.captions, pictures, options.bounds, shapes, stacked)


def worth_in(space: Space, maps: Sequence[tuple[int, int, int]], captions: bool) -> float:
    """Returns how much is seen of layers that have so much space each.

    Args:
        space: The space.
        maps: Number, height and width of the maps of each layer.
        captions: Whether tiles have numbers and gain bars.
    """
    total = 0.0
    for count, height, width in sorted(set(maps)):
        more = Tiling(numbers=captions, digits=len(str(count - 1)), gains=captions)
        shown = count_fitting(count, height, width, space, least=LEAST_TILE, **more)
        tile = arrange(shown, height, width, space, **more).tile
        total += maps.count((count, height, width)) * worth(shown, min(tile))
    return total


def describe_bits(layers: Iterable[Layer], label: str = "maps") -> str:
    """Returns a line where layers are kept in 8 bits, for where no heading says so of each.

    Args:
        layers: The layers that are shown.
        label: What has 8 bits, if any.
    """
    of_8_bits = any(NOTE_OF_8_BITS in layer.note for layer in layers)
    return f"{label}: {NOTE_OF_8_BITS}" if of_8_bits else ""


def describe_left_out(layers: Sequence[str], most: int) -> str:
    """Returns a line about layers that are not shown.

    Args:
        layers: All that were asked for.
        most: So many are shown, the first ones.
    """
    return (
        f"shows {layers[0]} to {layers[most - 1]}, {most} of {len(layers)} layers, which fill the "
        f"frame; {spell('layers')} chooses others, {layers[most]} being the next"
    )


def describe_cut(cut: int, layers: int) -> str:
    """Returns a line about layers of which not all maps are shown."""
    whose = "of the layer" if layers == 1 else f"of {cut} of {layers} layers"
    return f"the frame has no space for all maps {whose}; {spell('channels')} chooses which"


def arrange_layers(
    layers: Sequence[tuple[Sequence[Row], list[int]]],
    options: FilmOptions,
    space: Space,
    together: bool,
) -> list[Mosaic]:
    """Returns where the maps of each layer go, the same in each run.

    Args:
        layers: The rows of each, and its channels.
        options: What is asked for.
        space: The space for one mosaic.
        together: Whether several stand under one another, all about equally wide.
    """
    items = []
    for rows, channels in layers:
        maps = rows[0].maps
        item = (len(channels) * maps.slices, maps.size, tiling_of(maps, channels, options))
        items += [item] * len(rows)
    if together and len(items) > 1:
        from replay.raster.stacking import arrange_together

        made = arrange_together(items, space)
    else:
        made = [arrange(count, *size, space, **tiling) for count, size, tiling in items]
    firsts = accumulate((len(rows) for rows, _ in layers[:-1]), initial=0)
    return [made[first] for first in firsts]


def tiling_of(maps: Maps, channels: list[int], options: FilmOptions) -> Tiling:
    """Returns what is asked of the tiles of a layer."""
    return Tiling(
        zoom=options.zoom,
        columns=options.columns,
        numbers=options.captions,
        digits=max(map(len, maps.labels(channels))),
        unit=maps.slices,
        gains=options.own_ranges and options.captions,
    )


def shapes_of(runs: RunSet) -> list[tuple[int, int, int]]:
    """Returns number, height and width of the maps of each layer and run."""
    return [(row.maps.channels * row.maps.slices, *row.maps.size) for row in runs.rows]


def make_within(
    make: Callable[[Options], FramedT], options: Options, largest: tuple[int, int] | None = None
) -> tuple[FramedT, Options]:
    """Returns a film whose frames are within its bounds, and the options that it was made of.

    Args:
        make: Makes a film of options.
        options: What is asked for, perhaps with bounds.
        largest: Greatest width and height where there are no bounds; None for any.

    Raises:
        OptionError: What has to be shown does not fit.
    """
    film = make(options)
    bounds = options.bounds or largest
    if bounds is None or not any(_excess(film, bounds)):
        return film, options
    height, width = film.size
    inner = (min(bounds[0], width), min(bounds[1], height))
    for _ in range(_TRIALS):
        smaller = replace(options, bounds=inner)
        film = make(smaller)
        over = _excess(film, bounds)
        if not any(over):
            return film, smaller
        inner = (max(64, inner[0] - over[0]), max(64, inner[1] - over[1]))
    height, width = film.size
    raise OptionError(
        f"frames of {width}×{height} pixels, expected at most {bounds[0]}×{bounds[1]}: choose "
        "fewer layers, channels or recordings, or no input picture"
    )


def _excess(film: Framed, bounds: tuple[int, int]) -> tuple[int, int]:
    """Returns the pixels by which a film's frames are too wide and too high."""
    height, width = film.size
    return max(0, width - bounds[0]), max(0, height - bounds[1])
