"""The page in a browser, as a person sees it: opened, drawn on, asking for nothing of others."""

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from drawings import Drawing, Point, Stroke
from playwright.sync_api import Browser, Locator, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
# Draws all strokes at once by the pointer's events, and waits until the page has drawn, too.
DRAW = """async strokes => {
  Element.prototype.setPointerCapture = () => {}  // there is no pointer behind these events
  PointerEvent.prototype.getCoalescedEvents = undefined
  const pad = document.querySelector("#pad")
  const box = pad.getBoundingClientRect()
  for (const stroke of strokes) {
    stroke.forEach(([x, y], i) => {
      const clientX = box.left + box.width / 2 + x * box.height
      const clientY = box.top + box.height / 2 + y * box.height
      const options = { pointerId: 7, button: 0, buttons: 1, clientX, clientY, bubbles: true }
      pad.dispatchEvent(new PointerEvent(i ? "pointermove" : "pointerdown", options))
      if (i === stroke.length - 1) pad.dispatchEvent(new PointerEvent("pointerup", options))
    })
  }
  for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame)
}"""
# Chooses a file of so many bytes, which would take its time if it came from here.
TOO_LARGE = """bytes => {
  const files = new DataTransfer()
  files.items.add(new File([new Uint8Array(bytes)], "b.png"))
  const input = document.querySelector("#file")
  input.files = files.files
  input.dispatchEvent(new Event("change"))
}"""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.skip("needs chromium on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(
    browser: Browser, url: str, size: tuple[int, int] = (900, 720), **options: Any
) -> Iterator[Page]:
    """The page in a window; it must raise no error, and ask for nothing but `url`'s own."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
    try:
        page = context.new_page()
        errors: list[str] = []
        requested: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requested.append(request.url))
        page.goto(url)
        if options.get("java_script_enabled", True):
            page.wait_for_selector("main")
        yield page
        assert errors == []
        assert all(address.startswith((url, "blob:", "data:")) for address in requested)
    finally:
        context.close()


def spot(pad: Locator, point: Point) -> Point:
    """A point of the pad, in units of its height from its middle -> of the window."""
    box = pad.bounding_box()
    assert box
    x, y = point
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    return middle[0] + x * box["height"], middle[1] + y * box["height"]


def draw(page: Page, *points: Point, button: Any = "left", steps: int = 5) -> None:
    """A stroke with the mouse."""
    pad = page.locator("#pad")
    page.mouse.move(*spot(pad, points[0]))
    page.mouse.down(button=button)
    for point in points[1:]:
        page.mouse.move(*spot(pad, point), steps=steps)
    page.mouse.up(button=button)


def draw_all(page: Page, strokes: list[Stroke]) -> None:
    page.evaluate(DRAW, strokes)


def read(page: Page, drawing: Drawing) -> str:
    """What the page reads in a drawing, without its question mark."""
    page.keyboard.press("Escape")
    draw_all(page, drawing.strokes)
    return page.locator("#number").inner_text().rstrip("?")
