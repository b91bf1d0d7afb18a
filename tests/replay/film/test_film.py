from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import drifting_maps, write_recording

from replay.film.film import Film
from replay.formatting import clean
from replay.maps.unfinite import count_unfinite
from replay.options import FilmOptions
from replay.raster.palette import Palette
from replay.recording import open_recording
from replay.schema import OptionError, SelectionError

LABELLED: dict[str, Callable[[int, int], float]] = {
    "label": lambda e, b: b % 2,
    "prediction": lambda e, b: 1 if e else -1,
    "loss": lambda e, b: 2.3 * 0.9 ** (4 * e + b),
}
CLASSES = {"classes": ["cat", "a class with a name that is too long for the column by far"]}


def film(path: Path, layers: Any = ("conv1",), **options: Any) -> Film:
    frames = {key: options.pop(key, None) for key in ("channels", "epochs", "batches")}
    return Film(open_recording(path), FilmOptions(layers=layers, **options, **frames))


def tile(made: Film, place: int, part: int = 0) -> np.ndarray:
    """The indices of one map, one for each of its pixels."""
    mosaic = made.panels[part].mosaic
    top, left = made.layout.mosaic_corners[part]
    y, x = mosaic.corner(place)
    height, width = mosaic.tile
    block = made.layout.plane[top + y : top + y + height, left + x : left + x + width]
    z = mosaic.zoom
    np.testing.assert_array_equal(block, np.kron(block[::z, ::z], np.ones((z, z), np.uint8)))
    return block[::z, ::z]


def test_map_pixels_are_the_levels_of_an_independent_computation(tmp_path: Path) -> None:
    maps = drifting_maps(5, 9, 7)
    path = write_recording(tmp_path / "run.h5", {"conv1": maps})
    made = film(path, channels=[0, 2, 4], scale="run")
    values = np.concatenate(
        [maps(e, b)[[0, 2, 4]].ravel() for e in range(2) for b in range(4)]
    ).astype(np.float64)
    low, high = np.percentile(values, (0.5, 99.5))
    shown = 0
    for (epoch, batch), _ in zip(made.cells, made.frames(), strict=True):
        for place, channel in enumerate((0, 2, 4)):
            value = maps(epoch, batch)[channel].astype(np.float64)
            expected = np.clip((value - low) / (high - low), 0, 1) * 239
            assert np.abs(tile(made, place) - expected).max() <= 0.51
        shown += 1
    assert shown == 8


CASES = [
    ({"conv1": (1, 2, 2)}, {}),
    ({"conv1": (512, 2, 2)}, {}),
    ({"conv1": (64, 56, 56)}, {"theme": "dark"}),
    ({"conv1": (3, 224, 224)}, {}),
    ({"conv1": (12, 2, 2)}, {"zoom": 1}),
    ({"conv1": (7, 13, 5)}, {"columns": 3, "title": "A title that goes on and on " * 9}),
    ({"a" * 300: (12, 16, 16), "b\x07": (40, 1, 30), "c": (3, 64, 64)}, {"scale": "channel"}),
    ({"conv1": (4, 8, 8)}, {"input": False, "symmetric": True, "scale": "frame"}),
]


@pytest.mark.parametrize(("shapes", "options"), CASES)
def test_text_neither_overlaps_nor_is_cut(
    tmp_path: Path, shapes: dict[str, tuple[int, int, int]], options: dict[str, Any]
) -> None:
    module = "Conv2d(64, 128, kernel_size=(3, 3), stride=(2, 2), groups=64)"
    layers = {name.replace("\x07", "%07"): drifting_maps(*shapes[name]) for name in shapes}
    path = write_recording(
        tmp_path / "run.h5",
        layers,
        modules=dict.fromkeys(layers, module),
        fields=LABELLED,
        meta=CLASSES,
        epochs=2,
        batches=2,
    )
    made = film(path, list(shapes), **options)
    height, width = made.size
    assert height % 2 == width % 2 == 0
    boxes = [*made.layout.boxes]
    for part, (top, left) in zip(made.panels, made.layout.mosaic_corners, strict=True):
        for place in range(part.mosaic.count):
            y, x = part.mosaic.corner(place)
            tile_height, tile_width = part.mosaic.tile
            boxes.append((top + y, left + x, top + y + tile_height, left + x + tile_width))
    *_, frame = made.frames()
    for picture in frame.pictures:
        rows, columns = (side * picture.zoom for side in picture.pixels.shape[:2])
        boxes.append((picture.top, picture.left, picture.top + rows, picture.left + columns))
    taken = np.zeros((height, width), np.uint8)
    for top, left, bottom, right in boxes:
        assert 0 <= top < bottom <= height
        assert 0 <= left < right <= width
        # A line of text has air above and below its letters, which may touch its neighbour's.
        assert not taken[top + 1 : bottom - 1, left:right].any()
        taken[top + 1 : bottom - 1, left:right] = 1
    assert max(itertools.chain.from_iterable(boxes)) <= max(made.size)


def test_what_is_not_finite_has_its_own_colours_and_is_counted(tmp_path: Path) -> None:
    def maps(epoch: int, batch: int) -> np.ndarray:
        values = drifting_maps(4, 8, 8)(epoch, batch)
        if batch == 1:
            values[1, 2, 3:6] = np.nan
            values[2, 0, 0], values[2, 7, 7] = np.inf, -np.inf
        return values

    assert count_unfinite(maps(0, 1)) == (3, 2)
    assert count_unfinite(maps(0, 0)) == (0, 0)
    path = write_recording(tmp_path / "run.h5", {"conv1": maps}, epochs=1, batches=3)
    made = film(path)
    warnings = []
    palette = made.palette
    for _ in made.frames():
        nan = tile(made, 1) == palette.nan
        inf = tile(made, 2) == palette.inf
        warnings.append((int(nan.sum()), int(inf.sum())))
        slot = made.layout._counts[0]
        line = made.layout.plane[slot.top : slot.top + 14, slot.left : slot.left + slot.width]
        assert (palette.solid("warning") in line) == bool(nan.any())
        assert (palette.nan in line) == bool(nan.any())
    assert warnings == [(0, 0), (3, 2), (0, 0)]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("cmap", ["gray", "viridis", "RdBu_r", "tab10"])
def test_colours_can_be_told_apart(theme: str, cmap: str) -> None:
    palette = Palette(cmap, 240, theme)
    table = palette.table.astype(int)
    for foreign in (palette.nan, palette.inf):
        assert np.abs(table[:240] - table[foreign]).sum(axis=1).min() > 60
    paper = table[palette.paper].mean()
    for tone in ("ink", "muted", "accent", "warning"):
        assert abs(table[palette.solid(tone)].mean() - paper) > 80
    assert palette.free == 256


def test_without_captions_there_is_nothing_but_maps_and_input(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "run.h5", {"conv1": drifting_maps(6, 9, 9)})
    made = film(path, captions=False)
    frame = next(made.frames())
    assert made.layout.boxes == []
    used = np.unique(frame.plane)
    assert set(used[used >= 240]) == {made.palette.paper}
    assert len(frame.pictures) == 1
    without = film(path, captions=False, input=False)
    assert next(without.frames()).pictures == ()


def test_recordings_with_gaps_and_without_extras(tmp_path: Path) -> None:
    path = write_recording(
        tmp_path / "run.h5",
        {"conv1": drifting_maps(3, 5, 5)},
        epochs=3,
        batches=7,
        recorded=lambda e, b: (e * 7 + b) % 3 == 0 and (e, b) < (2, 3),
        image=None,
        fields={"loss": lambda e, b: float("nan") if b else 1.0},
        closed=False,
    )
    made = film(path)
    assert made.cells == [(0, 0), (0, 3), (0, 6), (1, 2), (1, 5), (2, 1)]
    assert all(frame.pictures == () for frame in made.frames())
    assert sum(1 for _ in film(path, epochs="1:", batches=[5, 1]).frames()) == 2


def test_inputs_of_any_number_of_channels_are_shown_in_steady_colours(tmp_path: Path) -> None:
    for channels in (1, 2, 3, 5):
        path = write_recording(
            tmp_path / f"{channels}.h5", {"conv1": drifting_maps(2, 4, 4)}, image=(channels, 20, 30)
        )
        (picture,) = next(film(path).frames()).pictures
        assert picture.pixels.shape == (20, 30, 3)
        assert picture.zoom == 8
        gray = (picture.pixels == picture.pixels[..., :1]).all()
        assert gray == (channels < 3)


def test_a_normalised_input_gets_its_colours_back(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "run.h5", {"conv1": drifting_maps(2, 4, 4)})
    with open_recording(path) as run:
        expected = np.rint((run.inputs[0, 0].astype(float) * 0.25 + 0.5).clip(0, 1) * 255)
    (picture,) = next(film(path).frames()).pictures
    assert np.abs(picture.pixels - np.moveaxis(expected, 0, 2)).max() <= 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"cmap": "virdis"}, OptionError, "viridis"),
        ({"theme": "pink"}, OptionError, "one of light, dark"),
        ({"scale": "best"}, OptionError, "unknown scale"),
        ({"clip": (1.0, 0.0)}, OptionError, "clip"),
        ({"zoom": 0}, OptionError, "zoom 0"),
        ({"channels": "99"}, SelectionError, "no channel 99"),
        ({"epochs": "7"}, SelectionError, "no epoch 7"),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    path = write_recording(tmp_path / "run.h5", {"conv1": drifting_maps(3, 5, 5)})
    with pytest.raises(error, match=message):
        film(path, **options)


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    program = (
        "import sys, resource; from replay.film.film import Film;"
        "from replay.options import FilmOptions;"
        "from replay.recording import open_recording;"
        "options = FilmOptions(layers=['conv1'], batches='0:' + sys.argv[2]);"
        "made = Film(open_recording(sys.argv[1]), options);"
        "n = sum(1 for _ in made.frames());"
        "assert n == int(sys.argv[2]), n;"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    path = write_recording(
        tmp_path / "run.h5",
        {"conv1": drifting_maps(8, 128, 128)},  # 256 KiB a frame, 50 MiB in all
        epochs=1,
        batches=200,
        image=None,
    )
    peaks = [
        int(subprocess.check_output([sys.executable, "-c", program, path, count]))
        for count in ("48", "200")  # a scale is measured on 48 frames at most
    ]
    assert peaks[1] < 1.1 * peaks[0]


def test_names_from_the_file_are_cleaned(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "run.h5", {"a%0Ab": drifting_maps(2, 4, 4)})
    made = film(path, ["a\nb"])
    assert made.panels[0].name == clean("a\nb") == "a·b"


def test_a_film_can_be_sent_to_another_process_whatever_named_its_channels(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "run.h5", {"conv1": drifting_maps(4, 8, 8)})
    with open_recording(path) as run:
        film = Film(run, FilmOptions(channels={1: "edges", 3: "corners"}.keys()))
        planes = [frame.plane.copy() for frame in film.frames()]
        sent = pickle.loads(pickle.dumps(film))
        for frame, plane in zip(sent.frames(), planes, strict=True):
            np.testing.assert_array_equal(frame.plane, plane)
