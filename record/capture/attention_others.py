"""Attention that other functions than torch's own compute: what is seen of it, and what is not.

`flex_attention` weighs by a product as the fused function does, under a mask that can be written
out. What flash-attn, xFormers and the like compute in kernels of their own is not seen: that such
a function was called is said, in one line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from torch import nn

_PACKAGES = ("flash_attn", "flash_attn_interface", "xformers", "sageattention", "natten")
_WORDS = ("attn", "attention")
_FLEX = "torch.nn.attention.flex_attention"
_MOST = 1 << 26  # values of a mask that is written out

Namespace = dict[str, Any]


def find_others(model: nn.Module) -> list[tuple[Namespace, str, str]]:
    """Finds where functions that compute attention are known: namespace, name there, own name.

    Args:
        model: The network; where its classes are written is looked at, and in the packages.
    """
    homes = {kind.__module__ for m in model.modules() for kind in type(m).__mro__}
    roots = {home.partition(".")[0] for home in homes} - {"torch", "builtins"}
    flex = sys.modules.get(_FLEX)
    function = None if flex is None else vars(flex).get("flex_attention")
    if function is None and not any(name in sys.modules for name in _PACKAGES):
        return []
    found = []
    for home, module in list(sys.modules.items()):
        if module is None or (home.partition(".")[0] not in {*roots, *_PACKAGES} and home != _FLEX):
            continue
        for name, value in _functions(module):
            if function is not None and _unwrapped(value) is function:
                found.append((vars(module), name, "flex_attention"))
            elif _is_foreign(value):
                found.append((vars(module), name, value.__name__))
    return found


def as_fused(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `flex_attention` as those of the fused function.

    Raises:
        ValueError: It cannot be written out.
    """
    names = ("query", "key", "value", "score_mod", "block_mask", "scale", "enable_gqa")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if given.get("score_mod") is not None:
        raise ValueError("flex_attention changes its scores by a function (score_mod)")
    fused = {name: given[name] for name in ("query", "key", "value")}
    fused |= {name: given[name] for name in ("scale", "enable_gqa") if given.get(name)}
    blocks = given.get("block_mask")
    if blocks is not None:
        query, key = fused["query"], fused["key"]
        batch, heads = blocks.shape[0], blocks.shape[1]
        tokens = query.shape[-2], key.shape[-2]
        if batch * heads * tokens[0] * tokens[1] > _MOST:
            raise ValueError("the mask of flex_attention is too large to be written out")
        flex = sys.modules[_FLEX]
        device = str(query.device)
        fused["attn_mask"] = flex.create_mask(blocks.mask_mod, batch, heads, *tokens, device)
    return fused


def _functions(module: Any) -> Iterator[tuple[str, Any]]:
    try:
        namespace = vars(module)
    except TypeError:
        return
    for name, value in list(namespace.items()):
        if callable(value) and not isinstance(value, type) and type(name) is str:
            yield name, value


def _is_foreign(value: Any) -> bool:
    home, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if type(home) is not str or type(name) is not str or isinstance(value, nn.Module):
        return False
    known = home.partition(".")[0] in _PACKAGES and not name.startswith("_")
    return known and any(word in name.lower() for word in _WORDS)


def _unwrapped(value: Any) -> Any:
    """Returns what torch.compile was given, where a function is that."""
    if getattr(type(value), "__module__", "").startswith("torch._ops"):
        return value
    return getattr(value, "_torchdynamo_orig_callable", value)
