"""What a writer does to its files, in the order in which it does it.

HDF5 itself logs each of its writes with its place in the file (`H5Pset_fapl_log`), in the middle of
a flush, too; what the writer asks of the system is noted between them. So the order is known, and
does not have to be met by luck.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
from h5py._hl import files as h5py_files

from record.writer import copies, recording_file

_WRITTEN = re.compile(r"(\d+)-\s*(\d+) \(\s*\d+ bytes\) \(H5FD_MEM_(\w+)\) Written")
_LOG_WRITES = 4  # H5FD_LOG_LOC_WRITE
_BUFFER = 1 << 20  # bytes, for other things that the log could count


@dataclass(frozen=True)
class Step:
    """One thing that was done.

    Attributes:
        what: `write`, `fsync`, `replace`, or what was noted.
        file: Tells the file from others; 0 where it is none of the journal's.
        start: Of a write, its first byte.
        stop: Of a write, the byte behind its last.
        kind: Of a write, what HDF5 calls it: `DRAW` for data, `BTREE`, `OHDR` and others for what
            leads to them.
        facts: What was noted besides; of a replacement the names of both files.
    """

    what: str
    file: int = 0
    start: int = 0
    stop: int = 0
    kind: str = ""
    facts: Any = None


class WriteJournal:
    """Notes what is done to the files in a folder while `watching`.

    Attributes:
        steps: What was done.
        contents: By file, what was in each at its end. Nothing is asked of HDF5 meanwhile: to be
            asked where a chunk lies, it writes those that it has not written yet.
    """

    def __init__(self, folder: Path) -> None:
        self.steps: list[Step] = []
        self.contents: dict[int, bytes] = {}
        self._folder = folder
        self._logs: list[tuple[Path, int, int]] = []  # the log, of which file, bytes read of it
        self._held: list[int] = []  # descriptors: no file's number is used again meanwhile
        self._lock = threading.RLock()  # the writer has a thread that waits for the disk
        self._flush_streams = ctypes.CDLL(None).fflush

    def note(self, what: str, file: int = 0, facts: Any = None) -> None:
        """Notes something, behind the writes before it."""
        with self._lock:
            self._collect()
            self.steps.append(Step(what, file, facts=facts))

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Within this, writers of this process are watched."""
        real_fsync, real_replace = os.fsync, os.replace

        def open_logged(path: str, mode: str) -> h5py.File:
            log = self._folder / f"{len(self._logs)}.log"
            logged = {"driver": "mapreel-logged", "log": os.fsencode(log)}
            file = h5py.File(path, mode, libver=("v110", "v110"), **copies._UNLOCKED, **logged)
            self._held.append(os.open(path, os.O_RDONLY))
            with self._lock:
                self._logs.append((log, os.stat(path).st_ino, 0))
            return file

        def fsync(descriptor: int) -> None:
            about = os.fstat(descriptor)
            kind = "fsync" if stat.S_ISREG(about.st_mode) else "fsync of a folder"
            self.note(kind, about.st_ino)
            real_fsync(descriptor)

        def replace(source: str, target: str) -> None:
            names = os.path.basename(source), os.path.basename(target)
            self.note("replace", os.stat(source).st_ino, names)
            real_replace(source, target)

        h5py_files.register_driver(
            "mapreel-logged", lambda plist, log: plist.set_fapl_log(log, _LOG_WRITES, _BUFFER)
        )
        try:
            with (
                mock.patch.object(recording_file, "open_h5", open_logged),
                mock.patch.object(copies, "open_h5", open_logged),
                mock.patch.object(os, "fsync", fsync),
                mock.patch.object(os, "replace", replace),
            ):
                yield
        finally:
            h5py_files.unregister_driver("mapreel-logged")
            for descriptor in self._held:
                about = os.fstat(descriptor)
                self.contents[about.st_ino] = os.pread(descriptor, about.st_size, 0)
                os.close(descriptor)

    def _collect(self) -> None:
        """Takes in what HDF5 has written since the last look."""
        self._flush_streams(None)
        for place, (log, file, read) in enumerate(self._logs):
            text = log.read_bytes()[read:]
            self._logs[place] = log, file, read + len(text)
            for line in text.decode().splitlines():
                if found := _WRITTEN.search(line):
                    start, last, kind = int(found[1]), int(found[2]), found[3]
                    self.steps.append(Step("write", file, start, last + 1, kind))
