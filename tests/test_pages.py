"""The pages that train the page network."""

import numpy as np
import pytest

from mnist_lit import pages
from mnist_lit.pages import IGNORED, SIDE, Page, Sheet, Written, boxes_of, draw_page
from mnist_lit.synthetic import Characters


@pytest.fixture(scope="module")
def characters() -> Characters:
    return Characters()


@pytest.fixture(scope="module")
def drawn(characters: Characters) -> list[Page]:
    return [draw_page(characters, seed) for seed in range(150)]


def test_a_seed_gives_the_same_page_again(characters: Characters, drawn: list[Page]) -> None:
    for seed in (0, 7, 20):
        again = draw_page(characters, seed)
        np.testing.assert_array_equal(again.pixels, drawn[seed].pixels)
        np.testing.assert_array_equal(again.boxes, drawn[seed].boxes)
    assert not np.array_equal(drawn[0].pixels, drawn[1].pixels)


def test_boxes_lie_on_the_page_and_labels_are_digits(drawn: list[Page]) -> None:
    for page in drawn:
        assert page.pixels.shape == (SIDE, SIDE, 3)
        assert page.pixels.dtype == np.uint8
        assert page.boxes.shape == (len(page.labels), 4)
        assert (page.boxes[:, :2] < page.boxes[:, 2:]).all()
        assert page.boxes.min(initial=0) >= 0
        assert page.boxes.max(initial=0) <= SIDE
    labels = np.concatenate([page.labels for page in drawn])
    assert set(labels.tolist()) == {IGNORED, *range(10)}


def test_pages_differ_in_kind(drawn: list[Page]) -> None:
    numbers = [len(page.labels) for page in drawn]
    assert 0.1 < np.mean(np.equal(numbers, 0)) < 0.35  # hold no digit
    assert 0.15 < np.mean(np.equal(numbers, 1)) < 0.5
    assert max(numbers) > 12
    heights = np.concatenate([page.boxes[:, 3] - page.boxes[:, 1] for page in drawn])
    assert heights.min() < 15
    assert heights.max() > 120


def test_a_box_holds_the_ink_of_its_digit(characters: Characters) -> None:
    sheet = Sheet(np.random.default_rng(1), characters)
    mask = characters.digit(sheet.rng, 5, 60, characters.style(sheet.rng, 60))
    sheet.stamp(mask, 40, 70, 5)
    boxes, labels = boxes_of(sheet.digits)
    rows, columns = np.nonzero(sheet.ink > 90)
    assert labels.tolist() == [5]
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(boxes[0], expected, atol=0.01)


@pytest.mark.parametrize(("shown", "label"), [(0.9, 3), (0.5, IGNORED), (0.2, None)])
def test_a_digit_that_the_border_cuts_counts_by_what_is_left(
    shown: float, label: int | None
) -> None:
    outline = np.array([[SIDE - 40 * shown, 50], [SIDE + 40 * (1 - shown), 90]], np.float32)
    _, labels = boxes_of([Written(3, outline, 1.0)])
    assert labels.tolist() == ([] if label is None else [label])


def test_touching_digits_touch(characters: Characters) -> None:
    sheet = Sheet(np.random.default_rng(4), characters)
    style = characters.style(sheet.rng, 50)._replace(source="pen", width=5.0, tidy=True)
    sheet.row("11", 20, 50, 50, 0.1, style, touching=True)
    columns = np.flatnonzero((sheet.ink > 90).any(axis=0))
    assert (np.diff(columns) == 1).all()  # no column without ink between them
    apart = Sheet(np.random.default_rng(4), characters)
    apart.row("11", 20, 50, 50, 0.1, style)
    assert (np.diff(np.flatnonzero((apart.ink > 90).any(axis=0))) > 1).any()


def test_every_layout_is_drawn_and_all_shares_sum_to_one() -> None:
    assert len(pages.LAYOUTS) == len(pages.SHARES)
    assert sum(pages.SHARES) == pytest.approx(1)
