"""What the recorder writes of tokens, sizes that change and a probe is what replay shows."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

import replay
from record import Recorder


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 4, 4, 4)
        self.norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        first = torch.zeros_like(tokens[:, :1])
        return self.norm(torch.cat([first, tokens], 1)).mean()


def test_from_training_to_the_picture(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Tokens()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    path = tmp_path / "run.h5"
    probe = torch.rand(3, 16, 16)
    with Recorder(model, path, layers=["patch", "norm"], probe=probe) as recorder:
        for batch in range(4):
            images = torch.rand(2, 3, 16, 16 if batch != 1 else 8)
            loss = (model(images) - 1) ** 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            recorder.log(loss=loss)
            recorder.step()
    with replay.open(path) as run:
        assert run.layers == ("patch", "norm", "patch@4x4x2", "norm@9x4")
        assert run["norm"].layer.axes == "TC"
        assert run["norm"].frames == [(0, 0), (0, 2), (0, 3)]
        assert run["norm@9x4"].frames == [(0, 1)]
        assert [run.inputs[0, batch].shape[2] for batch in range(4)] == [16, 8, 16, 16]
        view = run.probe()
        assert view.layers == ("patch", "norm")
        np.testing.assert_array_equal(view.inputs[0, 1], probe.half().numpy())
        with torch.no_grad():  # the probe is shown after the batch's update of the weights
            expected = model.patch(probe[None])[0].half().numpy()
        np.testing.assert_allclose(view["patch"][0, 3], expected, rtol=2e-3, atol=1e-3)
    for options, frames, words in [
        ({"layers": "norm"}, 3, "tokens as 4×4, class token left out"),
        ({"layers": "norm@9x4"}, 1, "tokens as 4×2, class token left out"),
        ({"layers": "norm", "probe": 0}, 4, "fixed image 0"),
        ({"layers": "all"}, 4, ""),
    ]:
        made = replay.animate(path, tmp_path / "a.gif", **options)
        assert made.frames == frames
        if len(options) == 1 and words:
            svg = replay.grid(path, tmp_path / "a.svg", layer=options["layers"], dpi=72).path
            assert words in svg.read_text()
