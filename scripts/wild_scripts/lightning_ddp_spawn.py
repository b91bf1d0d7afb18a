"""Lightning: ddp_spawn, two processes, of which the first is recorded.

packages: lightning
"""

from lightning_common import Module, trainer
from noting import images, save
from torch.utils.data import DataLoader


class Spawned(Module):
    def on_fit_end(self):
        if self.global_rank == 0:
            save()  # the notes are this process's


if __name__ == "__main__":
    trainer(max_epochs=2, strategy="ddp_spawn", devices=2).fit(
        Spawned(), DataLoader(images(), 4, shuffle=True), DataLoader(images(8, add=5), 4)
    )
