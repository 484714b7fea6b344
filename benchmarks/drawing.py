"""Drawings on the page: 52 scripted digits in nine variants, drawn in Chromium.

    python benchmarks/drawing.py [--page FILE]

The page is that of bundle.py, opened from disk with the included weights; the drawings are those of
tests/drawings.py. The results are benchmarks/results/drawing.json and the page's picture, demo.png.
FILE is another page to compare, or an address; nothing is kept of it.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from record import save
from studies import RESULTS

from mnist_lit import load_pretrained
from mnist_lit.bundle import bundle

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from browser import CHROMIUM, draw_all, opened
from drawings import DIGITS, VARIANTS, drawings


def photograph(browser: Browser, url: str) -> None:
    """The page's picture in README.md: a number of three digits."""
    with opened(browser, url, (1180, 700)) as page:
        for style, (digit, left) in zip((1, 0, 0), ((7, -0.42), (3, 0.0), (9, 0.42)), strict=True):
            strokes = DIGITS[digit][style]
            draw_all(
                page, [[(0.55 * x + left - 0.15, 0.55 * y - 0.28) for x, y in s] for s in strokes]
            )
        page.wait_for_timeout(300)
        page.screenshot(path=RESULTS / "demo.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--page", help="another page, a file or an address")
    args = parser.parse_args()
    right, wrong = Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder, "digits.html")
        file.write_text(bundle(load_pretrained()), "utf-8")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 720})
        page.goto(args.page or file.as_uri())
        number = page.locator("#number, #digit")
        for drawing in drawings():
            draw_all(page, drawing.strokes)
            if args.page:
                page.wait_for_timeout(500)  # for a server's answer
            read = number.inner_text().rstrip("?")
            if read == str(drawing.digit):
                right[drawing.variant] += 1
            else:
                wrong.append(f"{drawing.variant}: {drawing.digit} read as {read!r}")
            page.keyboard.press("Escape")
            page.evaluate("document.querySelector('#clear').click()")
        if not args.page:
            photograph(browser, file.as_uri())
        browser.close()
    result = {
        "right": {variant: right[variant] for variant in VARIANTS},
        "wrong": wrong,
        "drawings": sum(right.values()) + len(wrong),
        "total": sum(right.values()),
    }
    print(json.dumps(result, indent=2))
    if not args.page:
        save("drawing", result)


if __name__ == "__main__":
    main()
