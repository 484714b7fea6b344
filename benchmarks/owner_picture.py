"""The picture of README.md in which a hand is learned: misread, corrected, fine-tuned, read.

    python benchmarks/owner_picture.py

Somebody writes a 1 with a serif: test digits with one drawn in (owners.py). Of their digits 110 are
fine-tuned on by the command line, as a user would; the other 1s are read before and after. Five of
those that were learned are shown, the surest errors. Writes benchmarks/results/owner.png and
owner.json.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from owners import styled, write_folder
from record import save
from studies import RESULTS

from mnist_lit.assets import test_digits
from mnist_lit.data import stratified_split
from mnist_lit.reading import Reading, read_digits
from mnist_lit.sureness import Judge, load_judge, shipped

DIGITS, SHOWN = 110, 5


def answers(judge: Judge, files: list[Path]) -> list[Reading]:
    return [x for x in read_digits(judge, files, single=True) if isinstance(x, Reading)]


def main() -> None:
    images, classes = test_digits()
    labels = classes.long()
    images = styled(images[:, 0], labels, "serif 1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, own = stratified_split(labels, DIGITS)
        write_folder(folder / "digits", images[own], labels[own])
        others = (labels == 1).nonzero().flatten()
        others = others[~torch.isin(others, own)]
        write_folder(folder / "later", images[others], labels[others])
        files = sorted((folder / "later" / "1").iterdir())
        before = answers(shipped(), files)
        command = [sys.executable, "-m", "mnist_lit.train", "--config", "finetune"]
        printed = subprocess.run(
            [*command, "--data.own_dir", "digits"],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        print(printed)
        checkpoint = folder / "lightning_logs/version_0/checkpoints/last.ckpt"
        after = answers(load_judge(checkpoint), files)
        wrong = [i for i, reading in enumerate(before) if reading.least.digit != 1]
        errors = [len(wrong), sum(reading.least.digit != 1 for reading in after)]
        learned = [i for i in wrong if after[i].least.digit == 1]
        shown = sorted(learned, key=lambda i: -before[i].least.probability)[:SHOWN]
        figure = Figure(figsize=(8.6, 2.6), layout="constrained")
        axes = figure.subplots(1, SHOWN)
        for axis, i in zip(axes, shown, strict=True):
            axis.imshow(imread(files[i]), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            for reading, color, x in ((before[i], "tab:red", 0.0), (after[i], "tab:green", 1.0)):
                digit = reading.least
                axis.text(
                    x,
                    -0.05,
                    f"{digit.digit}  {100 * digit.probability:.0f} %",
                    transform=axis.transAxes,
                    ha="left" if x == 0 else "right",
                    va="top",
                    fontsize=12,
                    color=color if (digit.digit == 1) == (color == "tab:green") else "black",
                )
            axis.text(0.46, -0.05, "→", transform=axis.transAxes, ha="center", va="top")
        figure.suptitle(
            f"Somebody's 1, before and after fine-tuning on {len(own)} of their digits.\nOf"
            f" {len(files):,} more, {errors[0]} were misread before, and {errors[1]} are now."
        )
        figure.savefig(RESULTS / "owner.png", dpi=100)
    [seconds] = re.findall(r"^time +(\d+) s", printed, re.MULTILINE)
    save("owner", {"errors": errors, "files": len(files), "seconds": int(seconds)})
    print(errors, "of", len(files))


if __name__ == "__main__":
    main()
