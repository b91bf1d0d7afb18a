"""timm: its loaders (multi-epoch, with a prefetcher), mixup, EMA, gradients of two batches.

packages: timm
"""

import numpy as np
import timm
import torch
from noting import Notes, save
from PIL import Image
from timm.data import Mixup, create_loader
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3


class Pictures(torch.utils.data.Dataset):
    transform = None

    def __len__(self):
        return 24

    def __getitem__(self, number):
        picture = Image.fromarray(np.full((32, 32, 3), number * 10, np.uint8))
        return self.transform(picture), number % 2


def loader(training):
    return create_loader(
        Pictures(), (3, 32, 32), 4, is_training=training, use_prefetcher=True, num_workers=1,
        use_multi_epochs_loader=training, device=torch.device("cpu"), no_aug=not training,
        persistent_workers=True,
    )


model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=2,
                          num_heads=2, num_classes=2)
notes = Notes(model, "blocks.1")
ema = ModelEmaV3(model, decay=0.9)
optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3)
mixup, criterion = Mixup(0.2, num_classes=2), SoftTargetCrossEntropy()
np.random.seed(0)
train, val = loader(True), loader(False)
for epoch in range(2):
    model.train()
    for number, (x, y) in enumerate(train):
        x, y = mixup(x, y)
        loss = criterion(model(x), y) / 2
        loss.backward()
        notes.batch(epoch, number, loss)
        if number % 2:
            optimizer.step()
            optimizer.zero_grad()
            ema.update(model, step=epoch * 6 + number)
    for each in (model, ema.module):
        each.eval()
        with torch.no_grad():
            for x, y in val:
                each(x)
save()
