"""Opening a storage by its place, and what a directory does with what it finds."""

from __future__ import annotations

import errno
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sealstream.schemas.errors import ConfigError, ObjectMissing, StoreError, Unreachable
from sealstream.worker.objects import open_objects
from sealstream.worker.objects_directory import DirectoryObjects


@pytest.mark.parametrize(
    "url",
    [
        "",
        "s3://",
        "s3://key:hunter2@bucket/x",
        "https://user:hunter2@example.com/",
        "https://example.com/?token=hunter2",
        "https://[hunter2",
        "file://elsewhere/tmp",
        "ftp://example.com/hunter2",
        "/no/such/directory",
    ],
)
def test_no_storage(url: str) -> None:
    """What is no place of a storage is refused, and what may be a secret in it is not shown."""
    with pytest.raises(ConfigError) as caught:
        open_objects(url)
    assert "hunter2" not in str(caught.value)


def test_file_urls(tmp_path: Path) -> None:
    """A directory may be given as a URL, with its blanks encoded."""
    directory = tmp_path / "a b"
    directory.mkdir()
    open_objects(f"file://{tmp_path}/a%20b").put("x/y", b"z")
    assert (directory / "x" / "y").read_bytes() == b"z"


def test_reader_sees_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails leaves what was there before, and nothing beside it."""
    objects = DirectoryObjects(tmp_path)
    objects.put("a", b"before")

    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Unreachable, match="No space left"):
        objects.put("a", b"after")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"before")]


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    """A link in a file's place leads nowhere: a storage gives only files of its own."""
    directory = tmp_path / "log"
    directory.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (directory / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(StoreError):
        DirectoryObjects(directory).get("link")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """A path that is a folder has no object, and neither has a FIFO, which is not waited for."""
    objects = DirectoryObjects(tmp_path)
    objects.put("a/b", b"x")
    os.mkfifo(tmp_path / "fifo")
    for path in ("a", "fifo"):
        with pytest.raises(ObjectMissing):
            objects.get(path)


def test_what_a_dead_writer_left_is_no_object(tmp_path: Path) -> None:
    """The temporary file of a writer that died is neither listed nor read."""
    objects = DirectoryObjects(tmp_path)
    objects.put("a/b", b"x")
    (tmp_path / "a" / ".b.1-2").write_bytes(b"half")
    assert objects.list("") == ["a/b"]


def test_a_directory_that_vanishes_is_not_begun_anew(tmp_path: Path) -> None:
    """Where a disk is unmounted under a running worker, it does not write into the empty place, and waits for it."""
    directory = tmp_path / "log"
    directory.mkdir()
    objects = DirectoryObjects(directory)
    directory.rmdir()
    with pytest.raises(Unreachable, match="could not write a/b"):
        objects.put("a/b", b"x")
    assert not directory.exists()


def test_a_file_in_the_place_of_the_directory_is_waited_for(tmp_path: Path) -> None:
    """Whatever has become of the directory, it is told as an error of the storage, and not as a defect."""
    directory = tmp_path / "log"
    directory.mkdir()
    objects = DirectoryObjects(directory)
    directory.rmdir()
    directory.write_bytes(b"")
    with pytest.raises(Unreachable):
        objects.put("a/b", b"x")


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, Unreachable), (errno.EROFS, Unreachable), (errno.EACCES, StoreError)]
)
def test_a_disk_that_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    """A disk that is full, or was made read-only, is waited for; what nobody may write to needs a person."""

    def refuse(*_arguments: object, **_options: object) -> int:
        raise OSError(number, os.strerror(number))

    objects = DirectoryObjects(tmp_path)
    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "unlink", refuse)  # neither can be removed what was not written
    with pytest.raises(error, match=os.strerror(number)):
        objects.put("a", b"x")


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = int(self.path.rsplit("/", 1)[1])
        self.send_response(status)
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
        """Say nothing."""


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, StoreError),
        (403, StoreError),
        (404, ObjectMissing),
        (410, ObjectMissing),
        (429, Unreachable),
        (503, Unreachable),
    ],
)
def test_answers_of_web_servers(status: int, error: type[Exception]) -> None:
    """Redirects are not followed; missing, refused and not now are three things."""
    with HTTPServer(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(error) as caught:
            open_objects(f"http://127.0.0.1:{server.server_port}/x", timeout_seconds=5).get(str(status))
        assert type(caught.value) is error
