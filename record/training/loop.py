"""Runs the built-in training, with or without a recorder.

The training is the same to the bit with and without a recorder: nothing here draws a random number
or touches the model on the recorder's behalf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.utils.data import DataLoader

from record.recorder import Recorder
from record.training import checkpoint as checkpoints
from record.training import models
from record.training.data import Data
from record.training.setup import Run, leaves_one, set_seed


@dataclass(frozen=True)
class Report:
    """How the training stands after a batch.

    Attributes:
        epoch: The epoch, from 0.
        batch: The batch within the epoch, from 0.
        batches: The number of batches in an epoch.
        loss: The mean loss of the epoch so far.
        accuracy: The share of the epoch's training samples classified correctly so far.
    """

    epoch: int
    batch: int
    batches: int
    loss: float
    accuracy: float


def train(
    run: Run,
    recorder: Recorder | None = None,
    progress: Callable[[Report], None] | None = None,
) -> float:
    """Trains the model with Adam and a one-cycle learning rate.

    Args:
        run: What `prepare` made ready.
        recorder: Records the run; None trains without.
        progress: Called with a report after each batch; None for nobody.

    Returns:
        The share of the test samples classified correctly.
    """
    settings, model, device = run.settings, run.model, run.device
    set_seed(settings.seed)
    shuffle = torch.Generator().manual_seed(settings.seed)
    loader = DataLoader(
        run.data.train,
        batch_size=settings.batch_size,
        shuffle=True,
        num_workers=settings.workers,
        generator=shuffle,
        pin_memory=device.type == "cuda",
        persistent_workers=settings.workers > 0,
        drop_last=leaves_one(len(cast(Sized, run.data.train)), settings.batch_size),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=run.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=run.lr, total_steps=max(2, settings.epochs * run.batches)
    )
    half = torch.bfloat16 if device.type == "cpu" else torch.float16
    scaler = torch.amp.GradScaler(device.type, enabled=settings.amp and device.type == "cuda")
    parts = checkpoints.StatefulParts(model, optimizer, schedule, scaler, shuffle)
    if run.state is not None:
        checkpoints.restore(run.state, parts)
    forward = torch.compile(model) if settings.compile else model
    model.train()
    for epoch in range(run.start, settings.epochs):
        batches: Iterable[Any] = loader if recorder is None else recorder.track(loader)
        seen, correct, total = 0, 0, 0.0
        for number, (images, labels) in enumerate(batches):
            images = images.to(device, non_blocking=True)
            labels = labels.to(device, non_blocking=True)
            with torch.autocast(device.type, dtype=half, enabled=settings.amp):
                logits, auxiliary = models.logits_and_auxiliary(forward(images))
                loss = nn.functional.cross_entropy(logits, labels)
                for head in auxiliary:
                    weight = models.auxiliary_weight(len(auxiliary))
                    loss = loss + weight * nn.functional.cross_entropy(head, labels)
            optimizer.zero_grad(set_to_none=True)
            lr = schedule.get_last_lr()[0]
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
            if epoch * run.batches + number + 1 < settings.epochs * run.batches:
                schedule.step()
            predictions = logits.detach().argmax(dim=1)
            if recorder is not None:
                recorder.log(loss=loss, lr=lr, label=labels[0], prediction=predictions[0])
            if progress is not None:
                seen += len(labels)
                correct += int((predictions == labels).sum())
                total += float(loss.detach()) * len(labels)
                progress(Report(epoch, number, run.batches, total / seen, correct / seen))
        if settings.checkpoint is not None:
            if recorder is not None:
                recorder.flush()  # what the checkpoint is ahead of would be missing for good
            checkpoints.save(settings.checkpoint, settings, epoch + 1, parts)
    return evaluate(model, run.data, settings.batch_size, device)


def evaluate(model: nn.Module, data: Data, batch_size: int, device: torch.device) -> float:
    """Returns the share of the test samples that the model classifies correctly."""
    was_training = model.training
    model.eval()
    correct = seen = 0
    with torch.no_grad():
        for images, labels in DataLoader(data.test, batch_size=batch_size):
            logits, _ = models.logits_and_auxiliary(model(images.to(device)))
            correct += int((logits.argmax(dim=1).cpu() == labels).sum())
            seen += len(labels)
    model.train(was_training)
    return correct / max(1, seen)
