"""Scripts run outside of a page: in V8, as mini-racer brings it, or in Node.js, or in Chromium."""

import html
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

SECONDS = 600  # for one script
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")

Evaluate = Callable[[str], str]  # a script whose last expression is a text -> that text


class NoEngineError(Exception):
    """Nothing here runs JavaScript."""


def engine() -> tuple[str, Evaluate]:
    """The first engine that there is: its name, and what evaluates a script in it, from scratch.

    Raises:
        NoEngineError: There is none.
    """
    if find_spec("py_mini_racer"):
        return "V8", _in_v8
    if node := shutil.which("node"):
        return "Node.js", lambda script: _in_node(node, script)
    for name in CHROMIUM:
        if browser := shutil.which(name):
            return "Chromium", lambda script: _in_chromium(browser, script)
    raise NoEngineError


def _in_v8(script: str) -> str:
    from py_mini_racer import MiniRacer  # an optional extra

    with MiniRacer() as racer:
        return str(racer.eval(script, timeout_sec=SECONDS))


def _in_node(node: str, script: str) -> str:
    given = "require('fs').readFileSync(0, 'utf8')"
    run = f"process.stdout.write(require('vm').runInThisContext({given}))"
    return _output([node, "-e", run], script)


def _in_chromium(browser: str, script: str) -> str:
    """As the text of a page's body, which the script replaces."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        quoted = script.replace("\\", "\\\\").replace("`", "\\`").replace("$", "\\$")
        page.write_text(
            f'<meta charset="utf-8"><body><script>document.body.textContent = (0, eval)(`{quoted}`)'
            "</script>",
            "utf-8",
        )
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        profile = f"--user-data-dir={folder}/profile"
        shown = _output([*command, profile, page.as_uri()], "")
    [text] = re.findall("<body>(.*?)</body>", shown, re.DOTALL)
    return html.unescape(text)


def _output(command: list[str], given: str) -> str:
    """What a command prints.

    Raises:
        OSError: It fails.
    """
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, encoding="utf-8", timeout=SECONDS
    )
    if done.returncode:
        raise OSError(f"{command[0]}: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout
