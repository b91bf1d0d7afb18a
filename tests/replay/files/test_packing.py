"""Packed recordings: smaller, and the same."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from samples import drifting_maps, write_recording
from serving import http_server

import replay
from replay.__main__ import main
from replay.film import comparison_film
from replay.film.film import Film
from replay.options import ComparisonOptions, FilmOptions
from replay.recording import eight_bits, info
from replay.schema import FileError, OptionError, OutputError, SelectionError

ROOT = Path(__file__).parents[3]
HAS_PLUGIN = importlib.util.find_spec("hdf5plugin") is not None
needs_plugin = pytest.mark.skipif(not HAS_PLUGIN, reason="hdf5plugin is not installed")
FILTERS = [
    "gzip",
    "none",
    pytest.param("zstd", marks=needs_plugin),
    pytest.param("blosc2", marks=needs_plugin),
]


def odd_maps(epoch: int, batch: int) -> np.ndarray:
    """A constant channel, one that is all NaN in a batch, an infinite value in another."""
    maps = drifting_maps(3, 24, 24, seed=3)(epoch, batch)
    maps[1] = 0.375
    if batch == 1:
        maps[2] = np.nan
    if batch == 2:
        maps[0, 0, 0] = np.inf
    return maps


@pytest.fixture
def path(tmp_path: Path) -> Path:
    image = np.random.default_rng(0).random((3, 32, 32)).astype("f2")
    path = write_recording(
        tmp_path / "run.h5",
        {
            "conv1": drifting_maps(4, 32, 32),
            "odd": odd_maps,
            "tokens": lambda e, b: drifting_maps(6, 8, 1)(e, b)[:, :, 0].T,  # (T, C)
            "scalar": lambda e, b: np.array([e + b], "f2"),
            "rare": lambda e, b: drifting_maps(2, 16, 16)(e, b) if b else None,
        },
        axes={"tokens": "TC"},
        probes=[(image, {"conv1": drifting_maps(4, 32, 32, seed=9)})],
        kernels={"conv1": lambda e, b: np.full((4, 3, 3, 3), e + b, "f2")},
        fields={"loss": lambda e, b: e + b / 10, "conv1": lambda e, b: b},
        meta={"command": ["x"]},
    )
    with h5py.File(path, "r+") as file:
        file.create_dataset("strangers/words", data=np.array([b"one", b"two"]))
        file["strangers"].attrs["kind"] = "unknown"
        values = np.arange(2 * 4 * 30 * 30, dtype="f2").reshape(2, 4, 30, 30)
        maxshape, chunks = (None, None, 30, 30), (1, 1, 30, 30)
        file.create_dataset("later/maps/conv1", data=values, maxshape=maxshape, chunks=chunks)
    return path


def contents(path: Path) -> dict[str, Any]:
    """All values and attributes of a file, as plain h5py reads them."""
    found: dict[str, Any] = {}
    with h5py.File(path, "r") as file:

        def note(name: str, node: Any) -> None:
            for key, value in node.attrs.items():
                found[f"{name}.{key}"] = np.asarray(value).tolist()
            if isinstance(node, h5py.Dataset):
                values = node[...]
                if values.dtype.kind == "f":  # an NaN that fills has other bits in an older HDF5
                    values[np.isnan(values)] = np.nan
                found[name] = node.dtype.str, node.maxshape, values.tobytes()

        file.visititems(note)
        for key, value in file.attrs.items():
            found[f".{key}"] = np.asarray(value).tolist()
    return found


@pytest.mark.parametrize("filter", FILTERS)
def test_sixteen_bits_lose_nothing(path: Path, tmp_path: Path, filter: str) -> None:
    before = path.read_bytes()
    small, again = tmp_path / "small.h5", tmp_path / "again.h5"
    result = replay.pack(path, small, filter=filter)
    assert path.read_bytes() == before
    assert (result.bits, result.frames, result.damaged) == (16, 8, 0)
    if filter != "none":
        assert result.bytes < path.stat().st_size
    assert replay.verify(small)
    original, packed = contents(path), contents(small)  # which plain h5py reads
    assert json.loads(packed.pop(".packed")) == {"bits": 16, "filter": filter}
    assert packed == original
    replay.unpack(small, again)
    assert contents(again) == original
    with h5py.File(again) as file:
        assert not file["maps/conv1"].compression


@pytest.mark.parametrize("filter", FILTERS)
def test_eight_bits_are_within_the_error_that_the_file_states(
    path: Path, tmp_path: Path, filter: str
) -> None:
    small = tmp_path / "small.h5"
    result = replay.pack(path, small, bits=8, filter=filter)
    assert result.bits == 8
    assert any("in 16 bits" in remark for remark in result.remarks)
    assert replay.verify(small)
    with replay.open(path) as run, replay.open(small) as packed, h5py.File(small) as file:
        assert (run.version, packed.version) == (1, 2)
        assert (packed.run_id, packed.created, packed.frames) == (
            run.run_id,
            run.created,
            run.frames,
        )
        pairs = [(run, packed, ""), (run.probe(), packed.probe(), "probe/0/")]
        for original, other, group in pairs:
            assert original.layers == other.layers
            for name in original.layers:
                stated = file[f"{group}maps/{name}"].attrs["largest_error"]
                for at in original.frames:
                    a, b = (np.asarray(each[name][at], float) for each in (original, other))
                    if np.isfinite(a).all():
                        assert np.abs(a - b).max() <= stated
                    else:
                        np.testing.assert_array_equal(a, b)
                np.testing.assert_array_equal(original[name].ranges(), other[name].ranges())
        at = 0, 0
        assert (packed["odd"][at][1] == 0.375).all()  # a channel of one value
        assert run.inputs[at].tobytes() == packed.inputs[at].tobytes()
        assert run["conv1"].kernels(*at).tobytes() == packed["conv1"].kernels(*at).tobytes()
        note = packed["conv1"].layer.note
        assert note == eight_bits.NOTE
        assert note in json.dumps(info.describe(packed))


def test_three_lines_of_numpy_undo_eight_bits(path: Path, tmp_path: Path) -> None:
    """Those of docs/format.md."""
    small = tmp_path / "small.h5"
    replay.pack(path, small, bits=8)
    text = (ROOT / "docs" / "format.md").read_text()
    code = next(block for block in text.split("```python\n") if "maps16" in block).split("```")[0]
    found: dict[str, Any] = {}
    exec(code.replace('"small.h5"', repr(str(small))).replace('"run.h5"', repr(str(small))), found)
    with replay.open(small) as run:
        assert found["frame"].astype("f2").tobytes() == run["conv1"][0, 3].tobytes()


def test_unpacked_eight_bits_verify_and_say_what_they_were(path: Path, tmp_path: Path) -> None:
    small, again, twice = (tmp_path / f"{name}.h5" for name in ("small", "again", "twice"))
    replay.pack(path, small, bits=8)
    replay.unpack(small, again)
    assert replay.verify(again)
    with replay.open(small) as packed, replay.open(again) as run:
        assert run.version == 1
        assert run["conv1"].layer.note == f"once {eight_bits.NOTE}"
        for name in run.layers:
            for at in run.frames:
                assert run[name][at].tobytes() == packed[name][at].tobytes()
    replay.pack(small, twice, bits=16)  # nothing is lost any more
    assert replay.verify(twice)
    with replay.open(small) as packed, replay.open(twice) as run:
        assert run["odd"][1, 2].tobytes() == packed["odd"][1, 2].tobytes()
        assert run["conv1"][1, 2].tobytes() == packed["conv1"][1, 2].tobytes()


@pytest.mark.parametrize("bits", [16, 8])
def test_some_layers_and_epochs(path: Path, tmp_path: Path, bits: int) -> None:
    small = tmp_path / "small.h5"
    result = replay.pack(path, small, bits=bits, layers=["odd", "ra*"], epochs=1, batches="1:")
    assert result.frames == 3
    assert replay.verify(small)
    with replay.open(small) as run:
        assert run.layers == ("odd", "rare")
        assert run.frames == [(1, 1), (1, 2), (1, 3)]
        assert run.committed == 3
        assert run.batches["loss"][1, 2] == 1.2
        assert run.batches["conv1"][1, 2] == 2  # a field that has a layer's name
        assert run.batches["nan"][1].tolist() == [0, 24 * 24, 0, 0]
        with replay.open(path) as original:
            assert run["odd"][1, 2].tobytes() == original["odd"][1, 2].tobytes()


def test_damage_stays_damage(path: Path, tmp_path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["maps/conv1"][1, 2, 0, 0, 0] += 1
    for bits in (16, 8):
        small = tmp_path / f"small{bits}.h5"
        result = replay.pack(path, small, bits=bits)
        assert result.damaged == 1
        assert "maps/conv1 epoch 1 batch 2" in " ".join(result.remarks)
        report = replay.verify(small)
        assert {(each.epoch, each.batch) for each in report.problems} == {(1, 2)}


def test_a_flipped_bit_in_a_chunk_is_found(path: Path, tmp_path: Path) -> None:
    small, fixed = tmp_path / "small.h5", tmp_path / "fixed.h5"
    replay.pack(path, small)
    with h5py.File(small) as file:
        place = file["maps/conv1"].id.get_chunk_info_by_coord((1, 2, 0, 0, 0))
    data = bytearray(small.read_bytes())
    data[place.byte_offset + place.size // 2] ^= 4
    small.write_bytes(data)
    report = replay.verify(small)
    assert [(each.layer, each.epoch, each.batch) for each in report.problems] == [("conv1", 1, 2)]
    assert len(replay.repair(small, fixed).left_out) == 1
    assert replay.verify(fixed)
    assert replay.pack(small, tmp_path / "again.h5").unreadable + 0 <= 1
    assert replay.unpack(small, tmp_path / "raw.h5")


@pytest.mark.parametrize("bits", [16, 8])
def test_what_reads_a_recording_reads_a_packed_one(path: Path, tmp_path: Path, bits: int) -> None:
    small = tmp_path / "small.h5"
    replay.pack(path, small, bits=bits)
    replay.animate(small, tmp_path / "a.gif", layers=["conv1"])
    replay.compare(path, small, tmp_path / "b.gif", layers=["conv1"])
    replay.grid(small, tmp_path / "c.svg", layer="conv1")
    replay.page(small, tmp_path / "d.html", layers=["conv1"])
    replay.export(small, tmp_path / "e.npz", layer="conv1")
    replay.repair(small, tmp_path / "f.h5")
    assert replay.verify(tmp_path / "f.h5")
    assert replay.health(small).layers
    for name in ("c.svg", "d.html"):
        assert ("within 0.4 %" in (tmp_path / name).read_text()) == (bits == 8), name


def test_every_picture_says_so(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where headings have no room for it, beside the scale; of two runs, which of them."""
    small = tmp_path / "small.h5"
    replay.pack(path, small, bits=8)
    many = {f"layer{n}": drifting_maps(3, 8, 8, seed=n) for n in range(30)}
    lots = tmp_path / "lots.h5"
    replay.pack(write_recording(tmp_path / "many.h5", many, epochs=1, batches=2), lots, bits=8)
    with replay.open(path) as run, replay.open(small) as packed, replay.open(lots) as overview:
        film = Film(packed, FilmOptions(layers=["conv1"]))
        assert eight_bits.NOTE in film.panels[0].details
        assert f"maps: {eight_bits.NOTE}" in Film(overview, FilmOptions(layers="all")).scale
        assert eight_bits.NOTE not in Film(run, FilmOptions(layers=["conv1"])).scale
        headings: list[Any] = []
        make = comparison_film._headings
        monkeypatch.setattr(
            comparison_film,
            "_headings",
            lambda *given: headings.append(make(*given)) or headings[-1],
        )
        for pair in ((run, packed), (packed, run)):
            comparison_film.ComparisonFilm(pair, ComparisonOptions(layers=["conv1"]))
            drawn = str(headings[-1].scales)
            assert f"small: {eight_bits.NOTE}" in drawn
            assert f"run: {eight_bits.NOTE}" not in drawn
        health = replay.health(packed)
        assert f"maps in {eight_bits.NOTE}" in str(health)


def test_a_size_that_must_not_be_exceeded(path: Path, tmp_path: Path) -> None:
    whole = replay.pack(path, tmp_path / "whole.h5").bytes / 1e6
    for share, given in ((1.01, None), (0.9, None), (0.75, None), (0.75, 16)):
        small = tmp_path / f"{share}-{given}.h5"
        result = replay.pack(path, small, max_mb=whole * share, bits=given)
        assert small.stat().st_size <= whole * share * 1e6
        assert replay.verify(small)
        said = " ".join(result.remarks)
        assert (result.bits == 8) == (share < 1 and given is None)
        assert ("of 8 frames" in said) == (result.frames < 8)
    with pytest.raises(OutputError, match="cannot be packed into"):
        replay.pack(path, tmp_path / "no.h5", max_mb=0.01)
    assert not (tmp_path / "no.h5").exists()


def test_refusals(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.h5"
    other.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists; name another file"):
        replay.pack(path, other)
    with pytest.raises(OutputError, match="is the recording itself"):
        replay.unpack(path, path, overwrite=True)
    with pytest.raises(OutputError, match=r"\.h5, \.hdf5"):
        replay.pack(path, tmp_path / "small.zip")
    with pytest.raises(OptionError, match="expected 16 or 8"):
        replay.pack(path, tmp_path / "small.h5", bits=4)
    with pytest.raises(OptionError, match="filter"):
        replay.pack(path, tmp_path / "small.h5", filter="lzf")
    with pytest.raises(SelectionError, match="no layer 'conv9'"):
        replay.pack(path, tmp_path / "small.h5", layers="conv9")
    assert other.read_bytes() == b"mine"
    assert main(["pack", str(path), "-o", str(other), "--bits", "7"]) == 2
    assert "expected 16 or 8" in capsys.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["other.h5", "run.h5"]


def test_an_interrupt_leaves_nothing(path: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == total // 2:
            raise KeyboardInterrupt

    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        replay.pack(path, tmp_path / "small.h5", progress=interrupt)
    assert [each.name for each in tmp_path.iterdir()] == ["run.h5"]
    assert path.read_bytes() == before


def test_a_recording_whose_writer_was_killed(path: Path, tmp_path: Path) -> None:
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        file["state"][:] = [6, 0, 0, 0]  # two frames were not committed
        file.swmr_mode = True
        file.flush()
        killed = path.read_bytes()
    path.write_bytes(killed)
    os.utime(path, (0, 0))
    small = tmp_path / "small.h5"
    result = replay.pack(path, small)
    assert result.frames == 6
    assert replay.verify(small)
    with replay.open(path) as run, replay.open(small) as packed:
        assert not packed.closed
        assert packed.frames == run.frames
        assert packed["conv1"][0, 1].tobytes() == run["conv1"][0, 1].tobytes()
    with h5py.File(small) as file:  # which is an ordinary file
        assert file["state"][0] == 6


def test_a_recording_that_grows_meanwhile_is_not_packed(path: Path, tmp_path: Path) -> None:
    def write(done: int, total: int) -> None:
        if done == total:
            with path.open("ab") as file:
                file.write(b"more")

    with pytest.raises(FileError, match="was written to while it was read"):
        replay.pack(path, tmp_path / "small.h5", progress=write)
    assert [each.name for each in tmp_path.iterdir()] == ["run.h5"]


def test_a_missing_package_is_named(path: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        FileError, match=r"needs the package hdf5plugin: pip install 'mapreel\[pack\]'"
    ):
        replay.pack(path, tmp_path / "small.h5", filter="zstd")
    assert [each.name for each in tmp_path.iterdir()] == ["run.h5"]


@needs_plugin
def test_a_missing_package_is_named_when_reading(path: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.h5"
    replay.pack(path, small, filter="zstd")
    code = (
        "import importlib.util as u, sys; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'hdf5plugin' else find(name, *rest)\n"
        "from replay.__main__ import main; sys.exit(main(['info', sys.argv[1]]))"
    )
    words = [sys.executable, "-c", code, str(small)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'mapreel[pack]'" in done.stderr


def test_the_commands(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, again = tmp_path / "small.h5", tmp_path / "again.h5"
    words = ["pack", "--layer", "conv1", "odd", str(path), "--epoch", "0", "-o", str(small)]
    assert main([*words, "--bits", "8"]) == 0
    done = capsys.readouterr()
    assert "4 frames, 8 bits, gzip" in done.out
    assert "note: maps in 8 bits" in done.err
    assert "replay verify" in done.err
    assert main(["unpack", str(small), "-o", str(again), "--quiet"]) == 0
    assert "next:" not in capsys.readouterr().err
    assert main(["unpack", str(small), "-o", str(again)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["info", str(small)]) == 0
    assert "8 bits, within 0.4 % of each map's range" in capsys.readouterr().out


def test_a_recording_at_an_address_is_packed_here(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    (tmp_path / "here").mkdir()
    small, local = tmp_path / "here" / "small.h5", tmp_path / "here" / "local.h5"
    with http_server(tmp_path) as served:
        replay.pack(f"{served.address}run.h5", small, bits=8)
    replay.pack(path, local, bits=8)
    if h5py.version.version_tuple[:2] < (3, 12):  # which writes into a file when it was made
        assert contents(small) == contents(local)
    else:
        assert small.read_bytes() == local.read_bytes()


def test_the_greatest_number_of_float16_goes_into_8_bits_without_a_warning(tmp_path: Path) -> None:
    """Behind it comes none, so that numpy knows no distance there, and warned on stderr."""
    bounds = np.array([-65504, 65504], "<f2")
    path = write_recording(
        tmp_path / "run.h5",
        {"conv1": lambda e, b: bounds[np.random.default_rng(b).integers(0, 2, (2, 8, 8))]},
    )
    done = subprocess.run(
        [sys.executable, "-m", "replay", "pack", path, "--bits", "8", "-o", tmp_path / "small.h5"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "Warning" not in done.stderr
    with replay.open(path) as run, replay.open(tmp_path / "small.h5") as small:
        for cell in run.frames:
            assert np.array_equal(run["conv1"][cell], small["conv1"][cell])
