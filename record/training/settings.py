"""The settings of the built-in training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """The settings of a training run: the options of `record train`, with their defaults."""

    data: str = "photos"
    data_dir: Path = Path("data")
    download: bool = False
    image_size: int | None = None  # None: 128, or what the model needs
    samples: int | None = None
    model: str = "tiny"
    layers: tuple[str, ...] | None = None
    gradients: tuple[str, ...] | bool = False  # of which layers; True: of all that are recorded
    epochs: int = 5
    batch_size: int = 16
    lr: float | None = None  # None: 0.01 for tiny, else 0.001
    seed: int = 0
    workers: int = 0
    device: str = "auto"
    amp: bool = False
    compile: bool = False
    every: int = 1
    schedule: str | None = None
    budget: str | None = None
    max_map: int | None = None
    batch_axis: dict[str, int] | None = None
    checkpoint: Path | None = None  # written at the end of each epoch
    resume: Path | None = None  # the recording to go on with, from the checkpoint
    probe: int | str | None = None  # fixed images, or `classes`: one of each; None: see `probes`
    cam: bool | str = False  # keeps class activation of them: of the usual layer, or of this one
    input: tuple[int, int, int] | None = None  # to plan without data: (C, H, W) of an image
    batches: int | None = None  # likewise: batches in an epoch

    @property
    def probes(self) -> int | str:
        """The number of fixed images, or `classes`; without `probe` one, shown now and then."""
        return 1 if self.probe is None else self.probe

    @property
    def asks_classes(self) -> bool:
        """Whether it is recorded what the network makes of the fixed images."""
        return self.probe == "classes" or self.cam is not False
