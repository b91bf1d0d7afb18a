"""MLflow: metrics by step, and artifacts that its page shows: an MP4, a PNG, an HTML file.

Artifacts know no steps: a tag of the run says of each which step it shows last, and the sheet is an
image of each step, too.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from importlib import import_module
from inspect import signature
from typing import Any

from replay.schema.format import encode_meta
from replay.trackers.interface import PREFIX, SHEET, File, Point, RunFacts, Tracker

_MOST = 1000  # metrics in one request, which MLflow limits
_LONGEST = 5000  # letters of a tag


class MLflow(Tracker):
    """A run of MLflow, reached by its client: what is active in this process stays as it is.

    Args:
        client: The client.
        run: The run's number.
        where: The tracking server's address.
        own: Whether it was begun for this, and ends with it.
    """

    def __init__(self, client: Any, run: str, where: str, own: bool) -> None:
        self._client, self._run, self._where, self._own = client, run, where, own

    @classmethod
    def begin(cls, value: str, about: RunFacts) -> MLflow:
        """Begins a run in the experiment that `MLFLOW_EXPERIMENT_NAME` or `..._ID` names."""
        mlflow: Any = import_module("mlflow")
        client: Any = mlflow.MlflowClient(tracking_uri=value or None)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME")
        number = os.environ.get("MLFLOW_EXPERIMENT_ID", "0")
        if name:
            found = client.get_experiment_by_name(name)
            number = client.create_experiment(name) if found is None else found.experiment_id
        tags = {"mapreel": encode_meta(dict(about.facts))[:_LONGEST]}
        run = client.create_run(number, run_name=about.name, tags=tags)
        return cls(client, run.info.run_id, value or mlflow.get_tracking_uri(), own=True)

    @classmethod
    def attach(cls, run: Any = None) -> MLflow | None:
        """Returns the run that is active in this process, if there is one."""
        mlflow: Any = import_module("mlflow")
        found = mlflow.active_run() if run is None else run
        if found is None:
            return None
        where = mlflow.get_tracking_uri()
        return cls(mlflow.MlflowClient(tracking_uri=where), found.info.run_id, where, own=False)

    def log_points(self, points: Sequence[Point]) -> None:
        """Logs numbers at their steps, with the time at which they were recorded."""
        metric: Any = import_module("mlflow.entities").Metric
        now = time.time()
        metrics = [
            metric(PREFIX + name, value, int(1000 * (point.time or now)), point.step)
            for point in points
            for name, value in point.values.items()
        ]
        for start in range(0, len(metrics), _MOST):
            self._client.log_batch(self._run, metrics=metrics[start : start + _MOST])

    def log_file(self, file: File) -> None:
        """Stores a file among the run's artifacts, where a later one of its name replaces it."""
        self._client.log_artifact(self._run, str(file.path), PREFIX.rstrip("/"))
        name = re.sub(r"[^\w./ -]", "_", PREFIX + file.name, flags=re.ASCII)
        self._client.set_tag(self._run, f"{name}.step", file.step)
        if file.kind == SHEET and "step" in signature(self._client.log_image).parameters:
            from PIL import Image

            with Image.open(file.path) as opened:
                image = opened.convert("RGB")
            self._client.log_image(self._run, image, key=name, step=file.step)

    def close(self) -> str:
        """Ends the run if it was begun for this, and returns its number and the server."""
        if self._own:
            self._client.set_terminated(self._run)
        return f"run {self._run} of {self._where}"
