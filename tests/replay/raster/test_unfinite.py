"""The colors of NaN and infinity, held against formulas of the test's own."""

from __future__ import annotations

import base64
import math
import time

import numpy as np
import pytest
from matplotlib import colormaps

from replay.figures.page import level_colors
from replay.raster.palette import THEMES, Palette, TwoMapPalette, unfinite_colors
from replay.raster.vision import color_difference, seen_colors
from replay.webpage.manifest import color_tables

# Sharma, Wu and Dalal (2005), Table 1: two colors in CIELAB, and CIEDE2000.
PAIRS = """
50.0000 2.6772 -79.7751 50.0000 0.0000 -82.7485 2.0425
50.0000 3.1571 -77.2803 50.0000 0.0000 -82.7485 2.8615
50.0000 2.8361 -74.0200 50.0000 0.0000 -82.7485 3.4412
50.0000 -1.3802 -84.2814 50.0000 0.0000 -82.7485 1.0000
50.0000 -1.1848 -84.8006 50.0000 0.0000 -82.7485 1.0000
50.0000 -0.9009 -85.5211 50.0000 0.0000 -82.7485 1.0000
50.0000 0.0000 0.0000 50.0000 -1.0000 2.0000 2.3669
50.0000 -1.0000 2.0000 50.0000 0.0000 0.0000 2.3669
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0009 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0010 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0011 7.2195
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0012 7.2195
50.0000 -0.0010 2.4900 50.0000 0.0009 -2.4900 4.8045
50.0000 -0.0010 2.4900 50.0000 0.0011 -2.4900 4.7461
50.0000 2.5000 0.0000 50.0000 0.0000 -2.5000 4.3065
50.0000 2.5000 0.0000 73.0000 25.0000 -18.0000 27.1492
50.0000 2.5000 0.0000 61.0000 -5.0000 29.0000 22.8977
50.0000 2.5000 0.0000 56.0000 -27.0000 -3.0000 31.9030
50.0000 2.5000 0.0000 58.0000 24.0000 15.0000 19.4535
50.0000 2.5000 0.0000 50.0000 3.1736 0.5854 1.0000
50.0000 2.5000 0.0000 50.0000 3.2972 0.0000 1.0000
50.0000 2.5000 0.0000 50.0000 1.8634 0.5757 1.0000
50.0000 2.5000 0.0000 50.0000 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""
PUBLISHED = np.array([line.split() for line in PAIRS.split("\n") if line], float)

# Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB.
VISIONS = {
    "normal": [1, 0, 0, 0, 1, 0, 0, 0, 1],
    "protan": [
        *(0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216),
        *(-0.003882, -0.048116, 1.051998),
    ],
    "deutan": [
        *(0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413),
        *(-0.011820, 0.042940, 0.968881),
    ],
    "tritan": [
        *(1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602),
        *(0.004733, 0.691367, 0.303900),
    ],
}
BASES = sorted({name.removesuffix("_r") for name in colormaps})


def ciede2000(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """CIEDE2000 step by step as in the paper, in degrees."""
    (l1, a1, b1), (l2, a2, b2) = np.moveaxis(one, -1, 0), np.moveaxis(other, -1, 0)
    mean = (np.sqrt(a1**2 + b1**2) + np.sqrt(a2**2 + b2**2)) / 2
    g = 0.5 * (1 - np.sqrt(mean**7 / (mean**7 + 25**7)))
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = np.sqrt(a1**2 + b1**2), np.sqrt(a2**2 + b2**2)
    h1, h2 = np.degrees(np.arctan2(b1, a1)) % 360, np.degrees(np.arctan2(b2, a2)) % 360
    dh = h2 - h1
    dh = np.where(dh > 180, dh - 360, np.where(dh < -180, dh + 360, dh))
    dh = np.where(c1 * c2 == 0, 0, dh)
    big_dh = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(dh / 2))
    lm, cm, total = (l1 + l2) / 2, (c1 + c2) / 2, h1 + h2
    hm = np.where(np.abs(h1 - h2) <= 180, total / 2, (total + np.where(total < 360, 360, -360)) / 2)
    hm = np.where(c1 * c2 == 0, total, hm)

    def cosine(times: int, shift: float) -> np.ndarray:
        return np.cos(np.radians(times * hm + shift))

    t = 1 - 0.17 * cosine(1, -30) + 0.24 * cosine(2, 0) + 0.32 * cosine(3, 6) - 0.2 * cosine(4, -63)
    sl = 1 + 0.015 * (lm - 50) ** 2 / np.sqrt(20 + (lm - 50) ** 2)
    sc, sh = 1 + 0.045 * cm, 1 + 0.015 * cm * t
    rc = 2 * np.sqrt(cm**7 / (cm**7 + 25**7))
    rt = -np.sin(np.radians(60 * np.exp(-(((hm - 275) / 25) ** 2)))) * rc
    light, chroma, hue = (l2 - l1) / sl, (c2 - c1) / sc, big_dh / sh
    return np.sqrt(light**2 + chroma**2 + hue**2 + rt * chroma * hue)


def lab(colors: np.ndarray, vision: str) -> np.ndarray:
    value = colors / 255.0
    linear = np.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)
    linear = np.clip(linear @ np.reshape(VISIONS[vision], (3, 3)).T, 0, 1)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz = linear @ to_xyz.T / [0.95047, 1.0, 1.08883]
    root = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def least(colors: np.ndarray, others: np.ndarray) -> float:
    """The least difference of any of some colors from any of others, in any kind of vision."""
    others = np.unique(others.astype(float), axis=0)
    return min(
        float(ciede2000(lab(np.float64(colors), kind)[:, None], lab(others, kind)[None]).min())
        for kind in VISIONS
    )


def apart(nan: np.ndarray, inf: np.ndarray, others: np.ndarray) -> float:
    return min(least(np.array([nan, inf]), others), least(nan[None], inf[None]))


def test_both_formulas_give_the_published_differences() -> None:
    one, other, expected = PUBLISHED[:, :3], PUBLISHED[:, 3:6], PUBLISHED[:, 6]
    np.testing.assert_allclose(ciede2000(one, other), expected, atol=1e-4)
    np.testing.assert_allclose(color_difference(one, other), expected, atol=1e-4)
    colors = np.random.default_rng(0).integers(0, 256, (50, 3))
    for place, kind in enumerate(VISIONS):
        np.testing.assert_allclose(seen_colors(colors)[place], lab(colors, kind), atol=0.01)


@pytest.mark.parametrize("cmap", [*BASES, "gray_r", "viridis_r"])
def test_nan_and_infinity_are_ten_apart_from_every_map_and_from_each_other(cmap: str) -> None:
    for theme in THEMES:
        table = Palette(cmap, 240, theme).table
        nan, inf, paper = table[240:243]
        assert apart(nan, inf, np.concatenate([table[:240], [paper]])) >= 10
    for levels in (60, 254, 256):
        shown = colormaps[cmap](np.linspace(0, 1, levels), bytes=True)[:, :3]
        assert apart(nan, inf, shown) >= 10


@pytest.mark.parametrize("theme", list(THEMES))
@pytest.mark.parametrize("cmap", BASES)
def test_so_they_are_beside_a_difference(cmap: str, theme: str) -> None:
    made = TwoMapPalette(cmap, "RdBu_r", 240, theme)
    table, entries = made.table, made.differences
    others = [table[: made.levels], table[entries.start : entries.stop], table[[made.paper]]]
    found = apart(table[made.nan], table[made.inf], np.concatenate(others))
    assert found >= 10


def test_they_are_the_same_in_films_figures_and_pages() -> None:
    for cmap in ("gray", "viridis", "RdBu_r"):
        expected = unfinite_colors(cmap)
        for theme in THEMES:
            np.testing.assert_array_equal(Palette(cmap, 168, theme).table[168:170], expected)
        np.testing.assert_array_equal(level_colors(cmap)[254:], expected)
        page = np.frombuffer(base64.b64decode(color_tables([cmap])[cmap]), np.uint8)
        np.testing.assert_array_equal(page.reshape(-1, 3)[254:], expected)


def test_choosing_takes_no_time_that_anyone_notices() -> None:
    took = math.inf
    for cmap in ("cividis", "magma", "plasma"):
        start = time.perf_counter()
        unfinite_colors(f"{cmap}_r")
        took = min(took, time.perf_counter() - start)
    assert took < 0.5
