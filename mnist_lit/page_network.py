"""The page network and its training: `mnist-lit train_pages`.

PageNet finds digits as points (Zhou, Wang and Krähenbühl, Objects as points, 2019): at every fourth
pixel it says whether a digit's centre is there, how large the digit is, and which. It is a feature
pyramid (Lin et al., Feature pyramid networks for object detection, 2017) of separable
convolutions. Training sees every synthetic page once; validation uses pages of held-out writers,
images and fonts.
"""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, Dataset, Sampler

from mnist_lit.detector import STRIDE, overlap, peaks
from mnist_lit.ema import EMA
from mnist_lit.muon import Muon
from mnist_lit.pages import IGNORED, draw_page
from mnist_lit.synthetic import Characters

CHANNELS = (12, 24, 48, 64, 64)  # at 1/2, 1/4, 1/8, 1/16 and 1/32 of the page's size
NECK = 40  # channels of the way back up
OUTPUTS = 15  # centre, its distance x and y, logarithms of width and height, logits of ten digits
MAX_DIGITS = 80  # of a page in a batch
NONE = -2  # the label of a place in a batch that no digit takes
VAL_SEED = 1 << 40  # of the first page of validation
FOUND = 0.4  # the score of a digit in validation

Batch = tuple[Tensor, Tensor, Tensor]  # pages (B, 3, H, W) uint8, boxes (B, N, 4), labels (B, N)


class PageBlock(nn.Module):
    """Convolution, BatchNorm, ReLU; the input is added where its shape is that of the output."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, separable: bool = True
    ) -> None:
        super().__init__()
        self.conv: nn.Module
        if separable:
            depthwise = nn.Conv2d(
                in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False
            )
            self.conv = nn.Sequential(
                depthwise, nn.Conv2d(in_channels, out_channels, 1, bias=False)
            )
        else:
            self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.add = separable and stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        y = F.relu(self.norm(self.conv(x)))
        return x + y if self.add else y


class PageNet(nn.Module):
    """Find the digits of a page: 52,691 parameters."""

    def __init__(self) -> None:
        super().__init__()
        c2, c4, c8, c16, c32 = CHANNELS
        self.stem = nn.Sequential(
            PageBlock(3, c2, 2, separable=False), PageBlock(c2, c4, 2, separable=False)
        )
        self.stage4 = PageBlock(c4, c4)
        self.stage8 = nn.Sequential(PageBlock(c4, c8, 2), PageBlock(c8, c8))
        self.stage16 = nn.Sequential(
            PageBlock(c8, c16, 2), PageBlock(c16, c16), PageBlock(c16, c16)
        )
        self.stage32 = nn.Sequential(
            PageBlock(c16, c32, 2), PageBlock(c32, c32), PageBlock(c32, c32)
        )
        self.side32, self.side16, self.side8, self.side4 = (
            nn.Conv2d(channels, NECK, 1) for channels in (c32, c16, c8, c4)
        )
        self.merge16, self.merge8, self.merge4 = (PageBlock(NECK, NECK) for _ in range(3))
        self.head = PageBlock(NECK, NECK)
        self.output = nn.Conv2d(NECK, OUTPUTS, 1)
        bias: Any = self.output.bias
        nn.init.constant_(bias[:1], -4.0)  # digits are rare
        self.to(memory_format=torch.channels_last)

    def forward(self, pages: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1], H and W multiples of 32 -> (B, 15, H / 4, W / 4), see `peaks`."""
        x4 = self.stage4(self.stem(pages * 4 - 2))
        x8 = self.stage8(x4)
        x16 = self.stage16(x8)
        x = self.side32(self.stage32(x16))
        x = self.merge16(F.interpolate(x, scale_factor=2.0) + self.side16(x16))
        x = self.merge8(F.interpolate(x, scale_factor=2.0) + self.side8(x8))
        x = self.merge4(F.interpolate(x, scale_factor=2.0) + self.side4(x4))
        outputs: Tensor = self.output(self.head(x))
        return outputs


class PageDetector(LightningModule):
    """Trains a PageNet; validates the exponential moving average of its weights.

    After 4,000 pages the validation loss is 4.09 with Muon, 4.57 with AdamW (one run each).

    Args:
        muon_lr: Muon's learning rate for the convolutions at the top of the one-cycle schedule.
        max_lr: Adam's learning rate for gains and biases, at the same time.
        ema_decay: Decay per step of the exponential moving average of the weights.
    """

    def __init__(
        self, muon_lr: float = 0.02, max_lr: float = 8e-3, ema_decay: float = 0.998
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.muon_lr, self.max_lr = muon_lr, max_lr
        self.network = PageNet()
        self.ema = EMA(self.network, ema_decay, trained=False)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = Muon(self.network.parameters(), self.muon_lr, self.max_lr)
        steps, rates = int(self.trainer.estimated_stepping_batches), [self.muon_lr, self.max_lr]
        schedule = OneCycleLR(
            optimizer,
            rates,
            steps,
            pct_start=0.05,
            anneal_strategy="linear",
            cycle_momentum=False,
            div_factor=10,
            final_div_factor=100,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        self.ema.begin(self.network)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        pages, boxes, labels = batch
        outputs = self.network(as_float(pages)).float()
        parts = page_losses(outputs, boxes, labels)
        self.log_dict({f"train/{name}": value for name, value in parts.items()}, prog_bar=True)
        return torch.stack(list(parts.values())).sum()

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self.ema.update(self.trainer.global_step)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        pages, boxes, labels = batch
        outputs: Tensor = self.ema(as_float(pages)).float()
        parts = page_losses(outputs, boxes, labels)
        self.log_dict({f"val/{name}": value for name, value in parts.items()}, sync_dist=True)
        exact = [
            is_exact(output.cpu().numpy(), box.cpu().numpy(), label.cpu().numpy())
            for output, box, label in zip(outputs, boxes, labels, strict=True)
        ]
        self.log("val/acc", float(np.mean(exact)), True, batch_size=len(exact), sync_dist=True)
        if batch_idx == 0 and isinstance(self.logger, TensorBoardLogger):
            shown = torch.stack([drawn(*page) for page in zip(pages, outputs, strict=True)])
            self.logger.experiment.add_images("val/pages", shown, self.current_epoch)


class PagesDataModule(LightningDataModule):
    """Synthetic pages, others in every epoch.

    Args:
        pages: Pages of an epoch.
        val_pages: Pages of validation, by writers, of images and in fonts that are held out.
        batch_size: Pages per optimizer step, in each process.
        num_workers: Processes that draw pages; drawing one takes a third of a training step.
    """

    def __init__(
        self, pages: int = 3000, val_pages: int = 400, batch_size: int = 16, num_workers: int = 1
    ) -> None:
        super().__init__()
        self.pages, self.val_pages = pages, val_pages
        self.batch_size, self.num_workers = batch_size, num_workers

    def train_dataloader(self) -> DataLoader[Any]:
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        return self.loader(Pages(held_out=False), FreshSeeds(self.pages, seed << 24))

    def val_dataloader(self) -> DataLoader[Any]:
        return self.loader(Pages(held_out=True), FreshSeeds(self.val_pages, VAL_SEED, again=True))

    def loader(self, pages: "Pages", seeds: "FreshSeeds") -> DataLoader[Any]:
        return DataLoader(
            pages,
            self.batch_size,
            sampler=seeds,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            generator=torch.Generator(),  # else each epoch draws from the global one
        )


class Pages(Dataset[Batch]):
    """Pages by their seeds."""

    def __init__(self, held_out: bool) -> None:
        self.held_out = held_out
        self.characters: Characters | None = None  # loaded by the process that draws

    def __getitem__(self, seed: int) -> Batch:
        if self.characters is None:
            cv2.setNumThreads(1)
            self.characters = Characters(self.held_out)
        page = draw_page(self.characters, seed)
        number = min(len(page.labels), MAX_DIGITS)
        boxes, labels = torch.zeros(MAX_DIGITS, 4), torch.full((MAX_DIGITS,), NONE)
        boxes[:number] = torch.from_numpy(page.boxes[:number])
        labels[:number] = torch.from_numpy(page.labels[:number])
        return torch.from_numpy(page.pixels).permute(2, 0, 1), boxes, labels


class FreshSeeds(Sampler[int]):
    """Gives each epoch `number` seeds of its own, by its number; or the same ones `again`."""

    def __init__(self, number: int, first: int, again: bool = False) -> None:
        self.number, self.first, self.again = number, first, again

    def set_epoch(self, epoch: int) -> None:
        self.start = self.first + (0 if self.again else epoch * self.number)

    def __iter__(self) -> Iterator[int]:
        start = getattr(self, "start", self.first)
        return iter(range(start, start + self.number))

    def __len__(self) -> int:
        return self.number


def as_float(pages: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 -> the same in [0, 1], in the layout that the convolutions like best."""
    return pages.float().div_(255).contiguous(memory_format=torch.channels_last)


def page_losses(outputs: Tensor, boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the focal loss of the centres, the generalized IoU of the boxes, the digits' entropy.

    Args:
        outputs: (B, 15, H, W).
        boxes: (B, N, 4), in pixels.
        labels: (B, N): 0 to 9, IGNORED, or NONE.
    """
    places = outputs.shape[-1]
    columns = torch.arange(places, device=outputs.device)
    centres = (boxes[..., :2] + boxes[..., 2:]) / (2 * STRIDE)
    cells = centres.floor().clamp(0, places - 1)
    spread = 0.09 * (boxes[..., 2:] - boxes[..., :2]) / STRIDE + 0.3
    x, y = (
        torch.exp(-((columns - cells[..., i, None]) ** 2) / (2 * spread[..., i, None] ** 2))
        for i in (0, 1)
    )
    near = y[..., :, None] * x[..., None, :]  # (B, N, H, W): 1 at a digit's centre
    digits = near * (labels >= 0)[..., None, None]
    target, owner = digits.max(dim=1)  # (B, H, W)
    ignored = ((near * (labels == IGNORED)[..., None, None]).amax(dim=1) > 0.05) & (target < 1)
    logits = outputs[:, 0]
    p = logits.sigmoid()
    there = -((1 - p) ** 2) * F.logsigmoid(logits)
    not_there = -((1 - target) ** 4) * p**2 * F.logsigmoid(-logits)
    focal = torch.where(target == 1, there, not_there).masked_fill(ignored, 0)
    centre = focal.sum() / (target == 1).sum().clamp(min=1)
    page, row, column = (target > 0.6).nonzero(as_tuple=True)
    chosen = owner[page, row, column]
    values = outputs[page, :, row, column]  # (P, 15)
    middle = torch.stack([column, row], dim=1) + 0.5 + values[:, 1:3]
    half = 8 * values[:, 3:5].clamp(max=5).exp()
    found = torch.cat([middle * STRIDE - half, middle * STRIDE + half], dim=1)
    number = max(len(page), 1)
    box = 2 * generalized_iou_loss(found, boxes[page, chosen]).sum() / number
    digit = F.cross_entropy(values[:, 5:], labels[page, chosen], reduction="sum") / number
    return {"centre": centre, "box": box, "digit": digit}


def generalized_iou_loss(a: Tensor, b: Tensor) -> Tensor:
    """(N, 4), (N, 4) -> (N,) (Rezatofighi et al., Generalized intersection over union, 2019)."""
    areas = [(box[:, 2:] - box[:, :2]).clamp(min=0.1).prod(dim=1) for box in (a, b)]
    shared = torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    inside, around = shared.clamp(min=0).prod(dim=1), hull.clamp(min=0.1).prod(dim=1)
    union = areas[0] + areas[1] - inside
    return 1 - inside / union + (around - union) / around


def is_exact(output: Any, boxes: Any, labels: Any) -> bool:
    """Check that all digits of a page are found, each once and right, and nothing else."""
    places = [p for p in peaks(output, 1.0, np.zeros(2, np.float32)) if p.score >= FOUND]
    missing = {i for i, label in enumerate(labels) if label >= 0}
    for place in places:
        shared = [
            overlap(place.box, box) if label > NONE else 0.0
            for box, label in zip(boxes, labels, strict=True)
        ]
        owner = int(np.argmax(shared))
        if shared[owner] < 0.3:
            return False
        if labels[owner] >= 0:
            if owner not in missing or int(place.logits.argmax()) != labels[owner]:
                return False
            missing.remove(owner)
    return not missing


def drawn(page: Tensor, output: Tensor) -> Tensor:
    """(3, H, W) uint8 and the network's output -> the page with the boxes that were found."""
    pixels = np.ascontiguousarray(page.permute(1, 2, 0).cpu().numpy())
    for place in peaks(output.cpu().numpy(), 1.0, np.zeros(2, np.float32)):
        if place.score >= FOUND:
            left, top, right, bottom = (int(edge) for edge in place.box)
            cv2.rectangle(pixels, (left - 1, top - 1), (right + 1, bottom + 1), (0, 160, 0), 1)
            cv2.putText(
                pixels, str(place.logits.argmax()), (left, top - 2), 0, 0.35, (220, 0, 0), 1
            )
    return torch.from_numpy(pixels).permute(2, 0, 1)


def write_onnx(network: PageNet, path: Path) -> None:
    """Write the network as an ONNX model that takes one page of any size in multiples of 32.

    Raises:
        ImportError: The package `onnxscript` is missing; the extra `export` brings it.
    """
    height, width = (32 * torch.export.Dim(name, min=2, max=64) for name in ("h", "w"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own workings
        program = torch.onnx.export(
            network,
            (torch.rand(1, 3, 192, 256),),
            input_names=["page"],
            output_names=["places"],
            dynamic_shapes=({2: height, 3: width},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model: Any = program.model_proto
    for node in model.graph.node:
        node.ClearField("metadata_props")  # paths of the exporting machine
    path.write_bytes(model.SerializeToString())
