"""Records what a Keras 3 model trains, on JAX, TensorFlow or torch: a callback around `Writer`.

    from record.keras import RecordFeatureMaps

    record = RecordFeatureMaps("run.h5", probe=x[:2])
    model.fit(record.track(x, y, batch_size=32), epochs=5, callbacks=[record])

Keras compiles what it trains, so that nobody can look into it while it runs. The callback shows
the model the first image of a batch, in inference mode, right before the batch is trained with:
with the same weights. Nothing of the training is touched by that.

Imported only on request: nothing else of `record` needs Keras.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from record.arrays.batches import FirstImages, find_batches
from record.arrays.writer import Writer
from record.reporting import listed, warn
from replay.schema import OptionError, RecordingError

try:
    import keras
except ImportError as error:
    raise OptionError(
        f"record.keras needs Keras 3 and one of its backends ({error}); install them with "
        "pip install keras jax"
    ) from error

__all__ = ["RecordFeatureMaps"]


class RecordFeatureMaps(keras.callbacks.Callback):  # type: ignore[misc]  # has no types
    """Records feature maps of the model that `fit` trains.

    Args:
        path: The recording to write, `run.h5`, say.
        layers: Names, globs (`conv*`) and class names (`Conv2D`) of layers; None means all
            convolutions.
        probe: Fixed images, as the model takes them: (N, H, W, C), or (N, C, H, W) where its data
            format is so. The model is shown them after each recorded batch.
        every: Records the batches 0, every, 2 * every ... of each epoch.
        on_error: `warn`: what goes wrong ends the recording, and not the training; `raise` ends
            both.
        **options: Those of `Writer`: `metadata`, `overwrite`, `resume`, `durability`, `quiet` ...

    Raises:
        OptionError: An argument is something else.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        layers: str | list[str] | None = None,
        probe: Any = None,
        every: int = 1,
        on_error: str = "warn",
        **options: Any,
    ) -> None:
        super().__init__()
        if not isinstance(every, int) or every < 1:
            raise OptionError(f"every: expected a whole number from 1, found {every!r}")
        if on_error not in ("warn", "raise"):
            raise OptionError(f"on_error: expected warn or raise, found {on_error!r}")
        self._probe = None if probe is None else np.asarray(probe, np.float32)
        if self._probe is not None and (self._probe.ndim != 4 or not len(self._probe)):
            raise OptionError(f"probe: expected images of four axes, found {self._probe.shape}")
        self._path, self._patterns, self._every = path, layers, every
        self._raises, self._options = on_error == "raise", options
        self._writer: Writer | None = None
        self._first: FirstImages | None = None
        self._began = 0  # the batch with which what is trained now began: it may be several
        self._frame: dict[str, Any] | None = None  # of that batch
        self._epoch, self._shift = 0, -1  # the shift is -1 before the first epoch

    def track(self, x: Any, y: Any = None, batch_size: int = 32, shuffle: bool = True) -> Any:
        """Returns the same batches for `fit`, and remembers the first image of each.

        Args:
            x: Images as an array, a `keras.utils.PyDataset`, or an iterable of batches with a
                length, such as a torch DataLoader.
            y: The targets, where `x` is an array.
            batch_size: Images of a batch, where `x` is an array.
            shuffle: Whether the images of an array, or the batches of a dataset, are put in another
                order in each epoch, as `fit` does; its own `shuffle` has no effect.

        Returns:
            A `keras.utils.PyDataset`.

        Raises:
            OptionError: `x` is none of these.
        """
        source = find_batches(x, y, batch_size, shuffle)
        self._first = FirstImages(source, keras.ops.convert_to_numpy)
        return _Tracked(self._first)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Begins the recording; with the next `fit` it goes on."""
        goes_on, self._writer, self._shift = self._shift >= 0, None, -1
        with self._guarded():
            if self._probe is None and self._first is None:
                raise OptionError(
                    "expected the images to record: fit(callback.track(x, y), ...) for the first "
                    "one of each batch, or probe=x[:1] for fixed ones"
                )
            model = self.model
            self._layers = _find_layers(model, self._patterns)
            last = keras.config.image_data_format() == "channels_last"
            options = dict(self._options)
            options["metadata"] = {
                "model": model.name,
                "parameters": model.count_params() if model.built else None,
                "framework": f"keras {keras.__version__} on {keras.backend.backend()}",
                "mode": "inference",
                **options.get("metadata", {}),
            }
            if goes_on:
                options.update(resume=True, overwrite=False)
            self._writer = Writer(
                self._path,
                modules={name: _describe(layer) for name, layer in self._layers.items()},
                input_axes="HWC" if last else "CHW",
                probe=self._probe,
                on_error="raise" if self._raises else "warn",
                batches=self._per_epoch or None,
                **options,
            )

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Begins an epoch: where a recording goes on, one behind its last."""
        if self._writer is not None:
            if self._shift < 0:
                self._shift = max(0, self._writer.next_epoch - epoch)
            self._epoch = epoch + self._shift

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Shows the model the first image of the batch, with the weights of before."""
        self._began, self._frame = batch, None
        if self._writer is None or batch % self._every:
            return
        with self._guarded():
            frame: dict[str, Any] = {"maps": {}, "kernels": {}}
            if self._first is not None:
                image = self._first.look()
                maps, frame["kernels"] = self._show(image[None])
                frame["maps"] = {name: values[0] for name, values in maps.items()}
                frame["input"] = image
            self._frame = frame

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Shows the model the fixed images, and writes the frame."""
        if self._first is not None:
            self._first.note_trained(batch + 1 - self._began)
        frame, self._frame = self._frame, None
        if self._writer is None or frame is None:
            return
        with self._guarded():
            if self._probe is not None:
                frame["probe_maps"], kernels = self._show(self._probe)
                if not frame["maps"]:  # no image of the batch is known
                    frame["maps"] = {n: maps[0] for n, maps in frame["probe_maps"].items()}
                    frame["kernels"], frame["input"] = kernels, self._probe[0]
            rate = getattr(self.model.optimizer, "learning_rate", None)
            values = {**(logs or {}), **({} if rate is None else {"lr": rate})}
            fields: dict[str, Any] = {name: _number(value) for name, value in values.items()}
            each = self._per_epoch
            self._writer.write(
                epoch=self._epoch,
                batch=self._began,
                step=self._epoch * each + self._began if each else None,
                **frame,
                **fields,
            )

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Ends the recording."""
        if self._first is not None:
            self._first.forget()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @property
    def _per_epoch(self) -> int:
        """The number of batches of an epoch; 0 where it is not known."""
        return (self.params or {}).get("steps") or 0

    def _show(self, images: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns what the layers put out for some images, channels first, and their kernels.

        Args:
            images: As the model takes them, (N, ...).
        """
        found: dict[str, Any] = {}
        model = self.model  # on JAX, asking for it has the weights brought up to date
        with contextlib.ExitStack() as stack:
            for name, layer in self._layers.items():
                stack.enter_context(_watched(name, layer, found))
            model(keras.ops.convert_to_tensor(images), training=False)
        maps = {
            name: _channels_first(self._layers[name.partition("#")[0]], output)
            for name, output in found.items()
        }
        kernels = {
            name: np.moveaxis(keras.ops.convert_to_numpy(layer.kernel), (-1, -2), (0, 1))
            for name, layer in self._layers.items()
            if name in maps and type(layer).__name__ in ("Conv1D", "Conv2D", "Conv3D")
        }
        return maps, {
            name: kernel for name, kernel in kernels.items() if kernel.size <= maps[name][0].size
        }

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Has what goes wrong end the recording, and the training only where that is asked for."""
        try:
            yield
        except Exception as error:
            if self._raises:
                raise
            writer, self._writer = self._writer, None
            known = isinstance(error, RecordingError)
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            if writer is not None:
                writer.close()
            what = "recording has ended" if writer is not None else "nothing is recorded"
            warn(f"{what}: {reason}. Training is not affected")


class _Tracked(keras.utils.PyDataset):  # type: ignore[misc]  # has no types
    """Hands out batches in their own order, whatever the number that is asked for.

    Args:
        first: Remembers the first image of each.
    """

    def __init__(self, first: FirstImages) -> None:
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=1)
        self._first = first

    @property
    def num_batches(self) -> int:
        """How many batches an epoch has."""
        return self._first.length

    def __len__(self) -> int:
        return self._first.length

    def __getitem__(self, number: int) -> Any:
        return self._first.hand_out()

    def on_epoch_begin(self) -> None:
        """Begins an epoch."""
        self._first.begin()


@contextlib.contextmanager
def _watched(name: str, layer: Any, found: dict[str, Any]) -> Iterator[None]:
    """Keeps what a layer puts out while this lasts, a second call as `name#1`.

    Args:
        name: The layer's name.
        layer: The layer; only its own table of attributes is changed, and changed back.
        found: Takes the outputs, by name.
    """
    call, calls = layer.call, 0

    def keep(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        output = call(*args, **kwargs)
        first = output[0] if isinstance(output, (tuple, list)) else output
        if hasattr(first, "shape"):
            found[f"{name}#{calls}" if calls else name] = keras.ops.convert_to_numpy(first)
            calls += 1
        return output

    before = layer.__dict__.get("call")
    layer.__dict__["call"] = keep
    try:
        yield
    finally:
        if before is None:
            del layer.__dict__["call"]
        else:
            layer.__dict__["call"] = before


def _channels_first(layer: Any, output: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns an output (N, ...) with the channels behind N, where they are its last axis.

    Of two axes an image, tokens stay (T, C).
    """
    form = getattr(layer, "data_format", None) or keras.config.image_data_format()
    is_signal = output.ndim == 3 and hasattr(layer, "data_format")
    if form == "channels_last" and (output.ndim > 3 or is_signal):
        return np.moveaxis(output, -1, 1)
    return output


def _find_layers(model: Any, patterns: str | list[str] | None) -> dict[str, Any]:
    """Returns the layers to record, by name; of two of one name, by their path.

    Raises:
        OptionError: A pattern matches none, or the model has no convolution.
    """
    leaves = list(model._flatten_layers(include_self=False))
    counts: dict[str, int] = {}
    for layer in leaves:
        counts[layer.name] = counts.get(layer.name, 0) + 1
    named = {
        layer.name if counts[layer.name] == 1 else getattr(layer, "path", layer.name): layer
        for layer in leaves
    }
    if patterns is None:
        found = {n: layer for n, layer in named.items() if "Conv" in type(layer).__name__}
        if not found:
            raise OptionError(
                f"{model.name} has no convolution; name layers of {listed(list(named))}"
            )
        return found
    found = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matching = {
            name: layer
            for name, layer in named.items()
            if fnmatch.fnmatchcase(name, pattern) or type(layer).__name__ == pattern
        }
        if not matching:
            raise OptionError(f"no layer matches {pattern!r}; the model has {listed(list(named))}")
        found.update(matching)
    return {name: layer for name, layer in named.items() if name in found}


def _describe(layer: Any) -> str:
    """Returns a layer in one line, such as `Conv2D(12, 3x3, relu)`."""
    facts = []
    if hasattr(layer, "filters"):
        facts.append(str(layer.filters))
    elif hasattr(layer, "units"):
        facts.append(str(layer.units))
    if hasattr(layer, "kernel_size"):
        facts.append("x".join(map(str, layer.kernel_size)))
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if activation != "linear":
        facts.append(activation)
    return f"{type(layer).__name__}({', '.join(facts)})"


def _number(value: Any) -> float:
    return float(keras.ops.convert_to_numpy(value))
