"""Clients that are no browsers: many, idle, gone, or saying nonsense."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from samples import drifting_maps, write_recording

from replay.schema import OptionError
from replay.webpage import server as module
from replay.webpage.live import Live
from replay.webpage.server import Server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "run.h5", {"conv1": drifting_maps(2, 5, 5)})


@pytest.fixture
def server(path: Path) -> Iterator[Server]:
    with Server(Live(path)) as server:
        thread = threading.Thread(target=server.serve)
        thread.start()
        yield server
        server.stop()
        thread.join()


def connect(server: Server) -> socket.socket:
    host, port = server.url.split("/")[2].split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def say(server: Server, words: bytes) -> bytes:
    with connect(server) as client:
        client.sendall(words)
        answer = b""
        while b"\r\n\r\n" not in answer and (part := client.recv(4096)):
            answer += part
        return answer


def request(server: Server, host: str | None = None, target: str = "/state") -> bytes:
    host = server.url.split("/")[2] if host is None else host
    return say(server, f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (b"GET http://[/ HTTP/1.1\r\nHost: %s\r\n\r\n", b"400"),
        (b"GET /state HTTP/1.1\r\nHost: [\r\n\r\n", b"403"),
        (b"GET /state HTTP/1.1\r\nHost: 127.0.0.1:99999999999999999999\r\n\r\n", b"403"),
        (b"GET /state HTTP/9.9\r\n\r\n", b"505"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET /frames?since=%%FF&source=%%00 HTTP/1.1\r\nHost: %s\r\n\r\n", b"404"),
        (b"GET /\xff\xfe HTTP/1.1\r\nHost: %s\r\n\r\n", b"404"),
    ],
)
def test_nonsense_is_answered(
    server: Server, capfd: pytest.CaptureFixture[str], words: bytes, status: bytes
) -> None:
    if b"%s" in words:
        words = words % server.url.split("/")[2].encode()
    assert status in say(server, words).split(b"\r\n")[0]
    assert b" 200 " in request(server)
    assert capfd.readouterr().err == ""


def test_a_name_is_one_in_capitals_too(server: Server) -> None:
    port = server.url.rstrip("/").rpartition(":")[2]
    assert b" 200 " in request(server, f"LocalHost:{port}")


def test_browsers_leave_out_port_80(path: Path) -> None:
    try:
        listening = Server(Live(path), port=80)
    except OptionError as error:
        pytest.skip(f"not tested: {error}")
    with listening as server:
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            for host in ("localhost", "127.0.0.1", "localhost:80"):
                assert b" 200 " in request(server, host)
            for host in ("evil.example", "localhost:81", ""):
                assert b" 403 " in request(server, host)
        finally:
            server.stop()
            thread.join()


def test_idle_clients_take_a_bounded_number_of_threads(
    server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = threading.active_count()
    with ExitStack() as stack:
        idle = [stack.enter_context(connect(server)) for _ in range(module._MOST_CLIENTS + 40)]
        deadline = time.monotonic() + 20
        while threading.active_count() < before + module._MOST_CLIENTS:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        answer = request(server)
        assert b" 503 " in answer.split(b"\r\n")[0]
        assert threading.active_count() <= before + module._MOST_CLIENTS
        assert b" 503 " in idle[-1].recv(4096).split(b"\r\n")[0]
    deadline = time.monotonic() + 20
    while b" 200 " not in request(server):  # once those are gone
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert capfd.readouterr().err == ""


def test_clients_that_go_away_are_not_worth_a_word(
    server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    host = server.url.split("/")[2]
    for _ in range(20):
        with connect(server) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
            client.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert b" 200 " in request(server)
    assert capfd.readouterr().err == ""


def test_an_idle_client_is_let_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.2)
    with Server(Live(path)) as server:
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            with connect(server) as client:
                assert client.recv(10) == b""
        finally:
            server.stop()
            thread.join()


def test_only_this_computer_can_connect(server: Server) -> None:
    port = int(server.url.rstrip("/").rpartition(":")[2])
    assert b" 200 " in request(server)
    assert server._server.socket.getsockname() == ("127.0.0.1", port)
    with socket.socket() as client:
        client.settimeout(1)
        assert client.connect_ex(("127.0.0.2", port)) != 0  # by another address of its own, even


def test_no_other_page_may_frame_it_or_guess_what_it_is(server: Server) -> None:
    said = request(server, target="/").split(b"\r\n\r\n")[0].lower()
    assert b"x-frame-options: deny" in said
    assert b"x-content-type-options: nosniff" in said
    assert b"referrer-policy: no-referrer" in said
    assert b"access-control-allow-origin" not in said
