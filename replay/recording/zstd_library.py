"""Zstandard itself, in the library of hdf5plugin's plug-in, where a plug-in lets it be called.

A plug-in's one function makes what Zstandard works with anew for each chunk, and takes and gives
memory of its own. Called directly, with a context that each thread keeps, Zstandard gives the same
bytes in two thirds of the time.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

_SIZE, _AT = ctypes.c_size_t, ctypes.c_void_p
_FUNCTIONS = {
    "ZSTD_createCCtx": (_AT, ()),
    "ZSTD_createDCtx": (_AT, ()),
    "ZSTD_freeCCtx": (_SIZE, (_AT,)),
    "ZSTD_freeDCtx": (_SIZE, (_AT,)),
    "ZSTD_compressBound": (_SIZE, (_SIZE,)),
    "ZSTD_isError": (ctypes.c_uint, (_SIZE,)),
    "ZSTD_compressCCtx": (_SIZE, (_AT, _AT, _SIZE, _AT, _SIZE, ctypes.c_int)),
    "ZSTD_decompressDCtx": (_SIZE, (_AT, _AT, _SIZE, _AT, _SIZE)),
}
"""What is called of its stable interface, with what it returns and takes."""


class ZstdLibrary:
    """Compresses and expands with Zstandard; other threads go on meanwhile.

    Args:
        library: The plug-in.

    Raises:
        AttributeError: It keeps Zstandard's functions to itself.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        for name, (gives, takes) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = gives, takes
        self._library = library
        self._kept = threading.local()

    def compress(self, data: Bytes, level: int) -> bytes:
        """Returns bytes compressed.

        Args:
            data: C-contiguous.
            level: Zstandard's.

        Raises:
            ValueError: It cannot compress them.
        """
        room = self._room(self._library.ZSTD_compressBound(data.size))
        size = self._library.ZSTD_compressCCtx(
            self._context("C"), room.ctypes.data, room.size, data.ctypes.data, data.size, level
        )
        return self._checked(room, size, data.size).tobytes()

    def expand(self, data: Bytes, size: int) -> Bytes:
        """Returns bytes expanded.

        Args:
            data: What was compressed, C-contiguous.
            size: Bytes that there is room for.

        Raises:
            ValueError: They are more, or damaged.
        """
        room = np.empty(size, np.uint8)
        found = self._library.ZSTD_decompressDCtx(
            self._context("D"), room.ctypes.data, room.size, data.ctypes.data, data.size
        )
        return self._checked(room, found, data.size)

    def _checked(self, room: Bytes, size: int, given: int) -> Bytes:
        if self._library.ZSTD_isError(size):
            raise ValueError(f"zstd cannot make anything of {given:,} bytes")
        return room[:size]

    def _context(self, kind: str) -> int:
        """Returns this thread's context, which ends with the thread."""
        context = getattr(self._kept, kind, None)
        if context is None:
            address = getattr(self._library, f"ZSTD_create{kind}Ctx")()
            if not address:
                raise MemoryError("no memory for Zstandard")
            context = _Context(address, getattr(self._library, f"ZSTD_free{kind}Ctx"))
            setattr(self._kept, kind, context)
        return context.address

    def _room(self, size: int) -> Bytes:
        """Returns memory that this thread keeps, of at least so many bytes."""
        room: Bytes | None = getattr(self._kept, "room", None)
        if room is None or room.size < size:
            room = self._kept.room = np.empty(size, np.uint8)
        return room


class _Context:
    """A context of Zstandard, which is freed when nobody has it any more."""

    def __init__(self, address: int, free: Any) -> None:
        self.address = address
        weakref.finalize(self, free, address).atexit = False
