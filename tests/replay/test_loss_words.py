"""A loss is the same text wherever one meets it, with three significant digits."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from samples import drifting_maps, write_recording

import replay
from replay.film import Film
from replay.options import FilmOptions
from replay.recording import info, info_text, open_recording
from replay.rendering.alt_text import describe
from replay.webpage.manifest import describe_frames

LOSSES = [0.35, 0.931, 0.0227, 0.023, 2.3026, 0.000897, 123.456, math.nan]
WORDS = ["0.350", "0.931", "0.0227", "0.0230", "2.30", "0.000897", "123", "nan"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(
        tmp_path_factory.mktemp("loss") / "run.h5",
        {"conv1": drifting_maps(2, 6, 6)},
        epochs=2,
        batches=4,
        fields={"loss": lambda e, b: LOSSES[4 * e + b]},
    )


def test_films_pages_figures_and_info_agree(path: Path, tmp_path: Path) -> None:
    with open_recording(path) as run:
        page = describe_frames(run, run.frames, run.frames)["loss"]
        assert page == WORDS
        film = Film(run, FilmOptions())
        status = film.layout._status[-1]
        for (epoch, batch), word in zip(film.cells, WORDS, strict=True):
            list(film.frames([(epoch, batch)]))
            (_, parts) = film.layout._pen._held[status]
            assert parts[0][0] == word
        assert "from 0.350 to 123, and is NaN" in describe(film, film.cells, 4)
        text = info_text.format_info(info.describe(run))
        assert "0.350 first, 123 last" in text
    for batch, word in enumerate(WORDS[:4]):
        made = replay.grid(path, tmp_path / "a.svg", epoch=0, batch=batch, scale="run")
        assert f"loss {word}<" in made.path.read_text()
    sheet = replay.sheet(path, tmp_path / "b.svg", batch=3, scale="run").path.read_text()
    assert re.findall(r"loss ([^<]+)<", sheet) == ["0.0230", "nan"]


def test_a_page_names_no_loss_that_there_is_not(tmp_path: Path) -> None:
    maps = {"conv1": drifting_maps(2, 6, 6)}
    found = []
    for name, losses in (("one", [0.148, 0.148]), ("two", [0.148, 2.5]), ("none", [math.nan] * 2)):
        fields = {"loss": lambda e, b, losses=losses: losses[b]}
        path = write_recording(tmp_path / f"{name}.h5", maps, epochs=1, batches=2, fields=fields)
        with open_recording(path) as run:
            curve = describe_frames(run, run.frames, run.frames)["curve"]
        found.append(curve and curve["ends"])
    assert found == ["0.148", "0.148 – 2.50", None]
