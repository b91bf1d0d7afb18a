"""What `watch` waits for, and the browser that it opens."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from replay.cli.console import say
from replay.schema import FileError
from replay.schema.addresses import is_address

_Opened = TypeVar("_Opened")

_EVERY = 0.3  # seconds between two looks
_PATIENCE = 20.0  # seconds in which a file that has just turned up becomes a recording


def wait_for(path: str, open_it: Callable[[], _Opened]) -> _Opened:
    """Returns what opens a recording, once there is one.

    Args:
        path: Where it will be.
        open_it: Opens it; called again as long as what has just turned up is not whole.

    Raises:
        FileError: There is no folder in which it could turn up, or what is there is no recording.
    """
    if is_address(path):
        return open_it()
    folder = Path(path).parent
    if Path(path).exists():
        return open_it()
    if not folder.is_dir():
        raise FileError(
            f"no such file: {path}; there is no folder {folder} in which to wait for it"
        )
    say("note", f"{path} does not exist yet; waiting for a training to write it, Ctrl-C ends this")
    while not Path(path).exists():
        time.sleep(_EVERY)
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return open_it()
        except FileError:
            if time.monotonic() > end:
                raise
        time.sleep(_EVERY)


def open_browser(address: str) -> bool:
    """Opens a page in the user's browser; returns whether there is one that can show it."""
    displays = ("DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in displays):
        return False  # a browser in the terminal cannot show it
    import webbrowser

    try:
        return webbrowser.open(address)
    except webbrowser.Error:
        return False
