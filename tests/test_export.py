"""Exported files agree with PyTorch, say what they are, and appear only when they are right."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from conftest import MNIST_LIT, Survived

from mnist_lit import export as exporting
from mnist_lit import load_pretrained
from mnist_lit.assets import first_test_digit
from mnist_lit.assets import test_digits as embedded_test_digits
from mnist_lit.export import export, main
from mnist_lit.network import DigitNet, Network
from mnist_lit.sureness import load_judge
from mnist_lit.weights import load_network


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "digitnet.onnx"
    images, labels = embedded_test_digits()
    with pytest.MonkeyPatch.context() as patch:  # the slow test below takes all 10,000
        patch.setattr(exporting, "test_digits", lambda: (images[:500], labels[:500]))
        assert export(load_pretrained(), "onnx", path).difference < 1e-4
    return path


def test_onnx_is_small_and_says_what_it_is(onnx_file: Path) -> None:
    assert onnx_file.stat().st_size < 100_000
    assert [path.name for path in onnx_file.parent.iterdir()] == [onnx_file.name]
    model = onnx.load(onnx_file)
    assert model.producer_name == "mnist_lit"
    assert "[0, 1]" in model.doc_string
    assert model.doc_string.startswith("DigitNet classifies one handwritten digit")
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["parameters"] == "17506"
    assert str(Path(__file__).parent.parent).encode() not in onnx_file.read_bytes()


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_onnx_classifies_any_number_of_digits_as_pytorch_does(onnx_file: Path, batch: int) -> None:
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    images = embedded_test_digits()[0][:batch] / 255
    [logits] = session.run(["logits"], {"images": images.numpy()})
    with torch.inference_mode():
        expected = load_pretrained()(images)
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-4, rtol=0)
    assert torch.equal(torch.from_numpy(logits).argmax(dim=1), expected.argmax(dim=1))


@pytest.mark.slow
def test_onnx_classifies_the_whole_test_set_as_pytorch_does(onnx_file: Path) -> None:
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    network = load_pretrained()
    for images in (embedded_test_digits()[0] / 255).split(1000):  # at once they take 16 GB with TTA
        [logits] = session.run(["logits"], {"images": images.numpy()})
        with torch.inference_mode():
            expected = network(images)
        torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-4, rtol=0)
        assert torch.equal(torch.from_numpy(logits).argmax(dim=1), expected.argmax(dim=1))


@pytest.fixture
def few_test_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """An export is checked on 200 test digits instead of all 10,000."""
    images, labels = embedded_test_digits()
    monkeypatch.setattr(exporting, "test_digits", lambda: (images[:200], labels[:200]))


@pytest.mark.usefixtures("few_test_digits")
def test_pt2_and_pt_agree_exactly(tmp_path: Path) -> None:
    images = embedded_test_digits()[0][:5] / 255
    torch.manual_seed(0)
    network = DigitNet(narrow=4, wide=6, margin=2, tta=True).eval()  # unlike the shipped one
    for kind in ("pt2", "pt"):
        assert export(network, kind, tmp_path / f"net.{kind}").difference <= 1e-4
    expected = network(images)
    pt2 = torch.export.load(tmp_path / "net.pt2").module()
    torch.testing.assert_close(pt2(images), expected)
    assert torch.equal(load_network(tmp_path / "net.pt")(images), expected)


@pytest.mark.usefixtures("few_test_digits")
def test_a_file_that_disagrees_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_another(network: Network, path: Path, *_: object) -> None:
        exporting.write_pt(DigitNet(network.settings["narrow"]), path)

    another = exporting.FORMATS["pt"]._replace(write=write_another)
    monkeypatch.setitem(exporting.FORMATS, "pt", another)
    output = tmp_path / "net.pt"
    output.write_text("of before")
    with pytest.raises(ValueError, match="--format pt disagrees with PyTorch"):
        export(load_pretrained(), "pt", output)
    assert output.read_text() == "of before"
    assert list(tmp_path.iterdir()) == [output]


def nan_on_some_digits() -> DigitNet:
    """A network whose logits are finite where a file of weights is looked at, and nan elsewhere."""
    torch.manual_seed(1)
    network = DigitNet(8, 8).eval()
    digit = first_test_digit() / 255
    seen = torch.stack([digit, torch.zeros_like(digit), torch.ones_like(digit)])
    weights = network.state_dict()
    with torch.no_grad():
        found = network.input.norm(network.input.conv(network.normalize(seen)))
        weights["input.norm.bias"] -= found.amax(dim=(0, 2, 3)) + 1e-3  # the ReLU lets none pass
        weights["conv1.conv.weight"].sign_().mul_(3e38)
    assert network(seen).isfinite().all()
    return network


@pytest.mark.usefixtures("few_test_digits")
def test_weights_that_give_nan_are_not_exported(tmp_path: Path) -> None:
    output, network = tmp_path / "net.pt", nan_on_some_digits()
    assert not network(embedded_test_digits()[0][:200] / 255).isfinite().all()
    with pytest.raises(ValueError, match="not finite"):
        export(network, "pt", output)
    assert not output.exists()


def test_weights_that_give_nan_are_not_used_to_predict(tmp_path: Path) -> None:
    torch.save(nan_on_some_digits().state_dict(), tmp_path / "nan.pt")
    load_network(tmp_path / "nan.pt")  # is looked at with one digit
    with pytest.raises(ValueError, match="not finite"):
        load_judge(tmp_path / "nan.pt")


@pytest.mark.usefixtures("few_test_digits")
def test_a_page_that_disagrees_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("py_mini_racer")
    main(["--format", "html", "--output", str(tmp_path / "digits.html")])
    said = capsys.readouterr().out
    assert "all 200 test digits classified as by PyTorch, run in V8, logits within 0.0" in said
    whole = exporting.bundle

    def with_another_margin(network: Network, half: bool) -> str:
        return whole(network, half).replace('"margin":2', '"margin":1')

    monkeypatch.setattr(exporting, "bundle", with_another_margin)
    with pytest.raises(ValueError, match="--format html disagrees with PyTorch"):
        export(load_pretrained(), "html", tmp_path / "another.html")
    assert [path.name for path in tmp_path.iterdir()] == ["digits.html"]


@pytest.mark.usefixtures("few_test_digits")
def test_int8_that_classifies_worse_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_worse(network: Network, path: Path, *_: object) -> None:
        exporting.write_pt(DigitNet(network.settings["narrow"]), path)  # not trained

    int8 = exporting.FORMATS["pt"]._replace(write=write_worse, tolerances={"int8": None})
    monkeypatch.setitem(exporting.FORMATS, "pt", int8)
    with pytest.raises(ValueError, match=r"^--int8 has \d+.\d\d % test accuracy, PyTorch \d+"):
        export(load_pretrained(), "pt", tmp_path / "net.pt", "int8")
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(exporting.FORMATS, "pt", int8._replace(write=exporting.write_pt))
    found = export(load_pretrained(), "pt", tmp_path / "net.pt", "int8")
    assert (found.same, found.accuracy) == (found.digits, found.expected)


@pytest.mark.slow
def test_the_page_classifies_the_whole_test_set_as_pytorch_does(tmp_path: Path) -> None:
    pytest.importorskip("py_mini_racer")
    found = export(load_pretrained(), "html", tmp_path / "digits.html", "half")
    assert found.same == found.digits == 10_000
    assert found.difference < 0.05


@pytest.mark.usefixtures("few_test_digits")
def test_the_page_in_single_precision_differs_less(tmp_path: Path) -> None:
    pytest.importorskip("py_mini_racer")
    found = export(load_pretrained(), "html", tmp_path / "digits.html", "single")
    assert found.same == found.digits == 200
    assert found.difference < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["half", "int8"])
def test_onnx_of_less_precision_keeps_its_accuracy(precision: str, tmp_path: Path) -> None:
    found = export(load_pretrained(), "onnx", tmp_path / "net.onnx", precision)
    assert found.accuracy >= found.expected - exporting.MAX_DROP
    assert found.same >= (10_000 if precision == "half" else 9_980)


def call(*arguments: str) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["export", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
    return exit_.value.code


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "--output"),
        (("--output", "x", "--format", "tflite"), "--format"),
        (("--output", "x", "--format", "pt", "--half"), "--half: --format pt has --single"),
        (("--output", "x", "--half", "--int8"), "--int8: not allowed with argument --half"),
        (("--output", "x", "--opset", "3"), "--opset 3: it is 18 to 21"),
        (("--output", "x", "--format", "html", "--opset", "20"), "--opset: of --format onnx"),
        (("--output", "x", "--ckpt", "missing.ckpt"), "--ckpt missing.ckpt: No such file"),
        (("--output", "x", "--ckpt", __file__), "not a file of weights that can be read safely"),
    ],
)
def test_wrong_flags_are_named(
    arguments: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str], survived: Survived
) -> None:
    assert call(*arguments) == 2
    error = capsys.readouterr().err
    assert named in error
    assert len(error.splitlines()) <= 2
    survived("wrong usage")


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_export_that_is_ended_leaves_nothing(
    number: signal.Signals, tmp_path: Path, survived: Survived
) -> None:
    command = [MNIST_LIT, "export", "--format", "pt"]
    with subprocess.Popen(
        [*command, "--output", tmp_path / "net.pt"], stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not any(tmp_path.iterdir()):
            assert time.monotonic() < deadline
        process.send_signal(number)
        assert process.wait(30) == 128 + number
        assert process.stderr
        assert process.stderr.read() == ("interrupted\n" if number == signal.SIGINT else "")
    assert not any(tmp_path.iterdir())
    survived("signal")


def test_a_folder_as_output_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (".", "..", "/"):
        said = call("--output", folder, "--format", "pt")
        assert said == f"error: --output {folder}: Is a directory"


def test_an_unwritable_output_is_named(tmp_path: Path) -> None:
    output = tmp_path / "missing" / "net.pt"
    assert call("--output", str(output), "--format", "pt") == (
        f"error: --output {output}: No such file or directory"
    )
