"""denoising-diffusion-pytorch's Trainer: cycled loader, accelerate, EMA, samples in between.

packages: denoising-diffusion-pytorch
"""

import os
import warnings

warnings.filterwarnings("ignore")
import numpy as np
import torch
from denoising_diffusion_pytorch import GaussianDiffusion, Trainer, Unet
from denoising_diffusion_pytorch import denoising_diffusion_pytorch as package
from noting import Notes, save
from PIL import Image
from tqdm.auto import tqdm


def quiet(*values, **options):
    return tqdm(*values, **{**options, "disable": True})


package.tqdm = quiet  # which would say how long things take

os.makedirs("pictures", exist_ok=True)
for number in range(100):
    picture = np.full((16, 16, 3), number * 2, np.uint8)
    Image.fromarray(picture).save(f"pictures/{number:03}.png")
unet = Unet(dim=8, dim_mults=(1, 2), flash_attn=False, attn_dim_head=8, attn_heads=2)
model = GaussianDiffusion(unet, image_size=16, timesteps=10, sampling_timesteps=2)
notes = Notes(model, "model.init_conv")
trainer = Trainer(
    model, "pictures", train_batch_size=8, train_lr=1e-3, train_num_steps=8,
    gradient_accumulate_every=2, save_and_sample_every=4, num_samples=4, calculate_fid=False,
    results_folder="results", num_fid_samples=4,
)
backward = trainer.accelerator.backward


def noting(loss, **options):
    backward(loss, **options)
    notes.batch(*divmod(len(notes.rows), 13), loss)  # 13 batches in the loader


trainer.accelerator.backward = noting
trainer.train()
save()
