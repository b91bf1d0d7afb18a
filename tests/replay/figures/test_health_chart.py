"""The chart of `health`: all that was found is drawn, layers share an axis, epochs have places."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.diagnosis.report import Change, Health, LayerHealth
from replay.figures import draw_health
from replay.figures.change_axis import ChangeAxis
from replay.schema import OptionError, OutputError

DEAD, DUPLICATE, NOT_FINITE, CHANGE = "#b3261e", "#7a4fb5", "#00838f", "#2b6cb0"


def sick(epoch: int, batch: int) -> np.ndarray:
    made = drifting_maps(8, 16, 16)(epoch, batch).copy()
    if (epoch, batch) >= (1, 4):
        made[0] = 0
    made[2] = 2 * made[1] + 1
    made[4] = 3 * made[1]
    if (epoch, batch) in ((2, 3), (2, 7)):
        made[7, 0, :3] = np.nan
    return made * (1 + epoch)


def chart(found: Health, path: Path) -> str:
    return draw_health(found, path).path.read_text(encoding="utf-8")


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def dots(svg: str, color: str) -> list[tuple[float, float]]:
    uses = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="([^"]*)"', svg)
    return [(float(x), float(y)) for x, y, style in uses if color in style]


def lines(svg: str, color: str) -> list[list[tuple[float, float]]]:
    drawn = re.findall(r'<path d="([^"]*)" [^>]*style="([^"]*)"', svg)
    return [
        [(float(x), float(y)) for x, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path)]
        for path, style in drawn
        if f"stroke: {color}" in style
    ]


def place_of(svg: str, word: str) -> list[tuple[float, float]]:
    return [
        (float(x), float(y))
        for x, y, text in re.findall(r'<text [^>]*? x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)<', svg)
        if text == word
    ]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Health:
    path = tmp_path_factory.mktemp("chart") / "run.h5"
    layers = {"sick": sick, "well": drifting_maps(4, 8, 8)}
    return replay.health(write_recording(path, layers, epochs=4, batches=10))


def test_duplicates_and_what_is_not_finite_are_drawn(found: Health, tmp_path: Path) -> None:
    svg = chart(found, tmp_path / "a.svg")
    assert len(dots(svg, NOT_FINITE)) == 2  # the two batches
    (first, base), _ = lines(svg, NOT_FINITE)[1]  # the first is in the legend
    places = [x for x, _ in dots(svg, NOT_FINITE)]
    assert first == places[0]
    assert base > dots(svg, NOT_FINITE)[0][1]
    dashed = [path for path in lines(svg, DUPLICATE) if len(path) == 2][-1]
    beside = place_of(svg, "100 %")[0][1]
    frame = [path[0][1] for path in lines(svg, "#63676e") if abs(path[0][1] - base) < 60]
    top, foot = min(frame, key=lambda y: abs(y - beside)), base
    share = (foot - dashed[0][1]) / (foot - top)
    assert share == pytest.approx(2 / 8, abs=0.04)  # channels 2 and 4 are like channel 1
    words = texts(svg)
    assert {"NaN or infinite in the batch", "like another channel, late in the run"} <= set(words)
    assert "saturated" not in words  # only what is there is named
    assert any(word.startswith("→ with mixed precision") for word in words)
    together = " ".join(words)
    for finding in found.layers[0].findings:
        assert finding.advice in together


def test_layers_share_an_axis_and_the_change_to_epoch_1_stands_at_1(
    found: Health, tmp_path: Path
) -> None:
    svg = chart(found, tmp_path / "a.svg")
    marks = dots(svg, CHANGE)
    assert len(marks) == 6
    xs = sorted({round(x, 2) for x, _ in marks})
    assert len(xs) == 3  # epochs 1, 2, 3 of both layers
    for number, x in enumerate(xs, 1):
        beside = [at for at, _ in place_of(svg, str(number)) if abs(at - x) < 4]
        assert len(beside) == 2  # under either plot, where the mark stands
    left = xs[0] - (xs[1] - xs[0])  # epoch 0
    assert any(abs(at - left) < 4 for at, _ in place_of(svg, "0"))
    axis = ChangeAxis.of(found.layers, found.frames)
    ends = [word for word in texts(svg) if word == f"{axis.high:g}"]
    assert len(ends) == 2
    largest = max(change.value for layer in found.layers for change in layer.changes)
    assert largest <= axis.high < 2.01 * largest


def test_empty_panels_shrink(found: Health, tmp_path: Path) -> None:
    def height(layers: list[LayerHealth]) -> float:
        one = Health(found.path, found.frames, layers)
        svg = chart(one, tmp_path / "a.svg")
        return float(re.findall(r'<svg [^>]*height="([\d.]+)pt"', svg)[0])

    well, none = found.layers[1], LayerHealth("none", "", (4, 8, 8), 4, 40)
    empty = height([])
    one = height([well]) - empty
    assert height([well, well]) - empty - one < 72 * 0.95  # heading, a low plot, numbers below
    assert height([none]) - height([]) < 72 * 0.35  # a heading
    svg = chart(Health(found.path, found.frames, [well]), tmp_path / "b.svg")
    assert "100 %" not in texts(svg)
    wide = dots(svg, CHANGE)
    both = dots(chart(found, tmp_path / "c.svg"), CHANGE)
    assert wide[-1][0] - wide[0][0] > 1.5 * (both[2][0] - both[0][0])  # it has all of the width


def test_very_unequal_changes_are_on_a_logarithmic_axis(tmp_path: Path) -> None:
    frames = [(epoch, 0) for epoch in range(4)]

    def layer(name: str, *values: float) -> LayerHealth:
        changes = [Change((e, 0), (e + 1, 0), value) for e, value in enumerate(values)]
        return LayerHealth(name, "", (2, 4, 4), 2, 4, changes=changes)

    layers = [layer("fast", 30.0, 2.0, 0.0), layer("slow", 0.02, float("nan"), 0.005)]
    axis = ChangeAxis.of(layers, frames)
    assert (axis.low, axis.high, axis.logarithmic) == (0.001, 100.0, True)
    assert axis.up(0.0) == 0.0
    assert axis.up(0.001) == 0.0
    assert axis.up(100.0) == 1.0
    assert axis.up(0.1) == pytest.approx(0.4)
    assert [axis.across(one) for one in layers[0].changes] == pytest.approx([1 / 3, 2 / 3, 1])
    svg = chart(Health(tmp_path / "run.h5", frames, layers), tmp_path / "a.svg")
    assert "relative change between epochs, logarithmic" in texts(svg)
    assert ChangeAxis.of([], []).up(0.5) == 0.5
    assert ChangeAxis.of([layer("still", 0.0, 0.0)], frames).high == 1.0


def test_one_epoch_is_drawn_over_its_batches(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "run.h5", {"a": drifting_maps(4, 8, 8)}, epochs=1, batches=30)
    svg = chart(replay.health(path), tmp_path / "a.svg")
    assert "relative change between batches" in texts(svg)
    xs = [x for x, _ in dots(svg, CHANGE)]
    assert xs == sorted(xs)
    assert len(xs) == 16


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_the_call_draws_what_the_command_does(found: Health, tmp_path: Path, suffix: str) -> None:
    command = tmp_path / f"command{suffix}"
    assert main(["health", str(found.path), "-o", str(command), "--theme", "dark"]) == 0
    looked: list[tuple[int, int]] = []
    with replay.open(found.path) as run:
        makes: list[Any] = [
            *(
                replay.draw_health(given, tmp_path / f"{place}{suffix}", theme="dark")
                for place, given in enumerate([found, found.path, run])
            ),
            replay.draw_health(
                run, tmp_path / f"3{suffix}", theme="dark", progress=lambda *at: looked.append(at)
            ),
        ]
    assert {made.path.read_bytes() for made in makes} == {command.read_bytes()}
    assert looked == [(1, 2), (2, 2)]
    (made, *_) = makes
    assert made.bytes == command.stat().st_size
    assert made.captions == ("Health of run.h5: 5 findings in 2 layers, 40 batches",)
    assert repr(made).startswith(f"<Figure '{made.path}': {made.width}×{made.height} pixels, ")
    assert made.path.name in made._repr_html_() or "base64" in made._repr_html_()
    assert r"\caption{Health of run.h5: 5 findings in 2 layers, 40 batches}" in made.latex()
    assert r"\label{fig:0}" in made.latex()


def test_the_chart_of_the_call_keeps_the_rules_of_the_house(
    found: Health, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.h5"
    copy.write_bytes(found.path.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert replay.draw_health(copy).path == tmp_path / "copy-health.png"  # beside it
    assert replay.draw_health(copy).replaced == (tmp_path / "copy-health.png",)
    mine = tmp_path / "mine.png"
    mine.write_bytes(b"mine")
    examined: list[int] = []
    with pytest.raises(OutputError, match="overwrite=True"):
        replay.draw_health(copy, mine, progress=lambda done, total: examined.append(done))
    assert not examined  # it is found before anything is looked at
    assert mine.read_bytes() == b"mine"
    assert replay.draw_health(copy, mine, overwrite=True).replaced == (mine,)
    for out in ("a.jpg", "missing/a.png"):
        with pytest.raises(OutputError):
            replay.draw_health(found, out)
    with pytest.raises(OptionError, match="theme"):
        replay.draw_health(found, "a.png", theme="pink")
