"""Lightning: three folds, a model each.

packages: lightning
"""

from lightning_common import Module, trainer
from noting import images, save
from torch.utils.data import DataLoader, Subset

data = images()
for fold, file in enumerate(("run.h5", "run.2.h5", "run.3.h5")):
    train = [number for number in range(24) if number % 3 != fold]
    val = [number for number in range(24) if number % 3 == fold]
    trainer(max_epochs=2).fit(
        Module(file), DataLoader(Subset(data, train), 4, shuffle=True),
        DataLoader(Subset(data, val), 4),
    )
save()
