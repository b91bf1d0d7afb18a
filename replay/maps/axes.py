"""Frames to maps: what the axes of a layer mean, what of them is shown, and that it is said.

    CHW, HWC     as it is, the channels first
    CL           a strip for each channel
    CDHW, DHWC   one slice of the depth, or several side by side
    TC           tokens: each channel as a map of their places in the image, or as a strip
    C            one map, as square as its length allows

Arrays in, arrays out: `AxesLayout` holds the rule for one shape, `Maps` applies it to a recording.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from replay.formatting import clean, format_count, format_numbers
from replay.maps.selection import choose
from replay.maps.variation import measure_variation
from replay.option_values import Numbers
from replay.options import TOKENS
from replay.recording.series import Series
from replay.schema import DamagedError, Layer, OptionError
from replay.schema.suggestions import unknown
from replay.schema.token_grid import NOWHERE, find_grid, grid_in_proportion

_Float = TypeVar("_Float", np.float16, np.float32)
_Value = TypeVar("_Value", bound=np.generic)

_SPATIAL = "DHWL"
_MEASURED = 32  # frames in which it is looked for what varies most
_MOST_KEPT = 8 << 20  # bytes of frames of a layer that are kept until they are shown


@dataclass(frozen=True)
class AxesLayout:
    """How a frame of one shape becomes maps.

    Attributes:
        frame: Shape of a frame.
        axes: A letter for each of its axes, as in `schema.AXES`.
        slices: Which of the depth are shown, in that order; empty without a depth.
        places: Rows and columns in which tokens stand; None without tokens.
        left_out: Tokens at the beginning that have no place in the image.
    """

    frame: tuple[int, ...]
    axes: str
    slices: tuple[int, ...] = ()
    places: tuple[int, int] | None = None
    left_out: int = 0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, S, H, W): maps, slices of each, and the size of one; S is 1 but for volumes."""
        if self.axes in ("", "C"):
            size = math.prod(self.frame)
            rows = max((d for d in range(1, math.isqrt(size) + 1) if size % d == 0), default=1)
            return 1, 1, rows, size // rows
        sizes = dict(zip(self.axes, self.frame, strict=True))
        if "L" in sizes:
            return sizes["C"], 1, 1, sizes["L"]
        if "T" in sizes:
            return (sizes["C"], 1, *(self.places or (1, sizes["T"])))
        return sizes["C"], len(self.slices) or 1, sizes["H"], sizes["W"]

    def apply(self, frame: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
        """Returns the maps of a frame, float16 (C, S, H, W)."""
        if self.axes in ("", "C"):
            return frame.reshape(self.shape)
        maps = np.moveaxis(frame, self.axes.index("C"), 0)  # (C, ...)
        if "D" in self.axes:
            return maps[:, list(self.slices)]  # (C, S, H, W)
        return maps[:, self.left_out :].reshape(self.shape)


def layout_of(
    layer: Layer,
    slices: Sequence[int] | None = None,
    tokens: str = "strip",
    image: tuple[int, ...] | None = None,
) -> AxesLayout:
    """Returns the rule for a layer.

    Args:
        layer: Shape and axes of its frames.
        slices: Numbers of the slices of a volume; the middle one if None.
        tokens: `square`, `strip`, or `auto`: the rows and columns that the file has; where it has
            none, those of the image's proportions, if the tokens fill such a rectangle (without
            the first token if need be); else a strip.
        image: Shape of the network's input, (C, H, W) if it was a picture.

    Raises:
        OptionError: Tokens that form no square were to be shown as one, or an unknown word.
    """
    if tokens not in TOKENS:
        raise OptionError(unknown("tokens", tokens, TOKENS))
    if "D" in layer.axes:
        depth = layer.shape[layer.axes.index("D")]
        return AxesLayout(
            layer.shape, layer.axes, tuple([depth // 2] if slices is None else list(slices))
        )
    if "T" not in layer.axes:
        return AxesLayout(layer.shape, layer.axes)
    count = layer.shape[layer.axes.index("T")]
    sides = {"strip": None, "square": (1, 1), "auto": None}[tokens]
    if tokens == "auto" and layer.grid is not None:
        known = find_grid(count, layer.grid)
        if known is not None and min(known.rows, known.columns) > 1:
            grid = known.rows, known.columns
            return AxesLayout(layer.shape, layer.axes, (), grid, known.prefix)
        if layer.grid == NOWHERE:
            return AxesLayout(layer.shape, layer.axes, (), (1, count))
    if tokens == "auto" and image is not None and len(image) == 3:
        sides = image[1], image[2]
    for left_out in (0, 1):
        places = grid_in_proportion(count - left_out, sides) if sides else None
        if places is not None:
            return AxesLayout(layer.shape, layer.axes, (), places, left_out)
    if tokens == "square":
        raise OptionError(
            f"layer {layer.name!r} has {count:,} tokens, which form no square, with or without "
            "the first one; choose tokens 'strip' or 'auto'"
        )
    return AxesLayout(layer.shape, layer.axes, (), (1, count))


class Source(Protocol):
    """Where values come from, channel by channel."""

    @property
    def channels(self) -> int:
        """How many there are."""

    def __getitem__(self, cell: tuple[int, int]) -> npt.NDArray[np.float16]:
        """Returns the values at an epoch and batch, float16 (C, ...)."""


class Maps:
    """What a layer put out, as it is shown: `maps[epoch, batch]` -> float16 (C, S, H, W).

    Args:
        series: The layer's frames.
        slices: As in `layout_of`.
        tokens: As in `layout_of`.

    Attributes:
        series: The layer's frames.
        layer: The layer.
        layout: The rule.
        damaged: By (epoch, batch), what is wrong with a damaged frame, which comes as NaN.
        counts: Likewise, how many of the values that a film drew are NaN, and infinite.
    """

    def __init__(
        self, series: Series, slices: Sequence[int] | None = None, tokens: str = "auto"
    ) -> None:
        self.series, self.layer = series, series.layer
        self.damaged: dict[tuple[int, int], str] = {}
        self.counts: dict[tuple[int, int], tuple[int, int]] = {}
        self._ahead: dict[tuple[int, int], npt.NDArray[np.float16]] = {}
        image = _image_of(series) if "T" in self.layer.axes else None
        self.layout = layout_of(self.layer, slices, tokens, image)

    def __getitem__(self, cell: tuple[int, int]) -> npt.NDArray[np.float16]:
        if (known := self._ahead.pop(cell, None)) is not None:
            return known
        try:
            return self.layout.apply(self.series[cell])
        except DamagedError as error:
            self.damaged[cell] = str(error)
            return np.full(self.layout.shape, np.nan, np.float16)

    def keep(self, cell: tuple[int, int], maps: npt.NDArray[np.float16]) -> None:
        """Keeps a frame that was read to be measured until it is asked for, if there is room."""
        if maps.nbytes + sum(each.nbytes for each in self._ahead.values()) <= _MOST_KEPT:
            self._ahead[cell] = maps

    def forget(self) -> None:
        """Keeps none of these frames any longer: others than those that follow are shown."""
        self._ahead.clear()

    @property
    def channels(self) -> int:
        """Number of maps."""
        return self.layout.shape[0]

    @property
    def slices(self) -> int:
        """Slices of each map that are shown; 1 unless several of a volume are."""
        return self.layout.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a map, or of one slice of it."""
        return self.layout.shape[2], self.layout.shape[3]

    def labels(self, channels: Sequence[int]) -> list[str]:
        """Returns a name for each picture of the chosen maps: `7`, or `7·3` for a slice."""
        if self.slices == 1:
            names = self.series.labels
            return [names[channel] if names else str(channel) for channel in channels]
        return [f"{channel}·{number}" for channel in channels for number in self.layout.slices]

    def in_words(self, chosen: int) -> str:
        """Returns what so many of the maps are: `12 maps of 8×8, middle slice 4 of 9`."""
        if self.series.in_colour:
            return clean(self.layer.note)
        height, width = self.size
        number = format_count(chosen, self.series.tile)
        of = f" of {height}×{width}"
        if chosen < self.channels:
            number, of = f"{chosen} of {self.channels} {self.series.tile}s", f", {height}×{width}"
        return ", ".join([number + ("" if self._placed else of), *self._remarks()])

    @property
    def _placed(self) -> bool:
        return self.layout.places is not None and self.layout.places[0] > 1

    def _remarks(self) -> list[str]:
        layout, words = self.layout, []
        if "D" in layout.axes:
            depth = layout.frame[layout.axes.index("D")]
            if layout.slices == (depth // 2,):
                words.append(f"middle slice {depth // 2} of {depth}")
            elif layout.slices == tuple(range(depth)):
                words.append(f"all {depth} slices (map·slice)")
            else:
                marked = " (map·slice)" if len(layout.slices) > 1 else ""
                words.append(f"{format_numbers('slice', layout.slices)} of {depth}{marked}")
        if self._placed:
            words.append("tokens as {}×{}".format(*self.size))
            if layout.left_out:
                first = "class token" if layout.left_out == 1 else f"first {layout.left_out} tokens"
                words.append(f"{first} left out")
        elif "T" in layout.axes:
            words.append("tokens in a row")
        if self.layer.pooled > 1:
            spatial = [letter for letter in layout.axes if letter in _SPATIAL]
            words.append(f"means of {'×'.join([str(self.layer.pooled)] * len(spatial))}")
        if self.layer.note:
            words.append(clean(self.layer.note))
        return words


class JointMaps:
    """Layers of several recordings as one source, so that one range holds for all of them.

    Args:
        maps: The layers, with the same number of channels each.
    """

    def __init__(self, maps: Sequence[Maps]) -> None:
        self._maps = list(maps)

    @property
    def channels(self) -> int:
        """Number of maps."""
        return self._maps[0].channels

    @property
    def several(self) -> bool:
        """Whether there is more than one layer."""
        return len(self._maps) > 1

    @property
    def each(self) -> list[Maps]:
        """The layers."""
        return list(self._maps)

    def present(self, cell: tuple[int, int]) -> bool:
        """Returns whether one of the layers has a frame there."""
        return any(maps.series.present[cell] for maps in self._maps)

    def __getitem__(self, cell: tuple[int, int]) -> npt.NDArray[np.float16]:
        if not self.several:
            return self._maps[0][cell]
        frames = [maps[cell] for maps in self._maps if maps.series.present[cell]]
        frames = frames or [self._maps[0][cell]]
        return np.concatenate([frame.reshape(self.channels, -1) for frame in frames], axis=1)


def as_source(series: Series | Source) -> Source:
    """Returns a layer's frames as the maps that are shown where nothing else is asked for."""
    return Maps(series) if isinstance(series, Series) else series


def _image_of(series: Series) -> tuple[int, ...] | None:
    """Returns the shape of the picture that the layer's frames belong to."""
    inputs, frames = series.inputs, series.frames
    return inputs[frames[0]].shape if len(inputs.shapes) > 1 and frames else inputs.shape


def select_channels(values: npt.NDArray[_Value], channels: Sequence[int]) -> npt.NDArray[_Value]:
    """Returns the chosen channels of (C, ...), in their order; not a copy where that is all."""
    return values if channels == list(range(len(values))) else values[channels]


def choose_maps(series: Series, slices: Numbers = "middle", tokens: str = "auto") -> Maps:
    """Returns a layer's frames as the maps that are to be shown.

    Args:
        series: The layer.
        slices: Of a volume: `middle`, `all`, or numbers as in `choose`. Others have none.
        tokens: Of tokens: `auto`, `square` or `strip`, see `axes.layout_of`. Others have none.

    Raises:
        OptionError: Slices that cannot be read, an unknown word, tokens that form no square.
        SelectionError: A slice that the layer does not have.
    """
    axes = series.layer.axes
    if isinstance(slices, str) and slices.strip() == "all":
        slices = None
    if "D" not in axes or (isinstance(slices, str) and slices.strip() == "middle"):
        return Maps(series, None, tokens)
    depth = series.layer.shape[axes.index("D")]
    return Maps(series, choose(slices, range(depth), "slice"), tokens)


def by_epoch(cells: Iterable[tuple[int, int]]) -> dict[int, list[tuple[int, int]]]:
    """Returns the (epoch, batch) of each epoch, in the order in which they are given."""
    found: dict[int, list[tuple[int, int]]] = {}
    for cell in cells:
        found.setdefault(cell[0], []).append(cell)
    return found


def spread(frames: Sequence[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """Returns at most `limit` of the frames, evenly spaced, the first and the last among them."""
    if len(frames) <= limit:
        return list(frames)
    if limit < 2:
        return list(frames[-1:])
    return [frames[round(i * (len(frames) - 1) / (limit - 1))] for i in range(limit)]


def choose_channels(
    series: Series | Source, numbers: Numbers, frames: Sequence[tuple[int, int]]
) -> list[int]:
    """Returns the numbers of channels, in the one order that the whole picture keeps.

    Args:
        series: The layer.
        numbers: As in `choose`, or `top:16` for the 16 channels that vary most over the run.
        frames: The frames over which variation is measured, at most 32 of them.

    Raises:
        OptionError: The text is not a list of channels nor `top:N`.
        SelectionError: A channel that the layer does not have.
    """
    source = as_source(series)
    count = source.channels
    if isinstance(numbers, str) and (match := re.fullmatch(r"\s*top\s*:\s*(\d+)\s*", numbers)):
        top = int(match.group(1))
        if top == 0:
            raise OptionError("channels 'top:0' chooses none; expected top:N with N of 1 or more")
        variation = measure_variation(count, _readable(source, spread(frames, _MEASURED)))
        strongest = np.argsort(-variation, kind="stable")[:top]
        return sorted(int(channel) for channel in strongest)
    return list(range(count)) if numbers is None else choose(numbers, range(count), "channel")


def _readable(
    source: Source, frames: Iterable[tuple[int, int]]
) -> Iterator[npt.NDArray[np.float16]]:
    for cell in frames:
        with contextlib.suppress(DamagedError):
            yield source[cell]


def shrink_maps(maps: npt.NDArray[_Float], by: int | tuple[int, int]) -> npt.NDArray[_Float]:
    """Averages blocks of values; NaN and infinity stay what they are.

    Args:
        maps: float16 or float32 (..., H, W).
        by: Side of a block, or its rows and columns; the last ones of the maps may be smaller.

    Returns:
        Of the same type, (..., ceil(H / rows), ceil(W / columns)).
    """
    down, across = (by, by) if isinstance(by, int) else by
    if down == across == 1:
        return maps
    height, width = maps.shape[-2:]
    tops, lefts = np.arange(0, height, down), np.arange(0, width, across)
    with np.errstate(invalid="ignore", over="ignore"):
        sums = np.add.reduceat(maps.astype(np.float32), tops, axis=-2)
        sums = np.add.reduceat(sums, lefts, axis=-1)
        sizes = np.diff(tops, append=height)[:, None] * np.diff(lefts, append=width)
        return (sums / sizes.astype(np.float32)).astype(maps.dtype)
