"""Config files: recipes by their names, and what is taken of a config that the user did not name.

From the latter, which a resumed fit finds beside its checkpoint, plain settings alone are taken.
A config can name a class in any place where the Trainer or the model takes an object, and the file
of that class is imported, from the working folder, too. So a config is code. Only `--config` says
that somebody wants to run it; one that lies beside a checkpoint may be a stranger's.
"""

import json
import math
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

from jsonargparse import get_loader
from lightning.pytorch.utilities import rank_zero_only

from mnist_lit.errors import SettingError, explain
from mnist_lit.files import read_regular

MAX_BYTES = 100_000  # a fit's config has 2,000
WORD = re.compile(r"[\w:,+-]*")  # auto, bf16-mixed, 00:12:00:00; without a dot it names no module
PATH = re.compile(r"[^\x00-\x1f\x7f]*")
# The only ones that take a path, and no object.
PATHS = ("data.data_dir", "data.own_dir", "model.init_from")
# Objects of the Trainer, for which a word can stand, too.
OBJECTS = ("callbacks", "logger", "model_registry", "plugins", "profiler")
SECTIONS = ("seed_everything", "trainer", "model", "data", "stop")
PACKAGE = Path(__file__).parent
RECIPES = (PACKAGE / "configs", PACKAGE.parent / "configs")  # of the wheel; of a clone


def find_recipe(name: str) -> str:
    """`fast` or `fast.yaml` -> the recipe of that name in the package; a file that there is wins.

    Raises:
        SettingError: There is neither.
    """
    for path in (Path(name), Path(f"{name}.yaml")):
        if path.exists():
            return str(path)
    found = {path.stem: path for folder in RECIPES for path in folder.glob("*.yaml")}
    if name.removesuffix(".yaml") in found:
        return str(found[name.removesuffix(".yaml")])
    raise SettingError(
        f"--config {name}: no such file; the recipes in the package are {', '.join(sorted(found))}"
    )


def as_config(config: Path) -> str:
    """The plain settings in it, for `--config`; what is left out is said on standard error.

    Raises:
        SettingError: It cannot be read, or is no YAML.
    """
    settings, left_out = plain_settings(config)
    if left_out and getattr(rank_zero_only, "rank", 0) == 0:
        names = textwrap.shorten(", ".join(left_out), 500)
        print(f"left out of {config}: {names} (--config {config} runs it)", file=sys.stderr)
    return json.dumps(settings)


def plain_settings(config: Path) -> tuple[dict[str, Any], list[str]]:
    """The numbers, words and switches of a fit's config.yaml, and the names of all the rest.

    Raises:
        SettingError: It cannot be read, or is no YAML.
    """
    try:
        found = get_loader("yaml")(read_regular(config, MAX_BYTES).decode())
    except (OSError, ValueError) as error:
        raise SettingError(f"{config}: {explain(error)}") from error
    except Exception as error:  # the parser's own kinds, and too many brackets
        raise SettingError(f"{config} is not YAML: {type(error).__name__}") from error
    if not isinstance(found, dict):
        raise SettingError(f"{config} holds no settings")
    left_out: list[str] = []
    return _plain({name: found[name] for name in SECTIONS if name in found}, "", left_out), left_out


def _plain(settings: dict[Any, Any], prefix: str, left_out: list[str]) -> dict[str, Any]:
    kept = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if name == "trainer.default_root_dir":
            continue  # the user's own led to this file
        if not isinstance(key, str) or not WORD.fullmatch(key):
            left_out.append(f"{prefix}{key!a}")
        elif isinstance(value, dict) and "class_path" not in value and prefix.count(".") < 3:
            kept[key] = _plain(value, f"{name}.", left_out)
        elif _is_plain(name, value) or (
            isinstance(value, list) and all(_is_plain(name, item) for item in value)
        ):
            kept[key] = value
        else:
            left_out.append(name)
    return kept


def _is_plain(name: str, value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return True
    if name.startswith("trainer.") and name.removeprefix("trainer.") in OBJECTS:
        return False
    if isinstance(value, str):
        return bool((PATH if name in PATHS else WORD).fullmatch(value))
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
