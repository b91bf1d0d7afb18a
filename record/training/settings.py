"""The settings of the built-in training run."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from record.options import parse_axes


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
    attention: str | None = None  # `cls` or `full`: what attention looks at is recorded
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


def settings_of(options: argparse.Namespace) -> Settings:
    """Returns the settings that the options of `record train` or `record plan` say.

    Args:
        options: As they were parsed.

    Raises:
        OptionError: One of them cannot be read.
    """
    return Settings(
        data=options.data,
        data_dir=options.data_dir,
        download=options.download,
        image_size=options.image_size,
        samples=options.samples,
        model=options.model,
        layers=None if options.layers is None else tuple(options.layers),
        gradients=options.gradients is not None and (tuple(options.gradients) or True),
        epochs=options.epochs,
        batch_size=options.batch_size,
        lr=options.lr,
        seed=options.seed,
        workers=options.workers,
        device=options.device,
        amp=options.amp,
        compile=options.compile,
        every=options.every,
        schedule=options.schedule,
        budget=options.budget,
        max_map=options.max_map,
        batch_axis=parse_axes(options.batch_axis),
        probe=options.probe,
        attention=options.attention,
        cam=options.cam,
        checkpoint=options.checkpoint,
        resume=options.resume,
        input=getattr(options, "input", None),
        batches=getattr(options, "batches", None),
    )
