"""Which layers are recorded where nobody chose any: those that show how the network develops."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from torch import nn
from torch.nn.modules.conv import _ConvNd

from record.modules.names import is_called, is_leaf, named_modules, unwrap
from record.reporting import listed
from replay.schema import OptionError

_HELD = nn.Module, nn.Parameter  # what a layer keeps under a name


def default_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Finds the layers to record where nobody chose any, by name.

    These are every Conv2d, without one every other convolution, and with them the blocks of a
    network whose blocks are no convolutions: a transformer's, a mixer's, a ConvNeXt's. A layer
    that peft has adapted (LoRA) is one of them, its output being the sum, and stands for what is
    in it. A network that has none of these yields every Linear, and one without a Linear its
    recurrent layers.

    Args:
        model: The network, already unwrapped.

    Raises:
        OptionError: The network has none of them.
    """
    named = named_modules(model)
    adapted = [module for module in named.values() if _is_adapted(module)]
    inside = {id(part) for whole in adapted for part in whole.modules() if part is not whole}
    own = {name: module for name, module in named.items() if id(module) not in inside}
    convolutions: list[nn.Module] = [m for m in own.values() if isinstance(m, nn.Conv2d)]
    convolutions = convolutions or [m for m in own.values() if isinstance(m, _ConvNd)]
    blocks = _blocks(model)
    if convolutions:  # a row of Sequential(Linear, ReLU) is then the head of a network
        blocks = [block for block in blocks if not _is_plain(block)]
    chosen = {id(module) for module in (*adapted, *convolutions, *blocks)}
    for kind in (nn.Linear, nn.RNNBase):
        chosen = chosen or {id(module) for module in own.values() if isinstance(module, kind)}
    if not chosen:
        kinds = sorted({type(module).__name__ for module in own.values()})
        raise OptionError(
            f"{type(model).__name__} has no convolution, block or Linear to record by default; "
            f"name layers, globs or classes, such as {listed(kinds)}"
        )
    return {name: module for name, module in own.items() if id(module) in chosen}


def _is_adapted(module: nn.Module) -> bool:
    """Whether it is a layer to whose output something learned is added: LoRA and its kin.

    peft puts a layer around the original one, `base_layer`; others derive from Linear.
    """
    around = isinstance(getattr(module, "base_layer", None), nn.Module)
    return (around and hasattr(module, "adapter_layer_names")) or any(
        isinstance(getattr(module, a, None), _HELD) and isinstance(getattr(module, b, None), _HELD)
        for a, b in (("lora_A", "lora_B"), ("lora_a", "lora_b"))
    )


def _is_plain(module: nn.Module) -> bool:
    return type(module) is nn.Sequential and all(map(is_leaf, module))


def _blocks(model: nn.Module) -> list[nn.Module]:
    """Returns the blocks that equal ones follow, but for those that are mostly convolutions."""
    found = list(_in_rows(model, False)) or list(_in_rows(model, True))
    kinds = {type(block) for block in found if type(block) is not nn.Sequential}
    # A stage with one block has no row, but its block is of the others' class.
    alone = [module for module in model.modules() if type(module) in kinds]
    within = {id(part) for block in found for part in block.modules()}
    return [*found, *(module for module in alone if id(module) not in within)]


def _in_rows(module: nn.Module, by_number: bool) -> Iterator[nn.Module]:
    """Yields the blocks of the rows of equal blocks in a module, the outermost rows only.

    Args:
        module: Where to look, at any depth.
        by_number: Whether `block1` and `block2` are a row, too. `query` and `key` are never one.
    """
    is_list = type(module) is nn.Sequential or not is_called(module)
    rows: dict[tuple[str, type], list[nn.Module]] = {}
    for name, child in module._modules.items():  # where one block stands for several, too
        if child is not None:
            kept = re.sub(r"\d+", "0", name) if by_number else name
            row = rows.setdefault(("" if is_list else kept, type(unwrap(child))), [])
            row.append(unwrap(child))
    for row in rows.values():
        if len(row) > 1 and any(map(_size, row[0].children())):
            yield from _of_row(row, by_number)
        else:
            for child in row:
                yield from _in_rows(child, by_number)


def _of_row(row: list[nn.Module], by_number: bool) -> Iterator[nn.Module]:
    """Yields the blocks of a row: its modules, or what is in them if they are stages or lists."""
    inner = [block for module in row for block in _in_rows(module, by_number)]
    if not is_called(row[0]):
        # Lists: of rows of their own, else of the parts of a block, such as attention and MLP.
        parts = [part for module in row for part in module.children()]
        parts = [part for part in parts if not is_leaf(part)] or parts
        yield from inner or _that_show([part for part in parts if is_called(part)])
    elif inner and (type(row[0]) is nn.Sequential or _are_stages(row, inner)):
        yield from inner
    else:
        yield from _that_show(row)


def _are_stages(row: list[nn.Module], inner: list[nn.Module]) -> bool:
    """Whether the modules of a row hold blocks, rather than the heads or experts of one block.

    A block normalises what it is given; a head or an expert is given what its block has
    normalised.
    """
    return 2 * _size(*inner) > _size(*row) and all(
        any("norm" in type(part).__name__.lower() for part in block.modules()) for block in inner
    )


def _that_show(row: list[nn.Module]) -> list[nn.Module]:
    """Returns a row's modules, or none if convolutions, recorded anyway, hold most weights."""
    weights = _size(*row)
    convolved = [p for m in row for p in m.modules() if isinstance(p, _ConvNd) and not _is_dense(p)]
    return row if weights and 2 * _size(*convolved) < weights else []


def _is_dense(layer: _ConvNd) -> bool:
    """Whether it is a Linear in other words: over a row of tokens, one at a time."""
    return layer.kernel_size == (1,)


def _size(*modules: nn.Module) -> int:
    """Returns about how many weights there are; those sharded away are counted by their layer."""
    parts = {id(part): part for module in modules for part in module.modules()}
    weights: dict[int, int] = {}
    for key, part in parts.items():
        own = {id(p): _count(p) for p in part.parameters(recurse=False)}
        weights |= own
        if own:
            continue
        if isinstance(part, nn.Linear):
            weights[key] = part.in_features * part.out_features
        elif isinstance(part, _ConvNd):
            pairs = part.out_channels * part.in_channels // part.groups
            weights[key] = pairs * math.prod(part.kernel_size)
    return sum(weights.values())


def _count(weight: nn.Parameter) -> int:
    return 1 if nn.parameter.is_lazy(weight) else weight.numel()
