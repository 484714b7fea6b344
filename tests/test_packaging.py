"""What a source distribution carries."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PARTS = ("mnist_lit", "configs", "tests", "benchmarks", "docs", ".github", ".ci")


def test_a_source_distribution_has_all_that_its_tests_need(tmp_path: Path) -> None:
    source = tmp_path / "source"
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for part in PARTS:
        shutil.copytree(ROOT / part, source / part, ignore=left_out)
    for path in ROOT.iterdir():
        if path.is_file() and path.name not in (".git", ".gitignore"):
            shutil.copy(path, source)
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        carried = {os.path.normpath(name.partition("/")[2]) for name in packed.getnames()}
    there = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    there = {name for name in there if ".egg-info" not in name}  # which the build writes
    assert there - carried == set()
