"""The page, live: a small server on this computer, while training still writes the recording.

    GET /                   the page, without maps
    GET /state              how many frames there are, and whether the recording has ended
    GET /frames?since=N     numbers and fields of the frames from the N-th on; &source=M
    GET /block/<name>       one block of maps, as a page of its own holds them, behind its facts

Only this computer can connect, and only by the names `localhost` and `127.0.0.1`: a page elsewhere
that had its own name point here would be turned away.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from replay.recording import Closing
from replay.schema import OptionError, RecordingError
from replay.webpage.live import Live

_MOST_CLIENTS = 64  # at once; a browser opens six
_IDLE_SECONDS = 20  # without a request, after which a client is let go
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class _BoundedServer(ThreadingHTTPServer):
    """Answers each client in a thread of its own, and no more than some of them at once."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self._room = threading.BoundedSemaphore(_MOST_CLIENTS)
        super().__init__(("127.0.0.1", port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begins to answer a client, or sends it away."""
        if self._room.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except BaseException:  # no thread to be had
                self._room.release()
                raise
            return
        with contextlib.suppress(OSError):
            request.settimeout(1.0)
            request.sendall(_BUSY)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answers a client to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of clients that are gone, and one line of anything else."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            print(f"warning: a request failed: {type(error).__name__}: {error}", file=sys.stderr)


class Server(Closing):
    """Serves a recording to this computer's browsers.

        with Server(Live("run.h5"), port=0) as server:
            print(server.url)
            server.serve()

    Args:
        live: The recording.
        port: Where to listen; 0 for any that is free.

    Raises:
        OptionError: The port is taken or not allowed.
    """

    def __init__(self, live: Live, port: int = 0) -> None:
        self._live = live
        try:
            self._server = _BoundedServer(port, _handler(live))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OptionError(
                f"cannot listen on port {port} ({reason}); choose another, or 0 for any"
            ) from error

    def close(self) -> None:
        """Stops listening and closes the recording."""
        self._server.server_close()
        self._live.close()

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def serve(self) -> None:
        """Answers until `stop` or Ctrl-C."""
        self._server.serve_forever(poll_interval=0.2)

    def stop(self) -> None:
        """Makes `serve` return."""
        self._server.shutdown()


def _handler(live: Live) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version = "mapreel"
        sys_version = ""
        protocol_version = "HTTP/1.1"
        timeout = _IDLE_SECONDS

        def do_GET(self) -> None:
            port = self.connection.getsockname()[1]
            host, _, said = self.headers.get("Host", "").lower().partition(":")
            if host not in ("127.0.0.1", "localhost") or (said or "80") != str(port):
                self._answer(HTTPStatus.FORBIDDEN, b"not this host", "text/plain")
                return
            try:
                address = urlsplit(self.path)
            except ValueError:
                self._answer(HTTPStatus.BAD_REQUEST, b"no address", "text/plain")
                return
            try:
                self._find(address.path, parse_qs(address.query))
            except RecordingError as error:
                self._json({"error": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE)

        def _find(self, path: str, query: dict[str, list[str]]) -> None:
            if path == "/":
                self._answer(HTTPStatus.OK, live.page(), "text/html; charset=utf-8")
            elif path == "/state":
                self._json(live.state())
            elif path == "/frames" and (frames := self._frames(query)) is not None:
                self._json(frames)
            elif path.startswith("/block/") and (found := live.block(path[len("/block/") :])):
                self._answer(HTTPStatus.OK, found, "application/octet-stream")
            else:
                self._answer(HTTPStatus.NOT_FOUND, b"not here", "text/plain")

        def _frames(self, query: dict[str, list[str]]) -> dict[str, Any] | None:
            since, source = (query.get(name, ["0"])[0] for name in ("since", "source"))
            if not re.fullmatch(r"\d{1,9}", since) or not re.fullmatch(r"\d{1,4}", source):
                return None
            return live.frames(int(since), int(source))

        def _json(self, data: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
            text = json.dumps(data, allow_nan=False)
            self._answer(status, text.encode("ascii"), "application/json")

        def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
            self.send_response(status)
            headers = {
                "Content-Type": kind,
                "Content-Length": str(len(body)),
                "Cache-Control": "no-store",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
                "X-Frame-Options": "DENY",
            }
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Says nothing: a request a second is not worth a line."""

    return Handler
