"""A recording whose writer is at work, or has put another file in its place, since it was opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import drifting_maps, write_recording
from serving import http_server
from torch import nn

import replay
from record import Recorder, Writer
from replay.schema import DamagedError, FileError, RecordingError

LAYERS = {"conv1": drifting_maps(3, 6, 5)}


def test_values_are_read_while_the_file_grows(tmp_path: Path) -> None:
    """The index of their checksums then leads beyond what was the file's end."""
    with Writer(tmp_path / "run.h5", quiet=True) as writer:

        def write(batches: range) -> None:
            for batch in batches:
                maps = {"conv1": np.full((2, 4, 4), batch)}
                writer.write(epoch=batch // 10, batch=batch % 10, maps=maps, loss=batch)
            assert writer.flush()

        write(range(1))
        with replay.open(tmp_path / "run.h5") as run:
            for end in range(400, 1600, 400):
                run.refresh()
                there = len(run.frames)
                write(range(writer.sent, end))
                losses = run.batches["loss"]  # of what was there at the last look
                assert np.isfinite(losses).sum() == there
                assert losses[0, 0] == 0


def test_another_recording_in_its_place_is_not_taken_for_it(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "run.h5", LAYERS)
    other = write_recording(
        tmp_path / "other.h5", LAYERS, batches=2, run_id="another", closed=False
    )
    with replay.open(path) as run:
        os.replace(other, path)
        assert len(run.frames) == 8
        run["conv1"][1, 3]  # what was opened is there still
        with pytest.raises(FileError, match="is another recording now: open it again"):
            run.refresh()
        with pytest.raises(RecordingError, match="was closed"):
            run["conv1"][0, 0]
    with replay.open(path) as run:
        assert len(run.frames) == 4


def test_what_a_resumed_run_says_is_seen(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "run.h5", LAYERS)
    again = write_recording(
        tmp_path / "again.h5", LAYERS, epochs=3, meta={"resumed": [{"epoch": 1}]}
    )
    with replay.open(path) as run:
        os.replace(again, path)
        run.refresh()
        assert len(run.frames) == 12
        assert run.meta == {"resumed": [{"epoch": 1}]}


@pytest.mark.parametrize("of", ["maps", "fixed image", "gradients", "true gradients"])
def test_as_many_frames_of_a_resumed_run_are_not_called_damaged(tmp_path: Path, of: str) -> None:
    path = tmp_path / "run.h5"
    images = torch.rand(3, 2, 3, 6, 6, generator=torch.Generator().manual_seed(0))

    def train(epochs: int, weight: float, resume: int | bool = False) -> None:
        model = nn.Sequential(nn.Conv2d(3, 2, 3))
        nn.init.constant_(model[0].weight, weight)
        probe = images[0, :1]
        with Recorder(
            model, path, resume=resume, probe=probe, gradients=True, quiet=True
        ) as recorder:
            for _ in range(epochs):
                for batch in recorder.track(images):
                    model(batch).square().sum().backward()

    def look_at(run: replay.Recording) -> tuple[replay.Recording, Any]:
        shown = run.probe(0) if of == "fixed image" else run
        shown = run.beside("gradients") if of.endswith("gradients") else shown
        return shown, shown.scaled("0") if of == "true gradients" else shown["0"]

    train(4, 0.25)
    with replay.open(path) as run:
        shown, series = look_at(run)
        old = series[3, 1]
        train(2, 0.5, resume=2)
        run.refresh()
        shown.refresh()
        with replay.open(path) as fresh:
            assert len(fresh.frames) == len(run.frames) == 12
            np.testing.assert_array_equal(series[3, 1], look_at(fresh)[1][3, 1])
            assert not np.array_equal(series[3, 1], old)


def test_a_frame_of_another_file_in_its_place_is_not_called_damaged(tmp_path: Path) -> None:
    """A writer at work took frames out, or records them anew: no reader had read that one yet."""
    path = write_recording(tmp_path / "run.h5", LAYERS, closed=False)
    other = write_recording(
        tmp_path / "other.h5",
        {"conv1": drifting_maps(3, 6, 5, seed=1)},
        closed=False,
    )
    with replay.open(path) as run:
        series = run["conv1"]
        series[0, 0]
        os.replace(other, path)
        run._file._live.mark_outdated()  # as where it was read in the middle of a write
        np.testing.assert_array_equal(series[0, 1], LAYERS["conv1"](0, 1))
        run.refresh()
        np.testing.assert_array_equal(run["conv1"][0, 1], drifting_maps(3, 6, 5, seed=1)(0, 1))


def take_out(path: Path) -> None:
    """What a budget does: the first frame stays, the others are gone."""
    thinned = write_recording(
        path.with_name("thinned.h5"), LAYERS, epochs=1, batches=1, closed=False
    )
    os.replace(thinned, path)


READ = {
    "input": lambda run: run.inputs[0, 1],
    "loss": lambda run: run.batches["loss"],
    "ranges": lambda run: run["conv1"].ranges(),
    "map": lambda run: run["conv1"][0, 1],
    "probes": lambda run: run.probes,
}


@pytest.mark.parametrize("what", READ)
def test_what_is_read_is_of_the_file_whose_frames_are_known(tmp_path: Path, what: str) -> None:
    """Not the news that a frame is gone: its image was all NaN."""
    path = write_recording(tmp_path / "run.h5", LAYERS, closed=False)
    with replay.open(path) as run:
        right = READ[what](run)
    with replay.open(path) as run:
        take_out(path)
        run._file._live.mark_outdated()  # as where it was read in the middle of a write
        for _ in range(2):  # also once it is open
            np.testing.assert_array_equal(READ[what](run), right)
        assert len(run.frames) == 8
        run.refresh()
        assert run.frames == [(0, 0)]
        assert np.isfinite(run["conv1"][0, 0]).all()


@pytest.mark.parametrize("what", ["removed", "a folder", "a link elsewhere"])
def test_a_file_without_its_name_is_read_on(tmp_path: Path, what: str) -> None:
    """Until it is looked at anew, which says what is there."""
    path = write_recording(tmp_path / "run.h5", LAYERS, closed=False)
    name = tmp_path / "latest.h5"
    name.symlink_to(path)
    with replay.open(name) as run:
        name.unlink()
        if what == "a folder":
            name.mkdir()
        elif what == "a link elsewhere":
            name.symlink_to(write_recording(tmp_path / "b.h5", LAYERS, batches=2, closed=False))
        run._file._live.mark_outdated()
        np.testing.assert_array_equal(run["conv1"][1, 3], LAYERS["conv1"](1, 3))
        if what == "a link elsewhere":
            run.refresh()
            assert len(run.frames) == 4
        else:
            with pytest.raises(FileError, match="no such file|is a folder"):
                run.refresh()


@pytest.mark.parametrize("what", READ)
def test_nothing_of_another_file_at_an_address_is_shown_among_these_frames(
    tmp_path: Path, what: str
) -> None:
    """There the file that was open is gone."""
    pytest.importorskip("aiohttp", reason="not installed: pip install 'mapreel[remote]'")
    path = write_recording(tmp_path / "run.h5", LAYERS, closed=False)
    with http_server(tmp_path) as served, replay.open(f"{served.address}run.h5") as run:
        take_out(path)
        run._file._live.mark_outdated()
        for _ in range(2):
            with pytest.raises(FileError, match="has been replaced since .*; call refresh") as told:
                READ[what](run)
            assert not isinstance(told.value, DamagedError)
        run.refresh()
        assert run.frames == [(0, 0)]
        assert np.isfinite(run["conv1"][0, 0]).all()


def test_what_was_taken_of_a_recording_before_is_of_its_own_frames(tmp_path: Path) -> None:
    """A probe is looked at anew where its recording is; until then it says so."""
    probes = [(np.zeros((3, 6, 5), "f2"), LAYERS)]
    path = write_recording(tmp_path / "run.h5", LAYERS, probes=probes, closed=False)
    with replay.open(path) as run:
        probe = run.probe(0)
        other = write_recording(
            tmp_path / "other.h5", LAYERS, probes=probes, epochs=1, batches=1, closed=False
        )
        os.replace(other, path)
        run.refresh()
        for read in (lambda: probe["conv1"][0, 0], lambda: probe.batches["loss"]):
            with pytest.raises(FileError, match="has been replaced since"):
                read()
        assert np.isfinite(run["conv1"][0, 0]).all()  # which knows of it
        assert run.probe(0).frames == [(0, 0)]
