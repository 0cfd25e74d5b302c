"""Files by their paths, wherever they are kept: a directory, an object store, or a web server that others run.

Logs are published here (:mod:`sealstream.schemas.log_layout`), and read from here. What is read is no evidence: whoever
reads verifies it against what is signed.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from sealstream.schemas.errors import ConfigError, NameInvalid, ObjectMissing

OBJECT_BYTES_MAX: Final = 32 * 1024 * 1024
"""The largest object that is read: the largest there is, a full bundle of the largest entries, has 16 MiB."""

LISTED_MAX: Final = 1_000_000
"""The most paths that are listed at once."""

PATH_CHARACTERS_MAX: Final = 512
_SEGMENT: Final = "[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}"
_PATH: Final = re.compile(f"{_SEGMENT}(?:/{_SEGMENT})*", re.ASCII)
_SCHEME: Final = re.compile("([A-Za-z][A-Za-z0-9+.-]*)://")
_CLOUD: Final = ("s3", "gs", "az")
_WEB: Final = ("http", "https")
_PLACES: Final = "a directory, s3://BUCKET/..., gs://BUCKET/..., az://ACCOUNT/CONTAINER/..., or to read https://..."


class Objects(Protocol):
    """A storage of objects by path. It may be used by several threads at once.

    A path has segments of ``A-Za-z0-9._-`` that do not begin with a dot, joined by slashes: every method raises
    NameInvalid for another one. Messages name the place without what is secret in it.
    """

    def get(self, path: str, *, bytes_max: int = OBJECT_BYTES_MAX) -> bytes:
        """Return an object's bytes.

        Arguments:
            path: Where it is.
            bytes_max: The most that is read.

        Raises:
            ObjectMissing: There is none.
            StoreError: It is larger, or the storage refuses.
            Unreachable: There was no answer in time, or one that may be another the next time.
        """
        ...

    def get_many(self, paths: Iterable[str], *, bytes_max: int = OBJECT_BYTES_MAX) -> Iterator[bytes | None]:
        """Yield the bytes of many objects in the order of their paths, ``None`` for each that is missing.

        Raises:
            SealstreamError: What :meth:`get` raises, of one that failed otherwise.
        """
        ...

    def put(self, path: str, data: bytes) -> None:
        """Write one object so that others see all of it or what was there before.

        Raises:
            ConfigError: The storage is there to be read only.
            StoreError: The storage refuses.
            Unreachable: There was no answer in time: it may have been written, and writing it again is harmless.
        """
        ...

    def put_many(self, files: Iterable[tuple[str, bytes]], *, write_once: bool = False) -> None:
        """Write many objects, in any order: all of them are there when it returns, and any of them if it raises.

        Arguments:
            files: Paths and bytes.
            write_once: Nobody is told of any of them before this returns, and there are no other bytes that may ever be
                at such a path. Then one that was not there before may be there in part until this returns, or after a
                crash until it is put again. One that was there is replaced as a whole, as always.

        Raises:
            SealstreamError: What :meth:`put` raises, of one that failed.
        """
        ...

    def delete_many(self, paths: Iterable[str]) -> None:
        """Delete objects; one that is not there is deleted already.

        Raises:
            ConfigError: The storage is there to be read only.
            StoreError: The storage refuses. Any of them may be deleted.
            Unreachable: There was no answer in time. The same.
        """
        ...

    def delete_below(self, prefix: str) -> None:
        """Delete the objects below a path, if there are any, and the folder if there are folders.

        Raises:
            SealstreamError: What :meth:`delete_many` and :meth:`list` raise; NameInvalid for an empty path.
        """
        ...

    def sync(self) -> None:
        """Return once all that was put survives a power cut.

        Raises:
            StoreError: It does not, or nobody can say.
        """
        ...

    def list(self, prefix: str) -> list[str]:
        """Return the paths below a path, sorted; all of them for an empty one.

        Raises:
            ConfigError: The storage cannot be listed.
            StoreError: There are more than a million, or the storage refuses.
            Unreachable: There was no answer in time.
        """
        ...


def open_objects(url: str, *, timeout_seconds: float = 30) -> Objects:
    """Return the storage at a place; nothing is asked of a server yet.

    Credentials of object stores come from where their own tools look (``AWS_ACCESS_KEY_ID``, ...), never from the URL.

    Arguments:
        url: A directory that exists, by path or as ``file:///...``; ``s3://``, ``gs://``, ``az://``; or ``http://`` and
            ``https://`` to read only.
        timeout_seconds: How long one answer of a server may take, all attempts together.

    Raises:
        ConfigError: It is none of these, there is no such directory, or a package for it is missing.
    """
    if not url:
        raise ConfigError("no storage is given", hint=_PLACES)
    match = _SCHEME.match(url)
    if match is None:
        return _directory(Path(url))
    scheme = match[1].lower()
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError(f"the {scheme} URL of a storage is malformed", hint=_PLACES) from None
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"the {scheme} URL of a storage has more than a place: a user, a query or a fragment",
            hint="credentials are given as the storage's own tools take them, not in the URL",
        )
    if scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise ConfigError("a file URL names another machine", hint="write file:///path")
        return _directory(Path(unquote(parts.path)))
    if not parts.netloc:
        raise ConfigError(f"the {scheme} URL of a storage names no place", hint=_PLACES)
    if scheme not in (*_CLOUD, *_WEB):
        raise ConfigError(f"no storage is known by {scheme}://", hint=_PLACES)
    return _server(scheme, url, timeout_seconds)


def check_path(path: str) -> None:
    """Refuse what is no path of an object, and would lead elsewhere.

    Raises:
        NameInvalid: It is none.
    """
    if len(path) > PATH_CHARACTERS_MAX or _PATH.fullmatch(path) is None:
        raise NameInvalid(f"{path[:100]!r} is no path of an object", hint="segments of A-Za-z0-9._- joined by slashes")


def check_prefix(prefix: str) -> str:
    """Return a path to list below, without the slash that may end it.

    Raises:
        NameInvalid: It is none.
    """
    path = prefix.removesuffix("/")
    if path:
        check_path(path)
    return path


def get_each(objects: Objects, paths: Iterable[str], bytes_max: int) -> Iterator[bytes | None]:
    """Yield what is at each path, one behind the other: :meth:`Objects.get_many`."""
    for path in paths:
        yield _get_or_none(objects, path, bytes_max)


def get_together(objects: Objects, paths: Iterable[str], bytes_max: int, at_once: int) -> Iterator[bytes | None]:
    """Yield what is at each path, so many read at the same time: :meth:`Objects.get_many`."""
    waiting: deque[Future[bytes | None]] = deque()
    with ThreadPoolExecutor(at_once, thread_name_prefix="objects") as readers:
        try:
            for path in paths:
                waiting.append(readers.submit(_get_or_none, objects, path, bytes_max))
                if len(waiting) > 2 * at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            readers.shutdown(wait=False, cancel_futures=True)


def _get_or_none(objects: Objects, path: str, bytes_max: int) -> bytes | None:
    try:
        return objects.get(path, bytes_max=bytes_max)
    except ObjectMissing:
        return None


def _directory(path: Path) -> Objects:
    from sealstream.worker.objects_directory import DirectoryObjects  # noqa: PLC0415  # it imports this module

    return DirectoryObjects(path)


def _server(scheme: str, url: str, timeout_seconds: float) -> Objects:
    try:
        if scheme in _CLOUD:
            from sealstream.worker.objects_cloud import CloudObjects  # noqa: PLC0415  # of an extra, and slow to import

            return CloudObjects(url, timeout_seconds=timeout_seconds)
        from sealstream.worker.objects_http import HttpObjects  # noqa: PLC0415  # of an extra

        return HttpObjects(url, timeout_seconds=timeout_seconds)
    except ImportError as error:
        raise ConfigError(
            f"a storage at {scheme}:// needs the package {error.name}", hint="pip install 'sealstream[notary]'"
        ) from error
