"""What fastai's scripts share."""

import fastai.callback.schedule  # noqa: F401
import torch.nn.functional as F
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from noting import Notes, images, save
from torch import nn


def learn_and_save(callbacks=(), **options):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(3136, 2)
    )
    notes = Notes(model, "2")

    class Noting(Callback):
        order = 100

        def before_backward(self):
            self.began_from = self.learn.loss_grad.item()

        def after_batch(self):
            if self.training:
                notes.batch(self.epoch, self.iter, self.began_from)

    loaders = DataLoaders(
        DataLoader(images(), bs=4, shuffle=True), DataLoader(images(8, add=5), bs=4)
    )
    learner = Learner(loaders, model, loss_func=F.cross_entropy, cbs=[Noting(), *callbacks], **options)
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(2, 1e-3)
    save()
