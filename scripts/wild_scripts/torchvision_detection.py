"""torchvision's detection references: RetinaNet, images of several sizes, warm-up.

packages: torchvision
"""

import torch
from noting import Notes, save
from torchvision.models import resnet18
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor


class Boxes(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, number):
        picture = torch.rand(3, 48 + 8 * (number % 3), 64) * 0.1 + number / 12
        target = {"boxes": torch.tensor([[4.0, 4.0, 30.0, 30.0]]), "labels": torch.tensor([1])}
        return picture, target


backbone = _resnet_fpn_extractor(resnet18(weights=None), 5, returned_layers=[3, 4])
model = RetinaNet(
    backbone, 2, min_size=64, max_size=96,
    anchor_generator=AnchorGenerator(((16,), (32,), (64,)), ((1.0,),) * 3),
)
notes = Notes(model, "backbone.body.layer1.0.conv1")
loader = torch.utils.data.DataLoader(
    Boxes(), 2, shuffle=True, collate_fn=lambda batch: tuple(zip(*batch))
)
optimizer = torch.optim.SGD(
    [p for p in model.parameters() if p.requires_grad], 0.001, momentum=0.9, weight_decay=5e-4
)


def train_one_epoch(model, optimizer, loader, epoch):
    model.train()
    warm = None
    if epoch == 0:
        warm = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, total_iters=len(loader) - 1)
    for number, (pictures, targets) in enumerate(loader):
        pictures = [picture.to("cpu") for picture in pictures]
        targets = [{key: value.to("cpu") for key, value in each.items()} for each in targets]
        with torch.amp.autocast("cpu", enabled=False):
            loss = sum(model(pictures, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if warm is not None:
            warm.step()
        notes.batch(epoch, number, loss)


for epoch in range(2):
    train_one_epoch(model, optimizer, loader, epoch)
save()
