"""Pages that are drawn here: frames, lines, desks, several digits; how many are read."""

from collections.abc import Callable

import numpy as np
import pytest
from disguises import enlarged
from pages import PAGES, Digit
from PIL import Image, ImageDraw

from mnist_lit.assets import test_digits as embedded_test_digits
from mnist_lit.images import UnreadableImageError
from mnist_lit.page import layouts
from mnist_lit.reading import Reading, look, read
from mnist_lit.sureness import shipped

COUNT = 20  # pages of each kind
Pick = Callable[[int], list[Digit]]


@pytest.fixture(scope="module")
def pick() -> Pick:
    """Some of every twentieth test digit, on which nothing was fitted, and their labels."""
    images, labels = embedded_test_digits()
    digits = [
        (Image.fromarray(image.numpy()), int(label))
        for image, label in zip(images[::20, 0], labels[::20], strict=True)
    ]
    return lambda start: [digits[(start + i) % len(digits)] for i in range(6)]


def reading(image: Image.Image, single: bool = False) -> Reading:
    return next(read(shipped(), [look(image, single)]))


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_read(name: str, pick: Pick) -> None:
    random = np.random.default_rng(0)
    pages = [PAGES[name](pick(7 * i), random) for i in range(COUNT)]
    readings = read(shipped(), [look(page.image) for page in pages])
    numbers = [one.number for one in readings]
    right = sum(one == page.number for one, page in zip(numbers, pages, strict=True))
    print(f"{name}: {right} of {COUNT} right")  # pytest -s shows the table
    assert right >= BARS.get(name, 0.9) * COUNT


BARS = {"crossed out": 0.75, "hard shadow": 0.75, "several": 0.85, "two rows": 0.85}


def test_boxes_are_where_the_digits_are(pick: Pick) -> None:
    page = PAGES["two rows"](pick(0), np.random.default_rng(0))
    found = reading(page.image)
    assert [len(row) for row in found.rows] == [3, 3]
    for digit, box in zip(found.digits, page.boxes, strict=True):
        assert np.abs(np.subtract(digit.box, box)).max() <= 8


def test_single_insists_on_one(pick: Pick) -> None:
    page = PAGES["several"](pick(0), np.random.default_rng(0))
    assert len(reading(page.image).digits) > 1
    assert len(reading(page.image, single=True).digits) == 1


def test_a_five_with_its_roof_apart_is_one_digit() -> None:
    page = Image.new("RGB", (300, 300), "white")
    draw = ImageDraw.Draw(page)
    draw.line([(140, 70), (205, 66)], "black", 11)
    draw.line(
        [(122, 78), (118, 135), (150, 128), (182, 150), (180, 195), (150, 218), (112, 205)],
        "black",
        11,
        "curve",
    )
    assert reading(page).number == "5"


def test_the_strokes_of_a_wide_four_are_no_ruled_lines() -> None:
    page = Image.new("RGB", (140, 140), "white")
    draw = ImageDraw.Draw(page)
    for stroke in ([(26, 36), (16, 66), (109, 72)], [(106, 32), (100, 134)]):
        draw.line(stroke, "black", 9, "curve")
    assert {layout.name for layout in layouts(page)} == {"whole"}
    assert reading(page).number == "4"


def test_dotted_pencil_is_one_digit() -> None:
    page = Image.new("L", (300, 300), 255)
    ImageDraw.Draw(page).ellipse((100, 60, 200, 240), outline=0, width=14)
    dots = np.asarray(page).copy()
    dots[::12] = dots[1::12] = 255
    assert reading(Image.fromarray(dots).convert("RGB")).number == "0"


@pytest.mark.parametrize("paper", ["white", "black", "#888"])
def test_blank_pages_are_called_blank(paper: str) -> None:
    with pytest.raises(UnreadableImageError, match="blank"):
        layouts(Image.new("RGB", (300, 200), paper))


def test_a_digit_on_a_large_dark_desk_is_not_called_blank(pick: Pick) -> None:
    [(digit, label), *_] = pick(3)
    desk = Image.new("RGB", (500, 500), (45, 32, 24))
    desk.paste("white", (190, 200, 450, 460))
    desk.paste(enlarged(digit, 180), (230, 240))
    assert reading(desk).number == str(label)
