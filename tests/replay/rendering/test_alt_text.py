"""What a film's text for those who cannot see it says of its values and its loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path

import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay.film import Film
from replay.maps.axes import Maps
from replay.options import FilmOptions
from replay.recording import open_recording
from replay.rendering.alt_text import describe

Loss = Callable[[int, int], float]


def told(path: Path, layers: list[str], epochs: int | None = None) -> str:
    with open_recording(path) as recording:
        film = Film(recording, FilmOptions(layers=layers, epochs=epochs, scale="run"))
        return describe(film, film.cells, 4)


def loss_told(tmp_path: Path, loss: Loss) -> str:
    path = write_recording(
        tmp_path / "run.h5", {"conv1": drifting_maps(2, 6, 6)}, fields={"loss": loss}
    )
    return told(path, ["conv1"]).rpartition("values. ")[2]


def broken(epoch: int, batch: int) -> np.ndarray:
    maps = np.full((3, 4, 4), 1.5, np.float16)
    maps[1, 0] = epoch + batch / 8
    if epoch == 1 and batch > 1:
        maps[2, 0, :2] = math.nan
    if epoch == 1 and batch == 3:
        maps[2, 1] = -math.inf
    return maps


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(
        tmp_path_factory.mktemp("odd") / "run.h5",
        {
            "good": lambda e, b: np.linspace(-1.25, 3.5, 18, dtype=np.float16).reshape(2, 3, 3),
            "broken": broken,
            "constant": lambda e, b: np.full((2, 4, 4), 0.5, np.float16),
            "never": lambda e, b: np.full((2, 4, 4), math.nan, np.float16),
            "tiny": lambda e, b: np.linspace(0, 8.97e-4, 16, dtype=np.float16).reshape(1, 4, 4),
        },
    )


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("good", "values from −1.25 to 3.5)"),
        (
            "broken",
            "values from 0 to 1.5, 2 of 3 channels constant, NaN in 2 of 8 frames, first in epoch "
            "1, batch 2, infinite values in 1 of 8 frames, first in epoch 1, batch 3)",
        ),
        ("constant", "everywhere 0.5)"),
        ("never", "without any finite value, NaN in every frame)"),
        ("tiny", "values from 0 to 0.000897)"),
    ],
)
def test_values_are_those_of_the_layer(path: Path, layer: str, words: str) -> None:
    text = told(path, [layer])
    assert text.count(words) == 1
    assert ("colormap gray: from" in text) == (layer in ("good", "broken", "tiny"))
    assert text == text.replace("1 frames", "")


def test_each_layer_has_words_of_its_own(path: Path) -> None:
    text = told(path, ["good", "constant", "broken"], epochs=0)
    assert "3 layers" in text
    assert text.index("to 3.5)") < text.index("everywhere 0.5)") < text.index("broken (")
    assert "NaN" not in text  # which is in the other epoch


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (lambda e, b: 0.00149 if (e, b) == (0, 0) else 0.000897, "falls from 0.00149 to 0.000897."),
        (lambda e, b: 0.35 + e, "rises from 0.350 to 1.35."),
        (lambda e, b: 0.5, "goes from 0.500 to 0.500."),
        (lambda e, b: math.inf, "is not finite throughout."),
        (
            lambda e, b: math.nan if (e, b) >= (1, 2) else 2.0 - e - b / 8,
            "falls from 2.00 to 0.875, and is NaN in 2 of 8 frames, first in epoch 1, batch 2.",
        ),
        (
            lambda e, b: 1.0 if (e, b) == (0, 0) else math.nan,
            "is 1.00, and is NaN in 7 of 8 frames",
        ),
    ],
)
def test_the_loss_is_told_as_it_is(tmp_path: Path, loss: Loss, sentence: str) -> None:
    assert sentence in loss_told(tmp_path, loss)


def test_a_loss_that_is_nan_in_all_that_is_shown_is_not_a_number(tmp_path: Path) -> None:
    path = write_recording(
        tmp_path / "run.h5",
        {"conv1": drifting_maps(2, 6, 6)},
        fields={"loss": lambda e, b: math.nan if e else 1.0},
    )
    assert told(path, ["conv1"], epochs=1).endswith("The loss is NaN throughout.")
    one = told(path, ["conv1"], epochs=0)
    assert one.endswith("The loss goes from 1.00 to 1.00.")


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fixed image of 300 frames, of which one has a NaN."""

    def seen(epoch: int, batch: int) -> np.ndarray:
        maps = drifting_maps(2, 6, 6)(epoch, batch)
        if (epoch, batch) == (1, 77):
            maps[1, 2, 3] = math.nan
        return maps

    return write_recording(
        tmp_path_factory.mktemp("fixed") / "run.h5",
        {"conv1": drifting_maps(2, 6, 6)},
        epochs=2,
        batches=150,
        probes=[(np.zeros((3, 8, 8), np.float16), {"conv1": seen})],
    )


def test_a_fixed_image_is_not_read_again(fixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_recording(fixed) as recording:
        film = Film(recording.probe(0), FilmOptions(layers=["conv1"]))
        assert sum(1 for _ in film.frames()) == 300
        monkeypatch.setattr(Maps, "__getitem__", lambda maps, cell: pytest.fail("read again"))
        text = describe(film, film.cells, 4)
    assert "NaN in 1 of 300 frames" in text


def test_what_other_processes_drew_is_not_read_again(fixed: Path, tmp_path: Path) -> None:
    class Here(Executor):
        def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
            done: Future[object] = Future()
            done.set_result(fn(*args, **kwargs))
            return done

    with open_recording(fixed) as recording:
        film = Film(recording.probe(0), FilmOptions(layers=["conv1"]))
        film.note_findings([{(1, 77): (1, 0), (0, 3): "damaged"}])
        assert film.damaged == ["damaged"]
        assert film.findings() == [{(1, 77): (1, 0), (0, 3): "damaged"}]
    made = replay.animate(fixed, tmp_path / "a.mp4", probe=0, executor=Here())
    assert "NaN in 1 of 300 frames" in made.alt
