"""Timestamps by an authority outside (RFC 3161) over root checkpoints, verified before they are kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

from sealstream.schemas.errors import StoreError, TimestampUntrusted
from sealstream.schemas.log_layout import timestamp_path
from sealstream.schemas.timestamp import TIMESTAMP_BYTES_MAX, verify_timestamp
from sealstream.sinks.notary.anchors.anchor import Anchored, Checkpointed
from sealstream.worker.http_client import HttpClient, check_url
from sealstream.worker.objects import Objects

REQUEST_SECONDS: Final = 30.0
CLOCKS_APART_SECONDS_MAX: Final = 300.0
"""How far an authority's clock may be from ours: beyond it one of the two is wrong, and somebody has to look."""

_QUERY: Final = "application/timestamp-query"


class TimestampAnchor:
    """Asks one authority.

    Arguments:
        url: Where it answers.
        roots_pem: The certificates (PEM) that its timestamps must lead to.
        objects: Where the timestamps are published.
        clock: The time in seconds since the Unix epoch.

    Raises:
        ConfigError: The URL is none.
    """

    name = "timestamp"

    def __init__(self, url: str, roots_pem: str, objects: Objects, *, clock: Callable[[], float] = time.time) -> None:
        self._url = check_url(url, "the timestamp authority")
        self._roots_pem = roots_pem
        self._objects = objects
        self._clock = clock
        self._client = HttpClient()

    def anchor(self, published: Checkpointed) -> Anchored:
        """Get a timestamp over a checkpoint's bytes, verify it, and publish it beside the checkpoint.

        Raises:
            TimestampInvalid: The answer is no timestamp over these bytes.
            TimestampUntrusted: The authority is not one of the roots', was not valid, or its clock differs from ours.
            ConfigError: The roots are no certificates.
            StoreError: The authority or the storage refuses.
            Unreachable: One of them does not answer.
        """
        builder = TimestampRequestBuilder().data(published.note).hash_algorithm(HashAlgorithm.SHA256)
        request = builder.nonce(nonce=True).cert_request(cert_request=True).build()
        answer = self._client.ask(
            "POST",
            self._url,
            timeout_seconds=REQUEST_SECONDS,
            bytes_max=TIMESTAMP_BYTES_MAX,
            body=request.as_bytes(),
            content_type=_QUERY,
        )
        if answer.status != 200 or answer.body is None:
            what = f"HTTP status {answer.status}" if answer.body is not None else "an answer that is too large"
            raise StoreError(f"the timestamp authority gives no timestamp: {what}")
        stamped = verify_timestamp(answer.body, published.note, self._roots_pem, nonce=request.nonce)
        apart_seconds = abs(stamped.time_seconds - self._clock())
        if apart_seconds > CLOCKS_APART_SECONDS_MAX:
            raise TimestampUntrusted(
                f"the timestamp states a time that is {apart_seconds:.0f} s from ours",
                hint="one of the clocks is wrong",
            )
        self._objects.put(timestamp_path(published.size), answer.body)
        self._objects.sync()
        # A crash here leaves a timestamp that the database does not know of: another one is made in its place.
        return Anchored(published.round, datetime.fromtimestamp(stamped.time_seconds, UTC), answer.body)
