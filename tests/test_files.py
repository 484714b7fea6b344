"""A file appears under its name complete, or not at all."""

from pathlib import Path

import pytest

from mnist_lit.files import written_whole


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


def test_an_error_of_the_disk_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "x.txt"

    def write() -> None:
        with written_whole(path) as partial:
            partial.write_text("x")

    with pytest.raises(OSError, match=f"'{path}'"):
        write()
