"""The page as one file: drawn on with mouse, fingers and keys, at the sizes of people's screens."""

import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import TOO_LARGE, chromium, draw, draw_all, opened, read, spot
from drawings import DIGITS, VARIANTS, drawings
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from mnist_lit import load_pretrained
from mnist_lit.bundle import bundle
from mnist_lit.demo import MAX_BYTES
from mnist_lit.reading import look
from mnist_lit.reading import read as read_pages
from mnist_lit.sureness import shipped

SEVEN = ((-0.2, -0.3), (0.2, -0.3), (-0.05, 0.35))
ONE = ((0.0, -0.3), (0.0, 0.3))
SCREENS = {
    "desk": (1280, 800),
    "three narrow columns": (1100, 800),
    "desk at 200 %": (640, 400),
    "phone": (390, 844),
    "phone, lying": (844, 390),
    "narrow": (320, 568),
}
SEEN = """() => [...document.querySelectorAll("#seen canvas")].map(canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, 28, 28)
  return Array.from({ length: 784 }, (_, i) => data[4 * i])
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    file: Path = tmp_path_factory.mktemp("page") / "digits.html"
    file.write_text(bundle(load_pretrained()), "utf-8")
    return file.as_uri()


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    with opened(browser, url) as page:
        yield page


def number(page: Page) -> Any:
    return page.locator("#number")


def expect_number(page: Page, text: str) -> None:
    """With or without its question mark: a straight stroke is not surely a 1."""
    expect(number(page)).to_have_text(re.compile(rf"^{text}\??$"))


def seen(page: Page) -> list[list[int]]:
    """The 28 x 28 pixels of each digit, as the page shows them."""
    pixels: list[list[int]] = page.evaluate(SEEN)
    return pixels


def test_a_drawing_is_read_undone_redone_erased_and_cleared(page: Page) -> None:
    assert "17,506 parameters" in page.inner_text("header")
    draw(page, *ONE)
    expect_number(page, "1")
    ink = np.array(seen(page)[0]).reshape(28, 28) > 128
    assert np.ptp(np.flatnonzero(ink.any(axis=1))) + 1 == 20
    assert np.ptp(np.flatnonzero(ink.any(axis=0))) + 1 <= 5
    draw(page, (-0.25, -0.3), (0.0, -0.3))
    expect_number(page, "7")
    page.keyboard.press("Control+z")
    expect_number(page, "1")
    page.keyboard.press("Control+Shift+Z")
    expect_number(page, "7")
    page.click("#undo")
    expect_number(page, "1")
    page.click("#redo")
    expect_number(page, "7")
    page.click("#eraser")
    draw(page, (-0.3, -0.3), (-0.06, -0.3))
    expect_number(page, "1")
    page.click("#eraser")
    page.keyboard.press("Escape")
    expect(number(page)).to_have_text("")
    expect(page.locator("#hint")).to_be_visible()
    page.keyboard.press("Control+z")
    expect_number(page, "1")


def test_several_digits_are_a_number(page: Page) -> None:
    for digit, left in (("7", -0.45), ("1", 0.0), ("7", 0.45)):
        draw(page, *((x * 0.7 + left, y) for x, y in (SEVEN if digit == "7" else ONE)))
    expect_number(page, "717")
    assert len(seen(page)) == 3
    page.locator("#seen button").first.click()
    expect(page.locator("#bars .best")).to_have_text(re.compile("^7"))
    page.locator("#seen button").nth(1).click()
    expect(page.locator("#bars .best")).to_have_text(re.compile("^1"))
    page.keyboard.press("Escape")
    for x, y in ((-0.3, -0.25), (0.3, -0.25), (-0.3, 0.25)):
        draw(page, *((0.5 * u + x, 0.5 * v + y) for u, v in SEVEN), steps=3)
    expect_number(page, "77 7")


def test_only_the_main_button_draws_and_a_tap_is_a_dot(page: Page) -> None:
    for button in ("middle", "right"):
        draw(page, *ONE, button=button)
    expect(page.locator("#hint")).to_be_visible()
    draw(page, (0.1, 0.1))
    expect(page.locator("#hint")).to_be_hidden()
    expect(page.locator("#verdict .chip")).to_have_text("not sure")
    assert number(page).inner_text().endswith("?")


def test_a_second_finger_draws_nothing(browser: Browser, url: str) -> None:
    with opened(browser, url, (390, 844), has_touch=True, is_mobile=True) as page:
        pad = page.locator("#pad")
        touch = page.context.new_cdp_session(page)

        def fingers(kind: str, *points: tuple[float, float]) -> None:
            spots = [dict(zip("xy", spot(pad, p), strict=True), id=i) for i, p in enumerate(points)]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": spots})

        palm = (0.5, 0.4)
        fingers("touchStart", (0, -0.3))
        fingers("touchStart", (0, -0.3), palm)
        for i in range(1, 11):
            fingers("touchMove", (0, -0.3 + 0.06 * i), (palm[0] + 0.01 * i, palm[1]))
        fingers("touchEnd")
        expect_number(page, "1")
        assert len(seen(page)) == 1
        assert not page.evaluate("document.querySelector('#inside').open")


def test_it_can_be_used_by_keyboard_alone(page: Page) -> None:
    reached = []
    for _ in range(9):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.type"))
    assert reached[:5] == ["pad", "eraser", "range", "sample", "file"]  # what is of use by now
    page.focus("#pad")
    for keys in ("ArrowLeft " * 6, "Space", "ArrowRight " * 12, "Shift+ArrowDown " * 7, "Space"):
        for key in keys.split():
            page.keyboard.press(key)
    expect_number(page, "7")
    page.keyboard.press("Control+z")
    expect(number(page)).to_have_text("")
    page.focus("#sample")
    page.keyboard.press("Enter")
    expect_number(page, "[0-9]")
    page.locator("#bars button").nth(3).focus()
    page.keyboard.press("Space")
    expect_number(page, "3")
    expect(page.locator("#kept")).to_contain_text("1 correction in this browser")


@pytest.mark.parametrize("screen", SCREENS)
def test_drawing_and_answer_fit_one_screen(browser: Browser, url: str, screen: str) -> None:
    width, height = SCREENS[screen]
    with opened(browser, url, (width, height)) as page:
        for left in (-0.4, 0, 0.4):
            draw(page, *((x * 0.7 + left, y) for x, y in SEVEN), steps=2)
        expect_number(page, "777")
        names = ["#pad", "#undo", "#clear", "#sample", "#photo", "#number", "#verdict", "#seen"]
        for name in (*names, "#bars"):
            box = page.locator(name).bounding_box()
            assert box, name
            assert box["x"] >= 0, name
            assert box["x"] + box["width"] <= width, name
            assert box["y"] + box["height"] <= height, name
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for button in page.locator(".tools > *:visible").all():  # wide enough for their words
            assert button.evaluate("button => button.scrollWidth <= button.clientWidth + 1")


@pytest.mark.parametrize(("screen", "scheme"), [("desk", "light"), ("phone", "dark")])
def test_axe_finds_nothing(browser: Browser, url: str, screen: str, scheme: Any) -> None:
    with opened(browser, url, SCREENS[screen], color_scheme=scheme, bypass_csp=True) as page:
        for _ in range(2):
            found = Axe().run(page).response["violations"]
            assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found] == []
            if screen == "phone":
                page.click("#inside summary")
            for x in (-0.3, 0.3):
                draw(page, (x - 0.1, -0.3), (x + 0.1, 0.2), (x, 0.3), (x + 0.2, -0.2), steps=2)
            page.locator("#bars button").nth(5).click()
            expect(page.locator("#kept")).to_be_visible()


def test_a_screen_reader_is_told_the_settled_answer_once(page: Page) -> None:
    page.evaluate("""() => {
      window.told = []
      const status = document.querySelector("#status")
      new MutationObserver(() => told.push(status.textContent)).observe(status, { childList: true })
    }""")
    draw(page, *SEVEN, steps=20)
    page.wait_for_timeout(2500)
    assert page.evaluate("told") == ["Read: 7"]


def test_corrections_are_kept_and_predict_reads_them_as_they_were_seen(page: Page) -> None:
    chosen = [styles[0] for styles in DIGITS.values()]
    expected = []
    for strokes in chosen:
        page.keyboard.press("Escape")
        draw_all(page, [[(0.6 * x - 0.2, 0.6 * y - 0.3) for x, y in stroke] for stroke in strokes])
        expected.append(answer(page))
        page.locator("#bars button").nth(4).click()
        expect(page.locator("#correct")).to_contain_text("Kept as a 4")
    page.click("#sample")
    sample_number, sample = answer(page)
    page.locator("#bars button").nth(8).click()
    expect(page.locator("#correct")).to_contain_text("Kept as an 8")
    page.reload()
    expect(page.locator("#kept")).to_contain_text("11 corrections in this browser")
    with page.expect_download() as download:
        page.click("#download")
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        images = [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in names]
    assert [name.split("/")[0] for name in names] == ["4"] * 10 + ["8"]
    assert all(name.endswith(".png") for name in names)
    readings = list(read_pages(shipped(), [look(image) for image in images]))
    same = 0
    for reading, (digit, pixels) in zip(readings, expected, strict=False):
        assert reading.number == digit
        same += difference(reading.least.pixels, pixels) < 0.002
    assert same >= 8  # a side of 11.5 pixels may become 11 or 12
    drawn = Image.fromarray(255 - np.array(sample, np.uint8).reshape(28, 28))
    larger = drawn.resize((112, 112), Image.Resampling.NEAREST).convert("RGB")
    assert np.array_equal(np.array(images[-1]), np.array(larger))
    assert readings[-1].number == sample_number
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("#forget")
    expect(page.locator("#kept")).to_be_hidden()
    page.reload()
    expect(page.locator("#kept")).to_be_hidden()


def answer(page: Page) -> tuple[str, list[int]]:
    """The number and the pixels of a digit that has just been drawn, as soon as they are shown."""
    expect(page.locator("#correct")).to_contain_text("Wrong?")
    return number(page).inner_text().rstrip("?"), seen(page)[0]


def difference(prepared: Any, shown: list[int]) -> float:
    """The mean, when the images lie best: a centre of mass between two pixels may go to either."""
    image = np.array(shown).reshape(28, 28) / 255
    moved = [np.roll(image, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return min(float(np.abs(prepared - one).mean()) for one in moved)


def test_a_correction_is_changed_and_taken_back(page: Page) -> None:
    draw(page, *SEVEN)
    for digit in (1, 2):
        page.locator("#bars button").nth(digit).click()
        expect_number(page, str(digit))
        expect(page.locator("#kept")).to_contain_text("1 correction in")
    page.locator("#bars button").nth(2).click()
    expect_number(page, "7")
    expect(page.locator("#kept")).to_be_hidden()


def test_a_photo_is_read_without_a_server(page: Page) -> None:
    photo = io.BytesIO()
    paper: Any = np.full((300, 420, 3), (225, 220, 205), np.uint8)
    for left in (60, 240):
        for i in range(100):
            paper[60:72, left + i] = paper[60 + 2 * i : 72 + 2 * i, left + 100 - i // 2] = 50
    Image.fromarray(paper).save(photo, "JPEG")
    page.set_input_files("#file", {"name": "a.jpg", "mimeType": "", "buffer": photo.getvalue()})
    expect_number(page, "77")
    page.keyboard.press("Control+z")
    expect(page.locator("#hint")).to_be_visible()


def test_a_refused_file_is_shown_with_its_message(page: Page) -> None:
    verdict = page.locator("#verdict")
    page.set_input_files("#file", {"name": "no.png", "mimeType": "", "buffer": b"no image"})
    expect(verdict).to_have_text(re.compile("^no.png is no picture"))
    blank = io.BytesIO()
    Image.new("RGB", (90, 90), "white").save(blank, "PNG")
    page.set_input_files("#file", {"name": "a.png", "mimeType": "", "buffer": blank.getvalue()})
    expect(verdict).to_have_text(re.compile("^blank"))
    page.evaluate(TOO_LARGE, MAX_BYTES + 1)
    expect(verdict).to_have_text(re.compile("^b.png has more than 20 MB"))
    draw(page, *SEVEN)  # goes on after it
    expect_number(page, "7")


def test_what_the_network_does_is_shown(browser: Browser, url: str) -> None:
    with opened(browser, url, SCREENS["desk"]) as page:
        draw(page, *SEVEN)
        captions = page.locator("#maps figcaption")
        expect(captions).to_have_text(
            [re.compile(rf": {channels} of") for channels in (18, 32, 18, 32, 18, 32, 10)]
        )
        lit = """canvas => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
          return new Set(data).size > 9
        }"""
        for canvas in page.locator("#inside canvas").all():
            assert canvas.evaluate(lit)
        coloured = """canvas => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
          return data.some((value, i) => i % 4 === 0 && value !== data[i + 2])
        }"""
        overlay = page.locator("#saliency canvas")
        assert overlay.evaluate(coloured)
        page.uncheck("#overlay")
        assert not overlay.evaluate(coloured)


def test_bars_survive_forced_colours(page: Page) -> None:
    page.emulate_media(forced_colors="active")
    draw(page, *SEVEN)
    expect_number(page, "7")
    color = "bar => getComputedStyle(bar).backgroundColor"
    bars = page.locator("#bars b")
    best, other, ground = bars.nth(7), bars.nth(3), page.locator("#answer")
    assert len({bar.evaluate(color) for bar in (best, other, ground)}) == 3
    assert best.bounding_box()["width"] > 50  # type: ignore[index]


def test_each_sample_is_read(page: Page) -> None:
    for digit in range(10):
        assert page.evaluate(f"SAMPLES.some(sample => sample.digit === {digit})")
    for _ in range(page.evaluate("SAMPLES.length")):
        page.click("#sample")
        expect_number(page, "[0-9]")


@pytest.mark.slow
def test_tiny_drawings_are_read_as_large_ones(page: Page) -> None:
    """Under the pen they are blobs; their paths are not."""
    tiny = [drawing for drawing in drawings() if drawing.variant == "tiny"]
    assert sum(read(page, drawing) == str(drawing.digit) for drawing in tiny) >= 49


@pytest.mark.slow
def test_drawings_of_all_kinds_are_read(page: Page) -> None:
    right = Counter[str]()
    for drawing in drawings():
        right[drawing.variant] += read(page, drawing) == str(drawing.digit)
    assert set(right) == set(VARIANTS)
    assert right.total() >= 455, right
