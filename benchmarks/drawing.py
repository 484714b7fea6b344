"""Drawings on the page: 52 scripted digits in nine variants, drawn in Chromium.

    python benchmarks/drawing.py [--page FILE]

The page is that of bundle.py, opened from disk with the included weights; the drawings are those of
tests/drawings.py. The result is benchmarks/results/drawings.json. FILE is another page to compare,
or an address; nothing is kept of it.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

from playwright.sync_api import sync_playwright
from record import save

from mnist_lit import load_pretrained
from mnist_lit.bundle import bundle

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from browser import CHROMIUM, draw_all
from drawings import VARIANTS, drawings


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
        browser.close()
    result = {"right": {variant: right[variant] for variant in VARIANTS}, "wrong": wrong}
    result |= {"drawings": sum(right.values()) + len(wrong), "total": sum(right.values())}
    print(json.dumps(result, indent=2))
    if not args.page:
        save("drawings", result)


if __name__ == "__main__":
    main()
