"""Class activation of fixed images: right, and without a trace in the training."""

from __future__ import annotations

import copy
import random
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from class_activations import assert_close, field, maps_of, plain_gradients, stored
from torch import nn
from torch.utils.checkpoint import checkpoint

from record import Recorder, RecordingWarning
from replay.schema import OptionError


class Net(nn.Module):
    """Batch normalisation, dropout, an in-place ReLU behind the last convolution, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.Dropout(0.3),
            nn.Conv2d(6, 8, 3, stride=2),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(8, 5)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        noise = torch.rand(()) + random.random() + np.random.rand()
        return self.head(self.features(x).mean((2, 3))) + 0 * noise


class Tokens(nn.Module):
    """A vision transformer of one block and a class token."""

    def __init__(self, classes: int = 5, before: bool = True) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.places = nn.Parameter(torch.randn(1, 13, 12))
        self.norm1, self.norm2, self.norm = (nn.LayerNorm(12) for _ in range(3))
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)
        self.mlp = nn.Linear(12, 12)
        self.head = nn.Linear(12, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.mlp(self.norm2(x))
        return self.head(self.norm(x)[:, 0])


IMAGES = torch.rand(3, 3, 12, 16, generator=torch.Generator().manual_seed(5))
LABELS = [1, None, 4]


def seed() -> None:
    for one in (random.seed, np.random.seed, torch.manual_seed):
        one(0)


def fit(path: Path | None, make: type[nn.Module] = Net, steps: int = 3, **options: object) -> list:
    """Trains; returns the model after each step, as it was, with the losses."""
    seed()
    model = make()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 0.01)
    data = [(torch.randn(4, 3, 12, 16), torch.randint(0, 5, (4,))) for _ in range(steps)]
    options = {"probe": IMAGES, "labels": LABELS, "cam": True, "quiet": True, **options}
    recorder = None if path is None else Recorder(model, path, **options)
    after = []
    for images, labels in data if recorder is None else recorder.track(data):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        gradients = [
            parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None
        ]
        after.append((copy.deepcopy(model), (loss.item(), gradients)))
    if recorder is not None:
        recorder.close()
    return after


def predictions(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return copy.deepcopy(model).eval()(IMAGES).softmax(1)


@pytest.mark.parametrize(("make", "layer"), [(Net, "features.4"), (Tokens, "norm1")])
def test_weights_and_gradients_are_those_of_a_plain_backward(
    tmp_path: Path, make: type[nn.Module], layer: str
) -> None:
    path = tmp_path / "run.h5"
    after = fit(path, make)
    for batch, (model, _) in enumerate(after):
        likely = predictions(model)
        classes = [
            int(likely[n].argmax()) if label is None else label for n, label in enumerate(LABELS)
        ]
        expected = plain_gradients(model, layer, IMAGES, classes)
        for probe, gradient in enumerate(expected):
            assert_close(stored(path, "gradients", layer, probe)[0, batch], gradient.numpy())
            weights = gradient.mean((1, 2)) if make is Net else gradient[1:].mean(0)
            assert_close(stored(path, "cam", layer, probe)[0, batch], weights.numpy())
            assert field(path, f"probe{probe}.class")[0, batch] == classes[probe]
            assert field(path, f"probe{probe}.prediction")[0, batch] == int(likely[probe].argmax())
            probability = field(path, f"probe{probe}.probability")[0, batch]
            assert probability == pytest.approx(float(likely[probe].max()), abs=1e-5)
            of_label = field(path, f"probe{probe}.label_probability")[0, batch]
            if LABELS[probe] is None:
                assert np.isnan(of_label)
            else:
                assert of_label == pytest.approx(float(likely[probe, LABELS[probe]]), abs=1e-5)
    with h5py.File(path, "r") as file:
        assert file["probe/0"].attrs["label"] == 1
        assert "label" not in file["probe/1"].attrs
        for probe, of in enumerate(["label", "prediction", "label"]):
            maps = file[f"probe/{probe}/cam/maps/{layer}"]
            assert maps.attrs["of"] == f"score of the {of}"
            assert maps.attrs["axes"] == "C"
        if make is Tokens:
            assert list(maps.attrs["grid"]) == [3, 4]


def test_a_layer_that_is_not_recorded_is_recorded_of_the_images(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    after = fit(path, layers=["features.0"], cam="features.3")
    with h5py.File(path, "r") as file:
        assert set(file["maps"]) == {"features.0"}
        assert set(file["probe/0/maps"]) == {"features.0", "features.3"}
    twin = copy.deepcopy(after[-1][0]).eval()
    with torch.no_grad():
        expected = twin.features[:4](IMAGES).numpy()
    for probe in range(3):
        assert_close(maps_of(path, "features.3", probe)[0, -1], expected[probe])


def test_the_training_is_the_same_to_the_bit(tmp_path: Path) -> None:
    def states() -> list:
        return [
            random.getstate(),
            np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(),
        ]

    plain, plain_states = fit(None), states()
    recorded, recorded_states = fit(tmp_path / "run.h5"), states()
    assert plain_states == recorded_states
    for (here, (loss, gradients)), (there, (other, expected)) in zip(recorded, plain, strict=True):
        assert loss == other
        assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))
        for name, value in here.state_dict().items():
            assert torch.equal(value, there.state_dict()[name]), name
        assert all(parameter.requires_grad for parameter in here.parameters())
        assert [m.training for m in here.modules()] == [m.training for m in there.modules()]


def test_the_training_is_the_same_with_all_that_can_be_recorded(tmp_path: Path) -> None:
    plain = fit(None, Tokens)
    path = tmp_path / "run.h5"
    recorded = fit(path, Tokens, attention="full", gradients=True)
    for (here, (loss, gradients)), (there, (other, expected)) in zip(recorded, plain, strict=True):
        assert loss == other
        assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))
        for name, value in here.state_dict().items():
            assert torch.equal(value, there.state_dict()[name]), name
    with h5py.File(path, "r") as file:
        assert list(file["state"][1:3]) == [0, 0]
        groups = ["attention", "gradients", "probe/2/attention", "probe/2/gradients", "probe/2/cam"]
        for group in groups:
            for maps in file[f"{group}/maps"].values():
                assert np.isfinite(maps[:]).all()


def count_hooks(path: Path | None, cam: object) -> list:
    """How often hooks of a script's are called, of each kind."""
    seed()
    model = Net()
    model.features[2], model.features[5] = nn.ReLU(), nn.ReLU()  # which backward hooks ask for
    counts = dict.fromkeys(("before", "behind", "back", "before back", "all", "tensor", "leaf"), 0)

    def counting(kind: str) -> object:
        def hook(*args: object) -> None:
            counts[kind] += 1

        return hook

    def on_tensors(module: nn.Module, args: object, output: torch.Tensor) -> None:
        if output.requires_grad:
            output.register_hook(counting("tensor"))

    for module in model.features:
        module.register_forward_pre_hook(counting("before"))
        module.register_forward_hook(counting("behind"))
    model.head.register_forward_hook(on_tensors)
    model.head.register_full_backward_hook(counting("back"))
    model.head.register_full_backward_pre_hook(counting("before back"))
    model.head.weight.register_hook(counting("leaf"))
    everywhere = torch.nn.modules.module.register_module_full_backward_hook(counting("all"))
    try:
        with Recorder(model, path, probe=IMAGES, cam=cam, quiet=True) as recorder:
            for _ in range(2):
                model(torch.randn(2, 3, 12, 16)).square().mean().backward()
                gradients = [(p, p.grad, p.grad.clone()) for p in model.parameters()]
                recorder.step()
                assert all(p.grad is here for p, here, _ in gradients)
                assert all(torch.equal(here, before) for _, here, before in gradients)
    finally:
        everywhere.remove()
    assert model.head._backward_hooks
    assert model.head._backward_pre_hooks
    return list(counts.items())


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # of the images, in the training
def test_hooks_of_the_script_are_called_as_often_as_without(tmp_path: Path) -> None:
    with_cam = count_hooks(tmp_path / "cam.h5", True)
    assert with_cam == count_hooks(tmp_path / "plain.h5", False)
    assert all(count for _, count in with_cam)
    assert np.isfinite(stored(tmp_path / "cam.h5", "cam", "features.4", 0)).all()


def test_modes_of_autograd_stay(tmp_path: Path) -> None:
    packed = []
    with (
        warnings.catch_warnings(),
        torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(1) or t, lambda t: t),
    ):
        warnings.simplefilter("ignore")
        with torch.autograd.detect_anomaly():
            seed()
            model = Net()
            recorder = Recorder(model, tmp_path / "run.h5", probe=IMAGES, cam=True, quiet=True)
            model(torch.randn(2, 3, 12, 16)).sum().backward()
            count = len(packed)
            recorder.step()
            assert len(packed) == count
            assert torch.is_anomaly_enabled()
            assert torch.is_grad_enabled()
            with torch.no_grad():
                model(torch.randn(2, 3, 12, 16))
                recorder.step()
                assert not torch.is_grad_enabled()
            with torch.inference_mode():
                model(torch.randn(2, 3, 12, 16))
                recorder.step()
                assert torch.is_inference_mode_enabled()
                assert not torch.is_grad_enabled()
            recorder.close()
    assert np.isfinite(stored(tmp_path / "run.h5", "cam", "features.4", 2)).all()


def test_of_a_frozen_network(tmp_path: Path) -> None:
    class Frozen(Net):
        def __init__(self) -> None:
            super().__init__()
            self.features.requires_grad_(False)

    class Within(Net):
        """Its backbone runs without gradients."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                x = self.features(x)
            return self.head(x.mean((2, 3)))

    for make in (Frozen, Within):
        path = tmp_path / f"{make.__name__}.h5"
        after = fit(path, make)
        weights = stored(path, "cam", "features.4", 0)
        if make is Frozen:
            expected = plain_gradients(after[-1][0], "features.4", IMAGES[:1], [1])[0]
            assert_close(weights[0, -1], expected.mean((1, 2)).numpy())
            assert not any(p.requires_grad for p in after[-1][0].features.parameters())
        else:  # found at the first showing, from the second on
            assert np.isfinite(weights[0, 1:]).all()


class Dict(Net):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"features": x, "logits": super().forward(x)}


class Single(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)[:, 0]


class Pixels(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nchw,kc->nkhw", self.features(x), self.head.weight)


class Unfit(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).sum()


class Detached(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = super().forward(x)
        return out if self.training else out.detach()


def run(path: Path, make: type[nn.Module], **options: object) -> list[str]:
    """Records two batches; returns what was said."""
    seed()
    model = make()
    model.features[1].momentum = 0.0
    options = {"probe": IMAGES, "labels": [1, 0, 1], "cam": True, "quiet": True, **options}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with Recorder(model, path, **options) as recorder:
            for images in recorder.track([torch.randn(2, 3, 12, 16) for _ in range(4)]):
                out = model(images)
                out = out["logits"] if isinstance(out, dict) else out
                out.square().mean().backward()
    return [str(w.message) for w in said if w.category is RecordingWarning]


@pytest.mark.parametrize("make", [Dict, Single, Pixels])
def test_outputs_of_several_forms(tmp_path: Path, make: type[nn.Module]) -> None:
    path = tmp_path / "run.h5"
    assert run(path, make) == []
    seed()
    twin = make().eval()
    kept = []
    twin.features[4].register_forward_hook(lambda m, a, out: kept.append(out) or out.clone())
    out = twin(IMAGES)
    score = {
        Dict: lambda: out["logits"][0, 1],
        Single: lambda: out[0],
        Pixels: lambda: out[0, 1].mean(),
    }[make]()
    expected = torch.autograd.grad(score, kept[0])[0][0].mean((1, 2))
    assert_close(stored(path, "cam", "features.4", 0)[0, 0], expected.numpy())
    if make is Single:
        likely = torch.sigmoid(out[0]).item()
        assert field(path, "probe0.label_probability")[0, 0] == pytest.approx(likely, abs=1e-5)


@pytest.mark.parametrize("make", [Unfit, Detached])
def test_what_has_no_gradient_costs_class_activation_alone(
    tmp_path: Path, make: type[nn.Module]
) -> None:
    path = tmp_path / "run.h5"
    said = run(path, make)
    assert len(said) == 1
    assert said[0].startswith("class activation: given up, since ")
    assert np.isfinite(maps_of(path, "features.4", 2)).all()
    with h5py.File(path, "r") as file:
        assert "cam" not in file["probe/0"]
    with pytest.raises(Exception, match="class activation: given up"):
        run(tmp_path / "raised.h5", make, on_error="raise")


def test_a_forward_that_minds_gradients_is_shown_without(tmp_path: Path) -> None:
    class Minds(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.features(x)
            return (
                self.head(torch.from_numpy(x.mean((2, 3)).numpy()))
                if not self.training
                else (self.head(x.mean((2, 3))))
            )

    path = tmp_path / "run.h5"
    said = run(path, Minds)
    assert len(said) == 1
    assert said[0].startswith("class activation: given up, since RuntimeError")
    assert np.isfinite(maps_of(path, "features.4", 2)).all()


def test_autocast_and_half_precision(tmp_path: Path) -> None:
    seed()
    model = Net().bfloat16()
    with Recorder(model, tmp_path / "b.h5", probe=IMAGES, cam=True, quiet=True) as recorder:
        for images in recorder.track([torch.randn(2, 3, 12, 16).bfloat16()]):
            model(images).float().square().mean().backward()
    assert np.isfinite(stored(tmp_path / "b.h5", "cam", "features.4", 0)).all()
    seed()
    model = Net()
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with Recorder(model, tmp_path / "a.h5", probe=IMAGES, cam=True, quiet=True) as recorder:
        for images in recorder.track([torch.randn(2, 3, 12, 16)]):
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(images).float().square().mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    assert scaler.get_scale() == 8.0
    number = int(field(tmp_path / "a.h5", "probe0.class")[0, 0])
    expected = plain_gradients(model, "features.4", IMAGES[:1], [number])[0].mean((1, 2))
    assert_close(stored(tmp_path / "a.h5", "cam", "features.4", 0)[0, 0], expected.numpy(), 0.05)


def test_gradients_too_small_for_float16_are_kept(tmp_path: Path) -> None:
    class Faint(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * 1e-9

    path = tmp_path / "run.h5"
    after = fit(path, Faint)
    expected = plain_gradients(after[-1][0], "features.4", IMAGES[:1], [1])[0]
    assert_close(stored(path, "gradients", "features.4", 0)[0, -1], expected.numpy())


def test_large_maps_are_pooled_alike(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    after = fit(path, cam="features.3", max_map=8)
    whole = plain_gradients(after[-1][0], "features.3", IMAGES[:1], [1])[0]
    pooled = nn.functional.avg_pool2d(whole[None], 2)[0]
    assert_close(stored(path, "gradients", "features.3", 0)[0, -1], pooled.numpy())
    assert_close(stored(path, "cam", "features.3", 0)[0, -1], whole.mean((1, 2)).numpy())
    with h5py.File(path, "r") as file:
        assert file["probe/0/gradients/maps/features.3"].attrs["pooled"] == 2
        assert file["probe/0/maps/features.3"].shape[2:] == (6, 6, 8)


@pytest.mark.parametrize("cam", ["deep.2", True])
def test_a_layer_that_does_not_run_at_some_showings(tmp_path: Path, cam: bool | str) -> None:
    """A network with an early exit; the default layer is known once it has run."""
    shown_deep = [False, True, False, True] if cam == "deep.2" else [True, False, False, True]
    turns = iter(shown_deep)

    class Exits(Net):
        def __init__(self) -> None:
            super().__init__()
            self.deep = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.features(x)
            if self.training or next(turns):
                x = self.deep(x)
            return self.head(x.mean((2, 3)))

    path = tmp_path / "run.h5"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        after = fit(path, Exits, steps=4, cam=cam)
    said = [str(one.message) for one in caught if one.category is RecordingWarning]
    assert said == [
        "class activation: none at some showings, since deep.2 did not run in evaluation mode"
    ]
    kept = stored(path, "gradients", "deep.2", 0)[0]
    assert [bool(np.isfinite(frame).all()) for frame in kept] == shown_deep
    turns = iter([True])
    last = plain_gradients(after[-1][0], "deep.2", IMAGES[:1], [1])[0]
    assert_close(kept[-1], last.numpy())


def test_a_layer_that_is_called_twice(tmp_path: Path) -> None:
    class Twice(Net):
        def __init__(self) -> None:
            super().__init__()
            self.same = nn.Conv2d(8, 8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.same(self.features(x)))
            return self.head(self.same(x).mean((2, 3)))

    path = tmp_path / "run.h5"
    after = fit(path, Twice, cam="same")
    first = plain_gradients(after[-1][0], "same", IMAGES[:1], [1])[0]
    assert_close(stored(path, "gradients", "same", 0)[0, -1], first.numpy())
    assert np.isfinite(stored(path, "cam", "same#1", 0)).all()


@pytest.mark.parametrize("reentrant", [False, True])
def test_with_checkpoints(tmp_path: Path, reentrant: bool) -> None:
    class Checkpointed(Net):
        """A part before the layer, and one behind it, are run again in the backward pass."""

        def __init__(self) -> None:
            super().__init__()
            self.behind = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(inplace=True))
            self.scale = nn.Parameter(torch.ones(()))  # reentrant ones ask for a gradient

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = checkpoint(self.features, x * self.scale, use_reentrant=reentrant)
            x = checkpoint(self.behind, x, use_reentrant=reentrant)
            return self.head(x.mean((2, 3)))

    plain = fit(None, Checkpointed)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        after = fit(tmp_path / "run.h5", Checkpointed, cam="features.4")
    for name, value in after[-1][0].state_dict().items():
        assert torch.equal(value, plain[-1][0].state_dict()[name])
    assert np.isfinite(maps_of(tmp_path / "run.h5", "features.4", 2)).all()
    mine = [str(w.message) for w in said if w.category is RecordingWarning]
    if reentrant:  # which has no gradients but by backward()
        assert len(mine) == 1
        assert mine[0].startswith("class activation: given up")
        return
    assert mine == []
    expected = plain_gradients(after[-1][0], "features.4", IMAGES[:1], [1])[0]
    found = stored(tmp_path / "run.h5", "gradients", "features.4", 0)[0, -1]
    assert_close(found, expected.numpy())


def test_a_compiled_model(tmp_path: Path) -> None:
    class Steady(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.features(x).mean((2, 3)))

    seed()
    model = Steady()
    compiled = torch.compile(model, backend="eager")
    with Recorder(compiled, tmp_path / "run.h5", probe=IMAGES, cam=True, quiet=True) as recorder:
        for images in recorder.track([torch.randn(2, 3, 12, 16) for _ in range(3)]):
            compiled(images).square().mean().backward()
    number = int(field(tmp_path / "run.h5", "probe0.class")[0, -1])
    expected = plain_gradients(model, "features.4", IMAGES[:1], [number])[0].mean((1, 2))
    found = stored(tmp_path / "run.h5", "cam", "features.4", 0)
    assert_close(found[0, -1], expected.numpy())
    torch.compiler.reset()


class WithFeatures(Net):
    """Puts out what it has seen before what it says of it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.features(x).mean((2, 3))
        return (features, self.head(features)) if not self.training else self.head(features)


@pytest.mark.parametrize("known", [False, True])
def test_the_scores_among_other_tensors(tmp_path: Path, known: bool) -> None:
    path = tmp_path / "run.h5"
    if known:
        after = fit(path, WithFeatures, metadata={"classes": list("abcde")})
        with torch.no_grad():
            likely = copy.deepcopy(after[-1][0]).eval()(IMAGES)[1].softmax(1)
        for probe in range(3):
            assert field(path, f"probe{probe}.prediction")[0, -1] == int(likely[probe].argmax())
    else:
        with pytest.warns(RecordingWarning, match="taken to be output 0, .3, 8., the first of 2"):
            fit(path, WithFeatures)


@pytest.mark.parametrize(
    "labels",
    [
        [np.int64(1), None, np.uint8(4)],
        (torch.tensor(1), None, torch.tensor(4, dtype=torch.int32)),
        np.array([1, 0, 4]),
        torch.tensor([1, 0, 4]),
    ],
)
def test_labels_of_any_kind_of_whole_number(tmp_path: Path, labels: Any) -> None:
    fit(tmp_path / "run.h5", labels=labels, steps=1)
    assert field(tmp_path / "run.h5", "probe0.class")[0, 0] == 1
    assert field(tmp_path / "run.h5", "probe2.class")[0, 0] == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": [1, 2, True]}, "for each of 3 fixed images, found True"),
        ({"labels": [1, 2, torch.tensor(True)]}, "for each of 3 fixed images, found tensor"),
        ({"labels": [1, 2, torch.tensor(1.0)]}, "for each of 3 fixed images, found tensor"),
        ({"labels": torch.eye(3)}, "for each of 3 fixed images, found .1.0, 0.0, 0.0"),
        ({"cam": "features.*"}, "cam: expected one layer, found 6"),
        ({"cam": "nothing"}, "no layer matches 'nothing'"),
        ({"cam": 3}, "cam: expected True or a layer's name, found 3"),
        ({"cam": True, "probe": None, "labels": None}, "cam: expected fixed images to show"),
        ({"labels": [1, 2]}, "a whole number from 0 .* for each of 3 fixed images, found 2"),
        ({"labels": [1, 2, -1]}, "for each of 3 fixed images, found -1"),
        ({"labels": [1, 2, "x"]}, "for each of 3 fixed images, found 'x'"),
        ({"labels": 3}, "for each of 3 fixed images, found 1"),
        ({"probe": "first"}, "labels: expected images in probe"),
        ({"probe": "second", "labels": None}, "probe: expected images, first or classes"),
        ({"metadata": {"classes": ["a", "b"]}}, "numbers of the 2 classes in metadata, found 4"),
    ],
)
def test_what_cannot_be(tmp_path: Path, options: dict[str, object], message: str) -> None:
    given = {"probe": IMAGES, "labels": [1, None, 4], "cam": True, **options}
    with pytest.raises(OptionError, match=message) as raised:
        Recorder(Net(), tmp_path / "run.h5", **given)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run.h5").exists()
