"""Training loops in the manner of real ones, one after the other, each with a model of its own.

python loops.py TRUTH.npz [NAME ...]

Nothing here knows of a recorder. What each loop trains on is noted by a hook of its own: epoch,
batch, the first image of the batch, what its convolution made of it, the loss.
"""

import copy
import itertools
import sys

import numpy as np
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)
LOOPS = {}
NOTES = {}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.head = nn.Linear(108, 2)

    def forward(self, x):
        return self.head(F.relu(self.conv(x)).flatten(1))


def loop(function):
    LOOPS[function.__name__] = function
    return function


def new(name, *bases):
    """A model of a class of its own, and the notes on it."""
    model = type(name, bases or (Net,), {})()
    NOTES[name] = Notes(model.conv)
    return model, NOTES[name]


class Notes:
    """What was trained on: `before` each batch, `after` it with the loss."""

    def __init__(self, conv):
        self.rows = []
        self.seen = []
        conv.register_forward_hook(lambda module, args, output: self.seen.append((args, output)))

    def before(self):
        self.seen.clear()

    def after(self, epoch, batch, loss, forward=0):
        (image, *_), output = self.seen[forward]
        row = (image[0], output[0])
        self.rows.append(
            ((epoch, batch), *(t.detach().half().numpy().copy() for t in row), loss.item())
        )


    def after_call(self, epoch, batch, loss):
        """Of the batch's first forward; the loss may be a tensor with its history."""
        self.after(epoch, batch, loss.detach())


def data(count=24, seed=0, add=0.0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.arange(float(count)).reshape(-1, 1, 1, 1) / count + add
    images = images + 0.1 * torch.rand(count, 1, 8, 8, generator=generator)
    return TensorDataset(images, torch.randint(0, 2, (count,), generator=generator))


def sgd(model):
    return torch.optim.SGD(model.parameters(), 0.01)


def step(model, optimizer, x, y):
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def two_epochs(model, optimizer, notes):
    for epoch in range(2):
        for batch, (x, y) in enumerate(DataLoader(data(12), 4)):
            notes.before()
            notes.after(epoch, batch, step(model, optimizer, x, y))


def evaluate(model, loader, leave=None):
    model.eval()
    with torch.no_grad():
        for number, (x, _) in enumerate(loader):
            model(x)
            if number == leave:
                break
    model.train()


@loop
def mid_validation():
    """A validation every three steps (Hugging Face's eval_steps, Lightning's val_check_interval)."""
    model, notes = new("MidValidation")
    train, val, optimizer = DataLoader(data(), 4, shuffle=True), DataLoader(data(add=5), 8), sgd(model)
    steps = 0
    for epoch in range(2):
        for batch, (x, y) in enumerate(train):
            notes.before()
            notes.after(epoch, batch, step(model, optimizer, x, y))
            steps += 1
            if steps % 3 == 0:
                evaluate(model, val, leave=1 if epoch else None)


@loop
def left_early():
    """Epochs that are left by break, each in a loader of its own."""
    model, notes = new("LeftEarly")
    optimizer = sgd(model)
    for epoch in range(3):
        for batch, (x, y) in enumerate(DataLoader(data(), 4)):
            notes.before()
            notes.after(epoch, batch, step(model, optimizer, x, y))
            if batch == 3:
                break


def two_at_once(model, notes, optimizer, epoch, pairs):
    for batch, ((x, y), (u, _)) in enumerate(pairs):
        notes.before()
        loss = F.cross_entropy(model(x), y) + model(u).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        notes.after(epoch, batch, loss)


@loop
def zipped():
    """Two loaders side by side."""
    model, notes = new("Zipped")
    a, b, optimizer = DataLoader(data(), 4), DataLoader(data(seed=1, add=3), 4), sgd(model)
    for epoch in range(2):
        two_at_once(model, notes, optimizer, epoch, zip(a, b))


@loop
def zipped_cycle():
    """A short loader that is cycled beside a long one."""
    model, notes = new("ZippedCycle")
    a, b, optimizer = DataLoader(data(8), 4), DataLoader(data(seed=1, add=3), 4), sgd(model)
    for epoch in range(2):
        two_at_once(model, notes, optimizer, epoch, zip(itertools.cycle(a), b))


@loop
def cycled():
    """Steps over a cycled loader: one epoch."""
    model, notes = new("Cycled")
    optimizer = sgd(model)
    batches = itertools.cycle(DataLoader(data(12), 4))
    for number in range(8):
        x, y = next(batches)
        notes.before()
        notes.after(0, number, step(model, optimizer, x, y))


@loop
def begun_anew():
    """next(iter(loader)) for each step: one epoch."""
    model, notes = new("BegunAnew")
    loader, optimizer = DataLoader(data(), 4, shuffle=True), sgd(model)
    for number in range(8):
        x, y = next(iter(loader))
        notes.before()
        notes.after(0, number, step(model, optimizer, x, y))


@loop
def restarted():
    """An iterator that is made anew where it ends."""
    model, notes = new("Restarted")
    loader, optimizer = DataLoader(data(12), 4), sgd(model)
    iterator = iter(loader)
    epoch = batch = 0
    for _ in range(8):
        try:
            x, y = next(iterator)
        except StopIteration:
            iterator = iter(loader)
            x, y = next(iterator)
            epoch, batch = epoch + 1, 0
        notes.before()
        notes.after(epoch, batch, step(model, optimizer, x, y))
        batch += 1


def ahead(loader, copied):
    """The batch before the one that was asked for last, copied as to a GPU."""
    iterator = iter(loader)
    following = next(iterator)
    while following is not None:
        batch, following = following, next(iterator, None)
        yield [part.clone() for part in batch] if copied else batch


@loop
def prefetched():
    """One batch is asked for ahead, and copied, so that nothing of it is recognised."""
    model, notes = new("Prefetched")
    loader, val, optimizer = DataLoader(data(), 4), DataLoader(data(add=5), 8), sgd(model)
    for epoch in range(3):
        for batch, (x, y) in enumerate(ahead(loader, copied=True)):
            notes.before()
            notes.after(epoch, batch, step(model, optimizer, x, y))
        evaluate(model, val)


@loop
def persistent():
    """A loader whose worker and iterator stay over the epochs, and a validation in between."""
    model, notes = new("Persistent")
    train = DataLoader(data(16), 4, num_workers=1, persistent_workers=True)
    val, optimizer = DataLoader(data(8, add=5), 8), sgd(model)
    for epoch in range(2):
        for batch, (x, y) in enumerate(train):
            notes.before()
            notes.after(epoch, batch, step(model, optimizer, x, y))
            if batch == 1:
                evaluate(model, val)


class Endless:
    """A sampler that begins again by itself."""

    def __init__(self, sampler):
        self.sampler = sampler

    def __iter__(self):
        while True:
            yield from iter(self.sampler)


class MultiEpochs(DataLoader):
    """In the manner of timm's: one iterator for all epochs."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._DataLoader__initialized = False
        self.batch_sampler = Endless(self.batch_sampler)
        self._DataLoader__initialized = True
        self.iterator = super().__iter__()

    def __len__(self):
        return len(self.batch_sampler.sampler)

    def __iter__(self):
        for _ in range(len(self)):
            yield next(self.iterator)


class Infinite(DataLoader):
    """In the manner of ultralytics': the iterator does not come from DataLoader.__iter__."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        object.__setattr__(self, "batch_sampler", Endless(self.batch_sampler))
        self.iterator = self._get_iterator()

    def __len__(self):
        return len(self.batch_sampler.sampler)

    def __iter__(self):
        for _ in range(len(self)):
            yield next(self.iterator)


@loop
def multi_epochs():
    """timm's training: an endless iterator, gradients of two batches, an average that is validated."""
    model, notes = new("MultiEpochsNet")
    average = torch.optim.swa_utils.AveragedModel(model)
    train, val, optimizer = MultiEpochs(data(32), 4), DataLoader(data(8, add=5), 4), sgd(model)
    for epoch in range(2):
        for batch, (x, y) in enumerate(train):
            notes.before()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            if batch % 2:
                optimizer.step()
                optimizer.zero_grad()
                average.update_parameters(model)
            notes.after(epoch, batch, loss)
            if batch == 4:
                evaluate(model, val)
        evaluate(average, val)


@loop
def infinite():
    """ultralytics' training."""
    model, notes = new("InfiniteNet")
    train, val, optimizer = Infinite(data(16), 4), DataLoader(data(8, add=5), 4), sgd(model)
    for epoch in range(3):
        for batch, (x, y) in enumerate(train):
            notes.before()
            notes.after(epoch, batch, step(model, optimizer, x, y))
        evaluate(model, val)


@loop
def listed():
    """Batches that are put into a list, and shuffled."""
    model, notes = new("Listed")
    batches, optimizer = list(DataLoader(data(16), 4)), sgd(model)
    for epoch in range(3):
        for batch, (x, y) in enumerate(batches):
            notes.before()
            notes.after(epoch, batch, step(model, optimizer, x, y))
        batches = batches[1:] + batches[:1]


class Prepared(torch.utils.data.Dataset):
    """Batches as they are handed out: slices of one tensor, or each in the memory of the last."""

    def __init__(self, add=0.0, buffer=None):
        self.images, self.labels = data(16, add=add).tensors
        self.buffer = buffer

    def __len__(self):
        return 4

    def __getitem__(self, number):
        part = slice(4 * number, 4 * number + 4)
        images = self.images[part]
        return images if self.buffer is None else self.buffer.copy_(images), self.labels[part]


def train_on_prepared(name, buffer):
    model, notes = new(name)
    train, val = (DataLoader(Prepared(add, buffer), batch_size=None) for add in (0.0, 5.0))
    optimizer = sgd(model)
    for epoch in range(3):
        batch = 0
        for number, (x, y) in enumerate(train):
            if epoch == 1 and number == 1:
                continue  # a batch that the script does without
            notes.before()
            loss = F.cross_entropy(model(x), y) + model(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            notes.after_call(epoch, batch, loss)
            batch += 1
        evaluate(model, val, leave=1 if epoch else None)


@loop
def sliced():
    """A loader hands out slices of one tensor, which have its memory in common."""
    train_on_prepared("Sliced", None)


@loop
def reused():
    """A loader copies each batch into the same memory."""
    train_on_prepared("Reused", torch.empty(4, 1, 8, 8))


@loop
def cut():
    """One batch of the loader is cut into four steps."""
    model, notes = new("Cut")
    loader, optimizer = DataLoader(data(), 8), sgd(model)
    for epoch in range(2):
        batch = 0
        for x, y in loader:
            for some, labels in zip(x.chunk(4), y.chunk(4)):
                notes.before()
                notes.after(epoch, batch, step(model, optimizer, some, labels))
                batch += 1


@loop
def fetched_together():
    """Micro-batches that are asked for together (Hugging Face's get_batch_samples)."""
    model, notes = new("FetchedTogether")
    optimizer = sgd(model)
    for epoch in range(2):
        iterator, batch = iter(DataLoader(data(), 4)), 0
        for _ in range(2):
            optimizer.zero_grad()
            for x, y in [next(iterator) for _ in range(3)]:
                notes.before()
                loss = F.cross_entropy(model(x), y) / 3
                loss.backward()
                notes.after(epoch, batch, loss)
                batch += 1
            optimizer.step()


@loop
def all_forwards_first():
    """All forwards of three micro-batches, then all backward passes."""
    model, notes = new("AllForwardsFirst")
    optimizer, iterator = sgd(model), iter(DataLoader(data(), 4))
    for number in range(2):
        optimizer.zero_grad()
        notes.before()
        losses = [F.cross_entropy(model(x), y) for x, y in [next(iterator) for _ in range(3)]]
        for place, loss in enumerate(losses):
            loss.backward()
            notes.after(0, 3 * number + place, loss, forward=place)
        optimizer.step()


@loop
def dry_runs():
    """Forwards in training mode that nobody trains on: a check of shapes, a calibration."""
    model, notes = new("DryRuns")
    loader, optimizer = DataLoader(data(12), 4), sgd(model)
    print(model(torch.zeros(1, 1, 8, 8)).shape)
    shape = model(torch.zeros(2, 1, 8, 8))  # kept
    for epoch in range(2):
        for batch, (x, y) in enumerate(loader):
            notes.before()
            notes.after(epoch, batch, step(model, optimizer, x, y))
            with torch.no_grad():
                model(x + 1)
        for x, _ in loader:
            shape = model(x + 9)
    del shape


@loop
def closures():
    """LBFGS: several forwards in a step."""
    model, notes = new("Closures")
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    for epoch in range(2):
        for batch, (x, y) in enumerate(DataLoader(data(12), 4)):
            losses = []

            def closure():
                optimizer.zero_grad()
                losses.append(F.cross_entropy(model(x), y))
                losses[-1].backward()
                return losses[-1]

            notes.before()
            optimizer.step(closure)
            notes.after(epoch, batch, losses[0])


@loop
def sharpness():
    """SAM: a step up, a second forward, a step from where it began."""
    model, notes = new("Sharpness")
    optimizer = sgd(model)
    for epoch in range(2):
        for batch, (x, y) in enumerate(DataLoader(data(12), 4)):
            notes.before()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            with torch.no_grad():
                ups = [0.05 * p.grad / p.grad.norm() for p in model.parameters()]
                for p, up in zip(model.parameters(), ups):
                    p.add_(up)
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            with torch.no_grad():
                for p, up in zip(model.parameters(), ups):
                    p.sub_(up)
            optimizer.step()
            optimizer.zero_grad()
            notes.after(epoch, batch, loss)


class Maker(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.ConvTranspose2d(4, 1, 8)

    def forward(self, z):
        return self.conv(z)


@loop
def wasserstein():
    """WGAN with next(): three steps of the critic, one of the generator."""
    critic, notes = new("Critic")
    maker, makers = new("WMaker", Maker)
    loader = DataLoader(data(), 4)
    of_critic, of_maker = sgd(critic), sgd(maker)
    iterator = iter(loader)
    for number in range(2):
        for place in range(3):
            x, _ = next(iterator)
            fake = maker(torch.randn(4, 4, 1, 1)).detach()
            notes.before()
            loss = critic(fake).mean() - critic(x).mean()
            of_critic.zero_grad()
            loss.backward()
            of_critic.step()
            notes.after(0, 3 * number + place, loss)
        makers.before()
        loss = -critic(maker(torch.randn(4, 4, 1, 1))).mean()
        of_maker.zero_grad()
        loss.backward()
        of_maker.step()
        makers.after(0, number, loss)


class Translator(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x):
        return self.conv(x)


@loop
def cycle_gan():
    """CycleGAN: two translators under one optimizer, two judges under another."""
    (a_to_b, notes_ab), (b_to_a, notes_ba) = new("AToB", Translator), new("BToA", Translator)
    (judge_a, notes_a), (judge_b, notes_b) = new("JudgeA"), new("JudgeB")
    of_makers = torch.optim.SGD([*a_to_b.parameters(), *b_to_a.parameters()], 0.01)
    of_judges = torch.optim.SGD([*judge_a.parameters(), *judge_b.parameters()], 0.01)
    a, b = DataLoader(data(12), 4), DataLoader(data(12, seed=1, add=3), 4)
    for epoch in range(2):
        for batch, ((real_a, _), (real_b, _)) in enumerate(zip(a, b)):
            notes = (notes_ab, notes_ba, notes_a, notes_b)
            for one in notes:
                one.before()
            for judge in (judge_a, judge_b):
                judge.requires_grad_(False)
            fake_b = a_to_b(real_a)
            round_a = b_to_a(fake_b)
            fake_a = b_to_a(real_b)
            round_b = a_to_b(fake_a)
            made = judge_b(fake_b).mean() + judge_a(fake_a).mean()
            made = made + (round_a - real_a).abs().mean() + (round_b - real_b).abs().mean()
            of_makers.zero_grad()
            made.backward()
            of_makers.step()
            for judge in (judge_a, judge_b):
                judge.requires_grad_(True)
            of_judges.zero_grad()
            losses = []
            for judge, real, fake in ((judge_a, real_a, fake_a), (judge_b, real_b, fake_b)):
                losses.append(judge(fake.detach()).mean() - judge(real).mean())
                losses[-1].backward()
            of_judges.step()
            notes_ab.after(epoch, batch, made)
            notes_ba.after(epoch, batch, made)
            notes_a.after(epoch, batch, losses[0], forward=1)
            notes_b.after(epoch, batch, losses[1], forward=1)


@loop
def fix_match():
    """FixMatch: labels for one loader's images by the model itself, one forward for all images."""
    model, notes = new("FixMatch")
    labelled, others = DataLoader(data(12), 4), DataLoader(data(12, seed=1, add=3), 4)
    optimizer = sgd(model)
    for epoch in range(2):
        for batch, ((x, y), (u, _)) in enumerate(zip(labelled, others)):
            with torch.no_grad():
                guessed = model(u).argmax(1)
            notes.before()
            out = model(torch.cat([x, u + 0.1]))
            loss = F.cross_entropy(out[:4], y) + F.cross_entropy(out[4:], guessed)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            notes.after(epoch, batch, loss)


@loop
def by_grad():
    """torch.autograd.grad gives the gradients."""
    model, notes = new("ByGrad")
    optimizer = sgd(model)
    for epoch in range(2):
        for batch, (x, y) in enumerate(DataLoader(data(12), 4)):
            notes.before()
            loss = F.cross_entropy(model(x), y)
            for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters()))):
                p.grad = g
            optimizer.step()
            notes.after(epoch, batch, loss)


@loop
def attacked():
    """PGD: the image is changed by its gradient, and the changed one is trained on."""
    model, notes = new("Attacked")
    optimizer = sgd(model)
    for epoch in range(2):
        for batch, (x, y) in enumerate(DataLoader(data(12), 4)):
            changed = x.clone().requires_grad_()
            for _ in range(2):
                (up,) = torch.autograd.grad(F.cross_entropy(model(changed), y), changed)
                changed = (changed + 0.1 * up.sign()).detach().requires_grad_()
            notes.before()
            notes.after(epoch, batch, step(model, optimizer, changed.detach(), y))


@loop
def careless_validation():
    """A validation that forgets eval() and no_grad()."""
    model, notes = new("CarelessValidation")
    train, val, optimizer = DataLoader(data(12), 4), DataLoader(data(12, add=5), 4), sgd(model)
    for epoch in range(2):
        for batch, (x, y) in enumerate(train):
            notes.before()
            notes.after(epoch, batch, step(model, optimizer, x, y))
        for x, y in val:
            out = model(x)
    del out


@loop
def no_loader():
    """Batches from nowhere, with a step behind every second one."""
    model, notes = new("NoLoader")
    images, labels = data(12).tensors
    optimizer = sgd(model)
    for number in range(6):
        x, y = images[2 * number : 2 * number + 2] + 0, labels[2 * number : 2 * number + 2]
        notes.before()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if number % 2:
            optimizer.step()
            optimizer.zero_grad()
        notes.after(0, number, loss)


@loop
def whole_set():
    """The same tensor for every step."""
    model, notes = new("WholeSet")
    images, labels = data(12).tensors
    optimizer = sgd(model)
    for number in range(5):
        notes.before()
        notes.after(0, number, step(model, optimizer, images, labels))


@loop
def best_kept():
    """A copy of the best model is kept and evaluated."""
    model, notes = new("BestKept")
    train, val, optimizer = DataLoader(data(12), 4), DataLoader(data(8, add=5), 4), sgd(model)
    for epoch in range(2):
        for batch, (x, y) in enumerate(train):
            notes.before()
            notes.after(epoch, batch, step(model, optimizer, x, y))
        best = copy.deepcopy(model)
        evaluate(best, val)


@loop
def gan_without_loader():
    """A GAN whose images come from nowhere."""
    judge, notes = new("LoneJudge")
    maker, makers = new("LoneMaker", Maker)
    of_judge, of_maker = sgd(judge), sgd(maker)
    images = data().tensors[0]
    for number in range(4):
        real = images[4 * number : 4 * number + 4] + 0
        notes.before()
        makers.before()
        of_judge.zero_grad()
        loss = -judge(real).mean()
        loss.backward()
        fake = maker(torch.randn(4, 4, 1, 1))
        judge(fake.detach()).mean().backward()
        of_judge.step()
        of_maker.zero_grad()
        made = -judge(fake).mean()
        made.backward()
        of_maker.step()
        notes.after(0, number, loss)
        makers.after(0, number, made)


@loop
def by_turns():
    """Two optimizers of one model, each with a forward of its own for each batch."""
    model, notes = new("ByTurns")
    first = torch.optim.SGD(model.conv.parameters(), 0.01)
    second = torch.optim.SGD(model.head.parameters(), 0.01)
    for epoch in range(2):
        for batch, (x, y) in enumerate(DataLoader(data(12), 4)):
            notes.before()
            loss = step(model, first, x, y)
            step(model, second, x, y)
            notes.after(epoch, batch, loss)


@loop
def within_backward():
    """Each parameter has an optimizer that steps within the backward pass."""
    model, notes = new("WithinBackward")
    optimizers = {p: torch.optim.SGD([p], 0.01) for p in model.parameters()}

    def update(p):
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(update)
    for epoch in range(2):
        for batch, (x, y) in enumerate(DataLoader(data(12), 4)):
            notes.before()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            notes.after(epoch, batch, loss)


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(data(12))


@loop
def streamed():
    """An iterable dataset, whose length nobody knows."""
    model, notes = new("Streamed")
    loader, optimizer = DataLoader(Stream(), 4), sgd(model)
    for epoch in range(2):
        for batch, (x, y) in enumerate(loader):
            notes.before()
            notes.after(epoch, batch, step(model, optimizer, x, y))


@loop
def checkpointed():
    """Activations are computed anew in the backward pass."""

    class Saving(Net):
        def forward(self, x):
            x = torch.utils.checkpoint.checkpoint(self.conv, x, use_reentrant=False)
            return self.head(F.relu(x).flatten(1))

    model, notes = new("Checkpointed", Saving)
    optimizer = sgd(model)
    two_epochs(model, optimizer, notes)


@loop
def tried_again():
    """A forward that fails, and is tried again with the same batch, or given up."""

    class Failing(Net):
        fails = 0

        def forward(self, x):
            out = super().forward(x)
            if self.fails:
                self.fails -= 1
                raise RuntimeError("out of memory")
            return out

    model, notes = new("TriedAgain", Failing)
    optimizer, batch = sgd(model), 0
    for number, (x, y) in enumerate(DataLoader(data(), 4)):
        model.fails = (0, 1, 0, 9, 0, 0)[number]
        for _ in range(2):
            notes.before()
            try:
                loss = step(model, optimizer, x, y)
            except RuntimeError:
                continue
            notes.after(0, batch, loss)
            batch += 1
            break
        model.fails = 0


@loop
def volumes():
    """MONAI: 3-D volumes from dictionaries, a validation by windows in each epoch."""

    class Volumes(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(1, 2, 3)
            self.head = nn.Linear(2, 2)

        def forward(self, x):
            return self.head(F.relu(self.conv(x)).mean((2, 3, 4)))

    model, notes = new("VolumesNet", Volumes)
    optimizer = sgd(model)
    rows = [{"image": torch.rand(1, 5, 6, 7), "label": i % 2} for i in range(12)]
    loader = DataLoader(rows, 4, shuffle=True)
    for epoch in range(2):
        for batch, row in enumerate(loader):
            notes.before()
            notes.after(epoch, batch, step(model, optimizer, row["image"], row["label"]))
        model.eval()
        with torch.no_grad():
            for row in DataLoader(rows, 1):
                for z in range(2):
                    model(row["image"][:, :, z : z + 4])
        model.train()


@loop
def detection():
    """torchvision's references: lists of images of several sizes, a model that gives losses."""

    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)

        def forward(self, images, targets=None):
            side = min(image.shape[-1] for image in images)
            maps = F.relu(self.conv(torch.stack([image[..., :side] for image in images])))
            near = maps.mean((1, 2, 3)) - torch.stack([t["boxes"].mean() for t in targets])
            return {"boxes": near.square().mean(), "classes": maps.square().mean()}

    model, notes = new("DetectorNet", Detector)
    optimizer = sgd(model)
    rows = [(torch.rand(1, 8, 9 + i % 3), {"boxes": torch.rand(2, 4)}) for i in range(12)]
    loader = DataLoader(rows, 3, collate_fn=lambda batch: tuple(zip(*batch)))
    for epoch in range(2):
        for batch, (images, targets) in enumerate(loader):
            notes.before()
            loss = sum(model(list(images), targets).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            (given, *_), output = notes.seen[0]
            notes.seen[0] = ([images[0]], *given[1:]), output
            notes.after(epoch, batch, loss)


@loop
def two_views():
    """SimCLR: both views of a batch go through the model before the backward pass."""
    model, notes = new("TwoViews")
    optimizer = sgd(model)
    for epoch in range(2):
        for batch, (x, _) in enumerate(DataLoader(data(12), 4)):
            notes.before()
            a, b = model(x + 0.1 * torch.rand_like(x)), model(x.flip(3))
            loss = -F.cosine_similarity(a, b).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            notes.after(epoch, batch, loss)


@loop
def own_target():
    """BYOL: a slow copy, updated from the fast one, gives the targets without gradients."""
    model, notes = new("Fast")
    slow, optimizer = copy.deepcopy(model), sgd(model)
    slow.conv._forward_hooks.clear()
    for parameter in slow.parameters():
        parameter.requires_grad_(False)
    for epoch in range(2):
        for batch, (x, _) in enumerate(DataLoader(data(12), 4)):
            with torch.no_grad():
                for old, now in zip(slow.parameters(), model.parameters()):
                    old.lerp_(now, 0.1)
            notes.before()
            loss = 2 - 2 * F.cosine_similarity(model(x), slow(x.flip(3))).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            notes.after(epoch, batch, loss)


@loop
def diffusion():
    """A diffusion model: noise of its own in each step, an average, samples in between."""
    model, notes = new("Denoiser")
    average, optimizer = copy.deepcopy(model).eval(), sgd(model)
    average.conv._forward_hooks.clear()
    for epoch in range(2):
        for batch, (x, y) in enumerate(DataLoader(data(12), 4, shuffle=True)):
            notes.before()
            at = torch.rand(len(x), 1, 1, 1)
            noisy = at * x + (1 - at) * torch.randn_like(x)
            notes.after(epoch, batch, step(model, optimizer, noisy, y))
            with torch.no_grad():
                for old, now in zip(average.parameters(), model.parameters()):
                    old.lerp_(now, 0.05)
                for _ in range(2):
                    average(torch.randn(2, 1, 8, 8))


@loop
def segmentation():
    """segmentation-models-pytorch: masks, a dice loss, metrics on a validation with its own loader."""

    class Segmenter(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3, padding=1)
            self.head = nn.Conv2d(3, 1, 1)

        def forward(self, x):
            return self.head(F.relu(self.conv(x)))

    model, notes = new("SegmenterNet", Segmenter)
    optimizer = sgd(model)
    images = data(12)[:][0]
    loader = DataLoader(TensorDataset(images, (images > 0.5).float()), 4, shuffle=True)
    for epoch in range(2):
        for batch, (x, mask) in enumerate(loader):
            notes.before()
            near = model(x).sigmoid()
            loss = 1 - 2 * (near * mask).sum() / (near.sum() + mask.sum() + 1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            notes.after(epoch, batch, loss)
        evaluate(model, DataLoader(TensorDataset(images, images), 6))


@loop
def stepped_first():
    """The optimizer steps before the forward, by the gradients of the batch before."""
    model, notes = new("SteppedFirst")
    optimizer = sgd(model)
    for epoch in range(2):
        for batch, (x, y) in enumerate(DataLoader(data(12), 4)):
            notes.before()
            optimizer.step()
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            notes.after(epoch, batch, loss)


@loop
def primed():
    """A step without gradients before the training, so that a scheduler does not warn."""
    model, notes = new("Primed")
    optimizer = sgd(model)
    optimizer.step()
    two_epochs(model, optimizer, notes)


@loop
def primed_with_zeros():
    """torch.distributed.checkpoint makes the optimizer's state by a step of zeros at rate 0."""
    model, notes = new("PrimedWithZeros")
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    with torch.no_grad():
        model(data(4).tensors[0])
    get_optimizer_state_dict(model, optimizer)
    two_epochs(model, optimizer, notes)


@loop
def primed_by_hand():
    """The same with a rate, as by hand before an optimizer's state is loaded."""
    model, notes = new("PrimedByHand")
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    two_epochs(model, optimizer, notes)


@loop
def gan_by_turns():
    """A GAN whose two models are trained by turns, a batch each; the judge twice in three."""
    judge, notes = new("TurnJudge")
    maker, makers = new("TurnMaker", Maker)
    of_judge, of_maker = sgd(judge), sgd(maker)
    loader = DataLoader(data(24), 4)
    for epoch in range(2):
        done = [0, 0]
        for number, (x, _) in enumerate(loader):
            notes.before()
            makers.before()
            fake = maker(torch.randn(4, 4, 1, 1))
            if number % 3 == 1:
                of_maker.zero_grad()
                made = -judge(fake).mean()
                made.backward()
                of_maker.step()
                makers.after(epoch, done[0], made)
                done[0] += 1
            else:
                loss = judge(fake.detach()).mean() - judge(x).mean()
                of_judge.zero_grad(set_to_none=epoch > 0)
                loss.backward()
                of_judge.step()
                notes.after(epoch, done[1], loss)
                done[1] += 1


@loop
def not_detached():
    """A GAN whose judge's loss goes through the maker, too, whose gradients are thrown away."""
    judge, notes = new("OpenJudge")
    maker, makers = new("OpenMaker", Maker)
    of_judge, of_maker = sgd(judge), sgd(maker)
    for epoch in range(2):
        for batch, (x, _) in enumerate(DataLoader(data(12), 4)):
            notes.before()
            of_judge.zero_grad()
            loss = -judge(x).mean()
            loss.backward()
            judge(maker(torch.randn(4, 4, 1, 1))).mean().backward()
            of_judge.step()
            notes.after(epoch, batch, loss)
            makers.before()
            of_maker.zero_grad()
            made = -judge(maker(torch.randn(4, 4, 1, 1))).mean()
            made.backward()
            of_maker.step()
            makers.after(epoch, batch, made)


@loop
def attacked_once():
    """FGSM: the gradient by the image is of a backward pass; the model's is thrown away."""
    model, notes = new("AttackedOnce")
    optimizer = sgd(model)
    for epoch in range(2):
        for batch, (x, y) in enumerate(DataLoader(data(12), 4)):
            x.requires_grad_()
            F.cross_entropy(model(x), y).backward()
            changed = (x + 0.1 * x.grad.sign()).detach()
            model.zero_grad()
            notes.before()
            notes.after(epoch, batch, step(model, optimizer, changed, y))


@loop
def attacked_in_steps():
    """PGD by backward passes; their gradients are thrown away behind the forward that counts."""
    model, notes = new("AttackedInSteps")
    optimizer = sgd(model)
    for epoch in range(2):
        for batch, (x, y) in enumerate(DataLoader(data(12), 4)):
            change = torch.zeros_like(x).uniform_(-0.1, 0.1).requires_grad_()
            for _ in range(3):
                F.cross_entropy(model(x + change), y).backward()
                change.data = (change + 0.1 * change.grad.sign()).clamp(-0.1, 0.1).detach()
                change.grad.zero_()
            notes.before()
            notes.after(epoch, batch, step(model, optimizer, (x + change).detach(), y))


@loop
def attack_added():
    """The gradients of the image and of the changed image are added up: the image is first."""
    model, notes = new("AttackAdded")
    optimizer = sgd(model)
    for epoch in range(2):
        for batch, (x, y) in enumerate(DataLoader(data(12), 4)):
            optimizer.zero_grad()
            notes.before()
            loss = F.cross_entropy(model(x.requires_grad_()), y)
            loss.backward()
            F.cross_entropy(model((x + 0.1 * x.grad.sign()).detach()), y).backward()
            optimizer.step()
            notes.after(epoch, batch, loss)


@loop
def step_left_out():
    """Behind some backward passes there is no step: a batch all the same, with its own loss."""
    model, notes = new("StepLeftOut")
    optimizer = sgd(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for epoch in range(2):
        for batch, (x, y) in enumerate(DataLoader(data(), 4)):
            notes.before()
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y) * (float("inf") if batch == 1 else 1.0)
            scaler.scale(loss).backward()
            if batch != 3:
                scaler.step(optimizer)
                scaler.update()
            notes.after(epoch, batch, loss)


@loop
def two_optimizers_skipped():
    """An encoder and a decoder with an optimizer each; behind one of the losses neither steps."""
    encoder, notes = new("SkippedEncoder", Translator)
    decoder, decoders = new("SkippedDecoder")
    optimizers = sgd(encoder), sgd(decoder)
    for epoch in range(2):
        for batch, (x, y) in enumerate(DataLoader(data(), 4)):
            notes.before()
            decoders.before()
            loss = F.cross_entropy(decoder(encoder(x)), y)
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers if batch != 2 else ():
                optimizer.step()
            notes.after(epoch, batch, loss)
            decoders.after(epoch, batch, loss)


@loop
def kept_apart():
    """Gradients of single images are kept, thrown away, and put together for the step (DP-SGD)."""
    model, notes = new("KeptApart")
    optimizer = sgd(model)
    for epoch in range(2):
        for batch, (x, y) in enumerate(DataLoader(data(12), 4)):
            notes.before()
            kept, losses = [], []
            for n in range(4):
                losses.append(F.cross_entropy(model(x[n : n + 1]), y[n : n + 1]))
                losses[-1].backward()
                kept.append([p.grad.clone() for p in model.parameters()])
                model.zero_grad()
            for p, *grads in zip(model.parameters(), *kept):
                p.grad = torch.stack(grads).mean(0)
            optimizer.step()
            notes.after(epoch, batch, losses[0])


def main():
    torch.manual_seed(0)
    for name, function in LOOPS.items():
        if not sys.argv[2:] or name in sys.argv[2:]:
            function()
    save(sys.argv[1])


def save(path):
    found = {}
    for name, notes in NOTES.items():
        at, images, maps, losses = zip(*notes.rows)
        found.update({f"{name}/at": at, f"{name}/image": images})
        found.update({f"{name}/map": maps, f"{name}/loss": losses})
    np.savez(path, **{name: np.array(value) for name, value in found.items()})


if __name__ == "__main__":
    main()
