"""The live page's server: what it answers, to whom, and that it keeps up with a growing file."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.maps.adaptive import OwnRanges
from replay.maps.axes import Maps
from replay.schema import FileError, OptionError, SelectionError
from replay.webpage.frame_block import unpack_frame, unpack_picture
from replay.webpage.live import Live
from replay.webpage.server import Server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recording(
        tmp_path / "run.h5",
        {"conv1": drifting_maps(4, 12, 10), "conv2": drifting_maps(2, 5, 5)},
        kernels={"conv1": lambda e, b: np.full((4, 3, 3, 3), 0.5)},
        fields={"label": lambda e, b: b},
    )


def test_a_fixed_image_that_is_seldom_shown_has_the_loss_of_all_batches(tmp_path: Path) -> None:
    maps = drifting_maps(3, 16, 16)
    fixed = (maps(0, 0), {"conv1": lambda e, b: maps(e, b) if b == 1 else None})
    path = write_recording(tmp_path / "run.h5", {"conv1": maps}, probes=[fixed], closed=False)
    with Live(path) as live:
        frames = live.frames(1, source=1)
        assert frames is not None
        assert (frames["epoch"], frames["batch"], frames["ends"]) == ([1], [1], [0, 1])
        curve = frames["curve"]
        assert len(curve["y"]) == 8
        assert frames["at"] == pytest.approx([curve["x"][1], curve["x"][5]], abs=1e-5)


WRITER = """
import sys, h5py
with h5py.File(sys.argv[1], "r+", libver=("v110", "v110")) as file:
    file.swmr_mode = True
    state = file["state"]
    for line in sys.stdin:
        state[0] = int(line)
        state[3] = 0
        state.flush()
        print("done", flush=True)
"""


class Writer:
    """Another process that has the recording open for writing, and commits frames when told."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def commit(self, count: int) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def close(self) -> None:
        self.process.communicate(timeout=20)


@pytest.fixture
def writer(path: Path) -> Iterator[Writer]:
    writer = Writer(path)
    writer.commit(3)
    yield writer
    writer.close()


@pytest.fixture
def server(path: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("replay.webpage.live._FRESH", 0.0)
    with Server(Live(path)) as server:
        thread = threading.Thread(target=server.serve)
        thread.start()
        yield server
        server.stop()
        thread.join()


def get(
    server: Server, target: str, method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    host = server.url.split("/")[2]
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.request(method, target, headers={"Host": host, **headers})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


def test_state_frames_and_blocks(server: Server, path: Path) -> None:
    state = json.loads(get(server, "/state")[2])
    assert state["sources"] == [{"layers": ["conv1", "conv2"], "count": 3}]
    assert state["closed"] is False
    frames = json.loads(get(server, "/frames?since=1")[2])
    assert (frames["epoch"], frames["batch"], frames["label"]) == ([0, 0], [1, 2], ["1", "2"])
    assert len(frames["curve"]["x"]) == 3

    facts, block = split(get(server, "/block/s0-layer-0-2")[2])
    assert facts is not None
    maps = drifting_maps(4, 12, 10)(0, 2)
    found = unpack_frame(block, (4, 12, 10), 1.0)
    assert (np.abs(found.values - maps) <= found.stored.step[:, None, None] * 0.51).all()
    assert (facts["reach"], set(found.kernels)) == (0.5, {255})
    assert len(facts["channel"]) == 4
    none, packed = split(get(server, "/block/s0-layer-1-extremes")[2])
    extremes = np.frombuffer(zlib.decompress(packed), "<f4")
    assert none is None
    assert extremes.reshape(3, 2, 2)[2, 1, 1] == drifting_maps(2, 5, 5)(0, 2)[1].max()
    assert unpack_picture(split(get(server, "/block/s0-input-0")[2])[1], (32, 32), 1.0).any()


def split(body: bytes) -> tuple[dict | None, bytes]:
    """The facts before a block, and the block."""
    size = int.from_bytes(body[:4], "little")
    return json.loads(body[4 : 4 + size]), body[4 + size :]


def test_fixed_images_are_served_beside_the_first_of_each_batch(tmp_path: Path) -> None:
    fixed = drifting_maps(4, 12, 10)(0, 0)
    path = write_recording(
        tmp_path / "run.h5",
        {"conv1": drifting_maps(4, 12, 10)},
        probes=[(np.ones((3, 8, 8)), {"conv1": lambda e, b: fixed * (1 + 0.01 * (4 * e + b))})],
        meta={"probe": [{"label": 3}]},
    )
    with Live(path) as live:
        assert [each["count"] for each in live.state()["sources"]] == [8, 8]
        text = live.page().decode("utf-8")
        manifest = json.loads(re.search(r'id="manifest">(.*?)</script>', text)[1])
        assert (manifest["first"], manifest["sources"][1]["key"]) == (1, "probe-0")
        assert live.frames(6, 1)["label"] == ["3", "3"]
        assert live.frames(0, 2) is None
        assert live.block("s2-layer-0-0") is None
        last, one_before = (
            unpack_frame(split(live.block(f"s1-layer-0-{place}"))[1], (4, 12, 10), 1.0)
            for place in (7, 6)
        )
        with replay.open(path) as recording:
            series = recording.probe(0)["conv1"]
            before, around = (
                OwnRanges(Maps(series), range(4), "adaptive", trailing=trailing)
                for trailing in (True, False)
            )
            for cell, block in (((1, 3), last), ((1, 2), one_before)):
                np.testing.assert_allclose(block.bounds, before.show(cell).bounds, rtol=1e-5)
            assert (around.show((1, 2)).bounds != before.show((1, 2)).bounds).any()
    with Live(path, probe=4) as live, pytest.raises(SelectionError, match="no fixed image 4"):
        live.page()


def test_it_keeps_up(server: Server, writer: Writer) -> None:
    assert get(server, "/block/s0-layer-0-5")[0] == 404
    writer.commit(8)
    assert json.loads(get(server, "/state")[2])["sources"][0]["count"] == 8
    frames = json.loads(get(server, "/frames?since=3")[2])
    assert frames["epoch"] == [0, 1, 1, 1, 1]
    assert frames["breaks"] == [round(4 / 7, 6)]
    assert get(server, "/block/s0-layer-0-5")[0] == 200


def test_the_page_may_ask_its_own_server_only(server: Server) -> None:
    status, headers, body = get(server, "/")
    text = body.decode()
    assert status == 200
    assert "connect-src 'self'" in text
    assert "default-src 'none'" in text
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert server.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("target", ["/", "/state", "/frames?since=0", "/block/s0-layer-0-0"])
def test_another_name_for_this_computer_is_turned_away(server: Server, target: str) -> None:
    port = server.url.rstrip("/").rpartition(":")[2]
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""):
        assert get(server, target, Host=host)[0] == 403
    assert get(server, target, Host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize(
    "target",
    [
        "/run.h5",
        "/../run.h5",
        "/block/",
        "/block/layer-0-0",
        "/block/s0-layer-9-0",
        "/block/s0-layer-0-999999",
        "/block/s0-layer-0--1",
        "/block/s9-layer-0-0",
        "/block/../state",
        "/frames?since=-1",
        "/frames?since=x",
        "/frames?since=0&source=1",
        "/frames?since=0&source=-1",
        "/state/",
    ],
)
def test_nothing_else_is_there(server: Server, target: str) -> None:
    assert get(server, target)[0] == 404


def test_nothing_can_be_changed(server: Server) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert get(server, "/state", method)[0] == 501


def test_a_file_that_goes_away_is_an_answer_and_coming_back_is_noticed(
    server: Server, path: Path
) -> None:
    moved = path.rename(path.with_name("moved.h5"))
    path.write_text("something else")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("replay.webpage.live.Recording.refresh", _gone)
        status, _, body = get(server, "/state")
        assert status == 503
        assert "not an HDF5 file" in json.loads(body)["error"]
    moved.rename(path)
    assert get(server, "/state")[0] == 200


def _gone(_: object) -> None:
    raise FileError("gone")


def test_what_cannot_be_served(path: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError):
        Live(tmp_path / "none.h5")
    with pytest.raises(OptionError, match="unknown colormap"):
        Live(path, cmap="virdis")
    with pytest.raises(SelectionError, match="conv9"):
        Live(path, layers="conv9").page()
    with Server(Live(path)) as first:
        port = int(first.url.rstrip("/").rpartition(":")[2])
        with pytest.raises(OptionError, match=f"cannot listen on port {port}"):
            Server(Live(path), port)


def test_the_command_on_bad_input(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(path.parent)
    for words, message in (
        ("watch none/run.h5", "no folder none in which to wait"),
        ("watch run.h5 --port 99999", "expected a port"),
        ("watch run.h5 --port 0 --layer conv9", "recorded: conv1, conv2"),
        ("watch run.h5 --port 0 --channels 9", "no channel 9"),
    ):
        assert main(words.split()) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert message in err


def thinned(path: Path, run_id: str, meta: dict | None = None) -> None:
    """Puts a file in a recording's place that has every second frame of it."""
    other = write_recording(
        path.with_name("other.h5"),
        {"conv1": drifting_maps(4, 12, 10), "conv2": drifting_maps(2, 5, 5)},
        recorded=lambda epoch, batch: batch % 2 == 0,
        run_id=run_id,
        meta=meta,
        closed=False,
    )
    other.replace(path)


@pytest.mark.parametrize("run_id", ["0123456789abcdef0123456789abcdef", "another"])
def test_frames_that_were_taken_out_are_numbered_anew_and_the_page_is_told(
    server: Server, path: Path, writer: Writer, run_id: str
) -> None:
    """By a budget, or by another run that was allowed to overwrite this one."""
    before = json.loads(get(server, "/state")[2])
    for number in range(3):
        get(server, f"/block/s0-layer-0-{number}")
    thinned(path, run_id)
    after = json.loads(get(server, "/state")[2])
    assert after["run"] != before["run"]  # then it loads itself again
    assert after["sources"][0]["count"] == 4
    frames = json.loads(get(server, "/frames?since=0")[2])
    assert frames["batch"] == [0, 2, 0, 2]
    for number, cell in enumerate([(0, 0), (0, 2), (1, 0), (1, 2)]):
        facts, block = split(get(server, f"/block/s0-layer-0-{number}")[2])
        assert facts is not None
        maps = drifting_maps(4, 12, 10)(*cell)
        found = unpack_frame(block, (4, 12, 10), 1.0)
        assert (np.abs(found.values - maps) <= found.stored.step[:, None, None] * 0.51).all()
    assert json.loads(get(server, "/state")[2])["run"] == after["run"]


def test_a_run_that_is_resumed_is_another_one_for_the_page(
    server: Server, path: Path, writer: Writer
) -> None:
    """Its frames may have other values under the same numbers."""
    run_id = "0123456789abcdef0123456789abcdef"
    thinned(path, run_id)
    before = json.loads(get(server, "/state")[2])["run"]
    thinned(path, run_id, {"resumed": [{"epoch": 1}]})
    assert json.loads(get(server, "/state")[2])["run"] != before
