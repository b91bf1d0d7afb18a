"""What others import: torchvision beside another torch, frameworks that import it, torch itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from record.torchvision_import import import_torchvision
from replay.schema import OptionError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "recipes.md"

QUIET = "import warnings; warnings.simplefilter('ignore')\n"
DATA = """
import torch
torch.set_num_threads(1)
torch.manual_seed(0)
images = [(torch.randn(3, 8, 8), torch.tensor(i % 3)) for i in range(8)]
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 4, 3)
        self.fc = torch.nn.Linear(4, 3)
    def forward(self, pixel_values, labels=None):
        logits = self.fc(self.conv1(pixel_values).mean((2, 3)))
        if labels is None:
            return logits
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}
"""
LIGHTNING = """
from lightning.pytorch import LightningModule
class Model(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = Net()
    def training_step(self, batch, batch_idx):
        return self.net(*batch)["loss"]
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)
model, loader = Model(), torch.utils.data.DataLoader(images, 4)
"""
HUGGING_FACE = """
from transformers import Trainer, TrainingArguments
arguments = TrainingArguments(output_dir="out", num_train_epochs=2, per_device_train_batch_size=4,
    save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True)
rows = [{"pixel_values": image, "labels": label} for image, label in images]
"""
TRAIN = "Trainer(model=Net(), args=arguments, train_dataset=rows{}).train()\n"


def recipe(title: str) -> str:
    return re.findall(rf"^## {title}\n.*?^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)[0]


@pytest.fixture
def beside_cpu() -> None:
    """Fails to apply where there is no torchvision, or one that fits."""
    try:
        import_torchvision()
    except OptionError as error:
        pytest.skip(f"not tested: {error}")


def python(code: str, folder: Path, *words: str, site: Path | None = None) -> str:
    """Runs a script in a process of its own; what it printed.

    Args:
        code: The script.
        folder: Where it runs.
        words: What stands before the script, `-m record run`, say.
        site: A folder of packages whose .pth files Python runs at its start.
    """
    script = folder / "script.py"
    script.write_text(code)
    paths = [str(ROOT)]
    if site is not None:
        (folder / "start").mkdir(exist_ok=True)
        start = f"import site; site.addsitedir({str(site)!r})\n"
        (folder / "start" / "sitecustomize.py").write_text(start)
        paths = [str(folder / "start"), *paths]
    done = subprocess.run(
        [sys.executable, *words, str(script)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def make_site(folder: Path) -> Path:
    """The packages of an environment of its own, into which scripts/setup's step was installed."""
    venv.create(folder, with_pip=False)
    install = ROOT / "scripts" / "setup_tools" / "install_operators"
    subprocess.run([str(install), str(folder)], cwd=ROOT, check=True, timeout=60)
    (site,) = folder.glob("lib/python*/site-packages")
    assert [found.name for found in site.glob("*.pth")] == ["mapreel-operators.pth"]
    return site


def need(name: str) -> None:
    pytest.importorskip(name, reason=f"not tested: {name} is missing")


def test_importing_record_imports_no_torch() -> None:
    code = "import record, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.usefixtures("beside_cpu")
def test_others_import_torchvision_after_record(tmp_path: Path) -> None:
    code = QUIET + (
        "import importlib.util, record\n"
        "assert importlib.util.find_spec('torchvision')\n"  # as frameworks ask whether it is there
        "try:\n    from torchvision import transforms\nexcept ImportError:\n    raise SystemExit(3)\n"
        "import torch, torchvision\n"
        "assert torchvision.models.resnet18\n"
        "spec = torchvision._meta_registrations.__spec__\n"
        "assert type(spec.loader).__name__ == 'SourceFileLoader', spec.loader\n"
        "print(torchvision.transforms.Resize(4)(torch.zeros(3, 8, 8)).shape[-1])\n"
    )
    assert python(code, tmp_path) == "4\n"


@pytest.mark.usefixtures("beside_cpu")
def test_what_is_there_is_not_declared(tmp_path: Path) -> None:
    """A torchvision whose operators did load, or a torch for CUDA, is left alone."""
    code = QUIET + (
        "import torch, record.torchvision_operators as operators\n"
        "made = torch.library.Library('torchvision', 'FRAGMENT')\n"
        "schema = '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'\n"
        "made.define('nms' + schema)\n"
        "operators.declare({'nms', 'qnms'})\n"
        "assert len(operators._libraries) == 1\n"
        "torch.version.cuda = '13.0'\n"
        "operators.declare({'another'})\n"
        "assert len(operators._libraries) == 1\n"
        "import torchvision\n"
    )
    python(code, tmp_path)


def test_another_reason_is_said_as_without_us(tmp_path: Path) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("from torchvision import _meta_registrations\n")
    (package / "_meta_registrations.py").write_text("raise RuntimeError('another reason')\n")
    code = (
        "import record\n"
        "try:\n    import torchvision\nexcept RuntimeError as error:\n    print(error)\n"
    )
    assert python(code, tmp_path) == "another reason\n"


def test_to_ask_whether_torch_is_there_is_not_to_import_it(tmp_path: Path) -> None:
    """`record run` had lost sight of a script that asked first."""
    code = (
        "import importlib.util\n"
        "spec = importlib.util.find_spec('torch')\n"
        "assert spec.loader.get_filename('torch') == spec.origin\n"
        "import torch\n"
        "net = torch.nn.Conv2d(1, 1, 1)\n"
        "optimizer = torch.optim.SGD(net.parameters(), 0.1)\n"
        "for _ in range(3):\n"
        "    net(torch.ones(1, 1, 2, 2)).sum().backward()\n"
        "    optimizer.step()\n"
    )
    python(code, tmp_path, "-m", "record", "run")
    assert (tmp_path / "run.h5").is_file()


@pytest.mark.usefixtures("beside_cpu")
@pytest.mark.parametrize("way", ["plain", "setup"])
def test_lightnings_recipe_in_a_fresh_process(tmp_path: Path, way: str) -> None:
    need("lightning.pytorch")
    code = recipe("Lightning")
    if way == "setup":  # where any order will do
        site = make_site(tmp_path / "environment")
        python(QUIET + DATA + LIGHTNING + code, tmp_path, site=site)
    else:
        imports = "".join(re.findall(r"^from .*\n", code, re.M))
        python(QUIET + imports + DATA + LIGHTNING + code, tmp_path)
    assert (tmp_path / "run.h5").is_file()


@pytest.mark.usefixtures("beside_cpu")
@pytest.mark.parametrize("way", ["recipe", "setup", "record run"])
def test_hugging_faces_recipe_in_a_fresh_process(tmp_path: Path, way: str) -> None:
    need("transformers")
    need("accelerate")
    code = QUIET + recipe("Hugging Face") + DATA + HUGGING_FACE
    train = TRAIN.format(', callbacks=[RecordFeatureMaps("run.h5")]')
    if way == "recipe":
        python(code + train, tmp_path)
    elif way == "setup":
        code = QUIET + DATA + HUGGING_FACE + recipe("Hugging Face")
        python(code + train, tmp_path, site=make_site(tmp_path / "environment"))
    else:
        python(QUIET + DATA + HUGGING_FACE + TRAIN.format(""), tmp_path, "-m", "record", "run")
    assert (tmp_path / "run.h5").is_file()
