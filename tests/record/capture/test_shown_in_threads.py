"""Two trainings that show their fixed images at the same time leave the process as it was."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
import torch._dynamo
from torch import nn

from record import Recorder
from replay import open as open_recording

IMAGE = torch.linspace(-1, 1, 3 * 6 * 6).reshape(1, 3, 6, 6)


class Meeting(nn.Module):
    """A network whose showings meet: what is called by numbers alone is safe to call once more.

    Args:
        enters: Where it writes a byte as it is shown an image.
        goes_on: Where it then waits for one.
    """

    def __init__(self, enters: int, goes_on: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.enters, self.goes_on = enters, goes_on

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        print("a forward")
        if not self.training:
            print("shown again")
            os.write(self.enters, b".")
            os.read(self.goes_on, 1)
        return self.conv(images).mean((2, 3))


def settings() -> tuple[object, ...]:
    """Returns what all threads of the process share."""
    return (
        sys.stdout,
        sys.stderr,
        torch.backends.mha.get_fastpath_enabled(),
        torch._dynamo.eval_frame._stance,
        torch.is_anomaly_enabled(),
    )


def train(path: Path, model: nn.Module, probe: torch.Tensor | str, after: Callable[[], object]):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    options = {} if probe == "first" else {"cam": "conv"}
    with Recorder(model, path, probe=probe, quiet=True, **options) as recorder:
        for images in recorder.track([torch.randn(2, 3, 6, 6)]):
            optimizer.zero_grad()
            model(images).square().sum().backward()
            optimizer.step()
    after()
    print(f"{path.stem} is trained")


@pytest.mark.parametrize("probe", ["first", IMAGE], ids=["first", "given"])
def test_the_first_that_ends_changes_nothing_for_good(
    probe: torch.Tensor | str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside, first_goes_on = os.pipe()
    second_goes_on, first_is_done = os.pipe()
    first_inside, first_enters = os.pipe()
    first = Meeting(first_enters, inside)
    second = Meeting(first_goes_on, second_goes_on)  # lets the first one go on as it is shown
    torch.autograd.set_detect_anomaly(True)
    try:
        before = settings()
        threads = [
            threading.Thread(
                target=train,
                args=(tmp_path / "first.h5", first, probe, lambda: os.write(first_is_done, b".")),
                daemon=True,  # beside others the first image is not shown
            ),
            threading.Thread(
                target=train,
                args=(tmp_path / "second.h5", second, probe, lambda: None),
                daemon=True,
            ),
        ]
        threads[0].start()
        os.read(first_inside, 1)
        threads[1].start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert settings() == before
    finally:
        torch.autograd.set_detect_anomaly(False)
        for end in (inside, first_goes_on, second_goes_on, first_is_done, first_inside):
            os.close(end)
        os.close(first_enters)
    said = capsys.readouterr().out
    assert "first is trained" in said
    assert "second is trained" in said
    assert said.count("shown again") == (0 if probe == "first" else 2)
    for name in ("first", "second"):
        with open_recording(tmp_path / f"{name}.h5") as run:
            assert run.probe(0).order.sum() == 1


def test_output_that_was_put_elsewhere_meanwhile_is_heard_again(tmp_path: Path) -> None:
    inside, enters = os.pipe()
    waits, goes_on = os.pipe()
    model, is_trained, is_back = Meeting(enters, waits), threading.Event(), threading.Event()

    def after() -> None:
        is_trained.set()
        is_back.wait(60)

    with redirect_stdout(io.StringIO()) as heard:
        path = tmp_path / "run.h5"
        thread = threading.Thread(target=train, args=(path, model, "first", after), daemon=True)
        thread.start()
        os.read(inside, 1)
        with redirect_stdout(io.StringIO()):  # keeps what is there while the image is shown
            os.write(goes_on, b".")
            assert is_trained.wait(60)
        is_back.set()
        thread.join(60)
    for end in (inside, enters, waits, goes_on):
        os.close(end)
    assert "run is trained" in heard.getvalue()
    assert "shown again" not in heard.getvalue()
