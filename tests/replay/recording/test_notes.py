"""What is to be known of a layer: from the writer into the file, and shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from pages import read
from samples import drifting_maps, write_recording

import replay
from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.writer.recording_file import RecordingFile
from replay.film.film import Film
from replay.options import FilmOptions
from replay.recording import info, info_text
from replay.schema import FORMAT, VERSION, Layer

NOTE = "magnitude of complex values"
ABOUT = {"format": FORMAT, "version": VERSION, "run_id": "", "created": "now", "meta": "{}"}


def record(path: Path, *layouts: tuple[Layer, ...], resume: int | None = None) -> None:
    """Writes a frame of zeros after each layout."""
    file = RecordingFile(str(path), False, ABOUT, resume)
    first = file.committed
    for number, layers in enumerate(layouts, first):
        layout = BatchLayout((), layers)
        file.set_layout(layout, None)
        file.write(
            [messages.FrameHeader(0, number, number, 0.0)], np.zeros((1, layout.size), np.float16)
        )
    file.close()


def notes_of(path: Path) -> dict[str, str]:
    with replay.open(path) as run:
        return {name: run[name].layer.note for name in run.layers}


def layer(name: str, note: str = "", **more: Any) -> Layer:
    return Layer(name, "Conv2d()", (2, 4, 4), note=note, **more)


def test_the_writer_keeps_notes(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    record(path, (layer("a"), layer("b", NOTE)))
    assert notes_of(path) == {"a": "", "b": NOTE}
    with h5py.File(path) as file:  # as docs/format.md says: nothing where there is nothing
        assert file["maps/b"].attrs["note"] == NOTE
        assert "note" not in file["maps/a"].attrs


def test_a_note_that_turns_up_late_or_changes_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    a, b = layer("a"), layer("b", "batch axis uncertain")
    later = (layer("a", NOTE), layer("b", "batch axis 1"))
    record(path, (a, b), later, (a, b.__class__(b.name, b.module, b.shape)))
    assert notes_of(path) == {"a": NOTE, "b": "batch axis 1"}
    record(path, (a, layer("b", "as before")), resume=5)
    assert notes_of(path) == {"a": NOTE, "b": "as before"}


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b", "x" * 100_000])
def test_no_text_ends_a_recording(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.h5"
    record(path, (Layer("a", text, (2, 4, 4), note=text),))
    with replay.open(path) as run:
        found = run["a"].layer
    kept = text[: 1 << 16]  # a longer one is cut
    assert found.note == found.module == kept.replace("\0", "?").replace("\ud800", "?")


def test_a_probe_has_the_notes_of_its_run(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    record(path, (layer("a", NOTE), layer("a", probe=0), layer("b"), layer("b", "b's", probe=0)))
    with h5py.File(path, "r+") as file:
        file["probe/0/input"] = np.zeros((1, 4, 4), np.float16)
    with replay.open(path) as run:
        probe = run.probe(0)
        assert [probe[name].layer.note for name in ("a", "b")] == [NOTE, "b's"]


def test_a_repaired_copy_keeps_notes_and_garbage_is_none(tmp_path: Path) -> None:
    maps = drifting_maps(2, 4, 4)
    path = write_recording(
        tmp_path / "run.h5", {"a": maps, "b": maps, "c": maps}, notes={"a": NOTE}
    )
    with h5py.File(path, "r+") as file:
        file["maps/b"].attrs["note"] = np.arange(3)
        file["maps/c"].attrs["note"] = b"by\xfftes"
    assert notes_of(path) == {"a": NOTE, "b": "", "c": "by?tes"}
    replay.repair(path, tmp_path / "new.h5")
    assert notes_of(tmp_path / "new.h5") == notes_of(path)


def test_pictures_say_notes(tmp_path: Path) -> None:
    maps = drifting_maps(2, 8, 8)
    path = write_recording(tmp_path / "run.h5", {"a": maps, "b": maps}, notes={"a": f"{NOTE}\x07"})
    with replay.open(path) as run:
        film = Film(run, FilmOptions(layers=["a", "b"]))
        said = [part.details for part in film.panels]
        assert [f"maps of 8×8, {NOTE}·" in words for words in said] == [True, False]
    grid = replay.grid(path, tmp_path / "a.svg", layer="a").path.read_text(encoding="utf-8")
    assert NOTE in grid
    (source,) = read(replay.page(path).path)[0]["sources"]
    assert [layer["words"][2:] for layer in source["layers"]] == [[f"{NOTE}·"], []]


def test_info_shows_notes(tmp_path: Path) -> None:
    maps = drifting_maps(2, 4, 4)
    path = write_recording(
        tmp_path / "run.h5",
        {"a": maps, "b": maps, "c": maps, "d": maps},
        notes={"a": NOTE, "b": "axis\x1b[2J uncertain", "d": NOTE},
    )
    with replay.open(path) as run:
        document = json.loads(info.to_json(info.describe(run)))
        text = info_text.format_info(info.describe(run))
    assert [entry["note"] for entry in document["layers"]] == [
        *(NOTE, "axis\x1b[2J uncertain", None, NOTE)
    ]
    assert text.splitlines()[-2:] == [f"a, d: {NOTE}", "b: axis?[2J uncertain"]
    told = subprocess.run(
        [sys.executable, "-m", "replay", "info", path],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(replay.__file__).parents[1])},
    )
    assert f"a, d: {NOTE}" in told.stdout
