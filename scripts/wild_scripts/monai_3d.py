"""MONAI: a 3-D UNet on volumes from dictionaries, CacheDataset, sliding windows.

packages: monai
"""

import warnings

warnings.filterwarnings("ignore")
import torch
from monai.data import CacheDataset, DataLoader
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import Compose, EnsureTyped, RandFlipd, RandSpatialCropd
from monai.utils import set_determinism
from noting import Notes, save

set_determinism(0)


def volumes(count, add=0.0):
    rows = []
    for number in range(count):
        volume = torch.rand(1, 20, 18, 16) * 0.1 + number / count + add
        rows.append({"image": volume, "label": (volume > volume.mean()).float()})
    return rows


keys = ["image", "label"]
train = DataLoader(
    CacheDataset(
        volumes(8),
        Compose([EnsureTyped(keys), RandSpatialCropd(keys, (16, 16, 16), random_size=False),
                 RandFlipd(keys, prob=0.5)]),
        progress=False,
    ),
    batch_size=2, shuffle=True,
)
val = DataLoader(CacheDataset(volumes(2, 5), EnsureTyped(keys), progress=False), batch_size=1)
model = UNet(3, 1, 2, channels=(4, 8, 16), strides=(2, 2), num_res_units=1)
notes = Notes(model, "model.1.submodule.0.conv.unit0.conv")
criterion = DiceCELoss(to_onehot_y=True, softmax=True)
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
for epoch in range(2):
    model.train()
    for number, batch in enumerate(train):
        optimizer.zero_grad()
        loss = criterion(model(batch["image"]), batch["label"])
        loss.backward()
        optimizer.step()
        notes.batch(epoch, number, loss)
    model.eval()
    with torch.no_grad():
        for batch in val:
            sliding_window_inference(batch["image"], (16, 16, 16), 2, model)
save()
