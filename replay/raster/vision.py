"""How different two colors look, to most people and to those who see fewer of them.

Sources: the difference is CIEDE2000 (Sharma, Wu and Dalal, The CIEDE2000 Color-Difference Formula,
Color Research and Application 30, 2005), of sRGB (IEC 61966-2-1) under its own white, D65. What
color-blind people see is simulated as by Machado, Oliveira and Fernandes (A Physiologically-based
Model for Simulation of Color Vision Deficiency, 2009) at the full severity.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

# Linear red, green and blue as they are seen: by most; without red, green or blue cones.
_SEEN = np.array(
    [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
    ]
)
_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def seen_colors(colors: npt.ArrayLike) -> Numbers:
    """Returns sRGB colors as they are seen, in CIELAB.

    Args:
        colors: (..., 3), red, green and blue from 0 to 255.

    Returns:
        float64 (4, ..., 3), L*, a* and b*: by most people, and with protanopia, deuteranopia and
        tritanopia.
    """
    value = np.asarray(colors, np.float64) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.einsum("vij,...j->v...i", _SEEN, linear), 0.0, 1.0)  # (4, ..., 3)
    share = seen @ _XYZ.T / _XYZ.sum(axis=1)
    cubic = np.where(share > (6 / 29) ** 3, np.cbrt(share), share * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(cubic, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def color_difference(one: npt.ArrayLike, other: npt.ArrayLike) -> Numbers:
    """Returns CIEDE2000 of CIELAB colors, (..., 3) each, which are broadcast; float64 (...)."""
    l_1, a_1, b_1 = np.moveaxis(np.asarray(one, np.float64), -1, 0)
    l_2, a_2, b_2 = np.moveaxis(np.asarray(other, np.float64), -1, 0)
    grayness = 1.5 - 0.5 * _chroma_share((np.hypot(a_1, b_1) + np.hypot(a_2, b_2)) / 2)
    a_1, a_2 = a_1 * grayness, a_2 * grayness
    c_1, c_2 = np.hypot(a_1, b_1), np.hypot(a_2, b_2)
    h_1, h_2 = np.arctan2(b_1, a_1), np.arctan2(b_2, a_2)
    turn = (h_2 - h_1 + np.pi) % (2 * np.pi) - np.pi
    gray = c_1 * c_2 == 0
    hue = np.where(gray, h_1 + h_2, h_1 + turn / 2)  # the middle of the shorter arc
    lightness, chroma = (l_1 + l_2) / 2, (c_1 + c_2) / 2
    weight = (
        1
        - 0.17 * np.cos(hue - np.pi / 6)
        + 0.24 * np.cos(2 * hue)
        + 0.32 * np.cos(3 * hue + np.pi / 30)
        - 0.20 * np.cos(4 * hue - np.radians(63))
    )
    from_middle = (lightness - 50) ** 2
    light = (l_2 - l_1) / (1 + 0.015 * from_middle / np.sqrt(20 + from_middle))
    strong = (c_2 - c_1) / (1 + 0.045 * chroma)
    around = 2 * np.sqrt(c_1 * c_2) * np.sin(np.where(gray, 0.0, turn) / 2)
    around /= 1 + 0.015 * chroma * weight
    bend = np.radians(60) * np.exp(-((((np.degrees(hue) % 360) - 275) / 25) ** 2))
    turned = -2 * np.sin(bend) * _chroma_share(chroma) * strong * around
    difference: Numbers = np.sqrt(light**2 + strong**2 + around**2 + turned)
    return difference


def least_difference(colors: npt.ArrayLike, others: npt.ArrayLike) -> Numbers:
    """Returns for each sRGB color how far the nearest of some others is, to anyone's eyes.

    Args:
        colors: (N, 3), 0 to 255.
        others: (M, 3), 0 to 255.

    Returns:
        float64 (N,), the least CIEDE2000 over all others and all four kinds of vision.
    """
    one, other = seen_colors(colors), seen_colors(others)
    least: Numbers = color_difference(one[:, :, None], other[:, None]).min(axis=(0, 2))
    return least


def _chroma_share(chroma: Numbers) -> Numbers:
    share: Numbers = np.sqrt(chroma**7 / (chroma**7 + 25.0**7))
    return share
