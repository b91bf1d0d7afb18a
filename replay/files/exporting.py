"""Copies a layer's maps out of a recording into files that other programs read."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from replay.files.exported_values import ExportedValues, choose_values
from replay.formatting import format_bytes, format_count
from replay.idle_options import check_given
from replay.maps.axes import choose_channels
from replay.maps.selection import choose_cells
from replay.option_values import Numbers, either
from replay.output import replacing
from replay.raster.palette import is_blank
from replay.recording import Recording, open_recording
from replay.recording.xarray_view import dimension_names
from replay.schema import (
    FRAME_DTYPE,
    DamagedError,
    Float16Array,
    Layer,
    OptionError,
    OutputError,
    SelectionError,
)
from replay.schema.faces import spell
from replay.schema.suggestions import did_you_mean
from replay.value_kinds import check_kinds

Values = npt.NDArray[Any]

SUFFIXES = (".npz", ".npy", ".zarr")

_DATE = (1980, 1, 1, 0, 0, 0)  # of a member of an archive: equal data, equal bytes


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes:
        path: The file or folder.
        frames: Frames in it.
        shape: Shape of one.
        damaged: (epoch, batch) of frames that are damaged: NaN in an array, left out of a folder.
        bytes: Size of it all.
        remarks: What a reader should know.
        dtype: Type of the values.
    """

    path: Path
    frames: int
    shape: tuple[int, ...]
    damaged: tuple[tuple[int, int], ...]
    bytes: int
    remarks: tuple[str, ...] = ()
    dtype: str = "float16"

    def __repr__(self) -> str:
        sizes = "×".join(map(str, (self.frames, *self.shape)))
        damaged = f"; {format_count(len(self.damaged), 'damaged frame')}" if self.damaged else ""
        size = format_bytes(self.bytes)
        return f"<Exported {str(self.path)!r}: {sizes} {self.dtype}, {size}{damaged}>"


def export(
    recording: str | os.PathLike[str] | Recording,
    out: str | os.PathLike[str],
    *,
    layer: str | None = None,
    epochs: Numbers = None,
    batches: Numbers = None,
    epoch: Numbers = None,
    batch: Numbers = None,
    layers: str | None = None,
    channels: Numbers = None,
    probe: int | None = None,
    view: str = "maps",
    cam_method: str = "grad-cam",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Writes a layer's maps, float16 (frames, C, ...), the channels first whatever the layer is.

    Memory does not grow with the recording: a frame is read and written at a time.

    Args:
        recording: The file, or an open recording.
        out: `.npz`: arrays `maps`, `epoch`, `batch`, `channel`, `damaged`, and `loss` and `input`
            where they were recorded; of a probe, `input` is the one image; of attention `grid`, the
            rows and columns of its tokens. `.npy`: the maps.
            `.zarr`: a group of the same arrays as an archive has, for which the package zarr must
            be installed. A name that ends in `/`, or has no suffix: a folder with a file
            `epoch0003_batch0012.npy` for each frame.
        layer: The layer's name; the first recorded one by default.
        epochs: The epochs; all by default.
        batches: The batches of each; all by default.
        epoch: Another name of `epochs`.
        batch: Another name of `batches`.
        layers: Another name of `layer`; one layer, too.
        channels: Their numbers, as in `replay.animate`; all by default.
        probe: The number of a fixed image, whose maps are written.
        view: `maps`, or what was recorded beside them, in true values: `attention` (float16, heads
            first), `gradient` (float32), or `cam` (float32, one map a frame, of the first fixed
            image unless `probe` says another); or `components`, the values along the first three
            principal components of the maps (float32).
        cam_method: Of class activation, as in `replay.animate`.
        overwrite: Whether a file may be replaced. A folder must be new or empty.
        progress: Called with (frames done, frames in all).

    Returns:
        What was written, and which of its frames are damaged.

    Raises:
        RecordingError: What was asked for is not there, the file is unusable, or `out` exists or
            cannot be written; nothing is left half-written.
    """
    check_given(locals(), "cam_method")
    check_kinds({"out": out}, "out")
    epochs = either("epochs", epochs, "epoch", epoch)
    batches = either("batches", batches, "batch", batch)
    layer = either("layer", layer, "layers", layers)
    if not isinstance(recording, Recording):
        with open_recording(recording) as run:
            return export(
                run,
                out,
                layer=layer,
                epochs=epochs,
                batches=batches,
                channels=channels,
                probe=probe,
                view=view,
                cam_method=cam_method,
                overwrite=overwrite,
                progress=progress,
            )
    path, kind = _choose_target(out, overwrite)
    if probe is None and view == "cam" and recording.probe_number is None:
        probe = 0
    run = recording if probe is None else recording.probe(probe)
    run.require_frames()
    source = choose_values(run, view, layer, cam_method)
    if not source.frames.present.any():
        raise SelectionError(f"no frame of {source.frames.name} in {run.path}")
    cells = choose_cells(source.frames.present, epochs, batches)
    chosen = choose_channels(source, channels, cells)
    reader = _Reader(run, source, cells, chosen, progress)
    if path.exists() and path.samefile(run.path):
        raise OutputError(f"{path} is the recording itself; name another file ({spell('out')})")
    if kind in (".npz", ".npy"):
        with replacing(path) as unfinished:
            (_write_archive if kind == ".npz" else _write_array)(unfinished, reader)
    else:
        with replacing(path, folder=True) as folder:
            (_write_zarr if kind == ".zarr" else _write_folder)(folder, reader)
    size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    frames = len(cells) - (len(reader.damaged) if kind == "folder" else 0)
    return Exported(
        path,
        frames,
        reader.shape,
        tuple(reader.damaged),
        size or path.stat().st_size,
        tuple(reader.remarks),
        source.dtype.name,
    )


def _choose_target(out: str | os.PathLike[str], overwrite: bool) -> tuple[Path, str]:
    """Returns the path, and its suffix or `folder`."""
    text, path = os.fspath(out), Path(out)
    suffix = path.suffix.lower()
    folder = text.endswith(("/", os.sep)) or not suffix or (path.is_dir() and suffix != ".zarr")
    if folder and suffix not in SUFFIXES:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise OutputError(f"{path} exists; expected a folder that is new or empty")
        return path, "folder"
    if suffix not in SUFFIXES:
        raise OutputError(
            f"cannot tell a format from {path}: expected a name that ends in "
            f"{', '.join(SUFFIXES)}, or in / for a folder of .npy{did_you_mean(suffix, SUFFIXES)}"
        )
    if path.is_dir():
        raise OutputError(f"{path} is a folder that exists; name another one ({spell('out')})")
    if path.exists() and not overwrite:
        allow = spell("overwrite", True)
        raise OutputError(f"{path} exists; name another file or allow {allow}")
    return path, suffix


class _Reader:
    """Reads what is to be written, frame by frame.

    Attributes:
        shape: Shape of the maps of a frame.
        dtype: Type of their values.
        damaged: (epoch, batch) of the damaged frames that were met so far.
        remarks: What a reader should know.
    """

    def __init__(
        self,
        run: Recording,
        source: ExportedValues,
        cells: Sequence[tuple[int, int]],
        channels: Sequence[int],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.run, self.cells, self.channels = run, list(cells), list(channels)
        self.damaged: list[tuple[int, int]] = []
        self.remarks: list[str] = []
        self._source, self._progress, self.dtype = source, progress, source.dtype
        self.shape = (len(self.channels), *source.rest)

    def frames(self) -> Iterator[tuple[tuple[int, int], Values | None]]:
        """Yields (epoch, batch) and maps (C, ...) of each frame; None if damaged."""
        for place, cell in enumerate(self.cells):
            try:
                maps = np.ascontiguousarray(self._source[cell][self.channels], self.dtype)
                yield cell, maps
            except DamagedError:
                self.damaged.append(cell)
                yield cell, None
            if self._progress is not None:
                self._progress(place + 1, len(self.cells))

    def maps(self) -> Iterator[Values]:
        """Yields each frame's maps (C, ...); NaN where they are damaged."""
        for _, maps in self.frames():
            yield np.full(self.shape, np.nan, self.dtype) if maps is None else maps

    def dimensions(self, name: str, rank: int) -> list[str]:
        """Returns what the axes of an array are called, for programs that give axes names."""
        names: Sequence[str] = ()
        if name == "channel":
            return ["channel"]
        if name == "input":
            image = Layer("", "", self.run.inputs.shape or ())
            names = [f"input_{each}" for each in dimension_names(image)]
        elif name == "maps":
            layer = getattr(self._source.frames, "layer", Layer("", "", self.shape))
            found = dimension_names(layer)
            names = ["channel", *(each for each in found if each != "channel")]
        return ["frame", *names][-rank:]

    def image_shape(self) -> tuple[int, ...] | None:
        """Returns the shape of the input pictures, if there are some and all have the same."""
        inputs = self.run.inputs
        if len(inputs.shapes) > 1:
            self.remarks.append("the input pictures have several sizes and were left out")
            return None
        return inputs.shape

    def image(self, cell: tuple[int, int], shape: tuple[int, ...]) -> Float16Array:
        """Returns the input picture of a frame; NaN where it is damaged, which is noted."""
        try:
            return np.ascontiguousarray(self.run.inputs[cell], FRAME_DTYPE)
        except DamagedError as error:
            self.remarks.append(str(error))
            return np.full(shape, np.nan, FRAME_DTYPE)

    def images(self, shape: tuple[int, ...]) -> Iterator[Float16Array]:
        """Yields the input picture of each frame; NaN where it is damaged or missing."""
        missing = 0
        for cell in self.cells:
            damaged = len(self.remarks)
            image = self.image(cell, shape)
            missing += len(self.remarks) == damaged and is_blank(image)
            yield image
        if missing:
            self.remarks.append(f"without an input picture, NaN: {format_count(missing, 'frame')}")

    def numbers(self) -> dict[str, npt.NDArray[Any]]:
        """Returns the small arrays; after the maps, since damage is known only then."""
        epoch, batch = np.array(self.cells, "<i8").T
        damaged = set(self.damaged)
        found = {
            "epoch": np.ascontiguousarray(epoch),
            "batch": np.ascontiguousarray(batch),
            "channel": np.array(self.channels, "<i8"),
            "damaged": np.array([cell in damaged for cell in self.cells]),
        }
        grid = getattr(getattr(self._source.frames, "layer", None), "grid", None)
        if grid is not None:
            found["grid"] = np.array(grid, "<i8")
        if "loss" in self.run.batches:
            found["loss"] = self.run.batches["loss"][epoch, batch]
        return found


def _write_array(path: Path, reader: _Reader) -> None:
    with path.open("wb") as file:  # a mapped file would end the process where the disk is full
        _write_frames(file, (len(reader.cells), *reader.shape), reader.maps(), reader.dtype)


def _write_frames(
    file: IO[bytes],
    shape: tuple[int, ...],
    arrays: Iterator[npt.NDArray[Any]],
    dtype: np.dtype[Any],
) -> None:
    """Writes arrays as one of numpy's files, each when it is made."""
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for array in arrays:
        file.write(array.tobytes())


def _write_archive(path: Path, reader: _Reader) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:

        def stream(
            name: str,
            shape: tuple[int, ...],
            arrays: Iterator[npt.NDArray[Any]],
            dtype: np.dtype[Any] = FRAME_DTYPE,
        ) -> None:
            with archive.open(_member(name), "w", force_zip64=True) as file:
                _write_frames(file, shape, arrays, dtype)

        count = len(reader.cells)
        stream("maps", (count, *reader.shape), reader.maps(), reader.dtype)
        shape = reader.image_shape()
        if shape is not None and reader.run.probe_number is not None:
            stream("input", shape, iter([reader.image(reader.cells[0], shape)]))
        elif shape is not None:
            stream("input", (count, *shape), reader.images(shape))
        for name, values in reader.numbers().items():
            with archive.open(_member(name), "w") as file:
                np.lib.format.write_array(file, values, allow_pickle=False)


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{name}.npy", _DATE)


def _write_folder(folder: Path, reader: _Reader) -> None:
    for (epoch, batch), maps in reader.frames():
        if maps is not None:
            np.save(folder / f"epoch{epoch:04}_batch{batch:04}.npy", maps, allow_pickle=False)


def _write_zarr(folder: Path, reader: _Reader) -> None:
    try:
        import zarr
    except ImportError:
        raise OptionError("a .zarr needs the package zarr: pip install 'mapreel[zarr]'") from None
    group = zarr.open_group(str(folder), mode="w")
    modern = hasattr(group, "create_array")  # zarr 3; the format of 2 has names as an attribute

    def create(name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: Any) -> Any:
        names = reader.dimensions(name, len(shape))
        about = {"shape": shape, "chunks": chunks, "dtype": dtype}
        if modern:
            return group.create_array(name, **about, dimension_names=names)
        array = group.create_dataset(name, **about)
        array.attrs["_ARRAY_DIMENSIONS"] = names
        return array

    def stream(
        name: str,
        shape: tuple[int, ...],
        arrays: Iterator[npt.NDArray[Any]],
        dtype: np.dtype[Any] = FRAME_DTYPE,
    ) -> None:
        array = create(name, (len(reader.cells), *shape), (1, *shape), dtype.str)
        for place, values in enumerate(arrays):
            array[place] = values

    stream("maps", reader.shape, reader.maps(), reader.dtype)
    numbers = reader.numbers()
    shape = reader.image_shape()
    if shape is not None and reader.run.probe_number is not None:
        numbers["input"] = reader.image(reader.cells[0], shape)
    elif shape is not None:
        stream("input", shape, reader.images(shape))
    for name, values in numbers.items():
        create(name, values.shape, values.shape, values.dtype)[...] = values
    group.attrs["coordinates"] = "epoch batch damaged"  # as xarray understands it
    if not modern:
        zarr.consolidate_metadata(str(folder))
