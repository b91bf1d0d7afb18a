"""Recordings that are not on this machine: read by their address, no more of them than is shown."""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from samples import drifting_maps, write_recording
from serving import Served, http_server

import replay
from replay.__main__ import main
from replay.recording.address import Address, read_path
from replay.recording.info import describe
from replay.schema import FileError, OutputError, RecordingError
from replay.schema.errors import UnreachableError

pytest.importorskip("fsspec", reason="fsspec is not installed; pip install 'mapreel[remote]'")
pytest.importorskip("aiohttp", reason="aiohttp is not installed; pip install 'mapreel[remote]'")

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    there = tmp_path / "there"
    there.mkdir()
    maps = {"conv1": drifting_maps(8, 96, 96), "conv2": drifting_maps(4, 8, 8, seed=1)}
    probes = [(np.zeros((3, 8, 8), "f2"), maps)]
    return write_recording(there / "run.h5", maps, epochs=4, batches=5, probes=probes)


@pytest.fixture
def served(run: Path) -> Iterator[Served]:
    with http_server(run.parent) as server:
        yield server


def test_what_an_address_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in ("s3://bucket/a/run.h5", "https://user:secret@host:80/a/run.h5?sign=secret"):
        address = read_path(words)
        assert isinstance(address, Address)
        assert (address.name, address.stem, address.suffix) == ("run.h5", "run", ".h5")
        assert "secret" not in str(address) + repr(address) + os.fspath(address)
        assert address.with_suffix(".mp4") == Path("run.mp4")
        assert address.with_name("x.h5") == Path("x.h5")
        assert address.absolute() == address == pickle.loads(pickle.dumps(address))
        assert address.parent.name == "a"
    assert (
        str(read_path("https://user:secret@host:80/a/run.h5?sign=x")) == "https://host:80/a/run.h5"
    )
    for words in ("C:\\runs\\run.h5", "C:/runs/run.h5", "C://runs/run.h5", "a:b/run.h5", "run.h5"):
        assert not isinstance(read_path(words), Address)
    assert read_path("file:///tmp/a%20b.h5") == Path("/tmp/a b.h5")


def test_a_frame_is_the_same_from_far_away(run: Path, served: Served) -> None:
    with replay.open(run) as near, replay.open(f"{served.address}run.h5") as far:
        assert far.layers == near.layers
        assert np.array_equal(far["conv1"][3, -1], near["conv1"][3, -1])
        assert np.array_equal(far.inputs[0, 0], near.inputs[0, 0], equal_nan=True)
        assert np.array_equal(far.probe()["conv2"][1, 2], near.probe()["conv2"][1, 2])
        assert describe(far)["file_bytes"] == run.stat().st_size
        far.refresh()
        assert far.frames == near.frames


@pytest.mark.parametrize(
    "words",
    [
        ["info"],
        ["verify"],
        ["health"],
        ["animate", "--epochs", "0"],
        ["animate", "-o", "run.webp", "--jobs", "2", "--alt", "--poster"],
        ["grid"],
        ["sheet", "--width", "full"],
        ["page"],
        ["export", "-o", "maps.npz"],
        ["repair", "-o", "repaired.h5"],
        ["pack", "-o", "small.h5"],
        ["push", "--to", "folder=out"],
        ["fetch"],
    ],
    ids=lambda words: words[0],
)
def test_every_command_takes_an_address(
    words: list[str], served: Served, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"{served.address}run.h5"
    code = main([words[0], address, *words[1:]])
    said = capsys.readouterr()
    assert code == 0, said.err
    made = {path.name for path in elsewhere.iterdir()}
    expected = {
        "animate": {"run.mp4"}
        if "-o" not in words
        else {"run.webp", "run.alt.txt", "run.poster.png"},
        "grid": {"run-grid.png"},
        "sheet": {"run-sheet.png"},
        "page": {"run.html"},
        "export": {"maps.npz"},
        "repair": {"repaired.h5"},
        "pack": {"small.h5"},
        "push": {"out"},
        "fetch": {"run.h5"},
    }
    assert made == expected.get(words[0], set())


def test_two_recordings_from_two_places(run: Path, served: Served, elsewhere: Path) -> None:
    far = f"{served.address}run.h5"
    film = replay.compare(far, run, difference=True)
    assert film.path == Path("run-run.mp4")
    assert film.path.exists()
    made = replay.page([far, str(run)])
    assert made.path == Path("run.html")


def test_a_film_reads_little_more_than_it_shows(run: Path, served: Served) -> None:
    with replay.open(f"{served.address}run.h5") as far:
        film = replay.animate(far, "run.gif", epochs="0:3")
        shown = film.frames * (far["conv1"].layer.nbytes + 3 * 32 * 32 * 2)
    assert film.frames == 15
    assert served.sent < 2 * shown


def test_a_film_from_far_away_is_the_same(run: Path, served: Served) -> None:
    far = replay.animate(f"{served.address}run.h5", "far.mp4", epochs="0:2")
    near = replay.animate(run, "near.mp4", epochs="0:2")
    assert far.path.read_bytes() == near.path.read_bytes()


@pytest.mark.parametrize("bits", [8, 16])
def test_a_packed_recording_is_read_by_its_address(run: Path, served: Served, bits: int) -> None:
    packed = replay.pack(run, run.with_name("small.h5"), bits=bits).path
    with replay.open(packed) as near, replay.open(f"{served.address}small.h5") as far:
        assert np.array_equal(far["conv1"][3, 2], near["conv1"][3, 2])
    assert replay.verify(f"{served.address}small.h5")
    assert served.sent < 2 * packed.stat().st_size


def test_info_of_ten_gigabytes_reads_less_than_twenty_megabytes(tmp_path: Path) -> None:
    """A sparse file: room for every frame, of which nearly none was written."""
    epochs, batches, layers, shape = 25, 250, 1, (48, 128, 128)
    path = write_recording(
        tmp_path / "run.h5",
        {f"conv{n}": lambda e, b: np.ones((1, 2, 2), "f2") for n in range(layers)},
        epochs=epochs,
        batches=batches,
        image=None,
    )
    with h5py.File(path, "r+") as file:
        for name in list(file["maps"]):
            about = dict(file["maps"][name].attrs)
            del file["maps"][name]
            plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plan.set_chunk((1, 1, *shape))
            plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            space = h5py.h5s.create_simple(
                (epochs, batches, *shape), (h5py.h5s.UNLIMITED, h5py.h5s.UNLIMITED, *shape)
            )
            kind = h5py.h5t.py_create(np.dtype("<f2"))
            h5py.h5d.create(file["maps"].id, name.encode(), kind, space, plan)
            file["maps"][name].attrs.update(about)
    assert path.stat().st_size > 9.8e9
    with http_server(tmp_path) as server:
        assert main(["info", f"{server.address}run.h5"]) == 0
        assert server.sent < 20e6
        assert server.requests < 100


def test_nothing_is_downloaded_whole_unless_asked(run: Path, served: Served) -> None:
    with replay.open(f"{served.address}run.h5") as far:
        far["conv2"][0, 0]
    assert served.sent < run.stat().st_size / 2
    fetched = replay.fetch(f"{served.address}run.h5")
    assert fetched.path.read_bytes() == run.read_bytes()
    with pytest.raises(OutputError, match=r"run\.h5 exists; name another file"):
        replay.fetch(f"{served.address}run.h5")


def test_a_lost_connection_is_tried_again(run: Path, served: Served) -> None:
    with replay.open(f"{served.address}run.h5") as far:
        served.fail_from, served.fail_until = served.requests, served.requests + 1
        assert far["conv1"][2, 2].shape == (8, 96, 96)


def test_a_lost_connection_is_said_once_and_is_no_damage(
    run: Path, served: Served, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"{served.address}run.h5"
    with replay.open(address) as far:
        served.fail_from = served.requests + 3
        with pytest.raises(UnreachableError, match=f"the connection to {address} was lost"):
            replay.animate(far, "run.mp4")
        with pytest.raises(UnreachableError):
            far["conv1"][0, 1]
    assert not list(elsewhere.iterdir())
    served.fail_from, served.requests = 12, 0
    assert main(["verify", address, "--quiet"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"error: the connection to {address} was lost")
    assert said.err.count("\n") == 1


def test_a_server_without_ranges_is_refused_and_fetched_from(run: Path) -> None:
    os.truncate(run, 48 << 20)  # a socket holds some megabytes that nobody reads
    with http_server(run.parent, ranges=False) as server:
        address = f"{server.address}run.h5"
        with pytest.raises(FileError, match=r"sends no parts of a file; 'replay\.fetch\('http"):
            replay.open(address)
        assert server.sent < run.stat().st_size / 2
        assert replay.fetch(address, "copy.h5").path.read_bytes() == run.read_bytes()


def test_what_is_not_there_is_said(run: Path, served: Served) -> None:
    with pytest.raises(FileError, match=rf"no such file: {served.address}other\.h5$"):
        replay.open(f"{served.address}other.h5")
    (run.parent / "empty.h5").touch()
    with pytest.raises(FileError, match="is empty|sends no parts"):
        replay.open(f"{served.address}empty.h5")
    (run.parent / "text.h5").write_text("no HDF5")
    with pytest.raises(FileError, match="not an HDF5 file"):
        replay.open(f"{served.address}text.h5")
    with pytest.raises(FileError, match="nonsense"):
        replay.open("nonsense://bucket/run.h5")
    with pytest.raises(RecordingError, match="connection to http://127.0.0.1:1/run.h5 was lost"):
        replay.open("http://127.0.0.1:1/run.h5")


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(FileError, match=r"s3://: not installed; pip install 'mapreel\[remote\]'"):
        replay.open("s3://bucket/run.h5")
    with pytest.raises(FileError, match="gs://: not installed; pip install gcsfs"):
        replay.open("gs://bucket/run.h5")


def test_memory_takes_a_copy(run: Path) -> None:
    pushed = replay.push(run, to="memory://bucket/copy.h5")
    assert pushed.to == ("memory://bucket/copy.h5",)
    with replay.open("memory://bucket/copy.h5") as far:
        assert far["conv1"].frames
    with pytest.raises(RecordingError, match="is not on this machine; fetch it first"):
        replay.push("memory://bucket/copy.h5", to="memory://bucket/other.h5")


def test_a_recording_that_is_still_written_is_read_as_it_is(run: Path, served: Served) -> None:
    with h5py.File(run, "r+", libver=("v110", "v110")) as file:
        file["state"][:] = [3, 0, 0, 0]
        file.swmr_mode = True
        with replay.open(f"{served.address}run.h5") as far:
            assert (len(far.frames), far.closed) == (3, False)
            file["state"][0] = 7
            file.flush()
            far.refresh()
            assert len(far.frames) == 7
            assert far["conv1"][1, 1].shape == (8, 96, 96)


def test_watch_and_notebooks_show_it(served: Served) -> None:
    from replay.webpage.live import Live

    address = f"{served.address}run.h5"
    with Live(address) as live:
        assert b"run.h5" in live.page()
    with replay.open(address) as far:
        assert address in repr(far)
        for shown in (far, far["conv1"], far.inputs):
            assert str(shown._repr_html_()).startswith("<div><b>")


def test_garbage_of_h5py_does_not_stop_a_read(run: Path, served: Served) -> None:
    """A collection in the thread that fetches bytes would wait for h5py's lock for ever."""
    reader = f"""
import gc, h5py, replay
from replay.recording.remote_file import RemoteFile
file = h5py.File({str(run)!r}, "r")
fill = RemoteFile._fill
def litter(*arguments):
    for _ in range(5):
        held = [file["maps/conv1"]]
        held.append(held)
    return fill(*arguments)
RemoteFile._fill = litter
gc.set_threshold(300, 1, 1)
with replay.open({served.address + "run.h5"!r}) as far:
    for epoch, batch in far.frames * 10:
        far["conv1"][epoch, batch]
"""
    done = subprocess.run([sys.executable, "-c", reader], timeout=60, check=False)
    assert done.returncode == 0


def test_what_is_secret_in_an_address_is_not_said(served: Served) -> None:
    for words in ("http://me:secret@127.0.0.1:1/run.h5", f"{served.address}other.h5?sign=secret"):
        with pytest.raises(RecordingError) as found:
            replay.open(words)
        assert "secret" not in str(found.value)
        assert ".h5" in str(found.value)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An S3 server of this machine, with a bucket that nobody reads without credentials."""
    for name in ("moto", "flask", "s3fs"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed; pip install 'moto[s3,server]' s3fs")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def s3(bucket: str, folder: Path, *words: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """Runs a command in a process of its own, since s3fs changes the one that it is in."""
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": bucket,
        "FSSPEC_S3_ENDPOINT_URL": bucket,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = ["-c", code] if code else ["-m", "replay", *words]
    return subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_s3_bucket(run: Path, bucket: str, elsewhere: Path) -> None:
    made = s3(bucket, elsewhere, code="import s3fs; s3fs.S3FileSystem().mkdir('bucket')")
    assert made.returncode == 0, made.stderr
    address = "s3://bucket/runs/run.h5"
    pushed = s3(bucket, elsewhere, "push", str(run), "--to", "s3://bucket/runs/")
    assert pushed.returncode == 0, pushed.stderr
    assert f"{address}: a copy of" in pushed.stdout
    info = s3(bucket, elsewhere, "info", address)
    assert info.returncode == 0, info.stderr
    assert f"file              {address}" in info.stdout or address in info.stdout.splitlines()[0]
    film = s3(bucket, elsewhere, "animate", address, "--epochs", "0:3")
    assert film.returncode == 0, film.stderr
    assert (elsewhere / "run.mp4").exists()
    fetched = s3(bucket, elsewhere, "fetch", address, "-o", "copy.h5")
    assert fetched.returncode == 0, fetched.stderr
    assert (elsewhere / "copy.h5").read_bytes() == run.read_bytes()
    missing = s3(bucket, elsewhere, "info", "s3://bucket/other.h5")
    assert (missing.returncode, missing.stderr) == (
        2,
        "error: no such file: s3://bucket/other.h5\n",
    )


@pytest.mark.parametrize("target", ["s3://bucket/run.h5", "https://host/a/run.h5"])
def test_nothing_is_recorded_to_an_address(
    target: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from torch import nn

    from record import Recorder
    from record.__main__ import main as record_main

    said = f"{target}: a recording is written to a file of this machine, run.h5, say; then "
    for path in (target, Path(target)):
        with pytest.raises(OutputError, match=f"^{said}'replay.push\\('run.h5', to='{target}'\\)'"):
            Recorder(nn.Conv2d(1, 1, 1), path)
    (elsewhere / "script.py").write_text("print('ran')")
    for words in (["train", "-o", target], ["run", "-o", target, "script.py"]):
        assert record_main(words) == 2
        found = capsys.readouterr()
        assert found.err.startswith(f"error: {said}")
        assert f"replay push run.h5 --to {target}' copies it there" in found.err
        assert "ran" not in found.out
