"""What is looked at beside a model's own forwards: replaced layers, silent ones, fixed images."""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Callable
from typing import Any

from torch import nn

from record.capture.capture import Capture
from record.capture.probe import Probe
from record.reporting import Problems, listed
from record.schedule.cadence import Cadence
from record.session.first_image_probe import FirstImageProbe


class ModelChecks:
    """Looks after a model while it is recorded.

    Args:
        capture: The hooks of the recording.
        find_layers: Returns the layers to record of the model as it is now, by name.
        probe: Fixed images that are shown to the model with each recorded batch, or None.
        problems: Warns of what is found.
        cadence: Says at which of the recorded batches given images are shown; None for each one.

    Attributes:
        has_probe: Whether there are fixed images to show.
        named_silent: Whether the layers were named that are silent in the first batch.
    """

    def __init__(
        self,
        capture: Capture,
        find_layers: Callable[[nn.Module], dict[str, nn.Module]],
        probe: Probe | FirstImageProbe | None,
        problems: Problems,
        cadence: Cadence | None = None,
    ) -> None:
        self.has_probe = probe is not None
        self.named_silent = False
        self._capture = capture
        self._find_layers = find_layers
        self._probe = probe
        self._problems = problems
        self._cadence = cadence
        self._said_of_scores = False

    def follow_changes(self) -> None:
        """Records layers that were replaced or added, under their names, and says so."""
        try:
            for change in self._capture.follow(self._find_layers):
                self._problems.warn(f"the model has changed while it is recorded; layers {change}")
        except Exception as error:
            self._problems.warn(f"the model has changed, and cannot be looked at: {error}")

    @property
    def why_no_probe(self) -> str:
        """Why the first image is not shown to the model, in words; empty where it is."""
        probe = self._probe
        if not isinstance(probe, FirstImageProbe):
            return ""
        if probe.shown and not probe.reason:
            return ""
        if probe.reason:
            return probe.reason
        state = self._capture.state
        if state.traced or state.opened:
            return "it is compiled" if state.traced else "its parts are called directly"
        if probe.waits:
            return "a mode or transformation of torch goes on around its batches"
        return "nothing tells where its batches end"

    def show_probe(self, epoch: int, batch: int, ends_epoch: bool) -> bool:
        """Shows the fixed images to the model; where that fails the batch is still recorded.

        Args:
            epoch: The epoch of the batch that ends.
            batch: The batch's number in it.
            ends_epoch: Whether the batch is known to be the last one of its epoch.

        Returns:
            False where they were left out because another thread goes on with the training.

        Raises:
            RecordingError: The model cannot take the images, and the user asked for errors.
        """
        state = self._capture.state
        if self._probe is None:
            return True
        if isinstance(self._probe, FirstImageProbe):
            self._probe.run(state, epoch, batch, ends_epoch)
            if self._probe.note:
                self._problems.warn(self._probe.note)
            self._say_of_classes()
            return True
        if state.thread not in (0, get_ident()):
            self._problems.warn(
                "the probe was left out where another thread goes on with the training", "probe"
            )
            return False
        if self._cadence is not None and not self._cadence.is_due(epoch, batch, ends_epoch):
            return True
        self.follow_changes()
        try:
            if self._cadence is None:
                self._probe.run(state)
            else:
                with self._cadence:
                    self._probe.run(state)
        except Exception as error:
            self._probe, self.has_probe = None, False
            reason = " ".join(str(error).split())[:200]
            self._problems.meet(f"the probe was given up: {type(error).__name__}: {reason}")
        self._say_of_classes()
        return True

    def take_probe_values(self) -> dict[str, Any]:
        """Returns what the network made of the fixed images when they were shown, by fields."""
        classes = None if self._probe is None else self._probe.classes
        return {} if classes is None else classes.take_values()

    def _say_of_classes(self) -> None:
        """Says, once, why nothing is kept of what the network makes of the images, or of which.

        Raises:
            RecordingError: The user asked for errors.
        """
        classes = None if self._probe is None else self._probe.classes
        problem = "" if classes is None else classes.new_problem()
        if problem:
            self._problems.meet(problem)
        if classes is not None and classes.note and not self._said_of_scores:
            self._said_of_scores = True
            self._problems.warn(classes.note)

    def name_silent_layers(self) -> None:
        """Names the layers that are silent in the first batch, once."""
        if self.named_silent:
            return
        self.named_silent = True
        quiet, odd = self._silent_layers()
        if quiet:
            self._problems.warn(f"did not fire in the first batch: {listed(quiet)}")
        if odd:
            self._problems.warn(f"not recorded, since it put out no maps: {listed(odd)}")

    def name_never_fired(self) -> None:
        """Names the layers that have not fired at the end of a recording."""
        quiet, _ = self._silent_layers()
        if quiet:
            self._problems.warn(
                f"never fired in a recorded forward, so not recorded: {listed(quiet)}"
            )

    def why_nothing(self, broken: bool, copy_failed: bool, awaits_step: bool) -> str:
        """Says why nothing was recorded, at the end of a recording.

        Args:
            broken: Whether the last forward ended in an exception.
            copy_failed: Whether a hook could not copy something.
            awaits_step: Whether `step` says where batches end.

        Returns:
            The reason, in words.
        """
        if copy_failed:
            return "what its layers put out could not be copied, as was said"
        _, odd = self._silent_layers()
        if odd:
            return f"its layers put out nothing that can be recorded: {listed(odd)}"
        if broken:
            return "its forward ended in an exception"
        if awaits_step and self._capture.state.fired:
            return "call step() at the end of each batch"
        if self._capture.state.opened:
            return (
                "its parts are called directly, so that nobody can tell where a batch ends: use "
                "track(), or call step() after each batch"
            )
        return "the model itself was never called in training mode (model.train())"

    def _silent_layers(self) -> tuple[list[str], list[str]]:
        """Returns the layers that put out nothing, and those that put out no maps, with what."""
        silent = self._capture.frames.silent_layers
        quiet = [name for name, what in silent.items() if not what]
        return quiet, [f"{name} ({what})" for name, what in silent.items() if what]
