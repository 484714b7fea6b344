"""What the pictures show."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from mnist_lit.pictures import (
    Pictures,
    draw_confusion,
    draw_digit_accuracy,
    draw_errors,
    draw_reliability,
    of_each_digit,
)

ON_CPU: Any = SimpleNamespace(device=torch.device("cpu"))  # all that is asked of the module


def test_pictures_keep_the_best_validation() -> None:
    pictures = Pictures()
    trainer: Any = SimpleNamespace(
        sanity_checking=False, state=SimpleNamespace(fn="fit"), loggers=[]
    )
    labels = torch.tensor([0, 1, 2, 3])
    for accuracy, predicted in [(0.5, [0, 1, 9, 9]), (0.75, [0, 1, 2, 8]), (0.25, [0, 7, 7, 7])]:
        logits = torch.nn.functional.one_hot(torch.tensor(predicted), 10).float()
        pictures.on_validation_epoch_start(trainer, ON_CPU)
        batch = torch.rand(4, 1, 28, 28), labels
        pictures.on_validation_batch_end(trainer, ON_CPU, logits, batch, 0)
        trainer.callback_metrics = {"val/acc": torch.tensor(accuracy)}
        pictures.on_validation_end(trainer, ON_CPU)
    best = pictures.best
    assert best["confusion"].trace() == 3
    assert best["confusion"][3, 8] == 1
    [(image, true, predicted_digit)] = best["errors"]
    assert (image.shape, true, predicted_digit) == ((28, 28), 3, 8)


def test_confusion_figure_shows_every_count() -> None:
    confusion = torch.eye(10, dtype=torch.long) * 50
    confusion[4, 9] = 7
    axes = draw_confusion(confusion).axes[0]
    counts = [text.get_text() for text in axes.texts]
    assert sorted(counts) == ["50"] * 10 + ["7"]
    assert "7 errors of 507" in axes.get_title()


def test_errors_figure_names_true_and_predicted_digit() -> None:
    [axes] = draw_errors([(torch.rand(28, 28), true, 9) for true in range(9)]).axes
    assert [text.get_text() for text in axes.texts] == [f"{true} → 9" for true in range(9)]
    assert len(axes.images) == 9
    boxes = [tuple(image.get_extent()) for image in axes.images]
    assert len(set(boxes)) == 9
    assert {right - left for left, right, _, _ in boxes} == {28}


def test_test_table_counts_each_digit() -> None:
    pictures = Pictures()
    labels = torch.arange(10).repeat(10)
    logits = 20 * torch.nn.functional.one_hot(labels, 10).float()
    logits[3] = logits[4]  # a 3 taken for a 4
    trainer: Any = SimpleNamespace(loggers=[])
    pictures.on_test_epoch_start(trainer, ON_CPU)
    batch = torch.rand(100, 1, 28, 28), labels
    pictures.on_test_batch_end(trainer, ON_CPU, logits, batch, 0)
    pictures.on_test_end(trainer, ON_CPU)
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


def test_a_digit_that_is_not_there_has_no_accuracy() -> None:
    confusion = torch.zeros(10, 10, dtype=torch.long)
    confusion[3, 3], confusion[3, 8], confusion[9, 9] = 3, 1, 2
    assert of_each_digit("val", confusion) == {"val-digits/3": 0.75, "val-digits/9": 1.0}


def test_digit_accuracy_has_a_bar_for_each_digit() -> None:
    confusion = torch.eye(10, dtype=torch.long) * 50
    confusion[4, 9] = 50
    labels = [text.get_text() for text in draw_digit_accuracy(confusion).axes[0].texts]
    assert labels == ["50.00" if digit == 4 else "100.00" for digit in range(10)]
