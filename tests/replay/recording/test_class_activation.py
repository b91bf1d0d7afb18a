"""Class activation of arrays: equal to what torch finds for the same network and class."""

from __future__ import annotations

import numpy as np
import pytest

from replay.recording.class_activation import class_activation, place_tokens
from replay.schema import OptionError


def test_equal_to_a_class_activation_by_hand() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU(), torch.nn.Conv2d(6, 8, 3))
    head = torch.nn.Linear(8, 5)
    maps = body(torch.randn(1, 3, 12, 12))
    maps.retain_grad()
    head(torch.tanh(maps).mean(dim=(2, 3)))[0, 3].backward()
    a, g = maps.detach()[0], maps.grad[0]
    w = g.mean(dim=(1, 2))
    expected = {
        "grad-cam": torch.relu((w[:, None, None] * a).sum(0)),
        "hirescam": torch.relu((g * a).sum(0)),
        "gradient-x-activation": (g * a).sum(0),
    }
    for method, values in expected.items():
        weights = w if method == "grad-cam" else g
        found = class_activation(method, a.numpy(), weights.numpy())
        assert found.dtype == np.float32
        assert np.allclose(found, values.numpy(), atol=1e-6)
        assert values.abs().max() > 0
    assert (class_activation("gradient-x-activation", a.numpy(), g.numpy()) < 0).any()


def test_float16_is_summed_in_float32() -> None:
    maps = np.full((300, 2, 2), 300, np.float16)
    found = class_activation("grad-cam", maps, np.ones(300, np.float32))
    assert found.tolist() == [[90000, 90000]] * 2


def test_nan_is_where_it_was_and_not_cut_to_zero() -> None:
    maps = np.ones((2, 2, 2), np.float16)
    maps[0, 0, 1], maps[1, 1, 1] = np.nan, np.inf
    found = class_activation("grad-cam", maps, np.array([-1, -1], np.float32))
    assert np.isnan(found).tolist() == [[False, True], [False, True]]
    assert found[0, 0] == 0


def test_tokens_stand_where_they_were_cut_out_and_others_are_left_out() -> None:
    tokens = np.arange(3 * 7).reshape(7, 3)  # a class token and 2 rows of 3
    maps = place_tokens(tokens, 2, 3)
    assert maps.shape == (3, 2, 3)
    assert maps[:, 0, 0].tolist() == tokens[1].tolist()
    assert maps[:, 1, 2].tolist() == tokens[6].tolist()


def test_an_unknown_method_names_the_near_one() -> None:
    with pytest.raises(OptionError, match="'gradcam'.*grad-cam"):
        class_activation("gradcam", np.zeros((1, 1, 1)), np.zeros(1))
