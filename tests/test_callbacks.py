"""StopAtAccuracy on scripted accuracies, as a fit would give them; the threads of a fit."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy

from mnist_lit.callbacks import StopAtAccuracy, Threads


class ScriptedTrainer:
    """As much of a Trainer as the callback reads."""

    def __init__(self) -> None:
        self.sanity_checking = False
        self.should_stop = False
        self.barebones = False
        self.current_epoch = 0
        self.callback_metrics: dict[str, torch.Tensor] = {}


def play(
    stop: StopAtAccuracy, accuracies: list[float], sanity_checking: bool = False, start: int = 0
) -> Any:
    trainer = ScriptedTrainer()
    trainer.sanity_checking = sanity_checking
    for epoch, accuracy in enumerate(accuracies, start):
        trainer.current_epoch = epoch
        trainer.callback_metrics = {"val/acc": torch.tensor(accuracy)}
        stop.on_validation_end(trainer, None)  # type: ignore[arg-type]
        if trainer.should_stop:
            break
    return trainer


def test_stops_at_exactly_the_target_and_names_the_epoch() -> None:
    stop = StopAtAccuracy(0.994)
    trainer = play(stop, [0.9, 0.9939, 0.9940, 0.9999])
    assert trainer.should_stop
    assert stop.reached_epoch == 3


def test_does_not_stop_below_the_target() -> None:
    stop = StopAtAccuracy(0.994)
    assert not play(stop, [0.9939] * 30).should_stop
    assert stop.reached_epoch is None


def test_ignores_the_sanity_check() -> None:
    assert not play(StopAtAccuracy(0.5), [1.0], sanity_checking=True).should_stop


def test_null_never_stops() -> None:
    assert not play(StopAtAccuracy(None), [1.0]).should_stop


@pytest.mark.parametrize("correct", range(9_900, 10_000))
def test_every_count_of_10000_is_exact(correct: int) -> None:
    """As a Python float, half of these float32 accuracies are below correct / 10000."""
    metric = MulticlassAccuracy(10, average="micro")
    labels = torch.zeros(10_000, dtype=torch.long)
    predicted = labels.clone()
    predicted[correct:] = 1
    metric.update(predicted, labels)
    accuracy = metric.compute().item()
    assert play(StopAtAccuracy(correct / 10_000), [accuracy]).should_stop
    assert not play(StopAtAccuracy((correct + 1) / 10_000), [accuracy]).should_stop


@pytest.mark.parametrize("accuracy", [0, -1, 1.001, 99.4, float("nan")])
def test_a_target_that_is_no_fraction_names_the_flag(accuracy: float) -> None:
    with pytest.raises(ValueError, match=r"--stop\.accuracy"):
        StopAtAccuracy(accuracy)


def test_a_resumed_run_that_had_reached_its_target_stops_at_once() -> None:
    finished = StopAtAccuracy(0.5)
    play(finished, [0.6])
    for target, stops in [(0.5, True), (0.7, False), (None, False)]:
        resumed, trainer = StopAtAccuracy(target), ScriptedTrainer()
        resumed.load_state_dict(finished.state_dict())
        resumed.on_train_start(trainer, None)  # type: ignore[arg-type]
        assert trainer.should_stop == stops


@pytest.mark.parametrize(
    ("accuracies", "reached"),
    [
        ([0.95, 0.9], 1),  # as many as there are
        ([0.5, 0.9, 0.9, 0.9, 0.9], 4),  # the first lies three back
        ([0.8, 0.99, 0.91], 3),  # exactly the target
        ([0.8, 0.99, 0.8, 0.8, 0.99, 0.8], None),  # lucky epochs
    ],
)
def test_the_mean_of_the_newest_epochs_counts(accuracies: list[float], reached: int | None) -> None:
    stop = StopAtAccuracy(0.9, epochs=3)
    assert play(stop, accuracies).should_stop == (reached is not None)
    assert stop.reached_epoch == reached


def test_an_epoch_of_two_validations_counts_once() -> None:
    stop, trainer = StopAtAccuracy(0.9, epochs=2), ScriptedTrainer()
    for epoch, accuracy in [(0, 0.1), (0, 0.8), (1, 0.99), (1, 0.98)]:
        assert stop.reached_epoch is None
        trainer.current_epoch = epoch
        trainer.callback_metrics = {"val/acc": torch.tensor(accuracy)}
        stop.on_validation_end(trainer, None)  # type: ignore[arg-type]
    assert list(stop.recent) == pytest.approx([0.8, 0.98])
    assert trainer.should_stop is False
    trainer.current_epoch = 2
    stop.on_validation_end(trainer, None)  # type: ignore[arg-type]
    assert stop.reached_epoch == 3


def test_a_resumed_run_remembers_its_newest_epochs() -> None:
    broken = StopAtAccuracy(0.9, epochs=3)
    play(broken, [0.7, 0.8])
    resumed = StopAtAccuracy(0.9, epochs=3)
    resumed.load_state_dict(broken.state_dict())
    assert not play(resumed, [0.99], start=2).should_stop  # (0.7 + 0.8 + 0.99) / 3
    assert play(resumed, [0.95], start=3).should_stop


def test_a_mean_of_no_epoch_names_the_flag() -> None:
    with pytest.raises(ValueError, match=r"--stop\.epochs"):
        StopAtAccuracy(0.9, epochs=0)


@pytest.fixture
def cpu_trainer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of a fit on four cores, of which other programs leave one."""

    def spare() -> str:
        torch.set_num_threads(1)
        return "fewer threads"

    monkeypatch.setattr("mnist_lit.callbacks.spare_busy_cores", spare)
    monkeypatch.setattr("mnist_lit.callbacks.cores", lambda: 4)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    return SimpleNamespace(strategy=strategy, world_size=1)


@pytest.mark.parametrize(
    ("saved", "asked", "used", "said"),
    [
        (None, None, 1, "fewer threads\n"),
        (2, None, 2, ""),
        (2, "1", 1, "trained with 2 threads and goes on with 1: its weights will differ"),
        (8, None, 4, "trained with 8 threads and goes on with 4: its weights will differ"),
    ],
)
@pytest.mark.usefixtures("threads")
def test_a_resumed_fit_takes_the_threads_of_its_checkpoint(
    saved: int | None,
    asked: str | None,
    used: int,
    said: str,
    cpu_trainer: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        torch.set_num_threads(int(asked))
    threads = Threads()
    if saved:
        threads.load_state_dict({"threads": saved})
    threads.on_fit_start(cpu_trainer, None)  # type: ignore[arg-type]
    assert torch.get_num_threads() == used
    assert threads.state_dict() == {"threads": used}
    told = capsys.readouterr().err
    assert said in told
    assert bool(told) == bool(said)
