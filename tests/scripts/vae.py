"""A VAE whose encoder and decoder are called directly, with no DataLoader at all."""

import torch
import torch.nn.functional as F
from torch import nn


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(1, 6, 4, 2, 1)
        self.mean, self.logvar = nn.Linear(6 * 36, 3), nn.Linear(6 * 36, 3)
        self.spread = nn.Linear(3, 6 * 36)
        self.up = nn.ConvTranspose2d(6, 1, 4, 2, 1)

    def encode(self, x):
        h = F.relu(self.down(x)).flatten(1)
        return self.mean(h), self.logvar(h)

    def decode(self, z):
        return torch.sigmoid(self.up(F.relu(self.spread(z)).view(-1, 6, 6, 6)))


torch.manual_seed(0)
images = torch.rand(40, 1, 12, 12)
model = VAE()
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for step in range(10):
    batch = images[torch.randperm(len(images))[:8]]
    mean, logvar = model.encode(batch)
    reconstruction = model.decode(mean + torch.randn_like(mean) * (0.5 * logvar).exp())
    kl = -0.5 * (1 + logvar - mean**2 - logvar.exp()).sum()
    loss = F.binary_cross_entropy(reconstruction, batch, reduction="sum") + kl
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 3 == 0:
        model.eval()
        with torch.no_grad():
            shown = model.decode(torch.zeros(1, 3))
        model.train()
        print(f"{step}: {loss.item():.4f} {shown.mean():.5f}")
