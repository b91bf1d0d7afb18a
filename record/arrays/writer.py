"""Writes a recording from arrays: of any framework, without torch."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from record.arrays.array_layout import ArrayLayout, NamedArray
from record.arrays.conversion import is_complex, number_of, to_frame, whole_number
from record.formatting import format_count
from record.options import check_options, either
from record.paths import check_source, check_target, recording_path
from record.protocol.layout import BatchLayout
from record.protocol.messages import FrameHeader
from record.reporting import Problems, say, warn
from record.run_facts import environment, root_attributes
from record.summary import closing_line
from record.transport.courier import Courier
from record.transport.frame_channel import QueuedFrame
from record.transport.startup import await_own_writer
from replay.schema import OptionError, RecordingError

_EVERY_EPOCH = 1 << 40  # beyond all epochs: a recording to go on with keeps them
_Arrays = Mapping[str, Any]


class Writer:
    """Writes feature maps that a training has as arrays: of numpy, JAX, TensorFlow or any other.

        with Writer("run.h5", metadata={"model": "CNN"}) as writer:
            for epoch in range(epochs):
                for batch, (images, labels) in enumerate(loader):
                    maps, loss = train(images, labels)
                    writer.write(epoch=epoch, batch=batch, maps={"conv1": maps[0]}, loss=loss)

    It is the lower half of `Recorder`: frames go to a process of its own that owns the file; what
    was committed survives a crash of the training; each frame has its checksum. Arrays are copied
    before `write` returns.

    Args:
        path: The recording to write, `run.h5`, say.
        metadata: Kept in the file as JSON: `model`, `dataset`, `classes` (names by label), `mean`
            and `std` (of the input's normalisation, per channel), or what you like.
        axes: What the axes of a layer's arrays are, by the layer's name: `HWC` where channels come
            last, `TC` for tokens; without it `C`, `CL`, `CHW` or `CDHW` by their number.
        modules: The layers in words, by name, such as `Conv2D(12, 3)`.
        input_axes: `CHW` or `HWC`: what the axes of `input` and `probe` are.
        probe: Fixed images, (N, C, H, W), whose maps `write` is given as `probe_maps`.
        batches: The number of batches of an epoch, if it is known.
        batch: The same as `batches`.
        overwrite: Replaces an existing file instead of refusing it.
        resume: Goes on with an existing recording: True behind its last recorded epoch, a number
            with that epoch, whose frames and later ones are replaced.
        on_error: `warn`: a failure of the writer costs frames, which are counted, and a
            `RecordingWarning`. `raise`: it raises a `RecordingError`.
        when_full: When the writer falls behind, `write` waits (`wait`), or the frame is given up
            and counted (`drop`).
        durability: `fsync` has the file put on the disk now and then, `flush` leaves it to the
            system.
        quiet: Says nothing at the end but warnings.

    Raises:
        OptionError: An argument is something else.
        OutputError: The file exists, or cannot be created or gone on with.
        RecordingError: The writer process cannot be started.

    Attributes:
        path: The recording.
        next_epoch: The epoch with which a resumed recording goes on; 0 of a new one.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        metadata: Mapping[str, Any] | None = None,
        *,
        axes: Mapping[str, str] | None = None,
        modules: Mapping[str, str] | None = None,
        input_axes: str = "CHW",
        probe: Any = None,
        batches: int | None = None,
        batch: int | None = None,
        overwrite: bool = False,
        resume: bool | int = False,
        on_error: str = "warn",
        when_full: str = "wait",
        durability: str = "fsync",
        quiet: bool = False,
    ) -> None:
        choices = {"on_error": on_error, "when_full": when_full, "durability": durability}
        check_options(1, None, resume, None, **choices)
        if input_axes not in ("CHW", "HWC"):
            raise OptionError(f"input_axes: expected CHW or HWC, found {input_axes!r}")
        batches = either("batches", batches, "batch", batch)
        if batches is not None and (not isinstance(batches, int) or batches < 1):
            raise OptionError(f"batches: expected a whole number from 1, found {batches!r}")
        self.path = recording_path(path)
        self._file = self.path.absolute()
        self._quiet, self._batches = quiet, batches
        self._channels_last = input_axes == "HWC"
        self._problems = Problems(on_error == "raise", warn)
        self._arrays = ArrayLayout(dict(axes or {}), dict(modules or {}))
        images = None if probe is None else self._images(probe)
        self._probes = 0 if images is None else len(images)
        self._step = 0
        self._closed = False
        await_own_writer(self.path)
        start: int | None = None
        if resume is not False:
            start = _EVERY_EPOCH if resume is True else int(resume)
            check_source(self.path)
        else:
            check_target(self.path, overwrite)
        known = {**environment(numpy=np.__version__), **(metadata or {})}
        if images is not None:
            known.setdefault("probe", [{} for _ in images])
        self._name = str(known.get("model", "a model"))
        self._courier = Courier(
            self._file,
            overwrite,
            root_attributes(uuid.uuid4().hex, known),
            when_full,
            self._problems.warn,
            start,
            durability,
        )
        there = self._courier.opening if start is not None else {"epoch": -1, "step": -1}
        self.next_epoch = there["epoch"] + 1 if resume is True or start is None else int(start)
        self._step = there["step"] + 1
        if images is not None:
            self._courier.set_probes(images)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "recording"
        layers = sum(layer.is_main for layer in self.layout.layers)
        return (
            f"<Writer of {self._name} into {self.path}: {format_count(self.sent, 'batch')}, "
            f"{state}, {format_count(layers, 'layer')}>"
        )

    @property
    def layout(self) -> BatchLayout:
        """The layers with their shapes, as far as they were written."""
        return self._arrays.layout

    @property
    def sent(self) -> int:
        """Batches handed to the writer process so far."""
        return self._courier.sent

    @property
    def committed(self) -> int:
        """Batches that a reader of the file can see."""
        return self._courier.committed

    @property
    def dropped(self) -> int:
        """Batches given up because the queue was full."""
        return self._courier.dropped

    @property
    def lost(self) -> int:
        """Batches lost for any other reason."""
        return self._courier.lost

    def write(
        self,
        *,
        epoch: int,
        batch: int,
        maps: _Arrays,
        input: Any = None,
        kernels: _Arrays | None = None,
        probe_maps: _Arrays | None = None,
        gradients: _Arrays | None = None,
        attention: _Arrays | None = None,
        step: int | None = None,
        **values: Any,
    ) -> bool:
        """Writes one batch: what layers put out for its first image, and numbers beside it.

        Args:
            epoch: The epoch, from 0.
            batch: The batch's number in the epoch, from 0. A pair that comes a second time is
                written behind all other epochs, with a warning.
            maps: By the layer's name, one image's array of at most four axes: (C, H, W), or as
                `axes` says. Any dtype of numbers; float16 is written.
            input: The image that the maps are of, (C, H, W), as the network saw it.
            kernels: By the layer's name, (C_out, C_in, kH, kW): kept where they are no larger than
                the maps.
            probe_maps: By the layer's name, (N, C, H, W): for each of the fixed images.
            gradients: By the layer's name, the gradient with respect to its maps, of their shape.
            attention: By the layer's name, (heads, T) or (heads, T_q, T_k), from 0 to 1.
            step: The number of batches trained before this one; by default those written so far.
            **values: Numbers: `loss`, `lr`, `label`, `prediction` and fields of your own.

        Returns:
            Whether it was taken: False where it was given up and counted.

        Raises:
            OptionError: An argument is something else than is said here; nothing is written.
            RecordingError: The recording is closed, or the writer has failed and `on_error` is
                `raise`.
        """
        if self._closed:
            raise RecordingError(f"the recording {self.path} is closed")
        epoch, batch = whole_number("epoch", epoch), whole_number("batch", batch)
        step = self._step if step is None else whole_number("step", step)
        numbers = {name: number_of(name, value) for name, value in values.items()}
        arrays = self._named(maps, kernels or {}, probe_maps or {})
        arrays += [
            NamedArray(name, to_frame(f"gradients of {name}", value), kind="gradients")
            for name, value in (gradients or {}).items()
        ]
        for name, value in (attention or {}).items():
            array = to_frame(f"attention of {name}", value, rank=4)
            if array.ndim < 2:
                raise OptionError(
                    f"attention of {name}: expected (heads, T) or (heads, T_q, T_k), "
                    f"found {array.shape}"
                )
            arrays.append(NamedArray(name, array, kind="attention"))
        image = None if input is None else self._image("input", input)
        if not arrays and image is None:
            raise OptionError("maps: expected the arrays of one layer at least, found none")
        self._step = step + 1
        return self._send(arrays, image, FrameHeader(epoch, batch, step, time.time()), numbers)

    def flush(self) -> bool:
        """Waits until all that was written is readable in the file.

        Returns:
            False where the writer has failed or stands still.
        """
        return not self._closed and self._courier.flush()

    def close(self) -> None:
        """Ends the recording, and waits until the file is closed."""
        if self._closed:
            return
        self._closed = True
        self._courier.close()
        if self.dropped or self.lost:
            self._problems.warn(
                f"{self.path}: {format_count(self.dropped, 'batch')} dropped (queue full), "
                f"{format_count(self.lost, 'frame')} lost",
            )
        if self.committed and not self._quiet:
            lost = self.dropped + self.lost
            say(closing_line(self._file, self._name, self.committed, self.layout, lost))

    def _send(
        self,
        arrays: list[NamedArray],
        image: npt.NDArray[Any] | None,
        header: FrameHeader,
        values: dict[str, float],
    ) -> bool:
        courier = self._courier
        if courier.failure is not None:
            courier.channel.count_lost(1)
            self._fail()
            return False
        if self._arrays.extend(arrays, image):
            layout = self._arrays.layout
            courier.set_layout(
                layout, self._batches, lambda memory: _FlatBuffer(layout.nbytes, memory)
            )
        buffer = courier.channel.buffer()
        if buffer is None:
            self._fail()
            return False
        try:
            missing, number = self._arrays.fill(buffer.data, arrays, image)
        except BaseException:
            courier.channel.give_back(buffer)
            raise
        absent = self._arrays.silent(missing) if missing else 0
        header = header._replace(missing=missing, absent=absent, image=number)
        courier.channel.send(QueuedFrame(buffer, header, values))
        return True

    def _fail(self) -> None:
        """Warns, or raises where that was asked for, if the writer has failed."""
        failure = self._courier.failure
        if failure is not None and self._problems.raises:
            raise RecordingError(f"recording to {self.path} ended: {failure}")
        self._courier.check()

    def _named(self, maps: _Arrays, kernels: _Arrays, probe_maps: _Arrays) -> list[NamedArray]:
        """Returns the maps of a batch, and of its fixed images.

        Raises:
            OptionError: They are something else than `write` says.
        """
        for what, given in (("maps", maps), ("kernels", kernels), ("probe_maps", probe_maps)):
            if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
                raise OptionError(
                    f"{what}: expected arrays by the layer's name, found {type(given).__name__}"
                )
        for name in kernels:
            if name not in maps:
                raise OptionError(f"kernels of {name}: expected a layer that has maps, found none")
        arrays = [
            NamedArray(
                name,
                to_frame(f"maps of {name}", value),
                to_frame(f"kernels of {name}", kernels[name], 6) if name in kernels else None,
                note="magnitude of complex values" if is_complex(value) else "",
            )
            for name, value in maps.items()
        ]
        for name, value in probe_maps.items():
            whole = to_frame(f"probe_maps of {name}", value, 6)
            if len(whole) != self._probes:
                raise OptionError(
                    f"probe_maps of {name}: expected maps of the {self._probes} images given as "
                    f"`probe`, found {len(whole)}"
                )
            arrays += [
                NamedArray(name, to_frame(f"probe_maps of {name}", part), probe=number)
                for number, part in enumerate(whole)
            ]
        return arrays

    def _image(self, name: str, value: Any) -> npt.NDArray[Any]:
        """Returns an image as the file has it, channels first.

        Raises:
            OptionError: It is none.
        """
        image = to_frame(name, value)
        if self._channels_last and image.ndim == 3:
            image = np.moveaxis(image, -1, 0)
        return image

    def _images(self, value: Any) -> npt.NDArray[np.float16]:
        """Returns the fixed images, float16 (N, C, H, W).

        Raises:
            OptionError: They are none.
        """
        whole = to_frame("probe", value)
        if whole.ndim == 3:
            whole = whole[None]
        if whole.ndim != 4:
            raise OptionError(f"probe: expected images (N, C, H, W), found {whole.shape}")
        if self._channels_last:
            whole = np.moveaxis(whole, -1, 1)
        return np.ascontiguousarray(whole.astype(np.float16))


class _FlatBuffer:
    """A batch's flat values in main memory: in what is shared with the writer, or its own."""

    def __init__(self, nbytes: int, memory: memoryview | None) -> None:
        self._data = memoryview(bytearray(nbytes)) if memory is None else memory[:nbytes]

    @property
    def data(self) -> memoryview:
        """The bytes."""
        return self._data
