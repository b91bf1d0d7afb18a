"""Class activation of recordings: what independent arithmetic makes of the same numbers."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from looking import LAYERS, cam_weights, exponent, gradient, write_frames, write_looking
from samples import drifting_maps, write_recording

import replay
from replay.schema import SelectionError


@pytest.fixture(scope="module")
def looking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_looking(tmp_path_factory.mktemp("cam") / "run.h5")


def test_each_method_equals_its_formula(looking: Path) -> None:
    maps = drifting_maps(*LAYERS["conv2"])
    with replay.open(looking) as run:
        for probe in (0, 1):
            for cell in [(0, 0), (2, 1)]:
                a = maps(*cell).astype("f8")
                g = gradient("conv2", *cell, probe)
                w = cam_weights(*cell, probe)
                expected = {
                    "grad-cam": np.maximum((w[:, None, None] * a).sum(0), 0),
                    "hirescam": np.maximum((g * a).sum(0), 0),
                    "gradient-x-activation": (g * a).sum(0),
                }
                for method, values in expected.items():
                    found = run.cam(probe=probe, method=method)[cell]
                    assert found.dtype == np.float32
                    assert found.shape == (8, 8)
                    assert np.abs(values).max() > 0
                    assert np.allclose(found, values, rtol=2e-3, atol=2e-3 * np.abs(values).max())


def test_it_says_what_it_is(looking: Path) -> None:
    with replay.open(looking) as run:
        cam = run.cam("conv2", 1)
        assert (cam.name, cam.of, cam.shape) == ("conv2", "score of the label", (3, 2, 8, 8))
        assert repr(cam).startswith("<Cam of 'conv2'")
        assert "grad-cam, 8×8, of the score of the label; 6 frames" in repr(cam)
        assert len(cam.frames) == 6
        assert np.array_equal(run.probe(1).cam()[0, 0], cam[0, 0])
        assert np.array_equal(cam[-1, -1], cam[2, 1])


def test_a_recording_without_any_says_how_to_make_one(tmp_path: Path) -> None:
    path = write_looking(tmp_path / "run.h5", gradients=False)
    with (
        replay.open(path) as run,
        pytest.raises(SelectionError, match=r"no class .*Recorder\(cam="),
    ):
        run.cam()


def test_without_gradients_grad_cam_is_named(tmp_path: Path) -> None:
    path = write_looking(tmp_path / "run.h5")
    with h5py.File(path, "r+") as file:
        del file["probe/0/gradients"]
    with replay.open(path) as run:
        assert run.cam()[0, 0].max() > 0
        with pytest.raises(SelectionError, match="hirescam needs the gradients of 'conv2'.*grad-c"):
            run.cam(method="hirescam")


def test_weights_without_maps_are_said(tmp_path: Path) -> None:
    path = write_looking(tmp_path / "run.h5")
    with h5py.File(path, "r+") as file:
        del file["probe/0/maps/conv2"]
    with replay.open(path) as run, pytest.raises(SelectionError, match="no maps of 'conv2'"):
        run.cam()


@pytest.mark.parametrize(("prefix", "known"), [(0, False), (1, False), (5, False), (3, True)])
def test_tokens_stand_where_their_part_of_the_image_is(
    tmp_path: Path, prefix: int, known: bool
) -> None:
    def tokens(epoch: int, batch: int) -> np.ndarray:
        made = np.random.default_rng((epoch, batch)).standard_normal((prefix + 32, 6))
        return made.astype("<f2")

    picture = np.zeros((3, 16, 32))
    path = write_recording(
        tmp_path / "run.h5",
        {"blocks": tokens},
        axes={"blocks": "TC"},
        image=(3, 16, 32),
        probes=[(picture, {"blocks": tokens})],
    )
    cells = [(e, b) for e in range(2) for b in range(4)]
    weights = np.arange(6).astype("<f2") - 2
    with h5py.File(path, "r+") as file:
        about = {"axes": "C", "of": "score of the label"}
        made = write_frames(
            file, "probe/0/cam/", "blocks", lambda e, b: weights, cells, about, exponent
        )
        if known:
            made.attrs["grid"] = np.array([4, 8])
    with replay.open(path) as run:
        found = run.cam()[1, 3]
        values = tokens(1, 3).astype("f8")[prefix:] @ weights * 2.0 ** exponent(1, 3)
        assert found.shape == (4, 8)
        assert np.allclose(found, np.maximum(values, 0).reshape(4, 8), rtol=1e-5)


def test_a_batch_in_which_it_was_not_made_has_none(tmp_path: Path) -> None:
    path = write_looking(tmp_path / "run.h5")
    with h5py.File(path, "r+") as file:
        file["probe/0/cam/checksums/conv2"][1, 0] = 0
        file["probe/0/cam/maps/conv2"][1, 0] = np.nan
    with replay.open(path) as run:
        cam = run.cam()
        assert not cam.present[1, 0]
        assert np.isnan(cam[1, 0]).all()
        assert cam.present.sum() == 5


def test_where_it_is_is_found_once_however_many_cells_ask(looking: Path) -> None:
    with replay.open(looking) as run:
        cam = run.cam("conv2", 1)
        assert cam.present is cam.present
        assert cam.present.tolist() == [[True, True]] * 3
