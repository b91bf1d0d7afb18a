"""Lightning: the same model fitted twice, then another one.

packages: lightning
"""

from lightning_common import Module, trainer
from noting import images, save
from torch.utils.data import DataLoader

loader, val = DataLoader(images(), 4, shuffle=True), DataLoader(images(8, add=5), 4)
module = Module()
trainer(max_epochs=1).fit(module, loader, val)
module.before = 1
trainer(max_epochs=2).fit(module, loader, val)
trainer(max_epochs=1).fit(Module("run.2.h5"), loader, val)
save()
