"""Draw the pages that train the page network: digits, all that is no digit, paper, and a camera.

Every page comes from a seed of its own, so that a run can be resumed and repeated. Layouts write
with the characters of synthetic.py; pictures are dead leaves (Lee, Mumford and Huang, Occlusion
models for natural images, 2001).
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from mnist_lit.synthetic import (
    LETTERS,
    STROKES,
    Array,
    Characters,
    Generator,
    Mask,
    Style,
    log_uniform,
    resized,
    sign,
    stroked,
)

SIDE = 192  # pixels of a page's sides
MAX_HEIGHT = 180  # pixels of a digit
IGNORED = -1  # the label of a digit that the border cuts so far that either answer would do
DIGIT_LIKE = "OoQDIlij"  # nobody can tell these letters from digits when they stand alone
LOOSE = (*STROKES, "scribble", "curve")
SEGMENTS_OF_TEXT = ("number", "amount", "date", "sum", "phone", "code", "label")


class Page(NamedTuple):
    """One page and the digits on it."""

    pixels: npt.NDArray[np.uint8]  # (SIDE, SIDE, 3), RGB
    boxes: Array  # (N, 4): left, top, right, bottom of each digit's ink, in pixels
    labels: npt.NDArray[np.int64]  # (N,): 0 to 9, or IGNORED


class Written(NamedTuple):
    """A digit on a sheet."""

    label: int
    outline: Array  # (8, 2): its outermost points, x and y
    shown: float  # the part of it that is not cut off


class Sheet:
    """A page while it is written: its ink, and the digits that stand on it."""

    def __init__(self, rng: Generator, characters: Characters) -> None:
        self.rng, self.characters = rng, characters
        self.ink = np.zeros((SIDE, SIDE), np.uint8)
        self.digits: list[Written] = []

    def stamp(self, mask: Mask, x: float, y: float, label: int | None = None) -> None:
        """Put a mask with its left top corner at (x, y); `label` says which digit it shows."""
        left, top = round(x), round(y)
        height, width = mask.shape
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + width, SIDE), min(top + height, SIDE)
        if x0 >= x1 or y0 >= y1:
            return
        part = mask[y0 - top : y1 - top, x0 - left : x1 - left]
        np.maximum(self.ink[y0:y1, x0:x1], part, out=self.ink[y0:y1, x0:x1])
        ys, xs = np.nonzero(part > 90)
        if label is not None and len(xs):
            ends = [
                int(np.argmax(a)) for a in (xs, -xs, ys, -ys, xs + ys, -xs - ys, xs - ys, ys - xs)
            ]
            outline = np.stack([xs[ends] + x0 + 0.5, ys[ends] + y0 + 0.5], axis=1)
            shown = (np.ptp(xs) + 1) * (np.ptp(ys) + 1) / (width * height)
            self.digits.append(Written(label, outline.astype(np.float32), min(float(shown), 1.0)))

    def stamp_middle(self, mask: Mask, x: float, y: float, label: int | None = None) -> None:
        self.stamp(mask, x - mask.shape[1] / 2, y - mask.shape[0] / 2, label)

    def character(self, char: str, height: float, style: Style) -> tuple[Mask, float]:
        """Return the mask of a character, and its top below that of a digit of `height`."""
        rng = self.rng
        if char.isdigit():
            own = height if style.tidy else height * math.exp(rng.normal(0, 0.07))
            return self.characters.digit(rng, int(char), own, style), (height - own) * rng.random()
        if char in (*STROKES, ",") and style.source in ("pen", "mnist") and rng.random() < 0.7:
            share, top = {".": (0.05, 0.92), ",": (0.3, 0.85), "/": (1.2, -0.1)}.get(
                char, (rng.uniform(0.5, 0.9), 0.2)
            )
            lines = sign(rng, char.replace(",", "/"))
            share *= (
                min(1.0, float(np.ptp(np.concatenate(lines)[:, 1])) + 0.05) if char in "-=÷" else 1
            )
            top = 0.5 - share / 2 + rng.normal(0, 0.06) if char in "-=÷" else top
            return stroked(rng, lines, max(share * height, style.width), style), top * height
        font = style.font
        if char not in font.masks:
            return np.zeros((1, 1), np.uint8), 0
        tall = max(2.0, height * font.heights[char])
        return resized(rng, font.masks[char], tall, style), font.tops[char] * height

    def row(
        self,
        text: str,
        x: float,
        y: float,
        height: float,
        gap: float,
        style: Style,
        angle: float = 0.0,
        touching: bool = False,
    ) -> None:
        """Write `text` with its left top corner at (x, y); `gap` is in heights of a digit."""
        rng = self.rng
        jump = 0.0 if style.tidy else rng.choice([0.02, 0.05, 0.15])
        for char in text:
            if char == " ":
                x += height * 0.5
                continue
            mask, top = self.character(char, height, style)
            at = y + top + rng.normal(0, jump) * height + angle * x
            x = self.touching(mask, x, at) if touching else x
            self.stamp(mask, x, at, int(char) if char.isdigit() else None)
            space = gap + (0 if style.tidy else rng.normal(0, 0.06))
            x += max(mask.shape[1] + space * height, 0.25 * mask.shape[1] + 1)

    def touching(self, mask: Mask, x: float, y: float) -> float:
        """Return the largest place left of `x` at which a mask meets the ink that is there."""
        height, width = mask.shape
        top, bottom = max(round(y), 0), min(round(y) + height, SIDE)
        inked = mask[top - round(y) : bottom - round(y)] > 90
        if top < bottom:
            for left in range(min(round(x), SIDE - width), max(round(x - 0.7 * width) - 4, -1), -1):
                if (inked & (self.ink[top:bottom, left : left + width] > 90)).any():
                    return left + self.rng.uniform(-0.03, 0.02) * height
        return x

    def loose(self, x: float, y: float, height: float) -> None:
        """Put something that is no digit around (x, y)."""
        rng = self.rng
        style = self.characters.style(rng, height, 0.4)
        if rng.random() < 0.3:
            name = LOOSE[rng.integers(len(LOOSE))]
            size = max(style.width, height * (0.15 if name == "." else 0.6 if name in "-=÷" else 1))
            lines = sign(rng, name if name not in ("/", "line") else "x")
            self.stamp_middle(stroked(rng, lines, size, style), x, y)
        else:
            masks = style.font.masks
            chars = [c for c in LETTERS + "&?!$%#@" if c in masks and c not in DIGIT_LIKE]
            self.stamp_middle(resized(rng, masks[str(rng.choice(chars))], height, style), x, y)


def number_text(rng: Generator) -> str:
    """Return a row as people write them: a number, an amount, a date, a sum, a code."""
    digits = "".join(map(str, rng.integers(0, 10, 14)))

    def pick(*options: str) -> str:
        return options[rng.integers(len(options))]

    match rng.choice(SEGMENTS_OF_TEXT, p=[0.52, 0.14, 0.1, 0.12, 0.04, 0.04, 0.04]):
        case "amount":
            cents = pick(digits[8:10], "00", "-")
            return (
                pick("", "", "$", "*") + digits[: rng.integers(1, 6)] + pick(".", ",", ".") + cents
            )
        case "date":
            parts = (
                digits[: rng.integers(1, 3)],
                digits[2 : rng.integers(3, 5)],
                digits[6 : 8 + 2 * rng.integers(2)],
            )
            return pick("/", "-", ".", "/").join(parts)
        case "sum":
            terms = [
                digits[3 * i : 3 * i + rng.integers(1, 3)] + pick("+", "-", "x", "÷", "=")
                for i in range(rng.integers(2, 4))
            ]
            line = "".join(terms)
            return pick(line, line[:-1], line[:-1], line[:-1], f"({line[:-1]})")
        case "phone":
            return f"{digits[:3]}-{digits[3:6]} {digits[6:10]}"
        case "code":
            return (
                "".join(rng.choice(list("ABCDEFGHKLMNPRSTUVWXYZ"), 2))
                + digits[: rng.integers(2, 6)]
            )
        case "label":
            return (
                pick("No.", "Nr.", "Total ", "Age ", "page ", "n=", "#")
                + digits[: rng.integers(1, 5)]
            )
    return digits[: rng.integers(1, 9)] if rng.random() < 0.8 else digits[: rng.integers(9, 14)]


def words(rng: Generator, number: int) -> str:
    """Return words that nobody knows."""
    made = []
    for _ in range(number):
        syllables = [
            rng.choice(list("bcdfghklmnprstvwz")) + rng.choice(list("aeiou")) for _ in range(4)
        ]
        word = "".join(syllables)[: rng.integers(1, 9)]
        made.append([word, word.upper(), word.capitalize(), word][rng.integers(4)])
    return " ".join(made)


def write_single(sheet: Sheet) -> None:
    """Write one digit, anywhere and of any size, sometimes beside something that is none."""
    rng, characters = sheet.rng, sheet.characters
    height = log_uniform(rng, 14, MAX_HEIGHT)
    style = characters.style(rng, height, 0.25)
    mask = characters.digit(rng, label := int(rng.integers(10)), height, style)
    shrink = min(1.0, SIDE / max(mask.shape))
    mask = cv2.resize(mask, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    tall, wide = mask.shape
    centred = rng.random() < 0.6
    x, y = (
        (SIDE - side) / 2 + rng.normal(0, 5) if centred else rng.uniform(0, max(SIDE - side, 0))
        for side in (wide, tall)
    )
    sheet.stamp(mask, x, y, label)
    beside = rng.random()
    if beside < 0.08 and tall < 80:
        away = rng.choice([-1, 1]) * (0.8 * wide + 0.6 * tall)
        sheet.loose(x + wide / 2 + away, y + tall / 2, tall * rng.uniform(0.5, 1.2))
    elif beside < 0.16:  # a neighbour that the border cuts
        part = characters.digit(rng, int(rng.integers(10)), tall, style)
        hidden = rng.uniform(0.7, 0.95)
        across, down = hidden * part.shape[1], hidden * part.shape[0]
        places = (
            (-across, y),
            (SIDE - part.shape[1] + across, y),
            (x, -down),
            (x, SIDE - part.shape[0] + down),
        )
        sheet.stamp(part, *places[rng.integers(4)])
    elif tall > 120:
        return
    elif beside < 0.26:  # a frame or a circle around it
        lines = sign(rng, "box" if rng.random() < 0.6 else "circle")
        thin = style._replace(stretch=1.0, slant=0.0, width=max(1.0, 0.4 * style.width))
        sheet.stamp_middle(
            stroked(rng, lines, 1.5 * max(tall, wide), thin), x + wide / 2, y + tall / 2
        )
    elif beside < 0.32:
        line = words(rng, 2)
        sheet.row(
            line,
            rng.uniform(0, 40),
            max(y - 30, 0),
            rng.uniform(7, 14),
            0.1,
            characters.style(rng, 12, 0.8),
        )
    elif beside < 0.38:  # a point or a tick after it, a line below it
        mark = stroked(
            rng,
            sign(rng, [".", ".", "tick", "line"][rng.integers(4)]),
            max(style.width, 0.1 * tall),
            style,
        )
        sheet.stamp(
            mask=mark, x=x + wide * rng.uniform(0, 1.2), y=y + tall * rng.uniform(1.02, 1.2)
        )


def write_rows(sheet: Sheet) -> None:
    """Write one row or several: straight or not, touching or far apart, cut or not."""
    rng = sheet.rng
    number = int(rng.choice([1, 1, 1, 1, 2, 2, 3, 4, 5]))
    height = log_uniform(rng, 13, min(110, 150 / number))
    style = sheet.characters.style(rng, height, 0.25)
    touching = rng.random() < 0.3
    gap = (
        0.02
        if touching
        else rng.choice(
            [rng.uniform(-0.16, 0), rng.uniform(0, 0.25), rng.uniform(0.2, 0.9)], p=[0.2, 0.5, 0.3]
        )
    )
    angle = rng.normal(0, 0.05) if rng.random() < 0.6 else 0.0
    pitch = height * rng.uniform(1.25, 2.2)
    y = (SIDE - height - pitch * (number - 1)) / 2 + rng.normal(0, 0.15) * SIDE
    for _ in range(number):
        line = number_text(rng)
        room = SIDE - len(line) * height * (0.62 * style.stretch + gap)
        if room < 0 and rng.random() < 0.85:  # keep only what fits
            line = line[: max(1, int(len(line) * SIDE / (SIDE - room)))]
        start = (
            rng.uniform(0.02 * SIDE, room)
            if room > 0.05 * SIDE
            else rng.uniform(-0.05, 0.06) * SIDE
        )
        sheet.row(line, start, y, height, gap, style, angle, touching)
        if rng.random() < 0.1:
            thin = style._replace(
                stretch=(SIDE - max(room, 0)) / height, width=max(1.0, 0.4 * style.width)
            )
            sheet.stamp(
                stroked(rng, sign(rng, "line"), max(1.0, 0.3 * style.width), thin),
                start,
                y + 1.15 * height,
            )
        y += pitch
    if rng.random() < 0.15:
        x, y = rng.uniform(0, SIDE, 2)
        sheet.loose(x, y, height * rng.uniform(0.5, 1.3))


def write_cells(sheet: Sheet) -> None:
    """Write digits into the cells of a form or table, into circles, or on a grid without lines."""
    rng, characters = sheet.rng, sheet.characters
    columns, lines = int(rng.integers(1, 7)), int(rng.integers(1, 6))
    pitch = math.floor(min(170 / columns, 170 / lines))
    wide = pitch * rng.uniform(0.75, 1.0)
    height = pitch * rng.uniform(0.4, 0.8)
    style = characters.style(rng, height, 0.2)
    left, top = (rng.uniform(2, SIDE - pitch * number - 2) for number in (columns, lines))
    frame = rng.choice(["box", "table", "circle", "none"], p=[0.35, 0.3, 0.1, 0.25])
    thick, shade = int(rng.choice([1, 1, 1, 2, 3])), int(rng.uniform(60, 255))
    for i in range(lines * columns):
        x, y = left + wide * (i % columns), top + pitch * (i // columns)
        middle = round(x + wide / 2), round(y + pitch / 2)
        inset = 2 if frame == "box" else 0
        if frame == "circle":
            cv2.circle(sheet.ink, middle, round(0.48 * wide), shade, thick, cv2.LINE_AA)
        elif frame != "none":
            upper = round(x + inset), round(y + inset)
            lower = round(x + wide - inset), round(y + pitch - inset)
            cv2.rectangle(sheet.ink, upper, lower, shade, thick)
        fate = rng.random()
        if fate < 0.12:
            continue
        if fate < 0.2:
            sheet.loose(*middle, height)
            continue
        digit = int(rng.integers(10))
        mask = characters.digit(rng, digit, height * rng.uniform(0.8, 1.1), style)
        place = rng.normal(middle, 0.05 * pitch)
        sheet.stamp_middle(mask, place[0], place[1], digit if fate < 0.96 else None)
        if fate >= 0.96:  # crossed out
            for _ in range(2):
                lines_across = sign(rng, ["x", "scribble", "scribble"][rng.integers(3)])
                sheet.stamp_middle(stroked(rng, lines_across, 1.1 * mask.shape[0], style), *place)


def write_scattered(sheet: Sheet) -> None:
    """Put digits of all sizes anywhere, and what is no digit between them."""
    rng, characters = sheet.rng, sheet.characters
    taken: list[tuple[float, float, float]] = []
    for _ in range(int(rng.integers(2, 14))):
        height = log_uniform(rng, 12, 70)
        x, y = rng.uniform(0.4 * height, SIDE - 0.4 * height, 2)
        if any(math.hypot(x - a, y - b) < 0.55 * (height + c) for a, b, c in taken):
            continue
        taken.append((x, y, height))
        if rng.random() < 0.3:
            sheet.loose(x, y, height)
        else:
            digit = int(rng.integers(10))
            style = characters.style(rng, height, 0.2)
            sheet.stamp_middle(characters.digit(rng, digit, height, style), x, y, digit)


def write_nothing(sheet: Sheet) -> None:
    """Write words, a letter or a sign, or leave the page empty."""
    rng = sheet.rng
    kind = rng.random()
    if kind < 0.5:
        x, y = rng.normal(SIDE / 2, 10, 2)
        sheet.loose(x, y, log_uniform(rng, 12, 170))
    elif kind < 0.9:
        number = int(rng.integers(1, 8))
        height = log_uniform(rng, 8, 120 / number)
        style = sheet.characters.style(rng, height, 0.5)
        for i in range(number):
            line = words(rng, int(rng.integers(1, 6)))
            sheet.row(line, rng.uniform(0, 30), (i + 0.3) * height * 1.6, height, 0.05, style)


LAYOUTS = (write_single, write_rows, write_cells, write_scattered, write_nothing)
SHARES = (0.3, 0.36, 0.1, 0.08, 0.16)


def draw_page(characters: Characters, seed: int) -> Page:
    """Draw one page. The same characters and seed give the same page."""
    rng = np.random.default_rng(seed)
    sheet = Sheet(rng, characters)
    layout = LAYOUTS[rng.choice(len(LAYOUTS), p=SHARES)]
    paper, ink = colors(rng)
    camera = rng.random() < 0.7  # else a drawing or a screenshot: flat paper, no light
    if layout is write_nothing and rng.random() < 0.3:
        page = leaves(rng)
    else:
        layout(sheet)
        page = sheet_of_paper(rng, paper, ink, camera)
    alpha = sheet.ink.astype(np.float32) * (1 / 255)
    if rng.random() < 0.06:  # the other side shines through
        page += (alpha[:, ::-1] * rng.uniform(0.05, 0.2))[..., None] * (ink - page)
    if camera and rng.random() < 0.3:  # a dry pen or a pencil
        grain = noise(rng, int(rng.choice([30, 96])))[..., 0] * rng.uniform(0, 0.4)
        alpha *= 1 - np.clip(grain, 0, 0.7)
    if rng.random() < 0.1:  # strokes that are hollow, as outlines of print are
        alpha -= cv2.erode(alpha, np.ones((3, 3), np.uint8)) * rng.uniform(0.2, 0.9)
    page += alpha[..., None] * (ink + (noise(rng, 4, 3) * 60 if rng.random() < 0.04 else 0) - page)
    if rng.random() < 0.08:  # lines of a captcha
        for x0, y0, x1, y1 in rng.integers(0, SIDE, (rng.integers(1, 5), 4)).tolist():
            cv2.line(page, (x0, y0), (x1, y1), ink.tolist(), int(rng.integers(1, 3)), cv2.LINE_AA)
    digits = sheet.digits
    if rng.random() < (0.6 if camera else 0.25):
        page, digits = photographed(rng, page, paper, digits, camera)
    if rng.random() < 0.3:
        letterbox(rng, page, digits)
    boxes, labels = boxes_of(digits)
    return Page(exposed(rng, page, camera), boxes, labels)


def noise(rng: Generator, cells: int, channels: int = 1) -> Array:
    """Return (SIDE, SIDE, channels) of smooth noise about 0, with `cells` bumps along a side."""
    coarse = rng.standard_normal((cells + 1, cells + 1, channels), np.float32)
    return cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).reshape(SIDE, SIDE, -1)


def leaves(rng: Generator) -> Array:
    """Return a picture of dead leaves: shapes of all sizes that hide each other, textured."""
    picture = np.full((SIDE, SIDE, 3), rng.uniform(0, 255, 3), np.float32)
    palette = rng.uniform(0, 255, (rng.integers(2, 9), 3))
    largest = rng.uniform(20, 150)
    for _ in range(int(rng.integers(4, 120))):
        radius = max(2.0, largest * rng.random() ** 3)
        color = (palette[rng.integers(len(palette))] + rng.normal(0, 15, 3)).tolist()
        x, y = rng.integers(-20, SIDE + 20, 2).tolist()
        kind = rng.random()
        if kind < 0.5:
            axes = int(radius), max(1, int(radius * rng.uniform(0.3, 1)))
            cv2.ellipse(picture, (x, y), axes, rng.uniform(0, 180), 0, 360, color, -1, cv2.LINE_AA)
        elif kind < 0.8:
            corners = rng.normal((x, y), radius, (rng.integers(3, 7), 2)).astype(np.int32)
            cv2.fillPoly(picture, [corners], color, cv2.LINE_AA)
        else:
            end = rng.normal((x, y), 80).astype(int).tolist()
            cv2.line(picture, (x, y), end, color, int(rng.integers(1, 6)), cv2.LINE_AA)
    return picture + noise(rng, int(rng.choice([3, 12, 48])), 3) * rng.uniform(0, 25)


def colors(rng: Generator) -> tuple[Array, Array]:
    """Return the colours of paper and ink, (3,) each, from 0 to 255, clearly different."""
    while True:
        paper = (
            np.full(3, rng.uniform(215, 255)),  # a scan
            rng.uniform(90, 235) + rng.normal(0, 10, 3),  # a photo
            np.full(3, rng.choice([0.0, rng.uniform(0, 60)])),  # a drawing, as MNIST's
            rng.uniform(0, 255, 3),
            np.full(3, rng.uniform(40, 220)),
        )[rng.choice(5, p=[0.38, 0.22, 0.2, 0.12, 0.08])]
        light = paper.mean() > 110
        ink = (
            np.full(3, rng.uniform(0, 90) if light else rng.uniform(165, 255)),
            rng.uniform((0, 0, 60), (90, 110, 230)) if light else rng.uniform(120, 255, 3),  # blue
            rng.uniform((120, 0, 0), (240, 80, 90)),  # red
            rng.uniform(0, 255, 3),
        )[rng.choice(4, p=[0.5, 0.25, 0.1, 0.15])]
        if np.abs(paper - ink).max() > rng.choice([25, 60, 90]):
            return paper.clip(0, 255).astype(np.float32), ink.clip(0, 255).astype(np.float32)


def sheet_of_paper(rng: Generator, paper: Array, ink: Array, camera: bool) -> Array:
    """Return an empty page: flat, or rough and unevenly lit, sometimes with printed lines."""
    page = np.empty((SIDE, SIDE, 3), np.float32)
    page[:] = paper
    if camera and rng.random() < 0.6:
        page *= 1 + noise(rng, int(rng.integers(1, 4))) * rng.uniform(0, 0.12)
    if camera and rng.random() < 0.3:
        page += noise(rng, int(rng.choice([24, 48, 96]))) * rng.uniform(0, 9)
    if camera and rng.random() < 0.05:
        page += (leaves(rng) - page) * rng.uniform(0.1, 0.5)
    if rng.random() > 0.25:
        return page
    mask = np.zeros((SIDE, SIDE), np.uint8)
    kind = rng.choice(
        ["lines", "squares", "margin", "halftone", "frame"], p=[0.3, 0.3, 0.1, 0.2, 0.1]
    )
    pitch, thick = rng.uniform(7, 60), int(rng.choice([1, 1, 2]))
    if kind == "frame":
        x0, y0, x1, y1 = rng.integers(0, 20, 4).tolist()
        cv2.rectangle(mask, (x0, y0), (SIDE - 1 - x1, SIDE - 1 - y1), 255, int(rng.integers(1, 5)))
    elif kind == "margin":
        x = int(rng.choice([rng.uniform(5, 40), rng.uniform(150, 187)]))
        cv2.line(mask, (x, 0), (x, SIDE), 255, thick)
    elif kind == "halftone":  # as on cheques
        step = int(rng.integers(3, 6))
        mask[::step, ::step] = mask[step // 2 :: step, step // 2 :: step] = 255
    else:
        for place in np.arange(rng.uniform(0, pitch), SIDE, pitch).astype(int).tolist():
            cv2.line(mask, (0, place), (SIDE, place), 255, thick)
            if kind == "squares":
                cv2.line(mask, (place, 0), (place, SIDE), 255, thick)
    tone = (
        paper + (ink - paper) * rng.uniform(0.2, 1)
        if rng.random() < 0.6
        else rng.uniform(0, 255, 3)
    )
    alpha = mask[..., None] * np.float32(rng.uniform(0.1, 0.8) / 255)
    return page + alpha * (tone.astype(np.float32) - page)


def photographed(
    rng: Generator, page: Array, paper: Array, digits: list[Written], camera: bool
) -> tuple[Array, list[Written]]:
    """Move the page below a camera: zoom, turn, cut it, or lay it on a desk."""
    square = np.array([[0, 0], [SIDE, 0], [SIDE, SIDE], [0, SIDE]], np.float32)
    desk = camera and rng.random() < 0.3
    angle = 0.0 if desk else rng.normal(0, 0.07)
    zoom = rng.uniform(0.6, 0.95) if desk else math.exp(rng.normal(0, 0.15))
    spin = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    target = (
        (square - SIDE / 2) @ spin * zoom
        + SIDE / 2
        + rng.normal(0, 9, 2)
        + rng.normal(0, 8 if desk else 4, (4, 2))
    )
    matrix = cv2.getPerspectiveTransform(square, target.astype(np.float32))
    border = cv2.BORDER_CONSTANT if desk or rng.random() < 0.4 else cv2.BORDER_REPLICATE
    size = (SIDE, SIDE)
    moved = cv2.warpPerspective(page, matrix, size, borderMode=border, borderValue=paper.tolist())
    if desk:
        inside = cv2.warpPerspective(np.ones(size, np.float32), matrix, size)[..., None]
        ground = leaves(rng) if rng.random() < 0.4 else rng.uniform(0, 255, 3) + noise(rng, 40) * 6
        moved = moved * inside + ground.astype(np.float32) * (1 - inside)
    return moved, [
        digit._replace(outline=cv2.perspectiveTransform(digit.outline[None], matrix)[0])
        for digit in digits
    ]


def letterbox(rng: Generator, page: Array, digits: list[Written]) -> None:
    """Make an image that is wide or tall of the page: flat above and below the digits, in place."""
    axis = int(rng.integers(2))
    places = [digit.outline[:, axis] for digit in digits] or [np.array([SIDE / 3, SIDE / 2])]
    low, high = rng.uniform(0, 25, 2) * (-1, 1) + (np.min(places), np.max(places))
    first, last = max(0, int(low)), min(SIDE, int(high))
    if first < last:
        view = page if axis else page.swapaxes(0, 1)
        view[:first] = view[last:] = np.median(view[[first, last - 1]], axis=(0, 1))


def exposed(rng: Generator, page: Array, camera: bool) -> npt.NDArray[np.uint8]:
    """Add shadow, glare, a finger, blur, noise and compression."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    if camera and rng.random() < 0.15:  # a shadow, hard or soft
        a, (x0, y0) = rng.uniform(0, 7), rng.uniform(0, SIDE, 2)
        side = ((x - x0) * math.cos(a) + (y - y0) * math.sin(a)) / rng.choice([0.6, 4, 25])
        page *= 1 - rng.uniform(0.15, 0.6) / (1 + np.exp(-side.clip(-30, 30)))[..., None]
    if camera and rng.random() < 0.06:  # glare
        x0, y0, radius = *rng.uniform(0, SIDE, 2), rng.uniform(8, 60)
        spot = np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * radius**2))[..., None]
        page += spot * (255 - page) * rng.uniform(0.3, 1)
    if camera and rng.random() < 0.04:  # a finger in a corner
        corner = (rng.choice([0, SIDE], 2) + rng.uniform(-12, 12, 2)).astype(int).tolist()
        skin = rng.uniform((190, 130, 100), (230, 170, 140)).tolist()
        cv2.circle(page, corner, int(rng.uniform(15, 45)), skin, -1, cv2.LINE_AA)
    fate = rng.random()
    if fate < 0.16:  # few pixels, enlarged
        size = int(rng.choice([20, 28, 40, 64, 96], p=[0.05, 0.15, 0.2, 0.3, 0.3]))
        small = cv2.resize(page, (size, size), interpolation=cv2.INTER_AREA)
        how = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(3)]
        page = cv2.resize(small, (SIDE, SIDE), interpolation=how)
    elif fate < 0.45:
        page = cv2.GaussianBlur(page, (0, 0), rng.uniform(0.3, 1.6))
    elif fate < 0.5:  # a hand that shakes
        page = cv2.blur(page, (int(rng.integers(2, 6)), 1) if rng.random() < 0.5 else (1, 3))
    if camera and rng.random() < 0.4:
        grain = rng.standard_normal((SIDE, SIDE, int(rng.choice([1, 3]))), np.float32)
        page = page + grain * rng.choice([3, 8, 20], p=[0.6, 0.3, 0.1])
    pixels = page.clip(0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(15, 90))]
        compressed = cv2.imencode(".jpg", pixels, quality)[1]
        pixels = np.asarray(cv2.imdecode(compressed, cv2.IMREAD_COLOR), np.uint8)
    return pixels


def boxes_of(digits: list[Written]) -> tuple[Array, npt.NDArray[np.int64]]:
    """Return boxes (N, 4) and labels (N,) of the digits that the border leaves on the page."""
    boxes, labels = [], []
    for label, outline, shown in digits:
        low, high = outline.min(axis=0) - 0.5, outline.max(axis=0) + 0.5
        inside = np.concatenate([low.clip(0, SIDE), high.clip(0, SIDE)])
        width, height = inside[2:] - inside[:2]
        shown = shown * width * height / float(np.prod(high - low))
        if shown > 0.25 and min(width, height) >= 1:
            boxes.append(inside)
            labels.append(label if shown > 0.7 and max(width, height) > 8 else IGNORED)
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64)
