"""A server of this machine that answers as the Hugging Face Hub and GitHub do, for one folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

from serving import Served, running

SIGNATURE = "X-Amz-Signature=0123secret0123"
_COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _handler(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """What `HfFileSystem` and `GithubFileSystem` ask of the repository `lab/runs`."""

        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Says nothing."""

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def do_GET(self) -> None:
            served.requests += 1
            path, _, query = unquote(self.path).partition("?")
            if served.fail_from < served.requests <= served.fail_until:
                self.close_connection = True
            elif "/lab/runs" not in path and not path.startswith("/stored/"):
                self._send(404, {"error": "Repository not found"}, ("X-Error-Code", "RepoNotFound"))
            elif path.startswith("/stored/"):
                self._stored(path.removeprefix("/stored/"), query)
            elif "/resolve/" in path:
                where = f"{served.address}stored/{path.rpartition('/')[2]}?{SIGNATURE}"
                self._send(302, {}, ("Location", where))
            elif "/git/trees/" in path:
                self._send(200, {"tree": self._listed("blob")})
            elif "/contents/" in path:
                where = f"{served.address}stored/{path.rpartition('/')[2]}?{SIGNATURE}"
                self._send(200, {"content": "", "download_url": where})
            elif "/tree/" in path or "/paths-info/" in path:
                self._send(200, self._listed("file"))
            else:
                self._send(200, {"id": "lab/runs", "sha": _COMMIT, "siblings": []})

        def _listed(self, kind: str) -> list[dict[str, object]]:
            about = {"type": kind, "oid": _COMMIT, "sha": _COMMIT, "mode": "100644"}
            files = sorted(served.folder.iterdir())
            return [{**about, "path": each.name, "size": each.stat().st_size} for each in files]

        def _stored(self, name: str, query: str) -> None:
            path = served.folder / name
            if query != SIGNATURE or not path.is_file() or served.forbidden:
                self._send(403, {"error": f"no access to {self.path}"})
                return
            served.send(self, path, self.command != "HEAD")

        def _send(self, status: int, document: object, *headers: tuple[str, str]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            for name, value in (("Content-Type", "application/json"), *headers):
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler


@contextmanager
def hub_server(folder: Path) -> Iterator[Served]:
    """Serves a folder as the repository `lab/runs`, until the end of the block."""
    served = Served(folder)
    with running(served, _handler(served)):
        yield served
