"""A file that was written appears whole, or nothing does."""

from __future__ import annotations

from pathlib import Path

import pytest

from sealstream.schemas.errors import ConfigError
from sealstream.sinks.proofs.new_file import new_file


def test_file_appears_whole(tmp_path: Path) -> None:
    """While it is written there is nothing at its path, and nobody else can read what is there."""
    path = tmp_path / "it"
    with new_file(path) as file:
        file.write(b"all of it")
        assert not path.exists()
    assert path.read_bytes() == b"all of it"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_behind(tmp_path: Path, error: type[BaseException]) -> None:
    """If what writes it fails or is interrupted, what was there is still there, and nothing else."""
    path = tmp_path / "it"
    path.write_bytes(b"before")
    with pytest.raises(error):
        _fail(path, error)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    """Nothing is replaced unless that was said, also if it came while the file was written."""
    path = tmp_path / "it"
    with pytest.raises(ConfigError, match="is there already"):
        _be_slower(path)
    assert path.read_bytes() == b"faster"
    with pytest.raises(ConfigError, match="is there already"), new_file(path):
        pass
    with new_file(path, replace=True) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    with pytest.raises(ConfigError, match="cannot be written"), new_file(tmp_path / "none" / "it"):
        pass
    assert list(tmp_path.iterdir()) == [path]


def _fail(path: Path, error: type[BaseException]) -> None:
    with new_file(path, replace=True) as file:
        file.write(b"a part")
        raise error


def _be_slower(path: Path) -> None:
    with new_file(path) as file:
        file.write(b"slower")
        path.write_bytes(b"faster")
