"""StopAtAccuracy on scripted accuracies, and the pictures' contents."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy

from mnist_lit.callbacks import (
    Pictures,
    StopAtAccuracy,
    draw_confusion,
    draw_digit_accuracy,
    draw_misread,
    draw_reliability,
)


class ScriptedTrainer:
    """As much of a Trainer as the callback reads."""

    def __init__(self) -> None:
        self.sanity_checking = False
        self.should_stop = False
        self.current_epoch = 0
        self.callback_metrics: dict[str, torch.Tensor] = {}


def play(stop: StopAtAccuracy, accuracies: list[float], sanity_checking: bool = False) -> Any:
    trainer = ScriptedTrainer()
    trainer.sanity_checking = sanity_checking
    for epoch, accuracy in enumerate(accuracies):
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


def test_a_resumed_run_remembers_its_newest_epochs() -> None:
    broken = StopAtAccuracy(0.9, epochs=3)
    play(broken, [0.7, 0.8])
    resumed = StopAtAccuracy(0.9, epochs=3)
    resumed.load_state_dict(broken.state_dict())
    assert not play(resumed, [0.99]).should_stop  # (0.7 + 0.8 + 0.99) / 3
    assert play(resumed, [0.95]).should_stop


def test_a_mean_of_no_epoch_names_the_flag() -> None:
    with pytest.raises(ValueError, match=r"--stop\.epochs"):
        StopAtAccuracy(0.9, epochs=0)


def test_pictures_keep_the_best_validation() -> None:
    pictures, trainer = Pictures(), SimpleNamespace(sanity_checking=False)
    trainer.state = SimpleNamespace(fn="fit")
    labels = torch.tensor([0, 1, 2, 3])
    for accuracy, predicted in [(0.5, [0, 1, 9, 9]), (0.75, [0, 1, 2, 8]), (0.25, [0, 7, 7, 7])]:
        logits = torch.nn.functional.one_hot(torch.tensor(predicted), 10).float()
        pictures.on_validation_epoch_start(trainer, None)  # type: ignore[arg-type]
        batch = torch.rand(4, 1, 28, 28), labels
        pictures.on_validation_batch_end(trainer, None, logits, batch, 0)  # type: ignore[arg-type]
        trainer.callback_metrics = {"val/acc": torch.tensor(accuracy)}
        pictures.on_validation_end(trainer, None)  # type: ignore[arg-type]
    best = pictures.best
    assert best["confusion"].trace() == 3
    assert best["confusion"][3, 8] == 1
    [(image, true, predicted_digit)] = best["misread"]
    assert (image.shape, true, predicted_digit) == ((28, 28), 3, 8)


def test_confusion_figure_shows_every_count() -> None:
    confusion = torch.eye(10, dtype=torch.long) * 50
    confusion[4, 9] = 7
    axes = draw_confusion(confusion).axes[0]
    counts = [text.get_text() for text in axes.texts]
    assert sorted(counts) == ["50"] * 10 + ["7"]
    assert "7 of 507 misread" in axes.get_title()


def test_misread_figure_names_true_and_predicted_digit() -> None:
    [axes] = draw_misread([(torch.rand(28, 28), true, 9) for true in range(9)]).axes
    assert [text.get_text() for text in axes.texts] == [f"{true} → 9" for true in range(9)]
    assert len(axes.images) == 9
    boxes = [tuple(image.get_extent()) for image in axes.images]
    assert len(set(boxes)) == 9
    assert {right - left for left, right, _, _ in boxes} == {28}


def test_test_table_counts_each_digit() -> None:
    pictures = Pictures()
    labels = torch.arange(10).repeat(10)
    logits = 20 * torch.nn.functional.one_hot(labels, 10).float()
    logits[3] = logits[4]  # a 3 read as a 4
    pictures.on_test_epoch_start(None, None)  # type: ignore[arg-type]
    batch = torch.rand(100, 1, 28, 28), labels
    pictures.on_test_batch_end(None, None, logits, batch, 0)  # type: ignore[arg-type]
    lines = pictures.test_table().splitlines()
    assert lines[4].split() == ["3", "10", "9", "90.00", "%"]
    assert lines[11].split() == ["all", "100", "99", "99.00", "%"]
    # All hundred with a probability of 1, of which one is wrong.
    assert lines[12].startswith("expected calibration error 1.00 %")


def test_reliability_shows_how_often_each_bin_was_right() -> None:
    confidence = torch.tensor([0.35, 0.35, 0.35, 0.35, 0.99, 0.99])
    correct = torch.tensor([True, False, False, False, True, True])
    line = draw_reliability(confidence, correct, 0.05).axes[0].lines[1]
    np.testing.assert_allclose(np.asarray(line.get_xdata()), [0.35, 0.99], atol=1e-6)
    np.testing.assert_allclose(np.asarray(line.get_ydata()), [0.25, 1])


def test_digit_accuracy_has_a_bar_for_each_digit() -> None:
    confusion = torch.eye(10, dtype=torch.long) * 50
    confusion[4, 9] = 50
    labels = [text.get_text() for text in draw_digit_accuracy(confusion).axes[0].texts]
    assert labels == ["50.00" if digit == 4 else "100.00" for digit in range(10)]
