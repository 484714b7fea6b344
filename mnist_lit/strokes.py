"""Augmentation that writes as other people do: wider pens, other slants, worse scans, torn edges.

Complements augment.py, which moves an image as a whole. Everything is off by default; a strength of
0 draws no random numbers and returns the images as they are. Elastic displacement follows Simard,
Steinkraus and Platt (Best practices for convolutional neural networks applied to visual document
analysis, 2003), on a coarse grid of random vectors in place of blurred noise.
"""

import math
from dataclasses import dataclass, fields
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_lit.errors import SettingError

GRID = 4  # random vectors along each side of an elastic field: bends of about seven pixels
PIXEL_SIZES = 16  # steps between 1 and the coarsest pixel
LIMITS = {"share": 1, "width": 1, "line": 1, "noise": 1, "slant": 60, "stretch": 2, "gamma": 3}
LARGEST = 8  # of the others, which are in pixels


class Edges(NamedTuple):
    """First and last row and column that hold ink: (B, 1, 1, 1) each."""

    top: Tensor
    bottom: Tensor
    left: Tensor
    right: Tensor


@dataclass(frozen=True)
class Strokes:
    """Strength of each change; 0 switches it off. Every image gets a draw of its own.

    Args:
        share: Share of the images that are changed at all; the others stay clean.
        width: Largest change of the pen: 1 widens a stroke by up to a pixel on either side or thins
            it as much, but never away.
        slant: Largest slant, in degrees, either way.
        stretch: Largest uneven stretch: 0.5 draws a ratio of width to height from 1/1.5 to 1.5.
        elastic: Largest displacement of a point of a stroke, in pixels.
        blur: Largest standard deviation of a Gaussian blur, in pixels.
        coarse: Largest growth of a pixel: 2 draws a digit with pixels up to three times as large
            and enlarges it smoothly again.
        gamma: Largest change of the grey levels: 0.5 draws an exponent from 1/1.5 to 1.5.
        noise: Largest standard deviation of noise.
        line: Share of images with what is left of a frame: smaller, with a line at one side.
        cut: Largest part of a digit that is lost at one side, in pixels.
    """

    share: float = 1.0
    width: float = 0.0
    slant: float = 0.0
    stretch: float = 0.0
    elastic: float = 0.0
    blur: float = 0.0
    coarse: float = 0.0
    gamma: float = 0.0
    noise: float = 0.0
    line: float = 0.0
    cut: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, limit = getattr(self, field.name), LIMITS.get(field.name, LARGEST)
            if not 0 <= value <= limit:
                raise SettingError(
                    f"--data.strokes.{field.name} must be from 0 to {limit}, not {value}"
                )

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) in [0, 1] -> the same, each image written by another hand."""
        strengths = [getattr(self, field.name) for field in fields(self) if field.name != "share"]
        if not (self.share and any(strengths) and len(images)):
            return images
        batch, device = len(images), images.device

        def uniform(low: float, high: float) -> Tensor:
            return torch.empty(batch, 1, 1, 1, device=device).uniform_(low, high)

        chosen = uniform(0, 1) < self.share
        clean = images
        if self.width:
            images = pen(images, uniform(-self.width, self.width))
        framed = uniform(0, 1) < self.line
        side = torch.randint(4, (batch, 1, 1, 1), device=device)
        if self.slant or self.stretch or self.elastic or self.line:
            stretch = math.log1p(self.stretch)
            images = warp(
                images,
                slant=uniform(-self.slant, self.slant),
                stretch=uniform(-stretch, stretch).exp(),
                scale=torch.where(framed, uniform(0.6, 0.95), 1.0),
                elastic=torch.empty(batch, 2, GRID, GRID, device=device).uniform_(-1, 1)
                * self.elastic,
            )
        if self.cut:
            images = cut(images, uniform(0, self.cut), side)
        if self.line:
            images = torch.where(
                framed, frame(images, side, uniform(0, 2.5), uniform(1, 2)), images
            )
        if self.coarse:
            images = enlarge(images, uniform(0, self.coarse))
        if self.blur:
            images = blur(images, uniform(0, self.blur))
        if self.width or self.coarse or self.blur:
            images = as_bright(images, clean)
        if self.gamma:
            gamma = math.log1p(self.gamma)
            images = images.clamp(min=0) ** uniform(-gamma, gamma).exp()
        if self.noise:
            images = images + torch.randn_like(images) * uniform(0, self.noise)
        return torch.where(chosen, images.clamp(0, 1), clean)


def pen(images: Tensor, width: Tensor) -> Tensor:
    """Strokes wider by up to `width` pixels on either side, or thinner where it is negative."""
    wider = torch.lerp(images, spread(images), width.clamp(min=0))
    thinner = torch.lerp(images, -spread(-images), (-width).clamp(0, 0.75))
    return torch.where(width < 0, thinner, wider)


def spread(images: Tensor) -> Tensor:
    """The largest of each pixel's 3 x 3 neighbourhood, 0 outside; faster than pooling on a CPU."""
    padded = F.pad(images, (1, 1, 1, 1))
    rows = torch.maximum(torch.maximum(padded[:, :, :-2], padded[:, :, 1:-1]), padded[:, :, 2:])
    return torch.maximum(torch.maximum(rows[..., :-2], rows[..., 1:-1]), rows[..., 2:])


def as_bright(images: Tensor, reference: Tensor) -> Tensor:
    """Each image with its reference's peak: whoever prepares a digit makes its strokes white."""
    peak, wanted = (each.amax(dim=(2, 3), keepdim=True) for each in (images, reference))
    return images * (wanted / peak.clamp(min=0.1))


def warp(images: Tensor, slant: Tensor, stretch: Tensor, scale: Tensor, elastic: Tensor) -> Tensor:
    """Slanted (degrees), stretched (width / height), scaled and bent, in one resampling.

    `elastic` is (B, 2, GRID, GRID): displacements in pixels, along x and y. The longer side keeps
    its length when an image is stretched, because whoever prepares a digit scales it into a box.
    """
    height, width = images.shape[-2:]
    tangent = (slant * (math.pi / 180)).tan()
    x_scale, y_scale = stretch.clamp(max=1) * scale, (1 / stretch).clamp(max=1) * scale
    # An output pixel takes its value from x / x_scale + tangent * y, y / y_scale.
    zero = torch.zeros_like(tangent)
    theta = torch.cat([1 / x_scale, tangent * (height / width), zero, zero, 1 / y_scale, zero], 3)
    grid = F.affine_grid(theta.view(-1, 2, 3), list(images.shape), align_corners=False)
    bend = F.interpolate(elastic, size=(height, width), mode="bilinear", align_corners=True)
    pixel = torch.tensor([2 / width, 2 / height], device=images.device)
    return F.grid_sample(images, grid + bend.permute(0, 2, 3, 1) * pixel, align_corners=False)


def edges(images: Tensor) -> Edges:
    """Where the ink of each image begins and ends; an empty image ends where it begins."""

    def ends(used: Tensor) -> tuple[Tensor, Tensor]:
        first, last = used.int().argmax(dim=1), used.shape[1] - 1 - used.flip(1).int().argmax(dim=1)
        return first.view(-1, 1, 1, 1), last.view(-1, 1, 1, 1)

    ink = images[:, 0] > 0.25
    return Edges(*ends(ink.any(dim=2)), *ends(ink.any(dim=1)))


def coordinates(images: Tensor) -> tuple[Tensor, Tensor]:
    """(1, 1, H, 1) rows and (1, 1, 1, W) columns."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device, dtype=images.dtype)
    columns = torch.arange(width, device=images.device, dtype=images.dtype)
    return rows.view(1, 1, -1, 1), columns.view(1, 1, 1, -1)


def cut(images: Tensor, lost: Tensor, side: Tensor) -> Tensor:
    """Without the last `lost` pixels of the ink at a side: 0 top, 1 bottom, 2 left, 3 right."""
    ink, (y, x) = edges(images), coordinates(images)
    beyond = torch.where(side < 2, y, x)  # broadcasts to (B, 1, H, W)
    first = torch.where(side == 0, ink.top, ink.left)
    last = torch.where(side == 1, ink.bottom, ink.right)
    gone = torch.where(side % 2 == 0, beyond < first + lost.floor(), beyond > last - lost.floor())
    return images.masked_fill(gone, 0)


def frame(images: Tensor, side: Tensor, gap: Tensor, thick: Tensor) -> Tensor:
    """With a line along one side of the ink, `gap` pixels away and `thick` pixels wide."""
    ink, (y, x) = edges(images), coordinates(images)
    place = torch.where(
        side < 2,
        torch.where(side == 0, ink.top - 1 - gap, ink.bottom + 1 + gap),
        torch.where(side == 2, ink.left - 1 - gap, ink.right + 1 + gap),
    )
    distance = (torch.where(side < 2, y, x) - place).abs()
    along = torch.where(side < 2, x, y)
    centre = images.shape[-1] / 2
    line = ((thick + 1) / 2 - distance).clamp(0, 1) * ((along - centre).abs() < 10 + gap)
    return torch.maximum(images, line)


def enlarge(images: Tensor, coarse: Tensor) -> Tensor:
    """As if scanned with pixels 1 + `coarse` times as large, and enlarged smoothly again."""
    height, width = images.shape[-2:]
    index = (coarse.flatten() * ((PIXEL_SIZES - 1) / LARGEST)).round().long()
    down, across = (_coarse(side, images.dtype, images.device) for side in (height, width))
    return resample(images, down[index], across[index])


@cache
def _coarse(side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(PIXEL_SIZES, side, side): matrices that average into larger pixels and interpolate back."""
    # On the CPU: Apple's MPS refuses to pool into sizes that do not divide the side.
    identity = torch.eye(side, dtype=dtype).unsqueeze(1)
    sizes = [
        max(1, round(side / (1 + LARGEST * step / (PIXEL_SIZES - 1))))
        for step in range(PIXEL_SIZES)
    ]
    return torch.stack(
        [
            F.interpolate(F.adaptive_avg_pool1d(identity, size), size=side, mode="linear")
            .squeeze(1)
            .T
            for size in sizes
        ]
    ).to(device)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Each image blurred by a Gaussian of its own standard deviation, in pixels."""
    height, width = images.shape[-2:]
    return resample(images, _gaussian(height, sigma), _gaussian(width, sigma))


def _gaussian(side: int, sigma: Tensor) -> Tensor:
    """(B, 1, 1, 1) -> (B, side, side), rows of sum 1."""
    places = torch.arange(side, device=sigma.device, dtype=sigma.dtype)
    distance = (places.view(1, -1, 1) - places.view(1, 1, -1)) ** 2
    return (-distance / (2 * sigma.view(-1, 1, 1).clamp(min=0.05) ** 2)).softmax(dim=2)


def resample(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows @ image @ columns^T for each image with matrices of its own."""
    return (rows @ images[:, 0] @ columns.mT).unsqueeze(1)
