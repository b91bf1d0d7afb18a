"""Reads a page as a browser's parser does."""

from __future__ import annotations

import json
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from replay.webpage.frame_block import FrameBlock, unpack_frame, unpack_picture


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
    follows = zlib.decompress(packed)[0] & 2
    before = frame_of(manifest, blocks, layer, frame - 1, source) if follows else None
    shape = (len(about["channels"]), *about["shape"])
    return unpack_frame(packed, shape, about["step" if follows else "key_step"], before)


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
