"""Each map on its own range in figures: the levels of a film, and bars that tell the gain."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from samples import drifting_maps, write_recording
from svg_maps import svg_maps

import replay
from replay.figures.batch import LEVELS
from replay.figures.grid_page import GridPage
from replay.figures.page import FigurePage
from replay.figures.sheet_page import SheetPage
from replay.film.film import Film
from replay.maps.adaptive import scale_channels
from replay.options import FilmOptions
from replay.raster.palette import Pixels

FILLED, EMPTY = "#0062be", "#d8dadd"
STRENGTH = np.array([1.0, 0.1, 0.01, 1e-5, 0.0, 0.5])  # of the channels; faint, constant


def strong_and_faint(epoch: int, batch: int) -> np.ndarray:
    waves = drifting_maps(6, 16, 16)(epoch, batch)
    return waves * STRENGTH[:, None, None] * (1 + epoch)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    still = drifting_maps(6, 16, 16, seed=3)
    return write_recording(
        tmp_path_factory.mktemp("gains") / "run.h5",
        {"conv": strong_and_faint, "tiny": drifting_maps(300, 2, 2)},
        epochs=3,
        batches=6,
        probes=[(np.zeros((3, 16, 16)), {"conv": lambda e, b: still(e, 0) * (1 + 10 * e)})],
    )


def pages(monkeypatch: pytest.MonkeyPatch, kind: type[FigurePage]) -> list[FigurePage]:
    """The pages that are drawn from now on."""
    drawn: list[FigurePage] = []
    draw = kind.draw

    def note(self: FigurePage, colors: Pixels, canvas: object) -> object:
        drawn.append(self)
        return draw(self, colors, canvas)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, "draw", note)
    return drawn


@pytest.mark.parametrize("scale", ["adaptive", "map", "run", "frame"])
@pytest.mark.parametrize("probe", [None, 0])
def test_figure_and_film_agree_on_the_levels_of_a_frame(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: str, probe: int | None
) -> None:
    grids, sheets = pages(monkeypatch, GridPage), pages(monkeypatch, SheetPage)
    replay.grid(path, tmp_path / "a.png", epochs="0:3", batch=4, scale=scale, probe=probe, dpi=60)
    replay.sheet(
        path, tmp_path / "b.png", batch=4, scale=scale, dpi=60, probe=False if probe is None else 0
    )
    with replay.open(path) as run:
        source = run if probe is None else run.probe(probe)
        # All of the run, and one frame alone: what is shown at a frame is the same.
        wide = Film(source, FilmOptions(scale=scale, levels=LEVELS - 14)).map_sections[0]
        alone = Film(
            source, FilmOptions(scale=scale, epochs=[1], batches=[4], levels=LEVELS - 14)
        ).map_sections[0]
        for epoch in range(3):
            maps = source["conv"][epoch, 4]
            shown = [page[0].panels[epoch] for page in (grids, sheets)]
            np.testing.assert_array_equal(shown[0].levels, shown[1].levels)
            levels = wide.scaler.levels(epoch, 4, maps)  # of 240 entries of a palette
            apart = shown[0].levels / (LEVELS - 1) - levels / (LEVELS - 15)
            assert np.abs(apart).max() <= 0.5 / (LEVELS - 1) + 0.5 / (LEVELS - 15) + 1e-6
            own = wide.scaler.channel_bounds(epoch, 4)
            if scale in ("adaptive", "map"):
                assert own is not None
                exact = scale_channels(maps, own.bounds, LEVELS)
                np.testing.assert_array_equal(shown[0].levels, exact)
                gains = shown[0].gains
                assert gains is not None
                assert [gain.share for gain in gains] == own.gain.tolist()
            else:
                assert own is shown[0].gains is None
        if scale == "adaptive":
            np.testing.assert_array_equal(
                wide.scaler.levels(1, 4, source["conv"][1, 4]),
                alone.scaler.levels(1, 4, source["conv"][1, 4]),
            )


def bars(svg: str, color: str) -> list[tuple[float, float]]:
    """(x, width) of every rectangle of a color, in points."""
    found = []
    for path, style in re.findall(r'<path d="([^"]*)" [^>]*style="([^"]*)"', svg):
        if f"fill: {color}" in style:
            xs = [float(x) for x, _ in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path)]
            found.append((min(xs), max(xs) - min(xs)))
    return found


def test_bars_tell_the_gain_on_a_logarithmic_scale(path: Path, tmp_path: Path) -> None:
    svg = replay.grid(path, tmp_path / "a.svg", layer="conv").path.read_text()
    empty, filled = bars(svg, EMPTY), bars(svg, FILLED)
    assert len(empty) == len(filled) == 4  # the others are open
    assert len({round(width, 2) for _, width in empty}) == 1  # of one length, so that they compare
    with replay.open(path) as run:
        widths = np.ptp(run["conv"].ranges(), axis=-1)
        last = run["conv"][2, 3].astype("f8")
    strongest = np.percentile(last[0], (1, 99)) @ [-1, 1] / widths.max()
    share = filled[0][1] / empty[0][1]
    assert share == pytest.approx(1 + math.log10(strongest) / 3, abs=0.02)
    assert filled[0][1] > filled[3][1] > filled[1][1] > filled[2][1]
    words = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert {"constant", "faint"} <= set(words)
    assert sum(word.startswith("×0.") for word in words) == 4
    said = " ".join(words)
    assert "bar: that range against the layer's largest (log); open bar: constant or faint" in said


def test_bars_of_a_sheet_grow_where_the_maps_do(path: Path, tmp_path: Path) -> None:
    svg = replay.sheet(path, tmp_path / "a.svg", layer="conv").path.read_text()
    filled = [width for _, width in bars(svg, FILLED)]
    first, last = filled[0], filled[2 * 6]
    assert last > 1.1 * first  # the maps of the fixed image are 21 times as large at the end
    assert len(bars(svg, EMPTY)) == 3 * 6
    assert "held while the image stays" in " ".join(re.findall(r">([^<]*)</text>", svg))


@pytest.mark.parametrize(
    ("scale", "ends"), [("adaptive", True), ("map", True), ("channel", True), ("run", False)]
)
def test_a_colour_bar_says_low_and_high_where_that_is_true(
    path: Path, tmp_path: Path, scale: str, ends: bool
) -> None:
    for draw in (replay.grid, replay.sheet):
        svg = draw(path, tmp_path / "a.svg", layer="conv", scale=scale, dpi=60).path.read_text()
        words = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
        assert ({"low", "high"} <= set(words)) == ends
        assert bool(bars(svg, FILLED)) == (scale in ("adaptive", "map"))


def test_tiles_without_numbers_have_bars_as_wide_as_they_are(path: Path, tmp_path: Path) -> None:
    for width in (None, "3.3in"):
        svg = replay.grid(path, tmp_path / "a.svg", layer="tiny", width=width).path.read_text()
        empty = bars(svg, EMPTY)
        assert len(empty) == 300
        first = svg_maps(svg)[0]
        assert empty[0][1] == pytest.approx(first.width * first.across, rel=0.02)


def test_each_recording_has_its_own_ranges(path: Path, tmp_path: Path) -> None:
    weak = write_recording(
        tmp_path / "weak.h5",
        {"conv": lambda e, b: strong_and_faint(e, b) / 64},
        epochs=3,
        batches=6,
        run_id="f" * 32,
    )
    made = replay.grid([path, weak], tmp_path / "a.svg", layer="conv", input=False)
    filled = [width for _, width in bars(made.path.read_text(), FILLED)]
    assert filled[:4] == pytest.approx(filled[4:], rel=0.05)


def test_the_default_is_adaptive_in_python_and_on_the_command_line(
    path: Path, tmp_path: Path
) -> None:
    from replay.__main__ import main

    for command in ("grid", "sheet"):
        out = tmp_path / f"{command}.png"
        assert main([command, str(path), "-o", str(out), "--dpi", "60"]) == 0
        made = getattr(replay, command)(path, tmp_path / "b.png", dpi=60, scale="adaptive")
        assert made.path.read_bytes() == out.read_bytes()


def test_figure_and_film_agree_on_the_range_of_a_frame_that_is_shown_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A film told it from means over blocks, which have fewer extremes."""

    def noise(epoch: int, batch: int) -> np.ndarray:
        return np.random.default_rng(batch).standard_normal((60, 300, 300)).astype("f2")

    large = write_recording(tmp_path / "run.h5", {"conv": noise}, epochs=1, batches=2)
    grids = pages(monkeypatch, GridPage)
    replay.grid(large, tmp_path / "a.png", batch=1, channels="0:60", scale="frame")
    with replay.open(large) as run:
        film = Film(run, FilmOptions(scale="frame"))
        list(film.frames([(0, 1)]))
        section = film.map_sections[0]
    assert section.panel.mosaic.shrink > 1
    assert section.shown == grids[0].panels[0].range
