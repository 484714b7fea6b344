"""A trained network as one file for other programs: `python -m mnist_lit.export --output FILE`.

Three formats: `onnx` for ONNX Runtime and its like, `pt2` for `torch.export.load`, and `pt`, the
weights for `mnist_lit.weights.load_network`. Normalisation is inside, the batch size is free, the
input `images` is (B, 1, 28, 28) in [0, 1] and the output `logits` is (B, 10). A file appears under
its name only after it has agreed with PyTorch on MNIST's whole test set.
"""

import argparse
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from mnist_lit import __version__, load_pretrained
from mnist_lit.assets import test_digits
from mnist_lit.errors import explain
from mnist_lit.files import discard_partial, written_whole
from mnist_lit.network import Network
from mnist_lit.weights import load_network

TOLERANCE = 1e-4  # of a logit; float32 sums in another order differ by less
DESCRIPTION = (
    "classifies one handwritten digit. images: (B, 1, 28, 28) float32 in [0, 1], white on black, as"
    " in MNIST; logits: (B, 10) float32, the largest is the digit's."
)


@contextmanager
def quiet() -> Iterator[None]:
    """Hides the exporters' warnings, which are about their own workings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def ended_cleanly() -> Iterator[None]:
    """SIGTERM and Ctrl-C end the process as they would, but what is written in part goes first.

    At once, not by an exception: the libraries called here may swallow one that comes at any place.
    """

    def end(number: int, _: object) -> None:
        discard_partial()
        os._exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def export_onnx(network: Network, path: Path) -> None:
    import onnx

    with quiet():
        program = torch.onnx.export(
            network,
            (example(),),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        node.ClearField("metadata_props")  # paths of the exporting machine
    model.producer_name, model.producer_version = "mnist_lit", __version__
    model.doc_string = f"{type(network).__name__} {DESCRIPTION}"
    onnx.helper.set_model_props(
        model,
        {
            "parameters": str(network.parameter_count),
            "license": "MIT",
            "classes": "0,1,2,3,4,5,6,7,8,9",
        },
    )
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def run_onnx(path: Path, images: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [logits] = session.run(["logits"], {"images": images.numpy()})
    return torch.from_numpy(logits)


def export_pt2(network: Network, path: Path) -> None:
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


def export_pt(network: Network, path: Path) -> None:
    content = io.BytesIO()
    # As in a checkpoint, because the weights do not tell the margin and TTA.
    torch.save({"state_dict": network.state_dict(), "hyper_parameters": network.settings}, content)
    path.write_bytes(content.getvalue())


def run_pt(path: Path, images: Tensor) -> Tensor:
    logits: Tensor = load_network(path)(images)
    return logits


FORMATS = {
    "onnx": (export_onnx, run_onnx),
    "pt2": (export_pt2, run_pt2),
    "pt": (export_pt, run_pt),
}


def example() -> Tensor:
    return torch.rand(2, 1, 28, 28)  # two: a batch of one would be taken for a fixed size


def export(network: Network, kind: str, output: Path) -> float:
    """Write `network` to `output` as a `kind` of FORMATS -> largest difference of a logit.

    Raises:
        OSError: `output` cannot be written.
        ValueError: The file written disagrees with PyTorch on the test digits; it is not kept.
    """
    write, run = FORMATS[kind]
    with written_whole(output) as partial:
        partial.touch()  # fails here where the exporters would fail in their own ways
        write(network, partial)
        images, _ = test_digits()
        largest, same = 0.0, True
        with torch.inference_mode():
            for batch in (images / 255).split(1000):
                expected, logits = network(batch), run(partial, batch)
                largest = max(largest, float((logits - expected).abs().max()))
                same &= torch.equal(logits.argmax(dim=1), expected.argmax(dim=1))
        if largest > TOLERANCE or not same:
            raise ValueError(f"--format {kind} disagrees with PyTorch: logits by {largest:.2g}")
    return largest


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m mnist_lit.export",
        usage="python -m mnist_lit.export --output FILE [options]",
        description="Export a trained DigitNet.",
    )
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="kind of file (onnx)")
    parser.add_argument(
        "--ckpt",
        "--ckpt_path",
        metavar="PATH",
        help="training checkpoint instead of the shipped weights",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", required=True, help="file to write")
    args = parser.parse_args(arguments)
    try:
        network = load_network(args.ckpt) if args.ckpt else load_pretrained()
    except (OSError, ValueError) as error:
        parser.error(f"--ckpt {args.ckpt}: {explain(error)}")
    try:
        with ended_cleanly():
            difference = export(network, args.format, args.output)
    except ModuleNotFoundError as error:
        sys.exit(f"error: --format onnx needs {error.name}: pip install 'mnist_lit[export]'")
    except OSError as error:
        sys.exit(f"error: --output {args.output}: {explain(error)}")
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(
        f"{args.output}: {args.output.stat().st_size / 1000:.1f} kB; all 10,000 test digits"
        f" classified as by PyTorch, logits within {difference:.1g}"
    )


if __name__ == "__main__":
    main()
