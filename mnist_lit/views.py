"""The ways to look at a page: a sheet on it by itself, without lines, without shadows."""

from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from mnist_lit.images import UnreadableImageError
from mnist_lit.ink import SEEN_AT, SQUARE, Array, Colors, box_of, find_ink, fraction, shrunk

SMALL = 512  # pixels of the longer side: enough to find digits, not to read them
PAGE_AT = 256  # pixels of the longer side at which a page is searched
Bits = npt.NDArray[np.uint8]  # (H, W), 0 or 1
UPRIGHT = np.ones((3, 1), np.uint8)


class View(NamedTuple):
    """A page or a part of it."""

    colors: Colors
    small: Colors  # the same, no side over SMALL
    back: npt.NDArray[np.float64]  # (3, 3): from the view's pixels to those of the image


def view_of(colors: Colors, back: npt.NDArray[np.float64] | None = None) -> View:
    return View(colors, shrunk(colors, SMALL), np.eye(3) if back is None else back)


def without_lines(view: View) -> tuple[View, float] | None:
    """A view with its straight lines painted over, and what that costs; None if it has none."""
    seen = shrunk(view.small, PAGE_AT)
    try:
        mask = (find_ink(seen, PAGE_AT, uneven=True).levels > 0.2).view(np.uint8)
    except UnreadableImageError:
        return None
    across, down = _lines_across(mask), [line.T for line in _lines_across(mask.T)]
    number = len(across) + len(down)
    if not number and (line := _underline(mask)) is not None:
        across = [line]
    found = [*across, *down]
    if not found or (len(across) == len(down) == 1 and _end_inside(found)):
        return None  # one of each that end in the image are the strokes of a wide 4
    lines = cv2.dilate(np.bitwise_or.reduce(found), SQUARE)
    zoom = max(view.colors.shape) / max(seen.shape)
    painted = cv2.inpaint(seen, lines, 3, cv2.INPAINT_TELEA)
    # One line may as well be the stroke of a digit that fills the image.
    return view_of(painted, view.back @ np.diag([zoom, zoom, 1])), 0.0 if number > 1 else 0.5


def _runs(mask: Bits) -> Bits:
    """(H, W) -> what is in it level, or nearly so, for a fifth of the width."""
    wide = np.ones((1, max(mask.shape[1] // 5, 3)), np.uint8)
    thicker = cv2.dilate(mask, UPRIGHT)
    return cv2.morphologyEx(thicker, cv2.MORPH_OPEN, wide)


def _lines_across(mask: Bits) -> list[Bits]:
    """(H, W) -> a mask of each thin line that runs over most of the width."""
    height, width = mask.shape
    runs = _runs(mask)
    joined = cv2.morphologyEx(runs, cv2.MORPH_CLOSE, np.ones((1, width // 4), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    found = []
    for i, (_, _, across, down, _) in enumerate(stats[1:], 1):
        line = (labels == i).view(np.uint8) & runs
        thin = line.sum() <= (0.08 * height + 3) * across and down < 0.2 * height
        if across >= 0.75 * width and thin:
            found.append(line)
    return found


def _end_inside(lines: list[Bits]) -> bool:
    """Whether no line reaches the edge of the image."""
    left, top, right, bottom = box_of(np.bitwise_or.reduce(lines) > 0)
    height, width = lines[0].shape
    return left > 1 and top > 1 and right < width - 1 and bottom < height - 1


def _underline(mask: Bits) -> Bits | None:
    """(H, W) -> a thin line below all else and clearly longer, or None."""
    runs = _runs(mask)
    number, labels, stats, _ = cv2.connectedComponentsWithStats(runs, connectivity=8)
    if number < 2:
        return None
    i = int(np.argmax(stats[1:, 1] + stats[1:, 3])) + 1  # the lowest
    line = (labels == i).view(np.uint8)
    rest = mask & ~cv2.dilate(line, SQUARE, iterations=4) & 1
    if not rest.any():
        return None
    left, top, right, bottom = box_of(rest > 0)
    _, y, across, down, _ = stats[i]
    longer = across > 1.3 * (right - left)
    return line if longer and y + down + 2 >= bottom and down < 0.25 * (bottom - top) else None


def flattened(view: View) -> View:
    """A view without what is wide on it, as shadows and desks are: less its local median."""
    seen = shrunk(view.small, 2 * SEEN_AT)
    zoom = max(view.colors.shape) / max(seen.shape)
    ground = cv2.medianBlur(seen, min(max(seen.shape) // 2 | 1, 255))
    flat = 160 + seen.astype(np.int16) - ground
    return view_of(flat.clip(0, 255).astype(np.uint8), view.back @ np.diag([zoom, zoom, 1]))


def panels(view: View) -> list[View]:
    """Sheets on a desk, insides of frames: what is evenly coloured, large and has ink in it."""
    size = max(view.colors.shape[:2])
    if min(view.colors.shape[:2]) < 24:
        return []
    seen = shrunk(view.small, 200)
    if size < 100:
        seen = cv2.resize(seen, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    scale = size / max(seen.shape[:2])
    height, width = seen.shape[:2]
    smooth = cv2.blur(fraction(seen), (3, 3))
    red, green, blue = cv2.split(cv2.morphologyEx(smooth, cv2.MORPH_GRADIENT, SQUARE))
    steep = cv2.max(cv2.max(red, green), blue)  # ten times as fast as steep.max(axis=2)
    flat = (steep < max(0.045, 3 * float(np.median(steep)))).view(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(flat, connectivity=4)
    found = []
    for i in np.argsort(stats[1:, cv2.CC_STAT_AREA]) + 1:
        _, _, w, h, area = stats[i]
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


def _has_content(region: Bits, inside: Bits) -> bool:
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
    region: Bits,
    inside: Bits,
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
    if len(corners) != 4 or cv2.contourArea(corners) < 0.85 * cv2.contourArea(points):
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
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
    return view_of(colors, view.back @ np.linalg.inv(forward))
