"""A loss is the same text wherever one meets it, with three significant digits."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from samples import drifting_maps, write_recording

import replay
from replay.film import Film
from replay.film.comparison_facts import RunFacts
from replay.film.comparison_layout import loss_and_prediction
from replay.maps.runs import RunSet
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


NAN = math.nan
SOME = [
    ([1.5, NAN] * 4, ["1.50", "–"] * 4),  # every second batch
    ([NAN, NAN, 1.5, NAN, NAN, 1.5, NAN, NAN], ["–", "–", "1.50", "–", "–", "1.50", "–", "–"]),
    ([NAN, 1.5] * 2 + [NAN] * 4, ["–", "1.50"] * 2 + ["nan"] * 4),  # and then it is lost
    ([1.5] * 3 + [NAN] + [1.5] * 4, ["1.50"] * 3 + ["nan"] + ["1.50"] * 4),  # one step was skipped
    ([1.5] + [NAN] * 7, ["1.50"] + ["nan"] * 7),
    ([NAN] * 8, None),
]


@pytest.mark.parametrize(("losses", "words"), SOME)
def test_of_a_batch_without_a_loss_none_is_named(
    tmp_path: Path, losses: list[float], words: list[str] | None
) -> None:
    path = write_recording(
        tmp_path / "run.h5",
        {"conv1": drifting_maps(2, 6, 6)},
        fields={"loss": lambda e, b: losses[4 * e + b]},
    )
    with open_recording(path) as run:
        assert describe_frames(run, run.frames, run.frames)["loss"] == words
        film = Film(run, FilmOptions())
        for (epoch, batch), word in zip(film.cells, words or [], strict=words is not None):
            list(film.frames([(epoch, batch)]))
            assert film.layout._pen._held[film.layout._status[-1]][1][0][0] == word
        told = describe(film, film.cells, 4)
        assert ("NaN" in told) == ("nan" in (words or []))
        assert ("loss" in told) == (words is not None)
    for place, word in enumerate(words or ["–"] * 8):
        made = replay.grid(path, tmp_path / "a.svg", epoch=place // 4, batch=place % 4)
        found = re.findall(r"loss ([^<]+)<", made.path.read_text())
        assert found == ([] if word == "–" else [word])
    with open_recording(path) as run:
        facts = RunFacts.read(RunSet([run, run], ["conv1"]), 1)
        assert (facts.logged is None) == (words is None)
        for place, word in enumerate(words or []):
            pieces = loss_and_prediction(facts, place)
            assert [text.strip() for text, _ in pieces] == ["loss", word]


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
