"""Figures and films are the same whatever settings of matplotlib, or of windows, their maker has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from command_lines import ROOT
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from samples import drifting_maps, write_recording

import replay

ODD = """
text.usetex: True
figure.autolayout: True
font.family: serif
font.size: 20
font.weight: bold
font.style: italic
text.color: red
text.antialiased: False
text.hinting: no_hinting
image.interpolation: bilinear
image.interpolation_stage: rgba
image.origin: lower
image.aspect: auto
image.cmap: no-such-colormap
savefig.bbox: tight
savefig.pad_inches: 1
savefig.dpi: 33
savefig.transparent: True
savefig.facecolor: pink
figure.dpi: 45
figure.frameon: False
axes.facecolor: yellow
axes.xmargin: 0.3
axes.grid: True
axes.unicode_minus: False
lines.linewidth: 9
lines.antialiased: False
lines.marker: o
lines.solid_capstyle: round
patch.linewidth: 7
patch.force_edgecolor: True
path.sketch: 5, 100, 2
svg.fonttype: path
svg.image_inline: False
pdf.fonttype: 3
pdf.use14corefonts: True
pdf.compression: 0
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("odd") / "run.h5"
    return write_recording(path, {"conv1": drifting_maps(5, 12, 8)}, epochs=3)


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("command", "suffixes"),
    [
        ("grid", ".png .svg .pdf"),
        ("sheet", ".png .svg"),
        ("health", ".png .svg"),
        ("animate", ".gif"),
    ],
)
def test_a_matplotlibrc_changes_no_byte(
    command: str, suffixes: str, path: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "matplotlibrc"
    odd.write_text(ODD)
    plain = tmp_path / "plain" / "matplotlibrc"
    plain.parent.mkdir()
    plain.write_text("")
    for suffix in suffixes.split():
        made = []
        for settings in (plain, odd):
            out = tmp_path / f"{settings.parent.name}{suffix}"
            done = run("replay", command, path, "-o", out, MATPLOTLIBRC=str(settings))
            assert done.returncode == 0, done.stderr
            made.append(out.read_bytes())
        assert made[0] == made[1], suffix


@pytest.mark.parametrize("program", ["replay", "mapreel replay"])
def test_a_backend_that_is_not_there_is_not_looked_for(
    program: str, path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.png"
    done = run(*program.split(), "grid", path, "-o", out, MPLBACKEND="nonsense")
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size


@pytest.mark.parametrize("program", ["replay", "mapreel", "record"])
def test_ctrl_c_while_python_reads_its_modules_is_no_traceback(
    program: str, tmp_path: Path
) -> None:
    """A numpy that is interrupted stands before the real one: all programs read it first."""
    (tmp_path / "numpy.py").write_text("raise KeyboardInterrupt")
    done = run(program, "--version", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("numbers", [True, False])
def test_maps_in_axes_of_ones_own_stand_upright(numbers: bool, path: Path) -> None:
    odd = {"image.origin": "lower", "image.aspect": "auto", "image.interpolation": "bilinear"}
    with replay.open(path) as opened, matplotlib.rc_context(odd):
        maps = opened["conv1"][-1, -1][2].astype(float)
        figure = Figure(figsize=(4, 4), dpi=100)
        ax = figure.add_axes((0, 0, 1, 1))
        image = replay.draw(opened, ax, channels=2, numbers=numbers, scale="map")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., 0].astype(float)
        at = ax.transData.transform([(x, y) for y in range(12) for x in range(8)])
    assert ax.get_aspect() == 1.0
    assert image.get_interpolation() == "nearest"
    assert at[0, 1] > at[-1, 1]  # the first row is above the last
    shown = pixels[399 - at[:, 1].astype(int), at[:, 0].astype(int)].reshape(12, 8)
    expected = (maps - maps.min()) / np.ptp(maps) * 255
    assert np.abs(shown - expected).max() < 2
