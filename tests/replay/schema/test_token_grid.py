"""Where the tokens of an image stand in it, told from their number."""

from __future__ import annotations

import pytest

from replay.schema.token_grid import NOWHERE, TokenGrid, find_grid

SQUARE, TALL = (224, 224), (448, 224)


@pytest.mark.parametrize(
    ("tokens", "image", "expected"),
    [
        (196, SQUARE, (0, 14, 14)),  # Swin, or what has no class token
        (197, SQUARE, (1, 14, 14)),  # ViT
        (198, SQUARE, (2, 14, 14)),  # DeiT, with a teacher's token
        (201, SQUARE, (5, 14, 14)),  # DINOv2 with registers, DINOv3
        (65, (32, 32), (1, 8, 8)),
        (99, TALL, (1, 14, 7)),
        (103, TALL, (5, 14, 7)),
        (12 * 14 + 1, (200, 224), (1, 12, 14)),  # patches of 16, the rest cut off
        (10, (96, 96), (1, 3, 3)),
        (13, (12, 16), (1, 3, 4)),
        (50, SQUARE, (1, 7, 7)),
        (1370, (518, 518), (1, 37, 37)),
        (260, (256, 256), (4, 16, 16)),  # registers, and no class token
    ],
)
def test_it_has_the_proportions_of_the_image(
    tokens: int, image: tuple[int, int], expected: tuple[int, int, int]
) -> None:
    assert find_grid(tokens, None, image) == TokenGrid(*expected)


def test_what_is_recorded_holds_if_it_fits() -> None:
    assert find_grid(50, (7, 7), (224, 100)) == TokenGrid(1, 7, 7)
    assert find_grid(54, (7, 7), None) == TokenGrid(5, 7, 7)
    assert find_grid(50, (8, 8), SQUARE) == TokenGrid(1, 7, 7)
    for absurd in ((0, 7), (-7, -7), (1 << 40, 1 << 40)):
        assert find_grid(50, absurd, None) is None
    assert find_grid(49, (0, 7), SQUARE) == TokenGrid(0, 7, 7)
    assert find_grid(49, NOWHERE, SQUARE) is None


@pytest.mark.parametrize(
    ("tokens", "image"), [(197, None), (8, SQUARE), (77, SQUARE), (1, SQUARE), (0, SQUARE)]
)
def test_nothing_is_made_up(tokens: int, image: tuple[int, int] | None) -> None:
    assert find_grid(tokens, None, image) is None


def test_tokens_and_places() -> None:
    grid = TokenGrid(1, 3, 4)
    assert grid.token(0, 0) == 1
    assert grid.token(2, 3) == 12 == grid.token(-1, -1)
    assert grid.place(0) is None
    assert grid.place(13) is None
    assert grid.place(6) == (1, 1)
    with pytest.raises(IndexError):
        grid.token(3, 0)
