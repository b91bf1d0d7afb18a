"""Filters of the package hdf5plugin, called past HDF5, which lets one thread at a time work.

A plug-in of HDF5 is a library with one function that compresses and expands a block of memory. It
is called here as HDF5 calls it, so that a chunk can be compressed on every core, and so that a
chunk of a stranger is looked at before anything is allocated for it.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.recording.zstd_library import ZstdLibrary
from replay.schema import FileError

ZSTD, BLOSC2 = 32015, 32026
PLUGINS = {ZSTD: "zstd", BLOSC2: "blosc2"}
"""Their numbers, registered with the HDF Group, and their names."""

PIP_LINE = "pip install 'mapreel[pack]'"

_REVERSE = 0x0100  # H5Z_FLAG_REVERSE: expand
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_HEAD = 18  # bytes, at most
_GROWN, _HEADS = 2, 4096  # times, and bytes, that no compressed data are larger than their own
_FRAME_SIZE = slice(30, 38)  # of a contiguous frame of Blosc 2: bytes when expanded, big-endian


class _FilterClass(ctypes.Structure):
    """H5Z_class2_t."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("id", ctypes.c_int),
        ("encoder_present", ctypes.c_uint),
        ("decoder_present", ctypes.c_uint),
        ("name", ctypes.c_char_p),
        ("can_apply", ctypes.c_void_p),
        ("set_local", ctypes.c_void_p),
        ("filter", ctypes.c_void_p),
    )


_FILTER = ctypes.CFUNCTYPE(
    ctypes.c_size_t,  # bytes of the result, 0 for a failure
    ctypes.c_uint,
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_uint),
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_size_t),
    ctypes.POINTER(ctypes.c_void_p),
)


def require_plugin(code: int, what: str) -> None:
    """Makes sure that a filter can be used, and has HDF5 know it.

    Args:
        code: The filter's number, one of `PLUGINS`.
        what: What needs it, for the message.

    Raises:
        FileError: hdf5plugin is not installed, or cannot be used here.
    """
    if importlib.util.find_spec("hdf5plugin") is None:
        raise FileError(f"{what} needs the package hdf5plugin: {PIP_LINE}")
    try:
        _load(code)
    except (ImportError, OSError, KeyError, AttributeError, TypeError) as error:
        raise FileError(
            f"{what} needs the filter {PLUGINS[code]} of hdf5plugin, which cannot be used on this "
            f"system ({error}); gzip can be used everywhere"
        ) from error


def plugin_options(code: int) -> tuple[int, ...]:
    """Returns the options with which HDF5 is asked for a filter: fast, and bytes shuffled."""
    import hdf5plugin

    if code == ZSTD:
        return tuple(hdf5plugin.Zstd(clevel=1).filter_options)
    chosen = hdf5plugin.Blosc2(cname="zstd", clevel=1, filters=hdf5plugin.Blosc2.SHUFFLE)
    return tuple(chosen.filter_options)


def compress(code: int, data: npt.NDArray[np.uint8], options: tuple[int, ...]) -> bytes:
    """Returns the data compressed; other threads go on meanwhile.

    Args:
        code: The filter's number.
        data: What is compressed, C-contiguous.
        options: As the data set has them.
    """
    direct = _load_zstd() if code == ZSTD and len(options) == 1 else None
    if direct is not None:
        return direct.compress(data, *options)
    return _call(code, data, options, 0, _GROWN * data.size + _HEADS)


def expand(code: int, data: Any, options: tuple[int, ...], size: int) -> Any:
    """Returns the data expanded, whose size is known before.

    Args:
        code: The filter's number.
        data: What was compressed.
        options: As the data set has them.
        size: Bytes that it has to have.

    Raises:
        ValueError: The data say that they have another size, or are damaged.
    """
    given = np.frombuffer(data, np.uint8)
    if code == ZSTD:
        found = _zstd_size(given[:_ZSTD_HEAD].tobytes())
    else:
        found = _blosc2_size(given.tobytes())
    if found != size:
        says = "do not say how much that is" if found is None else f"are {found:,} bytes"
        raise ValueError(f"refused: a chunk is {size:,} bytes, and its compressed data {says}")
    direct = _load_zstd() if code == ZSTD else None
    if direct is not None:
        return direct.expand(given, size)
    return _call(code, given, options, _REVERSE, size)


@functools.lru_cache(maxsize=len(PLUGINS))
def _load(code: int) -> tuple[Any, Any]:
    """Returns the filter's function, and the C library whose memory it takes and gives."""
    import hdf5plugin

    library = ctypes.CDLL(hdf5plugin.get_config().registered_filters[PLUGINS[code]])
    library.H5PLget_plugin_info.restype = ctypes.POINTER(_FilterClass)
    found = library.H5PLget_plugin_info().contents
    if found.id != code:
        raise KeyError(f"another filter, {found.id}")
    memory = ctypes.CDLL(None)
    memory.malloc.restype, memory.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    memory.free.restype, memory.free.argtypes = None, [ctypes.c_void_p]
    return _FILTER(found.filter), memory


@functools.lru_cache(maxsize=1)
def _load_zstd() -> ZstdLibrary | None:
    """Returns Zstandard itself; None where the plug-in keeps it to itself."""
    import hdf5plugin

    try:
        return ZstdLibrary(ctypes.CDLL(hdf5plugin.get_config().registered_filters[PLUGINS[ZSTD]]))
    except AttributeError:
        return None


def _call(
    code: int, data: npt.NDArray[np.uint8], options: tuple[int, ...], flags: int, most: int
) -> bytes:
    """Returns what a filter makes of data; some give the number of an error as a size, a huge one.

    Args:
        code: The filter's number.
        data: What it is given.
        options: As the data set has them.
        flags: As HDF5 gives them.
        most: Bytes that it can have become.
    """
    function, memory = _load(code)
    given = memory.malloc(max(1, data.size))
    if not given:
        raise MemoryError(f"no memory for {data.size:,} bytes")
    ctypes.memmove(given, data.ctypes.data, data.size)
    place, room = ctypes.c_void_p(given), ctypes.c_size_t(data.size)
    words = (ctypes.c_uint * max(1, len(options)))(*options)
    try:
        size = function(
            flags, len(options), words, data.size, ctypes.byref(room), ctypes.byref(place)
        )
        if not 0 < size <= most or not place.value:
            raise ValueError(f"{PLUGINS[code]} cannot make anything of {data.size:,} bytes")
        return ctypes.string_at(place, size)
    finally:
        memory.free(place)


def _zstd_size(data: bytes) -> int | None:
    """Returns how many bytes a frame of Zstandard expands to: RFC 8878, section 3.1.1.1."""
    if data[:4] != _ZSTD_MAGIC or len(data) < 14:
        return None
    descriptor = data[4]
    single = bool(descriptor & 0x20)
    length = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    if not length:
        return None
    return int.from_bytes(data[at : at + length], "little") + (256 if length == 2 else 0)


def _blosc2_size(data: bytes) -> int | None:
    """Returns how many bytes a contiguous frame of Blosc 2 expands to, if it is one chunk.

    The frame says so, and the chunk in it does once more.
    """
    if data[2:10] != b"b2frame\0" or len(data) < 100:
        return None
    header = int.from_bytes(data[11:15], "big")
    size = int.from_bytes(data[_FRAME_SIZE], "big")
    chunk = np.frombuffer(data[header + 4 : header + 8].ljust(4, b"\0"), "<u4")
    return size if int(chunk[0]) == size else -1
