"""Prints what the training command says: a table before the run, progress, and a summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Sized
from types import TracebackType
from typing import Any, cast

from record.formatting import format_bytes, format_count
from record.recorder import Recorder
from record.reporting import listed
from record.training.loop import Report
from record.training.setup import Run
from replay.schema import spell_loss
from replay.schema.faces import command

_MAX_LAYERS = 24  # in the table


class Console:
    """Prints what happens in one run: progress on stderr, the summary on stdout.

    Args:
        run: The run.
        recorder: The recorder of the run.
        quiet: Prints nothing; warnings and errors come from elsewhere.
    """

    def __init__(self, run: Run, recorder: Recorder, quiet: bool = False) -> None:
        self._run = run
        self._recorder = recorder
        self._quiet = quiet
        self._bar: Any = None
        self._started = time.monotonic()

    def announce(self) -> None:
        """Prints the table before the run."""
        if self._quiet:
            return
        run = self._run
        samples = len(cast(Sized, run.data.train)), len(cast(Sized, run.data.test))
        trained, tested = (f"{n:,}" for n in samples)
        images = f"{trained} training and {tested} test images"
        classes = format_count(len(run.data.classes), "class")
        size = format_count(run.parameters, "parameter")
        epochs, batches = (
            format_count(run.settings.epochs, "epoch"),
            format_count(run.batches, "batch"),
        )
        rows = [
            ("data", f"{run.data.name}: {images} of {run.size}x{run.size}, {classes}"),
            ("model", f"{run.settings.model}, {size}, on {run.device}"),
            (
                "training",
                f"{epochs} of {batches} of {run.settings.batch_size}, seed {run.settings.seed}",
            ),
            ("recording", f"{self._recorder.path}: {run.plan.summary}"),
        ]
        for name, text in rows:
            self._say(f"{name:<10} {text}")
        for place, line in enumerate(run.plan.layer_lines(_MAX_LAYERS)):
            self._say(f"{'layers' if place == 0 else '':<10} {line}")

    def __enter__(self) -> Console:
        self._started = time.monotonic()
        if not self._quiet and sys.stderr.isatty():
            from tqdm import tqdm

            total = self._run.settings.epochs * self._run.batches
            self._bar = tqdm(total=total, unit="batch", file=sys.stderr, dynamic_ncols=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, report: Report) -> None:
        """Shows how the training stands: a bar on a terminal, elsewhere a line for each epoch."""
        if self._quiet:
            return
        try:
            recorded = format_bytes(self._recorder.path.stat().st_size)
        except OSError:  # the writer has not begun
            recorded = format_bytes(0)
        figures = (
            f"loss {spell_loss(report.loss)}, accuracy {report.accuracy:.3f}, recorded {recorded}"
        )
        if self._bar is not None:
            self._bar.update()
            self._bar.set_description(f"epoch {report.epoch} batch {report.batch}", refresh=False)
            self._bar.set_postfix_str(figures, refresh=False)
        elif report.batch == report.batches - 1:
            self._say(f"epoch {report.epoch}: {figures}")

    def summarize(self, accuracy: float) -> None:
        """Prints what was recorded, after the recording was closed.

        Args:
            accuracy: The share of the test images that was classified correctly.
        """
        if self._quiet:
            return
        recorder, path = self._recorder, self._recorder.path
        names = [layer.name for layer in recorder.layout.layers if layer.is_main]
        try:
            size = format_bytes(path.stat().st_size)
        except OSError as error:
            size = f"not readable: {error.strerror}"
        seconds = time.monotonic() - self._started
        recorded = format_count(recorder.committed, "batch")
        print(f"recorded   {recorded} of {listed(names, 4)} in {seconds:.0f} s")
        if recorder.dropped or recorder.lost:
            dropped, lost = (
                format_count(recorder.dropped, "batch"),
                format_count(recorder.lost, "frame"),
            )
            print(f"lost       {dropped} dropped, {lost} lost")
        print(f"file       {path} ({size})")
        print(f"accuracy   {accuracy:.3f} on the test images")
        probed = any(layer.probe is not None for layer in recorder.layout.layers)
        print(f"next       {command('replay', 'animate', path, *['--probe'] * probed)}")

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr)
