"""Objects of a web server, to be read only: a log as its owner, or anybody with a copy of it, serves it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NoReturn

from sealstream.schemas.errors import ConfigError, ObjectMissing, StoreError, Unreachable
from sealstream.worker.http_client import HttpClient
from sealstream.worker.objects import OBJECT_BYTES_MAX, check_path, get_together

_CONNECTIONS_MAX: Final = 8
_MISSING: Final = frozenset({404, 410})
_LATER: Final = frozenset({408, 425, 429})


class HttpObjects:
    """A prefix of a web server.

    Redirects are not followed: what is asked of one place is answered by it, or not at all.

    Arguments:
        url: ``http://...`` or ``https://...``.
        timeout_seconds: How long one answer may take.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 30) -> None:
        self._url = url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._client = HttpClient(connections_max=_CONNECTIONS_MAX)

    def get(self, path: str, *, bytes_max: int = OBJECT_BYTES_MAX) -> bytes:
        """Return an object's bytes: :meth:`sealstream.worker.objects.Objects.get`."""
        check_path(path)
        place = f"{self._url}/{path}"
        answer = self._client.ask("GET", place, timeout_seconds=self._timeout_seconds, bytes_max=bytes_max)
        _check_status(place, answer.status)
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise StoreError(f"{place} is served compressed, which was not asked for")
        if answer.body is None:
            raise StoreError(f"{place} has more than {bytes_max} bytes")
        return answer.body

    def get_many(self, paths: Iterable[str], *, bytes_max: int = OBJECT_BYTES_MAX) -> Iterator[bytes | None]:
        """Yield the bytes of many objects: :meth:`sealstream.worker.objects.Objects.get_many`."""
        return get_together(self, paths, bytes_max, _CONNECTIONS_MAX)

    def put(self, path: str, data: bytes) -> None:
        """Refuse: :meth:`sealstream.worker.objects.Objects.put`."""
        del path, data
        self._refuse()

    def put_many(self, files: Iterable[tuple[str, bytes]], *, write_once: bool = False) -> None:
        """Refuse: :meth:`sealstream.worker.objects.Objects.put_many`."""
        del files, write_once
        self._refuse()

    def delete_many(self, paths: Iterable[str]) -> None:
        """Refuse: :meth:`sealstream.worker.objects.Objects.delete_many`."""
        del paths
        self._refuse()

    def delete_below(self, prefix: str) -> None:
        """Refuse: :meth:`sealstream.worker.objects.Objects.delete_below`."""
        del prefix
        self._refuse()

    def sync(self) -> None:
        """Do nothing: nothing was put."""

    def list(self, prefix: str) -> list[str]:
        """Refuse: :meth:`sealstream.worker.objects.Objects.list`."""
        raise ConfigError(f"{self._url} cannot be listed ({prefix!r}): HTTP has no word for it", hint="give its bucket")

    def _refuse(self) -> NoReturn:
        raise ConfigError(f"{self._url} is there to be read only", hint="give the directory or the bucket behind it")


def _check_status(place: str, status: int) -> None:
    if status in _MISSING:
        raise ObjectMissing(f"there is no {place}")
    if status in _LATER or status >= 500:
        raise Unreachable(f"{place} cannot be read now (HTTP status {status})")
    if 300 <= status < 400:
        raise StoreError(
            f"{place} is said to be elsewhere (HTTP status {status})", hint="give the URL that it leads to"
        )
    if status != 200:
        raise StoreError(f"{place} cannot be read (HTTP status {status})")
