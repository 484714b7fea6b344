"""Find the digits of a page with the page network, which OpenCV runs without torch.

The network sees the page at one scale, and once more closer where the digits are small.
"""

import math
import threading
from typing import NamedTuple

import cv2
import numpy as np

from mnist_lit.assets import FILES
from mnist_lit.ink import Array, Colors

SIDE = 192  # pixels of the page's longer side at which the network looks first
STRIDE = 4  # pixels between two places at which a digit's centre may be
SMALL = 40  # pixels: digits that are less tall are looked at again ...
CLOSER = 46  # ... at about this height
MAX_PIXELS = 768 * 768  # of the closer look
MAX_ZOOM = 8  # of the closer look, against the first
PEAK = 0.05  # a place with a lower score is none
CLEAR = 0.25  # what is looked at closer has at least one place with this score
MAX_OVERLAP = 0.5  # intersection over union of two digits


class Place(NamedTuple):
    """Where the page network sees a digit."""

    box: Array  # (4,): left, top, right, bottom of its ink, in pixels of the image
    score: float  # the probability that a digit's centre is there
    logits: Array  # (10,)


NETWORKS = threading.local()  # each thread runs a network of its own


def find_places(colors: Colors) -> list[Place]:
    """(H, W, 3) RGB -> the places at which a digit may be, the likeliest first."""
    if not hasattr(NETWORKS, "page"):
        weights = (FILES / "pagenet.onnx").read_bytes()
        NETWORKS.page = cv2.dnn.readNetFromONNX(np.frombuffer(weights, np.uint8))
    network = NETWORKS.page
    scale = SIDE / max(colors.shape[:2])
    places = look(network, colors, scale)
    clear = [place.box for place in places if place.score >= CLEAR]
    if not clear:
        return places
    boxes = np.array(clear)
    height = float(np.median(boxes[:, 3] - boxes[:, 1]))
    left, top = np.floor(boxes[:, :2].min(axis=0) - height).clip(0).astype(int)
    right, bottom = np.ceil(boxes[:, 2:].max(axis=0) + height).astype(int)
    part = colors[top:bottom, left:right]
    closer = min(
        CLOSER / height, math.sqrt(MAX_PIXELS / (part.shape[0] * part.shape[1])), MAX_ZOOM * scale
    )
    if height * scale >= SMALL or closer < 1.2 * scale:
        return places
    offset = np.array([left, top, left, top], np.float32)
    return [place._replace(box=place.box + offset) for place in look(network, part, closer)]


def look(network: cv2.dnn.Net, colors: Colors, scale: float) -> list[Place]:
    """Run the network on (H, W, 3), resized by `scale` and padded to multiples of 32 pixels."""
    height, width = (max(8, round(side * scale)) for side in colors.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    page = cv2.resize(colors, (width, height), interpolation=how)
    border = np.concatenate([page[[0, -1]].reshape(-1, 3), page[:, [0, -1]].reshape(-1, 3)])
    down, right = (max(64, -(-side // 32) * 32) for side in (height, width))
    above, before = (down - height) // 2, (right - width) // 2
    page = cv2.copyMakeBorder(
        *(page, above, down - height - above, before, right - width - before),
        cv2.BORDER_CONSTANT,
        value=np.median(border, axis=0).tolist(),
    )
    network.setInput(page.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    output: Array = network.forward()[0]
    return peaks(output, scale, np.array([before, above], np.float32))


def peaks(output: Array, scale: float, offset: Array) -> list[Place]:
    """(15, H / 4, W / 4) -> the maxima of the scores whose boxes overlap no better one.

    Args:
        output: At each place the logit of a centre, the centre's distance from the middle of the
            place (x, y, in places), the logarithms of width and height (in 16 pixels), ten logits.
        scale: From pixels of the image to those of the network's input.
        offset: (x, y) of the image in the network's input.
    """
    scores = 1 / (1 + np.exp(-output[0]))
    y, x = np.nonzero((scores == cv2.dilate(scores, np.ones((3, 3)))) & (scores >= PEAK))
    places: list[Place] = []
    for i in np.argsort(-scores[y, x]):
        values = output[:, y[i], x[i]]
        centre = (np.array([x[i], y[i]]) + 0.5 + values[1:3]) * STRIDE - offset
        half = 8 * np.exp(np.minimum(values[3:5], 5))
        box = (np.concatenate([centre - half, centre + half]) / scale).astype(np.float32)
        if all(overlap(box, place.box) < MAX_OVERLAP for place in places):
            places.append(Place(box, float(scores[y[i], x[i]]), values[5:]))
    return places


def overlap(a: Array, b: Array) -> float:
    """Return the intersection over union of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(sides.clip(0)))
    return shared / max(float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared, 1e-6)
