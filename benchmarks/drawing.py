"""Drawings on the page: 52 scripted digits in nine variants, drawn with the mouse in Chromium.

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

from playwright.sync_api import Page, sync_playwright
from record import save

from mnist_lit import load_pretrained
from mnist_lit.bundle import bundle

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from drawings import VARIANTS, Stroke, drawings


def draw(page: Page, strokes: list[Stroke]) -> None:
    """On the page's pad, with the mouse."""
    box = page.locator("#pad").bounding_box()
    assert box
    left, top = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for stroke in strokes:
        for i, (x, y) in enumerate(stroke):
            page.mouse.move(left + x * box["height"], top + y * box["height"])
            if not i:
                page.mouse.down()
        page.mouse.up()


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
        page.goto(args.page or file.as_uri())
        number = page.locator("#number, #digit")
        for drawing in drawings():
            draw(page, drawing.strokes)
            page.wait_for_timeout(60 if not args.page else 350)
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
