"""Servers of this machine that recordings are read from: HTTP with and without ranges, S3."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Served:
    """A folder that is served by HTTP.

    Attributes:
        address: Of the folder, with a slash at its end.
        sent: Bytes of bodies that were sent.
        requests: Number of requests.
        fail_from: The request, counted from 0, from which on connections break.
        fail_until: The request from which on they no longer do.
        ranges: Whether ranges are served.
        forbidden: Whether nobody may read anything any more.
    """

    def __init__(self, folder: Path, ranges: bool = True) -> None:
        self.folder, self.ranges = folder, ranges
        self.sent = self.requests = 0
        self.fail_from, self.fail_until = 1 << 40, 1 << 40
        self.address = ""
        self.forbidden = False

    def send(self, request: BaseHTTPRequestHandler, path: Path, body: bool = True) -> None:
        """Sends a file, or the range of it that was asked for."""
        size = path.stat().st_size
        start, stop = 0, size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if asked and self.ranges:
            start, stop = int(asked[1]), min(int(asked[2] or size) + 1, size)
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        else:
            request.send_response(200)
        if self.ranges:
            request.send_header("Accept-Ranges", "bytes")
        request.send_header("Content-Length", str(stop - start))
        request.end_headers()
        if not body:
            return
        with path.open("rb") as file:
            file.seek(start)
            left = stop - start
            while left:
                data = file.read(min(left, 1 << 20))
                try:
                    request.wfile.write(data)
                except OSError:
                    request.close_connection = True
                    return
                left -= len(data)
                self.sent += len(data)


def _handler(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Says nothing."""

        def do_HEAD(self) -> None:
            self._answer(False)

        def do_GET(self) -> None:
            self._answer(True)

        def _answer(self, body: bool) -> None:
            served.requests += 1
            if served.fail_from < served.requests <= served.fail_until:
                self.close_connection = True
                return
            path = served.folder / self.path.partition("?")[0].strip("/")
            if not path.is_file():
                self.send_error(404)
                return
            served.send(self, path, body)

    return Handler


@contextmanager
def http_server(folder: Path, ranges: bool = True) -> Iterator[Served]:
    """Serves a folder by HTTP until the end of the block."""
    served = Served(folder, ranges)
    with running(served, _handler(served)):
        yield served


@contextmanager
def running(served: Served, handler: type[BaseHTTPRequestHandler]) -> Iterator[None]:
    """Answers requests until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    served.address = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
