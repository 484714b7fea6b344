"""Photos of a filled-in form, drawn: turned, at an angle, in a shadow, of many sizes."""

import io
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from mnist_lit import sheet
from mnist_lit.assets import test_digits

Pixels = npt.NDArray[np.uint8]
DENSITY = 8  # pixels in a millimetre of what is photographed
INKS = ((20, 20, 25), (25, 45, 150), (120, 25, 30), (95, 95, 95))  # pens, and a pencil


@cache
def form() -> Pixels:
    """(H, W, 3), as printed."""
    file = io.BytesIO()
    sheet.draw_form().savefig(file, dpi=25.4 * DENSITY)
    return np.asarray(Image.open(file).convert("RGB"))


def box(row: int, column: int) -> tuple[float, float]:
    """The middle of a box, in pixels of the form."""
    x = sheet.LEFT + column * sheet.ACROSS + sheet.BOX[0] / 2
    y = sheet.TOP + row * sheet.DOWN + sheet.BOX[1] / 2
    return DENSITY * x, DENSITY * y


def filled(random: np.random.Generator, left_out: float = 0) -> tuple[Pixels, dict[Any, int]]:
    """A form with MNIST test digits in its rows, and which of them stands in which box."""
    images, labels = test_digits()
    paper = form().astype(np.float32) / 255
    ink = np.array(INKS[random.integers(len(INKS))], dtype=np.float32) / 255
    which = {}
    for row in range(sheet.ROWS):
        some = random.permutation(np.flatnonzero(labels.numpy() == row))
        for column in range(sheet.COLUMNS):
            if random.random() < left_out:
                continue
            which[row, column] = int(some[column])
            side = round(DENSITY * random.uniform(9, 12.5))  # of 28 pixels; the digit has 20
            digit = Image.fromarray(images[some[column], 0].numpy())
            level = np.asarray(digit.resize((side, side), Image.Resampling.BICUBIC)) / 255
            x, y = (round(at - side / 2 + random.normal(0, 3)) for at in box(row, column))
            there = paper[y : y + side, x : x + side]
            there += level[..., None] * (ink - 1) * there
    return (255 * paper.clip(0, 1)).round().astype(np.uint8), which


def photographed(page: Pixels, longer: int, random: np.random.Generator, turns: int = 0) -> bytes:
    """A JPEG of the page on a table, up to 10 degrees askew, `turns` quarters turned."""
    height, width = page.shape[:2]
    size = longer, round(longer * 0.75)
    scale = random.uniform(0.78, 0.84) * min(size[0] / width, size[1] / height)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    angle = np.deg2rad(random.uniform(-10, 10))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    to = (corners - corners.mean(axis=0)) @ turn.T * scale + np.array(size) / 2
    to += random.uniform(-0.03, 0.03, (4, 2)) * scale * width  # the camera is not above it
    matrix = cv2.getPerspectiveTransform(corners, to.astype(np.float32))
    table = np.array(random.uniform(60, 140, 3), dtype=np.float32)
    how = {"flags": cv2.INTER_AREA, "borderMode": cv2.BORDER_CONSTANT}
    if scale < 0.7:  # a camera averages what a pixel sees
        page = cv2.GaussianBlur(page, (0, 0), 0.4 / scale)
    photo = cv2.warpPerspective(page, matrix, size, borderValue=table.tolist(), **how)
    y, x = np.mgrid[0 : size[1], 0 : size[0]] / longer
    light = 0.9 + random.uniform(-0.2, 0.2) * (x - 0.5) + random.uniform(-0.2, 0.2) * (y - 0.4)
    edge = (x - random.uniform(0.3, 0.7)) + random.uniform(-0.6, 0.6) * (y - 0.4)
    light *= 1 - random.uniform(0.25, 0.45) / (1 + np.exp(-edge / 0.012))  # of a hand or a phone
    noise = random.normal(0, 3, photo.shape)
    seen = photo * light[..., None] * np.array([1, 0.98, 0.93]) + noise
    image = Image.fromarray(np.rot90(seen.clip(0, 255).astype(np.uint8), turns).copy())
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return file.getvalue()
