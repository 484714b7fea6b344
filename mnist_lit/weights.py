"""A network from a file that nobody trusts, and the trained one that comes with the package.

Nothing in such a file is executed, and none takes more memory than its size explains.
"""

import io
import os
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from mnist_lit.network import MAX_MARGIN, DigitNet, Network, TinyNet

MAX_BYTES = 100_000_000  # of a file of weights; a checkpoint of a fit has half a million
# What older versions called it -> today's name. Their files still load; a flag names the new one.
OLD_SETTINGS = {"average": "ema_decay", "crops": "tta"}
OLD_TTA = {1: False, 5: True}  # crops -> tta


def load_network(path: str | Path) -> Network:
    """A network in evaluation mode from a file of its weights or from a training checkpoint.

    Nothing in the file is executed.

    Raises:
        OSError: The file cannot be opened.
        ValueError: The file does not hold the weights of a DigitNet or TinyNet.
    """
    return network_from(load_safely(path))


def load_safely(path: str | Path) -> Any:
    """What `torch.save` put into a file, as plain tensors and containers; nothing is executed.

    Raises:
        OSError: The file cannot be opened.
        ValueError: It holds something else, is damaged, or is larger than it can be.
    """
    with open(path, "rb") as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the pickle protocol of foreign files
                content = torch.load(_unpacked(file), map_location="cpu", weights_only=True)
            if sum(tensor.numel() for tensor in _tensors(content)) > MAX_BYTES / 4:
                raise ValueError("too large")  # a single number may claim to be a large tensor
            return _in_new_names(content)
        except Exception as error:  # arbitrary bytes make the unpickler raise arbitrary errors
            raise ValueError("not a file of weights that can be read safely") from error


def _unpacked(file: BinaryIO) -> BinaryIO:
    """The zip archive that torch wrote, with all parts at the size that its directory tells.

    torch would unpack a small file to whatever it holds.
    """
    if file.seek(0, os.SEEK_END) > MAX_BYTES:
        raise ValueError("too large")
    file.seek(0)
    if not zipfile.is_zipfile(file):
        file.seek(0)
        return file  # torch's format before 1.6
    unpacked = io.BytesIO()
    with zipfile.ZipFile(file) as parts, zipfile.ZipFile(unpacked, "w") as copy:
        if sum(part.file_size for part in parts.infolist()) > MAX_BYTES:
            raise ValueError("too large")
        for name in parts.namelist():
            copy.writestr(name, parts.read(name))
    unpacked.seek(0)
    return unpacked


def _tensors(content: Any) -> Iterator[Tensor]:
    """The tensors in nested containers, each once."""
    waiting, seen = [content], set()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list | tuple | set):
            waiting += item


def _in_new_names(content: Any) -> Any:
    """What a file holds, with the names of an older version replaced by today's.

    Only where everything around a name is what it was then; what is not is refused later.
    """

    def parts(container: Any, *names: str) -> list[dict[Any, Any]]:
        """The dictionaries at container[name][name]..., all there are where a name is '*'."""
        found = [container]
        for name in names:
            inside = [item for item in found if isinstance(item, dict | list)]
            if name == "*":
                found = [
                    value
                    for item in inside
                    for value in (item.values() if isinstance(item, dict) else item)
                ]
            else:
                found = [item[name] for item in inside if isinstance(item, dict) and name in item]
        return [item for item in found if isinstance(item, dict)]

    def rename(item: dict[Any, Any], names: dict[str, str]) -> None:
        for old in names.keys() & item.keys():
            item[names[old]] = item.pop(old)

    for settings in parts(content, "hyper_parameters"):
        if "crops" in settings:
            crops = settings["crops"]
            settings["crops"] = OLD_TTA.get(crops) if type(crops) is int else None
        rename(settings, OLD_SETTINGS)
    for weights in parts(content, "state_dict"):
        old = [name for name in weights if isinstance(name, str) and name.startswith("averaged.")]
        rename(weights, {name: name.replace("averaged.", "ema.", 1) for name in old})
    for state in parts(content, "optimizer_states", "*", "state", "*"):  # Muon's
        vector = {"average": "exp_avg", "square": "exp_avg_sq"}
        rename(state, vector if "square" in state else {"average": "momentum_buffer"})
    for best in parts(content, "callbacks", "Pictures", "best"):
        rename(best, {"misread": "errors"})
    return content


def network_from(content: Any) -> Network:
    """A network in evaluation mode from its weights or from the content of a checkpoint.

    Its class, `narrow` and `wide` are read from the weights themselves, `margin` and `tta` from the
    settings beside them, if there are any; of a checkpoint, the EMA of the weights is taken.

    Raises:
        ValueError: These are not the weights of a DigitNet or TinyNet.
    """
    try:
        weights = content.get("state_dict", content)
        ema = "ema.module."
        if any(name.startswith(ema) for name in weights):
            weights = {
                name.removeprefix(ema): tensor
                for name, tensor in weights.items()
                if name.startswith(ema)
            }
        tiny = "stage1.0.conv.weight" in weights
        narrow = weights["stage1.0.conv.weight" if tiny else "input.conv.weight"].shape[0]
        wide = 1 if tiny else weights["conv1.conv.weight"].shape[0]
        if min(narrow, wide) < 1:
            raise ValueError("no channels")
        settings = content.get("hyper_parameters")
        if not isinstance(settings, dict):
            settings = {}
        margin, tta = settings.get("margin", 0), settings.get("tta", False)
        if type(margin) is not int or not 0 <= margin <= MAX_MARGIN:
            raise ValueError("no such margin")
        if type(tta) is not bool:
            raise ValueError("test-time augmentation is neither on nor off")
        with torch.device("meta"):  # no memory is taken on the word of a file
            network: Network = (
                TinyNet(narrow, margin=margin, tta=tta)
                if tiny
                else DigitNet(narrow, wide, margin=margin, tta=tta)
            )
        network.load_state_dict(weights, assign=True)
        network.requires_grad_(False).float().eval()  # from half the precision, too
        if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
            raise ValueError("weights that are not finite")
        if not network(torch.zeros(1, 1, 28, 28)).isfinite().all():
            raise ValueError("a negative variance")
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError("not the weights of a DigitNet or TinyNet") from error
    return network
