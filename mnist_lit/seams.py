"""Where touching digits part: along a seam of least ink from top to bottom.

A seam is the path of least cost through an image, from row to row at most a pixel aside (Avidan and
Shamir, Seam carving for content-aware image resizing, 2007). What is wider than a digit is cut
along seams in several places; the network is asked which cut gives digits, if any.
"""

import numpy as np

from mnist_lit.ink import Array, Mask, box_of

WIDE = 0.8  # of the height: what is wider may be two digits
ZONES = ((0.2, 0.5), (0.35, 0.65), (0.5, 0.8))  # of the width: where a seam may run
STRAIGHT = 0.02  # the cost of a step aside, of a pixel of ink


def is_wide(mask: Mask) -> bool:
    left, top, right, bottom = box_of(mask)
    return right - left > WIDE * (bottom - top)


def cuts(mask: Mask, levels: Array) -> list[list[Mask]]:
    """The ink of what may be several digits -> the ways to cut it, each its parts left to right.

    Args:
        mask: (H, W), true where its ink is.
        levels: (H, W) in [0, 1], how much ink.
    """
    left, _, right, _ = box_of(mask)
    ways = []
    for start, end in ZONES:
        first, last = (left + round(share * (right - left)) for share in (start, end))
        if last - first < 3:
            continue
        parts = _cut(mask, levels, first, last)
        if all(part.sum() > 0.1 * mask.sum() for part in parts):
            ways.append(parts)
            # Three digits: the wider part is cut once more.
            wider = max((0, 1), key=lambda i: np.ptp(np.flatnonzero(parts[i].any(axis=0))))
            if is_wide(parts[wider]):
                near, _, far, _ = box_of(parts[wider])
                third = (far - near) // 3
                middle = _cut(parts[wider], levels, near + third, far - third)
                ways.append([*parts[:wider], *middle, *parts[wider + 1 :]])
    return ways


def _cut(mask: Mask, levels: Array, first: int, last: int) -> list[Mask]:
    """The ink on either side of the seam between two columns."""
    seam = seam_between(levels * mask, first, last)
    on_left = np.arange(mask.shape[1]) < seam[:, None]
    return [mask & on_left, mask & ~on_left]


def seam_between(ink: Array, first: int, last: int) -> np.ndarray:
    """(H, W) -> (H,): the column of the seam of least ink in each row, within [first, last)."""
    strip = ink[:, first:last].astype(np.float64)
    height, width = strip.shape
    reach = np.full((3, width), np.inf)  # the cost so far, of coming from the left, above, right
    came = np.zeros((height, width), dtype=np.int64)
    cost = strip[0]
    for row in range(1, height):
        reach[0, 1:], reach[1], reach[2, :-1] = cost[:-1] + STRAIGHT, cost, cost[1:] + STRAIGHT
        came[row] = reach.argmin(axis=0) - 1
        cost = reach.min(axis=0) + strip[row]
    seam = np.empty(height, dtype=np.int64)
    seam[-1] = int(cost.argmin())
    for row in range(height - 1, 0, -1):
        seam[row - 1] = seam[row] + came[row, seam[row]]
    return first + seam
