"""Writes a recording as a page for a browser, or serves it while training still writes.

To be imported from here:

- `page` writes one HTML file and gives a `Page`; `canvas_pixels` is what its canvases show;
- `Live` is a recording that grows, and `Server` serves it as a page.
"""

from replay.webpage.document import Page, canvas_pixels, page
from replay.webpage.live import Live
from replay.webpage.server import Server

__all__ = ["Live", "Page", "Server", "canvas_pixels", "page"]
