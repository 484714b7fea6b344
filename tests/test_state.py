"""A checkpoint's state is taken as it was saved, or refused in a line before it does harm."""

import copy
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Run, Survived
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import LRSchedulerConfig
from torch.utils.data import DataLoader

from mnist_lit.callbacks import StopAtAccuracy, Threads
from mnist_lit.checkpoints import best_and_last
from mnist_lit.console import EpochLines
from mnist_lit.module import DigitClassifier
from mnist_lit.pictures import Pictures
from mnist_lit.state import MAX_COUNT, check_progress, check_training

FLAGS: list[object] = [
    *("--trainer.accelerator", "cpu", "--trainer.limit_train_batches", 3, "--data.batch_size", 8),
    *("--trainer.limit_val_batches", 10, "--trainer.limit_test_batches", 1),
    *("--trainer.max_epochs", 2, "--model.narrow", 2, "--model.wide", 3, "--model.pct_start", 0.6),
]


@pytest.fixture(scope="module", params=["adam", "muon"])
def saved(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    data_dir: Path,
    run: Run,
) -> dict[str, Any]:
    """last.ckpt after the first of two epochs."""
    folder = tmp_path_factory.mktemp(request.param)
    stop = ("--stop.accuracy", 1e-9, "--stop.epochs", 1, "--data.data_dir", data_dir)
    done = run(folder, *FLAGS, *stop, "--model.optimizer", request.param)
    assert done.returncode == 0, done.stderr
    [last] = folder.glob("lightning_logs/version_0/checkpoints/last.ckpt")
    content: dict[str, Any] = torch.load(last, weights_only=True)
    return content


def trainer_of(content: dict[str, Any]) -> Trainer:
    """As it is when Lightning is about to restore this checkpoint."""
    callbacks = [EpochLines(), Pictures(), StopAtAccuracy(None), Threads(), *best_and_last()]
    trainer = Trainer(
        accelerator="cpu", max_epochs=2, limit_train_batches=3, callbacks=callbacks, logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.state.fn = TrainerFn.FITTING
    model = DigitClassifier(**content["hyper_parameters"])
    model.trainer = trainer
    trainer.fit_loop._data_source.instance = DataLoader(range(3))  # type: ignore[arg-type]
    trainer.strategy.connect(model)
    made: Any = model.configure_optimizers()
    trainer.optimizers = [made["optimizer"]]
    trainer.strategy.lr_scheduler_configs = [LRSchedulerConfig(made["lr_scheduler"]["scheduler"])]
    return trainer


def optimizer(content: dict[str, Any]) -> Any:
    return content["optimizer_states"][0]


def moments(content: dict[str, Any], changed: Callable[[torch.Tensor], Any]) -> None:
    """Changes every tensor of the optimizer but the count of steps."""
    for entry in optimizer(content)["state"].values():
        entry.update({k: changed(v) for k, v in entry.items() if k != "step"})


def callback(content: dict[str, Any], name: str) -> Any:
    return next(state for key, state in content["callbacks"].items() if key.startswith(name))


def fit_loop(content: dict[str, Any]) -> Any:
    return content["loops"]["fit_loop"]


def schedule(content: dict[str, Any]) -> Any:
    return content["lr_schedulers"][0]


NAN, INF = math.nan, math.inf
Damage = Callable[[dict[str, Any]], Any]
OPTIMIZER: dict[str, Damage] = {
    "moments of one number": lambda c: moments(c, lambda _: torch.zeros(1)),
    "moments of no number": lambda c: moments(c, lambda _: torch.zeros(0)),
    "moments of other shapes": lambda c: moments(c, lambda v: v.flatten()[:, None]),
    "moments that are integers": lambda c: moments(c, lambda v: v.long()),
    "moments that are words": lambda c: moments(c, lambda _: "word"),
    "moments that are none": lambda c: moments(c, lambda _: None),
    "moments that are not finite": lambda c: moments(c, lambda v: v.fill_(NAN)),
    "other names": lambda c: [v.update(more=1) for v in optimizer(c)["state"].values()],
    "no names": lambda c: [v.clear() for v in optimizer(c)["state"].values()],
    "more parameters": lambda c: optimizer(c)["state"].update({99: {"step": torch.zeros(())}}),
    "parameters by name": lambda c: optimizer(c)["state"].update(weight={}),
    "no groups": lambda c: optimizer(c).update(param_groups=[]),
    "groups of nothing": lambda c: optimizer(c).update(param_groups=[{}] * 2),
    "parameters twice": lambda c: optimizer(c)["param_groups"][0].update(params=[0] * 21),
    "a rate that is a word": lambda c: optimizer(c)["param_groups"][0].update(lr="word"),
    "a rate that is not finite": lambda c: optimizer(c)["param_groups"][0].update(lr=INF),
    "a rate that is none": lambda c: optimizer(c)["param_groups"][0].update(lr=None),
    "a rate that is a list": lambda c: optimizer(c)["param_groups"][0].update(lr=[1.0]),
    "no optimizer": lambda c: c.update(optimizer_states=[]),
    "two optimizers": lambda c: c["optimizer_states"].append(copy.deepcopy(optimizer(c))),
    "a list of lists": lambda c: c.update(optimizer_states=[[[[]]]]),
    "a state without parts": lambda c: c.update(optimizer_states=[{}]),
}
SCHEDULE: dict[str, Damage] = {
    "no schedule": lambda c: c.update(lr_schedulers=[]),
    "a method's place": lambda c: schedule(c).update(total_steps="word"),
    "phases of nothing": lambda c: schedule(c)["_schedule_phases"].clear(),
    "a phase without length": lambda c: schedule(c)["_schedule_phases"][0].update(end_step=0.0),
    "a phase of other names": lambda c: schedule(c)["_schedule_phases"][0].pop("start_lr"),
    "a rate of no name": lambda c: schedule(c)["_schedule_phases"][0].update(start_lr="lr"),
    "steps past its end": lambda c: schedule(c).update(last_epoch=1000),
    "steps before its start": lambda c: schedule(c).update(last_epoch=-9),
    "steps that are a word": lambda c: schedule(c).update(last_epoch="1"),
    "steps that are not finite": lambda c: schedule(c).update(last_epoch=NAN),
}
LOOPS: dict[str, Damage] = {
    "a negative step": lambda c: fit_loop(c)["epoch_loop.state_dict"].update(
        _batches_that_stepped=-10
    ),
    "a name that replaces a method": lambda c: fit_loop(c)["epoch_progress"].update(
        increment_ready=5
    ),
    "more steps than can be": lambda c: fit_loop(c)["epoch_progress"]["total"].update(
        ready=2 * MAX_COUNT
    ),
    "epochs that are words": lambda c: fit_loop(c)["epoch_progress"]["current"].update(ready="1"),
    "epochs that are fractions": lambda c: fit_loop(c)["epoch_progress"]["current"].update(
        completed=0.5
    ),
    "epochs that are none": lambda c: fit_loop(c)["epoch_progress"].update(current=None),
    "a loader": lambda c: fit_loop(c)["state_dict"].update(combined_loader=[1]),
    "no progress": lambda c: c.update(loops=[]),
}
CALLBACKS: dict[str, Damage] = {
    "a best accuracy of none": lambda c: callback(c, "EpochLines").update(best=None),
    "a best accuracy that is a list": lambda c: callback(c, "EpochLines").update(best=[1]),
    "a best accuracy that is not finite": lambda c: callback(c, "EpochLines").update(best=NAN),
    "a best accuracy of three numbers": lambda c: callback(c, "EpochLines").update(
        best_val_acc=[0.1, 0.2, 0.3]
    ),
    "a best accuracy of three numbers in a tensor": lambda c: callback(c, "EpochLines").update(
        best_val_acc=torch.rand(3)
    ),
    "no threads": lambda c: callback(c, "Threads").update(threads=0),
    "half a thread": lambda c: callback(c, "Threads").update(threads=0.5),
    "pictures without errors": lambda c: callback(c, "Pictures")["best"].pop("errors"),
    "pictures without counts": lambda c: callback(c, "Pictures")["best"].pop("confusion"),
    "pictures of nothing": lambda c: callback(c, "Pictures").update(best={}),
    "pictures of a word": lambda c: callback(c, "Pictures")["best"].update(confusion="word"),
    "counts of another shape": lambda c: callback(c, "Pictures")["best"].update(
        confusion=torch.zeros(3, 3, dtype=torch.int64)
    ),
    "errors that are numbers": lambda c: callback(c, "Pictures")["best"].update(errors=[1, 2]),
    "errors of another size": lambda c: callback(c, "Pictures")["best"].update(
        errors=[(torch.zeros(2, 2), 1, 2)]
    ),
    "errors of no digit": lambda c: callback(c, "Pictures")["best"].update(
        errors=[(torch.zeros(28, 28), 1, 12)]
    ),
    "10,000 errors": lambda c: callback(c, "Pictures")["best"].update(
        errors=[(torch.zeros(28, 28).expand(28, 28), 1, 2)] * 10_000
    ),
    "accuracies that are words": lambda c: callback(c, "StopAtAccuracy").update(recent=["word"]),
    "an epoch that is a word": lambda c: callback(c, "StopAtAccuracy").update(reached_epoch="word"),
    "a score without its file": lambda c: callback(c, "OwnCheckpoints{'monitor': 'val").update(
        kth_best_model_path="other"
    ),
    "a score that is a word": lambda c: callback(c, "OwnCheckpoints{'monitor': 'val").update(
        best_model_score="word"
    ),
    "a path that is a number": lambda c: callback(c, "OwnCheckpoints{'monitor': 'val").update(
        best_model_path=5
    ),
    "a precision that is a list": lambda c: c.update(Precision=[1], MixedPrecision=[1]),
    "callbacks that are a list": lambda c: c.update(callbacks=[1]),
    "callbacks that are numbers": lambda c: c.update(callbacks=dict.fromkeys(c["callbacks"], 1)),
}


CONTRADICTIONS: dict[str, Damage] = {  # found when the fit goes on
    "a schedule at its last step": lambda c: schedule(c).update(last_epoch=6),
    "an epoch that begins again": lambda c: [
        fit_loop(c)["epoch_progress"][key].update(ready=0, started=0, processed=0, completed=0)
        for key in ("total", "current")
    ],
}
ALL = OPTIMIZER | SCHEDULE | LOOPS | CALLBACKS


def test_a_state_of_our_own_stays_as_it_is(saved: dict[str, Any]) -> None:
    content, trainer = copy.deepcopy(saved), trainer_of(saved)
    check_progress(content, trainer)
    check_training(content, trainer)
    assert repr(content) == repr(saved)
    for entry, before in zip(
        optimizer(content)["state"].values(), optimizer(saved)["state"].values(), strict=True
    ):
        for name, value in entry.items():
            assert torch.equal(value, before[name])
            assert value.stride() == before[name].stride()


@pytest.mark.parametrize("kind", ALL)
def test_a_state_that_no_fit_leaves_is_refused(
    kind: str, saved: dict[str, Any], survived: Survived
) -> None:
    content, trainer = copy.deepcopy(saved), trainer_of(saved)
    ALL[kind](content)

    def check() -> None:
        check_progress(content, trainer)
        check_training(content, trainer)

    with pytest.raises(ValueError):  # noqa: PT011 - of whichever part
        check()
    survived("crafted checkpoint")


def test_moments_lie_in_memory_as_the_parameters_do(saved: dict[str, Any]) -> None:
    """A fused optimizer goes through them side by side, whatever their strides say."""
    content, trainer = copy.deepcopy(saved), trainer_of(saved)
    moments(content, lambda v: v.repeat_interleave(2, 0)[::2] if v.ndim else v)
    check_training(content, trainer)
    parameters = [p for group in trainer.optimizers[0].param_groups for p in group["params"]]
    for parameter, entry in zip(parameters, optimizer(content)["state"].values(), strict=True):
        for value in entry.values():
            assert value.stride() == (parameter.stride() if value.ndim else ())


def resumed(
    content: dict[str, Any], folder: Path, data_dir: Path, run: Run
) -> subprocess.CompletedProcess[str]:
    torch.save(content, folder / "x.ckpt")
    more = ("--data.data_dir", data_dir, "--stop.accuracy", "null", "--trainer.logger", False)
    return run(folder, *FLAGS, *more, "--ckpt_path", folder / "x.ckpt")


def test_the_command_resumes(
    saved: dict[str, Any], tmp_path: Path, data_dir: Path, run: Run
) -> None:
    done = resumed(saved, tmp_path, data_dir, run)
    assert done.returncode == 0, done.stderr
    assert "epoch  2/2" in done.stdout
    assert "epoch  1/2" not in done.stdout


def in_old_names(content: dict[str, Any]) -> None:
    """As versions before today's names saved it."""
    content["state_dict"] = {
        name.replace("ema.", "averaged.", 1): value for name, value in content["state_dict"].items()
    }
    settings = content["hyper_parameters"]
    settings["average"], settings["crops"] = settings.pop("ema_decay"), 1
    del settings["tta"]
    best = callback(content, "Pictures")["best"]
    best["misread"] = best.pop("errors")
    if settings["optimizer"] == "muon":
        old = {"momentum_buffer": "average", "exp_avg": "average", "exp_avg_sq": "square"}
        for entry in optimizer(content)["state"].values():
            for name in old.keys() & entry.keys():
                entry[old[name]] = entry.pop(name)


def test_a_checkpoint_of_an_older_version_resumes(
    saved: dict[str, Any], tmp_path: Path, data_dir: Path, run: Run
) -> None:
    content = copy.deepcopy(saved)
    in_old_names(content)
    done = resumed(content, tmp_path, data_dir, run)
    assert done.returncode == 0, done.stderr
    assert "epoch  2/2" in done.stdout


QUICK = ["moments of one number", "a negative step", *CONTRADICTIONS]


@pytest.mark.parametrize(
    "kind",
    [*QUICK] + [pytest.param(kind, marks=pytest.mark.slow) for kind in ALL if kind not in QUICK],
)
def test_the_command_refuses_it_in_a_line(
    kind: str, saved: dict[str, Any], tmp_path: Path, data_dir: Path, run: Run, survived: Survived
) -> None:
    content = copy.deepcopy(saved)
    (ALL | CONTRADICTIONS)[kind](content)
    done = resumed(content, tmp_path, data_dir, run)
    assert done.returncode == 2, done.stderr
    *notes, error = done.stderr.strip().splitlines()
    assert all(note.startswith(("used as in the checkpoint", "warning: ")) for note in notes)
    assert error.startswith(f"error: --ckpt_path {tmp_path / 'x.ckpt'}")
    survived("crafted checkpoint")
