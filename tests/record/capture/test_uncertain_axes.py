"""Where the axis of the images cannot be seen, what was taken is said, and the user may say it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from small_trainings import half, numbered, small
from torch import nn
from torch.utils.data import DataLoader

import replay
from record import Recorder, RecordingWarning


@pytest.mark.parametrize("way", ["step", "neither", "track"])
def test_sequences_alone_into_a_model_that_has_the_batch_second_somewhere(
    tmp_path: Path, way: str
) -> None:
    """Whether the model turns them itself nobody can see: it is said."""

    class Turning(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(3, 8)
            self.gru = nn.GRU(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.gru(self.embed(x).transpose(0, 1))[0]

    model = Turning()
    with (
        pytest.warns(RecordingWarning, match="axis 1 of the input was taken"),
        Recorder(model, tmp_path / "run.h5", layers=["embed", "gru"]) as recorder,
    ):
        data = [torch.randn(4, 6, 3) for _ in range(2)]
        for batch in recorder.track(data) if way == "track" else data:
            model(batch)
            if way == "step":
                recorder.step()
    with replay.open(tmp_path / "run.h5") as run:
        assert "uncertain" in run["embed"].layer.note
        assert run["gru"].layer.note == ""  # it knows its axes


def test_what_has_no_axis_for_the_batch_is_kept_whole_and_the_file_says_so(tmp_path: Path) -> None:
    class Heads(nn.Module):
        """Regions of all images together, of which there are any number."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)
            self.head = nn.Linear(3, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.conv(x).mean((2, 3)).repeat(3, 1)[:7])

    model = Heads()
    seen: list[bytes] = []
    model.head.register_forward_hook(lambda m, a, o: seen.append(half(o)))
    with Recorder(model, tmp_path / "run.h5", layers=["head"]) as recorder:
        for images in recorder.track(numbered(2)):
            model(images)
    with replay.open(tmp_path / "run.h5") as run:
        assert [run["head"][at].tobytes() for at in run.frames] == seen
        assert "no axis has the size of the batch, 3" in run["head"].layer.note


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"encoder": -1}, "axes from 0"),
        ({"a": True}, "axes from 0"),
        (1, "by layer"),
        ({1: 0}, "by layer"),
    ],
)
def test_an_axis_that_cannot_be_is_refused(tmp_path: Path, given: Any, words: str) -> None:
    with pytest.raises(replay.RecordingError, match=words):
        Recorder(small(), tmp_path / "run.h5", batch_axis=given)
    assert list(tmp_path.iterdir()) == []


def test_the_axis_that_the_user_says_is_taken(tmp_path: Path) -> None:
    class Turn(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.movedim(0, 2)

    model = nn.Sequential(nn.Conv2d(1, 3, 3), Turn())
    seen: list[bytes] = []
    model[1].register_forward_hook(lambda m, a, o: seen.append(half(o[:, :, 0])))
    with Recorder(model, tmp_path / "run.h5", layers=["0", "1"], batch_axis={"1": 2}) as recorder:
        for images in recorder.track(numbered(3)):
            model(images)
    with replay.open(tmp_path / "run.h5") as run:
        assert [run["1"][at].tobytes() for at in run.frames] == seen


def test_a_batch_of_another_size_corrects_the_axis(tmp_path: Path) -> None:
    """Of five tokens and five images nobody can tell which is which, until the last batch."""

    class Double(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    model = nn.Sequential(nn.Linear(4, 6), Double())
    data = [(torch.randn(5, n, 4), torch.zeros(n)) for n in (5, 3, 5)]
    with (
        pytest.warns(RecordingWarning) as said,
        Recorder(model, tmp_path / "run.h5", layers=["1"]) as recorder,
    ):
        for tokens, _ in recorder.track(data):
            output = model(tokens)
    texts = [str(w.message) for w in said]
    assert any("batch axis uncertain" in text for text in texts)
    assert any("axis 1 counts its images, not axis 0" in text for text in texts)
    with replay.open(tmp_path / "run.h5") as run:
        assert run["1"][0, 2].tobytes() == half(output[:, 0])


@pytest.mark.parametrize("make", ["tokens", "numbers"])
@pytest.mark.parametrize("of", ["list", "loader", "labelled"])
def test_sequences_with_the_batch_second_and_nothing_that_says_so(
    tmp_path: Path, make: str, of: str
) -> None:
    """A loader's size or labels tell; of bare tensors, an epoch's smaller last batch does."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(9, 6) if make == "tokens" else nn.Linear(3, 6), nn.Linear(6, 4)
    )
    sizes = (4, 4, 3)
    whole = torch.randint(0, 9, (11, 5)) if make == "tokens" else torch.randn(11, 5, 3)
    data: Any = [part.transpose(0, 1) for part in whole.split(4)]
    if of == "labelled":
        data = [(batch, torch.zeros(size)) for batch, size in zip(data, sizes, strict=True)]
    elif of == "loader":
        data = DataLoader(whole, batch_size=4, collate_fn=lambda rows: torch.stack(rows, 1))
    seen: list[bytes] = []
    model[1].register_forward_hook(lambda m, a, o: seen.append(half(o[:, 0])))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", RecordingWarning)
        with Recorder(model, tmp_path / "run.h5", layers=["1"]) as recorder:
            for _ in range(2):
                for batch in recorder.track(data):
                    model(batch[0] if of == "labelled" else batch)
    texts = [str(w.message) for w in said]
    with replay.open(tmp_path / "run.h5") as run:
        name = "1" if of != "list" else "1@5x4"
        right = {at for at in run.frames for n in run.layers if run[n][at].shape == (5, 4)}
        frames = [run[name][at].tobytes() for at in run.frames]
    assert len(right) == 6
    if of == "list":
        assert any("shows that axis 1 counts the images" in text for text in texts)
        assert frames[2:] == seen[2:]
    else:
        assert texts == []
        assert frames == seen


@pytest.mark.parametrize("layers", [["gru", "act"], ["act", "head"]])
def test_one_sequence_without_a_batch(tmp_path: Path, layers: list[str]) -> None:
    """Also where the recurrent layer, which knows, is not among those that are recorded."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.act, self.head = nn.GRU(6, 5), nn.Tanh(), nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.act(self.gru(x)[0]))

    model = Net()
    seen: list[bytes] = []
    model.act.register_forward_hook(lambda m, a, o: seen.append(half(o)))
    with Recorder(model, tmp_path / "run.h5", layers=layers) as recorder:
        for sequence in recorder.track([torch.randn(6, 6) for _ in range(3)]):
            model(sequence)
    with replay.open(tmp_path / "run.h5") as run:
        assert [run["act"][at].tobytes() for at in run.frames] == seen


def test_as_many_tokens_as_images_is_said_where_nothing_tells(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 6), nn.Linear(6, 4))
    with (
        pytest.warns(RecordingWarning, match="batch axis uncertain"),
        Recorder(model, tmp_path / "run.h5", layers=["0", "1"]) as recorder,
    ):
        for batch in recorder.track([(torch.randn(4, 4, 3), torch.zeros(4))] * 2):
            model(batch[0])
    with replay.open(tmp_path / "run.h5") as run:
        assert "uncertain" in run["1"].layer.note


def test_as_many_positions_as_images_is_said(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.where = nn.Embedding(9, 4), nn.Embedding(6, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.embed(x) + self.where(torch.arange(x.shape[1]))

    model = Net()
    with (
        pytest.warns(RecordingWarning) as said,
        Recorder(model, tmp_path / "run.h5", layers=["embed", "where"]) as recorder,
    ):
        for tokens, _ in recorder.track([(torch.randint(0, 9, (6, 6)), torch.zeros(6))]):
            model(tokens)
    assert any("where: batch axis uncertain: rows may be" in str(w.message) for w in said)
    with replay.open(tmp_path / "run.h5") as run:
        assert "uncertain" in run["where"].layer.note


class Parts(nn.Module):
    """Tokens (N, 12, 8) as windows (N * 3, 4, 8), frames (N * 3, 4, H, W) or (12, N, 8)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.conv, self.norm = kind, nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.act = nn.ReLU()
        if kind == "windows, batch_first":
            self.batch_first = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x).flatten(2).transpose(1, 2)
        if self.kind == "frames":
            return self.act(x.reshape(-1, 4, 2, 4)).mean()
        if self.kind == "tokens first":
            return self.norm(x.transpose(0, 1)).square().mean()
        return self.norm(x.reshape(-1, 4, 8)).square().mean()


@pytest.mark.parametrize(
    ("kind", "said", "wrong"),
    [
        ("windows", ("axis 1 has the size 4, and axis 0 is a multiple", "shows that axis 0"), 1),
        ("windows, batch_first", (), 0),
        ("frames", ("axis 1 has the size 4, and axis 0 is a multiple of it, 0 was taken",), 0),
        ("tokens first", ("axis 1 has the size 4, and axis 0 is a multiple of it, 1",), 0),
    ],
)
def test_as_many_tokens_or_channels_as_images_beside_parts_of_images(
    tmp_path: Path, kind: str, said: tuple[str, ...], wrong: int
) -> None:
    torch.manual_seed(0)
    model, path, expected = Parts(kind), tmp_path / "run.h5", list[torch.Tensor]()
    layer = model.act if kind == "frames" else model.norm
    layer.register_forward_hook(lambda module, args, output: expected.append(output.detach()))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Recorder(model, path, ["act", "norm"], quiet=True) as recorder:
            for batch in recorder.track([torch.randn(n, 3, 12, 16) for n in (4, 2, 4, 4)]):
                model(batch).backward()
    words = [str(each.message) for each in caught if "axis" in str(each.message)]
    assert len(words) == len(said)
    assert all(part in text for part, text in zip(said, words, strict=True)), words
    with h5py.File(path) as file:
        maps = [file["maps"][name] for name in file["maps"]]
        for number in range(wrong, 4):
            image = expected[number][:, 0] if kind == "tokens first" else expected[number][0]
            frames = [frames[0, number] for frames in maps if frames.shape[2:] == image.shape]
            assert any(np.allclose(frame, image.numpy(), atol=2e-3) for frame in frames), number
