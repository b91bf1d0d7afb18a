"""lightly: BYOL, two networks that each see both views, one of them averaged.

packages: lightly
"""

import copy

from lightly_common import Pictures, backbone
import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import BYOLTransform, BYOLView1Transform, BYOLView2Transform
from lightly.utils.scheduler import cosine_schedule
from noting import Notes, save
from torch import nn


class BYOL(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = backbone(), BYOLProjectionHead(8, 8, 4)
        self.predict = BYOLPredictionHead(4, 8, 4)
        self.slow, self.slow_head = copy.deepcopy(self.backbone), copy.deepcopy(self.head)
        deactivate_requires_grad(self.slow)
        deactivate_requires_grad(self.slow_head)

    def forward(self, x):
        return self.predict(self.head(self.backbone(x).flatten(1)))

    def target(self, x):
        return self.slow_head(self.slow(x).flatten(1)).detach()


model = BYOL()
notes = Notes(model, "backbone.3")
transform = BYOLTransform(
    BYOLView1Transform(input_size=32, gaussian_blur=0.0),
    BYOLView2Transform(input_size=32, gaussian_blur=0.0),
)
loader = torch.utils.data.DataLoader(Pictures(transform), 4, shuffle=True, drop_last=True)
criterion, optimizer = NegativeCosineSimilarity(), torch.optim.SGD(model.parameters(), 0.06)
for epoch in range(2):
    momentum = cosine_schedule(epoch, 2, 0.996, 1)
    for number, (one, other) in enumerate(loader):
        update_momentum(model.backbone, model.slow, m=momentum)
        update_momentum(model.head, model.slow_head, m=momentum)
        p0, z0, p1, z1 = model(one), model.target(one), model(other), model.target(other)
        loss = 0.5 * (criterion(p0, z1) + criterion(p1, z0))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        notes.batch(epoch, number, loss)
save()
