"""What both networks and the rules say of a page, put together."""

import numpy as np
import pytest
from PIL import Image

from mnist_lit import reading
from mnist_lit.assets import test_digits as embedded_test_digits
from mnist_lit.detector import Place
from mnist_lit.ink import digit_ink, prepare
from mnist_lit.reading import Digit, Reading, in_lines, look, read, see
from mnist_lit.sureness import shipped

SIDE = 84  # pixels of each of the digits below


def sevens(number: int) -> Image.Image:
    """A row of the first test digit, a 7, dark on white."""
    digit = Image.fromarray(255 - embedded_test_digits()[0][0, 0].numpy()).resize((SIDE, SIDE))
    row = Image.new("RGB", (number * SIDE, SIDE), "white")
    for i in range(number):
        row.paste(digit, (i * SIDE, 0))
    return row


def places(*opinions: tuple[int, float], score: float = 0.98) -> list[Place]:
    """A place in each of the row's digits, which the page network takes for that digit."""
    found = []
    for i, (digit, share) in enumerate(opinions):
        box = np.array([i * SIDE + 20, 15, i * SIDE + 66, 72], np.float32)
        logits = np.full(10, np.log((1 - share) / 9), np.float32)
        logits[digit] = np.log(share)
        found.append(Place(box, score, logits))
    return found


def reading_of(
    monkeypatch: pytest.MonkeyPatch, image: Image.Image, seen: list[Place], single: bool = False
) -> Reading:
    monkeypatch.setattr(reading, "find_places", lambda _: seen)
    return next(read(shipped(), [look(image, single)]))


def test_a_number_that_both_ways_read_is_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    doubtful = places((7, 0.99), (7, 0.99), (7, 0.99), score=0.4)
    agreed = reading_of(monkeypatch, sevens(3), doubtful)
    assert (agreed.number, agreed.uncertain) == ("777", False)


def test_a_number_that_is_read_in_two_ways_is_the_page_networks_and_uncertain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = places((7, 0.99), (7, 0.99), score=0.45)
    fewer = reading_of(monkeypatch, sevens(3), seen)
    assert (fewer.number, fewer.uncertain) == ("77", True)
    none = reading_of(monkeypatch, sevens(3), [])
    assert (none.number, none.uncertain) == ("777", True)
    unlikely = reading_of(monkeypatch, sevens(3), places((7, 0.6), (7, 0.6), score=0.4))
    assert (unlikely.number, unlikely.uncertain) == ("777", True)


def test_the_page_network_is_believed_where_it_is_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    result = reading_of(monkeypatch, sevens(3), places((7, 0.99), (7, 0.99)))
    assert (result.number, result.uncertain) == ("77", False)
    assert [digit.box[0] for digit in result.digits] == [20, SIDE + 20]


def test_the_opinions_of_both_networks_count(monkeypatch: pytest.MonkeyPatch) -> None:
    for share, number in ((0.5, "77"), (1 - 1e-9, "17")):  # the classifier is sure of a 7
        result = reading_of(monkeypatch, sevens(3), places((1, share), (7, 0.99)))
        assert result.number == number


def test_a_single_digit_gets_no_second_opinion() -> None:
    for image, single in ((sevens(1), False), (sevens(3), True)):
        page = look(image, single)
        assert not page.sight.found


def test_a_place_that_may_be_a_digit_makes_the_number_less_sure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sure = places((7, 0.99), (7, 0.99), (7, 0.99))
    monkeypatch.setattr(reading, "find_places", lambda _: sure)
    whole = see(np.asarray(sevens(3)))
    sure[2] = sure[2]._replace(score=0.28)
    doubtful = see(np.asarray(sevens(3)))
    assert (len(whole.found), len(doubtful.found)) == (3, 2)
    np.testing.assert_allclose(doubtful.opinions, (1 - 0.28) * whole.opinions[:2], rtol=1e-5)


def test_pixels_of_a_digit_are_those_of_the_digit_alone() -> None:
    alone = prepare(sevens(1))
    row = np.asarray(sevens(3))
    for place in places((7, 0.9), (7, 0.9), (7, 0.9)):
        pixels = digit_ink(row, place.box)
        assert pixels is not None
        assert np.abs(pixels - alone).mean() < 0.04


def test_what_touches_a_digit_is_cut_at_its_box_and_what_does_not_is_left_out() -> None:
    row = np.full((60, 120, 3), 255, np.uint8)
    row[10:50, 30:36] = 0  # a 1
    row[27:32, 36:110] = 0  # touches it
    row[10:20, 14:20] = 0  # does not
    pixels = digit_ink(row, np.array([26, 10, 40, 50], np.float32))
    assert pixels is not None
    columns = np.flatnonzero(pixels.max(axis=0) > 0.5)
    assert np.ptp(columns) < 8


def test_empty_paper_has_no_digit() -> None:
    paper = np.full((60, 60, 3), 200, np.uint8)
    assert digit_ink(paper, np.array([10, 10, 40, 50], np.float32)) is None
    assert digit_ink(paper, np.array([70, 10, 90, 50], np.float32)) is None


@pytest.mark.parametrize("slope", [-0.3, 0, 0.3])
def test_lines_are_read_from_top_to_bottom_even_if_they_rise(slope: float) -> None:
    def at(x: int, y: float, number: int) -> Digit:
        probabilities = [float(i == number) for i in range(10)]
        top = round(y + slope * x)
        return Digit(
            np.zeros((28, 28), np.float32), probabilities, (x, top, x + 10, top + 20), 1, False
        )

    digits = [at(20 * i, 40 * line, (3 * i + line) % 10) for i in range(6) for line in range(2)]
    order = np.random.default_rng(0).permutation(len(digits))
    rows = in_lines([digits[i] for i in order])
    assert ["".join(str(one.digit) for one in row) for row in rows] == ["036925", "147036"]
