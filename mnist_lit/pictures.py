"""What a run draws: augmented digits, confusion matrix, errors, calibration."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torchmetrics import CatMetric
from torchmetrics.classification import MulticlassCalibrationError, MulticlassConfusionMatrix
from torchvision.utils import make_grid

from mnist_lit.console import percent

BINS = 15  # of the reliability diagram


class Pictures(Callback):
    """Pictures for TensorBoard: augmented training digits, confusion matrix, the errors.

    And for every logger the training loss by the step, as often as --trainer.log_every_n_steps
    says, and the accuracy of each digit in every validation and in the test.

    Those of the validation are of MNIST's digits in the best epoch, and are drawn when the fit
    ends. Those of a test come with the accuracy of each digit, a reliability diagram and the errors
    among one's own digits, and are also written to the run's folder. All counts are over all
    processes; the digits that are shown are those of the first.
    """

    SHOWN = 40  # errors in the grid: a fitted network makes about 60 in 10,000

    def __init__(self) -> None:
        self.best: dict[str, Any] = {"acc": -1.0}
        self.folder: Path | None = None  # of the pictures of a test
        self.counts = MulticlassConfusionMatrix(10, validate_args=False)
        self.calibration = MulticlassCalibrationError(10, n_bins=BINS, validate_args=False)
        self.confidence = CatMetric()  # probability of each predicted digit
        self.correct = CatMetric()  # 1 where that was right, else 0

    def reset(self, device: torch.device) -> None:
        # image (28, 28), true, predicted
        self.errors: list[tuple[Tensor, int, int]] = []
        self.own_errors: list[tuple[Tensor, int, int]] | None = None  # there are no such digits
        for metric in (self.counts, self.calibration, self.confidence, self.correct):
            metric.reset()
            metric.to(device)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == 0:
            for board in boards(trainer):
                grid = make_grid(batch[0][:64].float().cpu(), nrow=16)
                board.add_image("augmented training digits", grid, 0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            log(trainer, {"train/loss_step": float(outputs["loss"])})

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.reset(pl_module.device)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.reset(pl_module.device)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        images, labels = batch
        if dataloader_idx:
            errors = self.own_errors = self.own_errors or []
        else:
            errors = self.errors
            self.counts.update(outputs, labels)
        predicted = outputs.argmax(dim=1)
        for i in (predicted != labels).nonzero().flatten().tolist():
            if len(errors) < self.SHOWN:
                errors.append((images[i, 0].float().cpu(), int(labels[i]), int(predicted[i])))

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        if dataloader_idx:
            return
        probabilities, labels = outputs.float().softmax(dim=1), batch[1]
        self.calibration.update(probabilities, labels)
        confidence, predicted = probabilities.max(dim=1)
        self.confidence.update(confidence)
        self.correct.update(predicted == labels)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        metrics = trainer.callback_metrics
        acc = float(metrics.get("both/acc", metrics["val/acc"]))
        confusion = self.counts.compute().cpu()
        log(trainer, of_each_digit("val", confusion))
        if acc > self.best["acc"]:
            self.best = {"acc": acc, "confusion": confusion, "errors": self.errors}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if "confusion" in self.best:
            for board in boards(trainer):
                step = trainer.global_step
                board.add_figure("val/confusion", draw_confusion(self.best["confusion"]), step)
                board.add_figure("val/errors", draw_errors(self.best["errors"]), step)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # By every process, each of which waits for the others here.
        self.confusion = self.counts.compute().cpu()  # (10, 10) [true digit, predicted digit]
        self.calibration_error = float(self.calibration.compute())
        confidence, correct = self.confidence.compute().cpu(), self.correct.compute().cpu()
        log(trainer, of_each_digit("test", self.confusion))
        loggers = [x for x in trainer.loggers if isinstance(x, TensorBoardLogger | CSVLogger)]
        if not (loggers and trainer.is_global_zero):
            return
        self.folder = Path(loggers[0].log_dir)
        figures = {
            "confusion": draw_confusion(self.confusion),
            "errors": draw_errors(self.errors),
            "digits": draw_digit_accuracy(self.confusion),
            "reliability": draw_reliability(confidence, correct, self.calibration_error),
        }
        if self.own_errors is not None:
            figures["own-errors"] = draw_errors(self.own_errors)
        for name, figure in figures.items():
            path = self.folder / f"test-{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.set_dpi(120)
            canvas = FigureCanvasAgg(figure)
            canvas.draw()  # once: savefig lays a figure out first, by drawing it
            pixels = np.asarray(canvas.buffer_rgba())[:, :, :3]
            try:
                Image.fromarray(pixels).save(path)
            except OSError:
                path.unlink(missing_ok=True)  # what there is of it
                raise
            for board in boards(trainer):
                board.add_image(f"test/{name}", pixels, trainer.global_step, dataformats="HWC")

    def test_table(self) -> str:
        """The accuracy of each digit in the test, and the expected calibration error, as text."""
        lines = ["digit   images   right   accuracy"]
        counts = zip(
            self.confusion.diagonal().tolist(), self.confusion.sum(1).tolist(), strict=True
        )
        rows = [(str(digit), *count) for digit, count in enumerate(counts)]
        rows.append(("all", int(self.confusion.trace()), int(self.confusion.sum())))
        for digit, right, images in rows:
            accuracy = percent(right / images) if images else "-"
            lines.append(f"{digit:>5}  {images:7,}  {right:6,}   {accuracy:>8}")
        ece = percent(self.calibration_error)
        return "\n".join([*lines, f"expected calibration error {ece} ({BINS} bins)"])

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


def boards(trainer: Trainer) -> list[Any]:
    """Where TensorBoard's loggers draw; of the other processes, nowhere."""
    return [x.experiment for x in trainer.loggers if isinstance(x, TensorBoardLogger)]


def log(trainer: Trainer, figures: dict[str, float]) -> None:
    """To every logger, at this step; by the first process alone."""
    for logger in trainer.loggers:
        logger.log_metrics(figures, trainer.global_step)


def of_each_digit(stage: str, confusion: Tensor) -> dict[str, float]:
    """(10, 10) counts [true, predicted] -> the accuracy of each digit that is there."""
    images = confusion.sum(dim=1)
    accuracy = confusion.diagonal() / images
    return {f"{stage}-digits/{i}": float(accuracy[i]) for i in range(10) if images[i]}


def draw_confusion(confusion: Tensor) -> Figure:
    """(10, 10) counts [true, predicted] -> a heat map in which single errors are visible."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    errors = confusion.clone().fill_diagonal_(0)
    axes.imshow(errors.numpy(), cmap="Reds", vmax=max(5, int(errors.max()) * 2))
    for true in range(10):
        for predicted in range(10):
            if count := int(confusion[true, predicted]):
                axes.text(
                    predicted,
                    true,
                    str(count),
                    ha="center",
                    va="center",
                    color="0.6" if true == predicted else "black",
                )
    correct, total = int(confusion.trace()), int(confusion.sum())
    axes.set(
        title=f"{total - correct} errors of {total:,}: {percent(correct / max(total, 1))} accuracy",
        xlabel="predicted",
        ylabel="true",
        xticks=range(10),
        yticks=range(10),
    )
    return figure


def draw_errors(errors: list[tuple[Tensor, int, int]]) -> Figure:
    """Images (28, 28) with their true and predicted digit -> a labelled grid."""
    columns, across, down = 8, 32, 44  # pixels from one image to the next
    rows = max(1, math.ceil(len(errors) / columns))
    figure = Figure(figsize=(columns * 0.8, rows * 1.1 + 0.4), layout="constrained")
    figure.suptitle("true digit → predicted digit")
    axes = figure.add_subplot()  # of its own for each image, they would take seconds to lay out
    for position, (image, true, predicted) in enumerate(errors):
        x, y = position % columns * across, position // columns * down
        axes.imshow(image.numpy(), cmap="gray_r", vmin=0, vmax=1, extent=(x, x + 28, y + 28, y))
        axes.text(x + 14, y - 2, f"{true} → {predicted}", ha="center")
    axes.set(xlim=(0, columns * across), ylim=(rows * down - 12, -12))
    axes.axis("off")
    return figure


def draw_digit_accuracy(confusion: Tensor) -> Figure:
    """(10, 10) counts [true, predicted] -> a bar for each digit, from the worst of them up."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.add_subplot()
    accuracy = 100 * confusion.diagonal() / confusion.sum(dim=1).clamp(min=1)
    bars = axes.bar(range(10), accuracy.tolist(), color="tab:blue")
    axes.bar_label(bars, fmt="%.2f", fontsize=8)
    floor = float(accuracy.min())
    axes.set(
        ylim=(max(0, floor - max(0.2, (100 - floor) / 2)), 100),
        xticks=range(10),
        xlabel="true digit",
        ylabel="accuracy, %",
    )
    return figure


def draw_reliability(confidence: Tensor, correct: Tensor, error: float) -> Figure:
    """(N,) probabilities given to the predicted digits, (N,) bool -> how often they were right.

    Bins of equal width with the images in each (Guo et al., On calibration of modern neural
    networks, 2017). `error` is the expected calibration error, which the title states.
    """
    figure = Figure(figsize=(5, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    counts = torch.bincount(bins, minlength=BINS)
    filled = counts.nonzero().flatten()
    mean_confidence, right = (
        (torch.bincount(bins, values, minlength=BINS)[filled] / counts[filled]).tolist()
        for values in (confidence, correct.float())
    )
    upper.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, label="perfectly calibrated")
    upper.plot(mean_confidence, right, "o-", color="tab:blue", label="this network")
    upper.set(title=f"expected calibration error {percent(error)}", ylabel="accuracy")
    upper.legend()
    lower.bar([(i + 0.5) / BINS for i in range(BINS)], counts.tolist(), width=0.9 / BINS)
    lower.set(
        yscale="log", xlim=(0, 1), xlabel="probability of the predicted digit", ylabel="images"
    )
    return figure
