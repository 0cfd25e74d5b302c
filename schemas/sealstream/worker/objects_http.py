"""Objects of a web server, to be read only: a log as its owner, or anybody with a copy of it, serves it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final, NoReturn

import urllib3
from urllib3.exceptions import HTTPError

from sealstream.schemas.errors import ConfigError, ObjectMissing, StoreError, Unreachable
from sealstream.worker.objects import OBJECT_BYTES_MAX, check_path, get_together

_CONNECTIONS_MAX: Final = 8
_PIECE_BYTES: Final = 65_536
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
        self._pool = urllib3.PoolManager(
            maxsize=_CONNECTIONS_MAX,
            retries=False,
            headers={"User-Agent": "sealstream", "Accept-Encoding": "identity"},
        )

    def get(self, path: str, *, bytes_max: int = OBJECT_BYTES_MAX) -> bytes:
        """Return an object's bytes: :meth:`sealstream.worker.objects.Objects.get`."""
        check_path(path)
        place = f"{self._url}/{path}"
        deadline = time.monotonic() + self._timeout_seconds
        try:
            answer = self._pool.request(
                "GET",
                place,
                redirect=False,
                preload_content=False,
                timeout=urllib3.Timeout(total=self._timeout_seconds),
            )
            try:
                _check_status(place, answer)
                return _read(place, answer, bytes_max, deadline)
            finally:
                answer.close()  # what is left unread is dropped with its connection
                answer.release_conn()
        except (HTTPError, OSError) as error:
            raise Unreachable(f"{place} cannot be read: {type(error).__name__}") from error

    def get_many(self, paths: Iterable[str], *, bytes_max: int = OBJECT_BYTES_MAX) -> Iterator[bytes | None]:
        """Yield the bytes of many objects: :meth:`sealstream.worker.objects.Objects.get_many`."""
        return get_together(self, paths, bytes_max, _CONNECTIONS_MAX)

    def put(self, path: str, data: bytes) -> None:
        """Refuse: :meth:`sealstream.worker.objects.Objects.put`."""
        del path, data
        self._refuse()

    def put_many(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Refuse: :meth:`sealstream.worker.objects.Objects.put_many`."""
        del files
        self._refuse()

    def sync(self) -> None:
        """Do nothing: nothing was put."""

    def list(self, prefix: str) -> list[str]:
        """Refuse: :meth:`sealstream.worker.objects.Objects.list`."""
        raise ConfigError(f"{self._url} cannot be listed ({prefix!r}): HTTP has no word for it", hint="give its bucket")

    def _refuse(self) -> NoReturn:
        raise ConfigError(f"{self._url} is there to be read only", hint="give the directory or the bucket behind it")


def _check_status(place: str, answer: urllib3.BaseHTTPResponse) -> None:
    status = answer.status
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
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise StoreError(f"{place} is served compressed, which was not asked for")


def _read(place: str, answer: urllib3.BaseHTTPResponse, bytes_max: int, deadline: float) -> bytes:
    """Read an answer piece by piece as it comes: a server that sends a byte a second gets no more time than others."""
    pieces: list[bytes] = []
    count = 0
    while piece := answer.read1(_PIECE_BYTES, decode_content=False):
        pieces.append(piece)
        count += len(piece)
        if count > bytes_max:
            raise StoreError(f"{place} has more than {bytes_max} bytes")
        if time.monotonic() > deadline:
            raise Unreachable(f"{place} was not read within the time given")
    return b"".join(pieces)
