"""What is counted in an epoch."""

import pytest
import torch
import torch.nn.functional as F

from mnist_lit.metrics import MeanLoss, exact_accuracy


def test_are_of_all_images_whatever_the_batches() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(101, 10), torch.randint(10, (101,))
    loss, accuracy = MeanLoss(), exact_accuracy()
    for some, their in zip(logits.split(25), labels.split(25), strict=True):
        loss.update(F.cross_entropy(some, their), len(their))
        accuracy.update(some, their)
    assert loss.compute().item() == pytest.approx(F.cross_entropy(logits, labels).item())
    correct = (logits.argmax(dim=1) == labels).sum().item()
    assert accuracy.compute().item() == pytest.approx(correct / 101)


def test_a_loss_that_is_no_number_is_not_left_out() -> None:
    loss = MeanLoss()
    loss.update(torch.tensor(1.0), 3)
    loss.update(torch.tensor(float("nan")), 1)
    assert loss.compute().isnan()


def test_the_mean_loss_keeps_no_graph() -> None:
    loss = MeanLoss()
    loss.update(torch.tensor(1.0, requires_grad=True), 2)
    assert not loss.compute().requires_grad
