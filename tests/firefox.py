"""Firefox without a window, driven by its own Marionette: no geckodriver, no package.

with Firefox() as firefox:
    firefox.open("file:///tmp/page.html")
    firefox.run("document.title")
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

EXECUTABLE = next(
    (found for name in ("firefox-esr", "firefox") if (found := shutil.which(name))), None
)
_PATIENCE = 90.0  # seconds until it answers
_SETTINGS = {
    "marionette.port": 0,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "network.proxy.type": 1,  # a proxy that is not there: nothing is fetched
    "network.proxy.socks": "127.0.0.1",
    "network.proxy.socks_port": 9,
}


class Firefox:
    """A browser with a new, empty profile; closed with the `with` block."""

    def __enter__(self) -> Firefox:
        assert EXECUTABLE is not None
        self._profile = Path(tempfile.mkdtemp(prefix="firefox-"))
        lines = (f'user_pref("{key}", {json.dumps(value)});' for key, value in _SETTINGS.items())
        (self._profile / "user.js").write_text("\n".join(lines))
        self._process = subprocess.Popen(
            [EXECUTABLE, "--headless", "--marionette", "--profile", str(self._profile)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._numbers = itertools.count(1)
        self._socket = self._connect()
        self._read()  # what it is
        self.call("WebDriver:NewSession")
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self.call("Marionette:Quit", flags=["eForceQuit"])
        self._socket.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, url: str) -> None:
        """Shows a page, once it has loaded."""
        self.call("WebDriver:Navigate", url=url)

    def run(self, code: str) -> Any:
        """The value of an expression."""
        return self.call("WebDriver:ExecuteScript", script=f"return {code};", args=[])["value"]

    def wait(self, condition: str, seconds: float = 60.0) -> None:
        """Until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise TimeoutError(f"still not so: {condition}")
            time.sleep(0.05)

    def call(self, command: str, **parameters: Any) -> Any:
        """One command and its answer."""
        number = next(self._numbers)
        message = json.dumps([0, number, command, parameters])
        self._socket.sendall(f"{len(message)}:{message}".encode())
        _, answered, error, result = self._read()
        assert answered == number
        if error:
            raise RuntimeError(f"{command}: {error['error']}: {error['message']}")
        return result

    def _connect(self) -> socket.socket:
        port = self._profile / "MarionetteActivePort"
        end = time.monotonic() + _PATIENCE
        while not (port.exists() and port.read_text().strip()):
            if time.monotonic() > end or self._process.poll() is not None:
                raise RuntimeError("Firefox does not start")
            time.sleep(0.1)
        return socket.create_connection(("127.0.0.1", int(port.read_text())), _PATIENCE)

    def _read(self) -> Any:
        size = b""
        while not size.endswith(b":"):
            size += self._some(1)
        rest = int(size[:-1])
        parts = []
        while rest:
            parts.append(self._some(rest))
            rest -= len(parts[-1])
        return json.loads(b"".join(parts))

    def _some(self, size: int) -> bytes:
        part = self._socket.recv(size)
        if not part:
            raise RuntimeError("Firefox has gone")
        return part
