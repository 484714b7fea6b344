"""A network from a file that nobody trusts: its kind and sizes, and whether it can classify."""

from pathlib import Path
from typing import Any

import torch

from mnist_lit.assets import first_test_digit
from mnist_lit.network import MAX_CHANNELS, MAX_MARGIN, DigitNet, Network, TinyNet
from mnist_lit.trust import load_safely

MAX_LOGIT = 1e6  # a fitted network's are below 100, and the largest float32 is 3e38
# What older versions called it -> today's name. Their files still load; a flag names the new one.
OLD_SETTINGS = {"average": "ema_decay", "crops": "tta"}
OLD_TTA = {1: False, 5: True}  # crops -> tta


def load_network(path: str | Path, classes: int = 10) -> Network:
    """A network in evaluation mode from a file of its weights or from a training checkpoint.

    Nothing in the file is executed.

    Args:
        path: Of the file.
        classes: Logits that it must have.

    Raises:
        OSError: The file cannot be opened.
        ValueError: The file does not hold the weights of a DigitNet or TinyNet.
    """
    return network_from(load_checkpoint(path), classes)


def load_checkpoint(path: str | Path) -> Any:
    """What a file of weights or a checkpoint holds, under today's names; nothing is executed.

    Raises:
        OSError: The file cannot be opened.
        ValueError: It holds more than plain values and tensors, or is damaged.
    """
    return _in_new_names(load_safely(path))


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


def network_from(content: Any, classes: int = 10) -> Network:
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
        wide = weights["stage3.1.conv.1.weight" if tiny else "conv1.conv.weight"].shape[0]
        if not (1 <= narrow <= MAX_CHANNELS and 1 <= wide <= MAX_CHANNELS):
            raise ValueError("no such number of channels")
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
                TinyNet(narrow, wide, margin=margin, tta=tta)
                if tiny
                else DigitNet(narrow, wide, margin=margin, tta=tta, classes=classes)
            )
        network.load_state_dict(weights, assign=True)
        network.requires_grad_(False).float().eval()  # from half the precision, too
        if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
            raise ValueError("weights that are not finite")
        digit = first_test_digit() / 255
        logits = network(torch.stack([digit, torch.zeros_like(digit), torch.ones_like(digit)]))
        if not (logits.abs() < MAX_LOGIT).all():  # nan is not, either
            raise ValueError("logits out of all bounds")
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError("not the weights of a DigitNet or TinyNet") from error
    return network
