"""segmentation-models-pytorch: a Unet, dice, its metrics on a validation.

packages: segmentation-models-pytorch
"""

import segmentation_models_pytorch as smp
import torch
from noting import Notes, images, save
from torch.utils.data import DataLoader

model = smp.Unet("resnet18", encoder_weights=None, in_channels=3, classes=1,
                 decoder_channels=(32, 16, 8, 8, 4))
notes = Notes(model, "decoder.blocks.0.conv1.0")
criterion = smp.losses.DiceLoss("binary", from_logits=True)
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
train, val = DataLoader(images(16), 4, shuffle=True), DataLoader(images(8, add=5), 4)
for epoch in range(2):
    model.train()
    for number, (x, _) in enumerate(train):
        mask = (x.mean(1, keepdim=True) > 0.5).float()
        loss = criterion(model(x), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        notes.batch(epoch, number, loss)
    model.eval()
    with torch.inference_mode():
        for x, _ in val:
            mask = (x.mean(1, keepdim=True) > 0.5).long()
            smp.metrics.get_stats(model(x).sigmoid(), mask, mode="binary", threshold=0.5)
save()
