"""Little files that ask for much: one line, or the right data, in a moment and with 1 GiB."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from samples import drifting_maps, write_recording
from short_of_memory import run_commands

import replay

# Before memory is short.
MODULES = ("replay.figures.map_grid", "replay.webpage.document")


def nested(file: h5py.File) -> None:
    file.attrs["meta"] = '{"model": ' + '{"a": [' * 450 + "1" + "]}" * 450 + "}"


def huge_numbers(file: h5py.File) -> None:
    """In each attribute and field, as large as its type goes."""
    file.attrs["meta"] = '{"seed": ' + "9" * 4000 + ', "lr": 1e999, "classes": [1e999]}'
    file["maps/conv1"].attrs["order"] = np.uint64(2**64 - 1)
    file["maps/conv1"].attrs["pooled"] = np.uint64(2**64 - 1)
    file["state"][:] = 2**63 - 1
    for name in file["batches"]:
        values = file["batches"][name]
        if name != "recorded":
            values[...] = 1e308 if values.dtype.kind == "f" else np.iinfo(values.dtype).max


def lone_surrogates(file: h5py.File) -> None:
    """Texts that Python reads and no file takes, and names that are no text at all."""
    half = b"Conv2d(\xed\xa0\x80\xff)"
    for name in ("module", "note"):
        file["maps/conv1"].attrs.create(name, half, dtype=h5py.string_dtype())
    file.attrs.create("run_id", half, dtype=h5py.string_dtype())
    file.attrs["meta"] = '{"model": "\\ud800", "classes": ["\\udfff"], "\\ud801": "\\ud83d"}'
    for group in ("maps", "checksums", "batches"):
        into = file[group].id
        h5py.h5o.link(file["batches/recorded"].id, into, b"\xed\xa0\x80\xff")
    h5py.h5a.create(file.id, b"\xff", h5py.h5t.NATIVE_INT32, h5py.h5s.create(h5py.h5s.SCALAR))


def long_texts(file: h5py.File) -> None:
    for name in ("module", "note", "axes"):
        file["maps/conv1"].attrs[name] = "C" * (3 << 20)
    file.attrs["created"] = "2026" * (1 << 18)


def wide_meta(file: h5py.File) -> None:
    file.attrs["meta"] = json.dumps({f"key{number}": "v" * 20 for number in range(50_000)})


def many_cells(file: h5py.File) -> None:
    """Two thousand epochs of two thousand batches, said to be recorded by a fill value."""
    del file["batches/recorded"]
    file.create_dataset("batches/recorded", (2000, 2000), "<i8", chunks=(2000, 2000), fillvalue=1)
    file["state"][0] = 4_000_000


def many_links(file: h5py.File) -> None:
    """Twenty thousand names of one layer, in a file of some hundred kilobytes."""
    layer, group = file["maps/conv1"].id, file["maps"].id
    for number in range(20_000):
        h5py.h5o.link(layer, group, b"l%d" % number)


def many_layers(file: h5py.File) -> None:
    layer, group = file["maps/conv1"].id, file["maps"].id
    for number in range(1_100):
        h5py.h5o.link(layer, group, b"l%d" % number)


def many_probes(file: h5py.File) -> None:
    """Two thousand fixed images, which are one group."""
    group = file.create_group("probe")
    group.create_group("0")["maps"] = file["maps"]
    for number in range(1, 2_000):
        h5py.h5o.link(group["0"].id, group.id, b"%d" % number)


def far_epochs(file: h5py.File) -> None:
    """Two batches, and two more a million epochs on: what lies between was never written."""

    def grow(_: str, node: h5py.HLObject) -> None:
        if isinstance(node, h5py.Dataset) and node.maxshape[:2] == (None, None):
            node.resize(1_000_001, 0)
            node[-1] = node[0]

    file.visititems(grow)
    file["batches/recorded"][-1, :2] = 3, 4
    file["state"][0] = 4


def signs(file: h5py.File) -> None:
    """Escape sequences, and letters that turn the direction of writing."""
    said = "\x1b[31m\x9b31m\u202eevil\u2066\r\n\x07\x7f<script>alert(1)</script>"
    for name in ("module", "note"):
        file["maps/conv1"].attrs[name] = said
    file.attrs["created"] = file.attrs["run_id"] = said
    file.attrs["meta"] = json.dumps({"model": said, said: said, "classes": [said] * 2})
    for group in ("maps", "checksums", "ranges", "batches"):
        node = file[group]["recorded" if group == "batches" else "conv1"]
        h5py.h5o.link(node.id, file[group].id, said.replace("/", "%2F").encode())


LITTLE: dict[Callable[[h5py.File], None], tuple[str, str]] = {
    # what it is, and of which command; what is said, or nothing where all is well
    nested: ("info repair", ""),
    huge_numbers: ("info verify animate", ""),
    lone_surrogates: ("info repair animate", ""),
    long_texts: ("info grid", ""),
    wide_meta: ("info", ""),
    many_cells: ("info animate", "declares 4,000,000 frames, and the file has"),
    many_links: ("info page", "'/maps' in {path} has 20,001 names; at most 20,000"),
    many_layers: ("page", "1,101 layers in {path} are too many for a page"),
    many_probes: ("info", "'/probe' in {path} has 2,000 names; at most 1,000"),
    far_epochs: ("info verify animate page repair pack", ""),
    signs: ("info verify repair", ""),
}
OUT = {
    "pack": "small.h5",
    "animate": "film.gif",
    "grid": "grid.png",
    "page": "page.html",
    "repair": "fixed.h5",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """By the file's name: its path, and what came of each of its commands."""
    folder = tmp_path_factory.mktemp("little")
    commands, names = [], []
    for change, (words, _) in LITTLE.items():
        path = write_recording(
            folder / f"{change.__name__}.h5",
            {"conv1": drifting_maps(3, 8, 8)},
            epochs=1,
            batches=2,
            image=(3, 8, 8),
        )
        with h5py.File(path, "r+", libver=("v110", "v110")) as file:
            change(file)
        for word in words.split():
            out = ["-o", str(folder / f"{change.__name__}-{OUT[word]}")] if word in OUT else []
            quiet = ["--quiet"] if word in ("animate", "page", "repair", "verify") else []
            commands.append([word, str(path), *out, *quiet])
            names.append(change.__name__)
    found: dict[str, list[Any]] = {}
    for name, command, result in zip(names, commands, run_commands(commands, MODULES), strict=True):
        found.setdefault(name, [Path(command[1])]).append((command[0], *result))
    return found


@pytest.mark.parametrize("change", LITTLE, ids=lambda change: change.__name__)
def test_one_line_in_a_moment(
    results: dict[str, list[Any]], change: Callable[[h5py.File], None]
) -> None:
    path, *commands = results[change.__name__]
    expected = LITTLE[change][1].format(path=path)
    for command, code, seconds, said in commands:
        assert seconds < 10, command  # of work; coverage doubles them, a slow processor, too
        assert len(said) < 70_000, command
        assert not any((ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 for c in said), command
        assert not set("\u202e\u2066") & set(said), command
        damaged = command == "verify" and change in (huge_numbers, signs)
        assert code == (2 if expected else 1 if damaged else 0), said
        if expected:
            assert said.startswith("error: ")
            assert said.count("\n") == 1
            assert expected in said


def test_what_is_repaired_can_be_read(results: dict[str, list[Any]]) -> None:
    for name in ("nested", "lone_surrogates", "signs"):
        path = results[name][0]
        fixed = path.with_name(f"{name}-fixed.h5")
        with replay.open(path) as run, replay.open(fixed) as copy:
            assert copy.frames == run.frames
            assert (copy["conv1"][0, 1] == run["conv1"][0, 1]).all()
        assert replay.verify(fixed)


def test_epochs_that_are_far_apart(results: dict[str, list[Any]]) -> None:
    path = results["far_epochs"][0]
    for name in ("far_epochs", "far_epochs-fixed", "far_epochs-small"):
        with replay.open(path.with_name(f"{name}.h5")) as run:
            assert run.frames == [(0, 0), (0, 1), (1_000_000, 0), (1_000_000, 1)]
            assert (run["conv1"][1_000_000, 1] == run["conv1"][0, 1]).all()
            assert run.batches["loss"][1_000_000, 1] == run.batches["loss"][0, 1]
        assert replay.verify(path.with_name(f"{name}.h5"))


def test_a_page_has_no_markup_of_a_file(results: dict[str, list[Any]]) -> None:
    path = results["signs"][0]
    page = path.with_suffix(".html")
    replay.page(path, page)
    text = page.read_text(encoding="utf-8")
    assert "<script>alert(1)" not in text
    assert not any(sign in text for sign in ("\x1b[31m", "\x9b31m", "\u202eevil"))
