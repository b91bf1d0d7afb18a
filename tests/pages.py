"""Reads a page as a browser's parser does."""

from __future__ import annotations

import json
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from replay.webpage.frame_block import FrameBlock, unpack_frame, unpack_picture
from replay.webpage.picture_filters import Picture


class Reader(HTMLParser):
    """What a browser's parser makes of it: the tags, and the text of script blocks by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.blocks: dict[str, str] = {}
        self._inside: str | None = None
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        self._inside = (dict(attrs).get("id") or "code") if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.blocks[self._inside] = self.blocks.get(self._inside, "") + data


def read(path: Path) -> tuple[dict, Reader]:
    reader = Reader(path.read_text(encoding="utf-8"))
    return json.loads(reader.blocks["manifest"]), reader


def bytes_of(text: str) -> bytes:
    """The bytes of a block, from its text of seven bits a character."""
    symbols, plain = [], iter(text)
    for character in plain:
        escaped = character == "\x01"
        symbols.append("\x01\0\r<"[ord(next(plain)) - 65] if escaped else character)
    bits = np.unpackbits(np.frombuffer("".join(symbols).encode("ascii"), np.uint8)).reshape(-1, 8)
    whole = bits[:, 1:].ravel()
    return np.packbits(whole[: len(whole) // 8 * 8]).tobytes()


def frame_of(
    manifest: dict, blocks: dict[str, str], layer: int, frame: int, source: int = 0
) -> FrameBlock:
    """What a page holds of a frame of a layer, by its blocks' texts."""
    about = manifest["sources"][source]["layers"][layer]
    packed = bytes_of(blocks[f"s{source}-layer-{layer}-{frame}"])
    flags = zlib.decompress(packed)[0]
    follows, told = flags & 2, flags & 4
    before = frame_of(manifest, blocks, layer, frame - 1, source) if follows else None
    picture = None
    if told:
        fixed = manifest["sources"][source]["input"]["fixed"]
        colours = picture_of(manifest, blocks, 0 if fixed else frame, source).transpose(2, 0, 1)
        beyond = tuple(about["beyond"])
        picture = Picture(colours[: len(beyond)].astype(np.int32), beyond)
    shape = (len(about["channels"]), *about["shape"])
    step = about["step" if follows else "key_step"]
    return unpack_frame(packed, shape, step, before, picture)


def is_told(blocks: dict[str, str], layer: int, frame: int, source: int = 0) -> bool:
    """Whether a frame of a layer is told from its input picture."""
    packed = bytes_of(blocks[f"s{source}-layer-{layer}-{frame}"])
    return bool(zlib.decompress(packed)[0] & 4)


def picture_of(manifest: dict, blocks: dict[str, str], frame: int, source: int = 0) -> np.ndarray:
    """The input picture that a page holds, uint8 (H, W, 3)."""
    about = manifest["sources"][source]["input"]
    return unpack_picture(
        bytes_of(blocks[f"s{source}-input-{frame}"]), about["shape"], about["step"]
    )


def facts_of(body: bytes) -> dict[str, Any]:
    """Returns the facts of a layer's frame that stand before a block of a live page."""
    size = int.from_bytes(body[:4], "little")
    facts: dict[str, Any] = json.loads(body[4 : 4 + size])
    return facts
