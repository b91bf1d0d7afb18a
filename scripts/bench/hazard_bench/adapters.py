"""The tools, each used as its own documentation says, behind one small interface.

A tool is imported only when it is made. What it has kept is handed over after the training, from
where a user would read it: a file that was closed, a list, a recording.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from training import (
    KERNEL,
    UNREADABLE,
    Array,
    Call,
    Calls,
    Nothing,
    Row,
    bare,
    leaves,
    to_half_or_nothing,
)


@dataclass
class Kept:
    """What a tool has at the end.

    Attributes:
        batches: By number of the batch, for tools that know of batches.
        lists: By layer, in the order of the calls, for tools that do not.
        lost: Frames that the tool itself counts as lost.
        words: What it says beside that.
        numbered: Whether it says which call of a forward a frame is of.
        asked: The batches of which a forward was given to the tool, where it has to be given.
        offered: The layers that it says it looks at, where it says so.
    """

    batches: dict[int, Calls] | None = None
    lists: Calls | None = None
    lost: int = 0
    words: list[str] = field(default_factory=list)
    numbered: bool = True
    asked: set[int] | None = None
    offered: set[str] | None = None


class Tool(Nothing):
    """One way of keeping what layers put out.

    Attributes:
        whole: Whether the whole batch is kept, not only its first image.
        on_disk: Whether what was kept can be read after the training was killed.
    """

    whole = True
    on_disk = False

    def __init__(self, row: Row, folder: Path) -> None:
        self.row, self.folder = row, folder
        self.paths = row.paths()
        self.modules = tuple(dict.fromkeys(path for path, _ in self.paths.values()))

    def kept(self) -> Kept:
        raise NotImplementedError

    def recovered(self) -> Kept:
        """What is on the disk, in a process that did not write it."""
        raise NotImplementedError


class Mapreel(Tool):
    """Recorder, track(); read back by replay from the closed file."""

    whole = False
    on_disk = True

    def attach(self, model: nn.Module) -> None:
        from record import Recorder

        path = self.folder / "run.h5"
        self.recorder = Recorder(model, path, layers=self.modules, when_full="wait")

    def track(self, data: Iterable[Any], epoch: int) -> Iterator[Any]:
        yield from self.recorder.track(data) if self.row.tracked else data

    def detach(self) -> None:
        self.recorder.close()

    def kept(self) -> Kept:
        import replay

        path = self.folder / "run.h5"
        if not path.exists():  # another process of the run records
            return Kept(batches={})
        with replay.open(path) as run:
            size = len(self.row.data()) if self.row.tracked else 1 << 30
            kept = Kept({}, lost=run.lost + run.dropped)
            for name in run.layers:
                layer, _, call = name.partition("@")[0].partition("#")
                layer = layer if layer in self.paths else f"{layer}[0]"
                series = run[name]
                for at in run.frames:
                    if not series.present[at]:
                        continue
                    number = at[0] * size + at[1]
                    self._put(kept, number, layer, int(call or 0), series[at])
                    if series.layer.kernel is not None and not np.isnan(series.kernels(*at)).all():
                        self._put(kept, number, layer + KERNEL, int(call or 0), series.kernels(*at))
            for at in run.frames if run.inputs else []:
                image = run.inputs[at]
                if not np.isnan(image).all():  # as it is where there is none
                    self._put(kept, at[0] * size + at[1], "input", 0, image)
            kept.words = [str(problem) for problem in replay.verify(run).problems]
        return kept

    recovered = kept

    @staticmethod
    def _put(kept: Kept, number: int, layer: str, call: int, frame: Array) -> None:
        assert kept.batches is not None
        calls = kept.batches.setdefault(number, {}).setdefault(layer, [])
        calls.extend([None] * (call + 1 - len(calls)))  # type: ignore[list-item]
        calls[call] = frame


class Hook(Tool):
    """A forward hook that keeps `output.detach()` in a list."""

    def attach(self, model: nn.Module) -> None:
        self.outputs: dict[str, list[Any]] = {path: [] for path in self.modules}
        self._handles = []
        for path in self.modules:
            module = bare(model).get_submodule(path)
            self._handles.append(module.register_forward_hook(self._hook(self.outputs[path])))

    @staticmethod
    def _hook(kept: list[Any]) -> Any:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            is_one = isinstance(output, torch.Tensor)
            kept.append(output.detach() if is_one else [leaf.detach() for leaf in leaves(output)])

        return keep

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()

    def kept(self) -> Kept:
        lists: Calls = {}
        for layer, (path, leaf) in self.paths.items():
            lists[layer] = [
                to_half_or_nothing(leaves(output)[leaf]) for output in self.outputs[path]
            ]
        return Kept(lists=lists)


class TorchLens(Tool):
    """`fastlog.Recorder`, whose `log()` makes the training's forward; a bundle on the disk."""

    on_disk = True

    def attach(self, model: nn.Module) -> None:
        import torchlens
        from torchlens.fastlog import Recorder
        from torchlens.options import StreamingOptions

        save = functools.reduce(operator.or_, [torchlens.module(path) for path in self.modules])
        storage = None
        if self.row.killed:
            storage = StreamingOptions(bundle_path=self.folder / "run.tl", retain_in_memory=False)
        self.recorder = Recorder(model, save=save, storage=storage)
        self.recorder.__enter__()
        self.batch_of_pass: list[int] = []
        self.number = -1

    def call(self, model: nn.Module) -> Call:
        def forward(*args: Any) -> Any:
            output = self.recorder.log(
                args if len(args) > 1 or isinstance(args[0], list) else args[0]
            )
            self.batch_of_pass.append(self.number)
            return output

        return forward

    def track(self, data: Iterable[Any], epoch: int) -> Iterator[Any]:
        for batch in data:
            self.number += 1
            yield batch

    def detach(self) -> None:
        self.recorder.__exit__(None, None, None)

    def kept(self) -> Kept:
        kept = self._sort(self.recorder.recording, self.batch_of_pass)
        kept.asked = set(self.batch_of_pass)
        return kept

    def recovered(self) -> Kept:
        from torchlens import fastlog

        for path in sorted(self.folder.glob("*run.tl*")):
            recording = fastlog.recover(path)
            return self._sort(recording, list(range(1 << 16)))
        return Kept(batches={})

    def _sort(self, recording: Any, batch_of_pass: list[int]) -> Kept:
        """Records by batch, module and call; of one that stands there twice the last counts."""
        found: dict[int, dict[str, dict[int, dict[str, torch.Tensor]]]] = {}
        for record in recording.records:
            payload = record.ram_payload if record.ram_payload is not None else record.disk_payload
            if payload is None or record.ctx.pass_index > len(batch_of_pass):
                continue
            for module in record.ctx.output_of_module_calls:
                path, _, call = module.rpartition(":")
                if path in self.modules:
                    batch = found.setdefault(batch_of_pass[record.ctx.pass_index - 1], {})
                    calls = batch.setdefault(path, {}).setdefault(int(call), {})
                    calls[record.ctx.label] = payload
        kept: dict[int, Calls] = {}
        for number, modules in found.items():
            for layer, (path, leaf) in self.paths.items():
                calls_of = modules.get(path, {})
                outputs = [list(calls_of[call].values()) for call in sorted(calls_of)]
                there = [tensors[leaf] for tensors in outputs if leaf < len(tensors)]
                if there:
                    frames = [to_half_or_nothing(tensor) for tensor in there]
                    kept.setdefault(number, {})[layer] = frames
        return Kept(kept)


class ActivationScope(Tool):
    """`track(model)` as its quick start has it; read from `activations`."""

    def attach(self, model: nn.Module) -> None:
        import activationscope

        self.scope = activationscope.ActivationScope(**self.options(activationscope))
        self.tracking = self.scope.track(bare(model), layers=list(self.modules))
        self.tracking.__enter__()

    def options(self, activationscope: Any) -> dict[str, Any]:
        return {}

    def detach(self) -> None:
        self.tracking.__exit__(None, None, None)

    def kept(self) -> Kept:
        lists: Calls = {}
        there = self.scope.activations
        for layer, (path, leaf) in self.paths.items():
            tensors = there.get(f"{path}.output", there.get(f"{path.replace('.', '_')}_output", []))
            lists[layer] = [to_half_or_nothing(tensor) for tensor in tensors] if not leaf else []
        return Kept(lists=lists)


class ActivationScopeDisk(ActivationScope):
    """The same with `StoragePolicy.DISK`."""

    on_disk = True

    def options(self, activationscope: Any) -> dict[str, Any]:
        folder = self.folder / "scope"
        folder.mkdir(exist_ok=True)
        return {"storage": activationscope.StoragePolicy.DISK, "session_dir": str(folder)}

    def recovered(self) -> Kept:
        from activationscope.utils import load_raw_tensor

        lists: Calls = {layer: [] for layer in self.paths}
        for layer, (path, _) in self.paths.items():
            for file in sorted(
                (self.folder / "scope").glob(f"{path.replace('.', '_')}_output/*.dat")
            ):
                lists[layer].append(to_half_or_nothing(load_raw_tensor(str(file))))
        return Kept(lists=lists)


class NaNsense(Tool):
    """A session without its page; a snapshot is asked for before each batch and read after it."""

    def attach(self, model: nn.Module) -> None:
        import nansense

        self.session = nansense.start(model)
        self.session.detach()  # never pauses
        self.batches: dict[int, Calls] = {}
        self.last: Any = None

    def track(self, data: Iterable[Any], epoch: int) -> Iterator[Any]:
        data = list(data)
        batches = iter(self.session.batches(data, phase="train", epoch=epoch))
        while True:
            self.session.request_snapshot()
            batch = next(batches, self)
            self._take(len(data))
            if batch is self:
                return
            yield batch

    def _take(self, size: int) -> None:
        snapshot = self.session.snapshot
        if snapshot is None or snapshot.position == self.last:
            return
        self.last = snapshot.position
        calls: Calls = {}
        for layer in self.paths:
            names = [name for name in self._names(layer) if name in snapshot.activations]
            if names:
                tensors = [snapshot.activations[name] for name in names]
                frames = [to_half_or_nothing(tensor, alone=True) for tensor in tensors]
                calls[layer] = [frame for frame in frames if frame is not UNREADABLE]
        self.batches[self.last.epoch * size + self.last.batch_idx] = calls

    def _names(self, layer: str) -> list[str]:
        """What a session calls a module's calls; a tensor of several is a node of its own."""
        path, leaf = self.paths[layer]
        names = [path, *(f"{path}_{number}" for number in range(2, 9)), f"_orig_mod.{path}"]
        if "[" in layer:
            names = [f"getitem{leaf + 1}"]
        return [name for name in names if name in self.session.layer_names]

    def detach(self) -> None:
        self.session.close()

    def kept(self) -> Kept:
        offered = {layer for layer in self.paths if self._names(layer)}
        return Kept(self.batches, numbered=False, offered=offered)


TOOLS: dict[str, type[Tool]] = {
    "mapreel": Mapreel,
    "hook": Hook,
    "nansense": NaNsense,
    "torchlens": TorchLens,
    "activationscope": ActivationScope,
    "activationscope-disk": ActivationScopeDisk,
}


def words_of(tool: str, said: list[str]) -> list[str]:
    """The warnings among `said` by which a tool may have told its user of a loss."""
    if tool == "mapreel":
        return [text for text in said if text.startswith("RecordingWarning")]
    kinds = ("DeprecationWarning", "FutureWarning", "PendingDeprecationWarning")
    return [text for text in said if not text.startswith(kinds)]
