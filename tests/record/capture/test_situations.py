"""Trainings in which something happens to the model, or around it, that no table row can hold.

Each is recorded beside hooks of its own. A frame equals what the hook saw, to the bit, or is
counted as lost; and the training ends with the weights that it has without a recorder.
"""

from __future__ import annotations

import copy
import io
import pickle
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import replay
from record import Recorder, RecordingWarning


def small(width: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(inplace=True), nn.Conv2d(width, 2, 3))


def numbered(count: int, size: int = 3) -> list[torch.Tensor]:
    """Batches whose images say which one they are: 100 times the batch and the image."""
    return [
        torch.stack([torch.full((1, 8, 8), 1.0 + number + image / 8) for image in range(size)])
        for number in range(count)
    ]


def half(tensor: torch.Tensor) -> bytes:
    return tensor.detach().to(torch.float16).contiguous().numpy().tobytes()


class Hooked:
    """What a layer put out in each forward, by the first value of the model's input."""

    def __init__(self, model: nn.Module, name: str = "0") -> None:
        self.by_input: dict[float, bytes] = {}
        self.local = threading.local()
        model.register_forward_pre_hook(self.before)
        model.get_submodule(name).register_forward_hook(self.behind)

    def before(self, module: nn.Module, args: Any) -> None:
        self.local.key = None
        if torch._C._functorch.peek_interpreter_stack() is None:
            self.local.key = float(args[0].reshape(-1)[0])

    def behind(self, module: nn.Module, args: Any, output: torch.Tensor) -> None:
        if self.local.key is not None:
            self.by_input[self.local.key] = half(output[0].clone())


def step(model: nn.Module, images: torch.Tensor, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    loss = model(images).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def weights(model: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


# A copy that fails


class Unreadable(torch.Tensor):
    """A tensor that nobody can copy."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("detach", "copy_", "select", "to", "as_subclass"):
            raise RuntimeError("no copies of this")
        return super().__torch_function__(func, types, args, kwargs or {})


class Sometimes(nn.Module):
    """Puts out what cannot be copied for every fourth batch."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x.as_subclass(Unreadable) if self.calls % 4 == 0 else x


class Unhelpful(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch._C.DisableTorchFunctionSubclass():
            return x.as_subclass(torch.Tensor)


@pytest.mark.parametrize("way", ["track", "step", "neither"])
def test_a_copy_that_failed_is_lost_and_not_what_the_buffer_held(tmp_path: Path, way: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), Sometimes(), Unhelpful())
    data = numbered(70)  # the buffers go round more than once
    seen: list[bytes] = []
    model[0].register_forward_hook(lambda m, a, o: seen.append(half(o[0])))
    with pytest.warns(RecordingWarning) as said:
        with Recorder(model, tmp_path / "run.h5", layers=["0", "1"]) as recorder:
            for images in recorder.track(data) if way == "track" else data:
                model(images).sum().backward()
                if way == "step":
                    recorder.step()
        assert (recorder.lost, recorder.dropped) == (17, 0)
    assert (
        sum("cannot record 1: RuntimeError: no copies of this" in str(w.message) for w in said) == 1
    )
    with replay.open(tmp_path / "run.h5") as run:
        assert (len(run.frames), run.lost) == (70, 17)
        for (_, batch), expected in zip(run.frames, seen, strict=True):
            assert run["0"][0, batch].tobytes() == expected
            if batch % 4 == 3:
                assert np.isnan(run["1"][0, batch]).all()
            else:
                assert run["1"][0, batch].tobytes() == expected


def test_an_image_that_cannot_be_copied_is_not_the_one_before(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch._C.DisableTorchFunctionSubclass():
                return self.conv(x.as_subclass(torch.Tensor))

    model = Net()
    with (
        pytest.warns(RecordingWarning) as said,
        Recorder(model, tmp_path / "run.h5") as recorder,
    ):
        for number, images in enumerate(recorder.track(numbered(6))):
            model(images.as_subclass(Unreadable) if number % 3 == 2 else images)
    assert any("cannot record input: RuntimeError: no copies" in str(w.message) for w in said)
    with replay.open(tmp_path / "run.h5") as run:
        assert (len(run.frames), run.lost) == (6, 2)
        assert run.inputs is not None
        for _, batch in run.frames:
            image = run.inputs[0, batch]
            assert np.isnan(image).all() if batch % 3 == 2 else (image == 1 + batch).all()


def test_kernels_that_cannot_be_copied_are_not_those_before(tmp_path: Path) -> None:
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    kernels: list[bytes] = []
    with Recorder(model, tmp_path / "run.h5", layers="0") as recorder:
        for number, images in enumerate(recorder.track(numbered(9))):
            if number == 4:  # computed anew at each access from here on
                nn.utils.parametrizations.weight_norm(model[0])
                optimizer = torch.optim.SGD(model.parameters(), 0.1)
            kernels.append(half(model[0].weight))
            step(model, images, optimizer)
    with replay.open(tmp_path / "run.h5") as run:
        for _, batch in run.frames:
            read = run["0"].kernels(0, batch)
            if batch < 4:
                assert read.tobytes() == kernels[batch]
            else:
                assert np.isnan(read).all()


# The training stays as it is


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    "name", ["spectral_norm", "weight_norm", "orthogonal", "old_spectral_norm"]
)
def test_a_parametrisation_is_not_computed_once_more(tmp_path: Path, name: str, late: bool) -> None:
    def wrap(module: nn.Module) -> None:
        if name == "old_spectral_norm":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                nn.utils.spectral_norm(module)
        else:
            getattr(nn.utils.parametrizations, name)(module)

    def train(path: Path | None) -> tuple[dict[str, bytes], list[float]]:
        torch.manual_seed(0)
        model = small()
        if not late:
            wrap(model[0])
        recorder = Recorder(model, path) if path else None
        if late:
            wrap(model[0])
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        data = numbered(4)
        losses = [
            step(model, images, optimizer).item()
            for images in (recorder.track(data) if recorder else data)
        ]
        if recorder:
            recorder.close()
        return weights(model), losses

    assert train(None) == train(tmp_path / "run.h5")


def test_a_transformer_in_evaluation_mode_takes_its_fast_path(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2, enable_nested_tensor=False
    )
    tokens = torch.randn(3, 7, 16)
    model.eval()
    with torch.no_grad():
        plain = model(tokens)
    model.train()
    with Recorder(model, tmp_path / "run.h5", layers="*linear1") as recorder:
        for batch in recorder.track([tokens, tokens]):
            model(batch).sum().backward()
            model.eval()
            with torch.no_grad():
                assert torch.equal(model(tokens), plain)
            model.train()
    with replay.open(tmp_path / "run.h5") as run:
        assert len(run.frames) == 2


class Own(nn.Module):
    """Copies itself in a way of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)

    def __deepcopy__(self, memo: Any) -> Own:
        twin = Own.__new__(Own)
        twin.__dict__ = copy.deepcopy(self.__dict__, memo)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__

    def __reduce__(self) -> Any:
        return _again, (self.__dict__,)


def _again(state: dict[str, Any]) -> Own:
    twin = Own.__new__(Own)
    twin.__dict__.update(state)
    return twin


@pytest.mark.parametrize("make", [small, Own, lambda: torch.fx.symbolic_trace(small())])
@pytest.mark.parametrize("moment", ["before", "within", "behind", "between epochs"])
def test_copies_have_no_hook_of_ours(tmp_path: Path, make: Any, moment: str) -> None:
    model = make()
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    handle = first.register_forward_hook(_count_mine)
    copies: list[nn.Module] = []

    def take() -> None:
        copies.extend([copy.deepcopy(model), pickle.loads(pickle.dumps(model))])
        saved = io.BytesIO()
        torch.save(model, saved)
        assert b"nullcontext" not in saved.getvalue()

    if moment == "within":
        first.register_forward_pre_hook(_Taking(take, copies))
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for _ in range(2):
            for images in recorder.track(numbered(2)):
                if moment == "before":
                    take()
                model(images).sum().backward()
                if moment == "behind":
                    take()
            if moment == "between epochs":
                take()
    assert copies
    for twin in copies:
        for module in twin.modules():
            hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
            assert all(hook is _count_mine or isinstance(hook, _Taking) for hook in hooks)
            assert len(module._forward_hooks_with_kwargs) == 0
            assert len(module._forward_hooks_always_called) == 0
            assert len(module._forward_pre_hooks_with_kwargs) == 0
    mine = [m for m in copies[-1].modules() if _count_mine in m._forward_hooks.values()]
    assert len(mine) == 1  # what the user has hooked is copied as ever
    handle.remove()
    for module in model.modules():
        assert not module._forward_hooks
    with replay.open(tmp_path / "run.h5") as run:
        assert (len(run.frames), run.lost) == (4, 0)


def _count_mine(module: nn.Module, args: Any, output: Any) -> None:
    """A hook of the user's."""


class _Taking:
    """A hook of the user's that copies the model in the middle of its forward."""

    def __init__(self, take: Callable[[], None], copies: list[nn.Module]) -> None:
        self.take, self.copies = take, copies

    def __call__(self, module: nn.Module, args: Any) -> None:
        if not self.copies:
            self.copies.append(nn.Identity())
            self.take()

    def __deepcopy__(self, memo: Any) -> _Taking:
        return self

    def __reduce__(self) -> Any:
        return _Taking, (print, [nn.Identity()])


def test_a_copy_can_be_scripted_and_loaded_with_weights_only(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    images = numbered(1)[0]
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for batch in recorder.track([images]):
            model(batch).sum().backward()
            best = copy.deepcopy(model)
        saved = io.BytesIO()
        torch.save(best, saved)
        whole = io.BytesIO()
        torch.save(model, whole)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scripted = torch.jit.script(best)
            assert torch.equal(scripted(images), model(images))
            torch.jit.script(torch.optim.swa_utils.AveragedModel(model).module)
    known = [nn.Sequential, nn.Conv2d, nn.Flatten, nn.Linear]
    for buffer in (saved, whole):
        buffer.seek(0)
        with torch.serialization.safe_globals(known):
            torch.load(buffer, weights_only=True)


# Layers that change


@pytest.mark.parametrize(
    "way", ["replace", "replace in the table", "grow", "remove", "within a block"]
)
def test_layers_that_are_replaced_or_added_are_recorded(tmp_path: Path, way: str) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Sequential(nn.Conv2d(3, 2, 3))
    )
    fresh = nn.Conv2d(3, 2, 3)
    seen: dict[int, list[bytes]] = {}

    def listen(module: nn.Module) -> nn.Module:
        kept = seen.setdefault(id(module), [])
        module.register_forward_hook(lambda m, a, o: kept.append(half(o[0])))
        return module

    old = listen(model[2][0])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", RecordingWarning)
        with Recorder(model, tmp_path / "run.h5") as recorder:
            for epoch in range(3):
                if epoch == 1 and way == "replace":
                    model[2] = nn.Sequential(listen(fresh))
                elif epoch == 1 and way == "within a block":
                    model[2][0] = listen(fresh)
                elif epoch == 1 and way == "replace in the table":
                    model[2]._modules["0"] = listen(fresh)
                elif epoch == 1 and way == "grow":
                    fresh = nn.Conv2d(2, 2, 3)
                    model.append(listen(fresh))
                elif epoch == 1 and way == "remove":
                    del model[2]
                for images in recorder.track(numbered(2)):
                    model(images).sum().backward()
    texts = [str(w.message) for w in said if w.category is RecordingWarning]
    assert any("the model has changed while it is recorded" in text for text in texts)
    for module in [*model.modules(), old]:
        assert len(module._forward_pre_hooks) == 0
        assert len(module._forward_hooks) == (1 if id(module) in seen else 0)
    with replay.open(tmp_path / "run.h5") as run:
        assert len(run.frames) == 6
        name = "3" if way == "grow" else "2.0"
        frames = [run[name][at] for at in run.frames]
        if way == "grow":
            assert np.isnan(frames[0]).all()
            assert [f.tobytes() for f in frames[2:]] == seen[id(fresh)]
            assert [run["2.0"][at].tobytes() for at in run.frames] == seen[id(old)]
        elif way == "remove":
            assert [f.tobytes() for f in frames[:2]] == seen[id(old)]
            assert np.isnan(frames[2]).all()
        else:
            assert [f.tobytes() for f in frames] == [*seen[id(old)], *seen[id(fresh)]]


# Batches that something reads ahead, and threads


def ahead(batches: Iterable[Any], count: int) -> Iterator[Any]:
    """Asks for so many batches before it gives out the first."""
    held: list[Any] = []
    for batch in batches:
        held.append(batch)
        if len(held) > count:
            yield held.pop(0)
    yield from held


def in_a_thread(batches: Iterable[Any]) -> Iterator[Any]:
    """Reads in another thread, as far ahead as it gets."""
    import queue

    there: queue.Queue[Any] = queue.Queue(maxsize=2)

    def read() -> None:
        for batch in batches:
            there.put(batch)
        there.put(None)

    reader = threading.Thread(target=read)
    reader.start()
    while (batch := there.get()) is not None:
        yield batch
    reader.join()


@pytest.mark.parametrize("reading", [lambda b: ahead(b, 1), lambda b: ahead(b, 3), in_a_thread])
@pytest.mark.parametrize("of", ["list", "loader"])
def test_what_reads_ahead_around_track_shifts_no_number(
    tmp_path: Path, reading: Any, of: str
) -> None:
    torch.manual_seed(0)
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    data: Any = numbered(6, size=2)
    if of == "loader":
        data = DataLoader(TensorDataset(torch.cat(data), torch.arange(12)), batch_size=2)
    losses = {}
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for epoch in range(2):
            for batch in reading(recorder.track(data)):
                images = batch if of == "list" else batch[0]
                loss = step(model, images, optimizer)
                recorder.log(loss=loss)
                losses[epoch, int(images[0, 0, 0, 0]) - 1] = loss.item()
    with replay.open(tmp_path / "run.h5") as run:
        assert (run.lost, run.dropped) == (0, 0)
        assert run.frames == [(e, b) for e in range(2) for b in range(6)]
        assert run.inputs is not None
        for at in run.frames:
            assert (run.inputs[at] == 1 + at[1]).all(), at
            assert run.batches["loss"][at] == pytest.approx(losses[at])


def test_what_reads_ahead_and_makes_other_tensors_is_said(tmp_path: Path) -> None:
    model = small()
    with (
        pytest.warns(RecordingWarning, match="read ahead"),
        Recorder(model, tmp_path / "run.h5") as recorder,
    ):
        for images in ahead(recorder.track(numbered(4)), 1):
            model(images.clone())


def test_batches_that_are_skipped_keep_their_numbers(tmp_path: Path) -> None:
    model = small()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecordingWarning)
        with Recorder(model, tmp_path / "run.h5") as recorder:
            for _ in range(2):
                for number, images in enumerate(recorder.track(numbered(7))):
                    if number % 3 == 0:
                        continue
                    model(images[:, :, 1:])
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == [(e, b) for e in range(2) for b in (1, 2, 4, 5)]
        assert run.inputs is not None
        assert all((run.inputs[at] == 1 + at[1]).all() for at in run.frames)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_step_without_a_forward_is_no_batch(tmp_path: Path, every: int) -> None:
    model = small()
    with Recorder(model, tmp_path / "run.h5", every=every) as recorder:
        for number, images in enumerate(numbered(7)):
            model(images)
            recorder.log(loss=number)
            recorder.step()
            if number % 2:
                recorder.step()
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == [(0, b) for b in range(0, 7, every)]
        assert run.inputs is not None
        for at in run.frames:
            assert (run.inputs[at] == 1 + at[1]).all()
            assert run.batches["loss"][at] == at[1]


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


@pytest.mark.parametrize("way", ["neither", "step", "track"])
def test_two_threads_that_train_one_model(tmp_path: Path, way: str) -> None:
    """Of each frame, the image and the maps are of one forward; what is not recorded is counted."""
    torch.manual_seed(0)
    model = small()
    seen = Hooked(model)
    count = 40
    start = threading.Barrier(2)

    class Slow(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(50):
                x = x + 0  # gives the other thread its turn
            return x

    model.append(Slow())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        with Recorder(model, tmp_path / "run.h5", layers=["0", "2"]) as recorder:

            def train(offset: int) -> None:
                torch.set_num_threads(1)
                data = [images + 100 * offset for images in numbered(count)]
                start.wait()
                for images in recorder.track(data) if way == "track" else data:
                    model(images).mean().backward()
                    recorder.log(loss=float(images[0, 0, 0, 0]))
                    if way == "step":
                        recorder.step()

            threads = [threading.Thread(target=train, args=(i,)) for i in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    with replay.open(tmp_path / "run.h5") as run:
        assert run.inputs is not None
        assert len(run.frames) + run.lost == 2 * count
        assert len(run.frames) >= count / 2
        for at in run.frames:
            image = float(run.inputs[at][0, 0, 0])
            assert run["0"][at].tobytes() == seen.by_input[image]
            if way != "neither":
                assert run.batches["loss"][at] == image


# What is said


def test_a_layer_that_puts_out_no_maps_is_said_to(tmp_path: Path) -> None:
    class Box:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor = tensor

    class Boxing(nn.Module):
        def forward(self, x: torch.Tensor) -> Box:
            return Box(x)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)
            self.box = Boxing()
            self.lstm = nn.LSTM(6, 5, batch_first=True)
            self.unused = nn.Conv2d(1, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.box(self.conv(x)).tensor.mean(1)
            packed = nn.utils.rnn.pack_padded_sequence(y, [6, 4, 2], batch_first=True)
            return self.lstm(packed)[0].data

    model = Net()
    with (
        pytest.warns(RecordingWarning) as caught,
        Recorder(model, tmp_path / "run.h5", layers=["conv", "box", "lstm", "unused"]) as recorder,
    ):
        for images in recorder.track(numbered(2)):
            model(images).sum().backward()
    said = [str(w.message) for w in caught]
    assert "not recorded, since it put out no maps: box (a Box), lstm (a PackedSequence)" in said
    assert "did not fire in the first batch: unused" in said
    assert not any("fire" in text and "box" in text for text in said)


def test_complex_maps_are_magnitudes_and_the_file_says_so(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3, dtype=torch.complex64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Recorder(model, tmp_path / "run.h5") as recorder:
            for images in recorder.track(numbered(3)):
                model(torch.complex(images, -images))
    with replay.open(tmp_path / "run.h5") as run:
        assert run["0"].layer.note == "magnitude of complex values"


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


def test_true_and_false_as_an_image(tmp_path: Path) -> None:
    class Masks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x.float())

    data = [images > 1.2 for images in numbered(3)]
    with Recorder(model := Masks(), tmp_path / "run.h5") as recorder:
        for images in recorder.track(data):
            model(images)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.inputs is not None
        assert all((run.inputs[0, n] == float(data[n][0].any())).all() for n in range(3))


def test_the_training_s_own_forward_counts_and_not_a_pass_of_torch_func(tmp_path: Path) -> None:
    model = small()
    seen = Hooked(model)
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for images in recorder.track(numbered(3)):
            torch.func.grad(lambda z: model(z).square().mean())(3 * images)
            model(images).sum().backward()
    with replay.open(tmp_path / "run.h5") as run:
        assert run.inputs is not None
        for number in range(3):
            assert (run.inputs[0, number] == 1 + number).all()
            assert run["0"][0, number].tobytes() == seen.by_input[1.0 + number]


def test_a_copy_has_no_hook_of_ours_where_torch_has_just_made_its_class(tmp_path: Path) -> None:
    model = small()
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for images in recorder.track(numbered(2)):
            model(images).sum().backward()
            if not hasattr(model[0], "parametrizations"):
                nn.utils.parametrizations.weight_norm(model[0])
            twin = copy.deepcopy(model)
            assert all(not module._forward_hooks for module in twin.modules())


def test_a_layer_that_is_exchanged_within_the_batch(tmp_path: Path) -> None:
    model = small()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", RecordingWarning)
        with Recorder(model, tmp_path / "run.h5", every=2) as recorder:
            for images in recorder.track(numbered(4)):
                model[0] = copy.deepcopy(model[0])
                expected = half(model[0](images)[0])
                model(images)
    assert not any("fire" in str(w.message) for w in said)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == [(0, 0), (0, 2)]
        assert np.isfinite(run["0"][0, 2]).all()
        assert len(expected) == run["0"][0, 2].nbytes


def test_nothing_is_said_of_training_mode_where_copies_failed(tmp_path: Path) -> None:
    class Never(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.as_subclass(Unreadable)

    model = nn.Sequential(Never())
    with (
        pytest.warns(RecordingWarning) as caught,
        Recorder(model, tmp_path / "run.h5", layers=["0"]) as recorder,
    ):
        for images in recorder.track(numbered(2)):
            model(images)
    said = [str(w.message) for w in caught]
    assert not any("training mode" in text for text in said)
    assert any("could not be copied" in text or "2 frames lost" in text for text in said)


def test_the_parameters_of_lazy_modules_are_counted_when_they_are_there(tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.LazyConv2d(3, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(2)
    )
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for images in recorder.track(numbered(3)):
            model(images)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.meta["parameters"] == sum(p.numel() for p in model.parameters())
        assert run.layers == ("0",)
        assert len(run.frames) == 3
