"""Digits drawn by program in hands that MNIST's writers do not have, in print, and on displays.

MNIST's writers are Americans of about 1990: their 1 is a bare stick, their 7 has no bar. Here each
digit is a few strokes of a pen, in the forms of other schools: a 1 with serif and foot, a barred 7,
a curled 9, an open 4. Control points, slant, proportions and pen differ from image to image. Print
comes from the fonts that matplotlib brings along. All are placed as MNIST's authors placed theirs:
20 pixels along the longer side, the centre of mass in the middle of 28 x 28.
"""

import itertools
import math
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageFont
from torch import Generator, Tensor

SEED = 0  # of training: the same digits are drawn whatever the seed of a run
BOX, SIDE = 20, 28
SHARES = (0.65, 0.2, 0.15)  # of handwriting, print and displays
SAMPLES = 5  # straight pieces of a curve between two control points
CHUNK = 256  # images rendered at a time: 784 pixels by some 50 pieces each
FONTS = ("DejaVuSans*.ttf", "DejaVuSerif*.ttf", "STIXGeneral*.ttf", "cm[brt]*.ttf", "cmss10.ttf")

# Strokes on a grid of ten by ten: "49" is the point x 4, y 9, y downwards. "~" before a stroke
# makes it a curve through its points, "o" one that is closed; else it is straight between them.
HANDS: tuple[tuple[tuple[str, ...], ...], ...] = (
    (  # 0: round; begun and ended apart; crossing its own beginning; slashed
        ("o 50 11 04 18 59 88 94 81",),
        ("~ 41 12 05 18 59 88 94 71 50",),
        ("~ 73 50 11 04 18 59 88 94 81 40 20",),
        ("o 50 11 04 18 59 88 94 81", "81 18"),
    ),
    (  # 1: with a short, long or drooping serif; curved; as in print; with a foot
        ("33 50 59",),
        ("42 50 59",),
        ("23 60 69",),
        ("14 60 59",),
        ("07 60 58",),
        ("~ 05 33 60", "60 59"),
        ("~ 13 33 50", "50 59"),
        ("33 50 59", "29 89"),
        ("13 50 59", "09 99"),
        ("05 50 59", "19 89"),
    ),
    (  # 2: plain; with loop; angular like a Z; with a curl above; with a swung base
        ("~ 12 30 60 82 64 36 09", "09 99"),
        ("~ 12 30 60 82 64 37 09 07 27 58 98",),
        ("~ 12 30 60 82 55 28 07 16 38 69 98",),
        ("01 81 09 99",),
        ("~ 11 40 80 73", "73 09 99"),
        ("~ 23 12 30 70 83 56 09", "~ 09 38 69 98"),
        ("11 50 82 09 99",),
    ),
    (  # 3: round; flat top; angular; with a loop in the middle; lower bow much larger
        ("~ 11 40 71 72 54 34", "~ 34 65 87 69 39 08"),
        ("00 80 34", "~ 34 75 87 69 39 08"),
        ("10 90 44 86 59 08",),
        ("~ 11 50 81 63 44 34 54 86 78 49 08",),
        ("~ 01 40 60 42 23", "~ 23 64 96 79 39 08"),
        ("00 90", "90 44", "~ 44 75 87 59 19"),
    ),
    (  # 4: closed; open with upright, slanted and curved arms; crossed far out; rising bar
        ("60 06 96", "60 69"),
        ("60 06 86", "60 69"),
        ("20 05 95", "71 79"),
        ("10 14 84", "80 79"),
        ("30 06 96", "63 59"),
        ("~ 30 12 05 36 75 95", "72 59"),
        ("50 06 95", "73 69"),
        ("~ 20 13 34 73", "80 59"),
        ("40 15 85", "90 49"),
    ),
    (  # 5: roof joined; roof apart; like an S; angular; long roof; roof missed by the bow
        ("80 20 14", "~ 14 53 85 87 59 08"),
        ("20 14", "~ 14 53 85 87 59 08", "31 91"),
        ("~ 80 41 13 34 65 77 59 08",),
        ("90 20 14 84 89 09",),
        ("30 14", "~ 14 54 76 68 39 18", "40 90"),
        ("90 30 24", "~ 34 64 76 68 39 08"),
        ("~ 14 53 85 87 59 08", "13 21", "40 90"),
    ),
    (  # 6: bowed; a long straight stroke; curled above; small bowl; open bowl
        ("~ 71 30 13 06 28 59 87 75 45 17",),
        ("60 15", "o 15 55 77 59 18 07"),
        ("70 06", "o 06 45 77 49 18"),
        ("~ 82 60 31 14 07 39 78 76 45 16",),
        ("~ 40 12 06 19 59 78 66 36 18",),
        ("~ 50 22 05 18 49 88 85 55",),
        ("~ 90 42 05 18 59 77 55 26",),
    ),
    (  # 7: plain; serif; barred; both; curved stem; wavy roof
        ("00 90 39",),
        ("02 00 90 39",),
        ("00 90 39", "35 85"),
        ("02 00 90 49", "25 95"),
        ("10 90", "~ 90 63 55 49", "26 96"),
        ("~ 02 11 41 71 90", "90 39"),
        ("~ 02 11 41 71 90", "90 49", "24 94"),
        ("~ 00 50 90 63 56 49",),
        ("00 90 39", "14 84"),
    ),
    (  # 8: one line, either way; two rings; open above; narrow; with a small head
        ("~ 71 40 12 34 65 87 59 27 25 54 82 71",),
        ("o 50 21 33 55 87 59 27 45 73 81",),
        ("o 40 22 44 72 70", "o 54 26 28 59 88 86"),
        ("~ 81 50 22 34 65 87 59 27 35 63 90",),
        ("~ 80 40 12 34 66 58 38 26 44 82",),
        ("o 50 31 53 72", "o 53 16 28 59 88 86"),
    ),
    (  # 9: straight tail; long straight stroke; curled tail; hooked; open; a ring beside a stick
        ("~ 82 50 21 13 34 64 82", "82 79"),
        ("o 50 20 13 34 74 81", "81 49"),
        ("~ 82 50 21 13 34 64 82 86 68 39 18",),
        ("o 50 21 13 44 73 81", "~ 81 86 78 49 27"),
        ("~ 70 30 12 24 64 82 80", "80 79"),
        ("10 13 84", "80 79", "10 80"),
        ("~ 80 30 13 44 73 90", "~ 90 85 68 39 09"),
        ("o 40 11 13 44 73 61", "73 69"),
    ),
)

# A display's segments, and those that each digit lights; some displays light others.
SEGMENTS = {
    "a": "00 50",
    "b": "50 54",
    "c": "55 59",
    "d": "09 59",
    "e": "05 09",
    "f": "00 04",
    "g": "04 54",
}
LIT: tuple[tuple[str, ...], ...] = (
    ("abcdef",),
    ("bc",),
    ("abged",),
    ("abgcd",),
    ("fgbc",),
    ("afgcd",),
    ("afgedc", "fgedc"),
    ("abc", "fabc"),
    ("abcdefg",),
    ("abcdfg", "abcfg"),
)


def drawn_digits(number: int, seed: int = SEED) -> tuple[Tensor, Tensor]:
    """`number` images (N, 1, 28, 28) uint8 and their labels (N,) int64, as many of each digit.

    The order is that of kinds and forms; whoever trains with them shuffles.
    """
    generator = torch.Generator().manual_seed(seed)
    written, shown = (round(number * share) for share in (SHARES[0], SHARES[2]))
    displays = tuple(tuple(tuple(SEGMENTS[name] for name in lit) for lit in forms) for forms in LIT)
    parts = [
        _kind(HANDS, written, generator, display=False),
        _kind(displays, shown, generator, display=True),
        _print(number - written - shown, generator),
    ]
    images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return (images * 255).round().byte(), labels


def _kind(
    forms: tuple[tuple[tuple[str, ...], ...], ...],
    number: int,
    generator: Generator,
    display: bool,
) -> tuple[Tensor, Tensor]:
    """Images in [0, 1] and labels: digits in turn, and the forms of each digit in turn."""
    images, labels = [torch.empty(0, 1, SIDE, SIDE)], []
    for digit, of_digit in enumerate(forms):
        for place, strokes in enumerate(of_digit):
            count = len(range(digit + 10 * place, number, 10 * len(of_digit)))
            images.append(write(strokes, count, generator, display))
            labels += [digit] * count
    return torch.cat(images), torch.tensor(labels, dtype=torch.int64)


def write(
    strokes: tuple[str, ...], number: int, generator: Generator, display: bool = False
) -> Tensor:
    """One form of a digit, written `number` times -> (number, 1, 28, 28) in [0, 1].

    A display is upright or leans to the right, has no wobble, and gaps between its segments.
    """

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(number, 1, generator=generator)

    points, matrix, starts = skeleton(strokes)
    wobble = torch.randn(number, *points.shape, generator=generator)
    slant = uniform(0, 12) if display else uniform(-12, 30)
    width = uniform(math.log(0.7), math.log(1.3)) if display else uniform(math.log(0.55), 0.1)
    turn = (0 if display else 8) * uniform(-1, 1) * (math.pi / 180)
    pen = uniform(1.6, 5)
    lines = matrix @ (points if display else points + 0.45 * wobble)  # (number, T, 2)
    x, y = lines.expand(number, -1, -1).unbind(dim=2)
    x = x * width.exp() - y * (slant * (math.pi / 180)).tan()
    x, y = x * turn.cos() - y * turn.sin(), x * turn.sin() + y * turn.cos()
    lines = torch.stack([x, y], dim=2)
    low, high = lines.amin(dim=1, keepdim=True), lines.amax(dim=1, keepdim=True)
    size = (high - low).amax(dim=2, keepdim=True)
    lines = (lines - (low + high) / 2) * ((BOX - pen.unsqueeze(2)) / size) + SIDE / 2
    begin, end = lines[:, starts], lines[:, starts + 1]
    if display:
        gap = 0.5 * pen.unsqueeze(2) * (end - begin)
        gap = gap / (end - begin).norm(dim=2, keepdim=True)
        begin, end = begin + gap, end - gap
    chunks = zip(*(tensor.split(CHUNK) for tensor in (begin, end, pen)), strict=True)
    return centre(torch.cat([ink(*chunk) for chunk in chunks]))


@cache
def skeleton(strokes: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Strokes -> control points (P, 2), a matrix (T, P) that samples lines from them, and starts.

    A line goes from each sample in `starts` to the next. Strokes share the points that they name
    alike, so that what touches goes on touching when points move.
    """
    named = [stroke.lstrip("~o ").split() for stroke in strokes]
    names = list(dict.fromkeys(itertools.chain(*named)))
    identity = torch.eye(len(names))
    samples: list[Tensor] = []
    starts: list[int] = []
    for stroke, own in zip(strokes, named, strict=True):
        sampled = identity[[names.index(name) for name in own]]
        if stroke[0] in "~o":
            sampled = curve(sampled, closed=stroke[0] == "o")
        first = sum(map(len, samples))
        starts += range(first, first + len(sampled) - 1)
        samples.append(sampled)
    points = torch.tensor([[float(name[0]), float(name[1])] for name in names])
    return points, torch.cat(samples), torch.tensor(starts)


def curve(points: Tensor, closed: bool) -> Tensor:
    """(P, D) -> (T, D) on the Catmull-Rom spline through the points; a closed one comes round."""
    if closed:
        points = torch.cat([points[-1:], points, points[:2]])
    else:
        points = torch.cat([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    before, start, end, after = (points[i : len(points) - 3 + i].unsqueeze(1) for i in range(4))
    t = (torch.arange(SAMPLES) / SAMPLES).view(1, -1, 1)
    sampled = start + 0.5 * t * (
        end
        - before
        + t * (2 * before - 5 * start + 4 * end - after)
        + t * t * (3 * (start - end) + after - before)
    )
    return torch.cat([sampled.flatten(0, 1), end[-1]])


def ink(begin: Tensor, end: Tensor, pen: Tensor) -> Tensor:
    """Lines (B, S, 2) in pixels, drawn by round pens (B, 1) wide -> (B, 1, 28, 28) in [0, 1]."""
    places = torch.arange(SIDE) + 0.5
    along = end - begin
    length = along.square().sum(dim=2).clamp(min=1e-6)  # (B, S), squared
    # Of every pixel and line: how far along the line the pixel's nearest point is. (B, S, 28, 28)
    x = places.view(1, 1, 1, -1) - begin[..., 0, None, None]
    y = places.view(1, 1, -1, 1) - begin[..., 1, None, None]
    dx, dy = along[..., 0, None, None], along[..., 1, None, None]
    t = ((x * dx + y * dy) / length[..., None, None]).clamp_(0, 1)
    distance = ((x - t * dx).square() + (y - t * dy).square()).amin(dim=1, keepdim=True).sqrt()
    return ((pen / 2)[..., None, None] + 0.5 - distance).clamp(0, 1)


def centre(images: Tensor) -> Tensor:
    """(B, 1, 28, 28), digits in the middle 20 x 20 -> moved until their mass is in the middle."""
    mass = images.sum(dim=(1, 2, 3)).clamp(min=1e-6)
    places = torch.arange(SIDE) + 0.5
    room = (SIDE - BOX) // 2
    down, right = (
        (SIDE / 2 - (images.sum(dim=(1, other)) * places).sum(dim=1) / mass)
        .round()
        .clamp(-room, room)
        .int()
        .tolist()
        for other in (3, 2)
    )
    moved = [image.roll(by, dims=(1, 2)) for image, *by in zip(images, down, right, strict=True)]
    return torch.stack(moved) if moved else images


def _print(number: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Images in [0, 1] and labels: digits in turn, from one font after the other."""
    faces = fonts()
    stretches = torch.empty(number).uniform_(-0.3, 0.3, generator=generator).exp().tolist()
    images = torch.zeros(number, 1, SIDE, SIDE)
    for i, stretch in enumerate(stretches):
        glyph = printed(str(i % 10), faces[i // 10 % len(faces)], stretch)
        top, left = ((SIDE - side) // 2 for side in glyph.shape)
        images[i, 0, top : top + glyph.shape[0], left : left + glyph.shape[1]] = glyph
    return centre(images), torch.arange(number) % 10


def fonts() -> list[ImageFont.FreeTypeFont]:
    """The text fonts among those of matplotlib, large enough to be scaled down."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = sorted({file for pattern in FONTS for file in folder.glob(pattern)})
    return [ImageFont.truetype(str(file), 96) for file in files if "Display" not in file.name]


def printed(character: str, font: ImageFont.FreeTypeFont, stretch: float) -> Tensor:
    """A character in print, `stretch` times as wide -> (H, W) in [0, 1], the longer side BOX.

    (0, 0) if the font draws nothing for it.
    """
    mask = font.getmask(character)
    glyph = Image.frombytes("L", mask.size, bytes(mask)) if all(mask.size) else None
    if glyph is None or glyph.getbbox() is None:
        return torch.zeros(0, 0)
    glyph = glyph.crop(glyph.getbbox())
    width, height = glyph.width * stretch, float(glyph.height)
    scale = BOX / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    pixels = np.asarray(glyph.resize(size, Image.Resampling.BOX), dtype=np.float32)
    return torch.from_numpy(pixels / 255)
