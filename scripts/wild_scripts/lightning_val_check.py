"""Lightning: val_check_interval within the epoch.

packages: lightning
"""

from lightning_common import Module, trainer
from noting import images, save
from torch.utils.data import DataLoader

trainer(max_epochs=2, val_check_interval=2).fit(
    Module(), DataLoader(images(), 4, shuffle=True), DataLoader(images(8, add=5), 4)
)
save()
