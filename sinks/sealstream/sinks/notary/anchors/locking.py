"""Root checkpoints in a bucket with object lock: nobody, its owner included, can delete or change them for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, cast
from urllib.parse import urlsplit

import obstore
from obstore.store import S3Store

from sealstream.schemas.errors import ConfigError, StoreError, Unreachable
from sealstream.schemas.log_layout import root_checkpoint_path
from sealstream.schemas.note import NOTE_BYTES_MAX
from sealstream.sinks.notary.anchors.anchor import Anchored, Checkpointed
from sealstream.worker.http_client import Answer, HttpClient
from sealstream.worker.objects_cloud import cloud_errors, cloud_store

MODE: Final = "COMPLIANCE"
"""The mode in which nobody may shorten the time, be he the account's owner."""

ANSWER_SECONDS: Final = 30.0
_SIGNED_FOR: Final = timedelta(minutes=5)
_MODE_HEADER: Final = "x-amz-object-lock-mode"
_UNTIL_HEADER: Final = "x-amz-object-lock-retain-until-date"
_TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"


class LockAnchor:
    """Puts checkpoints into a bucket.

    The bucket must have been made with object lock, and so has versions. Whoever may write to it can put another object
    of the same name behind a locked one, and cannot remove it: who reads takes the oldest version. To see that the lock
    holds, the notary's credentials have to include the right to read an object's retention.

    Arguments:
        url: ``s3://BUCKET/...``; credentials and endpoint come from where Amazon's tools look.
        days: How long a checkpoint is locked.
        clock: The time in seconds since the Unix epoch.

    Raises:
        ConfigError: It is no such URL, or what stands in the environment for it is wrong.
    """

    name = "lock"

    def __init__(self, url: str, *, days: int, clock: Callable[[], float] = time.time) -> None:
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
            raise ConfigError(
                "the bucket with object lock is no s3://BUCKET/...", hint="credentials are not part of the URL"
            )
        self._url = url.rstrip("/")
        self._days = days
        self._clock = clock
        self._reading = cast("S3Store", cloud_store(self._url, timeout_seconds=ANSWER_SECONDS))
        self._client = HttpClient()

    def anchor(self, published: Checkpointed) -> Anchored:
        """Put a checkpoint, locked, and see that it is.

        Raises:
            StoreError: The bucket refuses, or has no object lock.
            Unreachable: It does not answer.
        """
        path = root_checkpoint_path(published.size)
        now = datetime.fromtimestamp(int(self._clock()), UTC)
        until = now + timedelta(days=self._days)
        # The time is in the headers, and a store has its headers for ever.
        writing = cloud_store(
            self._url,
            timeout_seconds=ANSWER_SECONDS,
            headers={
                _MODE_HEADER: MODE,
                _UNTIL_HEADER: until.strftime(_TIME_FORMAT),
                "x-amz-sdk-checksum-algorithm": "SHA256",  # which one is sent; some servers take no lock without it
            },
            checksum=True,
        )
        with cloud_errors(self._url, "write", path):
            put = obstore.put(writing, path, published.note, use_multipart=False)
        # A crash here leaves a locked checkpoint that the database does not know of: another version is put.
        if put["version"] is None:
            raise StoreError(f"{self._url} keeps no versions of {path}", hint="make the bucket with object lock")
        self._check(path, until, published.note)
        return Anchored(published.round, now)

    def _check(self, path: str, until: datetime, note: bytes) -> None:
        """See that what was put is there, and locked: a server that knows no locks may have passed over ours.

        Raises:
            StoreError: It is not.
            Unreachable: There is no answer.
        """
        answer = self._read(path)
        if answer.status != 200 or answer.body != note:
            raise StoreError(f"{self._url} does not give back {path} as it was put (HTTP status {answer.status})")
        kept = _time(answer.headers.get(_UNTIL_HEADER, ""))
        if answer.headers.get(_MODE_HEADER) != MODE or kept is None or kept < until:
            raise StoreError(
                f"{self._url} does not say that {path} is locked as was asked",
                hint="the bucket must have object lock, and the credentials the right to read the retention",
            )

    def _read(self, path: str) -> Answer:
        """Return an object with its headers, by a URL that is good for some minutes, and is not to be shown."""
        with cloud_errors(self._url, "read", path):
            signed = obstore.sign(self._reading, "GET", path, _SIGNED_FOR)
        try:
            return self._client.ask("GET", signed, timeout_seconds=ANSWER_SECONDS, bytes_max=NOTE_BYTES_MAX)
        except Unreachable:
            raise Unreachable(f"{self._url} does not read {path}") from None


def _time(text: str) -> datetime | None:
    """Return the time that a header states; ``None`` if it states none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
