"""Films in which one sees the maps: what is decoded of them on ranges of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from samples import drifting_maps, write_recording

import replay
from replay import schema
from replay.film.film import Film
from replay.maps.adaptive import FAINT
from replay.options import FilmOptions

PATTERN = np.random.default_rng(5).normal(size=(4, 24, 24))
FLAT = 10  # levels


def probed(folder: Path, growth: Sequence[float], **more: Any) -> Path:
    """A recording of a fixed image whose maps only grow, beside a first image that changes."""

    def grown(epoch: int, batch: int) -> np.ndarray:
        return (PATTERN * growth[10 * epoch + batch]).astype(np.float16)

    return write_recording(
        folder / "run.h5",
        {"conv": drifting_maps(4, 24, 24)},
        epochs=len(growth) // 10,
        batches=10,
        probes=[(np.zeros((3, 16, 16), np.float16), {"conv": grown})],
        **more,
    )


def decoded(folder: Path, film: Film) -> np.ndarray:
    """Returns the tiles of numbered PNG files in levels, float64 (frames, C, H, W)."""
    mosaic, (top, left) = film.panels[0].mosaic, film.layout.mosaic_corners[0]
    frames = []
    for path in sorted(folder.iterdir()):
        gray = np.array(Image.open(path).convert("L"), np.float64)
        tiles = []
        for place in range(mosaic.count):
            y, x = mosaic.corner(place)
            tile = gray[top + y :, left + x :][: mosaic.tile[0], : mosaic.tile[1]]
            tiles.append(tile[:: mosaic.zoom, :: mosaic.zoom])
        frames.append(tiles)
    return np.array(frames)


def rendered(
    path: Path, folder: Path, probe: int | None = None, **options: Any
) -> tuple[np.ndarray, Film, list[list[float]]]:
    """Returns decoded tiles, the film, and the length of each gain bar in each frame."""
    replay.animate(path, f"{folder}/", probe=probe, layers=["conv"], **options)
    with replay.open(path) as run:
        shown = run if probe is None else run.probe(probe)
        film = Film(shown, FilmOptions(layers=["conv"], **options))
        lengths = []
        for _ in film.frames():
            gains = film.map_sections[0].gains or []
            lengths.append([gain.length for gain in gains])
        return decoded(folder, film), film, lengths


@pytest.mark.parametrize(
    "growth",
    [
        np.linspace(0.1, 4, 40),
        np.geomspace(0.1, 4, 40),
        np.linspace(4, 0.1, 40),
        np.repeat([0.5, 2.0, 2.5, 3.5], 10),
    ],
    ids=["linear", "geometric", "shrinking", "in steps"],
)
def test_a_map_that_only_grows_stays_the_same_picture_while_its_bar_moves(
    growth: np.ndarray, tmp_path: Path
) -> None:
    path = probed(tmp_path, growth.tolist())
    tiles, _, lengths = rendered(path, tmp_path / "frames", probe=0)
    assert np.abs(np.diff(tiles, axis=0)).mean(axis=(1, 2, 3)).max() < 2
    moved = np.diff(np.array(lengths), axis=0) * (1 if growth[-1] > growth[0] else -1)
    assert (moved > -0.005).all()
    assert (moved.sum(axis=0) > 0.2).all()


def test_the_bar_is_drawn_as_long_as_it_is(tmp_path: Path) -> None:
    path = probed(tmp_path, np.geomspace(0.1, 4, 20).tolist())
    with replay.open(path) as run:
        film = Film(run.probe(0), FilmOptions(layers=["conv"]))
        mosaic, (top, left) = film.panels[0].mosaic, film.layout.mosaic_corners[0]
        accent, faint = film.palette.solid("accent"), film.palette.solid("faint")
        for frame in film.frames():
            for place, gain in enumerate(film.map_sections[0].gains or []):
                y, x = mosaic.corner(place)
                row = top + y + mosaic.tile[0] + 10  # in the middle of the line of the number
                line = frame.plane[row, left + x : left + x + mosaic.tile[1]]
                shown = np.isin(line, (accent, faint))[::-1]  # from the right
                width = int(np.argmin(shown)) or len(shown)
                assert width >= 8
                assert (line[-width:] == accent).sum() == round(gain.length * width)


def test_each_photograph_has_the_range_of_its_own_maps(tmp_path: Path) -> None:
    """Where each frame shows another image, no frame has anything to do with its neighbours."""

    def jumping(epoch: int, batch: int) -> np.ndarray:
        return (PATTERN * (1 + batch % 3) + 5 * batch).astype(np.float16)

    path = write_recording(tmp_path / "run.h5", {"conv": jumping}, epochs=2, batches=6)
    tiles, film, _ = rendered(path, tmp_path / "frames")
    for (epoch, batch), frame in zip(film.cells, tiles, strict=True):
        for values, levels in zip(jumping(epoch, batch).astype(float), frame, strict=True):
            low, high = np.percentile(values, (1, 99))
            expected = np.clip((values - low) / (high - low), 0, 1) * 255
            assert np.abs(levels - expected).max() < 2.2  # of 240 levels


def test_one_image_in_every_batch_counts_as_an_image_that_stays(tmp_path: Path) -> None:
    """As when a network is made to overfit one batch; the images' checksums say so."""
    jitter = 1 + 0.1 * np.random.default_rng(0).normal(size=(2, 10))

    def maps(epoch: int, batch: int) -> np.ndarray:
        return (PATTERN * jitter[epoch, batch]).astype(np.float16)

    def image(epoch: int, batch: int, differs: bool) -> np.ndarray:
        return np.full((3, 8, 8), (10 * epoch + batch) / 32 if differs else 0.5, np.float16)

    moved = []
    for differs in (False, True):
        path = write_recording(
            tmp_path / f"{differs}.h5",
            {"conv": maps},
            batches=10,
            images=lambda e, b, differs=differs: image(e, b, differs),
            fields={
                "input_checksum": lambda e, b, differs=differs: float(
                    schema.checksum(image(e, b, differs))
                )
            },
        )
        tiles, film, _ = rendered(path, tmp_path / str(differs))
        assert ("held while the image stays" in film.scale) != differs
        moved.append(np.abs(np.diff(tiles, axis=0)).mean())
    assert max(moved) < 2  # the jitter is one of strength, which the gain bar shows


def test_a_frame_looks_the_same_whatever_else_is_shown(tmp_path: Path) -> None:
    path = probed(tmp_path, np.geomspace(0.1, 4, 30).tolist())
    whole, film, _ = rendered(path, tmp_path / "all", probe=0)
    replay.animate(path, f"{tmp_path / 'some'}/", probe=0, epochs=1, batches="::4")
    some = decoded(tmp_path / "some", film)
    places = [place for place, (e, b) in enumerate(film.cells) if e == 1 and b % 4 == 0]
    assert (some == whole[places]).all()
    with replay.open(path) as run:
        again = Film(run.probe(0), FilmOptions(layers=["conv"], channels=[2]))
        bounds = again.map_sections[0].scaler.channel_bounds(1, 4)
        all_of_them = film_bounds(path, (1, 4))
        assert bounds is not None
        assert (bounds.bounds[0] == all_of_them[2]).all()


def film_bounds(path: Path, cell: tuple[int, int]) -> np.ndarray:
    """Returns the ranges of all channels in a frame."""
    with replay.open(path) as run:
        film = Film(run.probe(0), FilmOptions(layers=["conv"]))
        shown = film.map_sections[0].scaler.channel_bounds(*cell)
        assert shown is not None
        return shown.bounds


def test_the_same_pixels_whether_rendered_in_one_part_or_in_many(tmp_path: Path) -> None:
    path = probed(tmp_path, np.geomspace(0.1, 4, 30).tolist())
    for jobs in (1, 3):
        replay.animate(path, f"{tmp_path / str(jobs)}/", probe=0, jobs=jobs)
    names = sorted(each.name for each in (tmp_path / "1").iterdir())
    assert len(names) == 30
    for name in names:
        one, many = ((tmp_path / jobs / name).read_bytes() for jobs in ("1", "3"))
        assert one == many


def test_constant_and_faint_channels_are_flat_and_say_so(tmp_path: Path) -> None:
    def maps(epoch: int, batch: int) -> np.ndarray:
        found = PATTERN.copy()
        found[1] = 0.25
        found[2] *= FAINT / 4
        found[3, 0, 0] = np.nan
        return found.astype(np.float16)

    path = write_recording(tmp_path / "run.h5", {"conv": maps})
    tiles, film, _ = rendered(path, tmp_path / "frames")
    assert tiles[:, 1:3].std(axis=(2, 3)).max() < FLAT
    assert tiles[:, [0, 3]].std(axis=(2, 3)).min() > 40
    gains = film.map_sections[0].gains
    assert gains is not None
    assert [gain.text for gain in gains][1:3] == ["constant", "faint"]
    assert gains[0].text.startswith("×")


def test_a_map_of_each_frame_by_itself_goes_from_its_least_to_its_greatest(tmp_path: Path) -> None:
    maps = drifting_maps(3, 16, 16)
    path = write_recording(tmp_path / "run.h5", {"conv": maps})
    tiles, film, _ = rendered(path, tmp_path / "frames", scale="map")
    for (epoch, batch), frame in zip(film.cells, tiles, strict=True):
        values = maps(epoch, batch).astype(float)
        low, high = values.min(axis=(1, 2)), values.max(axis=(1, 2))
        expected = (values - low[:, None, None]) / (high - low)[:, None, None] * 255
        assert np.abs(frame - expected).max() < 2.2  # of 240 levels
    assert "by itself, from its least to its greatest value" in film.scale


def test_by_itself_a_map_is_seen_however_faint_it_is(tmp_path: Path) -> None:
    """One frame that is a million times as strong made all others flat, as a weak channel was."""
    waves = drifting_maps(3, 16, 16)

    def maps(epoch: int, batch: int) -> np.ndarray:
        found = waves(epoch, batch) * np.array([1e-2, 1e-3, 1e-6])[:, None, None]
        return (found * (1e6 if (epoch, batch) == (0, 1) else 1)).astype(np.float16)

    path = write_recording(tmp_path / "run.h5", {"conv": maps})
    tiles, film, _ = rendered(path, tmp_path / "frames", scale="map")
    for (epoch, batch), frame in zip(film.cells, tiles, strict=True):
        values = maps(epoch, batch).astype(float)
        low, high = values.min(axis=(1, 2)), values.max(axis=(1, 2))
        expected = (values - low[:, None, None]) / (high - low)[:, None, None] * 255
        assert np.abs(frame - expected).max() < 2.5  # of 240 levels
    gains = film.map_sections[0].gains
    assert gains is not None
    assert [gain.text for gain in gains][1:] == ["faint", "faint"]


@pytest.mark.parametrize("scale", ["adaptive", "map", "run", "frame"])
def test_a_batch_without_a_frame_looks_the_same_whatever_was_drawn_before(
    tmp_path: Path, scale: str
) -> None:
    """Its empty tiles had the gain bars of whatever frame had been drawn before."""
    waves = drifting_maps(3, 32, 32)
    layers = {
        "conv": waves,
        "late": lambda e, b: None if 1 <= b <= 3 else waves(e, b) * (1 + b),
    }
    path = write_recording(tmp_path / "run.h5", layers, batches=5)
    options = FilmOptions(layers=["conv", "late"], scale=scale)
    with replay.open(path) as run:
        film = Film(run, options)
        planes = {
            cell: frame.plane.copy() for cell, frame in zip(film.cells, film.frames(), strict=True)
        }
        assert film.map_sections[1].gains is not None or scale in ("run", "frame")
        for cell in film.cells:
            for other in (film, Film(run, options)):
                (frame,) = other.frames([cell])
                np.testing.assert_array_equal(frame.plane, planes[cell])
    (top, left), mosaic = film.layout.mosaic_corners[1], film.panels[1].mosaic
    below = slice(top + mosaic.tile[0], top + mosaic.pitch[0] - mosaic.gap)
    beside = slice(left + mosaic.indent, left + mosaic.width)
    accent = film.palette.solid("accent")
    assert (planes[0, 2][below, beside] != accent).all()
    assert (planes[0, 4][below, beside] == accent).any() or scale in ("run", "frame")


def test_a_nan_in_a_vector_costs_its_picture_no_gain(tmp_path: Path) -> None:
    """A vector is one map: a single number that is none made its gain nothing."""
    values = np.random.default_rng(3).standard_normal((6, 64)).astype(np.float16)
    values[3, 5], values[4] = np.nan, np.nan
    path = write_recording(
        tmp_path / "run.h5", {"fc": lambda e, b: values[b]}, epochs=1, batches=6, axes={"fc": "C"}
    )
    with replay.open(path) as run:
        film = Film(run, FilmOptions())
        shares = [film.map_sections[0].gains[0].share for _ in film.frames()]
    assert min(shares[:4] + shares[5:]) > 0.5
    assert shares[4] == 0


def test_a_file_without_ranges_is_shown_all_the_same(tmp_path: Path) -> None:
    import h5py

    path = write_recording(tmp_path / "run.h5", {"conv": drifting_maps(3, 16, 16)})
    before, _, lengths = rendered(path, tmp_path / "before")
    with h5py.File(path, "r+") as file:
        del file["ranges"]
    after, _, without = rendered(path, tmp_path / "after")
    assert (before == after).all()
    assert np.allclose(lengths, without)


def test_a_damaged_frame_nearby_is_no_remark_of_a_film_without_it(tmp_path: Path) -> None:
    import h5py

    path = probed(tmp_path, np.linspace(1, 2, 20).tolist())
    with h5py.File(path, "r+") as file:
        file["probe/0/checksums/conv"][0, 5] += 1
    made = replay.animate(path, f"{tmp_path / 'some'}/", probe=0, epochs=0, batches=[4])
    assert not any("damaged" in remark for remark in made.remarks)


def test_a_long_epoch_is_read_in_pieces_and_only_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one epoch of many batches no piece of the ranges is the whole epoch again."""
    from replay.recording.safe_file import SafeFile

    batches = 1200
    path = write_recording(
        tmp_path / "run.h5",
        {"conv": lambda e, b: np.full((1, 2, 2), b, np.float16) * [[1, 2], [3, 4]]},
        epochs=1,
        batches=batches,
        image=None,
    )
    read: list[int] = []
    whole = SafeFile.read_block

    def noted(self: Any, name: str, shape: Any, rows: range, columns: range) -> Any:
        read.append(len(rows) * len(columns))
        return whole(self, name, shape, rows, columns)

    monkeypatch.setattr(SafeFile, "read_block", noted)
    with replay.open(path) as run:
        film = Film(run, FilmOptions(layers=["conv"]))
        scaler = film.map_sections[0].scaler
        for cell in film.cells:
            assert scaler.channel_bounds(*cell) is not None
    assert sum(read) <= 4 * batches
