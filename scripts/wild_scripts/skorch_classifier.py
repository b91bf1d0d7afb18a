"""skorch: NeuralNetClassifier with its own split, then partial_fit.

packages: skorch
"""

import numpy as np
import torch
from noting import Notes, images, save
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit
from torch import nn


class Noting(Callback):
    def on_train_begin(self, net, **_):
        if not hasattr(self, "notes"):
            self.notes, self.epoch = Notes(net.module_, "0"), -1

    def on_epoch_begin(self, net, **_):
        self.epoch, self.number = self.epoch + 1, 0

    def on_batch_end(self, net, training=False, loss=None, **_):
        if training:
            self.notes.batch(self.epoch, self.number, loss.item())
            self.number += 1


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 2))


np.random.seed(0)
x, y = (tensor.numpy() for tensor in images().tensors)
net = NeuralNetClassifier(
    Net, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, lr=1e-3, max_epochs=2,
    batch_size=4, train_split=ValidSplit(3, stratified=True), iterator_train__shuffle=True, verbose=0,
    callbacks=[Noting()],
)
net.fit(x, y)
net.partial_fit(x, y)
save()
