"""A file of very many layers: each is described when it is asked for, and not before."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay.schema import FileError, SelectionError

MANY = 130  # more than are described at once
NAMES = [f"block{MANY - place}.conv" for place in range(MANY)]  # not in the order of letters


@pytest.fixture
def path(tmp_path: Path) -> Path:
    layers = {name: drifting_maps(2, 4, 4, seed=place) for place, name in enumerate(NAMES)}
    probe = (np.zeros((3, 8, 8), np.float16), {NAMES[1]: layers[NAMES[1]]})
    return write_recording(
        tmp_path / "run.h5", layers, epochs=1, batches=2, image=(3, 8, 8), probes=[probe]
    )


def break_layer(path: Path, name: str) -> None:
    """Puts something that would read from another file in the place of a layer."""
    with h5py.File(path, "r+") as file:
        del file[f"maps/{name}"]
        shape = (1, 2, 2, 4, 4)
        external = [(str(path.parent / "other"), 0, 128)]
        file.create_dataset(f"maps/{name}", shape, "<f2", external=external)


def test_layers_are_those_of_a_small_file(path: Path) -> None:
    with replay.open(path) as run:
        assert run.first_layer == NAMES[0]
        assert NAMES[77] in run
        assert "block7" not in run
        assert 7 not in run
        assert run[NAMES[77]] is run[NAMES[77]]
        maps = drifting_maps(2, 4, 4, seed=77)(0, 1)
        np.testing.assert_array_equal(run[NAMES[77]][0, 1], maps)
        assert run.layers == tuple(run) == tuple(NAMES)
        assert run[NAMES[77]].layer.module == "Conv2d(3, 12, kernel_size=(3, 3))"
        assert run.probe(0).layers == (NAMES[1],)
        assert run.probe(0)[NAMES[1]].run_series is run[NAMES[1]]
        with pytest.raises(SelectionError, match="no layer 'block7'.*did you mean block7.conv"):
            run["block7"]
    assert run.layers == tuple(NAMES)  # which were asked for before it was closed


def test_the_first_layer_is_that_which_ran_first_and_not_that_which_was_written_first(
    path: Path,
) -> None:
    with h5py.File(path, "r+") as file:
        for place, name in enumerate(reversed(NAMES)):
            file[f"maps/{name}"].attrs["order"] = place
    with replay.open(path) as run:
        assert run.first_layer == NAMES[-1]
        assert run.layers == tuple(reversed(NAMES))
        assert run.first_layer == NAMES[-1]


def test_where_the_file_does_not_say_what_ran_first_it_is_what_was_written_first(
    path: Path,
) -> None:
    with h5py.File(path, "r+") as file:
        for name in NAMES:
            del file[f"maps/{name}"].attrs["order"]
        file[f"maps/{NAMES[5]}"].attrs["order"] = np.int64(-3)  # as good as 0
    with replay.open(path) as run:
        assert run.first_layer == NAMES[5]
        assert run.layers == (NAMES[5], *NAMES[:5], *NAMES[6:])


def test_a_layer_that_cannot_be_read_is_in_nobodys_way(path: Path) -> None:
    break_layer(path, NAMES[9])
    made = replay.animate(path, path.with_suffix(".gif"), input=False)
    assert made.frames == 2
    made = replay.animate(path, path.with_suffix(".gif"), layers=[NAMES[10]], overwrite=True)
    assert made.frames == 2
    with replay.open(path) as run:
        for ask in (lambda: run[NAMES[9]], lambda: run.layers, lambda: NAMES[9] in run):
            with pytest.raises(FileError, match="refused: .* reads from another file"):
                ask()


def test_layers_that_come_later_are_there_after_a_refresh(path: Path) -> None:
    with replay.open(path) as run:
        before = run[NAMES[3]]
        with h5py.File(path, "r+") as file:
            file.copy(f"maps/{NAMES[3]}", "maps/late")
            file["maps/late"].attrs["order"] = MANY
            file.copy(f"checksums/{NAMES[3]}", "checksums/late")
        run.refresh()
        assert run.layers == (*NAMES, "late")
        np.testing.assert_array_equal(run["late"][0, 0], before[0, 0])


def test_names_that_no_layer_can_have_are_told_at_once(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.copy(f"maps/{NAMES[3]}", "maps/%zz")
        file.copy(f"maps/{NAMES[3]}", "maps/%AA")
        file["maps/%text"] = "no frames"
    with replay.open(path) as run:
        assert run.left_out == ["%AA", "%zz"]
        assert len(run.layers) == MANY
