"""The page as one file: its markup, style and scripts, a network's weights and a few digits.

Nothing in the file asks the network for anything, and its content security policy lets nothing do
so: it has no address but, with a server, its own, and only the scripts and styles whose hashes it
names. The forward pass is assets/page/network.js, tested against PyTorch by export.py. The scripts
are deflated, with their comments; a browser's developer tools show them as they are.

`MODEL` in the page: `blocks`, the convolutions in their order, each with `inputs`, `outputs`,
kernel `size`, `dilation` and `activation`, whether it is depthwise (each channel by itself, so one
input, as the first half of a separable one), whether it is pooled and which block's output is added
before; `weights` of all, BatchNorm folded in; `numbers`, the scale and the bias of each channel of
each block; `margin` and `tta`; and in `detector` the same of the detector, with the numbers that
sureness.py has. In half precision a weight is a whole number of 13 bits, times its channel's scale:
as near as a 16-bit float is, in two characters.
"""

import base64
import hashlib
import json
import re
import zlib
from typing import Any

import torch
from torch import Tensor

from mnist_lit.assets import FILES, training_digits
from mnist_lit.network import ConvBlock, DigitNet, Network, TinyNet
from mnist_lit.sureness import LEAST, load_detector, temperature_of

SCRIPTS = (  # in the order of their use
    *("network.js", "planes.js", "ink.js", "parts.js", "seams.js", "views.js", "reading.js"),
    *("strokes.js", "pad.js", "kept.js", "images.js", "photos.js", "inside.js"),
    "page.js",
)
FILE = "//# file"  # a line before each of them
UNPACK = """
const needed = document.querySelector("noscript").textContent
if (!self.DecompressionStream) document.querySelector("#where").append(needed)
else new Response(new Blob([Uint8Array.from(atob(PACKED), letter => letter.charCodeAt(0))]).stream()
  .pipeThrough(new DecompressionStream("deflate"))).text().then(text => {
    const script = document.createElement("script")
    script.textContent = text
    document.body.append(script)
  })
"""
SAMPLES = 2  # of each digit
# What a text in a script may have as it is: 91 characters, two for a number of 91 x 91.
CHARACTERS = [chr(code) for code in range(33, 127) if chr(code) not in '"<\\']
MOST = len(CHARACTERS) ** 2 // 2  # of a weight in half precision


def bundle(network: Network, half: bool = True, server: bool = False) -> str:
    """The page with a network in it -> its HTML.

    Args:
        half: The weights in half precision, at half the size.
        server: The page is served by demo.py, and may ask it.
    """
    files = FILES / "page"
    model = json.dumps(model_of(network, half), separators=(",", ":"))
    digits = json.dumps(samples(), separators=(",", ":"))
    scripts = "".join(f"{FILE} {name}\n{(files / name).read_text('utf-8')}" for name in SCRIPTS)
    packed = base64.b64encode(zlib.compress(scripts.encode(), 9)).decode()
    parts = {
        "PARAMETERS": f"{network.parameter_count:,}",
        "/*STYLE*/": re.sub(r"\n\s*", "\n", (files / "page.css").read_text("utf-8")),
        "/*WEIGHTS*/": f"const MODEL = {model}",
        "/*SAMPLES*/": f"const SAMPLES = {digits}, SERVER = {json.dumps(server)}",
        "/*SCRIPTS*/": f'const PACKED = "{packed}"\n{UNPACK}',
    }
    template = re.sub(r"\n\s*", "\n", (files / "page.html").read_text("utf-8"))
    places = "|".join(map(re.escape, parts))
    page = re.sub(places, lambda place: parts[place.group()], template)
    charset = '<meta charset="utf-8">'
    return page.replace(charset, f"{charset}\n{policy(page, server)}", 1)


def scripts_of(page: str) -> dict[str, str]:
    """HTML -> its scripts: `data`, with MODEL and SAMPLES, then those of SCRIPTS."""
    *data, loader = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    texts = re.split(f"^{FILE} (.*)\n", _unpacked(loader), flags=re.MULTILINE)
    return {"data": "\n".join(data), **dict(zip(texts[1::2], texts[2::2], strict=True))}


def _unpacked(loader: str) -> str:
    [packed] = re.findall('PACKED = "(.*?)"', loader)
    return zlib.decompress(base64.b64decode(packed)).decode()


def policy(page: str, server: bool = False) -> str:
    """HTML -> the <meta> with which it may run its own scripts and styles, and nothing else."""
    scripts, styles = (
        re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL) for tag in ("script", "style")
    )
    rules = {
        "default-src": "'none'",
        "script-src": _hashes([*scripts, _unpacked(scripts[-1])]),
        "style-src": _hashes(styles),
        "img-src": "blob: data:",
        "connect-src": "'self'" if server else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    content = "; ".join(" ".join(rule) for rule in rules.items())
    return f'<meta http-equiv="Content-Security-Policy" content="{content}">'


def _hashes(texts: list[str]) -> str:
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in texts]
    return " ".join(f"'sha256-{digest.decode()}'" for digest in digests)


def model_of(network: Network, half: bool) -> dict[str, Any]:
    """What the page calls MODEL."""
    return {
        "kind": type(network).__name__,
        "parameters": network.parameter_count,
        "tta": network.tta,
        "temperature": temperature_of(network),
        "least": LEAST,
        "detector": _layers(load_detector(), half),
        **_layers(network, half),
    }


def _layers(network: Network, half: bool) -> dict[str, Any]:
    """The part of MODEL that says what a network computes."""
    blocks, weights, numbers = [], list[Tensor](), list[Tensor]()
    for name, block, more in _blocks(network):
        for weight, bias, what in _convolutions(block):
            outputs, inputs, size = weight.shape[:3]
            shape = {"inputs": inputs, "outputs": outputs, "size": size}
            blocks.append({"name": name, **shape, **what})
            most = weight.abs().amax(dim=(1, 2, 3))
            scale = (most / MOST).clamp(min=1e-30) if half else torch.ones_like(most)
            weights.append((weight / scale[:, None, None, None]).flatten())
            numbers += [scale, bias]
        blocks[-1] |= more
    flat = torch.cat(weights)
    return {
        "margin": network.margin,
        "half": half,
        "blocks": blocks,
        "weights": _two_characters(flat) if half else _base64(flat),
        "numbers": _base64(torch.cat(numbers)),
    }


def _two_characters(numbers: Tensor) -> str:
    """Numbers from -MOST to MOST, rounded, as text: for each its two digits in base 91."""
    base = len(CHARACTERS)
    whole = (numbers.round().long() + MOST).tolist()
    return "".join(CHARACTERS[number // base] + CHARACTERS[number % base] for number in whole)


def _base64(numbers: Tensor) -> str:
    return base64.b64encode(numbers.numpy().astype("<f4").tobytes()).decode()


def _blocks(network: Network) -> list[tuple[str, Any, dict[str, Any]]]:
    """A network's layers in their order, with their names and what follows the activation."""
    if isinstance(network, DigitNet):
        after: dict[str, dict[str, Any]]
        after = {"transition1": {"pool": True, "add": 0}, "transition2": {"pool": True}}
        names = ("input", "conv1", "transition1", "conv2", "transition2", "conv3", "output")
        return [(name, getattr(network, name), after.get(name, {})) for name in names]
    assert isinstance(network, TinyNet)
    blocks = list[tuple[str, Any, dict[str, Any]]]()
    for name in ("stage1", "stage2", "stage3"):
        for i, block in enumerate(getattr(network, name)):
            blocks.append((f"{name}.{i}", block, {"pool": True} if i and name != "stage3" else {}))
    return [*blocks, ("output", network.output, {})]  # before the mean is as good as after it


def _convolutions(block: Any) -> list[tuple[Tensor, Tensor, dict[str, Any]]]:
    """A block -> of each of its convolutions weights, biases, and what the page wants to know.

    The weights are (out, in, size, size), or (out, 1, size, size) if it is depthwise, and the
    biases (out,), with BatchNorm in those of the last one.
    """
    if not isinstance(block, ConvBlock):  # a linear layer
        return [(block.weight[:, :, None, None], block.bias, {"dilation": 1, "activation": "none"})]
    norm = block.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    *before, weight = block.conv.parameters()  # of a separable convolution two
    what = {"dilation": block.dilation, "activation": "none", "depthwise": True}
    found = [(each, each.new_zeros(len(each)), what) for each in before]
    bias = norm.bias - norm.running_mean * scale
    what = {"dilation": block.dilation, "activation": block.activation}
    return [*found, (weight * scale[:, None, None, None], bias, what)]


def samples() -> list[dict[str, Any]]:
    """Training digits of each kind: `digit` and `pixels`, its 15 levels as letters.

    Between them stands how many pixels are black.
    """
    images, labels = training_digits(200)
    found = []
    for digit in range(10):
        for image in images[labels == digit][:SAMPLES]:
            letters = [chr(96 + round(level / 17)) for level in image.flatten().tolist()]
            text = re.sub("`+", lambda blacks: str(len(blacks.group())), "".join(letters))
            found.append({"digit": digit, "pixels": text})
    return found
