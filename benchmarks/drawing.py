"""Drawings on the page: 52 scripted digits in nine variants, drawn in Chromium.

    python benchmarks/drawing.py [--page FILE]

The page is that of bundle.py, opened from disk with the included weights; the drawings are those of
tests/drawings.py. The result is benchmarks/results/drawings.json. FILE is another page to compare,
or an address; nothing is kept of it.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from playwright.sync_api import sync_playwright
from record import save

from mnist_lit import load_pretrained
from mnist_lit.bundle import bundle

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from drawings import VARIANTS, drawings


# Draws with the pointer's events, all at once, and waits until the page has drawn.
DRAW = """async strokes => {
  const pad = document.querySelector("#pad")
  const box = pad.getBoundingClientRect()
  for (const stroke of strokes) {
    stroke.forEach(([x, y], i) => {
      const [clientX, clientY] = [box.left + box.width / 2 + x * box.height, box.top + box.height * (y + 0.5)]
      const options = { pointerId: 7, button: 0, buttons: 1, clientX, clientY, bubbles: true }
      pad.dispatchEvent(new PointerEvent(i ? "pointermove" : "pointerdown", options))
      if (i === stroke.length - 1) pad.dispatchEvent(new PointerEvent("pointerup", options))
    })
  }
  for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame)
}"""
# There is no pointer behind such events that could be captured.
NO_POINTER = """Element.prototype.setPointerCapture = () => {}
PointerEvent.prototype.getCoalescedEvents = undefined"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--page", help="another page, a file or an address")
    args = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chrome")
    right, wrong = Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder, "digits.html")
        file.write_text(bundle(load_pretrained()), "utf-8")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 720})
        page.add_init_script(NO_POINTER)
        page.goto(args.page or file.as_uri())
        number = page.locator("#number, #digit")
        for drawing in drawings():
            page.evaluate(DRAW, drawing.strokes)
            if args.page:
                page.wait_for_timeout(500)  # for a server's answer
            read = number.inner_text().rstrip("?")
            if read == str(drawing.digit):
                right[drawing.variant] += 1
            else:
                wrong.append(f"{drawing.variant}: {drawing.digit} read as {read!r}")
            page.click("#clear")
        browser.close()
    result = {"right": {variant: right[variant] for variant in VARIANTS}, "wrong": wrong}
    result |= {"drawings": sum(right.values()) + len(wrong), "total": sum(right.values())}
    print(json.dumps(result, indent=2))
    if not args.page:
        save("drawings", result)


if __name__ == "__main__":
    main()
