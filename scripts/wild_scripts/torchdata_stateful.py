"""torchdata's StatefulDataLoader: its state kept in the middle of an epoch, and gone on from.

packages: torchdata
"""

import torch.nn.functional as F
import torch
from noting import Notes, images, save
from torch import nn
from torchdata.stateful_dataloader import StatefulDataLoader

model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 2))
notes = Notes(model, "0")
optimizer = torch.optim.SGD(model.parameters(), 0.01)
loader = StatefulDataLoader(images(), 4, shuffle=True, num_workers=1)
for epoch in range(2):
    for number, (x, y) in enumerate(loader):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        notes.batch(epoch, number, loss)
        state = loader.state_dict()
save()
