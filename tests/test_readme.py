"""What the documents say is so: their figures, plots, files, links and commands."""

import inspect
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import yaml
from lightning.pytorch import Trainer

from mnist_lit.augment import Augmentation
from mnist_lit.callbacks import StopAtAccuracy
from mnist_lit.data import MNISTDataModule
from mnist_lit.module import DigitClassifier
from mnist_lit.train import main

ROOT = Path(__file__).parent.parent
FILLED = ("README.md", "benchmarks/README.md", "docs/EXPERIMENTS.md")
DOCUMENTS = (*FILLED, "docs/PYTHON.md", "CONTRIBUTING.md", "CHANGELOG.md")
FLAGS = {
    "trainer": Trainer,
    "model": DigitClassifier,
    "data": MNISTDataModule,
    "data.augmentation": Augmentation,
    "stop": StopAtAccuracy,
}


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts of benchmarks/ import each other as they do when one of them is run."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def read(document: str) -> str:
    return (ROOT / document).read_text("utf-8")


@pytest.mark.parametrize("document", FILLED)
def test_figures_are_those_of_the_results(document: str) -> None:
    import readme

    assert ROOT / document in readme.DOCUMENTS
    text = read(document)
    stale, blocks = re.subn(
        r"(<!-- results: \w+ -->\n).*?(<!-- end -->)", r"\1stale\n\2", text, flags=re.DOTALL
    )
    assert blocks == text.count("<!-- results:") > 0
    assert readme.fill(stale) == text


def test_every_block_is_shown() -> None:
    import readme

    shown = {name for document in FILLED for name in re.findall(r"results: (\w+)", read(document))}
    assert shown == set(readme.BLOCKS)


def test_points_stand_at_their_parameters() -> None:
    import plots
    from published import PUBLISHED

    [axes] = plots.draw_parameters().axes
    lines: Any = axes.lines
    drawn = {x for line in lines for x in line.get_xdata()} - {0, 1}  # the ends of the line at 99.4
    measured = {study["runs"][0]["parameters"] for study in plots.recipes().values()}
    assert drawn == measured | {point.parameters for point in PUBLISHED}


def test_readme_is_read_in_one_sitting() -> None:
    assert len(read("README.md").splitlines()) <= 220


@pytest.mark.filterwarnings("ignore")  # a person sees some of Lightning's
def test_the_script_in_python_runs(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", read("README.md"), re.DOTALL | re.MULTILINE)
    [script] = [block for block in blocks if "Trainer(" in block]
    assert len(script.splitlines()) <= 15
    trainers = []

    class Short(Trainer):
        def __init__(self, **options: Any) -> None:
            options |= {f"limit_{part}_batches": 2 for part in ("train", "val", "test")}
            super().__init__(**options, accelerator="cpu", enable_progress_bar=False)
            trainers.append(self)

    monkeypatch.setattr("lightning.pytorch.Trainer", Short)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(data_dir)
    exec(script, {})
    [trainer] = trainers
    assert trainer.current_epoch == 3
    assert trainer.callback_metrics["test/acc"] > 0
    assert (tmp_path / "lightning_logs/version_0/hparams.yaml").is_file()


@pytest.mark.filterwarnings("ignore")
def test_the_sweep_runs(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for Optuna, which is no dependency: one fit instead of twenty."""
    blocks = re.findall(r"^```python\n(.*?)^```", read("docs/PYTHON.md"), re.DOTALL | re.MULTILINE)
    [script] = [block for block in blocks if "optuna" in block]
    assert len(script.splitlines()) - script.count("\n\n") <= 10
    optuna = MagicMock()
    monkeypatch.setitem(sys.modules, "optuna", optuna)
    limits = [f"--trainer.limit_{part}_batches=2" for part in ("train", "val", "test")]
    small = [*limits, "--data.data_dir", str(data_dir)]
    monkeypatch.setattr("mnist_lit.train.main", lambda args: main([*args, *small]))
    monkeypatch.chdir(tmp_path)
    exec(script, {})
    (objective,) = optuna.create_study.return_value.optimize.call_args.args
    trial = MagicMock()
    trial.suggest_float.side_effect = lambda *bounds, **_: bounds[1]
    assert 0 < objective(trial) < 1


def test_layout_has_a_row_for_each_file() -> None:
    layout = read("README.md").partition("## Layout")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ((?:`\w+\.py`(?:, )?)+) \|", layout, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+\.py)`", row)]
    assert sorted(named) == sorted(path.name for path in (ROOT / "mnist_lit").glob("*.py"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_and_links_are_there(document: str) -> None:
    text = read(document)
    folder = (ROOT / document).parent
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text)
    for target, anchor in links:
        path = folder / target if target else ROOT / document
        assert path.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
            assert anchor in [
                re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings
            ], anchor
    if document != "CHANGELOG.md":  # which also names files that are gone
        named = re.findall(r"\b(?:configs|benchmarks|tests|mnist_lit)/[\w/]+\.(?:yaml|py)", text)
        assert [name for name in named if not (ROOT / name).is_file()] == []


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command, in blocks and in the text."""
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines += re.findall(r"`((?:mnist-lit|make|pip|python) [^`|]+)`", text.replace("\n", " "))
    for line in lines:
        if words := shlex.split(line.removeprefix("$ "), comments=True):
            yield words


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name != "CHANGELOG.md"])
def test_commands_are_there(document: str) -> None:
    makefile, pyproject = read("Makefile"), read("pyproject.toml")
    seen = 0
    for words in commands(read(document)):
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), words
        elif words[:2] == ["pip", "install"]:
            extras = re.findall(r"\w+", words[2].partition("[")[2])
            for extra in extras:
                assert re.search(rf"^{extra} = \[", pyproject, re.MULTILINE), words
        elif words[0] == "python" and words[1].endswith(".py"):
            script = read(words[1])
            for flag in flags(words):
                assert f'"{flag}"' in script, words
        elif "-m" in words and words[words.index("-m") + 1].startswith("mnist_lit"):
            check_flags(words[words.index("-m") + 1].removeprefix("mnist_lit."), words)
        elif words[0] == "mnist-lit":
            check_flags(words[1], words)
        else:
            continue
        seen += 1
    assert seen > 0


def flags(words: list[str]) -> list[str]:
    return [re.split(r"\+?=", word)[0] for word in words if word.startswith("--")]


def check_flags(verb: str, words: list[str]) -> None:
    source = read(f"mnist_lit/{verb}.py")
    after = words[words.index(verb) + 1 :] if verb in words else words[words.index("-m") + 2 :]
    for flag in flags(after):
        owner, _, name = flag.removeprefix("--").rpartition(".")
        if verb != "train":
            assert f'"{flag}"' in source, words
        elif owner:
            assert name in inspect.signature(FLAGS[owner]).parameters, words
        else:
            assert name in {"config", "ckpt_path", "seed_everything", "help"}, words
    if "--config" in after:
        config = after[after.index("--config") + 1]
        if not config.startswith("lightning_logs/"):  # which a run makes
            name = config if config.endswith(".yaml") else f"configs/{config}.yaml"
            assert (ROOT / name).is_file(), words


def test_workflow_runs_what_a_person_runs() -> None:
    jobs = yaml.safe_load(read(".github/workflows/test.yml"))["jobs"]
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    by_hand = ['python -m pip install --editable ".[test]"', "python -m pytest -m"]
    assert [run.partition(' "not slow"')[0] for run in runs] == [".ci/run", *by_hand, "make oldest"]
    assert jobs["others"]["strategy"]["matrix"]["os"] == ["windows-latest", "macos-latest"]
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert re.search(r"^oldest:", read("Makefile"), re.MULTILINE)


def test_citation_agrees_with_the_licence() -> None:
    citation, licence = yaml.safe_load(read("CITATION.cff")), read("LICENSE")
    assert licence.startswith(f"{citation['license']} License\n")
    assert all(author["name"] in licence for author in citation["authors"])
