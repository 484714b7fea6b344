"""The page as one file: its markup, style and scripts, a network's weights and a few digits.

Nothing in the file asks the network for anything, and its content security policy lets nothing do
so: it has no address but, with a server, its own, and only the scripts and styles whose hashes it
names. The forward pass is assets/page/network.js, tested against PyTorch by export.py.

`MODEL` in the page: `blocks`, the convolutions in their order, each with `inputs`, `outputs`,
kernel `size`, `dilation` and `activation`, whether it is pooled and which block's output is added
before; `weights`, base64 of each block's weights and biases, BatchNorm folded in, and of what
judges how sure an answer is, in half or single precision; `margin`, `tta`, and the settings of
`sureness`.
"""

import base64
import hashlib
import json
import re
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnist_lit.assets import FILES, training_digits
from mnist_lit.network import ConvBlock, DigitNet, Network, TinyNet
from mnist_lit.sureness import Sureness

SCRIPTS = (  # in the order of their use
    *("network.js", "ink.js", "strokes.js", "pad.js", "kept.js", "photos.js", "inside.js"),
    "page.js",
)
SAMPLES = 2  # of each digit
LEVELS = 15  # of a sample's pixels, but 0: enough to look the same


def bundle(network: Network, half: bool = True, server: bool = False) -> str:
    """The page with a network in it -> its HTML.

    Args:
        half: The weights in half precision, at half the size.
        server: The page is served by demo.py, and may ask it.
    """
    files = FILES / "page"
    model = json.dumps(model_of(network, half), separators=(",", ":"))
    digits = json.dumps(samples(), separators=(",", ":"))
    parts = {
        "PARAMETERS": f"{network.parameter_count:,}",
        "/*STYLE*/": (files / "page.css").read_text("utf-8"),
        "/*WEIGHTS*/": f"const MODEL = {model}",
        "/*SAMPLES*/": f"const SAMPLES = {digits}, SERVER = {json.dumps(server)}",
        "/*SCRIPTS*/": "</script>\n<script>".join(
            without_comments((files / name).read_text("utf-8")) for name in SCRIPTS
        ),
    }
    page = (files / "page.html").read_text("utf-8")
    for placeholder, content in parts.items():
        page = page.replace(placeholder, content)
    charset = '<meta charset="utf-8">'
    return page.replace(charset, f"{charset}\n{policy(page, server)}", 1)


def scripts_of(page: str) -> list[str]:
    """HTML -> its scripts, in their order."""
    return re.findall("<script>(.*?)</script>", page, re.DOTALL)


def policy(page: str, server: bool = False) -> str:
    """HTML -> the <meta> with which it may run its own scripts and styles, and nothing else."""

    def hashes(tag: str) -> str:
        texts = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in texts]
        return " ".join(f"'sha256-{digest.decode()}'" for digest in digests)

    rules = {
        "default-src": "'none'",
        "script-src": hashes("script"),
        "style-src": hashes("style"),
        "img-src": "blob: data:",
        "connect-src": "'self'" if server else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    content = "; ".join(" ".join(rule) for rule in rules.items())
    return f'<meta http-equiv="Content-Security-Policy" content="{content}">'


def without_comments(script: str) -> str:
    """A script without its comment lines and what its lines are indented by."""
    lines = (line.strip() for line in script.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))


def model_of(network: Network, half: bool) -> dict[str, Any]:
    """What the page calls MODEL."""
    blocks, weights = [], list[Tensor]()
    for name, block, more in _blocks(network):
        weight, bias = _folded(block)
        outputs, inputs, size = weight.shape[:3]
        dilation = block.conv.dilation[0] if isinstance(block, ConvBlock) else 1
        activation = block.activation if isinstance(block, ConvBlock) else "none"
        shape = {"inputs": inputs, "outputs": outputs, "size": size, "dilation": dilation}
        blocks.append({"name": name, **shape, "activation": activation, **more})
        weights += [weight, bias]
    model = {"kind": type(network).__name__, "parameters": network.parameter_count}
    model |= {"margin": network.margin, "tta": network.tta, "half": half, "blocks": blocks}
    if fitted := Sureness(network).fitted:
        first, last = (torch.from_numpy(fitted[name]) for name in ("first", "last"))
        weights += [first, last]
        numbers = {name: float(fitted[name]) for name in ("temperature", "least")}
        model["sureness"] = {"clues": len(first) - 11, "hidden": len(last) - 1, **numbers}
    flat = torch.cat([tensor.detach().flatten() for tensor in weights]).numpy()
    model["weights"] = base64.b64encode(flat.astype("<f2" if half else "<f4").tobytes()).decode()
    return model


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


def _folded(block: Any) -> tuple[Tensor, Tensor]:
    """A block -> the weights (out, in, size, size) and biases (out) of it as one convolution."""
    if not isinstance(block, ConvBlock):  # a linear layer
        return block.weight[:, :, None, None], block.bias
    norm = block.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return block.conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


def samples() -> list[dict[str, Any]]:
    """Two training digits of each kind: `digit`, and `pixels`, base64 of pairs of 4-bit levels."""
    images, labels = training_digits(200)
    found = []
    for digit in range(10):
        for image in images[labels == digit][:SAMPLES]:
            levels = (image.numpy().ravel() * (LEVELS / 255)).round().astype(np.uint8)
            packed = levels[0::2] << 4 | levels[1::2]
            found.append({"digit": digit, "pixels": base64.b64encode(packed.tobytes()).decode()})
    return found
