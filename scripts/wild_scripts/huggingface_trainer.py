"""Hugging Face's Trainer: eval_steps, gradients of two batches, a ViT.

packages: transformers, accelerate
"""

import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import torch
from noting import Notes, images, save
from transformers import PrinterCallback, Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

model = ViTForImageClassification(
    ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
              image_size=32, patch_size=8, num_labels=2)
)
notes = Notes(model, "vit.embeddings.patch_embeddings.projection")


class Noting(Trainer):
    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        notes.batch(*divmod(len(notes.rows), 6), loss)
        return loss


def collate(rows):
    pictures, labels = zip(*rows)
    return {"pixel_values": torch.stack(pictures), "labels": torch.stack(labels)}


arguments = TrainingArguments(
    "out", num_train_epochs=2, per_device_train_batch_size=4, gradient_accumulation_steps=2,
    eval_strategy="steps", eval_steps=2, save_strategy="no", report_to=[], disable_tqdm=True,
    use_cpu=True, remove_unused_columns=False, logging_strategy="no", seed=1,
)
trainer = Noting(
    model, arguments, data_collator=collate, train_dataset=images(), eval_dataset=images(8, add=5)
)
trainer.remove_callback(PrinterCallback)  # what it prints says how long things took
trainer.train()
save()
