"""What is counted in an epoch, over all processes, without waiting for an accelerator."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy


class MeanLoss(Metric):
    """The mean over all images of losses that are means over batches.

    torchmetrics' MeanMetric looks at every value for NaNs, which makes every step wait.
    """

    total: Tensor
    images: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, loss: Tensor, images: int) -> None:
        """The mean loss () of so many images."""
        self.total += loss.detach().float() * images
        self.images += images

    def compute(self) -> Tensor:
        return self.total / self.images


def exact_accuracy() -> MulticlassAccuracy:
    """Correct / all, over all images of an epoch and all processes.

    Torchmetrics' default would average the accuracies of the ten classes instead, and its
    validation of the labels, which the files' sums vouch for, would take longer than the counting.
    """
    return MulticlassAccuracy(10, average="micro", validate_args=False)
