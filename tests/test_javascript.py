"""A script runs alike in each engine that there is, and a failing one is told."""

import shutil

import pytest

from mnist_lit import javascript

SCRIPT = """
const text = `${"é"} < & > "` + "\\u00e9".length + 'x\\\\y'
const sum = Array.from({ length: 10 }, (_, i) => i).reduce((a, b) => a + b)
JSON.stringify([text, sum])
"""
ANSWER = '["é < & > \\"1x\\\\y",45]'


def only(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Of all engines there is one."""
    monkeypatch.setattr(javascript, "find_spec", lambda _: name == "py_mini_racer" or None)
    where = shutil.which(name)
    monkeypatch.setattr(shutil, "which", lambda wanted: where if wanted == name else None)


@pytest.mark.parametrize(
    ("command", "name"),
    [("py_mini_racer", "V8"), ("node", "Node.js"), ("chromium", "Chromium")],
)
def test_each_engine_gives_the_last_expression(
    command: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command == "py_mini_racer":
        pytest.importorskip(command)
    elif not shutil.which(command):
        pytest.skip(f"no {command} here")
    only(monkeypatch, command)
    said, evaluate = javascript.engine()
    assert said == name
    assert evaluate(SCRIPT) == ANSWER


def test_without_an_engine_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "none")
    with pytest.raises(javascript.NoEngineError):
        javascript.engine()


@pytest.mark.skipif(not shutil.which("node"), reason="no node here")
def test_a_script_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "node")
    _, evaluate = javascript.engine()
    with pytest.raises(OSError, match="node"):
        evaluate("nothing.there")
