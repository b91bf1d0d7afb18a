"""In the manner of the ImageNet example: ResNet-18, an ImageFolder, a validation pass, a checkpoint."""

import os
import sys
import warnings

os.environ["OMP_NUM_THREADS"] = "1"

import torch
import torchvision.models as models
import torchvision.transforms as transforms
from torch import nn
from torchvision.datasets import ImageFolder


class AverageMeter:
    def __init__(self):
        self.sum = self.count = 0

    def update(self, value, n):
        self.sum += value * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(1, self.count)


def train(loader, model, criterion, optimizer, epoch):
    losses = AverageMeter()
    model.train()
    for i, (images, target) in enumerate(loader):
        output = model(images)
        loss = criterion(output, target)
        losses.update(loss.item(), images.size(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"Epoch: [{epoch}][{i}/{len(loader)}] Loss {losses.avg:.5f}")


def validate(loader, model, criterion):
    losses = AverageMeter()
    model.eval()
    with torch.no_grad():
        for images, target in loader:
            losses.update(criterion(model(images), target).item(), images.size(0))
    print(f" * Loss {losses.avg:.5f}")


def main():
    root = sys.argv[1]
    torch.manual_seed(0)
    torch.set_num_threads(1)
    normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    train_set = ImageFolder(
        os.path.join(root, "train"),
        transforms.Compose(
            [
                transforms.RandomResizedCrop(32),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                normalize,
            ]
        ),
    )
    val_set = ImageFolder(
        os.path.join(root, "val"),
        transforms.Compose([transforms.Resize(32), transforms.ToTensor(), normalize]),
    )
    train_loader = torch.utils.data.DataLoader(train_set, 4, shuffle=True, num_workers=2)
    val_loader = torch.utils.data.DataLoader(val_set, 4)
    model = models.resnet18(num_classes=len(train_set.classes))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
    for epoch in range(2):
        train(train_loader, model, criterion, optimizer, epoch)
        validate(val_loader, model, criterion)
        state = {
            "epoch": epoch,
            "state_dict": model.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        torch.save(state, os.path.join(root, "checkpoint.pth.tar"))
    warnings.warn("this is the script's own warning")


if __name__ == "__main__":
    main()
