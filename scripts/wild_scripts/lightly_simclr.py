"""lightly: SimCLR, two views of each image through one model.

packages: lightly
"""

from lightly_common import Pictures, backbone
import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from noting import Notes, save
from torch import nn


class SimCLR(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = backbone(), SimCLRProjectionHead(8, 8, 4)

    def forward(self, x):
        return self.head(self.backbone(x).flatten(1))


model = SimCLR()
notes = Notes(model, "backbone.3")
loader = torch.utils.data.DataLoader(
    Pictures(SimCLRTransform(input_size=32, gaussian_blur=0.0)), 4, shuffle=True, drop_last=True
)
criterion, optimizer = NTXentLoss(), torch.optim.SGD(model.parameters(), 0.06)
for epoch in range(2):
    for number, (one, other) in enumerate(loader):
        loss = criterion(model(one), model(other))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        notes.batch(epoch, number, loss)
save()
