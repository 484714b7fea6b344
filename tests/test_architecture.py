"""The arrows between the files, and what is loaded by which import."""

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import mnist_lit

PACKAGE = Path(mnist_lit.__file__).parent
ALLOWED = {
    "__init__": {"assets", "network", "weights"},  # inside load_pretrained
    "__main__": {"__version__", "errors", "files"},  # and the commands, by their names
    "errors": set(),
    "files": {"errors"},
    "device": set(),
    "cpu_kernels": set(),
    "network": {"cpu_kernels"},
    "augment": {"errors"},
    "strokes": {"errors"},
    "hands": set(),
    "muon": set(),
    "trust": {"files"},
    "weights": {"assets", "network", "trust"},
    "images": set(),
    "ink": {"images"},
    "views": {"images", "ink"},
    "seams": {"ink"},
    "page": {"images", "ink", "seams", "views"},
    "synthetic": {"assets"},
    "pages": {"synthetic"},
    "detector": {"assets", "ink"},
    "page_network": {"detector", "ema", "muon", "pages", "synthetic"},
    "train_pages": {"console", "errors", "files", "page_network"},
    "sureness": {"assets", "network", "weights"},  # torch is loaded for --ckpt alone
    "reading": {"detector", "images", "ink", "page", "sureness"},
    "own": {"errors", "files", "images", "reading", "sureness"},
    "data": {"assets", "augment", "errors", "files", "hands", "own", "strokes"},
    "ema": set(),
    "metrics": set(),
    "module": {"ema", "errors", "load_pretrained", "metrics", "muon", "network", "weights"},
    "console": {"device"},
    "callbacks": {"console", "device", "errors"},
    "cuda_graph": {"errors"},
    "pictures": {"console"},
    "settings": {"errors", "files"},
    "state": set(),
    "checkpoints": {"errors", "files", "state", "weights"},
    "runs": {"errors", "files"},
    "train": {
        *("callbacks", "checkpoints", "console", "data", "device", "errors", "files", "module"),
        *("pictures", "runs", "settings", "weights"),
    },
    "predict": {"errors", "files", "images", "reading", "sureness"},
    "bundle": {"assets", "load_pretrained", "network", "sureness"},
    "javascript": set(),
    "onnx_model": {"__version__", "assets", "network"},
    "export": {
        *("assets", "bundle", "errors", "files", "javascript", "load_pretrained", "network"),
        *("onnx_model", "weights"),
    },
    "decoder": {"images", "reading"},
    "sheet": {"errors", "files", "images", "ink"},
    "demo": {
        *("bundle", "decoder", "errors", "files", "images", "load_pretrained", "network"),
        *("reading", "sureness"),
    },
}


COMMANDS = {
    "train",
    "predict",
    "export",
    "sheet",
    "demo",
    "train_pages",
}  # run by __main__ in either form


def local_imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mnist_lit."):
            names.add((node.module or "").removeprefix("mnist_lit."))
        elif isinstance(node, ast.ImportFrom) and (node.level or node.module == "mnist_lit"):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            names.update(
                a.name.partition(".")[2] for a in node.names if a.name.startswith("mnist_lit")
            )
    return names


def test_files_import_only_what_the_design_allows() -> None:
    files = {path.stem: path for path in PACKAGE.glob("*.py")}
    assert set(files) == set(ALLOWED)
    for name, path in files.items():
        allowed = ALLOWED[name] | ({"__main__"} if name in COMMANDS else set())
        assert local_imports(path) <= allowed, name


@pytest.mark.parametrize(
    ("imported", "heavy"),
    [
        ("mnist_lit", ["torch", "lightning", "torchvision"]),
        ("mnist_lit.network", ["lightning", "torchvision", "matplotlib"]),
        ("mnist_lit.augment", ["lightning", "torchvision", "matplotlib"]),
        ("mnist_lit.page", ["torch", "lightning", "torchvision", "matplotlib"]),
        ("mnist_lit.strokes", ["lightning", "torchvision", "matplotlib"]),
        ("mnist_lit.hands", ["lightning", "torchvision"]),
        ("mnist_lit.predict", ["torch", "lightning", "torchvision", "matplotlib"]),
    ],
)
def test_importing_stays_light(imported: str, heavy: list[str]) -> None:
    code = f"import {imported}, sys; print([m for m in {heavy} if m in sys.modules])"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == "[]"


def test_every_import_is_declared_and_every_dependency_imported() -> None:
    imported = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").partition(".")[0])
            elif isinstance(node, ast.Import):
                imported.update(alias.name.partition(".")[0] for alias in node.names)
    providers = metadata.packages_distributions()
    imported = {
        re.sub("[-_.]+", "-", providers[name][0]).lower()
        for name in imported - set(sys.stdlib_module_names) - {"mnist_lit"}
    }
    declared = {
        re.split(r"[^\w.-]", requirement)[0].lower()
        for requirement in metadata.requires("mnist_lit") or []
        if "extra ==" not in requirement or re.search(r"extra == .(demo|export|heic).", requirement)
    }
    # TensorBoard is Lightning's to import; torch.onnx.export imports onnxscript, and that onnx_ir.
    assert (imported - {"onnx-ir"}) | {"tensorboard", "onnxscript"} == declared
