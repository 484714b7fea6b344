"""An ONNX model of any operator set and precision: its size, and what it computes."""

from pathlib import Path

import onnx
import pytest
import torch

from mnist_lit import load_pretrained
from mnist_lit.assets import test_digits as embedded_test_digits
from mnist_lit.onnx_model import OPSETS, run_onnx, write_onnx


@pytest.mark.parametrize(
    ("precision", "opset", "kilobytes", "tolerance"),
    [
        ("single", OPSETS[0], 85, 1e-4),
        pytest.param("single", OPSETS[-1], 85, 1e-4, marks=pytest.mark.slow),
        ("half", None, 50, 0.05),
        ("int8", None, 45, 1),
    ],
)
def test_it_is_small_and_classifies_alike(
    precision: str, opset: int | None, kilobytes: int, tolerance: float, tmp_path: Path
) -> None:
    path, network = tmp_path / "net.onnx", load_pretrained()
    write_onnx(network, path, precision, opset)
    assert path.stat().st_size < 1000 * kilobytes
    model = onnx.load(path)
    if opset:
        [version] = {entry.version for entry in model.opset_import if not entry.domain}
        assert version == opset
    types = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4}
    kinds = {"single": "FLOAT", "half": "FLOAT16", "int8": "INT8"}
    assert types == {onnx.TensorProto.DataType.Value(kinds[precision])}
    assert str(tmp_path.parent).encode() not in path.read_bytes()
    assert model.doc_string.startswith("DigitNet classifies")
    images = embedded_test_digits()[0][:200] / 255
    with torch.inference_mode():
        expected = network(images)
    logits = run_onnx(path, images)
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().max() < tolerance
    assert torch.equal(logits.argmax(dim=1), expected.argmax(dim=1))
