"""The file format: paths, attributes, versions and dtypes, encode beside decode."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.schema.addresses import words_without_secrets
from replay.schema.crc32 import crc32

FORMAT = "mapreel"
VERSION = 1  # of what is recorded; raised only when an old reader would misread a new file
NOTE_OF_8_BITS = "8 bits, within 0.4 % of each map's range"  # a step: 1/255, said in every picture
PACKED_VERSION = 2  # of what is packed into 8 bits, which a reader of 1 would take for values

MAPS = "maps"  # maps/<layer>              float16 (epoch, batch, *frame)
RANGES = "ranges"  # ranges/<layer>            float32 (epoch, batch, C, 2)
KERNELS = "kernels"  # kernels/<layer>           float16 (epoch, batch, C_out, C_in/groups, kH, kW)
CHECKSUMS = "checksums"  # checksums/<layer>         uint32 (epoch, batch)
KERNEL_CHECKSUMS = "kernel_checksums"  # kernel_checksums/<layer>  uint32 (epoch, batch)
INPUTS = "inputs"  # inputs                    float16 (epoch, batch, *image)
BATCHES = "batches"  # batches/<field>           (epoch, batch)
PROBE = "probe"  # probe/<n>/maps ...        the same again for a fixed image
ATTENTION = "attention"  # attention/maps/<layer>    float16 (epoch, batch, heads, ...), ranges ...
GRADIENTS = "gradients"  # gradients/maps/<layer>    float16 (epoch, batch, *frame), exponents ...
CAM = "cam"  # probe/<n>/cam/maps/...    float16 (epoch, batch, C), exponents ...
EXPONENTS = "exponents"  # .../exponents/<layer>     int16 (epoch, batch)
PROBE_INPUT = "input"  # probe/<n>/input           float16 (C, H, W)
STATE = "state"  # state                     int64 (5,), see STATE_FIELDS
VALUE_CHECKSUMS = "value_checksums"  # value_checksums/<path>    uint32 (epoch, batch)

FRAME_DTYPE = np.dtype("<f2")
RANGE_DTYPE = np.dtype("<f4")
CHECKSUM_DTYPE = np.dtype("<u4")
EXPONENT_DTYPE = np.dtype("<i2")
SCALED_BELOW = 15  # the largest value of a frame with an exponent lies below 2 to this power

_DEEPEST = 32  # values within values that a description may have
# Cells (epoch, batch) of a file; of more than FREE_CELLS it has to have the bytes.
MOST_CELLS = 20_000_000  # 160 MB a field
FREE_CELLS = 4_000_000

# What /state holds. `committed` is written last, with a flush on each side of it: a frame whose
# number in batches/recorded is at most that is whole. Older files end before the checksum.
STATE_FIELDS = ("committed", "dropped", "lost", "closed", "checksum")


def exponent_of(largest: float) -> int:
    """Returns the exponent under which a frame is stored, by its largest finite value.

    That value times 2**-exponent lies in [2**14, 2**15); a frame of zeros has the exponent 0.
    """
    return math.frexp(largest)[1] - SCALED_BELOW if largest else 0


def program_version() -> str:
    """Returns the installed version of mapreel, which `pyproject.toml` states."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mapreel")
    except PackageNotFoundError:  # a checkout that nobody has installed
        return "0+unknown"


Float16Array = npt.NDArray[np.float16]
Float32Array = npt.NDArray[np.float32]
Cell = tuple[int, int]
"""The (epoch, batch) of a frame, both zero-based."""


@dataclass(frozen=True)
class Field:
    """One number per batch: `batches/<name>`, shape (epoch, batch).

    Attributes:
        name: The dataset's name.
        dtype: Its numpy dtype.
        fill: The value where nothing was recorded.
    """

    name: str
    dtype: np.dtype[Any]
    fill: float


# Every recording has these; `Recorder.log(name=...)` adds float64 fields of its own.
FIELDS: tuple[Field, ...] = (
    Field("recorded", np.dtype("<i8"), 0),  # 0, or the frame's number in the order of recording
    Field("step", np.dtype("<i8"), -1),  # batches trained before this one, recorded or not
    Field("time", np.dtype("<f8"), np.nan),  # Unix time in seconds
    Field("loss", np.dtype("<f8"), np.nan),
    Field("lr", np.dtype("<f8"), np.nan),  # learning rate
    Field("label", np.dtype("<i8"), -1),
    Field("prediction", np.dtype("<i8"), -1),
    Field("nan", np.dtype("<i8"), 0),  # NaN values in all maps of the batch
    Field("inf", np.dtype("<i8"), 0),  # infinite values, those beyond +-65,504 included
    Field("missing", np.dtype("<i8"), 0),  # layers that put out nothing in this batch
    Field("input_checksum", np.dtype("<u4"), 0),  # CRC-32 of the frame in /inputs
)
LOGGED = ("loss", "lr", "label", "prediction")  # what a training loop may set by name
RESERVED = frozenset(f.name for f in FIELDS) - set(LOGGED)  # what only the recorder sets


def custom_field(name: str) -> Field:
    """Returns a field that a training loop logs under its own name: float64, NaN where unset."""
    return Field(name, np.dtype("<f8"), np.nan)


# By a frame's rank, what its axes may mean; the first holds where a file says nothing.
# C channel, H and W height and width, D depth, L length of a signal, T token.
AXES = {
    0: ("",),
    1: ("C",),
    2: ("CL", "TC"),
    3: ("CHW", "HWC"),
    4: ("CDHW", "DHWC"),
}
# Likewise of attention: C head, Q query, T key.
ATTENTION_AXES = {2: ("CT",), 3: ("CQT",)}


@dataclass(frozen=True)
class Layer:
    """One recorded layer call.

    Attributes:
        name: The module's name in the model, `#1`, `#2` ... appended for its second and third
            call in one batch, `@12x16x16` for frames of another shape than its first.
        module: The module as `repr` gives it, e.g. `Conv2d(3, 12, kernel_size=(3, 3))`.
        shape: Shape of one frame: (C, H, W) for a convolution's output for one image.
        kernel: Shape of the kernels, (C_out, C_in/groups, kH, kW), or None where none are kept.
        axes: A letter for each axis of a frame, see AXES; by default those of the rank.
        pooled: Values of the layer's output, in each direction, of which one value of the frame
            is the mean.
        probe: The number of the fixed image that the frames belong to; None for those of the
            batches.
        note: What a reader has to know of the frames, such as "magnitude of complex values"; may
            be empty.
        kind: What the frames are: empty for what the layer put out, or one of `attention`,
            `gradients` and `cam`.
        scaled: Whether the values are to be multiplied by 2 to the power of an exponent that each
            frame has.
        queries: Of attention, whose it is: `class` (the class token's), `mean` (the mean over all
            queries) or `all`.
        grid: Rows and columns of an image's tokens, the last ones; (0, 0) where they fill none.
        of: Of gradients and class activation, what was differentiated, such as `loss`.
    """

    name: str
    module: str
    shape: tuple[int, ...]
    kernel: tuple[int, ...] | None = None
    axes: str = ""
    pooled: int = 1
    probe: int | None = None
    note: str = ""
    kind: str = ""
    scaled: bool = False
    queries: str = ""
    grid: tuple[int, int] | None = None
    of: str = ""

    def __post_init__(self) -> None:
        axes = ATTENTION_AXES if self.kind == ATTENTION else AXES
        known = axes.get(len(self.shape), ("",))
        if self.axes not in known:
            object.__setattr__(self, "axes", known[0])

    @property
    def channel_axis(self) -> int | None:
        """The axis of the channels in a frame; None where it has none."""
        return self.axes.index("C") if "C" in self.axes else None

    @property
    def channels(self) -> int:
        """Number of maps in a frame: 1 where it has no axis of channels."""
        axis = self.channel_axis
        return 1 if axis is None else self.shape[axis]

    @property
    def is_main(self) -> bool:
        """Whether the frames are maps of the batches' own images."""
        return self.probe is None and not self.kind

    @property
    def group(self) -> str:
        """Where in the file the layer's groups lie: empty, `probe/<n>/`, `attention/` ..."""
        return ("" if self.probe is None else f"{PROBE}/{self.probe}/") + (
            f"{self.kind}/" if self.kind else ""
        )

    def channels_first(self, frame: Float16Array) -> Float16Array:
        """Returns a frame as float16 (C, ...), C-contiguous: what `summarize` takes."""
        axis = self.channel_axis  # without one, a frame is one map
        return frame[None] if axis is None else np.ascontiguousarray(np.moveaxis(frame, axis, 0))

    @property
    def nbytes(self) -> int:
        """Bytes of one frame and its kernels."""
        size = int(np.prod(self.shape, dtype=np.int64))
        if self.kernel is not None:
            size += int(np.prod(self.kernel, dtype=np.int64))
        return size * FRAME_DTYPE.itemsize

    def encode(self) -> dict[str, Any]:
        """Returns the layer as JSON-ready values; `decode` reads them back."""
        beside = {
            "kind": self.kind,
            "scaled": self.scaled,
            "queries": self.queries,
            "grid": self.grid and list(self.grid),
            "of": self.of,
        }
        return {
            "name": self.name,
            "module": self.module,
            "shape": list(self.shape),
            "kernel": None if self.kernel is None else list(self.kernel),
            "axes": self.axes,
            "pooled": self.pooled,
            "probe": self.probe,
            "note": self.note,
            **{name: value for name, value in beside.items() if value},
        }

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Layer:
        """Returns the layer that `encode` described."""
        kernel = data["kernel"]
        return cls(
            name=data["name"],
            module=data["module"],
            shape=tuple(data["shape"]),
            kernel=None if kernel is None else tuple(kernel),
            axes=data["axes"],
            pooled=data["pooled"],
            probe=data["probe"],
            note=data.get("note", ""),
            kind=data.get("kind", ""),
            scaled=data.get("scaled", False),
            queries=data.get("queries", ""),
            grid=None if data.get("grid") is None else (data["grid"][0], data["grid"][1]),
            of=data.get("of", ""),
        )


def storable(text: str) -> str:
    """Returns a text as HDF5 takes it: without zeros, and without what is not Unicode.

    A command's bytes that are no UTF-8, and strings cut in the middle of a character, come to
    Python as lone surrogates, which no file can hold.
    """
    return text.replace("\0", "?").encode("utf-8", "replace").decode("utf-8")


# HDF5 splits names at "/" and gives "." a meaning of its own; "%" keeps the encoding reversible.
_UNSAFE = re.compile(r"[%/\x00-\x1f\x7f]")


def encode_name(name: str) -> str:
    """Returns a layer's or field's name as the name of one HDF5 link.

    `%`, `/` and control characters become `%XX` (as in a URL); a name made of dots alone and
    the empty name are encoded too, since HDF5 gives them a meaning of their own.

    >>> encode_name("layer1.0.conv1"), encode_name("a/b")
    ('layer1.0.conv1', 'a%2Fb')
    """
    if not name.strip("."):
        return "%" + "".join(f"{ord(c):02X}" for c in name)
    escaped = _UNSAFE.sub(lambda m: f"%{ord(m.group()):02X}", name)
    return escaped if escaped.isascii() else storable(escaped)


def decode_name(link: str) -> str:
    """Returns the name that `encode_name` encoded."""
    if re.fullmatch(r"%(2E)*", link):
        return "." * ((len(link) - 1) // 2)
    return re.sub(r"%([0-9A-F]{2})", lambda m: chr(int(m.group(1), 16)), link)


def dataset_path(group: str, name: str) -> str:
    """Returns the path in the file of a layer's or field's dataset in a group."""
    return f"{group}/{encode_name(name)}"


def inputs_path(shape: tuple[int, ...] | None = None) -> str:
    """Returns the dataset of the input images: of the first shape (None), or of another one."""
    return INPUTS if shape is None else f"{INPUTS}@{'x'.join(str(n) for n in shape)}"


def encode_meta(meta: dict[str, Any]) -> str:
    """Returns the run's description as the JSON text of the attribute `meta`.

    Values that JSON does not know are written as their `str`.
    """
    return storable(json.dumps(meta, default=str, ensure_ascii=False))


def decode_meta(text: str) -> dict[str, Any]:
    """Returns the run's description; an empty one where the text is not a JSON object.

    Its texts can be written anywhere, and what is nested too deeply is left out of it.
    """
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError):  # nested without end
        meta = None
    if not isinstance(meta, dict):
        return {}
    command = meta.get("command")
    if isinstance(command, list) and all(isinstance(word, str) for word in command):
        meta["command"] = words_without_secrets(command)  # older recordings kept all of it
    found: dict[str, Any] = _plain(meta, _DEEPEST)
    return found


def _plain(value: Any, depth: int) -> Any:
    """Returns a value of JSON without lone surrogates, and without what lies below a depth."""
    if isinstance(value, str):
        return value if value.isascii() else storable(value)
    if not isinstance(value, (dict, list)):
        return value
    if not depth:
        return "..."
    if isinstance(value, list):
        return [_plain(item, depth - 1) for item in value]
    return {_plain(key, depth): _plain(item, depth - 1) for key, item in value.items()}


def format_intervals(numbers: Sequence[int]) -> str:
    """Returns ascending numbers as text: `0-4, 8, 10-59`.

    Of more than seven intervals, the first six and the last are named.
    """
    intervals: list[str] = []
    start = previous = None
    for number in [*numbers, None]:
        if previous is not None and number != previous + 1:
            intervals.append(f"{start}" if start == previous else f"{start}-{previous}")
            start = number
        elif start is None:
            start = number
        previous = number
    shown = ", ".join(intervals[:6]) + (f" ... {intervals[-1]}" if len(intervals) > 6 else "")
    return shown or "none"


def checksum(frame: npt.NDArray[Any] | memoryview) -> int:
    """Returns the CRC-32 (ISO-HDLC, as in zlib) of a C-contiguous array's bytes, or of bytes."""
    if isinstance(frame, memoryview):
        return crc32(frame)
    return crc32(frame.reshape(-1).view(np.uint8).data)


def most_cells(file_size: int, itemsize: int = 8) -> int:
    """Returns how many (epoch, batch) cells of `itemsize` bytes a file may have, by its size."""
    return min(MOST_CELLS, max(FREE_CELLS, file_size // itemsize))


def value_checksums_path(path: str) -> str:
    """Returns where the checksums of a dataset of small values lie."""
    return f"{VALUE_CHECKSUMS}/{path}"


def encode_state(state: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Returns what `/state` holds, int64 (5,): four numbers and their checksum."""
    numbers = np.array(state[:4], "<i8")
    return np.append(numbers, checksum(numbers)).astype("<i8")


def is_sound_state(state: npt.NDArray[np.int64]) -> bool:
    """Returns whether `/state` has the checksum that it should have, if it has one at all."""
    size = len(STATE_FIELDS)
    return len(state) < size or np.array_equal(state[:size], encode_state(state))


def count_whole(state: npt.NDArray[np.int64], recorded: npt.NDArray[np.int64]) -> int:
    """Returns how many frames are committed; of a damaged counter, how many have numbers."""
    if is_sound_state(state):
        return int(state[0])
    return len(np.unique(recorded[recorded > 0]))


def spell_loss(value: float) -> str:
    """Returns a loss with three significant digits: `0.350`, `2.30`, `0.0227`, `1.23e+04`.

    Trailing zeros stay, so that losses beside each other are equally exact.
    """
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else f"{value:g}"
    return f"{value:#.3g}".removesuffix(".") if value else "0"
