"""The page is one file that asks for nothing, and its scripts compute what PyTorch computes."""

import base64
import copy
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from disguises import DISGUISES
from PIL import Image
from torch import Tensor

from mnist_lit import load_pretrained
from mnist_lit.assets import FILES
from mnist_lit.assets import test_digits as embedded_test_digits
from mnist_lit.bundle import SCRIPTS, bundle, samples, scripts_of
from mnist_lit.images import open_image
from mnist_lit.network import ConvBlock, DigitNet, Network, TinyNet
from mnist_lit.reading import Sight, look, read
from mnist_lit.sureness import LEAST, judge, load_judge

py_mini_racer = pytest.importorskip("py_mini_racer")

Page = Callable[[str, Any], Any]  # an expression of `given`, and that -> its value


def opened(network: Network, half: bool = True) -> Page:
    """The scripts of a page, without what needs a document."""
    racer = py_mini_racer.MiniRacer()
    scripts = scripts_of(bundle(network, half))
    for name in ("data", *SCRIPTS[: SCRIPTS.index("reading.js") + 1]):
        racer.eval(scripts[name])
    racer.eval("const reader = new DigitReader(MODEL)")

    def ask(expression: str, given: Any) -> Any:
        text = json.dumps(json.dumps(given))
        return json.loads(
            racer.eval(f"JSON.stringify((given => ({expression}))(JSON.parse({text})))")
        )

    return ask


@pytest.fixture(scope="module")
def page() -> Page:
    return opened(load_pretrained())


def trained_looking(network: Network) -> Network:
    """With BatchNorms that are not those of the start."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-0.5, 0.5, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            with torch.no_grad():
                module.weight.uniform_(0.5, 2, generator=generator)
                module.bias.uniform_(-0.5, 0.5, generator=generator)
    return network.eval().requires_grad_(False)


def logits_of(page: Page, images: Tensor) -> Tensor:
    count = len(images)
    found = page(
        f"Array.from(reader.logits(Float32Array.from(given), {count}))", images.flatten().tolist()
    )
    return torch.tensor(found).view(-1, 10)


@pytest.mark.parametrize(
    "network",
    [
        DigitNet(narrow=5, wide=7),
        DigitNet(narrow=4, wide=6, margin=3, tta=True),
        TinyNet(narrow=4, wide=9, tta=True),
        TinyNet(narrow=7, wide=5, margin=2),
    ],
    ids=["DigitNet", "DigitNet, margin, TTA", "TinyNet, TTA", "TinyNet, margin"],
)
def test_any_network_has_the_logits_of_pytorch(network: Network) -> None:
    torch.manual_seed(0)
    trained_looking(network)
    images = torch.cat([embedded_test_digits()[0][:3] / 255, torch.rand(2, 1, 28, 28)])
    expected = network(images)
    exact = logits_of(opened(network, half=False), images)
    torch.testing.assert_close(exact, expected, atol=2e-5, rtol=2e-5)
    near = logits_of(opened(network, half=True), images)
    assert 0 < (near - expected).abs().max() < 0.01


def test_the_shipped_network_classifies_as_in_pytorch(page: Page) -> None:
    images = embedded_test_digits()[0][:100] / 255
    with torch.inference_mode():
        expected = load_pretrained()(images)
    logits = logits_of(page, images)
    assert (logits - expected).abs().max() < 0.05
    assert torch.equal(logits.argmax(dim=1), expected.argmax(dim=1))


@pytest.mark.parametrize("kind", ["shipped", "another"])
def test_an_answer_is_as_sure_as_in_python(kind: str, page: Page) -> None:
    torch.manual_seed(1)  # another that is sure of some of these images, and not of others
    another = trained_looking(DigitNet(narrow=3, wide=4))
    ask = page if kind == "shipped" else opened(another)
    random = np.random.default_rng(0)
    images = (embedded_test_digits()[0][:40, 0] / 255).numpy()
    images[20:] = [np.rot90(image) for image in images[20:]]
    images[30:] = random.uniform(0, 0.5, (10, 28, 28)).astype(np.float32)
    expected = (load_judge() if kind == "shipped" else judge(another))(images)
    assert {row[10] < LEAST for row in expected} == {True, False}
    answers = ask(f"reader.read(Float32Array.from(given), {len(images)})", images.ravel().tolist())
    assert len(answers) == len(images)
    for answer, row in zip(answers, expected, strict=True):
        assert answer["digit"] == row[:10].argmax()
        assert np.abs(np.array(answer["probabilities"]) - row[:10]).max() < 0.01
        assert answer["sureness"] == pytest.approx(row[10], abs=0.01)
        assert answer["uncertain"] == (answer["sureness"] < LEAST)


@pytest.mark.parametrize("kind", ["DigitNet", "TinyNet"])
def test_maps_are_the_activations_of_each_block(kind: str, page: Page) -> None:
    torch.manual_seed(0)
    image = embedded_test_digits()[0][:1] / 255
    network = load_pretrained() if kind == "DigitNet" else trained_looking(TinyNet(3, 6))
    ask = page if kind == "DigitNet" else opened(network, half=False)
    expected: dict[str, Tensor] = {}
    hooks = [
        block.register_forward_hook(
            lambda _, __, output, name=name: expected.update({name: output})
        )
        for name, block in network.named_modules()
        if isinstance(block, ConvBlock)
    ]
    network.classify(network.normalize(image))
    for hook in hooks:
        hook.remove()
    maps = ask(
        "reader.maps(Float32Array.from(given)).map(map => ({...map, data: Array.from(map.data)}))",
        image.flatten().tolist(),
    )
    if kind == "TinyNet":  # its linear layer, pixel by pixel: their mean is the logits
        assert maps.pop()["name"] == "output"
    assert [one["name"] for one in maps] == list(expected)
    for one in maps:
        found = torch.tensor(one["data"]).view(one["channels"], one["height"], one["width"])
        torch.testing.assert_close(found, expected[one["name"]][0], atol=0.02, rtol=0.02)


@pytest.mark.parametrize("kind", ["DigitNet", "TinyNet"])
def test_saliency_is_the_gradient_times_the_pixel(kind: str) -> None:
    torch.manual_seed(0)
    network = load_pretrained() if kind == "DigitNet" else trained_looking(TinyNet(margin=1))
    ask = opened(network, half=False)  # rounded, a ReLU may be open that was just closed
    exact = copy.deepcopy(network).double()

    def saliency_at(pixels: Tensor, digit: int) -> Tensor:
        pixels = pixels.unsqueeze(0).clone().requires_grad_()
        logits = exact.classify(exact.normalize(pixels))[0]
        others = (logits.sum() - logits[digit]) / 9
        [gradient] = torch.autograd.grad(logits[digit] - others, pixels)
        return (gradient * pixels).flatten().detach()

    compared = 0
    for image in embedded_test_digits()[0][:40] / 255:
        digit, pixels = compared, image.double()
        expected = saliency_at(pixels, digit)
        rounded = (pixels * (1 + 1e-6 * torch.randn_like(pixels)) for _ in range(10))
        if any((saliency_at(r, digit) - expected).norm() > 1e-4 * expected.norm() for r in rounded):
            continue  # a ReLU or a tie so near that the rounding of single precision decides it
        given = image.flatten().tolist()
        found = torch.tensor(
            ask(f"Array.from(reader.saliency(Float32Array.from(given), {digit}))", given)
        )
        assert expected.norm() > 0
        assert (found - expected).norm() < 1e-3 * expected.norm()
        compared += 1
        if compared == 4:
            break
    assert compared == 4


def prepared(page: Page, file: bytes) -> tuple[Any, Any]:
    """What the page and Python make of an image file: lines of digits, or None for nothing."""
    image = open_image(io.BytesIO(file))
    colors = np.asarray(image.convert("RGBA"))
    lines = page(
        "(() => { try { return prepare({width: given.width, height: given.height, data:"
        " Uint8ClampedArray.from(given.text, letter => letter.charCodeAt(0))}, {reader}).lines.map("
        "line => line.map(digit => ({...digit, pixels: Array.from(digit.pixels)}))) }"
        " catch (error) { return null } })()",
        {
            "width": image.width,
            "height": image.height,
            "text": colors.tobytes().decode("latin-1"),
        },
    )
    try:
        # The page asks no page network for a second opinion of a number.
        alone = look(image)._replace(sight=Sight([], np.empty((0, 10), np.float32)))
        return lines, next(read(load_judge(), [alone]))
    except ValueError:
        return lines, None


def number_of(lines: Any) -> str:
    return "".join(str(digit["digit"]) for line in lines or [] for digit in line)


@pytest.mark.parametrize("name", ["as in MNIST", "280 pixels", "shadow", "black on nothing"])
def test_a_photo_is_prepared_as_by_python(name: str, page: Page) -> None:
    random = np.random.default_rng(0)
    for image in embedded_test_digits()[0][:3, 0]:
        digit = Image.fromarray(image.numpy())
        lines, reading = prepared(page, DISGUISES[name](digit, random))
        assert number_of(lines) == reading.number
        [[found]] = lines
        pixels = np.array(found["pixels"]).reshape(28, 28)
        assert np.abs(pixels - reading.least.pixels).mean() < 0.01
        box = np.array(found["box"]) - np.array(reading.least.box)
        assert np.abs(box).max() <= 0.03 * max(digit.size) * 10


def test_several_digits_are_found_in_their_order(page: Page) -> None:
    sheet = Image.new("L", (400, 220), 255)
    images, labels = embedded_test_digits()
    for i, place in enumerate([(20, 10), (150, 15), (290, 5), (60, 110), (210, 115)]):
        digit = Image.fromarray(255 - images[i, 0].numpy()).resize((90, 90))
        sheet.paste(digit, place)
    file = io.BytesIO()
    sheet.save(file, "PNG")
    lines, reading = prepared(page, file.getvalue())
    expected = "".join(map(str, labels[:5].tolist()))
    assert reading.lines == [expected[:3], expected[3:]]
    assert [number_of([line]) for line in lines] == reading.lines


def test_a_blank_page_is_refused(page: Page) -> None:
    file = io.BytesIO()
    Image.new("L", (100, 80), 200).save(file, "PNG")
    assert prepared(page, file.getvalue()) == (None, None)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))  # for processes to share
def test_five_hundred_photos_are_prepared_as_by_python(page: Page, part: int) -> None:
    images, kinds = embedded_test_digits()[0], list(DISGUISES.values())
    random, same, differences = np.random.default_rng(part), 0, []
    for i in range(250 * part, 250 * (part + 1)):
        digit = Image.fromarray(images[10 * i, 0].numpy())
        lines, reading = prepared(page, kinds[i % len(kinds)](digit, random))
        same += number_of(lines) == (reading.number if reading else "")
        if reading and len(number_of(lines)) == len(reading.number) == 1:
            pixels = np.array(lines[0][0]["pixels"]).reshape(28, 28)
            differences.append(float(np.abs(pixels - reading.least.pixels).mean()))
    print(f"{same} of 250 alike, pixels within {np.mean(differences):.4f}")
    assert same >= 245
    assert np.mean(differences) < 0.01


def test_the_page_is_one_small_file_that_allows_nothing_else() -> None:
    html = bundle(load_pretrained())
    assert len(html.encode()) < 300_000
    for asks in (r"\bsrc=", r"https?://(?!www\.w3\.org/)", r"@import", r"url\((?!['\"]?data:)"):
        assert not re.search(asks, html), asks
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', html)
    assert policy
    rules = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'none'"
    assert "unsafe" not in policy[1]
    scripts, styles = (
        re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL) for tag in ("script", "style")
    )
    assert (len(scripts), len(styles)) == (html.count("<script"), html.count("<style"))
    unpacked = "".join(
        f"//# file {name}\n{text}" for name, text in scripts_of(html).items() if name != "data"
    )
    for rule, texts in (("script-src", [*scripts, unpacked]), ("style-src", styles)):
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in texts]
        assert rules[rule] == " ".join(f"'sha256-{digest.decode()}'" for digest in digests)
    assert "style=" not in html
    assert not re.search(r"<[^>]*\son[a-z]+=", html)
    served = bundle(load_pretrained(), server=True)
    assert "connect-src 'self'" in served
    assert "SERVER = true" in served


def test_samples_are_training_digits(page: Page) -> None:
    found = samples()
    assert {sample["digit"] for sample in found} == set(range(10))
    unpacked = torch.tensor(page("given.map(sample => Array.from(samplePixels(sample)))", found))
    with torch.inference_mode():
        logits = load_pretrained()(unpacked.view(-1, 1, 28, 28) / 255)
    assert logits.argmax(dim=1).tolist() == [sample["digit"] for sample in found]


def test_the_scripts_have_no_name_in_common() -> None:
    texts = [text for name, text in scripts_of(bundle(load_pretrained())).items() if name != "data"]
    names = re.findall(
        r"^(?:async )?(?:function|class|const|let) (\w+)", "\n".join(texts), re.MULTILINE
    )
    assert len(names) > 100
    assert not [name for name, times in Counter(names).items() if times > 1]


def test_the_scripts_are_in_it_as_they_are() -> None:
    found = scripts_of(bundle(load_pretrained()))
    assert list(found) == ["data", *SCRIPTS]
    for name in SCRIPTS:
        assert found[name] == (FILES / "page" / name).read_text("utf-8")
