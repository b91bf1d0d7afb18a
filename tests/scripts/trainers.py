"""Trainers of libraries, each with a validation in the middle of an epoch.

python trainers.py TRUTH.npz NAME
"""

import logging
import sys
import warnings

import torch
import torch.nn.functional as F
from loops import NOTES, Net, data, new
from torch.utils.data import DataLoader

warnings.filterwarnings("ignore")


def hugging_face():
    """Hugging Face's Trainer: eval_steps, gradients of two batches."""
    import os

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from transformers import Trainer, TrainingArguments

    class Classifier(Net):
        def forward(self, images=None, labels=None):
            logits = super().forward(images)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    model, notes = new("HuggingFace", Classifier)

    class Noting(Trainer):
        def training_step(self, model, inputs, *args, **kwargs):
            notes.before()
            loss = super().training_step(model, inputs, *args, **kwargs)
            number = len(notes.rows)
            notes.after_call(*divmod(number, 6), loss)
            return loss

    def collate(rows):
        images, labels = zip(*rows)
        return {"images": torch.stack(images), "labels": torch.stack(labels)}

    arguments = TrainingArguments(
        "out", num_train_epochs=2, per_device_train_batch_size=4, gradient_accumulation_steps=2,
        eval_strategy="steps", eval_steps=2, save_strategy="no", report_to=[], disable_tqdm=True,
        use_cpu=True, remove_unused_columns=False, logging_strategy="no", seed=1,
    )  # fmt: skip
    Noting(
        model, arguments, data_collator=collate, train_dataset=data(), eval_dataset=data(8, add=5)
    ).train()


def lightning():
    """Lightning: val_check_interval, two loaders at once."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    import lightning as L
    from lightning.pytorch.utilities import CombinedLoader

    class Module(L.LightningModule):
        def __init__(self, model, notes, both):
            super().__init__()
            self.net, self.notes, self.both = model, notes, both

        def training_step(self, batch, number):
            self.notes.before()
            (x, y), (u, _) = batch if self.both else (batch, (None, None))
            loss = F.cross_entropy(self.net(x), y)
            if self.both:
                loss = loss + self.net(u).square().mean()
            self.notes.after_call(self.current_epoch, number, loss)
            return loss

        def validation_step(self, batch, number):
            self.net(batch[0])

        def configure_optimizers(self):
            return torch.optim.SGD(self.net.parameters(), 0.01)

    for name, both in (("ValCheck", False), ("Combined", True)):
        model, notes = new(name)
        train = DataLoader(data(), 4)
        if both:
            train = CombinedLoader([train, DataLoader(data(seed=1, add=3), 4)], "max_size_cycle")
        trainer = L.Trainer(
            max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, val_check_interval=2,
        )  # fmt: skip
        trainer.fit(Module(model, notes, both), train, DataLoader(data(8, add=5), 4))


if __name__ == "__main__":
    from loops import save

    torch.manual_seed(0)
    globals()[sys.argv[2]]()
    assert NOTES
    save(sys.argv[1])
