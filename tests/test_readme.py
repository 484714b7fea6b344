"""The README's tables are those of the results, and what it tells to run is there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_tables_are_those_of_the_results(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "benchmarks", tmp_path / "benchmarks", ignore=shutil.ignore_patterns("runs")
    )
    shutil.copy(ROOT / "README.md", tmp_path)
    subprocess.run([sys.executable, str(tmp_path / "benchmarks" / "readme.py")], check=True)
    assert (tmp_path / "README.md").read_text("utf-8") == (ROOT / "README.md").read_text("utf-8")


def test_files_that_the_readme_names_are_there() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    named = re.findall(r"\b(?:configs|benchmarks|tests|mnist_lit)/[\w/]+\.(?:yaml|py|png|md)", text)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).is_file()] == []
