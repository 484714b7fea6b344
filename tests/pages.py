"""Pages as people have them, drawn from MNIST's digits.

The tests ask that they are read, benchmarks/wild.py measures how many are, and
benchmarks/detector.py learns from others of them (of other digits) what a digit looks like.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Box = tuple[int, int, int, int]  # left, top, right, bottom


class Page(NamedTuple):
    """A drawn page and what stands on it."""

    image: Image.Image
    number: str  # its digits in reading order; empty if there are none
    boxes: list[Box]  # of the digits


class Writer:
    """Ink of one colour on paper of another; digits are put down and remembered."""

    def __init__(
        self, random: np.random.Generator, size: tuple[int, int] = (400, 400), ink: str = ""
    ) -> None:
        self.random = random
        dark = random.random() < 0.85
        paper = tuple(int(v) for v in random.integers(185, 256) - random.integers(0, 25, 3))
        inks = ("#14141c", "#1e2896", "#202060", "#3c3c3c", "#707070", "#962020", "#1e643c")
        self.ink = ink or str(random.choice(inks))
        if not dark:
            paper, self.ink = (28, 60, 44) if random.random() < 0.5 else (8, 8, 8), "#e6e6e6"
        self.image = Image.new("RGB", size, paper)
        self.draw = ImageDraw.Draw(self.image)
        self.number, self.boxes = "", list[Box]()

    def put(
        self, digit: Image.Image, label: int | str, left: float, top: float, side: float
    ) -> Box:
        """A digit of 28 x 28, enlarged to `side`; gives the box of its ink."""
        mask = digit.resize((round(side), round(side)), Image.Resampling.BICUBIC)
        at = round(left), round(top)
        self.image.paste(self.ink, at, mask)
        ink = mask.point(lambda level: 255 * (level > 100)).getbbox() or (0, 0, 1, 1)
        box = (at[0] + ink[0], at[1] + ink[1], at[0] + ink[2], at[1] + ink[3])
        self.number += str(label)
        self.boxes.append(box)
        return box

    def page(self, noise: float = 4) -> Page:
        levels: npt.NDArray[np.floating] = np.asarray(self.image, dtype=np.float32)
        levels = levels + self.random.normal(0, noise, levels.shape)
        return Page(Image.fromarray(levels.clip(0, 255).astype(np.uint8)), self.number, self.boxes)


def uniform(random: np.random.Generator, low: float, high: float) -> tuple[float, float]:
    """Two numbers."""
    return float(random.uniform(low, high)), float(random.uniform(low, high))


Digit = tuple[Image.Image, int]  # (28 x 28, white on black), label
Draw = Callable[[list[Digit], np.random.Generator], Page]


def _one(
    digits: list[Digit], random: np.random.Generator, share: float = 0.5
) -> tuple[Writer, Box]:
    """A page with one digit in the middle, over `share` of its height."""
    writer = Writer(random)
    side = 400 * share * 1.4
    left, top = (400 - side) / 2 + random.uniform(-15, 15, 2)
    return writer, writer.put(*digits[0], left, top, side)


def plain(digits: list[Digit], random: np.random.Generator) -> Page:
    return _one(digits, random, random.uniform(0.15, 0.6))[0].page()


def framed(digits: list[Digit], random: np.random.Generator) -> Page:
    """A box around it, drawn or printed, with the beginnings of its neighbours."""
    writer, _ = _one(digits, random, 0.42)
    a, b = random.integers(30, 70, 2)
    color = str(random.choice(["black", "#505050", "#a0a0a0", writer.ink]))
    width = int(random.integers(2, 8))
    if random.random() < 0.5:
        writer.draw.rectangle((a, b, 400 - a, 400 - b), outline=color, width=width)
    else:  # a cell of a form
        for edge in (a, 400 - a):
            writer.draw.line((edge, 0, edge, 400), color, width)
        for edge in (b, 400 - b):
            writer.draw.line((0, edge, 400, edge), color, width)
    return writer.page()


def ruled(digits: list[Digit], random: np.random.Generator) -> Page:
    writer = Writer(random)
    step, color = (
        int(random.integers(60, 120)),
        str(random.choice(["#8cb4e6", "#5078c8", "#a0a0a0"])),
    )
    for y in range(int(random.integers(10, step)), 400, step):
        writer.draw.line((0, y, 400, y + int(random.integers(-4, 5))), color, 2)
    if random.random() < 0.3:
        writer.draw.line((60, 0, 60, 400), "#e68c8c", 2)
    writer.put(*digits[0], *uniform(random, 75, 110), 230)
    return writer.page()


def squared(digits: list[Digit], random: np.random.Generator) -> Page:
    writer = Writer(random)
    step, color = (
        int(random.integers(16, 40)),
        str(random.choice(["#8cb4e6", "#96aadc", "#b4b4b4"])),
    )
    for at in range(int(random.integers(0, step)), 400, step):
        writer.draw.line((at, 0, at, 400), color, 2)
        writer.draw.line((0, at, 400, at), color, 2)
    writer.put(*digits[0], *uniform(random, 75, 110), 230)
    return writer.page()


def circled(digits: list[Digit], random: np.random.Generator) -> Page:
    writer, _ = _one(digits, random, 0.36)
    a, b, c, d = random.uniform(25, 55, 4)
    writer.draw.ellipse(
        (a, b, 400 - c, 400 - d), outline=writer.ink, width=int(random.integers(3, 8))
    )
    return writer.page()


def underlined(digits: list[Digit], random: np.random.Generator) -> Page:
    writer, (left, _, right, bottom) = _one(digits, random, 0.4)
    y = bottom + int(random.integers(8, 30))
    writer.draw.line(
        (left - int(random.integers(20, 60)), y, right + int(random.integers(20, 60)), y + 3),
        writer.ink,
        5,
    )
    return writer.page()


def headed(digits: list[Digit], random: np.random.Generator) -> Page:
    """A line of print above."""
    writer, _ = _one(digits, random, 0.45)
    text = "Question " + str(random.integers(1, 10)) + "  answer:"
    writer.draw.text((40, 16), text, "black", ImageFont.truetype(FONTS[0], 24))
    return writer.page()


def on_desk(digits: list[Digit], random: np.random.Generator) -> Page:
    """A sheet that lies on something darker, seen at a slant."""
    writer, _ = _one(digits, random, 0.45)
    desk = (
        (60, 40, 30) if random.random() < 0.6 else tuple(int(v) for v in random.integers(0, 130, 3))
    )
    corners = np.array([(0, 0), (0, 400), (400, 400), (400, 0)], dtype=float)
    where = corners * random.uniform(0.6, 0.9) + random.uniform(-10, 60, 2)
    where += random.uniform(-15, 15, (4, 2))
    return _seen(writer, corners, where, desk)


def turned_scan(digits: list[Digit], random: np.random.Generator) -> Page:
    """Deskewed, with black or white corners."""
    writer, _ = _one(digits, random, 0.45)
    corner = (0, 0, 0) if random.random() < 0.6 else (255, 255, 255)
    angle = np.radians(random.uniform(-20, 20))
    corners = np.array([(0, 0), (0, 400), (400, 400), (400, 0)], dtype=float)
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    # The sheet is turned; the digit on it was written so that it stands upright.
    upright = Writer(random)
    upright.image = writer.image.rotate(
        float(np.degrees(angle)),
        fillcolor=writer.image.getpixel((2, 2)),
    )
    upright.number, upright.boxes = writer.number, writer.boxes
    return _seen(upright, corners, (corners - 200) @ turn * 0.75 + 200, corner)


def _seen(
    writer: Writer,
    corners: np.ndarray,
    where: np.ndarray,
    ground: tuple[int, ...],
) -> Page:
    """The sheet with its corners moved to `where` on the ground; boxes follow."""
    rows = []
    for (x, y), (u, v) in zip(corners, where, strict=True):
        rows += [[u, v, 1, 0, 0, 0, -x * u, -x * v, x], [0, 0, 0, u, v, 1, -y * u, -y * v, y]]
    system = np.array(rows)
    back = np.linalg.solve(system[:, :8], system[:, 8])  # from the photo to the sheet
    transform = Image.Transform.PERSPECTIVE
    sheet = writer.image.transform((400, 400), transform, back.tolist(), Image.Resampling.BILINEAR)
    mask = Image.new("L", (400, 400), 255).transform((400, 400), transform, back.tolist())
    image = Image.new("RGB", (400, 400), ground)
    image.paste(sheet, mask=mask)
    to_photo = np.linalg.inv(np.append(back, 1).reshape(3, 3))
    boxes = []
    for left, top, right, bottom in writer.boxes:
        x, y, w = to_photo @ [[left, right, left, right], [top, top, bottom, bottom], [1] * 4]
        boxes.append(
            (int((x / w).min()), int((y / w).min()), int((x / w).max()), int((y / w).max()))
        )
    writer.image, writer.boxes = image, boxes
    return writer.page()


def plotted(digits: list[Digit], random: np.random.Generator) -> Page:
    """A figure with axes, as imshow draws it."""
    writer = Writer(random)
    writer.image.paste("white", (0, 0, 400, 400))
    light = random.random() < 0.7
    writer.draw.rectangle((60, 30, 370, 340), "black" if light else "white", "black", 2)
    writer.ink = "white" if light else "black"
    font = ImageFont.truetype(FONTS[0], 14)
    for i in range(6):
        writer.draw.line((60 + 55 * i, 340, 60 + 55 * i, 347), "black", 2)
        writer.draw.text((52 + 55 * i, 350), str(5 * i), "black", font)
        writer.draw.line((53, 340 - 55 * i, 60, 340 - 55 * i), "black", 2)
        writer.draw.text((30, 332 - 55 * i), str(25 - 5 * i), "black", font)
    writer.put(*digits[0], 70, 40, 290)
    return writer.page(noise=0)


def shadowed(digits: list[Digit], random: np.random.Generator) -> Page:
    """A hard shadow over a part of the page."""
    writer, _ = _one(digits, random, 0.45)
    a, b = random.uniform(200, 360, 2)
    shadow = Image.new("L", (400, 400), 0)
    ImageDraw.Draw(shadow).polygon([(a, 0), (400, 0), (400, 400), (b, 400)], 255)
    shadow = shadow.filter(ImageFilter.GaussianBlur(random.uniform(0, 3)))
    darker = writer.image.point(lambda level: level * 0.55)
    writer.image.paste(darker, mask=shadow)
    return writer.page()


def glaring(digits: list[Digit], random: np.random.Generator) -> Page:
    writer = Writer(random, ink="#1c1c1c")
    writer.image.paste((160, 160, 156), (0, 0, 400, 400))
    writer.put(*digits[0], *uniform(random, 90, 120), 210)
    spot = Image.new("L", (400, 400), 0)
    x, y, radius = *random.uniform(20, 90, 2), random.uniform(40, 75)
    ImageDraw.Draw(spot).ellipse((x - radius, y - radius, x + radius, y + radius), 255)
    writer.image.paste("white", mask=spot.filter(ImageFilter.GaussianBlur(12)))
    return writer.page()


def beside_cut(digits: list[Digit], random: np.random.Generator) -> Page:
    """The image's border cuts a neighbour in two."""
    writer, _ = _one(digits, random, 0.45)
    number, boxes = writer.number, list(writer.boxes)
    mask = digits[1][0].getbbox() or (0, 0, 28, 28)
    side = 250
    cut = random.uniform(0.3, 0.7) * (mask[2] - mask[0]) + mask[0]
    writer.put(*digits[1], 400 - cut * side / 28, random.uniform(60, 100), side)
    writer.number, writer.boxes = number, boxes
    return writer.page()


def beside_crossed_out(digits: list[Digit], random: np.random.Generator) -> Page:
    writer = Writer(random)
    left, top, right, bottom = writer.put(*digits[1], 40, 130, 150)
    writer.number, writer.boxes = "", []
    for a, b in ((top, bottom), (bottom, top)):
        writer.draw.line(
            (left - 8, a - 4, right + 8, b + 4), writer.ink, int(random.integers(4, 8))
        )
    writer.put(*digits[0], 210, random.uniform(110, 140), 150)
    return writer.page()


def several(digits: list[Digit], random: np.random.Generator) -> Page:
    """A number of two to five digits in a row."""
    number = int(random.integers(2, 6))
    writer = Writer(random, (120 * number + 80, 240))
    left = 30.0
    for digit in digits[:number]:
        edge = (digit[0].getbbox() or (0, 0, 28, 28))[0] * 130 / 28
        box = writer.put(*digit, left - edge, 50 + random.uniform(-10, 10), 130)
        left = box[2] + random.uniform(12, 40)
    return writer.page()


def two_rows(digits: list[Digit], random: np.random.Generator) -> Page:
    writer = Writer(random, (480, 320))
    for i, digit in enumerate(digits[:6]):
        writer.put(*digit, 40 + 130 * (i % 3), 20 + 140 * (i // 3), 120)
    return writer.page()


PAGES: dict[str, Draw] = {
    "plain": plain,
    "framed": framed,
    "ruled": ruled,
    "squared": squared,
    "circled": circled,
    "underlined": underlined,
    "headed": headed,
    "on a desk": on_desk,
    "turned scan": turned_scan,
    "plotted": plotted,
    "hard shadow": shadowed,
    "glare": glaring,
    "neighbour cut": beside_cut,
    "crossed out": beside_crossed_out,
    "several": several,
    "two rows": two_rows,
}

FOLDER = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
FONTS = [
    str(FOLDER / f"{name}.ttf")
    for name in (
        *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif"),
        *("DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralItalic", "cmr10"),
    )
]


def printed(random: np.random.Generator) -> Digit:
    """A digit of a font, also as if written by hand."""
    label = int(random.integers(10))
    image = Image.new("L", (220, 220), 255)
    font = ImageFont.truetype(str(random.choice(FONTS)), 150)
    ImageDraw.Draw(image).text((110, 110), str(label), 0, font, anchor="mm")
    if random.random() < 0.7:
        image = by_hand(image, random)
    image = image.point(lambda level: 255 - level)
    image = image.crop(image.getbbox())
    scale = 20 / max(image.size)
    size = max(1, round(scale * image.width)), max(1, round(scale * image.height))
    digit = Image.new("L", (28, 28), 0)
    digit.paste(
        image.resize(size, Image.Resampling.BOX), ((28 - size[0]) // 2, (28 - size[1]) // 2)
    )
    return digit, label


def in_pencil(digit: Image.Image, side: int, random: np.random.Generator) -> Image.Image:
    """A digit of few pixels, grey and uneven, dark on white."""
    large = digit.resize((8 * side, 8 * side), Image.Resampling.BICUBIC)
    large = large.filter(ImageFilter.MinFilter(int(random.choice([1, 3, 5, 9]))))
    levels = np.asarray(large.resize((side, side), Image.Resampling.BOX), dtype=np.float32)
    uneven = random.uniform(0.4, 1, levels.shape) * random.uniform(0.4, 1)
    noise = random.normal(0, random.uniform(0, 5), levels.shape)
    return Image.fromarray((255 - levels * uneven + noise).clip(0, 255).astype(np.uint8))


def by_hand(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Print as a hand would write it: bent, slanted, with a thicker or thinner pen."""
    side = image.width
    waves = random.uniform(-0.05, 0.05, (2, 2, 2)) * side
    y, x = np.mgrid[0:side, 0:side] / side * 2 * np.pi
    shift = [
        sum(
            waves[axis, i, 0] * np.sin((i + 1) * x / 2)
            + waves[axis, i, 1] * np.cos((i + 1) * y / 2)
            for i in range(2)
        )
        for axis in range(2)
    ]
    slant = random.uniform(-0.3, 0.3)
    rows, columns = np.mgrid[0:side, 0:side].astype(float)
    columns = columns + shift[0] + slant * (rows - side / 2)
    rows = rows + shift[1]
    levels = np.asarray(image)[
        rows.round().astype(int).clip(0, side - 1), columns.round().astype(int).clip(0, side - 1)
    ]
    bent = Image.fromarray(levels).filter(ImageFilter.GaussianBlur(1.5))
    pen = int(random.choice([1, 3, 5, 7]))
    return bent.filter(
        (ImageFilter.MinFilter if random.random() < 0.5 else ImageFilter.MaxFilter)(pen)
    )
