"""optuna: a search of six trials, a model each, some pruned.

packages: optuna
"""

import optuna
import torch
import torch.nn.functional as F
from noting import Notes, images, save
from torch import nn
from torch.utils.data import DataLoader

optuna.logging.set_verbosity(optuna.logging.ERROR)


def objective(trial):
    torch.manual_seed(trial.number)
    width = trial.suggest_categorical("width", [2, 4, 8])
    model = nn.Sequential(
        nn.Conv2d(3, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(width * 900, 2)
    )
    notes = Notes(model, "0", f"run.{trial.number + 1}.h5" if trial.number else "run.h5")
    optimizer = torch.optim.SGD(model.parameters(), trial.suggest_float("lr", 1e-4, 1e-2, log=True))
    train = DataLoader(images(), 4, shuffle=True)
    for epoch in range(2):
        model.train()
        for number, (x, y) in enumerate(train):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            notes.batch(epoch, number, loss)
        trial.report(loss.item(), epoch)
        if trial.number % 3 == 2:
            raise optuna.TrialPruned
    return loss.item()


study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
study.optimize(objective, n_trials=6)
print(study.best_params)
save()
