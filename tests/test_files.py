"""A file appears under its name complete, or not at all."""

import os
import stat
import sys
from pathlib import Path

import pytest

from mnist_lit.files import discard_partial, read_regular, written_whole


def test_a_file_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("before")
    with written_whole(path) as partial:
        partial.write_text("after")
        assert partial.parent == tmp_path  # so that taking the name copies nothing
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_error_all_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("before")

    def write_half() -> None:
        with written_whole(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_written_in_part_can_be_discarded(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("before")

    def write_half() -> None:
        with written_whole(path) as partial:
            partial.write_text("half")
            discard_partial()
            assert list(tmp_path.iterdir()) == [path]

    with pytest.raises(FileNotFoundError, match=r"x\.txt"):
        write_half()
    assert path.read_text() == "before"


def test_an_error_of_the_disk_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "x.txt"

    def write() -> None:
        with written_whole(path) as partial:
            partial.write_text("x")

    with pytest.raises(OSError, match=f"'{path}'"):
        write()


posix = pytest.mark.skipif(sys.platform == "win32", reason="has no such files")


def write(path: Path) -> None:
    with written_whole(path) as partial:
        partial.write_text("after")


@posix
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_leads_to_what_was_written(there: bool, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "x.txt", tmp_path / "link.txt"
    if there:
        target.write_text("before")
    link.symlink_to(Path("folder") / "x.txt")
    write(link)
    assert link.is_symlink()
    assert target.read_text() == "after"
    assert [*target.parent.iterdir()] == [target]


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_the_permissions_stay(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.touch()
    path.chmod(mode)
    with written_whole(path) as partial:
        assert stat.S_IMODE(partial.stat().st_mode) == mode  # nobody else can read it meanwhile
        partial.write_text("after")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_text() == "after"


@posix
def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write(tmp_path / "x.txt")
    (tmp_path / "y.txt").touch()
    assert (tmp_path / "x.txt").stat().st_mode == (tmp_path / "y.txt").stat().st_mode


@posix
@pytest.mark.parametrize(
    ("kind", "said"),
    [("pipe", "Not a regular file"), ("folder", "Is a directory"), ("device", "Not a regular")],
)
def test_what_is_no_file_is_not_replaced(kind: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/null")
    before = path.stat()
    with pytest.raises(OSError, match=f"{said}.*{path}"):
        write(path)
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mode == before.st_mode
    assert [*tmp_path.iterdir()] == [path]


@posix
def test_only_a_file_that_ends_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(ValueError, match="too large"):
        read_regular(path, 4)
    os.mkfifo(tmp_path / "pipe")
    for endless in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match="not a regular file"):
            read_regular(endless, 5)
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path, 5)
