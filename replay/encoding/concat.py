"""Joins animations end to end without encoding anything again.

All parts have the same size, frame rate and settings, and each begins with a whole picture. MP4 is
joined by ffmpeg; for GIF, WebP and APNG, which it cannot join, only the framing is rewritten.

Sources: GIF89a Specification (CompuServe, 1990); WebP Container Specification; Portable Network
Graphics Specification (Third Edition), section 11.3.6.
"""

from __future__ import annotations

import struct
import subprocess
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from replay.schema import EncodeError

_HEAD = 13  # bytes of a GIF before its colours


def concatenate(parts: Sequence[Path], target: Path, kind: str, ffmpeg: str) -> None:
    """Writes one animation with all frames of the parts, in their order.

    Args:
        parts: Animations of one kind and size, at least one.
        target: The file to write; replaced if it is there.
        kind: `mp4`, `gif`, `webp` or `apng`.
        ffmpeg: The program; for MP4.

    Raises:
        EncodeError: A part is not what it should be, or ffmpeg failed.
    """
    if kind == "mp4":
        _join_mp4(parts, target, ffmpeg)
        return
    with target.open("wb") as file:
        try:
            {"gif": _join_gif, "webp": _join_webp, "apng": _join_apng}[kind](parts, file)
        except (IndexError, struct.error) as error:
            raise EncodeError(f"cannot join the parts of a {kind}: one is cut off") from error


def _join_mp4(parts: Sequence[Path], target: Path, ffmpeg: str) -> None:
    lines = ["ffconcat version 1.0"]
    for part in parts:
        quoted = str(part.absolute()).replace("'", "'\\''")
        lines.append(f"file 'file:{quoted}'")
    command = [
        *(ffmpeg, "-hide_banner", "-loglevel", "error", "-y"),
        *("-f", "concat", "-safe", "0", "-protocol_whitelist", "file,pipe", "-i", "pipe:0"),
        *("-c", "copy", "-movflags", "+faststart", "-f", "mp4", f"file:{target.absolute()}"),
    ]
    done = subprocess.run(command, input="\n".join(lines).encode(), capture_output=True)
    if done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise EncodeError(f"ffmpeg failed to join parts: {words[-1] if words else 'no reason'}")


def _join_gif(parts: Sequence[Path], file: BinaryIO) -> None:
    """The blocks of all parts; a part's own global colours become those of its frames."""
    shared = b""
    for place, part in enumerate(parts):
        data = part.read_bytes()
        flags = data[10]
        at = _HEAD + (_table_bytes(flags) if flags & 0x80 else 0)
        colours = data[_HEAD:at]
        if place == 0:
            shared = colours
            file.write(data[:at])
        while data[at] != 0x3B:  # the trailer
            if data[at] == 0x21:  # an extension; of those of the file, one set is enough
                end = _after_blocks(data, at + 2)
                if place == 0 or data[at + 1] == 0xF9:
                    file.write(data[at:end])
            else:  # an image: place and size, flags, colours, pixels
                own = data[at + 9]
                pixels = at + 10 + (_table_bytes(own) if own & 0x80 else 0)
                end = _after_blocks(data, pixels + 1)
                if own & 0x80 or colours == shared:
                    file.write(data[at:end])
                else:
                    file.write(data[at : at + 9])
                    file.write(bytes([own & 0x40 | 0x80 | flags & 7]) + colours)
                    file.write(data[pixels:end])
            at = end
    file.write(b"\x3b")


def to_pixels(data: bytes) -> int:
    """Where the compressed pixels of a GIF's first image begin."""
    flags = data[10]
    at = _HEAD + (_table_bytes(flags) if flags & 0x80 else 0)
    while data[at] == 0x21:
        at = _after_blocks(data, at + 2)
    own = data[at + 9]
    return at + 10 + (_table_bytes(own) if own & 0x80 else 0)


def _table_bytes(flags: int) -> int:
    return int(3 << (flags & 7) + 1)


def _after_blocks(data: bytes, at: int) -> int:
    """The place behind a chain of blocks, each with its length before it."""
    while data[at]:
        at += 1 + data[at]
    return at + 1


def _join_webp(parts: Sequence[Path], file: BinaryIO) -> None:
    """The frames of all parts behind the header of the first."""
    file.write(b"RIFF\0\0\0\0WEBP")
    for place, part in enumerate(parts):
        data = part.read_bytes()
        at = 12
        while at < len(data):
            name, size = struct.unpack_from("<4sI", data, at)
            end = at + 8 + size + size % 2
            if place == 0 or name == b"ANMF":
                file.write(data[at:end])
            at = end
    size = file.tell() - 8
    file.seek(4)
    file.write(struct.pack("<I", size))


def _join_apng(parts: Sequence[Path], file: BinaryIO) -> None:
    """The frames of all parts, numbered on; only the very first picture is a PNG's own."""
    frames, number = 0, 0
    for place, part in enumerate(parts):
        for name, body in _png_chunks(part.read_bytes()):
            if name == b"acTL":
                frames += struct.unpack_from(">I", body)[0]
            elif name in (b"fcTL", b"fdAT"):
                body = struct.pack(">I", number) + body[4:]
                number += 1
            elif name == b"IDAT" and place > 0:
                name, body = b"fdAT", struct.pack(">I", number) + body
                number += 1
            if place == 0 and name == b"IHDR":
                file.write(b"\x89PNG\r\n\x1a\n")
            if (place == 0 and name != b"IEND") or name in (b"fcTL", b"fdAT"):
                if name == b"acTL":
                    count_at, plays = file.tell(), body[4:]
                _write_png_chunk(file, name, body)
    _write_png_chunk(file, b"IEND", b"")
    file.seek(count_at)
    _write_png_chunk(file, b"acTL", struct.pack(">I", frames) + plays)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        yield name, data[at + 8 : at + 8 + size]
        at += 12 + size


def _write_png_chunk(file: BinaryIO, name: bytes, body: bytes) -> None:
    check = zlib.crc32(body, zlib.crc32(name))
    file.write(struct.pack(">I", len(body)) + name + body + struct.pack(">I", check))
