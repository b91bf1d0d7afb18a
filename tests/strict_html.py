"""HTML that is read strictly: every tag is closed."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

from PIL import Image


class Strict(HTMLParser):
    """Collects tags and text; `open` holds what was not closed."""

    VOID = ("br", "img", "meta")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data + "\n"

    def picture(self) -> Image.Image:
        source = next(attributes["src"] for tag, attributes in self.tags if tag == "img")
        assert source is not None
        return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
