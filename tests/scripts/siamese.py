"""A siamese network: one network, called twice for each pair, a contrastive loss."""

import torch
import torch.nn.functional as F
from torch import nn


class SiameseNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(inplace=True), nn.BatchNorm2d(6), nn.MaxPool2d(2)
        )
        self.fc = nn.Linear(6 * 64, 5)

    def forward(self, x):
        return self.fc(self.cnn(x).flatten(1))


class Pairs(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        first, second = torch.randn(2, 1, 16, 16, generator=generator)
        return first, second, torch.tensor(float(index % 2))


def main():
    torch.manual_seed(3)
    net = SiameseNetwork()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001)
    for epoch in range(2):
        for first, second, different in torch.utils.data.DataLoader(Pairs(), batch_size=4):
            distance = F.pairwise_distance(net(first), net(second))
            loss = ((1 - different) * distance**2 + different * F.relu(2 - distance) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch} loss {loss.item():.6f}")


main()
