"""Per-image random affine and brightness/contrast jitter of a whole batch, in one resampling.

The distribution is that of torchvision's `RandomAffine` followed by its `ColorJitter`, each applied
to every image by itself; tests/test_augment.py holds the two side by side. Instead of B calls on
B images, one (B,) tensor is drawn per parameter and the batch is resampled once on its own device.
"""

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_lit.errors import SettingError


class Draws(NamedTuple):
    """What was drawn for each image of a batch: one (B,) tensor per parameter."""

    degrees: Tensor  # rotation, clockwise on the screen
    shift_x: Tensor  # whole pixels, to the right
    shift_y: Tensor  # whole pixels, downwards
    scale: Tensor
    shear: Tensor  # degrees, along x
    brightness: Tensor  # factor
    contrast: Tensor  # factor
    brightness_first: Tensor  # bool: brightness before contrast, or the other way round


@dataclass(frozen=True)
class Augmentation:
    """Strength of each change of an image; 0 switches it off. Every image gets its own draw.

    Args:
        degrees: Largest rotation, in degrees, either way.
        translate: Largest shift as a fraction of width and height; rounded to whole pixels.
        scale: Largest change of size: 0.1 draws a factor from 0.9 to 1.1.
        shear: Largest horizontal shear, in degrees, either way.
        brightness: Largest change of the brightness factor: 0.2 draws from 0.8 to 1.2.
        contrast: Largest change of the contrast factor: 0.2 draws from 0.8 to 1.2.
    """

    degrees: float = 7.0
    translate: float = 0.04
    scale: float = 0.1
    shear: float = 5.0
    brightness: float = 0.2
    contrast: float = 0.2

    def __post_init__(self) -> None:
        limits = {"degrees": 180, "shear": 89}  # the others are fractions
        for field in fields(self):
            value, limit = getattr(self, field.name), limits.get(field.name, 1)
            # A scale of 1 would divide by zero; a shear of 90 degrees has no tangent.
            if not 0 <= value <= limit or (field.name == "scale" and value == 1):
                raise SettingError(
                    f"--data.augmentation.{field.name} must be from 0 to {limit}"
                    f"{' (1 excluded)' if field.name == 'scale' else ''}, not {value}"
                )

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) in [0, 1] -> the same, each image changed by its own draw."""
        if not len(images):
            return images  # which torch cannot resample
        draws = self.draw(images)
        images = affine(images, draws)
        return jitter(images, draws) if self.brightness or self.contrast else images

    def draw(self, images: Tensor) -> Draws:
        """One independent draw for each of the B images, on their device."""
        batch, _, height, width = images.shape

        def uniform(center: float, radius: float) -> Tensor:
            empty = torch.empty(batch, dtype=images.dtype, device=images.device)
            return empty.uniform_(center - radius, center + radius)

        return Draws(
            degrees=uniform(0, self.degrees),
            shift_x=uniform(0, self.translate * width).round(),
            shift_y=uniform(0, self.translate * height).round(),
            scale=uniform(1, self.scale),
            shear=uniform(0, self.shear),
            brightness=uniform(1, self.brightness),
            contrast=uniform(1, self.contrast),
            brightness_first=torch.rand(batch, device=images.device) < 0.5,
        )


def affine(images: Tensor, draws: Draws) -> Tensor:
    """(B, 1, H, W) -> sheared, scaled, rotated and shifted, bilinear, black outside.

    An output pixel p takes its value from A^-1 (p - shift) with A = rotation @ x-shear * scale, in
    pixels from the centre: the convention of `torchvision.transforms.functional.affine`.
    """
    height, width = images.shape[-2:]
    angle, shear = draws.degrees * (math.pi / 180), draws.shear * (math.pi / 180)
    cos, sin, tan = angle.cos(), angle.sin(), shear.tan()
    # Inverse of [[cos, -cos tan - sin], [sin, cos - sin tan]], whose determinant is 1.
    xx, xy = (cos - sin * tan) / draws.scale, (cos * tan + sin) / draws.scale
    yx, yy = -sin / draws.scale, cos / draws.scale
    device, dtype = images.device, images.dtype
    columns = torch.arange(width, device=device, dtype=dtype) - (width - 1) / 2
    rows = torch.arange(height, device=device, dtype=dtype) - (height - 1) / 2
    columns, rows = columns - draws.shift_x[:, None], rows - draws.shift_y[:, None]
    # grid_sample measures in half widths and half heights. affine_grid would take seven times as
    # long to multiply its many small matrices.
    per_column = torch.stack([xx * (2 / width), yx * (2 / height)], dim=1)[:, :, None, None]
    per_row = torch.stack([xy * (2 / width), yy * (2 / height)], dim=1)[:, :, None, None]
    grid = torch.addcmul(per_row * rows[:, None, :, None], per_column, columns[:, None, None])
    return F.grid_sample(images, grid.permute(0, 2, 3, 1), align_corners=False)


def jitter(images: Tensor, draws: Draws) -> Tensor:
    """(B, 1, H, W) in [0, 1] -> the same with brightness and contrast changed, in drawn order.

    Brightness multiplies by its factor; contrast blends with the image's own mean; both clamp.
    """
    first = draws.brightness_first.view(-1, 1, 1, 1)
    brightness = draws.brightness.view(-1, 1, 1, 1)
    contrast = draws.contrast.view(-1, 1, 1, 1)
    for is_brightness in (first, ~first):
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        factor = torch.where(is_brightness, brightness, contrast)
        offset = torch.where(is_brightness, 0.0, (1 - contrast) * mean)
        images = torch.addcmul(offset, images, factor).clamp_(0, 1)
    return images
