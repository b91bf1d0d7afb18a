"""Reads a page as a browser's parser does."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path


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
