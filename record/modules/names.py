"""The names of a network's modules, in which wrappers do not show."""

from __future__ import annotations

import inspect

from torch import nn

# What is put around a model or a layer and computes nothing itself: FSDP1, activation
# checkpointing, torch.compile and the like; and where each keeps the module inside it.
_WRAPPERS = (
    "DistributedDataParallel",
    "DataParallel",
    "OptimizedModule",
    "FullyShardedDataParallel",
    "ActivationWrapper",
    "CheckpointWrapper",
    "OffloadWrapper",
    "FlattenParamsWrapper",
    "DeepSpeedEngine",
    "_FabricModule",
)
_WRAPPED = (
    "_forward_module",
    "module",
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_fpw_module",
)
_HOLDERS = nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict


def unwrap(model: nn.Module) -> nn.Module:
    """Returns the model itself, out of DistributedDataParallel, FSDP, torch.compile and so on."""
    while is_wrapper(model):
        inner = next((model._modules[n] for n in _WRAPPED if n in model._modules), None)
        if inner is None:
            break
        model = inner
    return model


def is_wrapper(module: nn.Module) -> bool:
    """Whether the module only stands around another one."""
    return any(kind.__name__ in _WRAPPERS for kind in type(module).__mro__)


def is_called(module: nn.Module) -> bool:
    """Whether the module can be called: a list, a dict or a list of parameters has no forward."""
    forward = inspect.getattr_static(type(module), "forward", None)
    return not isinstance(module, _HOLDERS) or forward is not nn.Module.forward


def class_name(module: nn.Module) -> str:
    """Returns the name of a module's class, also of one out of which FSDP2 has made another."""
    kind = type(module)
    if kind.__bases__[0].__name__ == "FSDPModule" and len(kind.__bases__) > 1:
        kind = kind.__bases__[1]
    return kind.__name__


def is_leaf(module: nn.Module) -> bool:
    """Whether the module has no others in it but what makes its weights."""
    return all(name == "parametrizations" for name, _ in module.named_children())


def named_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Returns every module by the name it has without wrappers, the model by its class's name.

    A wrapper (FSDP1, checkpoint_wrapper, torch.compile) shares its name with the module inside
    it, and stands back for it.
    """
    paths = dict(model.named_modules())
    names = {"": ""}
    named: dict[str, nn.Module] = {}
    for path, module in paths.items():
        parent, _, part = path.rpartition(".")
        if path and part in _WRAPPED and is_wrapper(paths[parent]):
            names[path] = names[parent]
        elif path:
            names[path] = f"{names[parent]}.{part}" if names[parent] else part
        named[names[path] or class_name(module)] = module
    return named
