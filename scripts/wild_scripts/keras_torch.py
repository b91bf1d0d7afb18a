"""Keras on torch: fit with a validation, by the recipe of docs/any-training.md.

packages: keras
recorded by: a recipe
"""

import os

os.environ["KERAS_BACKEND"] = "torch"
import keras
import numpy as np
import torch
from noting import Notes, images, save
from torch.utils.data import DataLoader

keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.Input((3, 32, 32)), keras.layers.Conv2D(4, 3, data_format="channels_first", name="conv1"),
    keras.layers.Conv2D(4, 3, data_format="channels_first", name="conv2"), keras.layers.Flatten(),
    keras.layers.Dense(2),
])
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))


class Noting(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        shown = torch.nn.ModuleDict({layer.name: layer for layer in self.model.layers})
        self.notes = Notes(shown, "conv2", image=shown["conv1"])

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.notes.batch(self.epoch, batch, logs["loss"])


callbacks = [Noting()]
if "WILD_RECORD" in os.environ:
    from record import Recorder

    class Record(keras.callbacks.Callback):
        def __init__(self, path, layers):
            super().__init__()
            self.path, self.layers = path, layers

        def on_train_begin(self, logs=None):
            self.shown = torch.nn.ModuleDict({layer.name: layer for layer in self.model.layers})
            self.recorder = Recorder(self.shown, self.path, layers=self.layers)

        def on_epoch_begin(self, epoch, logs=None):
            self.recorder.epoch(epoch)

        def on_train_batch_end(self, batch, logs=None):
            self.recorder.log(loss=logs["loss"])  # Keras' running mean over the epoch
            self.recorder.step()

        def on_test_begin(self, logs=None):
            self.shown.training = False  # of what the recorder sees, not of the layers

        def on_test_end(self, logs=None):
            self.shown.training = True

        def on_train_end(self, logs=None):
            self.recorder.close()

    callbacks.append(Record(os.environ["WILD_RECORD"], ["conv1", "conv2"]))
model.fit(
    DataLoader(images(), 4), epochs=2, verbose=0, callbacks=callbacks,
    validation_data=DataLoader(images(8, add=5), 4),
)
save()
