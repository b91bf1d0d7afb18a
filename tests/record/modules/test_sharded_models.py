"""The names of a model that FSDP has wrapped or sharded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from torch import nn
from usual_networks import check, timm_vit, train

import replay
from record.modules.names import named_modules, unwrap
from record.modules.selection import find_layers

ROOT = Path(__file__).parents[3]


class FullyShardedDataParallel(nn.Module):
    """Stands around a module as FSDP1's does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._fsdp_wrapped_module = module

    def forward(self, *args: Any) -> Any:
        return self._fsdp_wrapped_module(*args)


def test_fsdp_does_not_show_in_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = list(find_layers(timm_vit()))
    model = timm_vit()
    for i in range(3):
        model.blocks[i] = FullyShardedDataParallel(model.blocks[i])  # type: ignore[index, operator]
    whole = FullyShardedDataParallel(model)
    assert unwrap(whole) is model
    assert not [name for name in named_modules(whole) if "_fsdp" in name]
    seen = train(whole, tmp_path / "run.h5")
    assert list(seen) == expected
    check(tmp_path / "run.h5", seen)


SHARDED = """
import sys, warnings
warnings.simplefilter("ignore")
import torch, torch.distributed as dist
from torch import nn
from record import Recorder
sys.path.insert(0, sys.argv[3])
from usual_networks import check, timm_vit, train
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}.store", rank=0, world_size=1)
torch.manual_seed(0)
model = timm_vit()
if sys.argv[1] == "1":
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy
    kinds = {type(model.blocks[0])}
    model = FSDP(model, auto_wrap_policy=ModuleWrapPolicy(kinds), device_id=torch.device("cpu"))
else:
    from torch.distributed.fsdp import fully_shard
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    for part in (model.patch_embed.proj, *model.blocks):
        fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
with Recorder(model, sys.argv[2]) as recorder:
    for images in recorder.track([torch.randn(2, 3, 8, 8) for _ in range(3)]):
        model(images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
dist.destroy_process_group()
"""


@pytest.mark.parametrize("version", [1, 2])
def test_names_of_a_sharded_model(tmp_path: Path, version: int) -> None:
    path = tmp_path / "run.h5"
    done = subprocess.run(
        [sys.executable, "-c", SHARDED, str(version), str(path), str(ROOT / "tests")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with replay.open(path) as run:
        assert list(run.layers) == ["patch_embed.proj", "blocks.0", "blocks.1", "blocks.2"]
        assert len(run.frames) == 3
    with h5py.File(path) as file:  # FSDP2 makes a class of its own out of each
        modules = [str(maps.attrs["module"]) for maps in file["maps"].values()]
    assert sorted(text.partition("(")[0] for text in modules) == [*["Block"] * 3, "Conv2d"]
