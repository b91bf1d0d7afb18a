"""Over the input lie the layers that have places in it; one without is left out of several."""

from __future__ import annotations

from pathlib import Path

import pytest
from samples import drifting_maps, write_recording

import replay
from replay.schema import SelectionError

MAPS = {
    "fc": drifting_maps(7, 1, 1),
    "conv": drifting_maps(3, 8, 8),
    "last": drifting_maps(2, 4, 4),
}
LAYERS = {
    "fc": lambda e, b: drifting_maps(7, 1, 1)(e, b).reshape(7),
    "conv": MAPS["conv"],
    "last": MAPS["last"],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    pictures = [(drifting_maps(3, 16, 16)(0, 0), LAYERS), (drifting_maps(3, 16, 16)(0, 1), LAYERS)]
    return write_recording(tmp_path / "run.h5", LAYERS, axes={"fc": "C"}, probes=pictures)


def test_of_all_those_are_shown_that_can_be(path: Path, tmp_path: Path) -> None:
    for layers in ("all", "*", ["fc", "conv", "last"]):
        drawn = replay.sheet(path, tmp_path / "a.pdf", view="overlay", layer=layers, probe=False)
        assert drawn.layers == ("conv", "last")
    assert replay.animate(path, tmp_path / "a.gif", view="overlay", layers="all").frames == 8


def test_by_default_it_is_the_first_that_can_be(path: Path, tmp_path: Path) -> None:
    drawn = replay.sheet(path, tmp_path / "a.png", view="overlay", probe=False)
    assert drawn.layers == ("conv",)
    film = replay.animate(path, tmp_path / "a.gif", view="overlay", grid_of_probes=True)
    assert film.frames == 8


def test_one_that_cannot_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="'fc' of .* has no places in the input"):
        replay.animate(path, tmp_path / "a.gif", view="overlay", layers="fc")
    assert not (tmp_path / "a.gif").exists()
