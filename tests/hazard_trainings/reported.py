"""Situations of public bug reports: what axis the images are on, and what else may run a model."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from hazard_trainings.reported_networks import (
    ATTENDING,
    Attending,
    Bytes,
    ConvLSTM,
    FromSpectrograms,
    Listed,
    Positions,
    Recursive,
    Scored,
    Sparse,
    Spectral,
    Stacked,
    Straight,
)
from hazard_trainings.table import Hazard, batches


def second(output: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"": output[:, 0]}


def attention(axis: int) -> Callable[[Any], dict[str, torch.Tensor]]:
    return lambda output: {"0": output[0].select(axis, 0), "1": output[1][0]}


def sequences(*sizes: int, length: int = 5, batch_first: bool) -> list[Any]:
    """Tokens with a label for each image, as a loader hands them out."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(n, length, 8) if batch_first else (length, n, 8) for n in sizes]
    return [torch.randn(shape, generator=generator) for shape in shapes]


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
