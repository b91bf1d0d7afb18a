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


def loader():
    return StatefulDataLoader(images(), 4, shuffle=True, num_workers=1)


def train(loader, epoch):
    for number, (x, y) in enumerate(loader):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        notes.batch(epoch, number, loss)
        if number == 2:  # in the middle of a pass
            state = loader.state_dict()
    return state


first = loader()
train(first, 0)
state = train(first, 1)
second = loader()  # goes on in the middle of the pass
second.load_state_dict(state)
train(second, 2)
save()
