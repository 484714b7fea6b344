"""The characters of synthetic pages."""

import numpy as np
import pytest

from mnist_lit.synthetic import STROKES, Characters, load_fonts, load_pens, sign, stroked


@pytest.fixture(scope="module")
def characters() -> Characters:
    return Characters()


@pytest.mark.parametrize("source", ["pen", "mnist", "font", "print", "display"])
@pytest.mark.parametrize("height", [14, 40, 150])
def test_digits_of_every_source_have_the_height_that_was_asked_for(
    source: str, height: int, characters: Characters
) -> None:
    rng = np.random.default_rng(1)
    for digit in range(10):
        style = characters.style(rng, height)._replace(
            source=source, font=characters.print_fonts[0], slant=0.0, width=0.1 * height, tidy=True
        )
        mask = characters.digit(rng, digit, height, style)
        assert mask.dtype == np.uint8
        assert 0.75 * height - 2 <= mask.shape[0] <= 1.25 * height + 2
        assert mask.max() > 200


def test_enlarged_digits_have_no_grey_around_them(characters: Characters) -> None:
    rng = np.random.default_rng(2)
    for height in range(30, 60, 2):  # twice as large as MNIST's
        style = characters.style(rng, height)._replace(source="mnist")
        mask = characters.digit(rng, 3, height, style)
        assert ((mask > 0) & (mask < 60)).mean() < 0.3


def test_held_out_writers_and_fonts_are_not_trained_with() -> None:
    trained, held_out = load_pens(held_out=False), load_pens(held_out=True)
    assert sum(map(len, trained)) + sum(map(len, held_out)) == 7_494
    strokes = {lines[0].tobytes() for digits in trained for lines in digits}
    shared = sum(lines[0].tobytes() in strokes for digits in held_out for lines in digits)
    assert shared <= 2  # strokes of two points may agree by chance
    for kind in (0, 1):
        assert len(load_fonts(held_out=True)[kind]) < len(load_fonts(held_out=False)[kind])


@pytest.mark.parametrize("name", [*STROKES, "scribble", "curve", "circle"])
def test_signs_leave_ink(name: str, characters: Characters) -> None:
    rng = np.random.default_rng(3)
    assert stroked(rng, sign(rng, name), 40, characters.style(rng, 40)).max() > 200
