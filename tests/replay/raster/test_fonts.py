"""Text in scripts that DejaVu Sans lacks, or that runs from right to left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import drifting_maps, write_recording
from tiny_font import bare, installed  # noqa: F401 (fixtures)

import replay
from replay.film import ComparisonFilm, Film
from replay.formatting import clean
from replay.options import ComparisonOptions, FilmOptions
from replay.raster import fonts, text
from replay.raster.bidi import parts, visual_order
from replay.raster.fonts import missing_remarks, pieces
from replay.raster.text import cover, fit, height_of, width_of
from replay.recording import open_recording

ARABIC, HEBREW = "شبكة", "שלום"


def texts(line: str) -> list[str]:
    return [piece.text for piece in pieces(line)]


def test_plain_text_asks_no_other_font() -> None:
    program = (
        "import sys; from replay.raster.text import cover, fit\n"
        "cover('Größe Δx → 3×3 … ■ −1.2', 12); cover('Жλ', 12); fit('a' * 99, 12, 50)\n"
        "assert not {'matplotlib', 'fontTools'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_font_of_the_machine_draws_what_dejavu_lacks(installed: Path) -> None:  # noqa: F811
    line = "map 特徴 of क"
    found = pieces(line)
    assert [Path(piece.path).name for piece in found] == ["", "tiny.ttf", "", "tiny.ttf"]
    assert "".join(piece.text for piece in found) == line
    plane = cover(line, 20)
    assert plane.shape == (height_of(20), width_of(line, 20))
    squares = plane[:, width_of("map ", 20) :][:, :36]
    assert (squares == 255).sum() > 2 * 13 * 13  # two squares of 14 pixels
    assert missing_remarks([line]) == []


def test_what_no_font_has_is_a_number_and_one_remark(bare: None) -> None:  # noqa: F811
    assert texts("map 特徴!") == ["map U+7279 U+5FB4 !"]
    assert np.array_equal(cover("特", 14), cover("U+7279", 14))
    assert width_of(fit("特徴" * 20, 14, 150), 14) <= 150
    (remark,) = missing_remarks(["特徴", "conv1", "特", "하", "क"])
    assert "U+" in remark
    for name in ("Noto Sans CJK", "Noto Sans Devanagari"):
        assert remark.count(name) == 1
    assert missing_remarks(["conv1", "Größe", ARABIC, HEBREW]) == []


@pytest.mark.parametrize("raqm", [True, False])
def test_hebrew_and_arabic_run_from_right_to_left(
    raqm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if raqm and not fonts.has_raqm():
        pytest.skip("this Pillow has no raqm")
    for module in (fonts, text):
        monkeypatch.setattr(module, "has_raqm", lambda: raqm)
    for cached in (pieces, width_of, cover, text._font):
        cached.cache_clear()
    first, last = (cover(letter, 30) for letter in (HEBREW[0], HEBREW[-1]))
    word = cover(HEBREW, 30)
    ink = word.any(axis=0)
    assert np.array_equal(word[:, -first.shape[1] :].any(axis=0)[-8:], first.any(axis=0)[-8:])
    assert np.array_equal(word[:, : last.shape[1]].any(axis=0)[:8], last.any(axis=0)[:8])
    assert ink.any()
    joined, apart = width_of(ARABIC, 30), sum(width_of(letter, 30) for letter in ARABIC)
    assert joined < 0.9 * apart
    for cached in (pieces, width_of, cover, text._font):
        cached.cache_clear()


def test_parts_of_a_line_that_run_the_other_way() -> None:
    assert parts(f"conv1 {HEBREW} 12 {HEBREW} x") == [
        ("conv1 ", False),
        (f"{HEBREW} 12 {HEBREW}", True),
        (" x", False),
    ]
    assert parts("conv1") == [("conv1", False)]
    assert parts("") == []
    assert visual_order("אב 12 ג") == "ג 12 בא"
    assert visual_order("(א)") == "(א)"
    assert visual_order("سلام") == "ﻡﻼﺳ"


def test_joiners_stay_in_scripts_that_need_them_only() -> None:
    assert clean("می\u200cخواهم") == "می\u200cخواهم"
    assert clean("con\u200dv1\u202e") == "con·v1·"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30), st.integers(1, 300))
def test_any_text_can_be_drawn_and_fits(line: str, width: int) -> None:
    line = clean(line)
    assert cover(line, 12).shape == (height_of(12), max(width_of(line, 12), 1))
    assert width_of(fit(line, 12, width), 12) <= width
    assert "".join(part for part, _ in parts(line)) == line
    assert all(visual_order(part) for part, _ in parts(line))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(
        tmp_path_factory.mktemp("names") / "run.h5",
        {"特徴.conv1": drifting_maps(2, 6, 6)},
        fields={"label": lambda e, b: 0, "prediction": lambda e, b: 1},
        meta={"classes": ["क", ARABIC]},
    )


def test_films_draw_such_names_or_say_that_they_cannot(
    path: Path,
    installed: Path,  # noqa: F811
) -> None:
    with open_recording(path) as run:
        assert Film(run, FilmOptions()).remarks == []
        assert Film(run, FilmOptions(title="하")).remarks[0].startswith("no font on this machine")
        assert ComparisonFilm([run, run], ComparisonOptions()).remarks == []


def test_films_without_a_font_make_one_remark(path: Path, bare: None) -> None:  # noqa: F811
    with open_recording(path) as run:
        (remark,) = Film(run, FilmOptions()).remarks
        assert all(letter in remark for letter in "特徴क")
        assert ARABIC[0] not in remark
        assert len(ComparisonFilm([run, run], ComparisonOptions()).remarks) == 1
        assert Film(run, FilmOptions(captions=False)).remarks == []


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_figures_do_so_too(
    path: Path,
    tmp_path: Path,
    suffix: str,
    installed: Path,  # noqa: F811
) -> None:
    made = replay.grid(path, tmp_path / f"a{suffix}", title=f"特徴 {ARABIC}", scale="run")
    assert made.remarks == ()
    other = replay.grid(path, tmp_path / f"b{suffix}", title="하", scale="run")
    assert len(other.remarks) == (suffix != ".svg")
    if suffix == ".svg":
        assert "하" in other.path.read_text(encoding="utf-8")
        assert "Tiny Squares" in made.path.read_text(encoding="utf-8")
    if suffix == ".pdf":
        assert b"Squares" in made.path.read_bytes()
