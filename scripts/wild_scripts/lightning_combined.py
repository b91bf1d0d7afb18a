"""Lightning: CombinedLoader, two loaders at once.

packages: lightning
"""

from lightning.pytorch.utilities import CombinedLoader
from lightning_common import Module, trainer
from noting import images, save
from torch.utils.data import DataLoader

loaders = [DataLoader(images(), 4, shuffle=True), DataLoader(images(12, seed=1, add=3), 4)]
trainer(max_epochs=2).fit(
    Module(combined=True), CombinedLoader(loaders, "max_size_cycle"),
    DataLoader(images(8, add=5), 4),
)
save()
