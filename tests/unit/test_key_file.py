"""Files of private keys: for their owner alone, and never overwritten."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sealstream.schemas.errors import ConfigError, KeyInvalid
from sealstream.worker.key_file import read_key, write_key, write_new
from support.notes import LOG, signer


def test_comes_back(tmp_path: Path) -> None:
    """A key is read from the file that it was written to, which nobody else may read, whatever the umask."""
    before = os.umask(0)
    try:
        write_key(tmp_path / "log.key", LOG)
    finally:
        os.umask(before)
    assert read_key(tmp_path / "log.key").secret() == LOG.secret()
    assert stat.S_IMODE((tmp_path / "log.key").stat().st_mode) == 0o600


def test_never_overwritten(tmp_path: Path) -> None:
    """A file that is there stays, whatever it is, and so does what a link points to."""
    path, link = tmp_path / "log.key", tmp_path / "link.key"
    write_key(path, LOG)
    link.symlink_to(tmp_path / "elsewhere")
    for taken in (path, link, tmp_path):
        with pytest.raises(ConfigError, match="exists"):
            write_key(taken, signer("other.example"))
    assert read_key(path).secret() == LOG.secret()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("owner", "mode", "allowed"),
    [
        ("me", 0o600, True),
        ("me", 0o400, True),
        ("me", 0o640, False),
        ("me", 0o604, False),
        ("root", 0o640, True),
        ("root", 0o440, True),
        ("root", 0o660, False),
        ("root", 0o644, False),
        ("another", 0o600, False),
    ],
)
def test_access(tmp_path: Path, owner: str, mode: int, allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that others may read is not used; one that root has mounted may be read by its group."""
    path = tmp_path / "log.key"
    write_key(path, LOG)
    path.chmod(mode)
    users = {"me": 1000, "root": 0, "another": 1001}
    status = os.stat_result((*path.stat()[:4], users[owner], *path.stat()[5:]))

    def owned(_: int) -> os.stat_result:
        return status

    monkeypatch.setattr(os, "fstat", owned)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    if allowed:
        assert read_key(path).secret() == LOG.secret()
    else:
        with pytest.raises(ConfigError, match=r"access|belongs") as caught:
            read_key(path)
        assert caught.value.hint


def test_a_file_in_the_clear_is_refused(tmp_path: Path) -> None:
    """The same with a real file: others may read it, so it is not used, and the error says what to do."""
    write_key(tmp_path / "log.key", LOG)
    (tmp_path / "log.key").chmod(0o644)
    with pytest.raises(ConfigError, match="0644") as caught:
        read_key(tmp_path / "log.key")
    assert "chmod 600" in caught.value.hint
    assert "rotate" in caught.value.hint


def test_what_is_no_key_file(tmp_path: Path) -> None:
    """What is missing, a directory, a pipe that nobody writes to, or something else is refused, and nothing waits."""
    with pytest.raises(ConfigError, match="cannot be read"):
        read_key(tmp_path / "missing")
    with pytest.raises(ConfigError, match=r"no file|cannot be read"):
        read_key(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="no file"):
        read_key(tmp_path / "pipe")
    write_new(tmp_path / "other", b"a" * 100_000, mode=0o600)
    with pytest.raises(KeyInvalid, match="at most"):
        read_key(tmp_path / "other")
    write_new(tmp_path / "text", b"text\n", mode=0o600)
    with pytest.raises(KeyInvalid, match="text: private key is neither"):
        read_key(tmp_path / "text")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that could not be written whole is not there."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        write_key(tmp_path / "log.key", LOG)
    assert list(tmp_path.iterdir()) == []


def test_no_place(tmp_path: Path) -> None:
    """Where there is no directory, the error says so."""
    with pytest.raises(ConfigError, match="cannot be written: No such file"):
        write_key(tmp_path / "missing" / "log.key", LOG)
