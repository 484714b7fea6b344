"""DigitClassifier: a network with its loss, metrics, Adam, OneCycleLR and averaged weights."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from mnist_lit.muon import Muon
from mnist_lit.network import MAX_MARGIN, DigitNet, TinyNet

Batch = tuple[Tensor, Tensor]  # images (B, 1, 28, 28) in [0, 1], labels (B,) int64
CLASSES = 10


class DigitClassifier(LightningModule):
    """Trains a network; validates and tests an average of its weights over the last steps.

    Args:
        network: DigitNet, or TinyNet, which has a fifth of its parameters.
        narrow: Channels of DigitNet's input block and 1x1 transitions, or of TinyNet's first two
            convolutions; its others have one to three more.
        wide: Channels of DigitNet's 3x3 convolutions; TinyNet has none of the kind.
        dropout: Probability with which an activation of a 3x3 block is dropped in training.
        margin: Pixels that the network leaves out at each edge of an image; in training they would
            take time. MNIST's digits are 20 pixels large, around their centre of mass.
        crops: 1, or 5, which validates, tests and exports the mean of the logits of an image and of
            the same moved by a pixel to each side, at five times the cost; training reads one.
        optimizer: adam, or muon, which moves the convolutions by Muon and the rest by Adam.
        max_lr: Adam's learning rate at the top of the one-cycle schedule.
        muon_lr: Muon's, at the same time.
        weight_decay: Adam's L2 penalty; muon has none.
        pct_start: Fraction of all steps in which the learning rate rises.
        div_factor: The rate starts at max_lr / div_factor ...
        final_div_factor: ... and ends at max_lr / div_factor / final_div_factor.
        label_smoothing: Share of the target's probability that training spreads evenly over the ten
            digits. The losses of validation and test are without it.
        average: Decay per step of the exponential moving average of the weights that is validated,
            tested and exported: 0.998 averages over about 500 steps; 0 uses the raw weights.
    """

    def __init__(
        self,
        network: Literal["DigitNet", "TinyNet"] = "DigitNet",
        narrow: int = 18,
        wide: int = 32,
        dropout: float = 0.008,
        margin: int = 0,
        crops: int = 1,
        optimizer: Literal["adam", "muon"] = "adam",
        max_lr: float = 0.01,
        muon_lr: float = 0.03,
        weight_decay: float = 1e-4,
        pct_start: float = 0.2,
        div_factor: float = 10,
        final_div_factor: float = 100,
        label_smoothing: float = 0.0,
        average: float = 0.998,
    ) -> None:
        super().__init__()
        for name, value, valid, expected in (
            ("narrow", narrow, narrow >= 1, "at least 1"),
            ("wide", wide, wide >= 1, "at least 1"),
            ("dropout", dropout, 0 <= dropout < 1, "at least 0 and below 1"),
            ("margin", margin, 0 <= margin <= MAX_MARGIN, f"from 0 to {MAX_MARGIN}"),
            ("crops", crops, crops in (1, 5), "1 or 5"),
            ("max_lr", max_lr, 0 < max_lr < math.inf, "above 0"),
            ("muon_lr", muon_lr, 0 < muon_lr < math.inf, "above 0"),
            ("weight_decay", weight_decay, 0 <= weight_decay < math.inf, "at least 0"),
            ("pct_start", pct_start, 0 < pct_start < 1, "between 0 and 1"),
            ("div_factor", div_factor, 1 <= div_factor < math.inf, "at least 1"),
            ("final_div_factor", final_div_factor, 1 <= final_div_factor < math.inf, "at least 1"),
            ("label_smoothing", label_smoothing, 0 <= label_smoothing < 1, "from 0, below 1"),
            ("average", average, 0 <= average < 1, "at least 0 and below 1"),
        ):
            if not valid:
                raise ValueError(f"--model.{name} must be {expected}, not {value}")
        self.save_hyperparameters(logger=False)  # train.py logs them with the final metrics
        self.network = (
            DigitNet(narrow, wide, dropout, margin, crops)
            if network == "DigitNet"
            else TinyNet(narrow, dropout, margin, crops)
        )
        self.averaged = AveragedModel(
            self.network, multi_avg_fn=self._move_average, use_buffers=True
        ).requires_grad_(False)
        for stage in ("train", "val", "test"):
            setattr(self, f"{stage}_loss", MeanMetric())
            # Micro: correct / all. The default averages the accuracies of the classes instead.
            # Its validation of the labels, which the files' sums vouch for, would take longer.
            accuracy = MulticlassAccuracy(CLASSES, average="micro", validate_args=False)
            setattr(self, f"{stage}_acc", accuracy)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 28, 28) in [0, 1] -> (B, 10) logits of the averaged network."""
        logits: Tensor = self.averaged(images)
        return logits

    def on_train_start(self) -> None:
        schedule: Any = self.lr_schedulers()
        steps = int(self.trainer.estimated_stepping_batches)
        if schedule.total_steps != steps:  # it came with the checkpoint of a resumed fit
            raise ValueError(
                f"--ckpt_path holds a schedule of {schedule.total_steps} steps and this fit has"
                f" {steps}: use the --trainer.max_epochs and --data.batch_size that it began with"
            )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self.network(images)
        smoothing = self.hparams["label_smoothing"]
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        # Asking an accelerator for a number would make every step wait for it.
        asked = loss.device.type == "cpu" or batch_idx % 50 == 0
        if asked and not loss.isfinite():
            schedule: Any = self.lr_schedulers()
            raise ValueError(
                f"the loss is {loss.item()} at step {self.global_step}, at a learning rate of"
                f" {schedule.get_last_lr()[0]:.2g}: use a lower --model.max_lr"
            )
        self._count("train", loss, logits, labels, batch_idx)
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        self.averaged.update_parameters(self.network)

    def _move_average(
        self, averaged: Sequence[Tensor], current: Sequence[Tensor], _: Tensor | int
    ) -> None:
        # A window of a tenth of the steps so far, until it is the full one: else the random initial
        # weights would still be in the average after the first epoch.
        step = self.trainer.global_step
        decay = min(self.hparams["average"], (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(averaged, current, None)

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._evaluate("val", batch, batch_idx)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._evaluate("test", batch, batch_idx)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """(B,) digits."""
        return self(batch[0]).argmax(dim=1)

    def _evaluate(self, stage: str, batch: Batch, batch_idx: int) -> Tensor:
        """(B, 10) logits, for callbacks; loss and accuracy are counted."""
        images, labels = batch
        logits: Tensor = self(images)
        self._count(stage, F.cross_entropy(logits, labels), logits, labels, batch_idx)
        return logits

    def _count(
        self, stage: str, loss: Tensor, logits: Tensor, labels: Tensor, batch_idx: int
    ) -> None:
        """Mean loss over images and exact accuracy of an epoch, over all processes."""
        mean_loss, accuracy = getattr(self, f"{stage}_loss"), getattr(self, f"{stage}_acc")
        mean_loss.update(loss.detach(), len(labels))
        accuracy.update(logits, labels)
        # Lightning computes and resets what is logged when the epoch ends. Logging it once tells it
        # as much as logging it at every step, which costs a twentieth of a step.
        if batch_idx == 0:
            metrics = {f"{stage}/loss": mean_loss, f"{stage}/acc": accuracy}
            self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(labels))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        steps = self.trainer.estimated_stepping_batches
        if not math.isfinite(steps):
            raise ValueError("--trainer.max_epochs -1 has no end, which a one-cycle schedule needs")
        hparams = self.hparams
        if hparams["pct_start"] * steps == 1:  # torch would divide by zero
            raise ValueError(
                f"--model.pct_start {hparams['pct_start']} of {int(steps)} steps is a single one,"
                " in which the rate cannot rise: use another, or more steps"
            )
        optimizer: torch.optim.Optimizer
        if hparams["optimizer"] == "muon":
            max_lr = [hparams["muon_lr"], hparams["max_lr"]]
            optimizer = Muon(self.network.parameters(), *max_lr)
        else:
            max_lr = [hparams["max_lr"]]
            optimizer = torch.optim.Adam(
                self.network.parameters(),
                lr=hparams["max_lr"],
                weight_decay=hparams["weight_decay"],
                fused=True,  # one pass over all parameters instead of one per tensor
            )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=max_lr,
            total_steps=int(steps),
            pct_start=hparams["pct_start"],
            div_factor=hparams["div_factor"],
            final_div_factor=hparams["final_div_factor"],
            # By default Adam's first beta moves against the rate: 0.95, 0.85 at the top, 0.95.
            cycle_momentum=hparams["optimizer"] == "adam",
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step", "name": "lr"},
        }
