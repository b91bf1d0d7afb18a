from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from replay.formatting import clean, format_loss, format_module, format_number
from replay.raster.text import cover, fit, height_of, width_of, wrap


def test_coverage_has_the_announced_size_and_both_ink_and_paper() -> None:
    plane = cover("conv1 → 12, 3×3 …·■", 14, bold=True)
    assert plane.shape == (height_of(14, True), width_of("conv1 → 12, 3×3 …·■", 14, True))
    assert plane.dtype == np.uint8
    assert plane.max() == 255
    assert plane.min() == 0
    assert not plane[0].any()
    assert cover("conv1", 14) is cover("conv1", 14)


def test_digits_are_equally_wide_so_that_numbers_stand_still() -> None:
    assert len({width_of(digit * 5, 16) for digit in "0123456789"}) == 1


@pytest.mark.parametrize("middle", [False, True])
@pytest.mark.parametrize("width", [0, 5, 30, 77, 150, 1000])
def test_fitted_text_is_as_long_as_fits(width: int, middle: bool) -> None:
    text = "features.blocks.12.layer1.0.conv1.depthwise"
    fitted = fit(text, 14, width, middle=middle)
    assert width_of(fitted, 14) <= width
    if width == 1000:
        assert fitted == text
    elif width == 150:
        assert "…" in fitted
        assert len(fitted) > 10
        assert fitted.endswith("wise") == middle


def test_wrapped_lines_fit() -> None:
    lines = wrap("activation, one scale for the whole run, symmetric around 0", 12, 120)
    assert len(lines) > 1
    assert all(width_of(line, 12) <= 120 for line in lines)
    assert wrap("", 12, 100) == ()


def test_what_cannot_be_drawn_is_replaced() -> None:
    assert clean("a\nb\x00c\u202ed\ud800") == "a·b·c·d·"
    assert clean("x" * 1000).endswith("…")
    cover(clean("\udcff\n\t"), 12)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("Conv2d(3, 12, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))", "Conv2d 3 → 12, 3×3"),
        (
            "Conv2d(64, 64, kernel_size=(3, 5), stride=(2, 2), groups=64, bias=False)",
            "Conv2d 64 → 64, 3×5, stride 2, groups 64",
        ),
        ("Conv1d(1, 8, kernel_size=(9,), stride=(2,))", "Conv1d 1 → 8, kernel 9, stride 2"),
        ("MaxPool2d(kernel_size=4, stride=4, dilation=1)", "MaxPool2d, 4×4, stride 4"),
        ("BatchNorm2d(64, eps=1e-05, momentum=0.1)", "BatchNorm2d 64"),
        ("ReLU(inplace=True)", "ReLU"),
        ("Block(\n  (a): Conv2d(3, 4)\n)", "Block"),
        ("", ""),
    ],
)
def test_modules_in_a_few_words(module: str, words: str) -> None:
    assert format_module(module) == words


def test_numbers_in_words() -> None:
    assert format_number(-1.125) == "−1.12"
    losses = {
        0.4123: "0.412",
        0.35: "0.350",
        0.023: "0.0230",
        0.0227: "0.0227",
        0.000897: "0.000897",
        2.3026: "2.30",
        -12.34: "−12.3",
        999.0: "999",
        12345.0: "1.23e+04",
        1e-5: "1.00e−05",
        0.0: "0",
        math.nan: "nan",
        -math.inf: "−inf",
    }
    assert [format_loss(loss) for loss in losses] == list(losses.values())


def test_no_matplotlib_is_imported_for_text() -> None:
    program = (
        "import sys; from replay.raster.text import cover; cover('a', 12);"
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
