"""`mnist-lit` and `python -m mnist_lit`: the same commands under one name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_lit.__main__ import VERBS, main

MISSED = {
    **{"train": "--flag", "predict": "FILE", "export": "--output"},
    **{"demo": "--flag", "sheet": "--output"},
}


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_is_the_command_of_that_module(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mnist-lit", verb, "--flag"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert MISSED[verb] in capsys.readouterr().err


def test_help_and_a_wrong_verb_name_the_verbs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mnist-lit", "--help"])
    main()
    printed = capsys.readouterr().out
    assert all(does in printed for does in VERBS.values())
    monkeypatch.setattr(sys, "argv", ["mnist-lit", "trian"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err.endswith("error: 'trian' is none of these\n")


def test_the_installed_script_reaches_a_module(tmp_path: Path) -> None:
    script = Path(sys.executable).parent / "mnist-lit"
    command = [str(script)] if script.exists() else [sys.executable, "-m", "mnist_lit"]
    done = subprocess.run(
        [*command, "predict", "missing.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 1
    assert done.stderr == "error: missing.png: No such file or directory\n"
