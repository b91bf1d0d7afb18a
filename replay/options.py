"""Every option of a film, declared once: its name, its default, its choices and its help.

The public functions take the options by these names and gather them into one object, which goes
down to the frame. The command line is made from the declarations. This module imports nothing
heavy, so that `--help` answers at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from replay.option_values import (
    AUTO,
    Numbers,
    picture_quality,
    positive_number,
    size_limit,
    value_range,
    whole_number,
)

SCALES = ("adaptive", "map", "run", "epoch", "frame", "channel")
OWN_SCALES = ("adaptive", "map")  # each map has a range of its own, and its gain is shown
THEMES = ("light", "dark")
TOKENS = ("auto", "square", "strip")
ORDERS = ("number", "similar")
CODECS = ("h264", "av1", "vp9", "prores")
VIEWS = ("maps", "attention", "cam", "gradient", "components", "overlay")
MADE = ("components", "overlay")  # views that a page makes of the maps that it has
EXPORTED = ("maps", "attention", "gradient", "cam", "components")  # views that are values
CAM_METHODS = ("grad-cam", "hirescam", "gradient-x-activation")
PRESETS = ("github", "slack", "slides", "paper")

DIVERGING = "RdBu_r"  # the colormap of what is symmetric around zero

_FORMATS = ".mp4, .webm, .mov, .gif, .webp, .png or .apng, or a folder/ for numbered PNG"
LAYER_FLAGS = ("--layer", "--layers")
EPOCH_FLAGS = ("--epochs", "--epoch")
BATCH_FLAGS = ("--batches", "--batch")
"""How a command line spells them, alike in every command; Python has both names, too."""

LAYERS = "one or more layers, globs, or all"


@dataclass(frozen=True)
class Option:
    """What the command line has to know of an option.

    Attributes:
        help: What it does, in a line without a capital and a full stop.
        flags: How it is spelled; two dashes and the field's name if empty.
        metavar: What stands for its value in the help.
        choices: The words that it takes; any if empty.
        read: Makes its value of a text; raises `OptionError` where that cannot be done.
        repeated: Whether it may be given several times.
    """

    help: str
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    read: Callable[[str], object] | None = None
    repeated: bool = False


def option(help: str, *flags: str, **more: Any) -> dict[str, Option]:
    """Returns the metadata of a dataclass field that is an option; see `Option`."""
    return {"option": Option(help, flags, **more)}


def declared(kind: type) -> dict[str, tuple[Any, Option]]:
    """Returns the default and the `Option` of each option, by its name.

    Args:
        kind: `FilmOptions`, or a request, whose film's options are among them.
    """
    found: dict[str, tuple[Any, Option]] = {}
    if issubclass(kind, RenderRequest):
        found = declared(kind.film_options)
    for each in fields(kind):
        if "option" in each.metadata:
            found[each.name] = each.default, each.metadata["option"]
    return found


@dataclass(frozen=True)
class FilmOptions:
    """What a film shows, and how it looks; `replay.animate` says what the values mean.

    Attributes:
        bounds: Greatest width and height of a frame in pixels; None for the usual ones.
        share: Width and height of the maps, relative to what they would be.
        levels: Entries of the palette for the colormap, 2 to 240. The fewer, the more remain for a
            format that has to put the input picture into the palette.
    """

    layers: str | Sequence[str] | None = field(
        default=None,
        metadata=option(
            f"{LAYERS} (default: the first recorded layer)",
            *LAYER_FLAGS,
            metavar="NAME",
            repeated=True,
        ),
    )
    channels: Numbers = field(
        default=None,
        metadata=option("such as 0,3,8-11, or top:16 for what varies most", metavar="LIST"),
    )
    epochs: Numbers = field(
        default=None, metadata=option("epochs (default: all)", *EPOCH_FLAGS, metavar="A:B:C")
    )
    batches: Numbers = field(
        default=None,
        metadata=option("batches of each epoch (default: all)", *BATCH_FLAGS, metavar="A:B:C"),
    )
    scale: str = field(
        default="adaptive",
        metadata=option(
            "the range of values: each map's own, as steady as the image is (adaptive, default), "
            "or its least to greatest (map), or one for all of the run, an epoch, a frame or a "
            "channel",
            choices=SCALES,
        ),
    )
    clip: tuple[float, float] | None = field(
        default=None,
        metadata=option("an explicit range of values", metavar="LO,HI", read=value_range),
    )
    symmetric: bool = field(default=False, metadata=option("a range symmetric around zero"))
    cmap: str = field(
        default="gray", metadata=option("a matplotlib colormap (default: gray)", metavar="NAME")
    )
    probe: int | None = field(
        default=None,
        metadata=option(
            "the maps of a fixed image (default: of each batch's first image); N from 0",
            metavar="N",
            read=int,
        ),
    )
    title: str | None = field(
        default=None, metadata=option("a heading; the layer is named after it", metavar="TEXT")
    )
    input: bool = field(default=True, metadata=option("without the input picture", "--no-input"))
    slices: Numbers = field(
        default="middle",
        metadata=option(
            "of volumes: the middle slice of each map (default), all side by side, or 3,5",
            metavar="middle|all|LIST",
        ),
    )
    tokens: str = field(
        default="auto",
        metadata=option(
            "of tokens: as a square, as strips, or as the input picture suggests (default)",
            choices=TOKENS,
        ),
    )
    theme: str = field(default="light", metadata=option("light (default) or dark", choices=THEMES))
    show: str | Sequence[str] = field(
        default=(),
        metadata=option(
            "beside the maps: kernels, difference (since the first epoch), difference:previous, "
            "histogram, loss (there anyway if logged)",
            "--with",
            metavar="LIST",
            repeated=True,
        ),
    )
    view: str = field(
        default="maps",
        metadata=option(
            "what is shown: maps (default), attention, cam (class activation), gradient, "
            "components (all channels as colours) or overlay (channels over the input)",
            "--show",
            metavar="VIEW",
            choices=VIEWS,
        ),
    )
    query: str | int | tuple[int, int] | None = field(
        default=None,
        metadata=option(
            "whose attention: a token N, its row,column, class, mean or all", metavar="TOKEN"
        ),
    )
    grid_of_probes: bool = field(
        default=False,
        metadata=option(
            "a row for each fixed image, a column for each layer, head or channel, over the input"
        ),
    )
    cam_method: str = field(
        default="grad-cam",
        metadata=option(
            "of class activation: grad-cam (default), hirescam or gradient-x-activation",
            metavar="NAME",
            choices=CAM_METHODS,
        ),
    )
    order: str = field(
        default="number", metadata=option("similar: such channels side by side", choices=ORDERS)
    )
    zoom: int | None = field(
        default=None, metadata=option("picture pixels a map pixel", metavar="N", read=whole_number)
    )
    columns: int | None = field(
        default=None, metadata=option("maps side by side", metavar="N", read=whole_number)
    )
    captions: bool = field(default=True, metadata=option("only the maps", "--no-captions"))
    bounds: tuple[int, int] | None = None
    share: float = 1.0
    levels: int = 240

    @property
    def own_ranges(self) -> bool:
        """Whether each map has a range of its own."""
        return self.scale in OWN_SCALES and self.clip is None


@dataclass(frozen=True)
class SheetOptions(FilmOptions):
    """What a figure of one batch of each epoch shows; `replay.sheet` says what the values mean."""

    layer: str | Sequence[str] | None = field(
        default=None,
        metadata=option(
            f"{LAYERS}: a page of a PDF for each, else a file (default: the first recorded layer)",
            *LAYER_FLAGS,
            metavar="NAME",
            repeated=True,
        ),
    )
    width: str | float | None = field(
        default=None,
        metadata=option(
            "the width on paper, for which the figure is laid out with text of 7 pt or more: in "
            "in, cm, mm or pt of TeX; full is 7 inches",
            metavar="3.3in|8.4cm|full",
        ),
    )
    batch: Numbers = field(
        default=-1,
        metadata=option("batch of each epoch (default: the last)", *BATCH_FLAGS, metavar="N"),
    )


@dataclass(frozen=True)
class GridOptions(SheetOptions):
    """What a figure of one batch shows; `replay.grid` says what the values mean."""

    epochs: Numbers = field(
        default=-1,
        metadata=option(
            "one epoch, or several to compare (default: the last)", *EPOCH_FLAGS, metavar="LIST"
        ),
    )


@dataclass(frozen=True)
class ComparisonOptions(FilmOptions):
    """What a film of two runs shows; `replay.compare` says what the values mean."""

    layers: str | Sequence[str] | None = field(
        default=None,
        metadata=option(
            f"{LAYERS} (default: the first that both have)",
            *LAYER_FLAGS,
            metavar="NAME",
            repeated=True,
        ),
    )
    columns: int | None = field(
        default=None,
        metadata=option("maps side by side in each panel", metavar="N", read=whole_number),
    )
    difference: bool = field(default=False, metadata=option("a third panel: what b is more than a"))
    difference_cmap: str = field(
        default=DIVERGING,
        metadata=option(
            "a matplotlib colormap, as diverging as can be (default: RdBu_r)",
            metavar="NAME",
        ),
    )


@dataclass(frozen=True)
class RenderRequest:
    """All that a public function was asked for; `replay.animate` says what the values mean.

    Attributes:
        film: What is shown.
        progress: Called with (frames done, frames in all).
    """

    film_options: ClassVar[type[FilmOptions]] = FilmOptions
    film: FilmOptions = field(default_factory=FilmOptions)
    out: str | os.PathLike[str] | None = field(
        default=None,
        metadata=option(f"{_FORMATS} (default: run.mp4)", "-o", "--out", metavar="FILE"),
    )
    fps: float | None = field(
        default=None, metadata=option("frames a second", metavar="N", read=positive_number)
    )
    codec: str | None = field(
        default=None,
        metadata=option(
            "of an .mp4 h264 (default) or av1, of a .webm vp9 (default) or av1", choices=CODECS
        ),
    )
    crf: int | None = field(
        default=None,
        metadata=option("the codec's quality; lower is better, and larger", metavar="N", read=int),
    )
    quality: int | str = field(
        default=AUTO,
        metadata=option(
            "of a .webp: exact, or lossy from 1 to 100 (default: exact if that fits)",
            metavar="N|exact",
            read=picture_quality,
        ),
    )
    jobs: int | None = field(
        default=None,
        metadata=option(
            "processes that render a part each (default: one, since every encoder uses all cores)",
            metavar="N",
            read=whole_number,
        ),
    )
    executor: Executor | None = field(
        default=None,
        metadata=option("a Dask scheduler whose workers render the parts", metavar="dask=ADDRESS"),
    )
    max_mb: float | str | None = field(
        default=AUTO,
        metadata=option(
            "largest size in MB, or none: gives up quality, frames and zoom as far as needed, and "
            "says so (default: 10 for .gif, .webp and .png)",
            metavar="N",
            read=size_limit,
        ),
    )
    preset: str | None = field(
        default=None,
        metadata=option("the format, size and proportions for a place, see below", choices=PRESETS),
    )
    overwrite: bool = field(
        default=False, metadata=option("also replace what mapreel has not made")
    )
    alt: bool = field(default=False, metadata=option("also what it shows in words, to run.alt.txt"))
    poster: bool = field(default=False, metadata=option("also its last frame, to run.poster.png"))
    progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class ComparisonRequest(RenderRequest):
    """All that `replay.compare` was asked for."""

    film_options: ClassVar[type[FilmOptions]] = ComparisonOptions
    film: ComparisonOptions = field(default_factory=ComparisonOptions)
    out: str | os.PathLike[str] | None = field(
        default=None,
        metadata=option(f"{_FORMATS} (default: a-b.mp4)", "-o", "--out", metavar="FILE"),
    )
