"""Copies a recording, with some of its frames or whole, to be put in its place.

What changes a recording is done to a copy beside it, whose name `copy_path` gives; `os.replace`
then puts it in the recording's place. A kill at any moment leaves one or the other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from record.writer.fsync import sync_file, sync_folder
from record.writer.ownership import create_file, keep_rights
from replay import schema
from replay.schema.chunks import CHUNK_SLOTS, group_epochs

# The writer's guard is its lock file. HDF5's own locks are not to be had everywhere, and where the
# library is too old to be told so by argument, the writer's environment tells it.
_HDF5 = h5py.version.hdf5_version_tuple[:3]
_TAKES_LOCKING = _HDF5 >= (1, 12, 1) or (1, 10, 7) <= _HDF5 < (1, 11)
_UNLOCKED: dict[str, Any] = {"locking": False} if _TAKES_LOCKING else {}
# Bytes of chunks that HDF5 keeps for each dataset: each flush looks at all of them.
_CACHE: dict[str, Any] = {"rdcc_nbytes": 1 << 16, "rdcc_nslots": CHUNK_SLOTS}
_BESIDE_FRAMES = 1 << 18  # bytes of a copy that are not of frames
# Copies that could not be written, on a full disk, say. To close one, HDF5 would write what it
# still holds, and crash where it cannot: the process ends soon, without that.
_unclosed: list[h5py.File] = []
_FICLONE = 0x40049409  # Linux' request for a copy that shares its blocks with the original


def keep_epochs(path: str, resume: int) -> None:
    """Makes a recording a cleanly closed file with the whole frames of its first epochs.

    Args:
        path: The recording, which is replaced.
        resume: The first epoch whose frames are left out.

    Raises:
        OSError: The file is not a recording that could be gone on with.
    """
    _check_resumable(path)
    with open_reading(path) as file:
        state, recorded = file[schema.STATE][:], file[f"{schema.BATCHES}/recorded"][:]
        whole = (recorded > 0) & (recorded <= schema.count_whole(state, recorded))
        stays = whole.copy()
        stays[resume:] = False
        sound = schema.is_sound_state(state)
        if sound and state[3] and (stays == (recorded > 0)).all():
            return
        write_copy(file, path, stays, lambda: None)
    put_in_place(copy_path(path), path)


def put_in_place(copy: str | None, path: str, *, synced: bool = True) -> None:
    """Has a copy take the place of the recording.

    Args:
        copy: The copy; None where the recording itself was changed.
        path: The recording.
        synced: Whether a loss of power is to leave the one or the other, and from the end of the
            call on the copy: it is on the disk before it gets the name, and the name after that.

    Raises:
        OSError: The disk has failed; the recording is as it was.
    """
    if copy is not None:
        if synced:
            sync_file(copy)
        os.replace(copy, path)
    if synced:
        sync_folder(path)


def copy_path(path: str) -> str:
    """Returns where a copy lies until it takes the place of the recording."""
    return f"{path}.copying"


def create_copy(path: str) -> str:
    """Creates an empty file with a recording's rights, that is to take its place; returns its path.

    Args:
        path: The recording.
    """
    copy = copy_path(path)
    remove_if_there(copy)
    create_file(copy, like=path)
    return copy


def write_copy(
    source: h5py.File, path: str, stays: npt.NDArray[np.bool_], on_progress: Callable[[], None]
) -> int:
    """Writes a copy of some frames beside the recording.

    Args:
        source: The recording.
        path: The recording's path.
        stays: As for `copy_frames`.
        on_progress: As for `copy_frames`.

    Returns:
        The number of frames in the new file.
    """
    copy = copy_path(path)
    remove_if_there(copy)
    there = int(np.count_nonzero(source[f"{schema.BATCHES}/recorded"][:]))
    _require_room(path, min(1.0, int(np.count_nonzero(stays)) / max(1, there)))
    try:
        create_file(copy, private=True)
        target = open_h5(copy, "w")
        _unclosed.append(target)
        count = copy_frames(source, target, stays, on_progress)
        target.close()
        _unclosed.remove(target)
        keep_rights(path, copy)
    except BaseException:
        try_to_remove(copy)
        raise
    return count


def _require_room(path: str, share: float) -> None:
    """Makes sure that a copy has room beside a file: on a full disk HDF5 crashes instead.

    Args:
        path: The file.
        share: How much of the file goes into the copy, from 0 to 1.

    Raises:
        OSError: There is none.
    """
    needed = int(os.path.getsize(path) * share) + _BESIDE_FRAMES
    if hasattr(os, "statvfs"):  # not on Windows
        disk = os.statvfs(os.path.dirname(os.path.abspath(path)))
        if disk.f_blocks and disk.f_bavail * disk.f_frsize < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), copy_path(path))


def copy_frames(
    source: h5py.File,
    target: h5py.File,
    stays: npt.NDArray[np.bool_],
    on_progress: Callable[[], None],
) -> int:
    """Copies a recording with some of its frames, which are numbered anew in their order.

    Args:
        source: The recording.
        target: An empty file.
        stays: bool (epoch, batch), which frames to copy.
        on_progress: Called now and then.

    Returns:
        The number of frames in the new file.
    """
    numbers_path = f"{schema.BATCHES}/recorded"
    recorded = source[numbers_path][:]
    numbers = np.zeros_like(recorded)
    order = np.argsort(recorded[stays])
    numbers[tuple(part[order] for part in np.nonzero(stays))] = np.arange(1, len(order) + 1)
    frames = [(int(epoch), int(batch)) for epoch, batch in np.argwhere(stays)]
    for name, value in source.attrs.items():
        target.attrs[name] = value

    def copy(path: str, node: h5py.Group | h5py.Dataset) -> None:
        if not isinstance(node, h5py.Dataset):
            for name, value in node.attrs.items():
                target.require_group(path).attrs[name] = value
            return
        on_progress()
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
        if node.chunks[:2] == (1, 1) and node.ndim > 2:  # a frame is a chunk
            origin, written = (0,) * (node.ndim - 2), _written(node, frames)
            for place, frame in enumerate(frames):
                if place % 256 == 0:
                    on_progress()
                if frame in written:
                    chunk = node.id.read_direct_chunk((*frame, *origin))[1]
                    made.id.write_direct_chunk((*frame, *origin), chunk)
            return
        for first, stop in group_epochs(np.flatnonzero(stays.any(axis=1)), node.chunks[0]):
            rows = node[first:stop]
            kept = stays[first:stop, : rows.shape[1]]
            rows[~kept] = node.fillvalue
            if path == numbers_path:
                rows = numbers[first:stop]
            elif path == schema.value_checksums_path(numbers_path):
                rows[kept] = schema.checksum_cells(numbers[first:stop][kept])
            made[first:stop] = rows

    source.visititems(copy)
    state = source[schema.STATE][:]
    if not schema.is_sound_state(state):
        state[:] = 0
    state[0] = len(frames)
    target[schema.STATE][:] = schema.encode_state(state)[: len(state)]
    return len(frames)


def copy_whole_file(source: str, target: str) -> bool:
    """Copies a file as it is, with its rights; in no time where the file system can share blocks.

    Args:
        source: The file.
        target: The copy, which replaces a file of that name.

    Returns:
        Whether there was room for it; if not, no copy is left.
    """
    remove_if_there(target)
    try:
        create_file(target, private=True)
        if not _clone(source, target):
            shutil.copyfile(source, target)
        keep_rights(source, target)
    except OSError:
        try_to_remove(target)
        return False
    return True


def _clone(source: str, target: str) -> bool:
    """Copies a file by sharing its blocks; returns whether the file system can do that."""
    with contextlib.suppress(ImportError, OSError), open(source, "rb") as old:
        import fcntl

        with open(target, "wb") as new:
            fcntl.ioctl(new, _FICLONE, old.fileno())
            return True
    return False


def remove_if_there(path: str) -> None:
    """Removes a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def try_to_remove(path: str) -> None:
    """Removes a file, if that can be done: to clean up after an error."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def open_h5(path: str, mode: str) -> h5py.File:
    """Opens a file of this format for writing, without a lock of HDF5's."""
    return h5py.File(path, mode, libver=("v110", "v110"), **_CACHE, **_UNLOCKED)


def open_reading(path: str) -> h5py.File:
    """Opens a file for reading, also one whose writer was killed."""
    try:
        return h5py.File(path, "r", **_UNLOCKED)
    except OSError:
        return h5py.File(path, "r", libver="latest", swmr=True, **_UNLOCKED)


def _check_resumable(path: str) -> None:
    """Opens a file as a reader: its writer may have been killed, which leaves it so marked.

    Raises:
        OSError: It is not a recording of this version of the format.
    """
    try:
        with open_reading(path) as file:
            ours = file.attrs.get("format") == schema.FORMAT
            version = int(file.attrs.get("version", 0))
            complete = f"{schema.BATCHES}/recorded" in file and schema.STATE in file
            packed = "packed" in file.attrs
    except OSError as error:
        raise OSError(f"cannot resume: {' '.join(str(error).split())[:200]}") from error
    if packed:
        raise OSError("cannot resume: it is packed; 'replay unpack' makes one that can go on")
    if not ours or version != schema.VERSION or not complete:
        raise OSError("cannot resume: it is no recording of this version of the format")


def _written(dataset: h5py.Dataset, frames: list[schema.Cell]) -> set[schema.Cell]:
    """Returns which frames have a chunk: to say it of one, HDF5 goes through those before it."""
    if hasattr(dataset.id, "chunk_iter"):  # of HDF5 1.12.3 and later
        found: set[schema.Cell] = set()
        dataset.id.chunk_iter(lambda about: found.add(about.chunk_offset[:2]))
        return found
    ask, origin = dataset.id.get_chunk_info_by_coord, (0,) * (dataset.ndim - 2)
    return {frame for frame in frames if ask((*frame, *origin)).byte_offset is not None}
