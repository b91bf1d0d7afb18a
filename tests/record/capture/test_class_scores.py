"""Scores of classes in outputs of any form, grids of tokens, and numbers with an exponent."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch

from record.capture.class_scores import CannotActivateError, class_scores
from record.capture.gradient_scaling import scale_to_half


class Named(NamedTuple):
    loss: torch.Tensor
    logits: torch.Tensor


SCORES = torch.tensor([[1.0, 3.0, 2.0], [0.0, -1.0, 4.0]])


@pytest.mark.parametrize(
    "output",
    [
        SCORES,
        {"out": SCORES[:, :, None, None].expand(2, 3, 4, 5), "aux": torch.zeros(2, 7, 4, 5)},
        Named(torch.tensor(0.5), SCORES),
        (torch.tensor(0.5), SCORES),
        [SCORES.half(), torch.zeros(2, 9)],
    ],
)
def test_scores_of(output: Any) -> None:
    found = class_scores(output, 2)
    assert torch.allclose(found.scores, SCORES)
    assert torch.allclose(found.probabilities, SCORES.softmax(1))
    assert found.as_labels([0, None]).tolist() == [0, -1]
    assert found.as_labels([7, 2]).tolist() == [-1, 2]


WIDE, TOKENS = torch.zeros(2, 9), torch.zeros(2, 5, 3)


@pytest.mark.parametrize(
    ("output", "known", "guess"),
    [
        ((WIDE, SCORES), 3, ""),
        ({"features": WIDE, "head": SCORES}, 3, ""),
        ((TOKENS, SCORES), 0, ""),
        ((SCORES, WIDE), 0, "output 0, (2, 3), the first of 2"),
        ({"a": SCORES, "b": WIDE}, 7, "output a, (2, 3), the first of 2"),
        ((WIDE, SCORES, SCORES + 1), 3, "output 1, (2, 3), the first of 2"),
        ((torch.tensor(0.5), SCORES), 0, ""),
        ({"logits": SCORES, "a": WIDE}, 9, ""),
        (SCORES, 9, ""),
    ],
)
def test_which_of_several_is_known_or_said(output: Any, known: int, guess: str) -> None:
    found = class_scores(output, 2, known)
    assert torch.equal(found.scores, SCORES)
    assert found.guess == guess


def test_of_one_number() -> None:
    for output in (torch.tensor([2.0, -1.0]), torch.tensor([[2.0], [-1.0]])):
        found = class_scores(output, 2)
        assert found.scores.tolist() == [[-2.0, 2.0], [1.0, -1.0]]
        assert torch.allclose(found.probabilities[:, 1], torch.sigmoid(torch.tensor([2.0, -1.0])))


def test_probabilities_stay_as_they_are() -> None:
    likely = SCORES.softmax(1)
    assert torch.equal(class_scores(likely, 2).probabilities, likely)


@pytest.mark.parametrize(
    "output",
    [torch.tensor(1.0), SCORES[:1], torch.zeros(2, 5, 3), torch.zeros(2, 3).long(), [], None, "x"],
)
def test_no_scores(output: Any) -> None:
    with pytest.raises(CannotActivateError, match="not a score for each class"):
        class_scores(output, 2)


@pytest.mark.parametrize("factor", [1e-38, 1e-20, 1e-3, 1.0, 7e4, 1e30])
def test_numbers_of_any_size(factor: float) -> None:
    values = torch.tensor([1.0, -0.3, 1e-4, 0.0]) * factor
    scaled, exponents = scale_to_half(torch.stack([values, 4 * values.flip(0)]))
    assert exponents[1] - exponents[0] == 2
    scaled, exponent = scaled[0], exponents[0]
    assert 2**14 <= scaled.abs().max() <= 2**15
    back = scaled.half().double() * 2.0 ** float(exponent)
    assert torch.allclose(back, values.double(), rtol=1e-3, atol=0)


def test_zeros_and_what_is_not_finite() -> None:
    values = torch.tensor([[0.0, 0.0, 0.0], [torch.inf, 1.0, torch.nan]])
    (zeros, scaled), exponents = scale_to_half(values)
    assert zeros.tolist() == [0, 0, 0]
    assert exponents[0] == 0
    assert scaled[0] == torch.inf
    assert scaled[1] == 2**14
    assert scaled[2].isnan()
