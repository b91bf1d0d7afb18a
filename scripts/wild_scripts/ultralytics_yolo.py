"""ultralytics: YOLO on images from the disk.

packages: ultralytics, torchvision
"""

import os
import shutil

import numpy as np
import torchvision
from noting import Notes, save
from PIL import Image
from ultralytics import YOLO
from ultralytics.utils import LOGGER
from ultralytics.utils.nms import TorchNMS

torchvision.ops.nms = TorchNMS.nms  # torchvision's own is not there beside a CPU build of torch
LOGGER.setLevel("ERROR")
for part, count in (("train", 16), ("val", 4)):
    shutil.rmtree(f"data/{part}", ignore_errors=True)
    os.makedirs(f"data/{part}/images")
    os.makedirs(f"data/{part}/labels")
    for number in range(count):
        picture = np.random.RandomState(number).randint(0, 60, (64, 64, 3)) + number * 12
        Image.fromarray(picture.astype(np.uint8)).save(f"data/{part}/images/{number}.png")
        with open(f"data/{part}/labels/{number}.txt", "w") as file:
            file.write("0 0.5 0.5 0.4 0.4\n")
with open("data.yaml", "w") as file:
    file.write(f"path: {os.getcwd()}/data\ntrain: train/images\nval: val/images\nnames: [thing]\n")


def begin(trainer):
    global notes
    notes = Notes(trainer.model, "model.1.conv")


def noting(trainer):
    number = len(notes.rows)
    notes.batch(*divmod(number, 4), trainer.loss.detach())


yolo = YOLO("yolov8n.yaml")
yolo.add_callback("on_train_start", begin)
yolo.add_callback("on_train_batch_end", noting)
yolo.train(
    data="data.yaml", epochs=2, imgsz=64, batch=4, workers=0, device="cpu", val=False, save=False,
    plots=False, amp=False, verbose=False, seed=0, project=os.path.abspath("runs"), optimizer="SGD",
)
save()
