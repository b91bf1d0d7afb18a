"""Trainings of Lightning that go on, start anew, or come in folds: the file that each one gets."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType

import pytest
from lightning_trainings import QUIET, check_losses, fit, loader, make, make_trainer

import replay
from record import RecordingWarning

pytestmark = QUIET


@pytest.mark.parametrize("overwrite", [False, True])
def test_going_on_continues_the_file(
    tmp_path: Path, lightning: ModuleType, overwrite: bool
) -> None:
    from record.lightning import RecordFeatureMaps

    model = make(lightning, "self(x)")
    callback = RecordFeatureMaps(tmp_path / "run.h5", overwrite=overwrite)
    trainer = make_trainer(lightning, tmp_path, callback)
    trainer.fit(model, loader(), loader())
    trainer.fit_loop.max_epochs = 4
    trainer.fit(model, loader(), loader())
    assert len(model.losses) == 12
    check_losses(tmp_path / "run.h5", model.losses)
    assert [path.name for path in tmp_path.iterdir()] == ["run.h5"]


def test_going_on_in_the_middle_of_an_epoch(tmp_path: Path, lightning: ModuleType) -> None:
    from record.lightning import RecordFeatureMaps

    model = make(lightning, "self(x)")
    callback = RecordFeatureMaps(tmp_path / "run.h5")
    trainer = make_trainer(lightning, tmp_path, callback, max_steps=4, max_epochs=-1)
    trainer.fit(model, loader(), loader())
    seen = [(1, 1)]
    model.on_train_batch_start = lambda batch, batch_idx: seen.append(
        (trainer.current_epoch, batch_idx)
    )
    trainer.fit_loop.epoch_loop.max_steps = 6
    trainer.fit(model, loader(), loader())
    first = [(0, 0), (0, 1), (0, 2), (1, 0)]
    with replay.open(tmp_path / "run.h5") as run:
        assert run.closed
        assert run.frames == first + seen[1:]
        assert [run.batches["loss"][at] for at in run.frames] == model.losses
        assert [run.batches["step"][at] for at in run.frames] == list(range(6))


def test_a_checkpoint_leads_the_file_back(tmp_path: Path, lightning: ModuleType) -> None:
    from record.lightning import RecordFeatureMaps

    model = make(lightning, "self(x)")
    callback = RecordFeatureMaps(tmp_path / "run.h5")
    trainer = make_trainer(lightning, tmp_path, callback)
    trainer.fit(model, loader(), loader())
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    trainer.fit_loop.max_epochs = 3
    trainer.fit(model, loader(), loader())
    again = make(lightning, "self(x)")  # of which only the checkpoint knows that it goes on
    second = make_trainer(lightning, tmp_path, callback, max_epochs=4)
    second.fit(again, loader(), loader(), ckpt_path=tmp_path / "two.ckpt", weights_only=False)
    assert len(again.losses) == 6
    check_losses(tmp_path / "run.h5", model.losses[:6] + again.losses)


@pytest.mark.parametrize("overwrite", [False, True])
def test_each_fold_has_a_file_of_its_own(
    tmp_path: Path, lightning: ModuleType, overwrite: bool
) -> None:
    from record.lightning import RecordFeatureMaps

    callback = RecordFeatureMaps(tmp_path / "run.h5", overwrite=overwrite)
    models = [make(lightning, "self(x)") for _ in range(3)]
    for number, model in enumerate(models):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RecordingWarning)
            fit(lightning, model, tmp_path, callback)
        said = [str(w.message) for w in caught if w.category is RecordingWarning]
        assert len(said) == (number > 0)
        assert all(f"run.{number + 1}.h5" in line for line in said)
    for name, model in zip(("run.h5", "run.2.h5", "run.3.h5"), models, strict=True):
        check_losses(tmp_path / name, model.losses)


def test_the_same_model_trained_anew_has_a_file_of_its_own(
    tmp_path: Path, lightning: ModuleType
) -> None:
    from record.lightning import RecordFeatureMaps

    callback = RecordFeatureMaps(tmp_path / "run.h5")
    model = make(lightning, "self(x)")
    fit(lightning, model, tmp_path, callback)
    with pytest.warns(RecordingWarning, match="run.2.h5"):
        fit(lightning, model, tmp_path, callback)
    check_losses(tmp_path / "run.h5", model.losses[:6])
    check_losses(tmp_path / "run.2.h5", model.losses[6:])


def test_a_file_that_was_there_is_left_alone(tmp_path: Path, lightning: ModuleType) -> None:
    from record.lightning import RecordFeatureMaps

    (tmp_path / "run.h5").write_bytes(b"precious")
    model = make(lightning, "self(x)")
    with pytest.warns(RecordingWarning, match="recorded in .*run.2.h5: choose another name"):
        fit(lightning, model, tmp_path, RecordFeatureMaps(tmp_path / "run.h5"))
    assert (tmp_path / "run.h5").read_bytes() == b"precious"
    check_losses(tmp_path / "run.2.h5", model.losses)


def test_a_file_of_a_process_that_has_ended_goes_on_where_asked(
    tmp_path: Path, lightning: ModuleType
) -> None:
    from record.lightning import RecordFeatureMaps

    path = tmp_path / "run.h5"
    first = make(lightning, "self(x)")
    trainer = make_trainer(lightning, tmp_path, RecordFeatureMaps(path))
    trainer.fit(first, loader(), loader())
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    second = make(lightning, "self(x)")
    trainer = make_trainer(lightning, tmp_path, RecordFeatureMaps(path, resume=True), max_epochs=3)
    trainer.fit(second, loader(), loader(), ckpt_path=tmp_path / "two.ckpt", weights_only=False)
    check_losses(path, first.losses + second.losses)
