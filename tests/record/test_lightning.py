"""What the callback of Lightning records, and what it leaves alone."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from lightning_trainings import QUIET, STYLES, check_losses, fit, loader, make, make_trainer, need
from torch import nn

import replay
from record import Recorder, RecordingWarning
from replay.schema import OptionError, OutputError

pytestmark = QUIET


@pytest.mark.parametrize("style", STYLES)
def test_frames_weights_losses_and_rates(tmp_path: Path, lightning: ModuleType, style: str) -> None:
    from record.lightning import RecordFeatureMaps

    module, prefix = STYLES[style]
    plain = fit(lightning, make(lightning, style), tmp_path)
    watched = make(lightning, style)
    watched.watch()
    fit(lightning, watched, tmp_path)
    layers = [f"{prefix}{name}" for name in ("conv1", "norm", "conv2")]
    callback = RecordFeatureMaps(tmp_path / "run.h5", layers, module=module, when_full="wait")
    recorded = fit(lightning, make(lightning, style), tmp_path, callback)
    assert plain.keys() == recorded.keys()
    assert all(torch.equal(plain[name], recorded[name]) for name in plain)
    assert callback.recorder is None
    with replay.open(tmp_path / "run.h5") as run:
        assert run.closed
        assert (run.lost, run.dropped) == (0, 0)
        assert run.layers == tuple(layers)
        assert run.frames == [(e, b) for e in range(2) for b in range(3)]
        for at, frames, loss, rate in zip(
            run.frames, watched.frames, watched.losses, watched.rates, strict=True
        ):
            assert run.inputs[at].tobytes() == frames["input"].tobytes()
            for name in ("conv1", "norm", "conv2"):
                assert run[prefix + name][at].tobytes() == frames[name].tobytes()
            assert run.batches["loss"][at] == loss
            assert run.batches["lr"][at] == rate


def test_every_and_accumulated_gradients(tmp_path: Path, lightning: ModuleType) -> None:
    from record.lightning import RecordFeatureMaps

    model = make(lightning, "self(x)")
    callback = RecordFeatureMaps(tmp_path / "run.h5", "net.conv1", 2, metadata={"classes": ["a"]})
    fit(lightning, model, tmp_path, callback, accumulate_grad_batches=3)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == [(0, 0), (0, 2), (1, 0), (1, 2)]
        assert run.meta["classes"] == ["a"]
        for at in run.frames:
            expected = model.losses[3 * at[0] + at[1]]
            assert run.batches["loss"][at] == pytest.approx(expected, rel=1e-6)


def test_batches_that_are_left_out(tmp_path: Path, lightning: ModuleType) -> None:
    from record.lightning import RecordFeatureMaps

    model = make(lightning, "self(x)")
    training_step = model.training_step
    model.training_step = lambda batch, batch_idx: (
        None if batch_idx == 1 else training_step(batch, batch_idx)
    )
    fit(lightning, model, tmp_path, RecordFeatureMaps(tmp_path / "run.h5"))
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == [(0, 0), (0, 2), (1, 0), (1, 2)]
        assert [run.batches["loss"][at] for at in run.frames] == model.losses


def test_an_exception_leaves_a_whole_file_and_no_hooks(
    tmp_path: Path, lightning: ModuleType
) -> None:
    from record.lightning import RecordFeatureMaps

    model = make(lightning, "self(x)", fails_at=4)
    with pytest.raises(ZeroDivisionError):
        fit(lightning, model, tmp_path, RecordFeatureMaps(tmp_path / "run.h5"))
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    with replay.open(tmp_path / "run.h5") as run:
        assert run.closed
        assert run.frames == [(0, 0), (0, 1), (0, 2), (1, 0)]


def test_other_ranks_do_nothing(
    tmp_path: Path, lightning: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from record.lightning import RecordFeatureMaps

    monkeypatch.setattr("record.recorder.rank_and_world", lambda: (1, 2))
    callback = RecordFeatureMaps(tmp_path / "run.h5")
    fit(lightning, make(lightning, "self(x)"), tmp_path, callback)
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments_are_said_before_the_first_batch(
    tmp_path: Path, lightning: ModuleType
) -> None:
    from record.lightning import RecordFeatureMaps

    path = tmp_path / "run.h5"
    model = make(lightning, "self(x)")
    strict: dict[str, Any] = {"on_error": "raise"}
    with pytest.raises(OptionError, match=r"a module in Model \(net\), found 'ent'"):
        fit(lightning, model, tmp_path, RecordFeatureMaps(path, module="ent", **strict))
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists"):
        fit(lightning, model, tmp_path, RecordFeatureMaps(path, **strict))
    assert model.losses == []
    assert path.read_bytes() == b"precious"
    fit(lightning, model, tmp_path, RecordFeatureMaps(path, overwrite=True))
    with replay.open(path) as run:
        assert run.layers == ("net.conv1", "net.conv2")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"module": "ent"}, "expected the name of a module in Model"),
        ({"layers": "cnov1"}, "no layer matches 'cnov1'; did you mean net.conv1"),
        ({"every": 0}, "every: expected a whole number from 1"),
        ({"resume": True}, "there is no such file"),
        ({"path": "nowhere/run.h5"}, "no such folder"),
        ({"path": "."}, "is a folder"),
        ({"path": "a\0b.h5"}, "no file can be called"),
        ({"path": 3}, "path: expected a path such as 'run.h5', found 3"),
    ],
)
def test_what_cannot_be_recorded_never_ends_the_training(
    tmp_path: Path,
    lightning: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    said: str,
) -> None:
    from record.lightning import RecordFeatureMaps

    monkeypatch.chdir(tmp_path)
    plain = fit(lightning, make(lightning, "self(x)"), tmp_path)
    callback = RecordFeatureMaps(**{"path": "run.h5", **options})
    model = make(lightning, "self(x)")
    with pytest.warns(RecordingWarning, match=said) as caught:
        recorded = fit(lightning, model, tmp_path, callback)
    assert len([w for w in caught if w.category is RecordingWarning]) == 1
    assert len(model.losses) == 6
    assert all(torch.equal(plain[name], recorded[name]) for name in plain)
    assert list(tmp_path.iterdir()) == []


def test_trouble_in_the_middle_never_ends_the_training(
    tmp_path: Path, lightning: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from record.lightning import RecordFeatureMaps

    callback = RecordFeatureMaps(tmp_path / "run.h5")
    model = make(lightning, "self(x)")
    inner = model.training_step

    def training_step(batch: Any, batch_idx: int) -> torch.Tensor:
        if len(model.losses) == 4:  # nothing of ours may be relied on: it fails from here on
            monkeypatch.setattr(callback.recorder, "log", None)
        return inner(batch, batch_idx)

    model.training_step = training_step
    with pytest.warns(RecordingWarning, match="not recorded any further: TypeError"):
        fit(lightning, model, tmp_path, callback)
    assert len(model.losses) == 6
    with replay.open(tmp_path / "run.h5") as run:
        assert run.closed
        assert run.frames == [(0, 0), (0, 1), (0, 2), (1, 0)]


@pytest.mark.parametrize("way", ["lr_find", "scale_batch_size", "callback"])
def test_tuning_before_the_training_leaves_no_trace(
    tmp_path: Path, lightning: ModuleType, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    from lightning.pytorch.callbacks import LearningRateFinder
    from lightning.pytorch.tuner import Tuner

    from record.lightning import RecordFeatureMaps

    monkeypatch.chdir(tmp_path)
    model = make(lightning, "self(x)")
    model.lr, model.batch_size = 0.1, 4
    model.train_dataloader = model.val_dataloader = loader
    callbacks = [RecordFeatureMaps(tmp_path / "run.h5")]
    if way == "callback":
        finder = LearningRateFinder(num_training_steps=4, update_attr=False)
        callbacks = [*callbacks, finder]
    trainer = make_trainer(lightning, tmp_path, *callbacks)
    if way == "lr_find":
        Tuner(trainer).lr_find(model, num_training=4, update_attr=False)
    elif way == "scale_batch_size":
        Tuner(trainer).scale_batch_size(model, max_trials=1, steps_per_trial=2)
    trainer.fit(model)
    assert len(model.losses) > 6
    check_losses(tmp_path / "run.h5", model.losses[-6:])


def test_validation_within_an_epoch(tmp_path: Path, lightning: ModuleType) -> None:
    from record.lightning import RecordFeatureMaps

    model = make(lightning, "self(x)")
    original = model.validation_step

    def validation_step(batch: Any, batch_idx: int) -> None:
        original(batch, batch_idx)
        model.train()  # dropout at validation, say: nothing that is trained on
        model.net(3 * batch[0])
        model.eval()

    model.validation_step = validation_step
    fit(lightning, model, tmp_path, RecordFeatureMaps(tmp_path / "run.h5"), val_check_interval=1)
    check_losses(tmp_path / "run.h5", model.losses)
    with replay.open(tmp_path / "run.h5") as run:
        for at, frame in zip(run.frames, model.frames, strict=True):
            assert run.inputs[at].tobytes() == frame["input"].tobytes()


def test_combined_loaders(tmp_path: Path, lightning: ModuleType) -> None:
    from lightning.pytorch.utilities import CombinedLoader

    from record.lightning import RecordFeatureMaps

    model = make(lightning, "self(x)")
    inner = model.training_step
    model.training_step = lambda batch, batch_idx: (
        inner(batch["a"], batch_idx) + (model(batch["b"][0]).square().mean())
    )
    loaders = CombinedLoader({"a": loader(), "b": loader(shuffle=True)}, "max_size_cycle")
    trainer = make_trainer(lightning, tmp_path, RecordFeatureMaps(tmp_path / "run.h5"))
    trainer.fit(model, loaders)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == [(e, b) for e in range(2) for b in range(3)]
        for at, frame in zip(run.frames, model.frames, strict=True):
            assert run.inputs[at].tobytes() == frame["input"].tobytes()


def test_a_model_of_fabric_is_recorded_by_its_own_names(
    tmp_path: Path, lightning: ModuleType
) -> None:
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    model, optimizer = fabric.setup(net, torch.optim.SGD(net.parameters(), 0.1))
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for images, _ in recorder.track(loader()):
            fabric.backward(model(images).square().mean())
            optimizer.step()
    with replay.open(tmp_path / "run.h5") as run:
        assert run.layers == ("0",)
        assert len(run.frames) == 3


def test_copies_of_the_callback_have_recorded_nothing(
    tmp_path: Path, lightning: ModuleType
) -> None:
    from record.lightning import RecordFeatureMaps

    callback = RecordFeatureMaps(tmp_path / "run.h5")
    model = make(lightning, "self(x)")
    fit(lightning, model, tmp_path, callback)
    for name in ("log", "log_dict"):  # Lightning's own, which hold the model
        vars(callback).pop(name, None)
    for copied in (copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))):
        assert copied.recorder is None
        assert copied._fits == []


def test_the_package_pytorch_lightning(tmp_path: Path) -> None:
    library = need("pytorch_lightning")
    from record.lightning import RecordFeatureMaps

    callback = RecordFeatureMaps(tmp_path / "run.h5", module="net")
    fit(library, make(library, "self.net(x)"), tmp_path, callback)
    with replay.open(tmp_path / "run.h5") as run:
        assert (run.layers, len(run.frames)) == (("conv1", "conv2"), 6)


def test_without_lightning_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "record.lightning", raising=False)
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(OptionError, match=r"pip install 'mapreel\[lightning\]'") as caught:
        import record.lightning  # noqa: F401
    assert "\n" not in str(caught.value)
