"""What stands where a result goes: mapreel's own may be replaced, anything else only if asked for.

Every file that mapreel makes says so, where its format has a place for such words; `is_ours` looks
there and reads no more of a file than it has to. What a file is taken for does not depend on its
name alone: a picture of the user's that has the name of a film is left alone.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from replay.schema import OutputError
from replay.schema.addresses import why_not_here
from replay.schema.faces import spell

MAKER = "mapreel"

GIF_COMMENT = b"\x21\xfe" + bytes([len(MAKER)]) + MAKER.encode() + b"\0"
"""GIF89a, section 24: the comment of an animation; it stands among the first blocks."""

PNG_TEXT = b"Software\0" + MAKER.encode()
"""PNG, section 11.3.3.2: the body of a chunk tEXt."""

WEBP_CHUNK = struct.pack("<4sI", b"MPRL", len(MAKER) + 1) + MAKER.encode() + b"\0"
"""An unknown chunk, which readers of WebP pass over; its size is even."""

ALT_TEXT = "Animation of "
"""What the text of what an animation shows begins with."""

_BEFORE_TABLE = 1 << 14  # bytes of a PDF, which may have a long title
_HEAD, _TAIL = 1 << 14, 1 << 16  # bytes of a text that are looked at


def choose_place(path: Path) -> Path:
    """Returns where a result goes: the path, or what it leads to where it is a link.

    Raises:
        OutputError: It is not on this machine, has no folder, is a pipe or a device, or a link to
            a file of another kind, such as a recording.
    """
    if ":" in str(path) and (elsewhere := why_not_here(path)):
        raise OutputError(elsewhere)
    if path.is_symlink():
        link, path = path, Path(os.path.realpath(path))
        if path.suffix.lower() != link.suffix.lower():
            raise OutputError(f"cannot write {link}: it is a link to {path}, of another kind")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: no such folder: {path.parent}; create it first")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OutputError(f"cannot write {path}: it is a pipe or a device; expected a file name")
    return path


def check_replaceable(paths: Iterable[Path], overwrite: bool) -> tuple[Path, ...]:
    """Makes sure, before any work, that nothing of the user's is replaced unasked.

    Args:
        paths: Where files will be written. An empty file holds nothing, and may be replaced.
        overwrite: Whether anything may be replaced.

    Returns:
        Those where there is a file that will be replaced.

    Raises:
        OutputError: A file that mapreel has not made, as far as it can tell.
    """
    there = [path for path in paths if path.is_file() and path.stat().st_size]
    for path in there:
        if not overwrite and not is_ours(path):
            raise OutputError(
                f"{path} exists, and does not say that mapreel made it; choose another "
                f"{spell('out')}, or {spell('overwrite', True)} to replace it"
            )
    return tuple(there)


def is_ours(path: Path) -> bool:
    """Returns whether a file says that mapreel made it.

    Args:
        path: A file. One that cannot be read says nothing.
    """
    says = _READERS.get(path.suffix.lower())
    try:
        with path.open("rb") as file:
            return says is not None and says(file)
    except (OSError, struct.error):
        return False


def _gif(file: BinaryIO) -> bool:
    return GIF_COMMENT in file.read(2048)  # behind the first colours, of which there are 256


def _png(file: BinaryIO) -> bool:
    if file.read(8) != b"\x89PNG\r\n\x1a\n":
        return False
    return any(
        name == b"tEXt" and file.read(size) == PNG_TEXT for name, size in _blocks(file, ">I4s", 4)
    )


def _webp(file: BinaryIO) -> bool:
    head = file.read(12)
    if head[:4] + head[8:] != b"RIFFWEBP":
        return False
    return any(name == WEBP_CHUNK[:4] for name, _ in _blocks(file, "<4sI", 0))


def _mp4(file: BinaryIO) -> bool:
    for name, size in _boxes(file):
        if name == b"moov":
            return MAKER.encode() in file.read(size)[-4096:]  # the comment, ©cmt, comes last
    return False


def _text_at_either_end(*words: bytes) -> Callable[[BinaryIO], bool]:
    def says(file: BinaryIO) -> bool:
        text = file.read(_HEAD)
        file.seek(0, 2)
        file.seek(max(len(text), file.tell() - _TAIL))
        text += file.read()
        return any(each in text for each in words)

    return says


def _pdf(file: BinaryIO) -> bool:
    """PDF 1.7, 7.5: the document's information is the last object before the table of all."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 1024))
    table = re.search(rb"startxref\s+(\d{1,15})\s+%%EOF\s*$", file.read())
    if table is None:
        return False
    end = min(int(table[1]), size)
    file.seek(max(0, end - _BEFORE_TABLE))
    return b"/Creator (mapreel)" in file.read(min(end, _BEFORE_TABLE))


def _alt_text(file: BinaryIO) -> bool:
    return file.read(len(ALT_TEXT)) == ALT_TEXT.encode()


def _blocks(file: BinaryIO, form: str, more: int) -> Iterator[tuple[bytes, int]]:
    """Yields the name and size of each chunk of a PNG or RIFF; a body may be read in between.

    Args:
        file: At the first chunk.
        form: Of name and size, in their order.
        more: Bytes behind a body that its size does not count.
    """
    at = file.tell()
    while len(head := file.read(8)) == 8:
        name, size = sorted(struct.unpack(form, head), key=lambda part: isinstance(part, int))
        yield name, size
        even = size % 2 if form.startswith("<") else 0
        at += 8 + size + even + more
        file.seek(at)


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yields the name and the size of each box of an MP4, behind whose head the file then is."""
    at = 0
    while len(head := file.read(8)) == 8:
        size, name = struct.unpack(">I4s", head)
        long = size == 1  # a size of 64 bits follows
        if long:
            (size,) = struct.unpack(">Q", file.read(8))
        if size < 8:
            return
        yield name, size - (16 if long else 8)
        at += size
        file.seek(at)


_READERS: dict[str, Callable[[BinaryIO], bool]] = {
    ".gif": _gif,
    ".png": _png,
    ".apng": _png,
    ".webp": _webp,
    ".mp4": _mp4,
    ".mov": _mp4,
    ".webm": _text_at_either_end(MAKER.encode()),
    ".svg": _text_at_either_end(b"<dc:title>mapreel</dc:title>"),
    ".pdf": _pdf,
    ".html": _text_at_either_end(b'<meta name="generator" content="mapreel">'),
    ".htm": _text_at_either_end(b'<meta name="generator" content="mapreel">'),
    ".txt": _alt_text,
}
