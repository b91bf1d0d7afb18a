"""A page's HTML: the template, filled, under a policy that lets nothing in from outside.

Nothing that comes from a file can end the script block in which it stands, and the page's own
script makes text nodes of it, never markup.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from replay.raster.palette import THEMES, Theme

_STYLES = ("style.css", "narrow.css")
_SCRIPTS = (
    "state.js",
    "codec.js",
    "blocks.js",
    "scale.js",
    "views.js",
    "maps.js",
    "frame.js",
    "time.js",
    "enlarged.js",
    "layers.js",
    "settings.js",
    "address.js",
    "live.js",
    "start.js",
)
"""The parts of the page's script, in their order: they share one scope."""

_ESCAPE = b"\x01"


def render(
    title: str,
    manifest: dict[str, Any],
    blocks: Sequence[tuple[str, bytes]],
    live: bool = False,
    opening: Collection[str] = (),
) -> bytes:
    r"""Returns the HTML document.

    Nothing that comes from a file can end the script block that it stands in: in the JSON every
    `<` is written as `\u003c`, and blocks have none. The policy lets nothing run but the page's own
    script, and nothing be fetched. What the page opens with stands before its script, and the rest
    behind it: that much a browser has read when the first picture is drawn.

    Args:
        title: The document's title.
        manifest: JSON's types.
        blocks: An id and the bytes of each block.
        live: Whether the page may ask the server that it comes from for blocks.
        opening: The ids of the blocks that it opens with.
    """
    text = _assemble()
    style, script = (
        _digest(re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)) for tag in ("style", "script")
    )
    policy = (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )
    if live:
        policy += "; connect-src 'self'"
    data = json.dumps(manifest, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    data = data.replace("<", "\\u003c")
    pieces = [f'<script type="application/json" id="manifest">{data}</script>']
    pieces += [_element(name, block) for name, block in blocks if name in opening]
    rest = [_element(name, block) for name, block in blocks if name not in opening]
    head, inside, tail = re.split("<!--DATA-->|<!--REST-->", text)
    head = head.replace("POLICY", policy, 1).replace("TITLE", html.escape(title), 1)
    parts = [head.rstrip("\n"), *pieces, inside.strip("\n"), *rest, tail.lstrip("\n")]
    return "\n".join(parts).encode("utf-8")


def _element(name: str, block: bytes) -> str:
    return f'<script type="application/octet-stream" id="{name}">{seven_bits(block)}</script>'


def seven_bits(data: bytes) -> str:
    """Returns bytes as text of 7 bits a character, which takes an eighth less than base64.

    Three characters cannot stand in a script block of HTML, or not for themselves: NUL, the
    carriage return and `<`. They and the escape are written as the escape and a letter.
    `page/codec.js` reads it.
    """
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    padded = np.zeros(-(-len(bits) // 7) * 7, np.uint8)
    padded[: len(bits)] = bits
    symbols = np.packbits(padded.reshape(-1, 7), axis=1)[:, 0] >> 1
    text: bytes = symbols.tobytes()
    text = text.replace(_ESCAPE, _ESCAPE + b"A")
    for letter, each in zip(b"BCD", (b"\0", b"\r", b"<"), strict=True):
        text = text.replace(each, _ESCAPE + bytes([letter]))
    return text.decode("ascii")


def _assemble() -> str:
    """Returns the page without its contents: the markup, with its style and its script in it."""
    folder = Path(__file__).with_name("page")
    markup, style, script = (
        "".join((folder / name).read_text(encoding="utf-8") for name in names)
        for names in (("page.html",), _STYLES, _SCRIPTS)
    )
    style, script = _lean(style), _lean(script)
    style = style.replace("/*LIGHT*/", _properties(THEMES["light"]))
    style = style.replace("/*DARK*/", _properties(THEMES["dark"]))
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    return markup.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)


def _lean(text: str) -> str:
    """Returns styles or scripts without what a browser skips: indents, lines that are remarks."""
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//")) + "\n"


def _digest(found: re.Match[str] | None) -> str:
    assert found is not None
    return "sha256-" + base64.b64encode(hashlib.sha256(found.group(1).encode()).digest()).decode()


def _properties(theme: Theme) -> str:
    """Returns a theme as CSS properties, with the steps between paper and ink that pictures use."""

    def mixed(steps: int) -> str:
        pairs = zip(theme.paper, theme.ink, strict=True)
        return _rgb(*(round(a + (b - a) * steps / 8) for a, b in pairs))

    return (
        f"--paper: {_rgb(*theme.paper)}; --ink: {_rgb(*theme.ink)}; --muted: {mixed(5)}; "
        f"--faint: {mixed(1)}; --line: {mixed(2)}; --accent: {_rgb(*theme.accent)}; "
        f"--second: {_rgb(*theme.second)}; --warning: {_rgb(*theme.warning)};"
    )


def _rgb(red: int, green: int, blue: int) -> str:
    return f"rgb({red}, {green}, {blue})"
