"""Storages of objects: the same holds for a directory, an S3 server and, for reading, a web server."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from sealstream.schemas.errors import ConfigError, NameInvalid, ObjectMissing, StoreError, Unreachable
from sealstream.worker.objects import Objects, open_objects
from support.s3 import s3_server
from support.served import served

WRITABLE = ("directory", "s3")
ALL = (*WRITABLE, "http")
_NUMBERS = itertools.count()

MakeStorage = Callable[[str], tuple[Objects, Objects]]
"""Returns a storage to read from, and one to write to the same place with."""


@pytest.fixture(scope="module")
def s3() -> Generator[Any]:
    """An S3 server for this module."""
    with s3_server() as client:
        yield client


@pytest.fixture
def storage(tmp_path: Path, s3: Any) -> Generator[MakeStorage]:
    """Make a storage of a kind."""
    servers: list[Any] = []

    def make(kind: str) -> tuple[Objects, Objects]:
        if kind == "s3":
            bucket = f"bucket-{next(_NUMBERS)}"
            s3.create_bucket(Bucket=bucket)
            both = open_objects(f"s3://{bucket}/some/prefix")
            return both, both
        directory = open_objects(str(tmp_path))
        if kind == "directory":
            return directory, directory
        server = served(tmp_path)
        servers.append(server)
        return open_objects(server.__enter__()), directory

    yield make
    for server in servers:
        server.__exit__(None, None, None)


@pytest.mark.parametrize("kind", ALL)
def test_what_was_put_is_read(kind: str, storage: MakeStorage) -> None:
    """What was put is what is read, the last one where there were two, and also if there is nothing in it."""
    reading, writing = storage(kind)
    writing.put("a/b/c", b"before")
    writing.put("a/b/c", b"\x00after")
    writing.put("a/empty", b"")
    writing.sync()
    assert (reading.get("a/b/c"), reading.get("a/empty")) == (b"\x00after", b"")


@pytest.mark.parametrize("kind", ALL)
def test_missing_objects(kind: str, storage: MakeStorage) -> None:
    """An object that is not there is missing: by an error of its own, and no other."""
    reading, writing = storage(kind)
    writing.put("a/b", b"x")
    for path in ("nothing", "a/c", "a/b/c"):
        with pytest.raises(ObjectMissing, match=path):
            reading.get(path)


@pytest.mark.parametrize("kind", WRITABLE)
def test_what_is_written_once(kind: str, storage: MakeStorage) -> None:
    """What is written once is there as a whole then, also where a writer that died had left a part of it."""
    reading, writing = storage(kind)
    writing.put("a/torn", b"wh")
    writing.put_many([("a/torn", b"whole"), ("b/new", b"new")], write_once=True)
    writing.put_many([("a/torn", b"whole")], write_once=True)
    assert list(reading.get_many(["a/torn", "b/new"])) == [b"whole", b"new"]
    assert reading.list("") == ["a/torn", "b/new"]


@pytest.mark.parametrize("kind", WRITABLE)
def test_what_is_deleted(kind: str, storage: MakeStorage) -> None:
    """What was deleted is missing, the rest is there, and deleting what is not there is no error."""
    reading, writing = storage(kind)
    writing.put_many((f"a/{name}", b"x") for name in ("1", "2", "b/1", "b/c/2", "bb/1"))
    writing.delete_many(["a/1", "a/nothing", "no/folder"])
    writing.delete_below("a/b")
    writing.delete_below("a/nothing")
    assert reading.list("") == ["a/2", "a/bb/1"]
    with pytest.raises(NameInvalid):
        writing.delete_many(["../a"])
    for path in ("", "..", "/a", "a/../.."):
        with pytest.raises(NameInvalid):
            writing.delete_below(path)


@pytest.mark.parametrize("kind", ALL)
def test_many_are_read_in_their_order(kind: str, storage: MakeStorage) -> None:
    """Many objects come in the order they were asked for, and those that are missing as nothing."""
    reading, writing = storage(kind)
    writing.put_many((f"a/{number}", b"%d" % number) for number in range(0, 100, 2))
    wanted = [b"%d" % number if number % 2 == 0 else None for number in range(100)]
    assert list(reading.get_many(f"a/{number}" for number in range(100))) == wanted


@pytest.mark.parametrize("kind", ALL)
def test_reading_is_bounded(kind: str, storage: MakeStorage) -> None:
    """More than the bytes asked for are not read, and exactly so many are."""
    reading, writing = storage(kind)
    writing.put("large", b"x" * 100_001)
    assert len(reading.get("large", bytes_max=100_001)) == 100_001
    with pytest.raises(StoreError, match=r"100001 bytes|more than 100000"):
        reading.get("large", bytes_max=100_000)


@pytest.mark.parametrize("kind", WRITABLE)
def test_many_and_listed(kind: str, storage: MakeStorage) -> None:
    """Many objects are all there when the call returns, and are listed sorted, below a path as well."""
    reading, writing = storage(kind)
    files = {f"logs/{number:03}/tile": b"%d" % number for number in range(200)} | {"logs2/x": b"y"}
    writing.put_many(iter(files.items()))
    assert reading.list("") == sorted(files)
    assert reading.list("logs") == reading.list("logs/") == sorted(files)[:200]
    assert reading.list("none") == []
    assert all(reading.get(path) == data for path, data in itertools.islice(files.items(), 20))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", ".hidden", "a/.x", "a\\b", "a b", "a\n", "é", "a?b", "a%2e"],
)
def test_paths_that_lead_elsewhere(kind: str, path: str, storage: MakeStorage) -> None:
    """A path that leaves its place, or has another form than ours, is refused for reading, writing and listing."""
    reading, writing = storage(kind)
    with pytest.raises(NameInvalid):
        reading.get(path)
    with pytest.raises(NameInvalid):
        writing.put(path, b"x")
    with pytest.raises(NameInvalid):
        writing.put_many([(path, b"x")])
    if path not in ("", "a/"):
        with pytest.raises(NameInvalid):
            writing.list(path)


def test_http_is_read_only(storage: MakeStorage) -> None:
    """A web server is read from only: writing and listing say so."""
    reading, _ = storage("http")
    for call in (
        lambda: reading.put("a", b""),
        lambda: reading.put_many([]),
        lambda: reading.list(""),
        lambda: reading.delete_many([]),
        lambda: reading.delete_below("a"),
    ):
        with pytest.raises(ConfigError):
            call()


def test_a_bucket_that_does_not_exist(s3: Any) -> None:
    """Writing into a bucket that does not exist is an error of its storage, and says which one."""
    del s3
    with pytest.raises(StoreError, match="s3://no-such-bucket"):
        open_objects("s3://no-such-bucket").put("a", b"x")


def test_a_server_that_is_away(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is unreachable, within the time given, and no secret stands in the message."""
    del s3
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    cloud = open_objects("s3://bucket/x", timeout_seconds=1)
    for call in (
        lambda: cloud.get("a"),
        lambda: cloud.put_many([("a", b"x"), ("b", b"x")]),
        lambda: open_objects("http://127.0.0.1:9/x", timeout_seconds=1).get("a"),
    ):
        with pytest.raises(Unreachable) as caught:
            call()
        assert "not-a-real-secret" not in str(caught.value)
