"""Root checkpoints in a bucket with object lock: nobody, its owner included, can delete or change them for a time.

Amazon's own client is used, where it is installed: retention has to be among the headers that are signed, and obstore
has no way to put it there.
"""

from __future__ import annotations

import hashlib
import importlib
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from sealstream.schemas.errors import ConfigError, StoreError, Unreachable
from sealstream.schemas.log_layout import root_checkpoint_path
from sealstream.sinks.notary.anchors.anchor import Anchored, Checkpointed

MODE: Final = "COMPLIANCE"
"""The mode in which nobody may shorten the time, be he the account's owner."""

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 30.0
_ATTEMPTS: Final = 2


class LockAnchor:
    """Puts checkpoints into a bucket.

    The bucket must have been made with object lock, and so has versions. Whoever may write to it can put another object
    of the same name behind a locked one, and cannot remove it: who reads takes the oldest version.

    Arguments:
        url: ``s3://BUCKET/...``; credentials and endpoint come from where Amazon's tools look.
        days: How long a checkpoint is locked.
        clock: The time in seconds since the Unix epoch.

    Raises:
        ConfigError: It is no such URL, boto3 is not installed, or it has no region or the like.
    """

    name = "lock"

    def __init__(self, url: str, *, days: int, clock: Callable[[], float] = time.time) -> None:
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
            raise ConfigError(
                "the bucket with object lock is no s3://BUCKET/...", hint="credentials are not part of the URL"
            )
        self._bucket = parts.netloc
        self._prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        self._days = days
        self._clock = clock
        self._boto3 = _package("boto3")
        self._errors = _package("botocore.exceptions")
        config = _package("botocore.config").Config(
            connect_timeout=CONNECT_SECONDS, read_timeout=ANSWER_SECONDS, retries={"total_max_attempts": _ATTEMPTS}
        )
        try:
            self._client: Any = self._boto3.session.Session().client("s3", config=config)
        except (self._errors.BotoCoreError, ValueError) as error:
            raise ConfigError(f"the bucket {self._bucket} cannot be used: {type(error).__name__}") from None

    def anchor(self, published: Checkpointed) -> Anchored:
        """Put a checkpoint, locked, and see that it is.

        Raises:
            StoreError: The bucket refuses, or has no object lock.
            Unreachable: It does not answer.
        """
        key = f"{self._prefix}{root_checkpoint_path(published.size)}"
        now = datetime.fromtimestamp(self._clock(), UTC)
        until = now + timedelta(days=self._days)
        with self._translated(key):
            put: dict[str, Any] = self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=published.note,
                ContentType="text/plain; charset=utf-8",
                ChecksumAlgorithm="SHA256",
                ObjectLockMode=MODE,
                ObjectLockRetainUntilDate=until,
            )
            # A crash here leaves a locked checkpoint that the database does not know of: another version is put.
            self._check(key, put.get("VersionId"), until, published.note)
        return Anchored(published.round, now)

    def _check(self, key: str, version: str | None, until: datetime, note: bytes) -> None:
        """See that what was put is there, and locked: a server that knows no locks may have passed over ours."""
        if not version:
            raise StoreError(f"the bucket {self._bucket} keeps no versions: it has no object lock")
        found: dict[str, Any] = self._client.get_object(Bucket=self._bucket, Key=key, VersionId=version)
        body: bytes = found["Body"].read(len(note) + 1)
        kept: datetime | None = found.get("ObjectLockRetainUntilDate")
        if hashlib.sha256(body).digest() != hashlib.sha256(note).digest():
            raise StoreError(f"the bucket {self._bucket} has other bytes at {key} than were put there")
        # S3 keeps milliseconds at most.
        if found.get("ObjectLockMode") != MODE or kept is None or kept < until - timedelta(seconds=1):
            raise StoreError(
                f"the bucket {self._bucket} has not locked {key} as was asked", hint="make it with object lock"
            )

    @contextmanager
    def _translated(self, key: str) -> Generator[None]:
        """Turn Amazon's errors into ours, without their texts: those may quote requests."""
        errors = self._errors
        try:
            yield
        except errors.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))[:50]
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            message = f"the bucket {self._bucket} refuses {key}: {code or status}"
            raise (Unreachable(message) if status >= 500 or status == 429 else StoreError(message)) from None
        except (errors.ConnectionError, errors.HTTPClientError) as error:
            raise Unreachable(f"the bucket {self._bucket} does not answer: {type(error).__name__}") from None
        except errors.BotoCoreError as error:  # such as missing credentials
            raise StoreError(f"the bucket {self._bucket} cannot be used: {type(error).__name__}") from None


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError("a bucket with object lock needs the package boto3", hint="pip install boto3") from error
