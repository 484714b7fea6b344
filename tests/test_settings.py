"""A config that the user did not name runs no code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import Survived

import mnist_lit
from mnist_lit.module import DigitClassifier
from mnist_lit.settings import plain_settings

EVIL = "class_path: evil.Evil"
PLACES = {  # where a config can name a class
    "callbacks": f"trainer: {{callbacks: [{{{EVIL}}}]}}",
    "a callback by its path": "trainer: {callbacks: evil.Evil}",
    "logger": f"trainer: {{logger: {{{EVIL}}}}}",
    "a logger by its path": "trainer: {logger: evil.Evil}",
    "plugins": f"trainer: {{plugins: [{{{EVIL}}}]}}",
    "profiler": "trainer: {profiler: evil.Evil}",
    "strategy": "trainer: {strategy: evil.Evil}",
    "accelerator": f"trainer: {{accelerator: {{{EVIL}}}}}",
    "network": "model: {network: evil.Evil}",
    "model": f"model: {{{EVIL}}}",
    "data": f"data: {{{EVIL}}}",
    "augmentation": f"data: {{augmentation: {{{EVIL}}}}}",
}


@pytest.mark.parametrize("place", PLACES)
def test_no_class_is_taken(place: str, tmp_path: Path, survived: Survived) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"seed_everything: 7\n{PLACES[place]}\n")
    settings, left_out = plain_settings(config)
    assert "evil" not in str(settings)
    assert settings["seed_everything"] == 7
    assert len(left_out) == 1
    survived("config of a stranger")


def test_plain_settings_are_taken(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "seed_everything: 7\n"
        "trainer: {precision: bf16-mixed, max_time: 00:12:00:00, devices: [0, 1], logger: false,"
        " callbacks: null, default_root_dir: /elsewhere}\n"
        "model: {max_lr: 0.01, tta: true}\n"
        "data: {data_dir: /a/folder.of/mine, augmentation: {degrees: 7.0}}\n"
        "ckpt_path: x.ckpt\n"
    )
    settings, left_out = plain_settings(config)
    assert settings == {
        "seed_everything": 7,
        "trainer": {
            "precision": "bf16-mixed",
            "max_time": "00:12:00:00",
            "devices": [0, 1],
            "logger": False,
            "callbacks": None,
        },
        "model": {"max_lr": 0.01, "tta": True},
        "data": {"data_dir": "/a/folder.of/mine", "augmentation": {"degrees": 7.0}},
    }
    assert left_out == []


@pytest.mark.parametrize(
    "text", ["[" * 50_000, "- 1", "a: [", "\0", "\ud800", "a: " + "1" * 200_000]
)
def test_a_broken_config_is_named(text: str, tmp_path: Path, survived: Survived) -> None:
    config = tmp_path / "config.yaml"
    config.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=str(config)):
        plain_settings(config)
    survived("wrong part")


def test_a_strangers_run_folder_runs_no_code(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(
        "from lightning.pytorch import Callback\n"
        "open('executed', 'w').close()\n"
        "class Evil(Callback): pass\n"
    )
    version = tmp_path / "lightning_logs" / "version_9"
    (version / "checkpoints").mkdir(parents=True)
    (version / "config.yaml").write_text(f"trainer: {{callbacks: [{{{EVIL}}}], max_epochs: 3}}\n")
    model = DigitClassifier(narrow=2, wide=2)
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    last = version / "checkpoints" / "last.ckpt"
    torch.save(content, last)
    command = [sys.executable, "-m", "mnist_lit.train", "--ckpt_path", str(last)]
    root = str(Path(mnist_lit.__file__).parent.parent)
    done = subprocess.run(  # not in a fork: it imports from the working folder
        [*command, "--trainer.accelerator", "cpu"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    assert not [*tmp_path.rglob("executed")]  # a config is read from within its folder
    assert done.returncode == 2
    note = f"left out of {version / 'config.yaml'}: trainer.callbacks"
    assert done.stderr.startswith(note)
    assert "Traceback" not in done.stderr
