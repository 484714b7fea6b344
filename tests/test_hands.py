"""Drawn digits: every form is a digit of its own, repeatable, and placed as MNIST's are."""

import pytest
import torch
from torch import Tensor

from mnist_lit import load_pretrained
from mnist_lit.hands import (
    BOX,
    HANDS,
    LIT,
    SEGMENTS,
    curve,
    drawn_digits,
    fonts,
    ink,
    printed,
    skeleton,
    write,
)

FORMS = [(digit, strokes) for digit, forms in enumerate(HANDS) for strokes in forms]


@pytest.fixture(scope="module")
def drawn() -> tuple[Tensor, Tensor]:
    return drawn_digits(1000)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_as_many_as_asked_and_as_many_of_each_digit(drawn: tuple[Tensor, Tensor]) -> None:
    images, labels = drawn
    assert images.shape == (1000, 1, 28, 28)
    assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
    assert torch.bincount(labels).tolist() == [100] * 10
    for number in (0, 1, 7):
        assert len(drawn_digits(number)[0]) == len(drawn_digits(number)[1]) == number


def test_the_same_digits_whatever_the_seed_of_a_run(drawn: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = drawn_digits(1000)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(again[0], drawn[0])
    assert torch.equal(again[1], drawn[1])


def test_no_two_are_alike(drawn: tuple[Tensor, Tensor]) -> None:
    assert len(drawn[0].flatten(1).unique(dim=0)) == 1000


def test_placed_as_mnists_are(drawn: tuple[Tensor, Tensor]) -> None:
    images = drawn[0].float() / 255
    places = torch.arange(28.0) + 0.5
    for other in (2, 3):
        profile = images.sum(dim=(1, other))
        mass = (profile * places).sum(dim=1) / profile.sum(dim=1)
        assert (mass - 14).abs().quantile(0.95) <= 0.6  # some would leave the image and stay
    dark = images[:, 0] > 0.1
    spans = torch.stack([dark.any(dim=axis).sum(dim=1) for axis in (1, 2)]).amax(dim=0)
    assert spans.float().mean().item() == pytest.approx(BOX, abs=0.5)
    assert spans.max() <= BOX + 2
    assert 0.05 < images.mean() < 0.25  # MNIST: 0.13


@pytest.mark.parametrize(("digit", "strokes"), FORMS)
def test_every_form_is_on_the_grid_and_gives_ink(digit: int, strokes: tuple[str, ...]) -> None:
    points, matrix, starts = skeleton(strokes)
    assert ((points >= 0) & (points <= 9)).all()
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(len(matrix)))
    assert starts.max() + 1 < len(matrix)
    images = write(strokes, 4, generator())
    assert (images.amax(dim=(1, 2, 3)) == 1).all(), digit
    assert len(images.flatten(1).unique(dim=0)) == 4


def test_no_form_is_drawn_for_two_digits() -> None:
    assert len({strokes for _, strokes in FORMS}) == len(FORMS)
    assert len({frozenset(lit) for forms in LIT for lit in forms}) == sum(map(len, LIT))
    assert {name for forms in LIT for lit in forms for name in lit} == set(SEGMENTS)


def test_strokes_share_the_points_that_they_name_alike() -> None:
    points, matrix, _ = skeleton(("50 59", "59 99"))
    assert len(points) == 3
    assert torch.equal(matrix[1], matrix[2])  # the end of the one, the beginning of the other


def test_a_curve_goes_through_its_points_and_a_closed_one_returns() -> None:
    points = torch.tensor([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])
    for closed in (False, True):
        line = curve(points, closed)
        assert all((line - point).norm(dim=1).min() < 1e-6 for point in points)
        assert bool((line[0] - line[-1]).norm() < 1e-6) == closed


def test_ink_is_as_wide_as_the_pen() -> None:
    begin, end = torch.tensor([[[4.0, 14.0]]] * 2), torch.tensor([[[24.0, 14.0]]] * 2)
    images = ink(begin, end, torch.tensor([[2.0], [4.0]]))
    assert images[:, 0, :, 14].sum(dim=1).tolist() == pytest.approx([2, 4], abs=0.01)


def test_printed_digits_fill_the_box_and_stretch() -> None:
    faces = fonts()
    assert len(faces) > 15
    for face in faces:
        for digit in range(10):
            glyph = printed(str(digit), face, 1.0)
            assert max(glyph.shape) == BOX
            assert glyph.max() == 1
        assert printed("8", face, 0.5).shape[1] < printed("8", face, 1.0).shape[1]


Forms = tuple[tuple[tuple[str, ...], ...], ...]  # of each digit, as in HANDS


def read_otherwise(forms: Forms, display: bool) -> list[tuple[int, tuple[str, ...]]]:
    """The forms of which the shipped network reads more than a fifth as another digit."""
    network, found = load_pretrained(), []
    for digit, of_digit in enumerate(forms):
        for strokes in of_digit:
            with torch.inference_mode():
                predicted = network(write(strokes, 20, generator(), display)).argmax(dim=1)
            if (predicted == digit).float().mean() < 0.8:
                found.append((digit, strokes))
    return found


def test_every_form_is_read_as_its_digit() -> None:
    displays = tuple(tuple(tuple(SEGMENTS[name] for name in lit) for lit in forms) for forms in LIT)
    assert read_otherwise(HANDS, display=False) == []
    assert read_otherwise(displays, display=True) == []


def test_a_form_under_another_digit_is_found() -> None:
    seven = HANDS[7][0]
    assert read_otherwise(((), (*HANDS[1][:2], seven)), display=False) == [(1, seven)]


def test_every_font_is_read_as_its_digits(drawn: tuple[Tensor, Tensor]) -> None:
    """The 200 in print are the last: ten digits from each font in turn."""
    images, labels = (each[-200:] for each in drawn)
    with torch.inference_mode():
        right = load_pretrained()(images.float() / 255).argmax(dim=1) == labels
    assert right.view(-1, 10).sum(dim=1).min() >= 8
