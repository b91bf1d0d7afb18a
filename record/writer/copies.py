"""Copies of a recording: of some of its frames, or of the whole file."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from replay import schema

# The writer's guard is its lock file. HDF5's own locks are not to be had everywhere, and where the
# library is too old to be told so by argument, the writer's environment tells it.
_HDF5 = h5py.version.hdf5_version_tuple[:3]
_TOLD = _HDF5 >= (1, 12, 1) or (1, 10, 7) <= _HDF5 < (1, 11)
_UNLOCKED: dict[str, Any] = {"locking": False} if _TOLD else {}
_CLONE = 0x40049409  # Linux' FICLONE: a copy that shares its blocks with the original


def keep_epochs(path: str, resume: int) -> None:
    """Makes it a cleanly closed file with the whole frames of the epochs before `resume`.

    Raises:
        OSError: It is no recording that could be gone on with.
    """
    _check_ours(path)
    with open_reading(path) as file:
        state, recorded = file[schema.STATE][:], file[f"{schema.BATCHES}/recorded"][:]
        whole = (recorded > 0) & (recorded <= state[0])
        stays = whole.copy()
        stays[resume:] = False
        if state[3] and (stays == (recorded > 0)).all():
            return
        copy_beside(file, path, stays, lambda: None)
    os.replace(beside(path), path)


def beside(path: str) -> str:
    """Where a copy lies until it takes the place of the recording."""
    return f"{path}.copying"


def copy_beside(
    source: h5py.File, path: str, stays: npt.NDArray[np.bool_], tell: Callable[[], None]
) -> int:
    """Copies some frames into a file beside the recording, and has it put on the disk.

    Args:
        source: The recording.
        path: Its name.
        stays: As for `copy_frames`.
        tell: As for `copy_frames`.

    Returns:
        The number of frames in the new file.
    """
    copy = beside(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(copy)
    try:
        with open_h5(copy, "x") as target:
            count = copy_frames(source, target, stays, tell)
            target.flush()
            with contextlib.suppress(OSError):
                os.fsync(target.id.get_vfd_handle())
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(copy)
        raise
    return count


def copy_frames(
    source: h5py.File,
    target: h5py.File,
    stays: npt.NDArray[np.bool_],
    tell: Callable[[], None],
) -> int:
    """Copies a recording with some of its frames, which are numbered anew in their order.

    Args:
        source: The recording.
        target: An empty file.
        stays: bool (epoch, batch), which frames to copy.
        tell: Called now and then.

    Returns:
        The number of frames in the new file.
    """
    recorded = source[f"{schema.BATCHES}/recorded"][:]
    numbers = np.zeros_like(recorded)
    order = np.argsort(recorded[stays])
    numbers[tuple(part[order] for part in np.nonzero(stays))] = np.arange(1, len(order) + 1)
    cells = [(int(epoch), int(batch)) for epoch, batch in np.argwhere(stays)]
    for name, value in source.attrs.items():
        target.attrs[name] = value

    def copy(path: str, node: h5py.Group | h5py.Dataset) -> None:
        if not isinstance(node, h5py.Dataset):
            return
        tell()
        if node.maxshape[:2] != (None, None):
            source.copy(node, target, name=path)
            return
        made = target.create_dataset(
            path,
            shape=node.shape,
            maxshape=node.maxshape,
            chunks=node.chunks,
            dtype=node.dtype,
            fillvalue=node.fillvalue,
        )
        for name, value in node.attrs.items():
            made.attrs[name] = value
        if node.chunks[1] == 1 and node.ndim > 2:  # a frame is a chunk
            rest = (0,) * (node.ndim - 2)
            for place, cell in enumerate(cells):
                if place % 256 == 0:
                    tell()
                with contextlib.suppress(KeyError):
                    chunk = _read_chunk(node, (*cell, *rest))
                    made.id.write_direct_chunk((*cell, *rest), chunk)
            return
        for epoch in np.flatnonzero(stays.any(axis=1)):
            row = node[epoch]
            row[~stays[epoch][: len(row)]] = node.fillvalue
            made[epoch] = numbers[epoch] if path == f"{schema.BATCHES}/recorded" else row

    source.visititems(copy)
    state = source[schema.STATE][:]
    state[0] = len(cells)
    target[schema.STATE][:] = state
    return len(cells)


def copy_file(source: str, target: str) -> None:
    """Copies a file, in no time where the file system can share blocks."""
    with contextlib.suppress(ImportError, OSError), open(source, "rb") as old:
        import fcntl

        with open(target, "xb") as new:
            fcntl.ioctl(new, _CLONE, old.fileno())
            return
    shutil.copyfile(source, target)


def open_h5(path: str, mode: str) -> h5py.File:
    """A file of this format for writing, without a lock of HDF5's."""
    return h5py.File(path, mode, libver=("v110", "v110"), **_UNLOCKED)


def open_reading(path: str) -> h5py.File:
    """A file for reading, also one whose writer was killed."""
    try:
        return h5py.File(path, "r", **_UNLOCKED)
    except OSError:
        return h5py.File(path, "r", libver="latest", swmr=True, **_UNLOCKED)


def _check_ours(path: str) -> None:
    """Looks at it as a reader: its writer may have been killed, which leaves it so marked."""
    try:
        with open_reading(path) as file:
            ours = file.attrs.get("format") == schema.FORMAT
            version = int(file.attrs.get("version", 0))
            complete = f"{schema.BATCHES}/recorded" in file and schema.STATE in file
    except OSError as error:
        raise OSError(f"cannot resume: {' '.join(str(error).split())[:200]}") from error
    if not ours or version != schema.VERSION or not complete:
        raise OSError("cannot resume: it is no recording of this version of the format")


def _read_chunk(dataset: h5py.Dataset, at: tuple[int, ...]) -> bytes:
    """A chunk's bytes; KeyError where none was written."""
    if dataset.id.get_chunk_info_by_coord(at).byte_offset is None:
        raise KeyError(at)
    data: bytes = dataset.id.read_direct_chunk(at)[1]
    return data
