"""A network as an ONNX model: of any operator set, in single or half precision or with int8.

`half` keeps weights and activations in 16 bits, by ONNX Runtime's converter; input and output stay
float32. `int8` quantizes both to 8 bits, with ranges calibrated on training digits (static
quantization, a scale for each output channel).
"""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnist_lit import __version__
from mnist_lit.assets import training_digits
from mnist_lit.network import Network

OPSETS = range(18, 22)  # from what torch.onnx writes to what every supported ONNX Runtime reads
CALIBRATED_ON = 500  # training digits
DESCRIPTION = (
    "classifies one handwritten digit. images: (B, 1, 28, 28) float32 in [0, 1], white on black, as"
    " in MNIST; logits: (B, 10) float32, the largest is the digit's."
)


def write_onnx(network: Network, path: Path, precision: str, opset: int | None = None) -> None:
    """Write `network` to `path` in a `precision` of single, half and int8.

    Args:
        opset: One of OPSETS; without, what torch.onnx takes.
    """
    import onnx

    model = _exported(network, opset)
    if precision == "half":
        model = _halved(model)
    elif precision == "int8":
        model = _quantized(model)
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
    """(B, 1, 28, 28) -> (B, 10) logits, by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [logits] = session.run(["logits"], {"images": images.numpy()})
    return torch.from_numpy(logits)


@contextmanager
def quiet() -> Iterator[None]:
    """Hides the exporters' warnings, which are about their own workings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def example() -> Tensor:
    return torch.rand(2, 1, 28, 28)  # two: a batch of one would be taken for a fixed size


def _exported(network: Network, opset: int | None) -> Any:
    with quiet():
        program = torch.onnx.export(
            network,
            (example(),),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _halved(model: Any) -> Any:
    import onnx_ir
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with quiet():
        halved = onnx_ir.from_proto(convert_float_to_float16(model, keep_io_types=True))
    halved.graph.sort()  # what it adds stands at the end
    return onnx_ir.to_proto(halved)


def _quantized(model: Any) -> Any:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class TrainingDigits(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter((training_digits(CALIBRATED_ON)[0] / 255).split(100))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch.numpy()}

    with tempfile.TemporaryDirectory() as folder, quiet():
        exported, before, after = (Path(folder) / f"{i}.onnx" for i in range(3))
        onnx.save(model, exported)
        quant_pre_process(exported, before, skip_symbolic_shape=True)
        quantize_static(
            before,
            after,
            TrainingDigits(),
            per_channel=True,
            activation_type=QuantType.QUInt8,  # with int8 weights the fastest here
            weight_type=QuantType.QInt8,
        )
        return onnx.load(after)
