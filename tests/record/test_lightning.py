"""The Lightning callback in real trainings, held against independent hooks."""

from __future__ import annotations

import contextlib
import copy
import pickle
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import replay
from record import Recorder, RecordingWarning
from record.torchvision_import import import_torchvision
from replay.schema import OptionError, OutputError

pytestmark = [
    pytest.mark.usefixtures("quick_writers"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    # What Lightning has to say about small loaders, worker processes and the machine's devices.
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
    pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.utils.data"),
]

STYLES = {
    "self(x)": (None, "net."),
    "self.net(x), module=net": ("net", ""),
    "self.net(x)": (None, "net."),
}


def need(name: str) -> ModuleType:
    with contextlib.suppress(OptionError):
        import_torchvision()  # beside a CPU build of torch, Lightning's own import of it fails
    return pytest.importorskip(name, reason=f"not tested: the callback in {name}, it is missing")


@pytest.fixture
def lightning() -> ModuleType:
    return need("lightning.pytorch")


class Images(torch.utils.data.Dataset):
    """Ten images, the same ones each time."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        generator = torch.Generator().manual_seed(index)
        return torch.randn(3, 10, 10, generator=generator), index % 3


def loader(**options: Any) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(Images(), batch_size=4, **options)


def make(library: ModuleType, style: str, fails_at: int = -1) -> Any:
    """A LightningModule: conv1, an in-place ReLU, conv2; its forward is called or is not."""

    class Model(library.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential()
            self.net.conv1 = nn.Conv2d(3, 6, 3, padding=1)
            self.net.norm = nn.BatchNorm2d(6)
            self.net.relu = nn.ReLU(inplace=True)
            self.net.conv2 = nn.Conv2d(6, 3, 3)
            self.losses: list[float] = []
            self.rates: list[float] = []
            self.frames: list[dict[str, np.ndarray]] = []
            self.watched = False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            if len(self.losses) == fails_at:
                raise ZeroDivisionError
            images, labels = batch
            self.frames.append({"input": images[0].half().numpy()})
            outputs = self(images) if style.startswith("self(x)") else self.net(images)
            loss = nn.functional.cross_entropy(outputs.mean((2, 3)), labels)
            self.losses.append(loss.item())
            self.rates.append(self.optimizers().param_groups[0]["lr"])
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self(2 * batch[0])
            self.net(2 * batch[0])

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
            }

        def watch(self) -> None:
            """Plain hooks that clone."""
            for name in ("conv1", "norm", "conv2"):

                def keep(module: nn.Module, args: Any, output: torch.Tensor, n: str = name) -> None:
                    if self.training:
                        self.frames[-1][n] = output[0].detach().clone().half().numpy()

                self.net.get_submodule(name).register_forward_hook(keep)

    torch.manual_seed(0)
    return Model()


def make_trainer(library: ModuleType, folder: Path, *callbacks: Any, **options: Any) -> Any:
    """On the CPU, two epochs, with a sanity check."""
    return library.Trainer(
        **{
            "max_epochs": 2,
            "accelerator": "cpu",
            "devices": 1,
            "num_sanity_val_steps": 2,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": folder,
            "callbacks": list(callbacks),
            **options,
        }
    )


def fit(library: ModuleType, model: Any, folder: Path, *callbacks: Any, **options: Any) -> Any:
    """Two epochs on the CPU with a sanity check and validations; the weights and buffers."""
    torch.manual_seed(1)
    trainer = make_trainer(library, folder, *callbacks, **options)
    trainer.fit(model, loader(shuffle=True), loader())
    return {name: value.clone() for name, value in model.state_dict().items()}


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
        ({"layers": "cnov1"}, "no layer matches 'cnov1'; closest: net.conv1"),
        ({"every": 0}, "every: expected a whole number from 1"),
        ({"resume": True}, "there is no such file"),
        ({"path": "nowhere/run.h5"}, "no such folder"),
        ({"path": "."}, "is a folder"),
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


def check_losses(path: Path, losses: list[float], first: int = 0) -> None:
    """Epochs of three batches, from an epoch on."""
    with replay.open(path) as run:
        assert run.closed
        epochs = range(first, first + len(losses) // 3)
        assert run.frames == [(e, b) for e in epochs for b in range(3)]
        assert [run.batches["loss"][at] for at in run.frames] == losses
        assert [run.batches["step"][at] for at in run.frames] == list(range(len(losses)))


@pytest.mark.parametrize("overwrite", [False, True])
def test_going_on_continues_the_file(
    tmp_path: Path, lightning: ModuleType, overwrite: bool
) -> None:
    from record.lightning import RecordFeatureMaps

    model = make(lightning, "self(x)")
    callback = RecordFeatureMaps(tmp_path / "run.h5", overwrite=overwrite)
    trainer = make_trainer(lightning, tmp_path, callback)
    trainer.fit(model, loader(), loader())
    trainer.fit_loop.max_epochs = 4
    trainer.fit(model, loader(), loader())
    assert len(model.losses) == 12
    check_losses(tmp_path / "run.h5", model.losses)
    assert [path.name for path in tmp_path.iterdir()] == ["run.h5"]


def test_going_on_in_the_middle_of_an_epoch(tmp_path: Path, lightning: ModuleType) -> None:
    from record.lightning import RecordFeatureMaps

    model = make(lightning, "self(x)")
    callback = RecordFeatureMaps(tmp_path / "run.h5")
    trainer = make_trainer(lightning, tmp_path, callback, max_steps=4, max_epochs=-1)
    trainer.fit(model, loader(), loader())
    seen = [(1, 1)]
    model.on_train_batch_start = lambda batch, batch_idx: seen.append(
        (trainer.current_epoch, batch_idx)
    )
    trainer.fit_loop.epoch_loop.max_steps = 6
    trainer.fit(model, loader(), loader())
    first = [(0, 0), (0, 1), (0, 2), (1, 0)]
    with replay.open(tmp_path / "run.h5") as run:
        assert run.closed
        assert run.frames == first + seen[1:]
        assert [run.batches["loss"][at] for at in run.frames] == model.losses
        assert [run.batches["step"][at] for at in run.frames] == list(range(6))


def test_a_checkpoint_leads_the_file_back(tmp_path: Path, lightning: ModuleType) -> None:
    from record.lightning import RecordFeatureMaps

    model = make(lightning, "self(x)")
    callback = RecordFeatureMaps(tmp_path / "run.h5")
    trainer = make_trainer(lightning, tmp_path, callback)
    trainer.fit(model, loader(), loader())
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    trainer.fit_loop.max_epochs = 3
    trainer.fit(model, loader(), loader())
    again = make(lightning, "self(x)")  # of which only the checkpoint knows that it goes on
    second = make_trainer(lightning, tmp_path, callback, max_epochs=4)
    second.fit(again, loader(), loader(), ckpt_path=tmp_path / "two.ckpt", weights_only=False)
    assert len(again.losses) == 6
    check_losses(tmp_path / "run.h5", model.losses[:6] + again.losses)


@pytest.mark.parametrize("overwrite", [False, True])
def test_each_fold_has_a_file_of_its_own(
    tmp_path: Path, lightning: ModuleType, overwrite: bool
) -> None:
    from record.lightning import RecordFeatureMaps

    callback = RecordFeatureMaps(tmp_path / "run.h5", overwrite=overwrite)
    models = [make(lightning, "self(x)") for _ in range(3)]
    for number, model in enumerate(models):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RecordingWarning)
            fit(lightning, model, tmp_path, callback)
        said = [str(w.message) for w in caught if w.category is RecordingWarning]
        assert len(said) == (number > 0)
        assert all(f"run.{number + 1}.h5" in line for line in said)
    for name, model in zip(("run.h5", "run.2.h5", "run.3.h5"), models, strict=True):
        check_losses(tmp_path / name, model.losses)


def test_the_same_model_trained_anew_has_a_file_of_its_own(
    tmp_path: Path, lightning: ModuleType
) -> None:
    from record.lightning import RecordFeatureMaps

    callback = RecordFeatureMaps(tmp_path / "run.h5")
    model = make(lightning, "self(x)")
    fit(lightning, model, tmp_path, callback)
    with pytest.warns(RecordingWarning, match="run.2.h5"):
        fit(lightning, model, tmp_path, callback)
    check_losses(tmp_path / "run.h5", model.losses[:6])
    check_losses(tmp_path / "run.2.h5", model.losses[6:])


def test_a_file_that_was_there_is_left_alone(tmp_path: Path, lightning: ModuleType) -> None:
    from record.lightning import RecordFeatureMaps

    (tmp_path / "run.h5").write_bytes(b"precious")
    model = make(lightning, "self(x)")
    with pytest.warns(RecordingWarning, match="recorded in .*run.2.h5: choose another name"):
        fit(lightning, model, tmp_path, RecordFeatureMaps(tmp_path / "run.h5"))
    assert (tmp_path / "run.h5").read_bytes() == b"precious"
    check_losses(tmp_path / "run.2.h5", model.losses)


def test_a_file_of_a_process_that_has_ended_goes_on_where_asked(
    tmp_path: Path, lightning: ModuleType
) -> None:
    from record.lightning import RecordFeatureMaps

    path = tmp_path / "run.h5"
    first = make(lightning, "self(x)")
    trainer = make_trainer(lightning, tmp_path, RecordFeatureMaps(path))
    trainer.fit(first, loader(), loader())
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    second = make(lightning, "self(x)")
    trainer = make_trainer(lightning, tmp_path, RecordFeatureMaps(path, resume=True), max_epochs=3)
    trainer.fit(second, loader(), loader(), ckpt_path=tmp_path / "two.ckpt", weights_only=False)
    check_losses(path, first.losses + second.losses)


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
        assert copied._past == []


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
