"""How an error is told."""

import errno
import os

from mnist_lit.errors import SettingError, explain


def test_an_error_is_told_by_its_reason_alone() -> None:
    assert explain(OSError(errno.ENOENT, os.strerror(errno.ENOENT), "x")) == os.strerror(2)
    assert explain(OSError("the package is damaged")) == "the package is damaged"
    assert explain(SettingError("--stop.epochs must be at least 1")).startswith("--stop.epochs")


def test_a_wrong_setting_is_a_value_error_to_python() -> None:
    assert issubclass(SettingError, ValueError)
