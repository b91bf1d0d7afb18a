"""Makes a recording smaller, and undoes that: the same recording in another form."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.files.copy_target import check_copy_target
from replay.files.tree_copy import Copied, CopyPlan, TooLargeError, copy_tree
from replay.formatting import format_bytes, format_count
from replay.maps.selection import choose_cells, choose_layers
from replay.option_values import Numbers, either
from replay.output import check_suffix, check_writable, replacing
from replay.recording import Recording, open_recording
from replay.recording.chunk_filters import FILTERS
from replay.recording.eight_bits import NOTE
from replay.recording.snapshot import cells_of
from replay.schema import FileError, OptionError, OutputError
from replay.schema.faces import spell
from replay.schema.suggestions import unknown
from replay.value_kinds import check_kinds

SUFFIXES = (".h5", ".hdf5")
PACKED = "packed"  # attribute of the root: JSON, what was done to the file

Layers: TypeAlias = str | Iterable[str] | None
"""Names or globs of layers; None for all."""

_MEGABYTE = 1_000_000
_TRIES = 8  # of --max-mb


@dataclass(frozen=True)
class Packed:
    """What `pack` or `unpack` wrote.

    Attributes:
        path: The new recording.
        frames: (epoch, batch) cells in it.
        bits: Of a value of the maps: 16, or 8.
        filter: What it is compressed with: `gzip`, `zstd`, `blosc2` or `none`.
        bytes: Its size.
        bytes_before: The size of the recording that it was made from.
        damaged: Frames whose checksum was wrong before; they are in it as they were.
        unreadable: Frames that could not be read, and are missing.
        remarks: What a reader should know, such as what was given up for the size.
    """

    path: Path
    frames: int
    bits: int
    filter: str
    bytes: int
    bytes_before: int
    damaged: int = 0
    unreadable: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """How many times smaller it is than what it was made from."""
        return self.bytes_before / self.bytes

    def __repr__(self) -> str:
        frames, size = format_count(self.frames, "frame"), format_bytes(self.bytes)
        how = f"{self.bits} bits, {self.filter}, 1:{self.ratio:.2f}"
        return f"<Packed {str(self.path)!r}: {frames}, {size}; {how}>"


def pack(
    recording: str | os.PathLike[str] | Recording,
    out: str | os.PathLike[str],
    *,
    bits: int | None = None,
    layers: Layers = None,
    epochs: Numbers = None,
    batches: Numbers = None,
    epoch: Numbers = None,
    batch: Numbers = None,
    layer: Layers = None,
    max_mb: float | None = None,
    filter: str = "gzip",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Packed:
    """Writes a recording anew, compressed; the recording itself is never written to.

    Everything travels: maps, inputs, probes, kernels, ranges, checksums, fields, the description,
    and what this version knows nothing of.

    Args:
        recording: The file, or an open recording.
        out: The new file, `.h5`.
        bits: 16 (default): nothing is lost. 8: maps are kept as one of 256 steps between the least
            and greatest value of their channel and frame; a frame with NaN or infinite values stays
            as it is.
        layers: Names or globs; all by default.
        epochs: The epochs; all by default.
        batches: The batches of each; all by default.
        epoch: Another name of `epochs`.
        batch: Another name of `batches`.
        layer: Another name of `layers`.
        max_mb: Megabytes that the new file may have. 8 bits are taken where 16 do not fit, unless
            `bits` is given, and then fewer frames.
        filter: `gzip`, which every HDF5 reads; `zstd` or `blosc2`, several times as fast, for
            which the package hdf5plugin must be installed wherever the file is read; or `none`.
        overwrite: Whether a file may be replaced.
        progress: Called with (frames done, frames in all), counted for every dataset.

    Returns:
        What was written.

    Raises:
        RecordingError: What was asked for is not there, the file is unusable, a package is missing,
            or `out` exists or cannot be written; nothing is left half-written.
    """
    check_kinds(locals(), "out")
    epochs = either("epochs", epochs, "epoch", epoch)
    batches = either("batches", batches, "batch", batch)
    layers = either("layers", layers, "layer", layer)
    if bits is not None and bits not in (8, 16):
        raise OptionError(f"{spell('bits')} {bits}: expected 16 or 8")
    if filter not in FILTERS:
        raise OptionError(unknown("filter", filter, list(FILTERS)))
    if max_mb is not None and (isinstance(max_mb, str) or not max_mb > 0):
        raise OptionError(f"{spell('max_mb')} {max_mb}: expected a number above 0")
    with _opened(recording) as run:
        target = _choose_target(run, out, overwrite)
        plan = _plan(run, layers, epochs, batches, bits or 16, filter)
        if max_mb is not None:
            plan = replace(plan, limit=int(max_mb * _MEGABYTE))
        return _write(run, target, plan, bits is None, progress)


def unpack(
    recording: str | os.PathLike[str] | Recording,
    out: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Packed:
    """Undoes `pack`: writes a recording anew, not compressed, all frames in 16 bits.

    What 8 bits have lost does not come back; the new file says so of its layers.

    Args:
        recording: The file, or an open recording.
        out: The new file, `.h5`.
        overwrite: Whether a file may be replaced.
        progress: Called with (frames done, frames in all), counted for every dataset.

    Returns:
        What was written.

    Raises:
        RecordingError: The file is unusable, a package is missing, or `out` exists or cannot be
            written; nothing is left half-written.
    """
    check_kinds(locals(), "out")
    with _opened(recording) as run:
        target = _choose_target(run, out, overwrite)
        return _write(run, target, CopyPlan(0, "none", about={PACKED: None}), False, progress)


def _opened(
    recording: str | os.PathLike[str] | Recording,
) -> AbstractContextManager[Recording]:
    """Returns a context with the recording, which stays open if it was open before."""
    return nullcontext(recording) if isinstance(recording, Recording) else open_recording(recording)


def _choose_target(run: Recording, out: str | os.PathLike[str], overwrite: bool) -> Path:
    target = Path(out)
    check_suffix(target, SUFFIXES)
    check_writable(target)
    check_copy_target(target, run.path, overwrite)
    return target


def _plan(
    run: Recording, layers: Layers, epochs: Numbers, batches: Numbers, bits: int, filter: str
) -> CopyPlan:
    keep = None
    if epochs is not None or batches is not None:
        keep = _mask(run, choose_cells(run.order > 0, epochs, batches))
    left_out: frozenset[str] = frozenset()
    if layers is not None:
        chosen = choose_layers(run, layers)
        of_probes = (run.probe(number).layers for number in range(run.probes))
        names = set(run.layers).union(*of_probes)
        left_out = frozenset(map(schema.encode_name, names - set(chosen)))
    return CopyPlan(bits, filter, keep, left_out, about=_about(bits, filter))


def _mask(run: Recording, cells: list[schema.Cell]) -> npt.NDArray[np.bool_]:
    mask = np.zeros(run.shape, bool)
    mask[tuple(np.array(cells).T)] = True
    return mask


def _write(
    run: Recording,
    target: Path,
    plan: CopyPlan,
    may_use_8_bits: bool,
    progress: Callable[[int, int], None] | None,
) -> Packed:
    before = _trace(run.path)
    with replacing(target) as unfinished:
        copied, plan, given_up = _fit(run, unfinished, plan, may_use_8_bits, progress)
        if _trace(run.path) != before:
            raise FileError(
                f"{run.path} was written to while it was read; wait until its training has ended"
            )
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
    frames = len(run.frames) if plan.keep is None else int(plan.keep.sum())
    remarks = [*given_up, *_remarks(copied, plan.bits)]
    return Packed(
        target,
        frames,
        8 if copied.eight_bits else 16,
        plan.filter,
        target.stat().st_size,
        before[1],
        len(copied.damaged),
        len(copied.unreadable),
        tuple(remarks),
    )


def _fit(
    run: Recording,
    path: Path,
    plan: CopyPlan,
    may_use_8_bits: bool,
    progress: Callable[[int, int], None] | None,
) -> tuple[Copied, CopyPlan, list[str]]:
    """Copies as planned, or with less until the file is no larger than it may be."""
    if plan.limit is None:
        path.unlink()
        return copy_tree(run, path, plan, progress), plan, []
    cells, step = cells_of(_kept(run, plan)), 1
    limit = plan.limit
    given_up: list[str] = []
    thinned: list[str] = []
    for _ in range(_TRIES):
        path.unlink(missing_ok=True)
        try:
            copied = copy_tree(run, path, plan, progress)
            size = path.stat().st_size
            if size <= limit:
                return copied, plan, given_up + thinned
        except TooLargeError as error:
            size = error.expected
        if may_use_8_bits and plan.bits == 16:
            plan = replace(plan, bits=8, about=_about(8, plan.filter))
            given_up = [f"8 bits, to stay under {format_bytes(limit)}"]
        elif step < len(cells):
            step = min(len(cells), max(step + 1, math.ceil(step * size / limit)))
            plan = replace(plan, keep=_mask(run, cells[::step]))
            thinned = [f"{len(cells[::step]):,} of {format_count(len(cells), 'frame')}"]
        else:
            break
    raise OutputError(
        f"{run.path} cannot be packed into {format_bytes(limit)}: the smallest that was tried has "
        f"{format_bytes(size)}; choose fewer layers ({spell('layers')})"
    )


def _about(bits: int, filter: str) -> dict[str, str]:
    return {PACKED: json.dumps({"bits": bits, "filter": filter})}


def _kept(run: Recording, plan: CopyPlan) -> npt.NDArray[np.bool_]:
    return run.order > 0 if plan.keep is None else plan.keep


def _remarks(copied: Copied, bits: int) -> list[str]:
    remarks = []
    if copied.eight_bits:
        remarks.append(f"maps in {NOTE}")
    elif bits == 8:
        remarks.append("nothing is in 8 bits: the file keeps no ranges of its maps")
    if copied.whole:
        several = format_count(copied.whole, "frame")
        remarks.append(f"{several} in 16 bits: with NaN or infinite values, or damaged")
    if copied.damaged:
        path, epoch, batch = copied.damaged[0]
        several = format_count(len(copied.damaged), "damaged frame")
        remarks.append(f"{several}, copied as they are, first {path} epoch {epoch} batch {batch}")
    if copied.unreadable:
        path, epoch, batch = copied.unreadable[0]
        several = format_count(len(copied.unreadable), "frame")
        remarks.append(
            f"{several} cannot be read and are missing, first {path} epoch {epoch} batch {batch}"
        )
    if copied.links:
        remarks.append(f"links that lead elsewhere were left out: {', '.join(copied.links[:3])}")
    return remarks


def _trace(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
