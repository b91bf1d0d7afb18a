"""vit-pytorch's SimpleViT, whose blocks are ModuleLists.

packages: vit-pytorch
"""

import torch
import torch.nn.functional as F
from noting import Notes, images, save
from torch.utils.data import DataLoader
from vit_pytorch import SimpleViT

model = SimpleViT(image_size=32, patch_size=8, num_classes=2, dim=16, depth=2, heads=2, mlp_dim=32)
notes = Notes(model, "transformer.layers.1.0")
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
train, val = DataLoader(images(), 4, shuffle=True), DataLoader(images(8, add=5), 4)
for epoch in range(2):
    model.train()
    for number, (x, y) in enumerate(train):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        notes.batch(epoch, number, loss)
    model.eval()
    with torch.no_grad():
        for x, y in val:
            model(x)
save()
