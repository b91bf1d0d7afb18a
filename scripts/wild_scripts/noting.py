"""What the scripts here note of their own training, knowing of no recorder.

Of each batch that a script trains on: epoch, batch, the first image, what one layer made of it, the
loss. Hooks of their own see images and maps; the script itself says epoch, batch and loss.
"""

import os
import random

import numpy as np
import torch
from torch.utils.data import TensorDataset

torch.set_num_threads(1)
random.seed(0)
np.random.seed(0)
torch.manual_seed(0)
ALL = []


def first(value, axes=1):
    """The first tensor of so many axes in nested arguments or outputs."""
    if isinstance(value, torch.Tensor):
        return value if value.ndim >= axes and value.is_floating_point() else None
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (tuple, list)):
        return None
    return next((found for each in value if (found := first(each, axes)) is not None), None)


def noted(tensor):
    return tensor.detach().as_subclass(torch.Tensor).half().numpy().copy()


class Notes:
    """Of one model. `image` is the module whose first input is the picture, `file` its recording."""

    def __init__(self, model, layer, file="run.h5", image=None):
        self.layer, self.file = layer, file
        self.rows, self.seen = [], []
        seen, image = self.seen, image or model  # the hooks hold no model

        def called(module, args, kwargs):
            if module.training and torch.is_grad_enabled():
                picture = first((args, kwargs), 3)
                # Images in a list, each of a size of its own, have no axis for the batch.
                alone = bool(args) and isinstance(args[0], list)
                seen.append([noted(picture if alone else picture[0]), None])

        def fired(module, args, output):
            if module.training and torch.is_grad_enabled() and seen and seen[-1][1] is None:
                seen[-1][1] = noted(first(output)[0])

        image.register_forward_pre_hook(called, with_kwargs=True)
        model.get_submodule(layer).register_forward_hook(fired)
        ALL.append(self)

    def batch(self, epoch, batch, loss, forward=0):
        """This batch has been trained on: its first forward, unless another is named."""
        image, feature_map = self.seen[forward]
        self.seen.clear()
        self.rows.append(((epoch, batch), image, feature_map, float(torch.as_tensor(loss).detach())))


def images(count=24, size=32, channels=3, classes=2, seed=0, add=0.0, axes=2):
    """Images of which each can be told from the others by its brightness."""
    generator = torch.Generator().manual_seed(seed)
    brightness = torch.arange(float(count)).reshape(-1, *[1] * (axes + 1)) / count + add
    noise = torch.rand(count, channels, *[size] * axes, generator=generator)
    return TensorDataset(
        brightness + 0.1 * noise, torch.randint(0, classes, (count,), generator=generator)
    )


def save():
    """Writes all notes to where the environment says."""
    arrays = {}
    for number, notes in enumerate(ALL):
        at, pictures, maps, losses = zip(*notes.rows)
        arrays[f"{number}/file"], arrays[f"{number}/layer"] = notes.file, notes.layer
        arrays[f"{number}/at"], arrays[f"{number}/loss"] = np.array(at), np.array(losses)
        for place, (picture, feature_map) in enumerate(zip(pictures, maps)):
            arrays[f"{number}/image/{place}"] = picture
            arrays[f"{number}/map/{place}"] = feature_map
        print(f"{notes.file}: {len(at)} batches, loss {losses[0]:.6f} to {losses[-1]:.6f}")
    if "WILD_TRUTH" in os.environ:
        np.savez(os.environ["WILD_TRUTH"], **arrays)
