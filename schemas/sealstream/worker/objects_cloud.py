"""Objects in an object store (S3, Google Cloud Storage, Azure), by obstore."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import obstore
from obstore.exceptions import BaseError, GenericError
from obstore.store import from_url

from sealstream.schemas.errors import ConfigError, ObjectMissing, SealstreamError, StoreError, Unreachable
from sealstream.worker.objects import LISTED_MAX, OBJECT_BYTES_MAX, check_path, check_prefix, get_together

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

_AT_ONCE: Final = 16
"""Objects that are read or written at the same time; each takes a round trip, and hardly any of our own time."""

_WAITING_MAX: Final = 4 * _AT_ONCE
"""Objects in memory that wait to be written."""

_DELETED_TOGETHER: Final = 1_000
"""As many as one request of S3 takes."""

_RETRIES_MAX: Final = 5
_STATUS: Final = re.compile(r"status(?: code)?:? (\d{3})\b", re.IGNORECASE)
_LATER: Final = frozenset({408, 429})


class CloudObjects:
    """A bucket, or what is below a prefix in one.

    Arguments:
        url: ``s3://BUCKET/...``, ``gs://BUCKET/...`` or ``az://ACCOUNT/CONTAINER/...``.
        timeout_seconds: How long one answer may take, all attempts together.

    Raises:
        ConfigError: obstore does not take the URL, or what stands in the environment for it.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 30) -> None:
        self._url = url
        self._store = cloud_store(url, timeout_seconds=timeout_seconds)

    def get(self, path: str, *, bytes_max: int = OBJECT_BYTES_MAX) -> bytes:
        """Return an object's bytes: :meth:`sealstream.worker.objects.Objects.get`."""
        check_path(path)
        with cloud_errors(self._url, "read", path):
            found = obstore.get(self._store, path)
            if found.meta["size"] > bytes_max:
                raise StoreError(f"{self._url}/{path} has {found.meta['size']} bytes, more than {bytes_max}")
            return bytes(found.bytes())

    def get_many(self, paths: Iterable[str], *, bytes_max: int = OBJECT_BYTES_MAX) -> Iterator[bytes | None]:
        """Yield the bytes of many objects: :meth:`sealstream.worker.objects.Objects.get_many`."""
        return get_together(self, paths, bytes_max, _AT_ONCE)

    def put(self, path: str, data: bytes) -> None:
        """Write one object: :meth:`sealstream.worker.objects.Objects.put`."""
        check_path(path)
        with cloud_errors(self._url, "write", path):
            obstore.put(self._store, path, data, use_multipart=False)

    def put_many(self, files: Iterable[tuple[str, bytes]], *, write_once: bool = False) -> None:
        """Write many objects, some at the same time: :meth:`sealstream.worker.objects.Objects.put_many`."""
        del write_once  # an object is there as a whole or not at all
        pending: set[Future[None]] = set()
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="objects") as writers:
            try:
                for path, data in files:
                    pending.add(writers.submit(self.put, path, data))
                    if len(pending) >= _WAITING_MAX:
                        done, pending = wait(pending, return_when="FIRST_COMPLETED")
                        _raise_first(done)
                done, pending = wait(pending, return_when=FIRST_EXCEPTION)
                _raise_first(done)
            finally:
                writers.shutdown(wait=False, cancel_futures=True)

    def delete_many(self, paths: Iterable[str]) -> None:
        """Delete objects, a thousand to a request: :meth:`sealstream.worker.objects.Objects.delete_many`."""
        rest = iter(paths)
        while block := list(islice(rest, _DELETED_TOGETHER)):
            for path in block:
                check_path(path)
            try:
                with cloud_errors(self._url, "delete", block[0]):
                    obstore.delete(self._store, block)
            except ObjectMissing:  # some stores say so of one: the others may be left
                self._delete_each(block)

    def delete_below(self, prefix: str) -> None:
        """Delete what is below a path: :meth:`sealstream.worker.objects.Objects.delete_below`."""
        check_path(check_prefix(prefix))
        self.delete_many(self.list(prefix))

    def _delete_each(self, paths: Iterable[str]) -> None:
        for path in paths:
            with suppress(ObjectMissing), cloud_errors(self._url, "delete", path):
                obstore.delete(self._store, path)

    def sync(self) -> None:
        """Do nothing: an object store has written an object for good when it says that it has."""

    def list(self, prefix: str) -> list[str]:
        """Return the paths of the objects below a path: :meth:`sealstream.worker.objects.Objects.list`."""
        path = check_prefix(prefix)
        found: list[str] = []
        with cloud_errors(self._url, "list", path):
            for batch in obstore.list(self._store, prefix=path or None):
                found.extend(one["path"] for one in batch)
                if len(found) > LISTED_MAX:
                    raise StoreError(f"{self._url} has more than {LISTED_MAX} objects below {path!r}")
        return sorted(found)


def cloud_store(
    url: str, *, timeout_seconds: float, headers: Mapping[str, str] | None = None, checksum: bool = False
) -> ObjectStore:
    """Return obstore's store of a URL, with what bounds it.

    Arguments:
        url: As for :class:`CloudObjects`.
        timeout_seconds: As there.
        headers: What each request has in addition; it is among what is signed.
        checksum: Whether to send the SHA-256 of what is put, as S3 asks for with some headers.

    Raises:
        ConfigError: obstore does not take the URL, or what stands in the environment for it.
    """
    # Plain HTTP only if the environment asks for it, as obstore's own default: these options take its place.
    client: ClientConfig = {
        "timeout": timedelta(seconds=timeout_seconds),
        "connect_timeout": timedelta(seconds=min(5.0, timeout_seconds)),
        "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true"),
        "default_headers": dict(headers or {}),
    }
    retry: RetryConfig = {"max_retries": _RETRIES_MAX, "retry_timeout": timedelta(seconds=timeout_seconds)}
    more: dict[str, Any] = {"checksum_algorithm": "sha256"} if checksum else {}
    try:
        return from_url(url, client_options=client, retry_config=retry, **more)
    except (BaseError, ValueError) as error:
        raise ConfigError(f"the storage {url} cannot be used: {type(error).__name__}") from None


@contextmanager
def cloud_errors(url: str, what: str, path: str) -> Generator[None]:
    """Turn obstore's errors into ours. Their texts quote requests and answers, and are not passed on.

    Arguments:
        url: The store.
        what: What is done: ``read``, ``write``, ``delete`` or ``list``.
        path: To which object.
    """
    try:
        yield
    except SealstreamError:
        raise
    except FileNotFoundError:
        hint = "" if what == "read" else "is there such a bucket?"
        raise ObjectMissing(f"{url} has no {path}", hint=hint) from None
    except (BaseError, OSError, ValueError) as error:
        status = _status(error)
        shown = f" (HTTP status {status})" if status else ""
        if isinstance(error, GenericError | TimeoutError) and not (400 <= status < 500 and status not in _LATER):
            raise Unreachable(f"{url} does not {what} {path}{shown}") from None
        raise StoreError(f"{url} refuses to {what} {path}: {type(error).__name__}{shown}") from None


def _raise_first(done: set[Future[None]]) -> None:
    for one in done:
        one.result()


def _status(error: BaseException) -> int:
    """Return the HTTP status of which an error of obstore speaks; 0 if it speaks of none."""
    match = _STATUS.search(str(error))
    return int(match[1]) if match else 0
