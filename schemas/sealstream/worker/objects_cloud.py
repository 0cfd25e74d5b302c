"""Objects in an object store (S3, Google Cloud Storage, Azure), by obstore."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import BaseError, GenericError
from obstore.store import from_url

from sealstream.schemas.errors import ConfigError, ObjectMissing, SealstreamError, StoreError, Unreachable
from sealstream.worker.objects import LISTED_MAX, OBJECT_BYTES_MAX, check_path, check_prefix, get_together

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_AT_ONCE: Final = 16
"""Objects that are read or written at the same time; each takes a round trip, and hardly any of our own time."""

_WAITING_MAX: Final = 4 * _AT_ONCE
"""Objects in memory that wait to be written."""

_RETRIES_MAX: Final = 5
_STATUS: Final = re.compile(r"status(?: code)?:? (\d{3})|Client error with status (\d{3})", re.IGNORECASE)


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
        # Plain HTTP only if the environment asks for it, as obstore's own default: these options take its place.
        client: ClientConfig = {
            "timeout": timedelta(seconds=timeout_seconds),
            "connect_timeout": timedelta(seconds=min(5.0, timeout_seconds)),
            "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true"),
        }
        retry: RetryConfig = {"max_retries": _RETRIES_MAX, "retry_timeout": timedelta(seconds=timeout_seconds)}
        try:
            self._store = from_url(url, client_options=client, retry_config=retry)
        except (BaseError, ValueError) as error:
            raise ConfigError(f"the storage {url} cannot be used: {type(error).__name__}") from None

    def get(self, path: str, *, bytes_max: int = OBJECT_BYTES_MAX) -> bytes:
        """Return an object's bytes: :meth:`sealstream.worker.objects.Objects.get`."""
        check_path(path)
        with self._errors("read", path):
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
        with self._errors("write", path):
            obstore.put(self._store, path, data, use_multipart=False)

    def put_many(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write many objects, some at the same time: :meth:`sealstream.worker.objects.Objects.put_many`."""
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

    def sync(self) -> None:
        """Do nothing: an object store has written an object for good when it says that it has."""

    def list(self, prefix: str) -> list[str]:
        """Return the paths of the objects below a path: :meth:`sealstream.worker.objects.Objects.list`."""
        path = check_prefix(prefix)
        found: list[str] = []
        with self._errors("list", path):
            for batch in obstore.list(self._store, prefix=path or None):
                found.extend(one["path"] for one in batch)
                if len(found) > LISTED_MAX:
                    raise StoreError(f"{self._url} has more than {LISTED_MAX} objects below {path!r}")
        return sorted(found)

    @contextmanager
    def _errors(self, what: str, path: str) -> Generator[None]:
        """Turn obstore's errors into ours. Their texts quote requests and answers, and are not passed on."""
        try:
            yield
        except SealstreamError:
            raise
        except FileNotFoundError:
            raise ObjectMissing(f"{self._url} has no {path}", hint=_missing_hint(what)) from None
        except (GenericError, TimeoutError) as error:
            raise Unreachable(f"{self._url} does not {what} {path}{_status(error)}") from None
        except (BaseError, OSError, ValueError) as error:
            raise StoreError(f"{self._url} refuses to {what} {path}: {type(error).__name__}{_status(error)}") from None


def _raise_first(done: set[Future[None]]) -> None:
    for one in done:
        one.result()


def _status(error: BaseException) -> str:
    match = _STATUS.search(str(error))
    return f" (HTTP status {match[1] or match[2]})" if match else ""


def _missing_hint(what: str) -> str:
    return "" if what == "read" else "is there such a bucket?"
