"""hydra: a sweep of three rates in one process.

packages: hydra-core
arguments: -m rate=0.1,0.01,0.001 hydra/hydra_logging=disabled hydra/job_logging=disabled
"""

import hydra
import torch
import torch.nn.functional as F
from hydra.core.config_store import ConfigStore
from noting import ALL, Notes, images, save
from torch import nn
from torch.utils.data import DataLoader

ConfigStore.instance().store("config", {"rate": 0.1})


@hydra.main(version_base=None, config_name="config")
def main(config):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 2))
    notes = Notes(model, "0", f"run.{len(ALL) + 1}.h5" if ALL else "run.h5")
    optimizer = torch.optim.SGD(model.parameters(), config.rate)
    for epoch in range(2):
        for number, (x, y) in enumerate(DataLoader(images(), 4, shuffle=True)):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            notes.batch(epoch, number, loss)


main()
save()
