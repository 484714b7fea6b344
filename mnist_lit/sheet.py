"""A form to write one's own digits in, and its photo, cut up: `python -m mnist_lit.sheet`.

    python -m mnist_lit.sheet --output sheet.pdf
    python -m mnist_lit.sheet --read photo.jpg --output digits/

Its corners have marks that tell which way up the sheet lies, and where the boxes are on a photo
that was taken at an angle. They are ArUco markers (Garrido-Jurado et al., Automatic generation and
detection of highly reliable fiducial markers under occlusion, 2014), which OpenCV finds. Paper is
bent and lenses distort, so each box is then cut out where the photo shows its printed lines.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from mnist_lit.errors import command, explain, printable
from mnist_lit.files import free_path, written_whole
from mnist_lit.images import UnreadableImageError, open_image
from mnist_lit.ink import Array, Colors

# In millimetres, from the upper left corner of an A4 sheet that lies on its side.
WIDTH, HEIGHT = 297.0, 210.0
MARK = 14.0
# US Letter is narrower than A4. It keeps the marks 4 to 7, also at actual size, and cut off those
# of earlier forms, 0 to 3, which are still read.
MARKS = (
    *((10.0, 10.0), (273.0, 10.0), (273.0, 186.0), (10.0, 186.0)),
    *((19.0, 10.0), (255.0, 10.0), (255.0, 186.0), (19.0, 186.0)),
)
DRAWN = range(4, 8)
ROWS, COLUMNS = 10, 20
LEFT, TOP, ACROSS, DOWN = 29.0, 29.0, 12.0, 15.4  # of the first box, and to the next
BOX = (11.2, 14.2)
LINE = 0.4  # at each edge of a box, left out for its printed line

PIXELS = 7  # of a straightened sheet, in a millimetre
FEWEST = 3  # corner marks, one of which may lie under a thumb
# In millimetres, by which the corners of the marks lie beside those of a flat form: those of a bent
# page up to 1, those of two pages much more. On a scan in black and white, whose printed lines are
# lost, a flat page has up to 0.25.
MISFIT, FLAT = 2.0, 0.3
REACH = 4.5  # millimetres: a box is looked for this far from its place, and the next is 12 away
LINE_DARKNESS = 8  # of 255: ink counts no more than a printed line, which a photo shows faintly
AGREEING = 0.7  # of the boxes are found beside their neighbours, if the lines are visible at all
# Ink is darker than its paper by this share of what the marks are; so is pencil.
CONTRAST = 0.15
LEAST_INK = 0.6  # square millimetres: a dot has less, a short 1 has more
CORNER = 0.28  # of a box: the two lines of a cross begin and end in such corners of it
CROSSED = 0.9  # of both lines are ink
SUFFIXES = (".pdf", ".png", ".svg")


class NoSheetError(ValueError):
    """The image does not show the form."""


class Cut(NamedTuple):
    """One box of a photo."""

    row: int  # which is its digit
    column: int
    pixels: Colors  # (H, W, 3), what is inside of the box
    state: str  # "filled", "empty", or why its digit is left out: one of LEFT_OUT


LEFT_OUT = ("crossed out", "over the edge")


def draw_form() -> Figure:
    figure = Figure(figsize=(WIDTH / 25.4, HEIGHT / 25.4))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.axis("off")

    def fill(x: float, y: float, width: float, height: float, color: str) -> None:
        axes.add_patch(Rectangle((x, y), width, height, facecolor=color, linewidth=0))

    for number in DRAWN:
        x, y = MARKS[number]
        bits = cv2.aruco.generateImageMarker(_marks(), number, 6)
        cell = MARK / 6
        fill(x, y, MARK, MARK, "black")
        for row, column in np.argwhere(bits > 0):
            fill(x + column * cell, y + row * cell, cell, cell, "white")
    axes.text(
        WIDTH / 2,
        17,
        "Write the digit of each row into its boxes, as you always do. Leave out what you like;"
        " cross out a slip from corner to corner.",
        ha="center",
        va="center",
        fontsize=10.5,
    )
    axes.text(
        WIDTH / 2,
        194,
        "Then photograph or scan all of it:  mnist-lit sheet --read photo.jpg --output digits/",
        ha="center",
        va="center",
        fontsize=9,
        color="0.4",
    )
    for row in range(ROWS):
        y = TOP + row * DOWN
        axes.text(
            LEFT - 5, y + BOX[1] / 2, str(row), ha="center", va="center", fontsize=20, color="0.3"
        )
        for column in range(COLUMNS):
            x = LEFT + column * ACROSS
            axes.add_patch(
                Rectangle((x, y), *BOX, facecolor="none", edgecolor="0.75", linewidth=0.6)
            )
    return figure


def cut_up(image: Image.Image) -> list[Cut]:
    """A photo of the form (RGB, upright or not) -> its 200 boxes, row by row.

    Raises:
        NoSheetError: The picture does not show all of one form, or too little of its lines.
    """
    photo = np.asarray(image)
    sheet, misfit = straightened(photo, find_marks(photo))
    shifts, agreeing = find_boxes(sheet)
    if agreeing < AGREEING:
        if misfit > FLAT:
            raise NoSheetError(
                "the page is not flat, and the printed lines of its boxes are too faint to follow:"
                " lay it flat, and photograph it from above, in colour"
            )
        shifts[:] = 0
    ink = _ink(sheet)
    cuts = []
    for row in range(ROWS):
        for column in range(COLUMNS):
            x, y = LEFT + column * ACROSS + LINE, TOP + row * DOWN + LINE
            left, top = np.round((PIXELS * x, PIXELS * y) + shifts[row, column]).astype(int)
            width, height = (round(PIXELS * (side - 2 * LINE)) for side in BOX)
            here = slice(top, top + height), slice(left, left + width)
            cuts.append(Cut(row, column, sheet[here], _state(ink[here])))
    return cuts


def find_marks(photo: Colors) -> dict[int, Array]:
    """(H, W, 3) -> the (4, 2) corners of each mark that is found, by its number.

    Raises:
        NoSheetError: They are fewer than three, or one is there twice.
    """
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    parameters.adaptiveThreshWinSizeMax = 53  # a mark of a large photo is 100 pixels wide
    detector = cv2.aruco.ArucoDetector(_marks(), parameters)
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    best: dict[int, Array] = {}
    for zoom in (1, 2):  # a mark of a small photo has cells of few pixels
        seen = grey if zoom == 1 else cv2.resize(grey, None, fx=2, fy=2)
        corners, numbers, _ = detector.detectMarkers(seen)
        found: dict[int, Array] = {}
        for one, number in zip(corners, [] if numbers is None else numbers.ravel(), strict=True):
            if number in found:
                raise NoSheetError(
                    "more than one form in the picture: photograph each of them by itself"
                )
            if number < len(MARKS):
                # The centre of a pixel is not where it is after zooming.
                found[int(number)] = ((one.reshape(4, 2) + 0.5) / zoom - 0.5).astype(np.float32)
        if len(found) > len(best):
            best = found
        if len(best) >= len(DRAWN):
            return best
    if not best:
        raise NoSheetError("no corner marks found: is the whole form in the picture, and sharp?")
    if len(best) < FEWEST:
        raise NoSheetError(f"{len(best)} of the 4 corner marks found: show the whole form")
    return best


def straightened(photo: Colors, marks: dict[int, Array]) -> tuple[Colors, float]:
    """The sheet as it was printed, PIXELS to a millimetre, and by how many millimetres it misfits.

    Raises:
        NoSheetError: The marks are not those of one flat form.
    """
    square = np.array([[0, 0], [MARK, 0], [MARK, MARK], [0, MARK]])
    printed = np.concatenate([square + MARKS[number] for number in marks])
    seen = np.concatenate(list(marks.values()))
    # The centre of the first pixel lies half of a pixel inside.
    matrix, _ = cv2.findHomography(seen, PIXELS * printed - 0.5)
    if matrix is None:
        raise NoSheetError("the corner marks lie on a line")
    mapped = (cv2.perspectiveTransform(seen[None], matrix)[0] + 0.5) / PIXELS
    misfit = float(np.linalg.norm(mapped - printed, axis=1).max())
    if not misfit < MISFIT:
        raise NoSheetError(
            "the corner marks do not lie as on one flat form: photograph one form, laid flat"
        )
    size = round(PIXELS * WIDTH), round(PIXELS * HEIGHT)
    border = {"borderMode": cv2.BORDER_REPLICATE}
    sheet: Colors = cv2.warpPerspective(photo, matrix, size, flags=cv2.INTER_LINEAR, **border)
    return sheet, misfit


def find_boxes(sheet: Colors) -> tuple[Array, float]:
    """A straightened sheet -> how far right and down each box lies from where it was printed.

    They are (ROWS, COLUMNS, 2), in pixels. The share of the boxes of which the printed lines tell
    the same as those of their neighbours comes with them.
    """
    grey = cv2.cvtColor(sheet, cv2.COLOR_RGB2GRAY)
    x, y = LEFT + ACROSS * np.arange(COLUMNS), TOP + DOWN * np.arange(ROWS)
    right, agreeing = _moved(grey, x, y, *BOX)
    down, agreeing_too = _moved(grey.T.copy(), y, x, *BOX[::-1])
    return np.stack([right, down.T], axis=2), min(agreeing, agreeing_too)


def _moved(grey: Any, x: Array, y: Array, width: float, height: float) -> tuple[Array, float]:
    """How far boxes moved along x, by their lines along y; (len(y), len(x)), and who agrees."""
    # Thin dark lines, and edges of digits, which are shorter.
    dark = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, np.ones((1, PIXELS), dtype=np.uint8))
    dark = cv2.blur(np.minimum(dark, LINE_DARKNESS).astype(np.float32), (3, 1))
    inside = [slice(round(PIXELS * (top + 1.5)), round(PIXELS * (top + height - 1.5))) for top in y]
    darkness = np.stack([dark[rows].mean(axis=0) for rows in inside])
    reach = round(PIXELS * REACH)
    moves = np.arange(-reach, reach + 1)
    # (len(y), len(x), len(moves)): how dark it is where the two lines of a box had moved to.
    edges = (np.round(PIXELS * edge - 0.5).astype(int) for edge in (x, x + width))
    votes = np.sum([darkness[:, edge[:, None] + moves] for edge in edges], axis=0)
    # Neighbours moved alike: their votes are counted together first, then a box's own near by.
    together = moves[cv2.blur(votes, (3, 3), borderType=cv2.BORDER_REPLICATE).argmax(axis=2)]
    near = np.abs(moves - together[..., None]) < 0.7 * PIXELS
    own = moves[np.where(near, votes, -1).argmax(axis=2)]
    moved: Array = cv2.medianBlur(own.astype(np.float32), 3)
    agrees = np.abs(moves[votes.argmax(axis=2)] - moved) < 0.7 * PIXELS
    agrees &= votes.max(axis=2) > votes.mean(axis=2)  # of white paper all votes are zero
    return moved, float(agrees.mean())


def _marks() -> "cv2.aruco.Dictionary":
    return cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50)


def _ink(sheet: Colors) -> npt.NDArray[np.bool_]:
    """Where something stands that is darker than the paper around it; shadows do not count."""
    grey = cv2.blur(sheet.min(axis=2), (3, 3))  # coloured ink is dark in one channel at least
    wide = np.ones((round(4.5 * PIXELS),) * 2, dtype=np.uint8)
    paper = cv2.blur(cv2.morphologyEx(grey, cv2.MORPH_CLOSE, wide), wide.shape)
    dark = paper.astype(np.float32) - grey
    return dark > np.maximum(CONTRAST * paper, 12)


def _state(ink: npt.NDArray[np.bool_]) -> str:
    """Of the inside of a box."""
    opened = cv2.morphologyEx(ink.view(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(opened)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if not len(areas) or areas.max() < LEAST_INK * PIXELS**2:
        return "empty"
    if _crossed_out(ink):
        return "crossed out"
    edges = (opened[0], opened[-1], opened[:, 0], opened[:, -1])
    return "over the edge" if any(edge.any() for edge in edges) else "filled"


def _crossed_out(ink: npt.NDArray[np.bool_]) -> bool:
    """Whether straight lines of ink lead from corner to corner, both ways."""
    deep = cv2.distanceTransform(ink.view(np.uint8), cv2.DIST_L2, 5)
    # Half as wide, or the holes of an 8 by a thick marker are too small to see; then a little
    # wider, because hands do not draw quite straight.
    core = cv2.dilate((deep > deep[ink].mean()).view(np.uint8), np.ones((3, 3), dtype=np.uint8))
    height, width = core.shape
    t = np.linspace(0, 1, 48)[:, None, None]
    for one in (core, core[:, ::-1]):
        corner = one[: round(CORNER * height) : 3, : round(CORNER * width) : 3]
        begin = 3 * np.argwhere(corner)
        corner = one[::-3, ::-3][: corner.shape[0], : corner.shape[1]]
        end = (height - 1, width - 1) - 3 * np.argwhere(corner)
        rows, columns = (
            np.rint(begin[:, None, axis] * (1 - t) + end[None, :, axis] * t).astype(int)
            for axis in (0, 1)
        )
        if one[rows, columns].mean(axis=0).max(initial=0) < CROSSED:
            return False
    return True


def write_form(path: Path) -> None:
    with written_whole(path) as partial:
        draw_form().savefig(partial, dpi=200)


def write_cuts(folder: Path, name: str, cuts: list[Cut]) -> None:
    """folder/7/NAME-03.png and so on; what is there is never written over."""
    taken = set[Path]()
    for cut in cuts:
        if cut.state == "filled":
            digit = folder / str(cut.row)
            digit.mkdir(parents=True, exist_ok=True)
            path = free_path(digit, f"{name}-{cut.column + 1:02d}", taken)
            with written_whole(path) as partial:
                Image.fromarray(cut.pixels).save(partial)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=command("sheet"),
        usage="%(prog)s [--read PHOTO ...] --output PATH",
        description="Print a form to write digits in, or cut up photos of it.",
    )
    parser.add_argument(
        "--read", nargs="+", metavar="PHOTO", help="photos or scans of forms that are filled in"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="PATH",
        help="the form, a .pdf, .png or .svg; with --read the folder that gets 0/ to 9/",
    )
    args = parser.parse_args(arguments)
    where = f"--output {printable(str(args.output))}"
    try:
        if args.read is None:
            if args.output.suffix.lower() not in SUFFIXES:
                parser.error(f"{where}: a form is one of {' '.join(SUFFIXES)}")
            write_form(args.output)
            print(f"{printable(str(args.output))}: print it, fill it in, and photograph or scan it")
            return
        if args.output.exists() and not args.output.is_dir():
            parser.error(f"{where}: with --read it is a folder")
        failed = [file for file in args.read if not _read(file, args.output)]
    except OSError as error:
        sys.exit(f"error: {where}: {explain(error)}")
    raise SystemExit(int(bool(failed)))


def _read(file: str, folder: Path) -> bool:
    """Whether a photo could be cut up; tells of it."""
    try:
        image = open_image(file)
        cuts = cut_up(image)
    except (OSError, NoSheetError, UnreadableImageError) as error:
        print(f"error: {printable(file)}: {explain(error)}", file=sys.stderr)
        return False
    write_cuts(folder, Path(file).stem, cuts)
    states = [cut.state for cut in cuts]
    print(
        f"{printable(file)}: {states.count('filled')} digits in {printable(str(folder))};"
        f" {states.count('empty')} boxes empty,"
        f" {', '.join(f'{states.count(reason)} {reason}' for reason in LEFT_OUT)}"
    )
    notes = []
    for reason in LEFT_OUT:
        boxes = [f"{cut.row}-{cut.column + 1:02d}" for cut in cuts if cut.state == reason]
        if boxes:
            notes.append(f"left out as {reason} (row-box): {', '.join(boxes)}")
    if image.info["frames"] > 1:
        notes.append(f"the first of {image.info['frames']} pages was read")
    for note in notes:
        print(f"note: {printable(file)}: {note}", file=sys.stderr)
    return True


if __name__ == "__main__":
    from mnist_lit.__main__ import guarded

    guarded(main)
