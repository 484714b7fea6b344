"""The page with its server, in a real browser, and the server under hostile and many posts."""

import concurrent.futures
import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from browser import TOO_LARGE, chromium, draw, opened
from conftest import Survived
from PIL import Image, ImageOps
from playwright.sync_api import Page, expect

from mnist_lit.assets import test_digits as embedded_test_digits
from mnist_lit.decoder import Decoder
from mnist_lit.demo import HEADERS, MAX_BYTES, MAX_CORRECTION, MAX_IN_FLIGHT, main
from mnist_lit.images import UnreadableImageError


class Server:
    def __init__(self, url: str, pid: int, folder: Path) -> None:
        self.url, self.pid, self.folder = url, pid, folder

    def post(self, content: bytes, path: str = "read", **options: object) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", content=content, timeout=30, **options)  # type: ignore[arg-type]

    def collected(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def memory(self) -> int:
        """Resident megabytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


def heeding_ctrl_c() -> None:
    """In a new process: the tests may run in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def started(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", Server]]:
    if sys.platform == "win32":
        pytest.skip("has no such signals")
    command = [sys.executable, "-m", "mnist_lit.demo", "--port", "0", "--collect", str(folder)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heeding_ctrl_c,
    ) as process:
        assert process.stdout
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert found
        try:
            yield process, Server(found[0], process.pid, folder)
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started(tmp_path_factory.mktemp("own")) as (process, server):
        yield server
        process.terminate()
        assert process.stderr
        assert process.stderr.read() == ""  # no traceback from anything below


@pytest.fixture(scope="module")
def seven() -> bytes:
    """The first test digit, as a drawing."""
    digit = Image.fromarray(embedded_test_digits()[0][0, 0].numpy())
    file = io.BytesIO()
    ImageOps.invert(digit.resize((340, 340), Image.Resampling.BICUBIC)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Page]:
    with chromium() as browser, opened(browser, server.url) as page:
        yield page


def test_the_page_draws_alone_and_asks_the_server_of_photos(page: Page, seven: bytes) -> None:
    asked: list[str] = []
    page.wait_for_load_state("networkidle")
    page.on("request", lambda request: asked.append(f"{request.method} {request.url[-4:]}"))
    number, verdict = page.locator("#number"), page.locator("#verdict")
    draw(page, (-0.1, -0.3), (0.25, -0.3), (0.05, 0.3))
    expect(number).to_have_text("7")
    assert asked == []
    page.set_input_files("#file", {"name": "no.png", "mimeType": "", "buffer": b"no image"})
    expect(verdict).to_have_text(re.compile("^not an image"))
    page.set_input_files("#file", {"name": "7.png", "mimeType": "", "buffer": seven})
    expect(number).to_have_text("7")
    expect(verdict).to_have_text(re.compile("^7 with"))
    assert asked == ["POST read", "POST read"]
    page.evaluate(TOO_LARGE, MAX_BYTES + 1)
    expect(verdict).to_have_text(re.compile("more than 20 MB"))
    assert asked == ["POST read", "POST read"]
    page.evaluate("() => { window.fetch = () => Promise.reject(new TypeError()) }")  # it has gone
    page.set_input_files("#file", {"name": "7.png", "mimeType": "", "buffer": seven})
    expect(number).to_have_text("7")
    expect(verdict).to_contain_text("The server does not answer")
    page.reload()


def test_the_page_has_the_server_write_corrections(page: Page, server: Server) -> None:
    draw(page, (-0.2, -0.3), (0.2, -0.3), (0, 0.3))
    expect(page.locator("#number")).to_have_text("7")
    page.locator("#bars button").nth(1).click()
    expect(page.locator("#kept")).to_contain_text(f"1 correction in {server.folder}")
    [file] = server.collected()
    assert file.parent.name == "1"
    with Image.open(file) as image:
        assert image.size == (128, 128)
    page.locator("#bars button").nth(2).click()
    expect(page.locator("#number")).to_have_text("2")
    [file] = server.collected()
    assert file.parent.name == "2"
    page.locator("#bars button").nth(2).click()
    expect(page.locator("#kept")).to_be_hidden()
    assert server.collected() == []


def test_a_post_is_read(server: Server, seven: bytes) -> None:
    answer = server.post(seven).json()
    assert answer["number"] == "7"
    assert answer["uncertain"] is False
    [[digit]] = answer["lines"]
    assert digit["digit"] == 7
    assert len(digit["probabilities"]) == 10
    assert len(digit["pixels"]) == 784
    assert max(digit["pixels"]) == 255
    left, top, right, bottom = digit["box"]
    assert 0 < left < right < 340
    assert 0 < top < bottom < 340


def test_corrections_are_written_and_taken_back(server: Server, seven: bytes) -> None:
    assert httpx.get(f"{server.url}collect").json() == {"folder": str(server.folder)}
    names = [server.post(seven, "collect?label=7").json()["name"] for _ in range(3)]
    assert [str(path.relative_to(server.folder)) for path in server.collected()] == sorted(names)
    assert all(path.read_bytes() == seven for path in server.collected())
    for name in names:
        answer = httpx.delete(f"{server.url}collect", params={"name": name})
        assert answer.json() == {"name": name}
    assert server.collected() == []
    assert httpx.delete(f"{server.url}collect", params={"name": names[0]}).status_code == 404


def test_hostile_corrections_write_and_delete_nothing(
    server: Server, seven: bytes, survived: Survived
) -> None:
    others = server.folder / "7" / "mine.png"
    others.parent.mkdir(exist_ok=True)
    others.write_bytes(seven)
    blank = io.BytesIO()
    Image.new("L", (90, 90), 255).save(blank, "PNG")
    refused = [
        *(
            server.post(seven, f"collect?label={label}")
            for label in ("", "10", "x", "../7", "%C2%B2")
        ),
        server.post(seven, "collect"),
        server.post(seven + bytes(MAX_CORRECTION), "collect?label=7"),
        *(server.post(body, "collect?label=7") for body in (b"", b"no image", seven[:900])),
        server.post(blank.getvalue(), "collect?label=7"),
        server.post(seven, "collect?label=7", headers={"Origin": "http://evil.example"}),
        server.post(seven, "collect?label=7", headers={"Host": "evil.example"}),
        *(
            httpx.delete(f"{server.url}collect", params={"name": name})
            for name in ("7/mine.png", "../own/7/mine.png", str(others), "")
        ),
    ]
    assert [answer.status_code for answer in refused if answer.status_code < 400] == []
    assert [answer.status_code for answer in refused if answer.status_code >= 500] == []
    assert server.collected() == [others]
    others.unlink()
    survived("hostile post", len(refused))


def test_a_folder_that_cannot_be_written_to_is_named(server: Server, seven: bytes) -> None:
    (server.folder / "5").write_text("in the way")
    answer = server.post(seven, "collect?label=5")
    assert answer.status_code == 507
    assert answer.json()["error"] in ("File exists", "Not a directory")
    (server.folder / "5").unlink()


@pytest.mark.slow
def test_many_clients_at_once(server: Server, seven: bytes) -> None:
    """Fifty clients, ten strokes each."""

    def strokes(_: int) -> set[int]:
        with httpx.Client(timeout=60) as client:
            return {
                client.post(f"{server.url}read", content=seven).json()["number"] for _ in range(10)
            }

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        assert set.union(*pool.map(strokes, range(50))) == {"7"}


def hostile_posts(seven: bytes) -> Iterator[bytes]:
    random = np.random.default_rng(0)
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    for i in range(200):
        match i % 5:
            case 0:
                yield random.bytes(int(random.integers(0, 5000)))
            case 1:
                yield seven[: int(random.integers(1, len(seven) - 100))]
            case 2:
                yield bomb.getvalue()
            case 3:
                yield b'{"image": ' + b"[" * int(random.integers(1, 50_000))
            case 4:
                yield b"\x89PNG\r\n\x1a\n" + random.bytes(200)
    for _ in range(5):
        yield bytes(MAX_BYTES + 1)


def test_hostile_posts_get_a_4xx_and_take_no_memory(
    server: Server, seven: bytes, survived: Survived
) -> None:
    server.post(seven)
    server.post(bytes(MAX_BYTES + 1))
    before = server.memory()
    for content in hostile_posts(seven):
        assert 400 <= server.post(content).status_code < 500
    assert server.memory() - before < 60
    assert server.post(seven).json()["number"] == "7"
    survived("hostile post", 205)


def scans(number: int) -> bytes:
    """A progressive JPEG of 4000 x 4000 pixels that goes over them so many times."""
    file = io.BytesIO()
    Image.new("L", (4000, 4000), 200).save(file, "JPEG", progressive=True)
    whole = file.getvalue()
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * number + whole[-2:]


def test_images_that_take_minutes_make_nobody_wait(
    server: Server, seven: bytes, survived: Survived
) -> None:
    slow = scans(2000)
    server.post(seven)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(server.post, slow) for _ in range(4)]
        started = time.perf_counter()
        assert server.post(seven).json()["number"] == "7"
        assert time.perf_counter() - started < 15
        for answer in answers:
            assert answer.result().status_code == 422
            assert "scans" in answer.result().json()["error"]
    survived("hostile post", 4)


def test_the_page_of_another_origin_is_refused(server: Server, seven: bytes) -> None:
    port = httpx.URL(server.url).port
    for origin in ("http://evil.example", "null", f"http://localhost:{port}", "https://127.0.0.1"):
        answer = server.post(seven, headers={"Origin": origin})
        assert answer.status_code == 403
    own = server.post(seven, headers={"Origin": f"http://127.0.0.1:{port}"})
    assert own.json()["number"] == "7"


def test_every_answer_has_its_headers(server: Server, seven: bytes) -> None:
    for answer in (
        httpx.get(server.url),
        httpx.get(f"{server.url}nothing"),
        httpx.get(f"{server.url}read"),
        httpx.get(server.url, headers={"Host": "evil.example"}),
        httpx.get(f"{server.url}collect"),
        server.post(seven),
        server.post(b"no image"),
    ):
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, answer.url


POST = b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000000\r\n\r\n"


def connect(server: Server, sent: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", httpx.URL(server.url).port or 0), 30)
    client.settimeout(2)
    with contextlib.suppress(OSError):  # refused, or not read any more
        client.sendall(sent)
    return client


def test_silent_connections_shut_nobody_out(
    server: Server, seven: bytes, survived: Survived
) -> None:
    with contextlib.ExitStack() as stack:
        for i in range(250):
            silent = stack.enter_context(connect(server, b"GET / HT" if i % 2 else b""))
        assert server.post(seven).json()["number"] == "7"
        silent.settimeout(30)
        assert silent.recv(1000) == b""  # closed by the server
    survived("hostile post", 250)


def test_uploads_in_flight_take_bounded_memory(
    server: Server, seven: bytes, survived: Survived
) -> None:
    server.post(seven)
    before = server.memory()
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(server, POST + bytes(19_000_000)))
        assert server.memory() - before < 2 * MAX_IN_FLIGHT / 2**20
    deadline = time.monotonic() + 30
    while (answer := server.post(seven)).status_code == 503:
        assert time.monotonic() < deadline
    assert answer.json()["number"] == "7"
    survived("hostile post", 20)


@pytest.mark.parametrize("ready", [True, False])
def test_ctrl_c_does_not_wait_for_an_upload(ready: bool, tmp_path: Path) -> None:
    with started(tmp_path) as (process, server):
        with connect(server, POST + bytes(1000)):
            if ready:
                assert httpx.get(server.url, timeout=60).status_code == 200
                time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            assert process.wait(10 if ready else 60) == 0
        assert process.stderr
        assert process.stderr.read() == ""


def test_a_decoder_that_takes_too_long_is_started_anew(seven: bytes) -> None:
    decoder = Decoder()
    try:
        [[[expected]]] = [layout.lines for layout in decoder(seven).layouts]
        assert expected.pixels.shape == (28, 28)
        decoder.seconds, first = 0.0, decoder.process.pid
        with pytest.raises(UnreadableImageError, match="more than 0 seconds"):
            decoder(scans(50))
        decoder.seconds = 30
        [[[again]]] = [layout.lines for layout in decoder(seven).layouts]
        assert np.array_equal(again.pixels, expected.pixels)
        assert decoder.process.pid != first
        with pytest.raises(UnreadableImageError, match="not an image"):
            decoder(b"no image")
    finally:
        decoder.close()


def test_a_body_too_large_is_refused(server: Server) -> None:
    answer = server.post(bytes(MAX_BYTES + 1))
    assert answer.status_code == 413
    assert answer.json() == {"error": "more than 20 MB"}


def test_other_methods_paths_and_hosts_are_refused(server: Server, seven: bytes) -> None:
    assert httpx.get(f"{server.url}read").status_code == 405
    assert httpx.get(f"{server.url}../../etc/passwd").status_code == 404
    assert server.post(seven, headers={"Host": "evil.example"}).status_code == 400


def test_a_client_that_leaves_midway_is_no_error(server: Server, seven: bytes) -> None:
    port = int(server.url.rsplit(":", 1)[1].rstrip("/"))
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\nPNG")
    time.sleep(0.3)
    assert server.post(seven).json()["number"] == "7"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--port", "99999"), "--port 99999"),
        (("--port", "http"), "--port"),
        (("--collect", __file__), f"--collect {__file__}: File exists"),
        (("--collect", "/proc/nowhere"), "--collect /proc/nowhere: No such file"),
        (("--ckpt", "missing.ckpt"), "--ckpt missing.ckpt: No such file"),
        (("--ckpt", __file__), "not a file of weights that can be read safely"),
    ],
)
def test_wrong_flags_are_named(
    arguments: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str], survived: Survived
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert named in error
    assert len(error.splitlines()) <= 2
    survived("wrong usage")
