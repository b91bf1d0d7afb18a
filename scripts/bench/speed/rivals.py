"""Other ways to look at the feature maps of a training, each in the place of the recorder.

Each is measured only where it is installed; its version stands in its line.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any

import h5py
import torch
from torch import nn
from watches import Watch


class Imshow(Watch):
    """As the post of 2019 does: twelve imshow for each batch."""

    def step(self) -> None:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        maps = next(iter(self.kept.values()))
        figure = plt.figure(figsize=(20, 50))
        for number in range(12):
            figure.add_subplot(12, 1, number + 1)
            plt.imshow(maps[number].cpu(), cmap="gray")
        figure.savefig(self.folder / "maps.png")
        plt.close(figure)


class TensorBoard(Watch):
    def __init__(self, model: nn.Module, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        super().__init__(model, folder)
        self._writer = SummaryWriter(str(folder))
        self._number = 0

    def step(self) -> None:
        for name, maps in self.kept.items():
            low, high = maps.amin(), maps.amax()
            shown = (maps - low) / (high - low).clamp_min(1e-12)
            self._writer.add_images(name, shown[:, None], self._number)
        self._number += 1

    def off(self) -> None:
        super().off()
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Gzip(Watch):
    def __init__(self, model: nn.Module, folder: Path) -> None:
        super().__init__(model, folder)
        self._file = h5py.File(folder / "maps.h5", "w")

    def step(self) -> None:
        for name, maps in self.kept.items():
            if name not in self._file:
                self._file.create_dataset(
                    name,
                    shape=(0, *maps.shape),
                    maxshape=(None, *maps.shape),
                    chunks=(1, *maps.shape),
                    dtype="<f2",
                    compression="gzip",
                )
            dataset = self._file[name]
            dataset.resize(len(dataset) + 1, axis=0)
            dataset[-1] = maps.to(torch.float16).cpu().numpy()

    def close(self) -> None:
        self._file.close()


class TorchLens(Watch):
    """A pass of its own over the first image of the batch, all layers kept."""

    def __init__(self, model: nn.Module, folder: Path) -> None:
        super().__init__(model, folder)
        self._lens = importlib.import_module("torchlens")
        self._images = torch.zeros(1, 3, 8, 8)

    def on(self) -> None:
        def take(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            if len(given[0]) > 1:
                self._images = given[0][:1].detach()

        self._hooks.append(self.model.register_forward_pre_hook(take))

    def step(self) -> None:
        self._lens.trace(self.model, self._images)


class ActivationScope(Watch):
    """Its native hooks on the same layers; whole batches stay in memory, as is its default."""

    def __init__(self, model: nn.Module, folder: Path) -> None:
        super().__init__(model, folder)
        self._scope = importlib.import_module("activationscope").ActivationScope()
        self._names = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]

    def on(self) -> None:
        self._scope.clear()
        self._tracking = self._scope.track(self.model, layers=self._names)
        self._tracking.__enter__()

    def off(self) -> None:
        self._tracking.__exit__(None, None, None)
        assert self._scope.activations, "nothing was captured"
        self._scope.clear()

    def close(self) -> None:
        self._scope.remove()


class Rerun(Watch):
    """Rerun's log of the same maps, as float16 tensors into its file."""

    def __init__(self, model: nn.Module, folder: Path) -> None:
        super().__init__(model, folder)
        self._rerun: Any = importlib.import_module("rerun")
        self._stream = self._rerun.RecordingStream("maps")
        self._stream.save(str(folder / "maps.rrd"))
        self._number = 0

    def step(self) -> None:
        self._stream.set_time("batch", sequence=self._number)
        for name, maps in self.kept.items():
            self._stream.log(name, self._rerun.Tensor(maps.to(torch.float16).cpu().numpy()))
        self._number += 1

    def off(self) -> None:
        super().off()
        self._stream.flush()

    def close(self) -> None:
        assert (self.folder / "maps.rrd").stat().st_size


class NaNsense(Watch):
    """A session that captures each batch as it does when a layer is watched, nobody looking on."""

    def __init__(self, model: nn.Module, folder: Path) -> None:
        super().__init__(model, folder)
        self._session: Any = importlib.import_module("nansense").start(model, epochs=1 << 20)
        self._session.step_run()  # else it waits at each batch for somebody to look
        self._session.toggle_stats_collecting()
        convolutions = {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
        for name in self._session.layer_names:
            if name in convolutions:
                self._session.watch(name)
        self._batch: Any = None

    def on(self) -> None:
        self._batch = self._session.batch(phase="train", epoch=0)
        self._batch.__enter__()

    def step(self) -> None:
        self.off()
        self.on()

    def off(self) -> None:
        self._batch.__exit__(None, None, None)

    def close(self) -> None:
        self._session.close()


OTHERS = {  # by name: the way, and the package whose version is said; none of torch's own
    "the post's imshow": (Imshow, "matplotlib"),
    "TensorBoard add_images": (TensorBoard, "tensorboard"),
    "hooks, h5py with gzip": (Gzip, "h5py"),
    "TorchLens": (TorchLens, "torchlens"),
    "ActivationScope": (ActivationScope, "activationscope"),
    "Rerun's log": (Rerun, "rerun-sdk"),
    "NaNsense": (NaNsense, "nansense"),
}


def version_of(package: str) -> str | None:
    """The version of what is installed; None of what is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
