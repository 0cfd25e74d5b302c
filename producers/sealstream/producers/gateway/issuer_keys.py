"""An issuer's public keys: fetched, kept for a while, and fetched again, never more often than the issuer can bear."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from sealstream.kafka.patience import call_beside
from sealstream.producers.gateway.problems import unavailable
from sealstream.producers.gateway.tokens import JWKS_BYTES_MAX, IssuerKey, parse_keys
from sealstream.schemas.errors import ConfigError, Unreachable
from sealstream.worker.http_client import HttpClient, check_url
from sealstream.worker.logs import logger

FRESH_SECONDS: Final = 300.0
"""After this the keys are fetched anew, while those that are there go on to count."""
STALE_SECONDS_MAX: Final = 3_600.0
"""After this without an answer of the issuer no token counts any more: a key may have been withdrawn."""
ATTEMPT_SECONDS_MIN: Final = 10.0
"""At most so often the issuer is asked, however many tokens name keys that do not exist."""
FETCH_SECONDS: Final = 5.0
_HTTP_OK: Final = 200


class IssuerKeys:
    """The keys of an issuer.

    Arguments:
        fetch: Returns the issuer's JWK set; called in a thread of its own; raises :class:`Unreachable`.
        algorithms: What the keys are for.
        now: Returns the time in seconds; never goes back.
    """

    def __init__(
        self,
        fetch: Callable[[], bytes],
        algorithms: frozenset[str],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._algorithms = algorithms
        self._now = now
        self._keys: tuple[IssuerKey, ...] = ()
        self._fetched_seconds: float | None = None
        self._tried_seconds: float | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def keys(self) -> tuple[IssuerKey, ...]:
        """Return the keys, fetching them if need be.

        Raises:
            Problem: There are none, or the issuer has not answered for too long.
        """
        age = self._age()
        if age is None or age > FRESH_SECONDS:
            refreshing = self._refresh()
            if (age is None or age > STALE_SECONDS_MAX) and refreshing is not None:
                await asyncio.shield(refreshing)
        age = self._age()
        if age is None or age > STALE_SECONDS_MAX:
            raise unavailable(
                "issuer-away", "the keys of the tokens' issuer cannot be fetched", int(ATTEMPT_SECONDS_MIN)
            )
        return self._keys

    async def newer_keys(self) -> tuple[IssuerKey, ...]:
        """Return the keys after asking the issuer again, for a token that names an unknown one.

        Raises:
            Problem: As :meth:`keys`.
        """
        refreshing = self._refresh()
        if refreshing is not None:
            await asyncio.shield(refreshing)
        return await self.keys()

    def _age(self) -> float | None:
        return None if self._fetched_seconds is None else self._now() - self._fetched_seconds

    def _refresh(self) -> asyncio.Task[None] | None:
        """Begin to fetch the keys, or return the fetching that is under way; ``None`` if it was tried just now."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        if self._tried_seconds is not None and self._now() - self._tried_seconds < ATTEMPT_SECONDS_MIN:
            return None
        self._tried_seconds = self._now()
        self._fetching = asyncio.get_running_loop().create_task(self._fetch_once())
        return self._fetching

    async def _fetch_once(self) -> None:
        try:
            data = await asyncio.wrap_future(call_beside(self._fetch, name="issuer-keys"))
            keys = parse_keys(data, self._algorithms)
        except (Unreachable, ValueError) as error:
            logger().warning("the issuer's keys cannot be fetched", detail=str(error))
            return
        self._keys, self._fetched_seconds = keys, self._now()


def fetch_from(url: str) -> Callable[[], bytes]:
    """Return what fetches a JWK set.

    Raises:
        ConfigError: The URL is none, or anybody on the way could change what is fetched.
    """
    address = check_url(url, "the issuer's keys")
    parts = urlsplit(address)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise ConfigError(
            "SEALSTREAM_GATEWAY_JWKS_URL is not https://", hint="whoever can change the keys can make tokens"
        )
    client = HttpClient()

    def fetch() -> bytes:
        answer = client.ask("GET", address, timeout_seconds=FETCH_SECONDS, bytes_max=JWKS_BYTES_MAX)
        if answer.status != _HTTP_OK or answer.body is None:
            raise Unreachable(f"{address} answers {answer.status}, or with more than {JWKS_BYTES_MAX} bytes")
        return answer.body

    return fetch


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
