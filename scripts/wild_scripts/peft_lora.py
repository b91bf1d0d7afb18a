"""peft: LoRA on Hugging Face's ViT.

packages: peft, transformers
"""

import torch
from noting import Notes, images, save
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import ViTConfig, ViTForImageClassification

base = ViTForImageClassification(
    ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
              image_size=32, patch_size=8, num_labels=2)
)
where = [name for name, module in base.named_modules() if isinstance(module, torch.nn.Linear)
         and ".layer" in name and name.rsplit(".")[-1] in ("query", "value", "q_proj", "v_proj")]
model = get_peft_model(
    base, LoraConfig(r=2, target_modules=where, modules_to_save=["classifier"])
)
notes = Notes(model, "base_model.model." + where[-1])
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3)
for epoch in range(2):
    model.train()
    for number, (x, y) in enumerate(DataLoader(images(), 4, shuffle=True)):
        loss = model(pixel_values=x, labels=y).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        notes.batch(epoch, number, loss)
save()
