"""A trained network as one file for other programs: `python -m mnist_lit.export --output FILE`.

Four formats: `onnx` for ONNX Runtime and its like, `pt2` for `torch.export.load`, `pt`, the weights
for `mnist_lit.weights.load_network`, and `html`, a page that reads digits in any browser, with no
server and no network. Normalisation is inside, the batch size is free, the input `images` is
(B, 1, 28, 28) in [0, 1] and the output `logits` is (B, 10). A file appears under its name only
after it has agreed with PyTorch on MNIST's whole test set.
"""

import argparse
import io
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from mnist_lit import javascript, load_pretrained
from mnist_lit.assets import test_digits
from mnist_lit.bundle import bundle, scripts_of
from mnist_lit.errors import command, explain, install, printable
from mnist_lit.files import last_or_best, written_whole
from mnist_lit.network import Network
from mnist_lit.onnx_model import OPSETS, example, quiet, run_onnx, write_onnx
from mnist_lit.weights import load_network

MAX_DROP = 0.002  # of the accuracy, with int8: twenty of the test digits


def write_pt2(network: Network, path: Path, *_: object) -> None:
    batch = torch.export.Dim("batch")
    program = torch.export.export(network, (example(),), dynamic_shapes=({0: batch},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of the exporting machine
    content = io.BytesIO()  # whose writer's errors are not those of the disk
    with quiet():
        torch.export.save(program, content)
    path.write_bytes(content.getvalue())


def run_pt2(path: Path, images: Tensor) -> Tensor:
    with quiet():
        logits: Tensor = torch.export.load(path).module()(images)
    return logits


def write_pt(network: Network, path: Path, *_: object) -> None:
    content = io.BytesIO()
    # As in a checkpoint, because the weights do not tell the margin and TTA.
    torch.save({"state_dict": network.state_dict(), "hyper_parameters": network.settings}, content)
    path.write_bytes(content.getvalue())


def run_pt(path: Path, images: Tensor) -> Tensor:
    logits: Tensor = load_network(path)(images)
    return logits


def write_html(network: Network, path: Path, precision: str, *_: object) -> None:
    path.write_text(bundle(network, half=precision == "half"), "utf-8")


def run_html(path: Path, images: Tensor) -> Tensor:
    """By the scripts of the page itself, without those that need a page."""
    _, evaluate = javascript.engine()
    scripts = scripts_of(path.read_text("utf-8"))
    levels = (255 * images).round().byte().flatten().tolist()
    logits = evaluate(
        scripts["data"]
        + f"\n{scripts['network.js']}"
        + f"\nconst pixels = Float32Array.from(JSON.parse('{levels}'), level => level / 255)"
        + f"\nJSON.stringify(Array.from(new DigitReader(MODEL).logits(pixels, {len(images)})))"
    )
    return torch.tensor(json.loads(logits)).view(-1, 10)


class Format(NamedTuple):
    """A kind of file."""

    write: Callable[[Network, Path, str, int | None], None]  # to a path, precision, opset
    run: Callable[[Path, Tensor], Tensor]  # (B, 1, 28, 28) -> (B, 10) logits
    # Precision -> by how much a logit may differ. In single precision because float32 sums in
    # another order do. With None only the accuracy counts. The first precision is the default.
    tolerances: dict[str, float | None]


FORMATS = {
    "onnx": Format(write_onnx, run_onnx, {"single": 1e-4, "half": 0.05, "int8": None}),
    "pt2": Format(write_pt2, run_pt2, {"single": 1e-4}),
    "pt": Format(write_pt, run_pt, {"single": 1e-4}),
    "html": Format(write_html, run_html, {"half": 0.05, "single": 1e-3}),
}


class Agreement(NamedTuple):
    """How a file and PyTorch agree on the test digits."""

    difference: float  # the largest of a logit
    same: int  # digits that both classify alike
    accuracy: float  # of the file
    expected: float  # the accuracy of PyTorch
    digits: int


def export(
    network: Network, kind: str, output: Path, precision: str = "", opset: int | None = None
) -> Agreement:
    """Write `network` to `output` as a `kind` of FORMATS.

    Raises:
        OSError: `output` cannot be written.
        ValueError: The file written disagrees with PyTorch on the test digits, or the network's
            logits are not finite there; it is not kept.
    """
    precision = precision or next(iter(FORMATS[kind].tolerances))
    tolerance = FORMATS[kind].tolerances[precision]
    with written_whole(output) as partial:
        partial.touch()  # fails here where the exporters would fail in their own ways
        FORMATS[kind].write(network, partial, precision, opset)
        agreement = compare(network, partial, FORMATS[kind].run)
        difference, same, accuracy, expected, digits = agreement
        if not math.isfinite(difference):
            raise ValueError("the weights give logits that are not finite on MNIST's test digits")
        if tolerance is None and accuracy < expected - MAX_DROP:
            raise ValueError(
                f"--{precision} has {100 * accuracy:.2f} % test accuracy, PyTorch"
                f" {100 * expected:.2f} %"
            )
        if tolerance is not None and (difference > tolerance or same < digits):
            raise ValueError(
                f"--format {kind} disagrees with PyTorch: on {digits - same} of {digits:,} digits,"
                f" logits by {difference:.2g}"
            )
    return agreement


def compare(network: Network, path: Path, run: Callable[[Path, Tensor], Tensor]) -> Agreement:
    """A network and the file made of it, on all test digits."""
    images, labels = test_digits()
    differences, same, right, expected_right = [], 0, 0, 0
    with torch.inference_mode():
        batches = [*zip((images / 255).split(1000), labels.split(1000), strict=True)]
        # A page takes 40 seconds; no bar where nobody sees it.
        for batch, classes in tqdm(batches, "check", leave=False, disable=None, delay=1):
            expected, logits = network(batch), run(path, batch)
            differences.append((logits - expected).abs().max())
            digits, expected_digits = logits.argmax(dim=1), expected.argmax(dim=1)
            same += int((digits == expected_digits).sum())
            right += int((digits == classes).sum())
            expected_right += int((expected_digits == classes).sum())
    number = len(labels)
    difference = float(torch.stack(differences).max())  # nan if one is
    return Agreement(difference, same, right / number, expected_right / number, number)


def report(kind: str, found: Agreement) -> str:
    """What the check of a file found, in a line."""
    number = f"{found.digits:,} test digits"
    by = f", run in {javascript.engine()[0]}" if kind == "html" else ""
    if found.same == found.digits:
        return f"all {number} classified as by PyTorch{by}, logits within {found.difference:.1g}"
    return (
        f"{100 * found.accuracy:.2f} % test accuracy, by PyTorch {100 * found.expected:.2f} %;"
        f" {found.same:,} of {number} classified alike{by}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=command("export"),
        usage="%(prog)s --output FILE [options]",
        description="Export a trained DigitNet.",
    )
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="kind of file (onnx)")
    parser.add_argument(
        "--ckpt",
        "--ckpt_path",
        type=last_or_best,
        metavar="PATH",
        help="training checkpoint instead of the shipped weights",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", required=True, help="file to write")
    parser.add_argument("--opset", type=int, metavar="N", help="of ONNX (what torch.onnx takes)")
    precisions = parser.add_mutually_exclusive_group()
    for precision, meaning in (
        ("single", "32-bit weights (the default, but of html)"),
        ("half", "16-bit weights: of html, as default, and onnx"),
        ("int8", "8-bit weights and activations: of onnx"),
    ):
        precisions.add_argument(
            f"--{precision}",
            dest="precision",
            action="store_const",
            const=precision,
            default="",
            help=meaning,
        )
    args = parser.parse_args(arguments)
    offered = FORMATS[args.format].tolerances
    if args.precision not in ("", *offered):
        parser.error(f"--{args.precision}: --format {args.format} has --{', --'.join(offered)}")
    if args.opset is not None:
        if args.format != "onnx":
            parser.error("--opset: of --format onnx alone")
        if args.opset not in OPSETS:
            parser.error(f"--opset {args.opset}: it is {OPSETS[0]} to {OPSETS[-1]}")
    try:
        network = load_network(args.ckpt) if args.ckpt else load_pretrained()
    except (OSError, ValueError) as error:
        parser.error(f"--ckpt {args.ckpt}: {explain(error)}")
    try:
        found = export(network, args.format, args.output, args.precision, args.opset)
    except javascript.NoEngineError:
        sys.exit(
            "error: --format html is checked by running its JavaScript, which needs mini-racer:"
            f" {install('py_mini_racer')}"
        )
    except OSError as error:
        sys.exit(f"error: --output {args.output}: {explain(error)}")
    except ValueError as error:
        sys.exit(f"error: {error}")
    size = f"{args.output.stat().st_size / 1000:.1f} kB"
    print(f"{printable(str(args.output))}: {size}; {report(args.format, found)}")


if __name__ == "__main__":
    from mnist_lit.__main__ import guarded

    guarded(main)
