"""Where the digits are on a page: an image -> its possible readings, each a few lines of digits.

The order is that of document readers: the sheet first (or the inside of a printed frame), then
lines set aside, then connected parts, then which of them are digits, then lines of digits. Where a
page can be taken in several ways, each is a layout, and the network is asked about all of them.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from mnist_lit.images import UnreadableImageError
from mnist_lit.ink import (
    SEEN_AT,
    SQUARE,
    Array,
    Box,
    Colors,
    Mask,
    around,
    as_mnist,
    box_of,
    find_ink,
    fraction,
    large_parts,
    shrunk,
)

PAGE_AT = 400  # pixels of the longer side at which a page is searched: 20 digits in a row
MAX_DIGITS = 100  # on a page; with more it is text or a picture


class Found(NamedTuple):
    """What may be a digit."""

    pixels: Array  # (28, 28) in [0, 1], as MNIST shows it
    box: Box  # in the image that was given


class Layout(NamedTuple):
    """One way to take a page."""

    lines: list[list[Found]]
    cost: float  # how much likelier its digits must be than those of another, in logarithms
    name: str  # what was done, for whoever looks into it

    @property
    def digits(self) -> list[Found]:
        return [found for line in self.lines for found in line]


class View(NamedTuple):
    """A page or a part of it."""

    colors: Colors
    back: npt.NDArray[np.float64]  # (3, 3): from the view's pixels to those of the image


def layouts(image: Image.Image, single: bool = False) -> list[Layout]:
    """An RGB image -> how its digits may lie, the plainest first.

    Args:
        single: The image shows one digit, whatever else is on it.

    Raises:
        UnreadableImageError: Nothing stands out from the paper.
    """
    whole = View(np.asarray(image), np.eye(3))
    found = [*_of_view(whole, 0.0, "whole", single)]
    for i, view in enumerate(panels(whole)):
        found += _of_view(view, -2.0 + i, f"panel {i}", single)
    if not found:
        raise UnreadableImageError("blank: nothing stands out from the paper")
    return found


def _of_view(view: View, cost: float, name: str, single: bool) -> list[Layout]:
    """The layouts of one view: everything as one digit, and what is left after tidying."""
    found = []
    for shade, dear in ((0, 0.0), *_other_shade(view)):
        try:
            ink = find_ink(view.colors, PAGE_AT, shade)
            plain = _whole(view, shade)
        except UnreadableImageError:
            continue
        parts = connected(ink.levels)
        groups = digits_among(parts, ink.levels.shape)
        one_left = sum(map(len, groups)) == 1
        tidy = not one_left or _all_large(groups[0][0], ink.levels)
        found.append(Layout([[plain]], cost + dear, f"{name} {shade}"))
        if tidy and one_left:
            continue
        if sum(map(len, groups)) <= MAX_DIGITS:
            lines = [[_take(view, ink.levels, mask) for mask in line] for line in groups]
            found.append(Layout(lines, cost + dear, f"{name} {shade} tidied"))
    return found


def _other_shade(view: View) -> list[tuple[int, float]]:
    return []


def _all_large(mask: Mask, levels: Array) -> bool:
    """Whether a group is all that the plain reading takes."""
    ink = levels > 0.3
    return not (ink & large_parts(ink) & ~cv2.dilate(mask.view(np.uint8), SQUARE).view(bool)).any()


def _whole(view: View, shade: int) -> Found:
    """Everything large in a view as one digit."""
    ink = find_ink(view.colors, SEEN_AT, shade)
    height, width = view.colors.shape[:2]
    zoom = max(height, width) / max(ink.levels.shape)
    box, left, top = ink.box(), 0, 0
    if zoom > 1:  # the digit may be small on a large sheet: look again, closer
        left, top, right, bottom = around([round(zoom * edge) for edge in box], (height, width))
        closer = view.colors[top:bottom, left:right]
        ink = find_ink(closer, SEEN_AT, shade)
        box, zoom = ink.box(), max(closer.shape[:2]) / max(ink.levels.shape)
    pixels = as_mnist(ink.levels * large_parts(ink.mask()))
    x, y = (left, left), (top, top)
    return Found(
        pixels,
        _in_image(view, [zoom * edge + move for edge, move in zip(box, (left, top, left, top))]),
    )


def _take(view: View, levels: Array, mask: Mask) -> Found:
    """The digit whose ink is `mask`, in the page's ink, and seen closer if the page was shrunk."""
    zoom = max(view.colors.shape[:2]) / max(levels.shape)
    box = [round(zoom * edge) for edge in box_of(mask)]
    near = cv2.dilate(mask.view(np.uint8), SQUARE)
    pixels = levels * near
    if zoom > 1:
        left, top, right, bottom = around(box, view.colors.shape)
        try:
            closer = find_ink(view.colors[top:bottom, left:right], SEEN_AT).levels
            step = max(bottom - top, right - left) / max(closer.shape) / zoom
            back = np.array([[step, 0, left / zoom], [0, step, top / zoom]])
            size = closer.shape[1], closer.shape[0]
            how = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
            seen = closer * cv2.warpAffine(near, back, size, flags=how)
            pixels = seen if (seen > 0.5).any() else pixels
        except UnreadableImageError:
            pass  # too little paper around it; the page's ink will do
    return Found(as_mnist(pixels), _in_image(view, [float(edge) for edge in box]))


def _in_image(view: View, box: list[float]) -> Box:
    left, top, right, bottom = box
    corners = np.array([[[left, top], [right, top], [right, bottom], [left, bottom]]])
    x, y = cv2.perspectiveTransform(corners.astype(np.float64), view.back)[0].T
    return round(x.min()), round(y.min()), round(x.max()), round(y.max())


@dataclass(frozen=True, eq=False)
class Part:
    """A connected part of the ink."""

    mask: Mask  # (H, W)
    x: int
    y: int
    width: int
    height: int
    area: int


def connected(levels: Array) -> list[Part]:
    """(H, W) ink -> its connected parts, without specks, the largest first."""
    mask = (cv2.blur(levels, (3, 3), borderType=cv2.BORDER_REPLICATE) > 0.3).view(np.uint8)
    reach = max(levels.shape) // 100  # a gap that is no gap
    joined = cv2.dilate(mask, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) if reach else mask
    _, labels, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    areas = np.bincount(labels[mask > 0], minlength=len(stats))
    areas[0] = 0
    order = [
        i for i in np.argsort(-areas)[: 4 * MAX_DIGITS] if areas[i] >= max(areas.max() / 200, 3)
    ]
    parts = []
    for i in order:
        own = (labels == i) & (mask > 0)
        left, top, right, bottom = box_of(own)
        parts.append(Part(own, left, top, right - left, bottom - top, int(areas[i])))
    return parts


def digits_among(parts: list[Part], shape: tuple[int, ...]) -> list[list[Mask]]:
    """Parts of a page -> the ink of each digit, left to right in lines from top to bottom."""
    height, width = shape[:2]
    frames = [part for part in parts if _encloses(part, parts)]
    loose = [part for part in parts if part not in frames] or parts

    def at_border(part: Part) -> bool:
        return (
            part.x <= 0
            or part.y <= 0
            or part.x + part.width >= width
            or part.y + part.height >= height
        )

    good = [p for p in loose if not at_border(p) and not _line(p, shape) and not _blob(p)]
    if not good:
        good = [p for p in loose if not _line(p, shape) and not _blob(p)] or loose
    main = max(good, key=lambda part: part.area * part.height)
    tall = [
        part
        for part in loose
        if part.height >= 0.45 * main.height
        and (part in good or (at_border(part) and not _line(part, shape)))
        and part.height <= 2.2 * main.height
    ]
    groups: list[list[Part]] = []
    for part in sorted(tall, key=lambda part: part.x):
        near = [group for group in groups if any(_stacked(part, other) for other in group)]
        for group in near:
            groups.remove(group)
        groups.append([part] + [p for group in near for p in group])
    for part in loose:
        if part in tall or (at_border(part) and part not in good) or part.height > main.height:
            continue
        nearest = min(groups, key=lambda group: min(_gap(part, other) for other in group))
        if min(_gap(part, other) for other in nearest) <= 0.2 * main.height:
            nearest.append(part)
    return _lines([np.logical_or.reduce([part.mask for part in group]) for group in groups])


def _lines(masks: list[Mask]) -> list[list[Mask]]:
    """The ink of digits -> in reading order."""
    boxes = {id(mask): box_of(mask) for mask in masks}
    middle = {key: (box[1] + box[3]) / 2 for key, box in boxes.items()}
    usual = float(np.median([box[3] - box[1] for box in boxes.values()]))
    lines: list[list[Mask]] = []
    for mask in sorted(masks, key=lambda mask: middle[id(mask)]):
        if lines and middle[id(mask)] - np.mean([middle[id(m)] for m in lines[-1]]) < 0.7 * usual:
            lines[-1].append(mask)
        else:
            lines.append([mask])
    return [sorted(line, key=lambda mask: boxes[id(mask)][0]) for line in lines]


def _encloses(part: Part, parts: list[Part]) -> bool:
    return any(
        other is not part
        and other.height >= 0.2 * part.height
        and part.x < other.x
        and part.y < other.y
        and part.x + part.width > other.x + other.width
        and part.y + part.height > other.y + other.height
        for other in parts
    )


def _line(part: Part, shape: tuple[int, ...]) -> bool:
    """Long, thin and straight, and not upright, as a 1 is."""
    if part.width >= 6 * part.height:
        return True
    return part.height >= 12 * part.width


def _blob(part: Part) -> bool:
    """Filled, and no stroke."""
    return part.area > 0.7 * part.width * part.height and part.height < 2 * part.width


def _stacked(a: Part, b: Part) -> bool:
    """Whether two tall parts stand above each other, near enough for one digit."""
    overlap = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    gap = max(a.y, b.y) - min(a.y + a.height, b.y + b.height)
    return overlap > 0.4 * min(a.width, b.width) and gap < 0.2 * max(a.height, b.height)


def _gap(a: Part, b: Part) -> float:
    """Pixels between the boxes of two parts."""
    x = max(a.x, b.x) - min(a.x + a.width, b.x + b.width)
    y = max(a.y, b.y) - min(a.y + a.height, b.y + b.height)
    return float(np.hypot(max(x, 0), max(y, 0)))


def panels(view: View) -> list[View]:
    """Sheets on a desk, insides of frames: what is evenly coloured, large and has ink in it."""
    size = max(view.colors.shape[:2])
    if min(view.colors.shape[:2]) < 24:
        return []
    seen = shrunk(view.colors, 256)
    if size < 100:
        seen = cv2.resize(seen, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    scale = size / max(seen.shape[:2])
    height, width = seen.shape[:2]
    smooth = cv2.blur(fraction(seen), (3, 3))
    steep = cv2.morphologyEx(smooth, cv2.MORPH_GRADIENT, SQUARE).max(axis=2)
    flat = (steep < max(0.045, 3 * float(np.median(steep)))).view(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(flat, connectivity=4)
    found = []
    for i in np.argsort(stats[1:, cv2.CC_STAT_AREA]) + 1:
        x, y, w, h, area = stats[i]
        if area < 0.06 * height * width or min(w / width, h / height) < 0.2:
            continue
        if w >= width - 2 and h >= height - 2 and area > 0.0:
            continue
        region = (labels == i).view(np.uint8)
        outlines, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        hull = cv2.convexHull(max(outlines, key=cv2.contourArea))
        inside = cv2.fillConvexPoly(np.zeros_like(region), hull, 1)
        if not _has_content(region, inside) or not _is_ground(smooth, region, inside, hull):
            continue
        found.append(_panel(view, hull.astype(np.float64)[:, 0] * scale, scale))
    return found[:3]


def _has_content(region: npt.NDArray[np.uint8], inside: npt.NDArray[np.uint8]) -> bool:
    """Whether something of fair size lies in a region that surrounds it."""
    reach = np.ones((5, 5), np.uint8)
    edge = inside & ~cv2.erode(inside, reach, borderValue=0) & 1
    holes = inside & ~region & 1
    number, labels, stats, _ = cv2.connectedComponentsWithStats(holes, connectivity=8)
    free = np.ones(number, dtype=bool)
    free[np.unique(labels[(edge & holes) > 0])] = False
    free[0] = False
    tall = stats[:, cv2.CC_STAT_HEIGHT] >= 0.12 * np.ptp(np.flatnonzero(inside.any(axis=1)))
    return bool((free & tall).any())


def _is_ground(
    smooth: Array,
    region: npt.NDArray[np.uint8],
    inside: npt.NDArray[np.uint8],
    hull: npt.NDArray[np.int32],
) -> bool:
    """Whether a region is paper: a rectangle, or of the colour that is all around its outline.

    Else it may be a thick stroke, a 0 for example, with paper in it.
    """
    _, (width, height), _ = cv2.minAreaRect(hull)
    if cv2.contourArea(hull) > 0.88 * width * height:
        return True
    reach = max(region.shape) // 12
    outside = cv2.dilate(inside, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) & ~inside & 1
    if not outside.any():
        return False
    apart = np.median(smooth[outside > 0], axis=0) - np.median(smooth[region > 0], axis=0)
    return bool(np.abs(apart).max() < 0.1)


def _panel(view: View, hull: npt.NDArray[np.float64], scale: float) -> View:
    """The inside of a convex outline, made straight if it has four corners."""
    points = hull.astype(np.float32)
    corners = cv2.approxPolyDP(points, 0.03 * cv2.arcLength(points, True), True)[:, 0]
    box = cv2.boxPoints(cv2.minAreaRect(points))
    if len(corners) != 4 or cv2.contourArea(corners) < 0.85 * cv2.contourArea(points):
        left, top, right, bottom = (*points.min(axis=0), *points.max(axis=0))
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    order = np.argsort(np.arctan2(*(corners - corners.mean(axis=0)).T[::-1]))
    corners = np.roll(corners[order], 0, axis=0).astype(np.float32)
    start = int(np.argmin(corners.sum(axis=1)))
    corners = np.roll(corners, -start, axis=0)
    sides = [float(np.linalg.norm(a - b)) for a, b in pairwise([*corners, corners[0]])]
    width, height = max(sides[0], sides[2]), max(sides[1], sides[3])
    inset = 2 * scale
    target = np.array(
        [
            [-inset, -inset],
            [width - inset, -inset],
            [width - inset, height - inset],
            [-inset, height - inset],
        ],
        dtype=np.float32,
    )
    forward = cv2.getPerspectiveTransform(corners, target)
    size = max(8, round(width - 2 * inset)), max(8, round(height - 2 * inset))
    colors = cv2.warpPerspective(view.colors, forward, size, flags=cv2.INTER_AREA)
    within = cv2.perspectiveTransform(points[None], forward)[0]
    middle = within.mean(axis=0)
    within = middle + (within - middle) * (1 - 2 * inset / max(width, height))
    mask = cv2.fillConvexPoly(np.zeros(colors.shape[:2], np.uint8), within.round().astype(int), 1)
    colors[mask == 0] = np.median(colors[mask > 0], axis=0)  # paper, unless it is all ink
    return View(colors, view.back @ np.linalg.inv(forward))
