"""From the taps to the courier: the buffers in which a batch is gathered, and their layout."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from record.capture.buffers import DeviceBuffers, HostBuffer, can_register
from record.capture.capture import MAX_SHAPES, Capture, view
from record.capture.output_slots import MAX_CALLS
from record.protocol.layout import BatchLayout
from record.protocol.messages import FrameHeader
from record.reporting import Problems, listed
from record.schedule.budget import Budget
from record.session.metadata import count_parameters
from record.transport.courier import Courier, QueuedFrame
from replay.schema import RecordingError


class Sealed(NamedTuple):
    """A batch's frames in their buffer, waiting for its number and for what is logged with it.

    Attributes:
        host: The buffer.
        layout: What the buffer consists of.
        missing: Places in the layout without a frame.
        absent: Layers that put out nothing, though they did in earlier batches.
        image: Which of the layout's images the buffer holds; None where it holds none.
        arrived: Waits until the frames have come from a GPU; None where they are here.
    """

    host: HostBuffer
    layout: BatchLayout
    missing: tuple[int, ...]
    absent: int
    image: int | None
    arrived: Callable[[], Any] | None


class FrameSender:
    """Gives the taps the buffers of one batch after the other, and sends them off.

    Args:
        path: The recording, named in messages.
        taps: The hooks.
        courier: Takes the buffers.
        budget: Learns how large a batch is.
        trouble: What goes wrong is said there.

    Attributes:
        batches: Batches in an epoch, if it is known.
    """

    def __init__(
        self, path: Path, taps: Capture, courier: Courier, budget: Budget | None, trouble: Problems
    ) -> None:
        self.batches: int | None = None
        self._path = path
        self._taps = taps
        self._courier = courier
        self._budget = budget
        self._trouble = trouble
        self._host: HostBuffer | None = None  # of the current batch
        self._staging: DeviceBuffers | None = None  # of a GPU's or a compiled model's maps

    def prepare(self) -> bool:
        """Points the taps at a buffer for the next batch; False where there is none."""
        if self._host is None and self._taps.layout.size:
            self._host = self._take_buffer()
            if self._host is None:
                self._point_at(None)
                return False
            self._stage(self._taps.input.device or self._device())
            if self._staging is not None:
                self._staging.turn()
        self._point_at(self._host)
        return True

    @property
    def spare(self) -> int:
        """How many batches may be held back without making the training wait."""
        return max(0, self._courier.spare - 1)

    def seal(self) -> Sealed | None:
        """Ends what was gathered for a batch: its buffer is whoever's asks for it.

        Returns:
            None where there is no buffer; the frame has then been counted.
        """
        taps = self._taps
        places: tuple[int, ...] = ()
        absent, image = 0, 0 if taps.input.in_slot else None
        if not taps.regular:
            places, absent, image = self._settle_odd()
        host, self._host = self._host, None
        if host is None:  # the queue was full, and the frame has been counted
            return None
        arrived = None if self._staging is None else self._staging.carry_off(host)
        return Sealed(host, taps.layout, places, absent, image, arrived)

    def send(self, sealed: Sealed, at: tuple[int, int, int], values: dict[str, Any]) -> None:
        """Hands a batch to the courier.

        Args:
            sealed: Its frames.
            at: Its epoch, batch and step.
            values: What was logged with it; they are the courier's from now on.
        """
        if sealed.layout is not self._taps.layout:
            moved = self._moved(sealed)
            if moved is None:
                return
            sealed = moved
        arrived = sealed.arrived
        if arrived is None and any(isinstance(v, torch.Tensor) for v in values.values()):
            arrived = torch.cuda.synchronize  # logged from a GPU, of a model that is not on it
        epoch, batch, step = at
        header = FrameHeader(
            epoch=epoch,
            batch=batch,
            step=step,
            time=time.time(),
            missing=sealed.missing,
            absent=sealed.absent,
            image=sealed.image,
        )
        self._courier.send(QueuedFrame(sealed.host, header, values, arrived))

    def discard(self, sealed: Sealed) -> None:
        """Gives the buffer of a batch back that is not sent."""
        if sealed.layout is self._taps.layout:
            if sealed.arrived is not None:
                sealed.arrived()  # nothing comes into it any more
            self._courier.give_back(sealed.host)

    def ship(self, at: tuple[int, int, int], values: dict[str, Any]) -> None:
        """Hands the current batch to the courier: `seal` and `send` in one."""
        sealed = self.seal()
        if sealed is not None:
            self.send(sealed, at, values)

    def _moved(self, sealed: Sealed) -> Sealed | None:
        """The frames in a buffer of the current layout, which has more parts than theirs."""
        host = self._take_buffer()
        if host is None:
            return None
        if sealed.arrived is not None:
            sealed.arrived()
        layout = self._taps.layout
        for part, old in sealed.layout.places.items():
            view(host.tensor, layout.places[part]).copy_(view(sealed.host.tensor, old))
        added = range(len(sealed.layout.layers), len(layout.layers))
        missing = (*sealed.missing, *added)
        return Sealed(host, layout, missing, sealed.absent, sealed.image, None)

    def has_failed(self, lost: int = 0) -> bool:
        """Whether the writer takes no more frames; says so once, and counts what it costs.

        Raises:
            RecordingError: It does not, and trouble is to be raised.
        """
        courier = self._courier
        if courier.failure is None:
            return False
        courier.lost += lost
        if self._trouble.raises:
            raise RecordingError(f"recording to {self._path} ended: {courier.failure}")
        courier.check()
        return True

    def thin(self, keep: int) -> None:
        """Of every `keep` frames sent so far, only the first stays in the file."""
        self._courier.thin(keep)

    def end(self) -> None:
        """Gives the memory of the frames back."""
        self._host = self._staging = None
        self._taps.point_at(None)

    def leave_to_parent(self) -> None:
        """In a forked child: hands off the memory that the parent shares with the writer."""
        self._host = None
        if self._staging is None:
            self._taps.point_at(None)

    def _point_at(self, host: HostBuffer | None) -> None:
        """Gives the taps their slices: of the host buffer where nothing speaks against it."""
        if self._staging is not None:
            self._taps.point_at(self._staging.slices)
        elif host is None:
            self._taps.point_at(None)
        else:
            if host.slices is None:
                host.slices = self._taps.slices(host.tensor)
            self._taps.point_at(host.slices)

    def _settle_odd(self) -> tuple[tuple[int, ...], int, int | None]:
        """Brings the layout up to date with a batch that is not just as it says.

        Returns:
            Places in the layout without a frame, the number of layers that were silent, and which
            of the layout's images is there.
        """
        taps = self._taps
        before = taps.layout
        if taps.extend():
            self._adopt_layout(before, self._device())
        if self._host is None:
            return (), 0, None
        flat = self._host.tensor if self._staging is None else self._staging.buffer
        image = taps.fill_image(flat)
        places, absent, misfits = taps.missing(taps.fill(flat))
        if misfits:
            self._courier.lost += len(misfits)
            self._trouble.meet(
                f"more than {MAX_SHAPES} different shapes, so not recorded: "
                f"{listed(list(dict.fromkeys(misfits)))}",
                key="misfits",
            )
        for port in taps.ports:
            if port.calls > MAX_CALLS:
                self._trouble.warn(
                    f"{port.layer} is called more than {MAX_CALLS} times in a batch: "
                    f"its first {MAX_CALLS} calls are recorded",
                    key=f"calls {port.layer}",
                )
        return tuple(places), absent, image

    def _adopt_layout(self, before: BatchLayout, device: torch.device) -> None:
        """Agrees on a new layout with the writer and moves the current batch into it."""
        layout, pinned = self._taps.layout, device.type == "cuda"
        root = self._taps.root
        filled = None if self._staging is None else self._staging.buffer
        if filled is None and self._host is not None:
            filled = self._host.tensor
        self._courier.set_layout(
            layout,
            self.batches,
            lambda memory: HostBuffer(layout.size, pinned, memory),
            shared=not pinned or can_register(),
            meta=None if root is None else {"parameters": count_parameters(root)},
        )
        if self._budget is not None:
            self._plan_budget(self._budget, layout)
        self._staging = None
        self._host = self._take_buffer()
        if self._host is None:
            return
        self._stage(device)
        if filled is not None:
            target = self._host.tensor if self._staging is None else self._staging.buffer
            for part, old in before.places.items():
                view(target, layout.places[part]).copy_(view(filled, old))

    def _plan_budget(self, budget: Budget, layout: BatchLayout) -> None:
        """Says so where the budget has no room for more than a batch or two."""
        if budget.plan(layout, self.batches) < 2:
            self._trouble.warn(
                f"a budget of {budget.limit:,} bytes has room for one or two batches of "
                f"{layout.nbytes:,} bytes: record fewer layers, or smaller maps with max_map"
            )

    def _stage(self, device: torch.device) -> None:
        """Makes the buffer in which a GPU's or a compiled model's maps are gathered."""
        if self._staging is None and (device.type != "cpu" or self._taps.traced):
            self._staging = DeviceBuffers(self._taps, device)

    def _take_buffer(self) -> HostBuffer | None:
        buffer = self._courier.buffer()
        if buffer is None:
            self.has_failed()
            return None
        assert isinstance(buffer, HostBuffer)
        return buffer

    def _device(self) -> torch.device:
        root = self._taps.root
        for tensor in [] if root is None else root.parameters():
            return tensor.device
        return torch.device("cpu")
