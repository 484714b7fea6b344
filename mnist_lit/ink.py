"""Where the ink of an image is, and a digit of it -> (28, 28), as MNIST shows it.

A photo or drawing is prepared as MNIST's authors prepared theirs (LeCun et al., Gradient-based
learning applied to document recognition, 1998): the ink alone, scaled into 20 x 20 by its longer
side, and placed in 28 x 28 by its centre of mass. To find the ink, a smooth surface is fitted to
the paper; what differs from it, along the ink's own colour, is ink. So dark on light and light on
dark, pencil and coloured pen, even and shaded paper take the same path.

Which part of a page is a digit is page.py's matter.
"""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from mnist_lit.images import UnreadableImageError

Array = npt.NDArray[np.float32]
Colors = npt.NDArray[np.uint8]  # (H, W, 3), RGB
Mask = npt.NDArray[np.bool_]
Box = tuple[int, int, int, int]  # left, top, right, bottom
SEEN_AT = 128  # pixels of the longer side at which the ink of a digit is looked for
DIGIT_SEEN_AT = 96  # the same, where the page network has found it
MIN_CONTRAST = 0.06  # between ink and paper, of the way from black to white
MAX_NOISE = 0.5  # of the paper, relative to the contrast
BLANK = 0.1  # noise of a sheet that has nothing else on it, of the way from black to white
USUAL_STROKE = 2.5  # pixels: the median of MNIST's digits, 96 % of which have 1.7 to 3.9
THIN_STROKE = 1.7
SQUARE = np.ones((3, 3), dtype=np.uint8)


class Ink(NamedTuple):
    """Where the ink of an image is."""

    levels: Array  # (H, W) in [0, 1]: 0 on paper, 1 in a stroke
    both: bool  # whether some of what differs most is darker than the paper, some lighter

    def mask(self) -> Mask:
        return cv2.blur(self.levels, (3, 3), borderType=cv2.BORDER_REPLICATE) > 0.3

    def box(self) -> Box:
        """Of its large parts.

        Raises:
            UnreadableImageError: There is nothing.
        """
        return box_of(self.levels * large_parts(self.mask()) > 0.1)


def prepare(image: Image.Image) -> Array:
    """An RGB image of one digit -> (28, 28) in [0, 1], white on black, as MNIST shows it.

    Raises:
        UnreadableImageError: Nothing stands out from the paper.
    """
    return whole(np.asarray(image))[0]


def whole(colors: Colors, shade: int = 0, ink: Ink | None = None) -> tuple[Array, list[float]]:
    """(H, W, 3), all of it one digit -> (28, 28) and the box of its ink, in pixels of `colors`.

    Args:
        shade: As of find_ink.
        ink: That of `colors`, if it is already known.

    Raises:
        UnreadableImageError: Nothing stands out from the paper.
    """
    ink = ink or find_ink(colors, SEEN_AT, shade)
    zoom, left, top = max(colors.shape[:2]) / max(ink.levels.shape), 0, 0
    if zoom > 1:  # the digit may be small on a large sheet: look again, closer
        left, top, right, bottom = around([round(zoom * edge) for edge in ink.box()], colors.shape)
        ink = find_ink(colors[top:bottom, left:right], SEEN_AT, shade)
        zoom = max(bottom - top, right - left) / max(ink.levels.shape)
    levels = ink.levels * large_parts(ink.mask())
    box = [
        zoom * edge + move for edge, move in zip(box_of(levels > 0.1), (left, top) * 2, strict=True)
    ]
    return as_mnist(levels), box


def digit_ink(colors: Colors, box: Array) -> Array | None:
    """(H, W, 3) and the box of one digit -> (28, 28) as MNIST shows it; None if there is none.

    Neighbours that do not touch the digit are left out; what touches it is cut at the box.
    """
    height, width = colors.shape[:2]
    grown = 0.06 * float(max(box[2] - box[0], box[3] - box[1]))
    left, top = np.floor(box[:2] - grown).clip(0).astype(int).tolist()
    right, bottom = np.ceil(box[2:] + grown).clip(0, (width, height)).astype(int).tolist()
    if left >= right or top >= bottom:
        return None
    x0, y0, x1, y1 = around([left, top, right, bottom], colors.shape)
    try:
        levels = find_ink(colors[y0:y1, x0:x1], DIGIT_SEEN_AT, uneven=True).levels
    except UnreadableImageError:
        return None
    zoom = max(x1 - x0, y1 - y0) / max(levels.shape)
    inside = np.zeros(levels.shape, np.uint8)
    rows, columns = (
        slice(round((first - start) / zoom), max(round((last - start) / zoom), 1))
        for first, last, start in ((top, bottom, y0), (left, right, x0))
    )
    inside[rows, columns] = 1
    mask = (levels > 0.3).view(np.uint8)
    number, labels = cv2.connectedComponents(mask, connectivity=8)
    within = np.bincount(labels[(inside & mask) > 0], minlength=number)
    kept = within >= 0.5 * np.bincount(labels.ravel(), minlength=number)
    kept[0] = False
    if not kept[1:].any():
        kept[int(np.argmax(within))] = True  # a digit that is part of a longer stroke
    near = cv2.dilate(kept[labels].view(np.uint8), SQUARE) & inside
    pixels = levels * near
    return as_mnist(pixels) if (pixels > 0.1).any() else None


def around(box: list[int], shape: tuple[int, ...]) -> Box:
    """A box with a margin of a quarter of its longer side, within an image of `shape`."""
    left, top, right, bottom = box
    margin = int(0.25 * max(right - left, bottom - top))
    height, width = shape[:2]
    return (
        max(left - margin, 0),
        max(top - margin, 0),
        min(right + margin + 1, width),
        min(bottom + margin + 1, height),
    )


def box_of(mask: Mask) -> Box:
    """(H, W) -> the box of what is true in it.

    Raises:
        UnreadableImageError: Nothing is.
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise UnreadableImageError("blank: nothing stands out from the paper")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def find_ink(colors: Colors, seen_at: int, shade: int = 0, uneven: bool = False) -> Ink:
    """(H, W, 3) RGB -> where its ink is, no side over `seen_at`.

    Args:
        shade: -1 looks for ink that is darker than the paper alone, 1 for lighter ink, 0 for that
            which differs most.
        uneven: Takes also what stands on anything but even paper.

    Raises:
        UnreadableImageError: Nothing stands out from the paper.
    """
    seen = fraction(shrunk(colors, seen_at))
    difference = seen - paper(seen)
    lighter = difference @ np.full(3, 1 / 3, dtype=np.float32)
    # The ink's color relative to the paper: the mean of what differs by over half of the most.
    distance = np.sqrt(np.einsum("hwc,hwc->hw", difference, difference))
    distance = cv2.blur(distance, (3, 3), borderType=cv2.BORDER_REPLICATE)
    if shade:
        distance = np.where(lighter * shade > 0, distance, 0)
    strong = distance >= 0.5 * distance.max()
    color = difference[strong].mean(axis=0)
    contrast = float(np.linalg.norm(color))
    ink = difference @ (color / max(contrast, 1e-6) ** 2)  # 0 on paper, 1 in a stroke
    noise = _spread(ink)
    if contrast < MIN_CONTRAST or (MAX_NOISE < noise < BLANK / contrast):
        raise UnreadableImageError("blank: nothing stands out from the paper")
    if noise > MAX_NOISE and not uneven:
        raise UnreadableImageError("no digit: nothing like ink on paper")
    floor = min(max(0.05, 3 * noise), 0.4)
    levels = np.clip((ink - floor) / (1 - floor), 0, 1).astype(np.float32)
    return Ink(levels, 0.1 < float((lighter[strong] > 0).mean()) < 0.9)


def shrunk(colors: Colors, side: int) -> Colors:
    """(H, W, 3) -> the same by averages, with no side over `side`."""
    height, width = colors.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return colors
    size = max(1, round(scale * width)), max(1, round(scale * height))
    return cv2.resize(colors, size, interpolation=cv2.INTER_AREA)


def fraction(colors: Colors) -> Array:
    return colors.astype(np.float32) * np.float32(1 / 255)


def paper(known: Array) -> Array:
    """(H, W, 3) in [0, 1] without what is on the paper: a quadratic surface for each channel.

    Fitted by iteratively reweighted least squares with Tukey's biweight, which ignores what lies
    far from the surface. What is far shrinks from one fit to the next: it starts at half of the way
    from black to white around the median of the image's border, where ink seldom is.
    """
    height, width = known.shape[:2]
    border = np.concatenate([known[[0, -1]].reshape(-1, 3), known[:, [0, -1]].reshape(-1, 3)])
    scale = min(1, 32 / max(height, width))  # averages, in which noise is small
    small = (max(1, round(scale * width)), max(1, round(scale * height)))
    sample = cv2.resize(known, small, interpolation=cv2.INTER_AREA).reshape(-1, 3).T
    fitted = _quadratic(small[1], small[0]).reshape(-1, 6)
    stiff = np.diag(np.array([0, 1, 1, 10, 10, 10], dtype=np.float32)) * (0.001 * sample.shape[1])
    residual = np.abs(sample - np.median(border, axis=0)[:, None]).max(axis=0)
    for far in (0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05):
        weights = np.clip(1 - (residual / far) ** 2, 0, 1) ** 2
        weighted = (fitted * weights[:, None]).T
        normal = weighted @ fitted + stiff * far
        normal[0, 0] += 1e-6  # solvable when nothing is near the surface
        surface = np.linalg.solve(normal, weighted @ sample.T)
        residual = np.abs(sample - surface.T @ fitted.T).max(axis=0)
    return _quadratic(height, width) @ surface


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


def large_parts(mask: Mask) -> Mask:
    """(H, W) -> true on and around connected parts of at least a tenth of the largest."""
    height, width = mask.shape
    step = max(1, max(height, width) // 32)  # coarse cells also join strokes with small gaps
    rows, columns = -(-height // step), -(-width // step)
    padded = np.zeros((rows * step, columns * step), dtype=bool)
    padded[:height, :width] = mask
    cells = padded.reshape(rows, step, columns, step).any(axis=(1, 3)).view(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(cells, connectivity=8)
    sizes = stats[:, cv2.CC_STAT_AREA]
    sizes[0] = 0
    kept = cv2.dilate(((sizes >= sizes.max() / 10) & (sizes > 0))[labels].view(np.uint8), SQUARE)
    return kept.repeat(step, axis=0).repeat(step, axis=1)[:height, :width] > 0


def as_mnist(ink: Array) -> Array:
    """(H, W), the ink of one digit alone -> (28, 28), as MNIST shows it.

    Raises:
        UnreadableImageError: There is none.
    """
    return _center(_scale(ink, box_of(ink > 0.1)))


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
        kernel = np.ones((2 * by + 1, 2 * by + 1), dtype=np.uint8)
        drawing = Image.fromarray(cv2.dilate(np.pad(np.asarray(drawing), by), kernel))
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
