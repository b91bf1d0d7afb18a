"""The table of hazards: what has been seen to break the recording of feature maps, row by row.

Each row is trained three times from the same seed: untouched, with plain hooks that clone, and
recorded. The recorded frames have to equal those of the plain hooks to the bit, and the weights,
the buffers and the random state after the recorded training those of the untouched one.
"""

from __future__ import annotations

import contextlib
import copy
import io
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

import replay
from record import Recorder, RecordingWarning
from record.transport.buffer_pool import Pool

ROOT = Path(__file__).parents[3]
LAYERS = ("conv1", "norm", "relu", "conv2")
Frames = dict[tuple[int, int], dict[str, np.ndarray]]


class BrokenImageError(Exception):
    """Raised inside a forward; the loop goes on with the next batch."""


class Net(nn.Module):
    """An in-place ReLU, called twice, that overwrites what norm and what conv2 put out."""

    def __init__(self, checkpointing: str = "") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 4, 3)
        self.drop = nn.Dropout(0.25)
        self.fc = nn.Linear(4, 3)
        self.checkpointing = checkpointing

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        if not torch.compiler.is_compiling() and self.training and x[0, 0, 0, 0].abs() > 50:
            raise BrokenImageError
        return self.relu(self.norm(x))

    def decode(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.drop(self.relu(self.conv2(x))).mean((2, 3)))

    def body(self, x: torch.Tensor) -> torch.Tensor:
        return self.decode(self.encode(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.checkpointing and self.training:
            return checkpoint(self.body, x, use_reentrant=self.checkpointing == "reentrant")
        return self.body(x)


class Wrapper(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class Around(nn.Module):
    """A module between two layers."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.part = part

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.part(self.conv1(x)).mean((2, 3))


def frozen() -> nn.Module:
    """conv1 does not learn; norm is in eval mode while the model trains."""
    net = Net()
    net.conv1.requires_grad_(False)
    net.norm.train = lambda mode=True: net.norm  # type: ignore[method-assign, assignment]
    net.norm.training = False
    return net


def extreme() -> nn.Module:
    """conv1 puts out one constant per channel: float16 has no place for most of them."""
    values = (65504, 65519, 65520, -1e6, torch.inf, -torch.inf, torch.nan, 6e-5)
    values += (3e-6, 6e-8, -4e-8, 2e-8, -2e-8, 1e-40, 0.0, -0.0)
    net = nn.Sequential()
    net.conv1 = nn.Conv2d(3, len(values), 1)
    net.conv2 = nn.Conv2d(len(values), 3, 3)
    with torch.no_grad():
        net.conv1.weight.zero_()
        net.conv1.bias.copy_(torch.tensor(values))
    return net


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return Around(torch.jit.script(nn.Sequential(nn.Conv2d(6, 4, 3), nn.ReLU(inplace=True))))


def one_replica() -> nn.Module:
    model = nn.DataParallel(Net())
    model.device_ids = []  # as on a machine without GPUs: it calls the module itself
    return model


def wrapped_checkpoint() -> nn.Module:
    net = Net()
    net.conv1 = checkpoint_wrapper(net.conv1)
    return net


def batches(*sizes: int) -> list[torch.Tensor]:
    """Batches of (3, 12, 12) images, as many in each as `sizes` says."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, 3, 12, 12, generator=generator) for size in sizes or (4, 3, 3)]


def sized(*sides: int) -> list[torch.Tensor]:
    """Batches of two images, of another height and width in each batch."""
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(2, 3, side, side, generator=generator) for side in sides]


def broken() -> list[torch.Tensor]:
    data = batches(4, 3, 3, 3)
    data[1] *= 1e4
    return data


def call(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return model(images)


def autocast(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.autocast(images.device.type, dtype=torch.bfloat16):
        return model(images).float()


def evaluations_between(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """An evaluation before and one after the forward that is trained on."""
    model.eval()
    model(2 * images)
    model.train()
    output = model(images)
    model.eval()
    with torch.no_grad():
        model(3 * images)
    model.train()
    return output


def retried(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """As after an out-of-memory error: the first try breaks off behind conv1."""
    with pytest.raises(BrokenImageError):
        model(1e4 * images)
    return model(images)


def checkpointed(reentrant: bool) -> Callable[[nn.Module, torch.Tensor], torch.Tensor]:
    return lambda model, images: checkpoint(model, images, use_reentrant=reentrant)


def needing_gradients() -> list[torch.Tensor]:
    return [images.requires_grad_() for images in batches()]


@dataclass(frozen=True)
class Hazard:
    """One row.

    Attributes:
        model: Makes the network.
        layers: What is recorded.
        paths: Where a layer of that name is in the model, if not under its name.
        forward: What a training step calls.
        data: The batches of an epoch.
        prepare: What is done to the model and to each batch.
        reference: Makes the network that the plain hooks watch, if it is another one.
        reference_forward: What a training step calls that the plain hooks watch, likewise.
        attach: What the recorder is given of the model.
        image: What `run.inputs` should hold, of a batch.
        mark: How the loop marks batches: track, step, or neither.
        lost: Batches of each epoch without a frame.
        pick: By layer, what of its output belongs to the first image: by item, as the file names
            it. Where nothing is said, `output[0]`.
        between: What else happens to the model, behind each step.
        evaluate: What an evaluation at the end of an epoch calls.
        warns: What of the warnings of ours is expected.
    """

    model: Callable[[], nn.Module] = Net
    layers: tuple[str, ...] = LAYERS
    paths: dict[str, str] = field(default_factory=dict)
    forward: Callable[[nn.Module, torch.Tensor], torch.Tensor] = call
    data: Callable[[], list[torch.Tensor]] = batches
    prepare: Callable[[Any], Any] = lambda x: x
    reference: Callable[[], nn.Module] | None = None
    reference_forward: Callable[[nn.Module, torch.Tensor], torch.Tensor] | None = None
    attach: Callable[[nn.Module], nn.Module] = lambda model: model
    image: Callable[[torch.Tensor], torch.Tensor] = lambda images: images[0]
    mark: str = "track"
    lost: tuple[int, ...] = ()
    pick: dict[str, Callable[[Any], dict[str, torch.Tensor]]] = field(default_factory=dict)
    between: Callable[[nn.Module, Any], object] = lambda model, images: None
    evaluate: Callable[[nn.Module, Any], object] = lambda model, images: model(images[:, :, 1:, 1:])
    warns: str = ""


def moved(prefix: str) -> dict[str, str]:
    return {name: f"{prefix}.{name}" for name in LAYERS}


def under(prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{name}" for name in LAYERS)


HAZARDS = {
    "in_place_relu_after_the_layer": Hazard(layers=("norm", "conv2")),
    "module_called_twice": Hazard(layers=("relu",)),
    "half_precision": Hazard(prepare=lambda x: x.to(torch.float16)),
    "bfloat16": Hazard(prepare=lambda x: x.to(torch.bfloat16)),
    "autocast_bfloat16": Hazard(forward=autocast),
    "double_precision": Hazard(prepare=lambda x: x.to(torch.float64)),
    "channels_last": Hazard(prepare=lambda x: x.to(memory_format=torch.channels_last)),
    "checkpointing_reentrant": Hazard(
        model=lambda: Net("reentrant"),
        data=needing_gradients,
        reference=Net,
    ),
    "checkpointing_non_reentrant": Hazard(model=lambda: Net("non-reentrant"), reference=Net),
    "whole_model_checkpointed_reentrant": Hazard(
        forward=checkpointed(True), reference_forward=call, data=needing_gradients, mark="neither"
    ),
    "whole_model_checkpointed_non_reentrant": Hazard(
        forward=checkpointed(False), reference_forward=call, mark="neither"
    ),
    "checkpointing_reentrant_and_forward_called_directly": Hazard(
        model=lambda: Net("reentrant"),
        forward=lambda model, x: model.forward(x),
        data=needing_gradients,
        reference=Net,
    ),
    "checkpointing_non_reentrant_and_forward_called_directly": Hazard(
        model=lambda: Net("non-reentrant"),
        forward=lambda model, x: model.forward(x),
        reference=Net,
    ),
    "checkpoint_wrapper_around_a_layer": Hazard(model=wrapped_checkpoint, reference=Net),
    "frozen_layer_and_layer_in_eval_mode": Hazard(model=frozen),
    "sequential_wrapper": Hazard(model=lambda: nn.Sequential(Net()), layers=under("0")),
    "custom_wrapper": Hazard(model=lambda: Wrapper(Net()), layers=under("net")),
    "data_parallel_with_one_replica": Hazard(model=one_replica, paths=moved("module")),
    "recorder_on_the_module_inside_a_wrapper": Hazard(
        model=lambda: Wrapper(Net()), paths=moved("net"), attach=lambda model: model.net
    ),
    "scripted_submodule_beside_a_recorded_layer": Hazard(model=scripted, layers=("conv1",)),
    "scripted_submodule_itself": Hazard(model=scripted, layers=("conv1", "part")),
    "neither_track_nor_step": Hazard(mark="neither"),
    "forward_retried_in_the_same_batch": Hazard(forward=retried, reference_forward=call),
    "exception_inside_forward": Hazard(data=broken, lost=(1,)),
    "exception_inside_forward_with_step": Hazard(data=broken, lost=(1,), mark="step"),
    "forward_called_directly": Hazard(forward=lambda model, x: model.forward(x)),
    "forward_called_directly_with_step": Hazard(
        forward=lambda model, x: model.forward(x), mark="step"
    ),
    "parts_called_directly": Hazard(
        forward=lambda model, x: model.decode(model.encode(2 * x)),
        image=lambda images: 2 * images[0],
    ),
    "train_and_eval_switched_inside_an_epoch": Hazard(forward=evaluations_between),
    "train_and_eval_switched_with_step": Hazard(forward=evaluations_between, mark="step"),
    "batches_of_one_image": Hazard(data=lambda: batches(1, 1, 1)),
    "smaller_last_batch": Hazard(data=lambda: batches(5, 5, 1)),
    "images_whose_size_changes": Hazard(data=lambda: sized(12, 16, 12, 14, 16)),
    "values_beyond_float16": Hazard(model=extreme, layers=("conv1", "conv2")),
}

# Situations of public bug reports: what axis the images are on, and what else may run a model.


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3 + 2, 4 * 2, 3, padding=1)
        self.act = nn.Sigmoid()

    def forward(self, x: torch.Tensor, state: Any) -> Any:
        h, c = state
        i, f, o, g = self.act(self.conv(torch.cat([x, h], 1))).chunk(4, 1)
        c = f * c + i * torch.tanh(g)
        return o * torch.tanh(c), c


class ConvLSTM(nn.Module):
    """Convolutions put out (N, C, H, W), whatever the sequence around them is."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.cell = Cell()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.batch_first:
            x = x.transpose(0, 1)
        state = (x.new_zeros(x.shape[1], 2, *x.shape[3:]),) * 2
        for step in x:
            state = self.cell(step, state)
        return state[0]


class Attending(nn.Module):
    """A transformer's block and an attention with weights on tokens, the batch first or second."""

    def __init__(self, batch_first: bool, tokens: bool = False) -> None:
        super().__init__()
        self.tokens = tokens
        self.batch_first_ = batch_first
        self.embed = nn.Linear(8, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=batch_first)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.gru = nn.GRU(8, 5, batch_first=batch_first)
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block(self.embed(x))
        x = self.gru(self.attend(x, x, x)[0])[0]
        return self.head(x.mean(1 if self.batch_first_ else 0))


ATTENDING = ("embed", "block", "block.linear1", "block.norm2", "attend", "gru", "head")


def second(output: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"": output[:, 0]}


def attention(axis: int) -> Callable[[Any], dict[str, torch.Tensor]]:
    return lambda output: {"0": output[0].select(axis, 0), "1": output[1][0]}


def sequences(*sizes: int, length: int = 5, batch_first: bool) -> list[Any]:
    """Tokens with a label for each image, as a loader hands them out."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(n, length, 8) if batch_first else (length, n, 8) for n in sizes]
    return [torch.randn(shape, generator=generator) for shape in shapes]


class Recursive(nn.Module):
    """Calls itself at half the size."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.b = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: torch.Tensor, scales: int = 1) -> torch.Tensor:
        y = self.relu(self.a(x))
        if scales:
            inner = self(nn.functional.avg_pool2d(x, 2), scales - 1)
            y = y + nn.functional.interpolate(inner, size=x.shape[2:]).mean(1, keepdim=True)
        return self.b(y)


class Listed(nn.Module):
    """Takes a list of images, as detection models do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: list[torch.Tensor]) -> torch.Tensor:
        side = min(image.shape[-1] for image in images)
        return self.relu(self.conv1(torch.stack([i[:, :side, :side] for i in images])))


class Bytes(nn.Module):
    """Normalises images of whole numbers by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv1(images.float() / 255)


class Spectral(nn.Module):
    """A convolution of complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, dtype=torch.complex64)
        self.conv2 = nn.Conv2d(4, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.conv1(torch.fft.fft2(x)).abs())


class Scored(nn.Module):
    """One number for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.score = nn.Sequential(nn.Flatten(), nn.Linear(400, 1), nn.Flatten(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.score(self.conv1(x))


class Sparse(nn.Module):
    """Layers that put out tensors of other layouts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.sparse = ToSparse()
        self.nested = ToNested()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(x)
        self.nested(y)
        return self.sparse(y).to_dense()


class ToSparse(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu().to_sparse()


class ToNested(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nested.as_nested_tensor([image.detach() for image in x])


class Positions(nn.Module):
    """A table of positions has no axis for images."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 6)
        self.where = nn.Embedding(5, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.embed(x) + self.where(torch.arange(x.shape[1]))


def only_functional(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """As meta-learning does: the gradients come from torch.func.grad."""
    parameters = dict(model.named_parameters())
    call = lambda p: torch.func.functional_call(model, p, (images,)).square().mean()  # noqa: E731
    grads = torch.func.grad(call)({n: p.detach() for n, p in parameters.items()})
    return sum((p * grads[n]).sum() for n, p in parameters.items())  # type: ignore[return-value]


def for_each_image(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Per-sample passes, all at once."""
    return torch.vmap(lambda image: model(image), randomness="different")(images)


def per_sample_gradients(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """As differential privacy does: a gradient for each image, of a batch of it alone."""
    parameters = dict(model.named_parameters())

    def loss(p: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, p, (image[None],)).square().mean()

    each = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))
    grads = each({n: p.detach() for n, p in parameters.items()}, images)
    return sum((p * grads[n].mean(0)).sum() for n, p in parameters.items())  # type: ignore[return-value]


def peeled(output: torch.Tensor) -> dict[str, torch.Tensor]:
    """The first sample of what torch.func has wrapped."""
    functorch, axes = torch._C._functorch, []
    while functorch.is_functorch_wrapped_tensor(output):
        if functorch.is_batchedtensor(output):
            axes.append(functorch.maybe_get_bdim(output))
        output = functorch.get_unwrapped(output)
    image = output.select(axes[0], 0) if axes else output
    return {"": image[0] if image.ndim == 4 else image}


def exported(model: nn.Module, images: torch.Tensor) -> None:
    """Other graphs than torch.compile's are made of the model as it is, in training mode."""
    from torch.fx.experimental.proxy_tensor import make_fx

    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffers = {name: value.clone() for name, value in model.named_buffers()}
        programs = [
            torch.export.export(model, (images,), strict=False).module(),
            torch.export.export(model, (images,), strict=True).module(),
            make_fx(lambda x: model(x))(images),
            torch.jit.trace(model, images, check_trace=False),
            torch.fx.symbolic_trace(model),
        ]
        for program in programs:
            text = str(program.graph)
            assert "copy_" not in text.replace("copy_to", ""), text
            program(3 * images)
            for name, value in model.named_buffers():
                with torch.no_grad():
                    value.copy_(buffers[name])


def copied(model: nn.Module, images: torch.Tensor) -> None:
    """Copies of every kind, in the middle of the training, have nothing of ours in them."""
    best = copy.deepcopy(model)
    saved = io.BytesIO()
    torch.save(model, saved)
    saved.seek(0)
    copies = [best, pickle.loads(pickle.dumps(model)), copy.copy(model)]
    copies.append(torch.load(saved, weights_only=False))
    copies.append(AveragedModel(model).module)
    for twin in copies:
        for module in twin.modules() if twin is not copies[2] else [twin]:
            hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
            assert hooks == [], type(module)
    assert b"nullcontext" not in pickle.dumps(model)
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.jit.script(copies[0].conv1)(images)
        torch.fx.symbolic_trace(best.conv1)(images)


class Straight(nn.Module):
    """A net that every tracer takes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.conv2(self.relu(self.norm(self.conv1(x)))))


class Stacked(nn.Sequential):
    """One image at a time, without an axis for a batch."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 5, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(0))
        self.append(nn.Linear(125, 4))


class FromSpectrograms(nn.Module):
    """(N, H, W) at its input, which is no image of N channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.conv1(x.unsqueeze(1)))


def everything(output: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"": output}


def nothing(model: nn.Module, images: Any) -> None:
    """No evaluation."""


def videos(*sizes: int, batch_first: bool) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    shapes = [(n, 3, 3, 6, 7) if batch_first else (3, n, 3, 6, 7) for n in sizes]
    return [torch.randn(shape, generator=generator) for shape in shapes]


SECOND = dict.fromkeys(("embed", "block", "block.linear1", "block.norm2"), second)

REPORTS = {
    "convlstm_batch_first": Hazard(
        model=lambda: ConvLSTM(True),
        layers=("cell.conv", "cell.act"),
        data=lambda: videos(4, 4, 2, batch_first=True),
        evaluate=lambda model, x: model(x),
    ),
    "convlstm_batch_second": Hazard(
        model=lambda: ConvLSTM(False),
        layers=("cell.conv", "cell.act"),
        data=lambda: videos(4, 4, 2, batch_first=False),
        image=lambda x: x[:, 0],
        evaluate=lambda model, x: model(x),
        warns="batch axis uncertain",  # of a bare tensor, whose axis 1 is taken
    ),
    "transformer_and_attention_batch_first": Hazard(
        model=lambda: Attending(True),
        layers=ATTENDING,
        pick={"attend": attention(0), "gru": lambda o: {"": o[0][0]}},
        data=lambda: sequences(4, 4, 3, batch_first=True),
        evaluate=lambda model, x: model(x),
    ),
    "transformer_and_attention_batch_second": Hazard(
        model=lambda: Attending(False),
        layers=ATTENDING,
        pick={**SECOND, "attend": attention(1), "gru": lambda o: {"": o[0][:, 0]}},
        data=lambda: sequences(4, 4, 3, batch_first=False),
        image=lambda x: x[:, 0],
        evaluate=lambda model, x: model(x),
        warns="batch axis uncertain",
    ),
    "as_many_tokens_as_images": Hazard(
        model=lambda: Attending(False),
        layers=ATTENDING,
        pick={**SECOND, "attend": attention(1), "gru": lambda o: {"": o[0][:, 0]}},
        data=lambda: sequences(5, 5, 5, batch_first=False),
        image=lambda x: x[:, 0],
        evaluate=lambda model, x: model(x),
        warns="batch axis uncertain",
    ),
    "table_of_positions": Hazard(
        model=Positions,
        layers=("embed", "where"),
        pick={"where": everything},
        data=lambda: sequences(4, 4, 3, batch_first=True),
        evaluate=lambda model, x: model(x),
    ),
    "one_image_without_a_batch": Hazard(
        model=Stacked,
        layers=("0", "1", "2", "3", "4"),
        pick=dict.fromkeys("01234", everything),
        data=lambda: [images[0] for images in batches()],
        image=lambda image: image,
        evaluate=lambda model, image: model(image),
    ),
    "images_without_their_channel": Hazard(
        model=FromSpectrograms,
        layers=("conv1", "relu"),
        data=lambda: [images[:, 0] for images in batches(4, 4, 1)],
        evaluate=lambda model, x: model(x),
    ),
    "list_of_images": Hazard(
        model=Listed,
        layers=("conv1", "relu"),
        data=lambda: [[image[:, :, :9], image] for image in (b[0] for b in batches())],  # type: ignore[misc]
        prepare=lambda x: x,
        image=lambda images: images[0],
        evaluate=lambda model, x: model(x),
    ),
    "images_of_bytes": Hazard(
        model=Bytes,
        layers=("conv1",),
        data=lambda: [(100 * images.abs()).clamp(max=255).to(torch.uint8) for images in batches()],
        evaluate=lambda model, x: model(x),
    ),
    "images_of_whole_numbers": Hazard(
        model=Bytes,
        layers=("conv1",),
        data=lambda: [(300 * images).to(torch.int16) for images in batches()],
        evaluate=lambda model, x: model(x),
    ),
    "model_that_calls_itself": Hazard(
        model=Recursive,
        layers=("a", "b", "relu"),
        evaluate=lambda model, x: model(x),
    ),
    "complex_numbers": Hazard(
        model=Spectral,
        layers=("conv1", "conv2"),
        pick={"conv1": lambda o: {"": o[0].abs()}},
    ),
    "one_number_for_each_image": Hazard(
        model=Scored,
        layers=("conv1", "score"),
        pick={"score": lambda o: {"": o[:1]}},
        evaluate=lambda model, x: model(x),
    ),
    "sparse_and_nested_tensors": Hazard(
        model=Sparse,
        layers=("conv1", "sparse", "nested"),
        pick={
            "sparse": lambda o: {"": o.to_dense()[0]},
            "nested": lambda o: {"": o.unbind()[0]},
        },
        evaluate=nothing,
    ),
    "torch_func_grad": Hazard(
        model=lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)),
        layers=("0", "1"),
        forward=only_functional,
        pick={"0": peeled, "1": peeled},
    ),
    "torch_func_vmap_of_grad": Hazard(
        model=lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh()),
        layers=("0", "1"),
        forward=per_sample_gradients,
        pick={"0": peeled, "1": peeled},
    ),
    "torch_func_vmap": Hazard(
        model=lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)),
        layers=("0", "1"),
        forward=for_each_image,
        pick={"0": peeled, "1": peeled},
    ),
    "exported_and_traced_between": Hazard(model=Straight, between=exported),
    "exported_and_traced_with_step": Hazard(model=Straight, between=exported, mark="step"),
    "exported_and_traced_with_neither": Hazard(model=Straight, between=exported, mark="neither"),
    "copied_between": Hazard(between=copied),
}
HAZARDS.update(REPORTS)

# The row, and what torch itself says about it.
NOISE = {
    name: "ignore:None of the inputs have requires_grad" for name in HAZARDS if "checkpoint" in name
}
NOISE["sparse_and_nested_tensors"] = "ignore:The PyTorch API of nested tensors is in prototype"


class Watch:
    """Plain hooks on the layers of a model: what each put out for the first image, cloned."""

    def __init__(self, row: Hazard, model: nn.Module) -> None:
        self.frames: dict[str, np.ndarray] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.root = row.attach(model)
        self.picks = row.pick
        for name in row.layers:
            # A reference model has no wrappers; of a ScriptModule, torch takes no hook by its name.
            module = model.get_submodule(row.paths.get(name, name))
            nn.Module.register_forward_hook(module, lambda m, a, out, n=name: self.keep(n, out))

    def keep(self, layer: str, output: Any) -> None:
        if not self.root.training:
            return
        pick = self.picks.get(layer, lambda output: {"": output[0]})
        with torch._functorch.pyfunctorch.temporarily_clear_interpreter_stack():
            for item, image in pick(output).items():
                self.keep_frame(layer + (f"[{item}]" if item else ""), image.detach().clone())

    def keep_frame(self, name: str, image: torch.Tensor) -> None:
        frame = image.to(torch.float16).cpu().numpy()
        if image.dtype == torch.float32:  # rounded to nearest even, as numpy has it
            with np.errstate(over="ignore"):
                np.testing.assert_array_equal(frame, image.cpu().numpy().astype(np.float16))
        calls = sum(1 for known in self.frames if known.split("@")[0].split("#")[0] == name)
        name = f"{name}#{calls}" if calls else name
        if self.shapes.setdefault(name, frame.shape) != frame.shape:
            name = f"{name}@{'x'.join(map(str, frame.shape))}"
        self.frames[name] = np.ascontiguousarray(frame)

    def take(self) -> dict[str, np.ndarray]:
        """The frames since the last call."""
        frames, self.frames = self.frames, {}
        return frames


@dataclass
class Outcome:
    """What a training left behind."""

    model: nn.Module
    state: dict[str, bytes]
    random: torch.Tensor
    frames: Frames
    images: dict[tuple[int, int], np.ndarray]


def to_bytes(model: nn.Module) -> dict[str, bytes]:
    """Every weight and buffer, to the bit; NaN is equal to NaN."""
    return {
        name: value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
        for name, value in model.state_dict().items()
    }


def on(device: str, images: Any) -> Any:
    if isinstance(images, list):
        return [image.to(device) for image in images]
    return images.to(device)


def train(row: Hazard, device: str, path: Path | None = None, watched: bool = False) -> Outcome:
    """Two epochs, with an evaluation after each; recorded if there is a path."""
    torch.manual_seed(0)
    make = row.reference if watched and row.reference else row.model
    model = row.prepare(make().to(device))
    assert model.training
    forward = (watched and row.reference_forward) or row.forward
    watch = Watch(row, model) if watched else None
    data = [row.prepare(on(device, images)) for images in row.data()]
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, 0.05, momentum=0.9)
    recorder = Recorder(row.attach(model), path, layers=row.layers) if path else None
    frames: Frames = {}
    images_seen = {}
    with recorder or contextlib.nullcontext():
        for epoch in range(2):
            source: Any = data
            if recorder and row.mark == "track":
                source = recorder.track(data)
            elif recorder and row.mark == "step":
                recorder.epoch(epoch)
            for number, images in enumerate(source):
                try:
                    loss = forward(model, images).square().mean()
                except BrokenImageError:
                    loss = None
                if watch and loss is None:
                    watch.take()
                elif watch:
                    at = (epoch, number)
                    if row.mark == "neither":
                        at = (0, epoch * len(data) + number)
                    frames[at] = watch.take()
                    image = row.image(images).detach().to(torch.float16)
                    images_seen[at] = image.cpu().contiguous().numpy()
                if loss is not None:
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                if recorder and row.mark == "step":
                    recorder.step()
                if not watch:
                    row.between(model, images)
            model.eval()
            with torch.no_grad():
                row.evaluate(model, data[0])
            model.train()
    return Outcome(model, to_bytes(model), torch.get_rng_state(), frames, images_seen)


def recorded(row: Hazard, device: str, path: Path) -> Outcome:
    """As `train`; no warning of ours is expected, and no hook is left behind."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RecordingWarning)
        outcome = train(row, device, path)
    said = [str(w.message) for w in caught if w.category is RecordingWarning]
    assert [text for text in said if not row.warns or row.warns not in text] == []
    assert bool(said) == bool(row.warns)
    for module in outcome.model.modules():
        if not isinstance(module, torch.jit.ScriptModule):
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
    return outcome


def check_frames(path: Path, expected: Frames, images: dict[tuple[int, int], np.ndarray]) -> None:
    with replay.open(path) as run:
        assert run.closed
        assert (run.lost, run.dropped) == (0, 0)
        assert sorted(run.layers) == sorted({name for f in expected.values() for name in f})
        assert run.frames == sorted(expected)
        for at, frames in expected.items():
            for name in run.layers:
                frame = run[name][at]
                if name in frames:
                    assert frame.tobytes() == frames[name].tobytes(), (at, name)
                else:
                    assert np.isnan(frame).all(), (at, name)
            assert run.inputs[at].shape == images[at].shape
            assert run.inputs[at].tobytes() == images[at].tobytes()
            values = [frame.astype(np.float32) for frame in frames.values()]
            assert run.batches["nan"][at] == sum(np.isnan(v).sum() for v in values)
            assert run.batches["inf"][at] == sum(np.isinf(v).sum() for v in values)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip(
            "no CUDA device: not tested on a GPU that the frames equal those of plain hooks and "
            "that the weights stay the same to the bit"
        )
    return request.param


SIGNAL = np.uint16(0xFD5A)  # a NaN that nothing computes


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fills every buffer with a signal before it is used: what was copied covers all of it."""
    take = Pool.take

    def poisoned(pool: Pool) -> Any:
        buffer = take(pool)
        if buffer is not None:
            np.frombuffer(buffer.data, np.uint16)[:] = SIGNAL
        return buffer

    monkeypatch.setattr(Pool, "take", poisoned)


def holds_signal(path: Path) -> list[str]:
    """The datasets of a file in which what a buffer held before has come to lie."""
    found = []

    def look(name: str, item: Any) -> None:
        maps = isinstance(item, h5py.Dataset) and item.dtype == np.float16 and item.size
        if maps and (item[()].view(np.uint16) == SIGNAL).any():
            found.append(name)

    with h5py.File(path) as file:
        file.visititems(look)
    return found


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    """One thread, and kernels that give the same bits twice."""
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn.deterministic
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    yield
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = cudnn


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.filterwarnings(NOISE[name])] if name in NOISE else [])
        for name in HAZARDS
    ],
)
def test_hazard(tmp_path: Path, name: str, device: str) -> None:
    row, path = HAZARDS[name], tmp_path / "run.h5"
    plain = train(row, device)
    outcome = recorded(row, device, path)
    assert outcome.state == plain.state
    assert torch.equal(outcome.random, plain.random)
    assert not holds_signal(path)
    reference = train(row, device, watched=True)
    assert len(reference.frames) == 2 * (len(row.data()) - len(row.lost))
    check_frames(path, reference.frames, reference.images)


# Compiled models


class Backend:
    """A backend of torch.compile that counts how often the graphs with convolutions run."""

    def __init__(self, name: str) -> None:
        self.compile = torch._dynamo.lookup_backend(name)
        self.runs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any, **options: Any) -> Any:
        has_convolution = "conv2d" in graph.code
        compiled = self.compile(graph, inputs, **options)

        def run(*args: Any) -> Any:
            self.runs += has_convolution
            return compiled(*args)

        return run


class TwoGraphs(Net):
    """Two graphs: there is a graph break of its own between conv1 and conv2."""

    def decode(self, x: torch.Tensor) -> torch.Tensor:
        torch._dynamo.graph_break()
        return super().decode(x)


@dataclass
class Compiled:
    state: dict[str, bytes]
    breaks: int
    runs: int


def train_compiled(
    make: Callable[[], nn.Module],
    fullgraph: bool,
    device: str,
    attach: str = "",
    path: Path | None = None,
    backend: str = "aot_eager",
) -> Compiled:
    """Two epochs, and no compilation is allowed in the second; recorded if there is a path.

    Args:
        attach: When the recorder is attached: `before` or `after` torch.compile, after `method`
            (`model.compile()`); `part`: to a model that the compiled one is a part of, and that
            is called itself or not (`part called directly`).
    """
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    counting = Backend(backend)
    torch.manual_seed(0)
    model = make().to(device)
    data = [images.to(device) for images in batches()]
    recorder = None
    if path and attach == "before":
        recorder = Recorder(model, path, layers=LAYERS)
    if attach == "method":
        model.compile(backend=counting, fullgraph=fullgraph)
        forward = model
    else:
        forward = torch.compile(model, backend=counting, fullgraph=fullgraph)
    if path and attach in ("after", "method"):
        before = copy.deepcopy(model.state_dict())
        forward(data[0])  # it is compiled without the hooks
        model.load_state_dict(before)
        torch.manual_seed(0)
        make()
        counters.clear()
        counting.runs = 0
        recorder = Recorder(forward, path, layers=LAYERS)
    root = model
    if path and attach.startswith("part"):
        root = Wrapper(forward)
        recorder = Recorder(root, path, layers=under("net"))
        forward = root if attach == "part" else forward
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    with recorder or contextlib.nullcontext():
        for epoch in range(2):
            warm = torch.compiler.set_stance("fail_on_recompile") if epoch else None
            with warm or contextlib.nullcontext():
                for images in recorder.track(data) if recorder else data:
                    loss = forward(images).square().mean()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                if fullgraph:
                    root.eval()
                    with torch.no_grad():
                        forward(data[0])
                    root.train()
    breaks = sum(counters["graph_break"].values())
    torch.compiler.reset()
    return Compiled(to_bytes(model), breaks, counting.runs)


@pytest.fixture(scope="module")
def compiled_plain() -> dict[Any, Compiled]:
    """The trainings without a recorder: one for each model and device."""
    return {}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(
    ("make", "attach"),
    [
        (Net, "before"),
        (Net, "after"),
        (Net, "method"),
        (Net, "part"),
        (Net, "part called directly"),
        (TwoGraphs, "before"),
        (TwoGraphs, "after"),
    ],
)
def test_compiled(
    tmp_path: Path,
    make: Callable[[], nn.Module],
    attach: str,
    device: str,
    compiled_plain: dict[Any, Compiled],
) -> None:
    fullgraph = make is Net
    path, key = tmp_path / "run.h5", (make, device)
    if key not in compiled_plain:
        compiled_plain[key] = train_compiled(make, fullgraph, device)
    plain = compiled_plain[key]
    outcome = train_compiled(make, fullgraph, device, attach, path)
    assert outcome.state == plain.state
    assert outcome.breaks == plain.breaks
    assert (plain.breaks == 0) == fullgraph
    # Every forward ran in compiled graphs, as many of them as without a recorder.
    assert outcome.runs == plain.runs == (8 if fullgraph else 12)
    check_close_to_eager(path, device, "net." if attach.startswith("part") else "")


def check_close_to_eager(path: Path, device: str, prefix: str = "") -> None:
    """The maps of a compiled model are those of the eager one, but for the order of its sums."""
    eager = train(Hazard(), device, watched=True)
    with replay.open(path) as run:
        assert (run.lost, run.dropped) == (0, 0)
        assert run.frames == sorted(eager.frames)
        assert set(run.layers) == {prefix + name for name in eager.frames[0, 0]}
        for at, frames in eager.frames.items():
            assert run.inputs[at].tobytes() == eager.images[at].tobytes()
            for name, frame in frames.items():
                np.testing.assert_allclose(run[prefix + name][at], frame, atol=1e-3, rtol=2e-3)
            assert (run[f"{prefix}norm"][at] < 0).any()  # not what the in-place ReLU made of it


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_compiled_by_inductor(tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "MAPREEL_INDUCTOR" not in os.environ:
        pytest.skip(
            "not tested: kernels that inductor makes; set MAPREEL_INDUCTOR=1 (takes half a minute)"
        )
    path = tmp_path / "run.h5"
    # The dropout of eager mode, so that the maps can be held against eager ones.
    monkeypatch.setattr("torch._inductor.config.fallback_random", True)
    plain = train_compiled(Net, True, device, backend="inductor")
    outcome = train_compiled(Net, True, device, "before", path, backend="inductor")
    assert outcome == plain
    check_close_to_eager(path, device)


# Copies of the model, made while it is recorded


def test_average_of_the_weights(tmp_path: Path) -> None:
    """An EMA model is a deepcopy with its own forwards, and is saved with pickle."""

    def fit(path: Path | None) -> tuple[dict[str, bytes], AveragedModel]:
        torch.manual_seed(0)
        model = Net()
        recorder = Recorder(model, path, layers=LAYERS) if path else None
        average = AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
        optimizer = torch.optim.SGD(model.parameters(), 0.05)
        with recorder or contextlib.nullcontext():
            for images in recorder.track(batches()) if recorder else batches():
                average(3 * images)  # in training mode, before and after the model's forward
                model(images).square().mean().backward()
                average(3 * images)
                copy.deepcopy(average)(2 * images)
                optimizer.step()
                optimizer.zero_grad()
                average.update_parameters(model)
            pickled = pickle.dumps(average.module)
            assert b"record" not in pickled
            assert to_bytes(pickle.loads(pickled)) == to_bytes(average.module)
        return to_bytes(model), average

    plain, plain_average = fit(None)
    model, average = fit(tmp_path / "run.h5")
    assert model == plain
    assert to_bytes(average) == to_bytes(plain_average)
    with replay.open(tmp_path / "run.h5") as run:
        assert set(run.layers) == {*LAYERS, "relu#1"}
        assert (len(run.frames), run.lost) == (3, 0)
        for at in run.frames:
            assert run.inputs[at].tobytes() == batches()[at[1]][0].half().numpy().tobytes()


def test_model_saved_while_recorded_loads_without_mapreel(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    images = batches()[0]
    with Recorder(model, tmp_path / "run.h5", layers="0") as recorder:
        for batch in recorder.track([images]):
            model(batch)
        torch.save(model, tmp_path / "model.pt")
        expected = model(images)
    torch.save((images, expected), tmp_path / "expected.pt")
    code = """
import sys, torch
sys.modules.update(record=None, replay=None)  # importing them is an ImportError now
model = torch.load(sys.argv[1], weights_only=False)
images, expected = torch.load(sys.argv[2])
assert torch.equal(model(images), expected)
assert model.training
"""
    command = [sys.executable, "-I", "-W", "ignore", "-c", code]
    files = [str(tmp_path / "model.pt"), str(tmp_path / "expected.pt")]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    state = io.BytesIO()
    torch.save(model.state_dict(), state)  # no hooks in there in any case
    assert b"record" not in state.getvalue()


# Distributed training


@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="not tested: DistributedDataParallel, this torch has no gloo",
)
def test_distributed_data_parallel_on_two_processes(tmp_path: Path) -> None:
    launch = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    script = [str(Path(__file__).with_name("ddp_script.py")), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for _ in range(3):
        (tmp_path / "run.h5").unlink(missing_ok=True)
        done = subprocess.run(
            [*launch, "--nproc-per-node", "2", *script],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        # On a busy machine gloo now and then aborts at the end of a process, here of one that
        # records nothing.
        if "terminate called without an active exception" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        plain, outcome = (
            torch.load(tmp_path / f"{kind}-{rank}.pt") for kind in ("plain", "recorded")
        )
        assert plain.keys() == outcome.keys()
        for name, value in plain.items():
            assert torch.equal(value, outcome[name]), (rank, name)
    frames = torch.load(tmp_path / "frames.pt")
    with replay.open(tmp_path / "run.h5") as run:
        assert run.closed
        assert run.layers == ("conv1", "conv2")  # not module.conv1
        assert run.frames == sorted(frames)
        for at, (image, conv1, conv2) in frames.items():
            assert run.inputs[at].tobytes() == image.numpy().tobytes()
            assert run["conv1"][at].tobytes() == conv1.numpy().tobytes()
            assert run["conv2"][at].tobytes() == conv2.numpy().tobytes()
    assert "RecordingWarning" not in done.stderr


# A GPU


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="no CUDA device: not tested that recording adds no synchronisation of a GPU",
)
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_no_synchronisation_is_added(tmp_path: Path) -> None:
    model = Net().cuda()
    # Net.encode looks at a value to find out whether to break, which is a synchronisation.
    model.forward = lambda x: model.decode(  # type: ignore[method-assign]
        model.relu(model.norm(model.conv1(x)))
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    data = [images.cuda() for images in batches(4, 4, 4, 4, 4, 4)]
    target = torch.zeros(4, 3, device="cuda")
    with Recorder(model, tmp_path / "run.h5", layers=LAYERS) as recorder:
        try:
            for number, images in enumerate(recorder.track(data)):
                if number == 2:  # what the first batches set up is there
                    torch.cuda.set_sync_debug_mode("error")
                loss = nn.functional.mse_loss(model(images), target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                recorder.log(loss=loss, lr=0.05)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    with replay.open(tmp_path / "run.h5") as run:
        assert (len(run.frames), run.lost, run.dropped) == (6, 0, 0)
        assert np.isfinite(run.batches["loss"]).all()


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="no CUDA device: not tested that a GPU's maps go straight into the shared memory",
)
@pytest.mark.parametrize("side", [12, 300])  # few bytes, which leave it at once, and many
def test_maps_go_from_the_gpu_into_the_memory_that_the_writer_reads(
    tmp_path: Path, side: int
) -> None:
    model = nn.Conv2d(3, 8, 3).cuda()
    data = [torch.randn(4, 3, side, side, device="cuda") for _ in range(12)]
    found = []
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for images in recorder.track(data):
            found.append(model(images)[0].detach().half().cpu().numpy())
        courier = recorder._courier
        assert courier is not None
        assert courier._pool is not None
        assert courier._pool.shared  # and not through the pipe
    with replay.open(tmp_path / "run.h5") as run:
        assert len(run.frames) == 12
        for at, expected in zip(run.frames, found, strict=True):
            assert run["Conv2d"][at].tobytes() == expected.tobytes()
