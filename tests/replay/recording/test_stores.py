"""Stores other than HTTP and S3: Google's, the Hub's, GitHub's, memory, and one through another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_serving import SIGNATURE, hub_server
from samples import drifting_maps, write_recording
from serving import Served, http_server
from torch import nn

import replay
from record import Recorder
from record.__main__ import main as record_main
from replay.__main__ import main
from replay.recording.address import Address, read_path
from replay.schema import OptionError, OutputError, RecordingError

pytest.importorskip("fsspec", reason="fsspec is not installed; pip install 'mapreel[remote]'")
pytest.importorskip("aiohttp", reason="aiohttp is not installed; pip install 'mapreel[remote]'")

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    maps = {"conv1": drifting_maps(8, 96, 96)}
    return write_recording(tmp_path / "there" / "run.h5", maps, epochs=3, batches=4)


@pytest.fixture
def hub(run: Path) -> Iterator[Served]:
    with hub_server(run.parent) as server:
        yield server


READER = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
import replay
from replay.recording import remote_file
from replay.schema import RecordingError
address, local, missing = sys.argv[1:]
found = {"read": []}
if os.environ.get("PUSH"):
    replay.push(local, to=address)
with replay.open(address) as far, replay.open(local) as near:
    found["same"] = far["conv1"][1, 2].tobytes() == near["conv1"][1, 2].tobytes()
    found["bytes"] = far._file.view._remote.read
    found["frames"] = len(far.frames)
replay.animate(address, "film.gif", epochs="0:1", zoom=1)
found["film"] = os.path.getsize("film.gif") > 0
replay.fetch(address, "copy.h5")
found["fetched"] = open("copy.h5", "rb").read() == open(local, "rb").read()
try:
    replay.open(missing)
except RecordingError as error:
    found["missing"] = str(error)
print(json.dumps(found))
"""


def read_in_a_process(
    address: str, run: Path, missing: str, **environment: str
) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", READER, address, str(run), missing],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    assert [found[name] for name in ("same", "film", "fetched", "frames")] == [True, True, True, 12]
    assert found["missing"] == f"no such file: {missing}"
    return found


@pytest.mark.slow
def test_google_cloud_storage(run: Path) -> None:
    pytest.importorskip("gcsfs", reason="gcsfs is not installed; pip install gcsfs")
    emulator = pytest.importorskip(
        "gcp_storage_emulator.server", reason="pip install gcp-storage-emulator"
    )
    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
    server.start()
    try:
        port = server._api._httpd.server_address[1]
        read_in_a_process(
            "gs://bucket/runs/run.h5",
            run,
            "gs://bucket/runs/other.h5",
            STORAGE_EMULATOR_HOST=f"http://127.0.0.1:{port}",
            FSSPEC_GS_TOKEN="anon",
            GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT="false",  # which the emulator knows nothing of
            PUSH="1",
        )
    finally:
        server.stop()


@pytest.mark.slow
def test_the_hub(run: Path, hub: Served, capfd: pytest.CaptureFixture[str]) -> None:
    """Every range is answered by a redirection to an address that is signed."""
    pytest.importorskip("huggingface_hub", reason="pip install huggingface_hub")
    there = {"HF_ENDPOINT": hub.address.rstrip("/"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    address = "hf://datasets/lab/runs/run.h5"
    found = read_in_a_process(address, run, "hf://datasets/lab/runs/other.h5", **there)
    assert int(str(found["bytes"])) < run.stat().st_size
    said = []
    for given in ({"forbidden": True}, {"forbidden": False, "ranges": False}):
        for name, value in given.items():
            setattr(hub, name, value)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "replay", "info", address],
            env={**os.environ, **there},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        said.append(done.stderr)
    assert said[0] == (
        f"error: cannot read {address}: access is denied; fsspec takes credentials from HF_TOKEN\n"
    )
    assert said[1].startswith(f"error: the server of {address} sends no parts of a file; ")
    assert "secret" not in "".join(said)


def test_github(run: Path, hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("requests", reason="pip install requests")
    from fsspec.implementations.github import GithubFileSystem

    for name in ("url", "content_url"):
        there = getattr(GithubFileSystem, name).replace("https://api.github.com/", hub.address)
        monkeypatch.setattr(GithubFileSystem, name, there)
    address = "github://lab:runs@main/run.h5"
    assert str(read_path(address)) == address  # what stands before the @ is no secret
    with replay.open(address) as far, replay.open(run) as near:
        assert far["conv1"][1, 2].tobytes() == near["conv1"][1, 2].tobytes()
    assert hub.sent < run.stat().st_size
    with pytest.raises(RecordingError, match="^no such file: github://lab:runs@main/other.h5$"):
        replay.open("github://lab:runs@main/other.h5")
    hub.fail_from, hub.fail_until = 0, 1 << 40
    GithubFileSystem.clear_instance_cache()
    with pytest.raises(RecordingError, match=f"^the connection to {address} was lost"):
        replay.open(address)


def test_one_through_another(run: Path, elsewhere: Path) -> None:
    with zipfile.ZipFile(run.parent / "runs.zip", "w") as packed:
        packed.write(run, "a/run.h5")
    near = replay.open(run)
    with http_server(run.parent) as served:
        address = served.address
        for words in (
            f"simplecache::{address}run.h5?{SIGNATURE}",
            f"zip://a/run.h5::{address}runs.zip",
            f"simplecache::{run.as_uri()}",
        ):
            path = read_path(words)
            assert isinstance(path, Address)
            assert path.name == "run.h5"
            assert str(path) == words.partition("?")[0]
            with replay.open(words) as far:
                assert far["conv1"][1, 2].tobytes() == near["conv1"][1, 2].tobytes()
                assert "secret" not in repr(far)
        with pytest.raises(RecordingError, match=r"^no such file: zip://b.h5::http"):
            replay.open(f"zip://b.h5::{address}runs.zip")
    near.close()
    memory = read_path("memory://run.h5")
    assert (memory.name, memory.with_suffix(".mp4")) == ("run.h5", Path("run.mp4"))
    for target in ("simplecache::s3://bucket/run.h5", "zip://a.h5::s3://bucket/a.zip"):
        with pytest.raises(OptionError, match="a copy goes where it will lie, to s3://bucket/"):
            replay.push(run, to=target)
    with pytest.raises(OutputError, match="a recording is written to a file of this machine"):
        Recorder(nn.Conv2d(1, 1, 1), "simplecache::s3://bucket/run.h5")


def test_what_is_not_installed_is_named_by_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    for words, package in (
        ("sftp://host/run.h5", "paramiko"),
        ("simplecache::gs://bucket/run.h5", "gcsfs"),
        ("az://box/run.h5?sas=secret", "adlfs"),
        ("hf://datasets/lab/runs/run.h5", "huggingface_hub"),
    ):
        scheme = words.partition("://")[0].rpartition("::")[2]
        with pytest.raises(RecordingError, match=f"^{scheme}://: not installed; pip .* {package}$"):
            replay.open(words)


def test_results_go_to_files_of_this_machine(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ["animate", str(run), "-o", "s3://bucket/film.mp4"],
        ["page", str(run), "-o", "s3://bucket/page.html"],
        ["pack", str(run), "-o", "https://me:secret@host/small.h5"],
        ["export", str(run), "-o", "s3://bucket/run.npz"],
        ["repair", str(run), "-o", "s3://bucket/fixed.h5"],
        ["push", str(run), "--to", "folder=s3://bucket/out"],
        ["push", str(run), "--to", "tensorboard=s3://bucket/out"],
        ["fetch", "http://127.0.0.1:1/run.h5", "-o", "s3://bucket/copy.h5"],
    ):
        assert main(words) == 2, words
        said = capsys.readouterr().err
        assert "what is made is a file of this machine; name a path, such as" in said, words
        assert "secret" not in said
        assert said.count("\n") == 1
    film = tmp_path / "film.gif"
    assert main(["animate", str(run), "-o", film.as_uri()]) == 2
    assert f"name the path itself, {film}" in capsys.readouterr().err
    assert record_main(["train", "-o", (tmp_path / "new.h5").as_uri()]) == 2
    assert f"name the path itself, {tmp_path / 'new.h5'}" in capsys.readouterr().err
    assert main(["push", str(run), "--to", (tmp_path / "copy.h5").as_uri()]) == 2
    assert "that is on this machine, where the file itself can be copied" in capsys.readouterr().err
    assert not list(tmp_path.glob("here/*"))
