"""The rows of what had been recorded wrong, or had changed the training, in less usual models."""

from __future__ import annotations

import copy
import io
import os
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from rows import Net, first_image, images, shard
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from training import Call, Row

VICTIM = "HAZARD_VICTIM"  # in the environment of a training that will be killed
MANY = 20  # batches of an epoch, so that buffers are used again


def many() -> list[torch.Tensor]:
    return images(*[4] * MANY)


def second(output: torch.Tensor) -> torch.Tensor:
    """The first image's part where the batch is the second axis."""
    return output[:, 0]


def everything(output: torch.Tensor) -> torch.Tensor:
    """The first image's part where there is but one."""
    return output


# A copy that fails must not ship what an older batch left in the buffer.


class Counting:
    """Tells every fourth step of a training apart."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> bool:
        self.number += 1
        return self.number % 4 == 0


class Small(nn.Module):
    """No norm and no in-place operation: torch.func takes nothing else."""

    def __init__(self, last: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3, padding=1)
        self.conv2 = nn.Conv2d(5, 4, 3)
        self.last = last or nn.Identity()
        self.is_fourth = Counting()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.conv2(self.conv1(x).tanh())).mean((2, 3))


def functional(model: nn.Module, batch: torch.Tensor, of_each: bool) -> dict[str, torch.Tensor]:
    """The gradients by torch.func: of the batch, or of each image, averaged."""
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(values: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        x = x[None] if of_each else x
        return torch.func.functional_call(model, values, (x,)).square().mean()

    if not of_each:
        return torch.func.grad(loss)(parameters, batch)
    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, batch)
    return {name: value.mean(0) for name, value in found.items()}


def now_and_then(of_each: bool) -> Callable[[Call, nn.Module, torch.Tensor], torch.Tensor]:
    """Every fourth step has only a functional pass; its gradients are what is learned from."""

    def step(call: Call, model: Any, batch: torch.Tensor) -> torch.Tensor:
        if not model.is_fourth():
            return call(batch).square().mean()
        found = functional(model, batch, of_each)
        return sum((p * found[name]).sum() for name, p in model.named_parameters())

    return step


def forward_mode(call: Call, model: Any, batch: torch.Tensor) -> torch.Tensor:
    """Every fourth step has only a derivative along a direction, and learns from its value."""
    if not model.is_fourth():
        return call(batch).square().mean()
    return torch.func.jvp(model, (batch,), (torch.ones_like(batch),))[0].square().mean()


def watched_now_and_then(call: Call, model: Any, batch: torch.Tensor) -> torch.Tensor:
    """The truth of the same: what the layers put out is that of a plain forward."""
    return call(batch).square().mean()


class NowSparse(nn.Module):
    """Puts out a sparse tensor in every fourth forward."""

    def __init__(self) -> None:
        super().__init__()
        self.is_fourth = Counting()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to_sparse() if self.is_fourth() else x


class Sparse(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = self.last(self.conv2(self.conv1(x).tanh()))
        return (output.to_dense() if output.is_sparse else output).mean((2, 3))


class NowNested(NowSparse):
    """Puts out a strided nested tensor in every fourth forward."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nested.as_nested_tensor(list(x.unbind())) if self.is_fourth() else x


class Nested(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = self.last(self.conv2(self.conv1(x).tanh()))
        whole = torch.stack(output.unbind()) if output.is_nested else output
        return whole.mean((2, 3))


# Which axis is the batch, and whether there is one


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3 + 2, 8, 3, padding=1)

    def forward(self, x: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]) -> Any:
        hidden, cell = state
        i, f, o, g = self.conv(torch.cat([x, hidden], 1)).chunk(4, 1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell


class ConvLSTM(nn.Module):
    """Takes (T, N, C, H, W), and has a convolution that takes (N, C, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_first = False
        self.cell = Cell()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps, size, _, height, width = x.shape
        state = (x.new_zeros(size, 2, height, width),) * 2
        for step in range(steps):
            state = self.cell(x[step], state)
        return state[0]


class Film(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = ConvLSTM()

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, T, C, H, W)
        return self.rnn(x.transpose(0, 1))


class Transformer(nn.Module):
    """Tokens of small images; the layers inside have (T, N, D), or (N, T, D)."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.batch_first_inside = batch_first
        self.patch = nn.Conv2d(3, 8, 2, 2)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=batch_first)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        return self.encoder(tokens if self.batch_first_inside else tokens.transpose(0, 1))


class Tokens(Transformer):
    """Has four tokens: as many as a batch has images."""

    def __init__(self) -> None:
        super().__init__(batch_first=False)


class Attention(nn.Module):
    """Its attention weights are (N, T, T), whatever axis the tokens have the batch on."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 2, 2)
        self.attn = nn.MultiheadAttention(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patch(x).flatten(2).permute(2, 0, 1)
        output, weights = self.attn(tokens, tokens, tokens, average_attn_weights=False)
        return output + weights.mean()


class Detector(nn.Module):
    """Takes a list of images, as detection models do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, batch: list[torch.Tensor]) -> torch.Tensor:
        return self.conv(torch.stack([nn.functional.pad(x, (0, 2)) for x in batch]))


class Integers(nn.Module):
    """Takes images of bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x.float() / 255)


def of_bytes() -> list[torch.Tensor]:
    return [((batch * 60 + 128).clamp(0, 255)).to(torch.uint8) for batch in images()]


class Scales(nn.Module):
    """Calls itself with a smaller image."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 2, 3, padding=1)
        self.b = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: torch.Tensor, scales: int = 1) -> torch.Tensor:
        y = self.a(x)
        if scales:
            inner = self(nn.functional.avg_pool2d(x, 2), scales - 1)
            y = y + nn.functional.interpolate(inner, size=x.shape[2:])
        return self.b(y)


# Graphs that are captured in the middle of a training


class Captured:
    """A program of the model, made before each step and run before and after it."""

    def __init__(self, make: Callable[[nn.Module, torch.Tensor], tuple[Any, list[str]]]) -> None:
        self.make = make
        self.program: Any = None

    def before(self, model: nn.Module, batch: torch.Tensor) -> list[Any]:
        self.program, calls = self.make(model, batch.detach())
        return [len(calls), f"copy_: {sum('copy_' in call for call in calls)}", self.run(batch)]

    def run(self, batch: torch.Tensor) -> float:
        return total(self.program(7 * batch))

    def after(self, model: nn.Module, batch: torch.Tensor) -> float:
        return self.run(batch)


def exported(model: nn.Module, batch: torch.Tensor) -> tuple[Any, list[str]]:
    program = torch.export.export(model, (batch,))
    return program.module(), [str(node.target) for node in program.graph.nodes]


def symbolic(model: nn.Module, batch: torch.Tensor) -> tuple[Any, list[str]]:
    graph = make_fx(lambda x: model(x))(batch)
    return graph, [str(node.target) for node in graph.graph.nodes]


def traced(model: nn.Module, batch: torch.Tensor) -> tuple[Any, list[str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.jit.trace(model, batch, check_trace=False)
    return program, [node.kind() for node in program.inlined_graph.nodes()]


EXPORTED, SYMBOLIC, TRACED = Captured(exported), Captured(symbolic), Captured(traced)


def total(output: Any) -> float:
    return float(output.detach().double().sum())


# Processes that share a model


class Wide(nn.Module):
    """Two Linears behind a convolution, which processes share."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc1 = nn.Linear(4, 6)
        self.fc2 = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = self.fc2(self.fc1(self.conv(x).mean((2, 3))))
        return output.full_tensor() if hasattr(output, "full_tensor") else output


def tensor_parallel() -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    plan = {
        "fc1": ColwiseParallel(use_local_output=False),
        "fc2": RowwiseParallel(use_local_output=False),
    }
    return parallelize_module(Wide(), init_device_mesh("cpu", (2,)), plan)


def sharded() -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    return fully_shard(Wide(), mesh=init_device_mesh("cpu", (2,)))


# Other outputs


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, dtype=torch.complex64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.fft.fft2(x)).abs()


class Packed(nn.Module):
    """Its LSTM puts out a PackedSequence."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.lstm = nn.LSTM(6, 5, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.conv(x).mean(1)  # (N, 6, 6)
        packed = pack_padded_sequence(rows, [6, 5, 4, 2], batch_first=True)
        return pad_packed_sequence(self.lstm(packed)[0])[0]


class Squeeze(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.squeeze(1)


class Squeezed(nn.Module):
    """One number for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 1)
        self.head = Squeeze()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.fc(self.conv(x).mean((2, 3))))


def lazy() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential()
        net.conv = nn.LazyConv2d(4, 3)
        net.relu = nn.ReLU()
        net.head = nn.LazyConv2d(2, 1)
    return net


def compiled_part() -> nn.Module:
    torch.compiler.reset()
    net = plain_parts()
    net.conv1.compile(backend="aot_eager")
    return net


# Threads


class Meeting(nn.Module):
    """Two threads meet between its layers, so that their forwards run into each other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.conv2 = nn.Conv2d(4, 2, 3)
        self.slow = threading.local()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(x)
        time.sleep(getattr(self.slow, "seconds", 0.0))
        return self.conv2(y)


def pairs() -> list[tuple[torch.Tensor, torch.Tensor]]:
    data = images(*[2] * 20)
    return list(zip(data[::2], data[1::2], strict=True))


class Racing:
    """Each of two threads trains with a batch of its own; who overtakes whom changes."""

    # Milliseconds: when the first begins, between its layers; likewise the second.
    TIMES = ((0, 60, 20, 10), (0, 30, 15, 45), (15, 10, 0, 60), (20, 40, 0, 30), (0, 20, 0, 50))

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, call: Call, model: Any, batch: Any) -> torch.Tensor:
        times = self.TIMES[self.number % len(self.TIMES)]
        self.number += 1
        failed: list[BaseException] = []

        def one(images: torch.Tensor, delay: int, pause: int) -> None:
            time.sleep(delay / 1000)
            model.slow.seconds = pause / 1000
            try:
                call(images).square().mean().backward()
            except BaseException as error:
                failed.append(error)

        threads = [
            threading.Thread(target=one, args=(images, *times[2 * place : 2 * place + 2]))
            for place, images in enumerate(batch)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        return torch.zeros((), requires_grad=True)


def one_after_the_other(call: Call, model: Any, batch: Any) -> torch.Tensor:
    for part in batch:
        call(part)
    return torch.zeros((), requires_grad=True)


# The model changes, or is copied


def spectral(model: Any) -> None:
    parametrizations.spectral_norm(model.conv1)


def replaced(model: Any, epoch: int) -> bool:
    if epoch == 1:
        model.conv2 = nn.Conv2d(5, 4, 3)
    return epoch == 1


def attempt(make: Callable[[], Any]) -> str:
    try:
        return f"{make():.6f}"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"[:90]


def scripted(model: nn.Module, batch: torch.Tensor) -> str:
    """torch.jit.script of a copy, as one that keeps the best weights makes it."""
    best = copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return attempt(lambda: total(torch.jit.script(best)(batch)))


def pickled(model: nn.Module, batch: torch.Tensor) -> str:
    """A copy that is saved whole, and read back with weights_only."""
    file = io.BytesIO()
    kinds = [nn.Sequential, nn.Conv2d, nn.ReLU]

    def load() -> float:
        torch.save(copy.deepcopy(model), file)
        file.seek(0)
        with torch.serialization.safe_globals(kinds):
            return total(torch.load(file, weights_only=True)(batch))

    return attempt(load)


def plain_parts() -> nn.Module:
    net = nn.Sequential()
    net.conv1 = nn.Conv2d(3, 4, 3)
    net.relu = nn.ReLU(inplace=False)
    net.conv2 = nn.Conv2d(4, 2, 3)
    return net


def saying(call: Call, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """A step that says when it begins, for whoever kills it."""
    if VICTIM in os.environ:
        print("step", flush=True)
        time.sleep(0.01)
    return call(batch).square().mean()


BOTH = ("conv1", "conv2")
KINDS: dict[str, Row] = {
    "func-grad": Row(
        "torch.func.grad in every fourth batch", Small, BOTH, many, now_and_then(False),
        reference_step=watched_now_and_then, close=2e-3, image=first_image,
    ),
    "func-vmap": Row(
        "vmap over images in every fourth batch", Small, BOTH, many, now_and_then(True),
        reference_step=watched_now_and_then, close=2e-3, image=first_image,
    ),
    "func-jvp": Row(
        "torch.func.jvp in every fourth batch", Small, BOTH, many, forward_mode,
        reference_step=watched_now_and_then, close=2e-3, image=first_image,
    ),
    "sparse": Row(
        "a sparse output in every fourth batch", lambda: Sparse(NowSparse()),
        ("conv1", "last"), many,
    ),
    "nested": Row(
        "a strided nested output in every fourth batch", lambda: Nested(NowNested()),
        ("conv1", "last"), many,
    ),
    "convlstm": Row(
        "ConvLSTM with batch_first=False", Film, ("rnn.cell.conv",),
        lambda: [torch.stack([b, 2 * b, 3 * b], 1) for b in images(4, 4, 2)],
    ),
    "encoder": Row(
        "TransformerEncoderLayer(batch_first=True) and its Linear", lambda: Transformer(True),
        ("encoder", "encoder.linear1"), lambda: images(4, 4, 3),
    ),
    "encoder-second": Row(
        "TransformerEncoderLayer(batch_first=False) and its Linear", lambda: Transformer(False),
        ("encoder", "encoder.linear1"), lambda: images(4, 4, 3),
        pick={"encoder": second, "encoder.linear1": second},
    ),
    "attention": Row(
        "MultiheadAttention's output and weights", Attention, ("attn[0]", "attn[1]"),
        lambda: images(4, 4, 3), pick={"attn[0]": second},
    ),
    "unbatched": Row(
        "images without a batch", plain_parts, BOTH, lambda: [b[0] for b in images()],
        pick=dict.fromkeys(BOTH, everything), image=lambda batch: [batch],
    ),
    "list": Row(
        "a list of images", Detector, ("conv",), lambda: [list(b) for b in images()],
        image=lambda batch: [batch[0]],
    ),
    "bytes": Row(
        "images of uint8", Integers, ("conv",), of_bytes,
        image=lambda batch: [batch[0], batch[0] / 255],
    ),
    "self-calling": Row(
        "a model that calls itself", Scales, ("a", "b"), images, image=first_image
    ),
    "export": Row(
        "torch.export in training mode", plain_parts, BOTH, images,
        before=EXPORTED.before, after=EXPORTED.after, image=first_image,
    ),
    "make_fx": Row(
        "make_fx in training mode", plain_parts, BOTH, images,
        before=SYMBOLIC.before, after=SYMBOLIC.after,
    ),
    "trace": Row(
        "torch.jit.trace in training mode", plain_parts, BOTH, images,
        before=TRACED.before, after=TRACED.after,
    ),
    "tensor-parallel": Row(
        "tensor-parallel Linears (DTensor), two processes", tensor_parallel,
        ("conv", "fc1", "fc2"), images, world=2,
    ),
    "fsdp2": Row("fully_shard (FSDP2), two processes", sharded, ("conv", "fc1"), shard, world=2),
    "compiled-part": Row(
        "a layer that is compiled", compiled_part, BOTH, images, reference=plain_parts, close=2e-3
    ),
    "ambiguous": Row(
        "as many tokens as images, batch on the second axis", Tokens,
        ("encoder", "encoder.linear1"), lambda: images(4, 4, 4, side=4), pick={"encoder": second, "encoder.linear1": second},
    ),
    "complex": Row("complex outputs", Complex, ("conv",), images, image=first_image, rate=1e-4),
    "threads": Row(
        "two threads train one model", Meeting, BOTH, pairs, Racing(),
        reference_step=one_after_the_other, together=True, rate=0.0, tracked=False, epochs=1,
        image=lambda batch: [part[0] for part in batch],
    ),
    "spectral": Row(
        "spectral_norm that is added later", plain_parts, BOTH, images, prepare=spectral
    ),
    "script": Row("torch.jit.script of a copy", plain_parts, BOTH, images, at_end=scripted),
    "pickle": Row("weights_only of a saved copy", plain_parts, BOTH, images, at_end=pickled),
    "replaced": Row("a layer that is replaced", Net, BOTH, images, turn=replaced),
    "packed": Row(
        "a PackedSequence as output", Packed, ("conv", "lstm"), images, missing=("lstm",)
    ),
    "squeezed": Row("one number for each image", Squeezed, ("conv", "fc", "head"), images),
    "lazy": Row("lazy modules", lazy, ("conv", "head"), images, image=first_image),
    "killed": Row(
        "kill -9 in the middle", Net, ("conv1", "norm"), lambda: images(*[4] * 400), saying,
        killed=150, epochs=1,
    ),
}  # fmt: skip
