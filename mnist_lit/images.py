"""An image file -> where its ink is -> (28, 28), as MNIST shows a digit.

A photo or drawing is prepared as MNIST's authors prepared theirs (LeCun et al., Gradient-based
learning applied to document recognition, 1998): the ink alone, scaled into 20 x 20 by its longer
side, and placed in 28 x 28 by its centre of mass. To find the ink, a smooth surface is fitted to
the paper; what differs from it, along the ink's own colour, is ink. So dark on light and light on
dark, pencil and coloured pen, even and shaded paper take the same path.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

Array = npt.NDArray[np.float32]
# Pillow reads more, but some of it starts other programs or is a language of its own.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
MAX_PIXELS = 50_000_000  # a phone's photo, and 200 MB while it is decoded
SEEN_AT = 128  # pixels of the longer side at which ink is looked for
ENOUGH = 1024  # pixels of the longer side that are kept of a larger image
MIN_CONTRAST = 0.06  # between ink and paper, of the way from black to white
MAX_NOISE = 0.5  # of the paper, relative to the contrast
USUAL_STROKE = 2.5  # pixels: the median of MNIST's digits, 96 % of which have 1.7 to 3.9
THIN_STROKE = 1.7


class UnreadableImageError(ValueError):
    """The file is no image, is damaged or too large, or shows nothing."""


def open_image(file: Any) -> Image.Image:
    """An image file (path or binary file object) -> its first frame, upright, in RGB.

    Raises:
        OSError: The file cannot be opened.
        UnreadableImageError: It is empty, not an image, damaged, or has over MAX_PIXELS.
    """
    with open(file, "rb") if isinstance(file, str | Path) else nullcontext(file) as stream:
        if not stream.read(1):
            raise UnreadableImageError("the file is empty")
        stream.seek(0)
        try:
            image = Image.open(stream, formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise UnreadableImageError(f"more than {MAX_PIXELS:,} pixels") from error
        except Exception as error:  # arbitrary bytes make Pillow raise arbitrary errors
            raise UnreadableImageError(
                f"not an image in one of the formats {', '.join(FORMATS)}"
            ) from error
        if image.width * image.height > MAX_PIXELS:
            raise UnreadableImageError(
                f"{image.width} x {image.height} is more than {MAX_PIXELS:,} pixels"
            )
        try:
            image.draft("RGB", (ENOUGH, ENOUGH))  # a large JPEG is decoded at a fraction
            return _rgb(ImageOps.exif_transpose(_shrink(image)))
        except Exception as error:
            raise UnreadableImageError("a damaged image") from error


def _shrink(image: Image.Image) -> Image.Image:
    """Any mode -> one that can be averaged, no side over 2 * ENOUGH: what follows makes copies."""
    if image.mode.startswith("I"):
        image = image.convert("I").convert("F")
    elif image.mode in ("1", "P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    return image.reduce(max(1, max(image.size) // ENOUGH))


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode -> RGB: 16 bits to 8, and what is transparent becomes paper."""
    if image.mode == "F":
        levels = np.nan_to_num(np.asarray(image, dtype=np.float32))
        low, high = float(levels.min()), float(levels.max())
        # Twelve bits are often kept in sixteen, so the levels are stretched, but noise is not.
        full = next((full for full in (1, 255, 65_535) if high <= full), high)
        levels = (levels - low) * (255 / max(high - low, full / 16))
        return Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        opaque = np.asarray(image.getchannel("A")) > 127
        light = opaque.any() and np.asarray(image.convert("L"))[opaque].mean() > 127
        # Mostly opaque: a sheet with holes, filled in its own shade. Else: ink on nothing.
        paper = "white" if light == (opaque.mean() > 0.5) else "black"
        image = Image.alpha_composite(Image.new("RGBA", image.size, paper), image)
    return image.convert("RGB")


def prepare(image: Image.Image) -> Array:
    """An RGB image of one digit -> (28, 28) in [0, 1], white on black, as MNIST shows it.

    Raises:
        UnreadableImageError: Nothing stands out from the paper.
    """
    ink, box = _find_ink(image)
    zoom = max(image.size) / max(ink.shape)
    if zoom > 1:  # the digit may be small on a large sheet: look again, closer
        left, top, right, bottom = (zoom * edge for edge in box)
        margin = 0.25 * max(right - left, bottom - top)
        closer = (
            int(max(left - margin, 0)),
            int(max(top - margin, 0)),
            int(min(right + margin, image.width)),
            int(min(bottom + margin, image.height)),
        )
        ink, box = _find_ink(image.crop(closer))
    return _center(_scale(ink, box))


Box = tuple[int, int, int, int]  # left, top, right, bottom


def _find_ink(image: Image.Image) -> tuple[Array, Box]:
    """RGB image -> where the ink is: (H, W) in [0, 1], no side over SEEN_AT, and the box of it."""
    image = image.copy()
    image.thumbnail((SEEN_AT, SEEN_AT), Image.Resampling.BOX)
    difference = _colors(image) - _paper(image)  # (H, W, 3)
    # The ink's color relative to the paper: the mean of what differs by over half of the most.
    distance = _blur(np.linalg.norm(difference, axis=2))
    strong = distance >= 0.5 * distance.max()
    color = difference[strong].mean(axis=0)
    contrast = float(np.linalg.norm(color))
    ink = difference @ color / max(contrast, 1e-6) ** 2  # 0 on paper, 1 in a stroke
    noise = _spread(ink)
    if contrast < MIN_CONTRAST or noise > MAX_NOISE:
        raise UnreadableImageError("blank: nothing stands out from the paper")
    floor = min(max(0.05, 3 * noise), 0.4)
    ink = np.clip((ink - floor) / (1 - floor), 0, 1)
    ink = ink * _large_parts(_blur(ink) > 0.3)
    rows, columns = (np.flatnonzero((ink > 0.1).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise UnreadableImageError("blank: nothing stands out from the paper")
    return ink, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _paper(image: Image.Image) -> Array:
    """RGB image -> (H, W, 3) without what is on the paper: a quadratic surface for each channel.

    Fitted by iteratively reweighted least squares with Tukey's biweight, which ignores what lies
    far from the surface. What is far shrinks from one fit to the next: it starts at half of the way
    from black to white around the median of the image's border, where ink seldom is.
    """
    known, terms = _colors(image), _quadratic(image.height, image.width)
    border = np.concatenate([known[[0, -1]].reshape(-1, 3), known[:, [0, -1]].reshape(-1, 3)])
    sample = image.copy()
    sample.thumbnail((32, 32), Image.Resampling.BOX)  # averages, in which noise is small
    known, fitted = _colors(sample).reshape(-1, 3), _quadratic(sample.height, sample.width)
    fitted = fitted.reshape(-1, 6)
    stiff = np.diag(np.array([0, 1, 1, 10, 10, 10], dtype=np.float32)) * (0.001 * len(known))
    residual = np.abs(known - np.median(border, axis=0)).max(axis=1)
    for far in (0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05):
        weights = np.clip(1 - (residual / far) ** 2, 0, 1) ** 2
        weighted = fitted * weights[:, None]
        normal = weighted.T @ fitted + stiff * far
        normal[0, 0] += 1e-6  # solvable when nothing is near the surface
        surface = np.linalg.solve(normal, weighted.T @ known)
        residual = np.abs(known - fitted @ surface).max(axis=1)
    return terms @ surface


def _colors(image: Image.Image) -> Array:
    """RGB image -> (H, W, 3) in [0, 1]."""
    return np.asarray(image, dtype=np.float32) / np.float32(255)


def _quadratic(height: int, width: int) -> Array:
    """(H, W, 6): 1, x, y, x^2, xy and y^2 at the pixels' centers; x and y are from -1 to 1."""
    y, x = ((2 * np.arange(side, dtype=np.float32) + 1) / side - 1 for side in (height, width))
    terms = np.empty((height, width, 6), dtype=np.float32)
    terms[..., 0], terms[..., 1], terms[..., 2] = 1, x, y[:, None]
    terms[..., 3], terms[..., 4], terms[..., 5] = x * x, x * y[:, None], (y * y)[:, None]
    return terms


def _spread(values: Array) -> float:
    """A robust standard deviation about 0, right while a quarter of the values is only noise."""
    return float(np.percentile(np.abs(values), 25)) / 0.3186  # what a normal distribution has there


def _blur(values: Array) -> Array:
    """(H, W) -> the mean of each pixel's 3 x 3 neighbourhood."""
    tensor = torch.from_numpy(values)[None, None]
    padded = F.pad(tensor, (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(padded, 3, stride=1)[0, 0].numpy()


def _large_parts(mask: npt.NDArray[np.bool_]) -> Array:
    """(H, W) -> 1 on and around connected parts of at least a tenth of the largest, 0 elsewhere."""
    height, width = mask.shape
    step = max(1, max(height, width) // 32)  # coarse cells also join strokes with small gaps
    cells = torch.from_numpy(mask).float()[None, None]
    cells = F.max_pool2d(cells, step, ceil_mode=True)
    # Every part takes the highest number among its cells, passed from neighbour to neighbour.
    labels = cells * torch.arange(1.0, cells.numel() + 1).view(cells.shape)
    while True:
        spread = F.max_pool2d(labels, 3, stride=1, padding=1) * cells
        if torch.equal(spread, labels):
            break
        labels = spread
    sizes = torch.bincount(labels.flatten().long())
    sizes[0] = 0
    large = (sizes >= sizes.max() / 10) & (sizes > 0)
    kept = F.max_pool2d(large[labels.long()].float(), 3, stride=1, padding=1)
    grown = F.interpolate(kept, scale_factor=step, mode="nearest")
    return grown[0, 0, :height, :width].numpy()


def _scale(ink: Array, box: Box) -> Array:
    """Ink in its box -> its longer side at 20 pixels, and no stroke much thinner than MNIST's."""
    left, top, right, bottom = box
    ink = np.pad(ink[top:bottom, left:right], 1)
    pixel = max(right - left, bottom - top) / 20  # of the scaled digit, in those of `ink`
    # A stroke is as wide as its area over half of its outline, which is the sum of all gradients.
    outline = float(np.hypot(*np.gradient(ink)).sum())
    stroke = 2 * float(ink.sum()) / outline / pixel
    drawing = Image.fromarray(ink[1:-1, 1:-1])
    size = [max(1, round(side / pixel)) for side in drawing.size]
    if stroke < THIN_STROKE:
        finer = 4  # a stroke can be widened by halves of a pixel, on either side by a quarter
        drawing = drawing.resize([finer * side for side in size], Image.Resampling.BILINEAR)
        by = round((USUAL_STROKE - stroke) * finer / 2)
        wide = torch.from_numpy(np.pad(np.asarray(drawing), by))[None, None]
        drawing = Image.fromarray(F.max_pool2d(wide, 2 * by + 1, stride=1)[0, 0].numpy())
    small = np.asarray(drawing.resize(size, Image.Resampling.BILINEAR))
    # Strokes turn grey when they shrink; MNIST's are white along their middle.
    white = float(np.percentile(small[small > 0.25 * small.max()], 75))
    return np.clip(small / white, 0, 1)


def _center(digit: Array) -> Array:
    """(up to 20, up to 20) -> (28, 28) with the centre of mass in the middle pixel."""
    height, width = digit.shape
    y, x = (
        float((digit.sum(axis=1 - axis) * (np.arange(side) + 0.5)).sum() / digit.sum())
        for axis, side in ((0, height), (1, width))
    )
    # MNIST's centres of mass lie between 14 and 15. A digit never leaves the frame.
    top, left = (
        min(max(14 - int(center), 0), 28 - side) for center, side in ((y, height), (x, width))
    )
    frame = np.zeros((28, 28), dtype=np.float32)
    frame[top : top + height, left : left + width] = digit
    return frame
