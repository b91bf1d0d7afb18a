"""From the hooks to the courier: the buffers in which a batch is gathered, and their layout."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from record.capture.buffers import DeviceBuffers, HostBuffer, can_register
from record.capture.capture import Capture
from record.capture.captured_frames import MAX_SHAPES, view
from record.capture.slots import MAX_CALLS
from record.protocol.layout import BatchLayout
from record.protocol.messages import FrameHeader
from record.reporting import Problems, listed
from record.schedule.budget import Budget
from record.schedule.choice import BatchChoice
from record.session.metadata import count_parameters
from record.transport.courier import Courier
from record.transport.frame_channel import QueuedFrame
from replay.schema import RecordingError


class SealedFrames(NamedTuple):
    """A batch's frames in their buffer, waiting for its number and for what is logged with it.

    Attributes:
        host: The buffer.
        layout: What the buffer consists of.
        missing: Places in the layout without a frame.
        absent: Layers that put out nothing, though they did in earlier batches.
        image: Which of the layout's images the buffer holds; None where it holds none.
        arrived: A function that waits until the frames have come from a GPU; None where they have.
    """

    host: HostBuffer
    layout: BatchLayout
    missing: tuple[int, ...]
    absent: int
    image: int | None
    arrived: Callable[[], Any] | None


@dataclass
class Refusal:
    """What was counted for a batch for which there was no buffer.

    Attributes:
        lost: 1 where it was counted as lost.
        dropped: 1 where it was counted as dropped.
    """

    lost: int = 0
    dropped: int = 0


class FrameSender:
    """Gives the hooks the buffers of one batch after the other, and sends them off.

    Args:
        path: The recording, named in messages.
        capture: The hooks.
        courier: Takes the buffers.
        choice: Decides which batches are recorded; its budget learns how large a batch is.
        problems: Warns of what goes wrong, or raises.

    Attributes:
        batches: The number of batches in an epoch, if it is known.
        choice: As given.
    """

    def __init__(
        self,
        path: Path,
        capture: Capture,
        courier: Courier,
        choice: BatchChoice,
        problems: Problems,
    ) -> None:
        self.batches: int | None = None
        self.choice = choice
        self._path = path
        self._state = capture.state
        self._frames = capture.frames
        self._courier = courier
        self._channel = courier.channel
        self._problems = problems
        self._host: HostBuffer | None = None  # of the current batch
        self._device_buffers: DeviceBuffers | None = None  # of a GPU's or a compiled model's maps
        self._frameless = 0  # batches before anything was ever put out

    def keeps(self, at: tuple[int, int, int]) -> bool:
        """Whether the batch with this epoch, number and step is recorded."""
        keep, thinning = self.choice.decide(at)
        if thinning > 1:
            self._courier.thin(thinning)
        return keep

    def prepare(self, refusal: Refusal | None = None) -> bool:
        """Points the hooks at a buffer for a batch; False where there is none.

        Args:
            refusal: What was counted for the batch when it was prepared before: it is taken back,
                and what is counted now put in its place.
        """
        host, channel = self._host, self._channel
        refusal = refusal or Refusal()
        if refusal.lost or refusal.dropped:
            self.forgive(refusal)
        if host is None and self._frames.layout.size:
            host = self._host = self._take_buffer()
            if host is None:
                refusal.lost = int(channel.last_refusal == "lost")
                refusal.dropped = 1 - refusal.lost
                self._point_at(None)
                return False
            device = self._state.input.device or self._device()
            if self._device_buffers is not None or device.type != "cpu" or self._state.traced:
                self._gather_on(device).turn()
        self._point_at(host)
        return True

    def send_probes(
        self, images: npt.NDArray[np.float16], labels: Sequence[int | None] = ()
    ) -> None:
        """Sends fixed images, float16 (N, C, H, W), and the class of each, before their maps."""
        self._courier.set_probes(images, labels)

    def forgive(self, refusal: Refusal) -> None:
        """Takes back what was counted for a batch: it never came, or has another try."""
        self._channel.count_lost(-refusal.lost)
        self._channel.dropped -= refusal.dropped
        refusal.lost = refusal.dropped = 0

    @property
    def spare(self) -> int:
        """How many batches may be held back without making the training wait."""
        return max(0, self._channel.spare - 1)

    def seal(self) -> SealedFrames | None:
        """Ends what was gathered for a batch, and hands out its buffer.

        Returns:
            The frames; None where there is no buffer, and the frame has been counted.
        """
        if self._state.on_sealing is not None:
            self._state.on_sealing()
        missing: tuple[int, ...] = ()
        absent, image = 0, 0 if self._state.input.in_slot else None
        frames, probes = len(self._frames.layout.layers), self._frames.probe_places
        if not self._state.holds_just(frames):
            if probes and self._state.holds_just(frames - len(probes), with_probes=False):
                missing = probes  # they are not shown at every batch
            else:
                missing, absent, image = self._settle_odd()
        host, self._host = self._host, None
        if host is None:  # the queue was full, and the frame has been counted
            return None
        gathered = self._device_buffers
        arrived = None if gathered is None else gathered.copy_to(host)
        return SealedFrames(host, self._frames.layout, missing, absent, image, arrived)

    def send(self, sealed: SealedFrames, at: tuple[int, int, int], values: dict[str, Any]) -> None:
        """Hands a batch to the courier.

        Args:
            sealed: The batch's frames.
            at: The batch's epoch, number and step.
            values: What was logged with the batch; they are the courier's from now on.
        """
        if sealed.layout is not self._frames.layout:
            moved = self._moved(sealed)
            if moved is None:
                return
            sealed = moved
        arrived = sealed.arrived
        if arrived is None:
            for value in values.values():
                if isinstance(value, torch.Tensor):  # from a GPU, of a model that is not on it
                    arrived = torch.cuda.synchronize
        self._channel.send(QueuedFrame(sealed.host, _header(sealed, at), values, arrived))

    def hold(self, sealed: SealedFrames, at: tuple[int, int, int], values: dict[str, Any]) -> None:
        """Has the writer write a batch that is still to be sent, should the training be killed.

        Nothing waits for a GPU: what may still be on its way from there is not held.

        Args:
            sealed: The batch's frames, which are sent in any case while the training lives.
            at: The batch's epoch, number and step.
            values: What was logged with the batch so far.
        """
        waits = any(isinstance(value, torch.Tensor) for value in values.values())
        if sealed.layout is self._frames.layout and sealed.arrived is None and not waits:
            self._channel.hold(QueuedFrame(sealed.host, _header(sealed, at), values, None))

    def discard(self, sealed: SealedFrames) -> None:
        """Gives the buffer of a batch back that is not sent."""
        if sealed.layout is self._frames.layout:
            if sealed.arrived is not None:
                sealed.arrived()  # nothing comes into it any more
            self._channel.give_back(sealed.host)

    def _moved(self, sealed: SealedFrames) -> SealedFrames | None:
        """Returns the frames in a buffer of the current layout, which has more parts."""
        host = self._take_buffer()
        if host is None:
            return None
        if sealed.arrived is not None:
            sealed.arrived()
        layout = self._frames.layout
        for part, old in sealed.layout.places.items():
            view(host.tensor, layout.places[part]).copy_(view(sealed.host.tensor, old))
        added = range(len(sealed.layout.layers), len(layout.layers))
        missing = (*sealed.missing, *added)
        return SealedFrames(host, layout, missing, sealed.absent, sealed.image, None)

    def count_lost(self, frames: int) -> None:
        """Counts so many frames as lost; may be called in any thread."""
        self._channel.count_lost(frames)

    def note_frameless(self) -> None:
        """Notes a batch without a frame: if nothing was ever put out, it counts once there is."""
        self._frameless += not self._frames.layout.size

    def has_failed(self, lost: int = 0) -> bool:
        """Whether the writer takes no more frames; warns of that once.

        Args:
            lost: Frames that are lost by it, and are counted.

        Raises:
            RecordingError: The writer has failed, and the user has asked for errors.
        """
        failure = self._channel.failure
        if failure is None:
            return False
        self.count_lost(lost)
        if self._problems.raises:
            raise RecordingError(f"recording to {self._path} ended: {failure}")
        self._courier.check()
        return True

    def end(self) -> None:
        """Gives the memory of the frames back."""
        self._host = self._device_buffers = None
        self._state.point_at(None)

    def leave_to_parent(self) -> None:
        """Leaves the memory alone, in a forked child, that the parent shares with the writer."""
        self._host = None
        if self._device_buffers is None:
            self._state.point_at(None)

    def _point_at(self, host: HostBuffer | None) -> None:
        """Gives the hooks their slices: of the host buffer where nothing speaks against it."""
        if self._device_buffers is not None:
            self._state.point_at(self._device_buffers.slices)
        elif host is None:
            self._state.point_at(None)
        else:
            if host.slices is None:
                host.slices = self._frames.slices(host.tensor)
            self._state.point_at(host.slices)

    def _settle_odd(self) -> tuple[tuple[int, ...], int, int | None]:
        """Brings the layout up to date with a batch that is not just as it says.

        Returns:
            Places in the layout without a frame, the number of layers that were silent, and which
            of the layout's images is there.
        """
        frames = self._frames
        before = frames.layout
        if frames.extend():
            self._adopt_layout(before, self._device())
        if self._host is None:
            return (), 0, None
        gathered = self._device_buffers
        flat = self._host.tensor if gathered is None else gathered.buffer
        image = frames.fill_image(flat)
        places, absent, misfits = frames.missing(frames.fill(flat))
        if misfits:
            self.count_lost(len(misfits))
            self._problems.meet(
                f"more than {MAX_SHAPES} different shapes, so not recorded: "
                f"{listed(list(dict.fromkeys(misfits)))}",
                key="misfits",
            )
        for slots in self._state.slots:
            if slots.calls > MAX_CALLS:
                self._problems.warn(
                    f"{slots.layer} is called more than {MAX_CALLS} times in a batch: "
                    f"its first {MAX_CALLS} calls are recorded",
                    key=f"calls {slots.layer}",
                )
        return tuple(places), absent, image

    def _adopt_layout(self, before: BatchLayout, device: torch.device) -> None:
        """Agrees on a new layout with the writer and moves the current batch into it."""
        layout, pinned = self._frames.layout, device.type == "cuda"
        if self._frameless:
            self.count_lost(self._frameless)
            self._frameless = 0
        root = self._state.root
        gathered = self._device_buffers
        filled = None if gathered is None else gathered.buffer
        if filled is None and self._host is not None:
            filled = self._host.tensor
        self._courier.set_layout(
            layout,
            self.batches,
            lambda memory: HostBuffer(layout.size, pinned, memory),
            shared=not pinned or can_register(),
            meta=None if root is None else {"parameters": count_parameters(root)},
        )
        if self.choice.budget is not None:
            self._plan_budget(self.choice.budget, layout)
        self._device_buffers = None
        self._host = self._take_buffer()
        if self._host is None:
            return
        target = self._host.tensor
        if device.type != "cpu" or self._state.traced:
            target = self._gather_on(device).buffer
        if filled is not None:
            for part, old in before.places.items():
                view(target, layout.places[part]).copy_(view(filled, old))

    def _plan_budget(self, budget: Budget, layout: BatchLayout) -> None:
        """Says so where the budget has no room for more than a batch or two."""
        budget.plan(layout, self.batches)
        if budget.capacity < 3:
            self._problems.warn(
                f"a budget of {budget.limit:,} bytes has room for one or two batches of "
                f"{layout.nbytes:,} bytes: record fewer layers, or smaller maps with max_map"
            )

    def _gather_on(self, device: torch.device) -> DeviceBuffers:
        """Returns the buffers in which a GPU's or a compiled model's maps are gathered."""
        if self._device_buffers is None:
            self._device_buffers = DeviceBuffers(self._frames, self._state, device)
        return self._device_buffers

    def _take_buffer(self) -> HostBuffer | None:
        """Takes a free buffer; None where the frame is given up, which has then been counted."""
        buffer = self._channel.buffer()
        if buffer is None:
            self.has_failed()
            return None
        assert isinstance(buffer, HostBuffer)
        return buffer

    def _device(self) -> torch.device:
        """Returns the device of the model's parameters."""
        root = self._state.root
        for tensor in [] if root is None else root.parameters():
            return tensor.device
        return torch.device("cpu")


def _header(sealed: SealedFrames, at: tuple[int, int, int]) -> FrameHeader:
    """Returns what goes along with a batch of this epoch, number and step."""
    epoch, batch, step = at
    return FrameHeader(
        epoch=epoch,
        batch=batch,
        step=step,
        time=time.time(),
        missing=sealed.missing,
        absent=sealed.absent,
        image=sealed.image,
    )
