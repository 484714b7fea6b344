"""The page as one file: drawn on with mouse, fingers and keys, at the sizes of people's screens."""

import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import chromium, draw, draw_all, opened, read, spot
from drawings import DIGITS, VARIANTS, Point, drawings
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from mnist_lit import load_pretrained
from mnist_lit.bundle import bundle
from mnist_lit.demo import MAX_BYTES
from mnist_lit.images import UnreadableImageError, open_image
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
    page.keyboard.press("Escape")
    expect(number(page)).to_have_text("")
    expect(page.locator("#hint")).to_be_visible()
    draw(page, *SEVEN)  # the eraser is off where nothing can be erased
    expect_number(page, "7")
    for _ in range(2):
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
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.type"))
    assert reached == ["pad", "range", "sample", "file"]  # what is of use by now
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


def photo(kind: str = "JPEG", *, zoom: int = 1, **options: Any) -> bytes:
    """Two sevens on paper."""
    paper: Any = np.full((300, 420, 3), (225, 220, 205), np.uint8)
    for left in (60, 240):
        for i in range(100):
            paper[60:72, left + i] = paper[60 + 2 * i : 72 + 2 * i, left + 100 - i // 2] = 50
    file = io.BytesIO()
    Image.fromarray(paper).resize((420 * zoom, 300 * zoom)).save(file, kind, **options)
    return file.getvalue()


def white() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (90, 90), "white").save(file, "PNG")
    return file.getvalue()


def choose_file(page: Page, content: bytes) -> None:
    page.set_input_files("#file", {"name": "a", "mimeType": "", "buffer": content})


def test_a_photo_is_read_without_a_server(page: Page) -> None:
    choose_file(page, photo())
    expect_number(page, "77")
    page.keyboard.press("Control+z")
    expect(page.locator("#hint")).to_be_visible()


def test_a_photo_of_more_than_20_mb_is_read_without_a_server(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "large.bmp"
    file.write_bytes(photo("BMP", zoom=8))
    assert file.stat().st_size > MAX_BYTES
    page.set_input_files("#file", file)
    expect_number(page, "77")


REFUSED = {
    "empty": b"",
    "text": b"no image",
    "blank": white(),
    "PNG, cut": photo("PNG")[:900],
    "JPEG, cut": photo("JPEG")[:3000],
    "GIF, cut": photo("GIF")[:900],
    "BMP, cut": photo("BMP")[:3000],
    "PDF": b"%PDF-1.7\n",
    "HEIC": b"\0\0\0\x18ftypheic" + bytes(100),
}


def test_a_file_that_is_refused_gets_the_sentence_of_predict(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_lit.images.find_spec", lambda _: None)  # as without pillow_heif
    for kind, content in REFUSED.items():
        with pytest.raises(UnreadableImageError) as refused:
            look(open_image(io.BytesIO(content)))
        words, *_ = re.split(": (?!nothing)| PNG", str(refused.value))  # without its advice
        choose_file(page, content)
        expect(page.locator("#verdict"), kind).to_have_text(re.compile(f"^{words}"))
        page.keyboard.press("Escape")
        expect(page.locator("#verdict")).to_have_text("The answer appears here.")
    draw(page, *SEVEN)  # goes on after it
    expect_number(page, "7")


def test_an_svg_is_read_without_running_or_loading_anything(page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    choose_file(
        page,
        b"""<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 30 60"
        onload="parent.ran = 1"><script>parent.ran = window.ran = 1</script>
        <image href="http://example.com/a.png" width="9" height="9"/>
        <foreignObject width="9" height="9"><img xmlns="http://www.w3.org/1999/xhtml"
        src="http://example.com/b.png"/></foreignObject>
        <path d="M5 5h20L10 55" fill="none" stroke="black" stroke-width="4"/></svg>""",
    )
    expect_number(page, "7")
    assert page.evaluate("window.ran") is None
    corner, ink = page.evaluate(
        """() => [[0.34, 0.02], [0.5, 0.085]].map(([x, y]) => {
          const pad = document.querySelector("#pad")
          const pen = pad.getContext("2d")
          return pen.getImageData(x * pad.width, y * pad.height, 1, 1).data[0]
        })"""
    )
    assert ink < 50 < 200 < corner  # it is seen on a dark page, too


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
def test_of_an_animation_and_of_several_files_the_first_is_read_and_it_is_said(
    page: Page, kind: str
) -> None:
    more = [Image.new("RGB", (420, 300), (0, 0, level)) for level in (90, 180)]
    animated = photo(kind, save_all=True, append_images=more)
    page.evaluate(
        """([first, second]) => {
          const dataTransfer = new DataTransfer()
          for (const text of [first, second]) {
            const bytes = Uint8Array.from(text, letter => letter.charCodeAt(0))
            dataTransfer.items.add(new File([bytes], "a"))
          }
          document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }))
        }""",
        [animated.decode("latin-1"), photo().decode("latin-1")],
    )
    expect_number(page, "77")
    expect(page.locator("#verdict")).to_contain_text("Only the first of 2 files was read.")
    expect(page.locator("#verdict")).to_contain_text("Only its first picture was read.")
    choose_file(page, photo(kind))
    expect(page.locator("#verdict")).not_to_contain_text("Only")


def click(page: Page, point: Point) -> None:
    page.mouse.click(*spot(page.locator("#pad"), point))


def test_a_click_chooses_a_digit_of_a_photo(page: Page) -> None:
    choose_file(page, photo())
    expect_number(page, "77")
    buttons = page.locator("#seen button")
    for i, x in enumerate((-0.3, 0.3)):
        click(page, (x, 0.0))
        expect(buttons.nth(i)).to_have_attribute("aria-pressed", "true")
        expect_number(page, "77")
    page.focus("#pad")
    for _ in range(2):  # the pen put down and lifted, left of the middle
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Space")
        page.keyboard.press("Space")
    expect(buttons.first).to_have_attribute("aria-pressed", "true")
    expect_number(page, "77")
    page.keyboard.press("Control+z")
    expect(page.locator("#hint")).to_be_visible()  # the clicks have changed nothing
    page.keyboard.press("Control+Shift+Z")
    draw(page, *ONE)  # but a stroke replaces the photo
    expect_number(page, "1")


def test_a_click_beside_a_drawn_digit_chooses_it_and_adds_no_stroke(page: Page) -> None:
    for left, points in ((-0.4, SEVEN), (0.4, ONE)):
        draw(page, *((x * 0.7 + left, y) for x, y in points))
    expect_number(page, "71")
    for left, digit in ((-0.2, "7"), (0.3, "1"), (-0.6, "7")):
        click(page, (left, 0.1))
        expect(page.locator("#bars .best")).to_have_text(re.compile(f"^{digit}"))
    page.keyboard.press("Control+z")
    expect_number(page, "7")


def test_two_tabs_keep_and_delete_the_same_corrections(page: Page, url: str) -> None:
    with page.expect_popup() as popup:
        page.evaluate("url => { open(url) }", url)
    other = popup.value
    for tab, count in ((page, 1), (other, 2), (page, 3)):
        tab.bring_to_front()
        tab.keyboard.press("Escape")
        draw(tab, *SEVEN)
        tab.locator("#bars button").nth(count).click()
        for each in (page, other):
            expect(each.locator("#kept")).to_contain_text(f"{count} correction")
    page.reload()
    expect(page.locator("#kept")).to_contain_text("3 corrections in this browser")
    expect(number(other)).to_have_text("2")
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("#forget")
    expect(other.locator("#kept")).to_be_hidden()
    expect(number(other)).to_have_text("7")


def test_corrections_that_follow_quickly_leave_only_the_last(page: Page) -> None:
    draw(page, *SEVEN)
    expect_number(page, "7")
    page.evaluate("""() => {
      const bars = document.querySelectorAll("#bars button")
      for (const digit of [1, 2, 3]) bars[digit].click()
    }""")
    expect_number(page, "3")
    expect(page.locator("#kept")).to_contain_text("1 correction in")


STORAGE = {
    "no room": (
        'Storage.prototype.setItem = () => { throw new DOMException("", "QuotaExceededError") }',
        "1 correction, only until this page is closed: the browser has no room for more. ",
    ),
    "blocked": (
        'Object.defineProperty(window, "localStorage", '
        '{ get() { throw new DOMException("", "SecurityError") } })',
        "1 correction, only until this page is closed: the browser does not let this page store ",
    ),
}


@pytest.mark.parametrize("kind", STORAGE)
def test_a_correction_that_is_not_stored_is_said_to_be(page: Page, kind: str) -> None:
    script, sentence = STORAGE[kind]
    page.add_init_script(script)
    page.reload()
    draw(page, *SEVEN)
    page.locator("#bars button").nth(1).click()
    expect(page.locator("#kept")).to_contain_text(sentence)
    with page.expect_download() as download:
        page.click("#download")
    assert len(zipfile.ZipFile(download.value.path()).namelist()) == 1
    page.locator("#bars button").nth(1).click()
    expect_number(page, "7")
    expect(page.locator("#kept")).to_be_hidden()


def test_without_javascript_the_page_says_that_it_needs_it(browser: Browser, url: str) -> None:
    with opened(browser, url, java_script_enabled=False) as page:
        expect(page.locator("noscript")).to_be_visible()
        assert "needs JavaScript" in (page.text_content("noscript") or "")
        for name in ("#pad", "#clear", "#answer"):
            expect(page.locator(name)).to_be_hidden()


def test_in_an_old_browser_the_page_says_that_it_needs_a_newer_one(page: Page) -> None:
    page.add_init_script("delete window.DecompressionStream")
    page.reload()
    expect(page.locator("header")).to_contain_text("a browser of 2023 or newer")
    expect(page.locator("#pad")).to_be_hidden()


def test_focus_goes_to_the_drawing_when_its_button_is_of_no_more_use(page: Page) -> None:
    page.on("dialog", lambda dialog: dialog.accept())
    for button, key in (
        ("#undo", "Enter"),
        ("#clear", "Enter"),
        ("#seen button", "Control+z"),
        ("#eraser", "Escape"),
        ("#forget", "Enter"),
    ):
        page.keyboard.press("Escape")
        draw(page, *SEVEN)
        page.locator("#bars button").nth(1).click()
        expect_number(page, "1")
        page.focus(button)
        page.keyboard.press(key)
        expect(page.locator("#pad"), button).to_be_focused()


def test_a_bar_is_described_by_what_a_click_on_it_does(page: Page) -> None:
    draw(page, *SEVEN)
    bar = page.locator("#bars button").nth(1)
    expect(bar).to_have_accessible_description("Wrong? Choose the right digit above.")
    bar.click()
    expect(bar).to_have_accessible_description("Kept as a 1. Choose 1 again to take it back.")


def test_twenty_small_digits_are_no_black_bar(page: Page) -> None:
    for i in range(20):
        strokes = DIGITS[(7 * i + 3) % 10][i % 5]
        left = 0.062 * i - 0.61
        draw_all(page, [[(0.05 * x + left, 0.085 * y) for x, y in stroke] for stroke in strokes])
    expect(page.locator("#seen button")).to_have_count(20)
    red, width = page.evaluate("""() => {
      const pad = document.querySelector("#pad")
      const { data } = pad.getContext("2d").getImageData(0, 0, pad.width, pad.height)
      return [Array.from(data.filter((_, i) => i % 4 === 0)), pad.width]
    }""")
    ink = np.array(red).reshape(-1, width) == 23
    rows, columns = (np.ptp(np.flatnonzero(ink.any(axis=axis))) + 1 for axis in (1, 0))
    assert columns > 0.7 * width
    assert 0.1 < ink.sum() / (rows * columns) < 0.5  # else it is one black bar


def test_large_writing_has_the_pen_that_was_chosen(page: Page) -> None:
    draw(page, (-0.3, -0.3), (0.3, -0.3))
    width = """() => {
      const pad = document.querySelector("#pad")
      const column = pad.getContext("2d").getImageData(pad.width / 2, 0, 1, pad.height).data
      return column.filter((value, i) => i % 4 === 0 && value < 100).length * 300 / pad.height
    }"""
    assert page.evaluate(width) == pytest.approx(18, abs=1)
    page.keyboard.press("Escape")
    page.locator("#width input").fill("40")
    draw(page, (-0.3, -0.3), (0.3, -0.3))
    page.wait_for_timeout(100)
    assert page.evaluate(width) == pytest.approx(40, abs=1)


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


def test_the_chosen_digit_is_marked_in_forced_colours(page: Page) -> None:
    page.emulate_media(forced_colors="active")
    for left in (-0.4, 0, 0.4):
        draw(page, *((x * 0.7 + left, y) for x, y in SEVEN))
    page.locator("#seen button").nth(1).click()
    page.mouse.move(0, 0)
    page.locator("#pad").focus()
    border = "button => getComputedStyle(button).borderTopColor"
    first, chosen, last = (button.evaluate(border) for button in page.locator("#seen button").all())
    assert first == last != chosen


def test_bars_and_text_are_seen_in_print(page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    draw(page, *SEVEN)
    expect_number(page, "7")
    streams = re.findall(rb"stream\r?\n(.*?)endstream", page.pdf(), re.DOTALL)
    drawn = b"".join(zlib.decompress(stream) for stream in streams if stream[:1] == b"\x78")
    for color in (0xC3, 0xCA, 0xD7), (0x17, 0x1A, 0x21):  # of bars and text in the light scheme
        numbers = (f"{part / 255:.4f}".strip("0") for part in color)
        assert " ".join(numbers).encode() + b" rg" in drawn


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
