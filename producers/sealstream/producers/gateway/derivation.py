"""What of an event its sender leaves to the gateway, made so that a retry is the same bytes.

The gateway remembers nothing between two requests, and there may be several of it. So nothing here is random: an HMAC
(RFC 2104, SHA-256) under the instance's secret makes the id of the credential and the ``Idempotency-Key``, and the salt
of the credential and the whole event. Who repeats a request repeats its bytes, and the chain marks them as a duplicate
(kind 3); who sends something else under the same key or id makes a conflict (kind 5), which is kept and shown.

The credential is a part of both. An id cannot be guessed from outside, and nobody but the first sender can have the
salt of his event made again, and so try what stands behind a digest.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, Final

import orjson

from sealstream.schemas.errors import ConfigError

SECRET_BYTES: Final = 32
SALT_BYTES: Final = 16
_ID_LABEL: Final = b"sealstream/gateway-id1\n"
_SALT_LABEL: Final = b"sealstream/gateway-salt1\n"
_LENGTH_BYTES: Final = 4
_INDEX_BYTES: Final = 4


class Derivation:
    """Makes ids and salts.

    Arguments:
        secret: 32 random bytes; the same for every gateway of an instance, and for ever: with another one, a retry is
            another event.
    """

    def __init__(self, secret: bytes) -> None:
        self._id_key = hmac.digest(secret, _ID_LABEL, "sha256")
        self._salt_key = hmac.digest(secret, _SALT_LABEL, "sha256")

    def event_id(self, credential: str, tenant: str, idempotency_key: bytes, index: int) -> str:
        """Return the id of a request's event that has none of its own: a UUID of version 8 (RFC 9562 section 5.8).

        Arguments:
            credential: Who sent it.
            tenant: Whose event it is.
            idempotency_key: The request's ``Idempotency-Key``.
            index: Which of the request's events it is, from 0.
        """
        message = _joined(credential.encode(), tenant.encode(), idempotency_key)
        digest = hmac.digest(self._id_key, message + index.to_bytes(_INDEX_BYTES, "big"), "sha256")
        value = int.from_bytes(digest[:16], "big")
        value = value & ~(0xF << 76) | 8 << 76
        value = value & ~(0x3 << 62) | 2 << 62
        digits = f"{value:032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def salt(self, credential: str, tenant: str, event_id: str, event: Mapping[str, Any]) -> bytes:
        """Return the salt of an event.

        Arguments:
            credential: Who sent it.
            tenant: Whose event it is.
            event_id: Its id.
            event: The event's members as they came in; how JSON writes them, and in which order, does not count.
        """
        content = orjson.dumps(event, option=orjson.OPT_SORT_KEYS)
        message = _joined(credential.encode(), tenant.encode(), event_id.encode(), content)
        return hmac.digest(self._salt_key, message, "sha256")[:SALT_BYTES]


def parse_secret(text: str) -> bytes:
    """Return the secret that 64 hexadecimal digits stand for.

    Raises:
        ConfigError: They are missing, or not 64 hexadecimal digits.
    """
    if not text:
        raise ConfigError(
            "SEALSTREAM_GATEWAY_SECRET is not set",
            hint="sealstream keys secret --file FILE, then SEALSTREAM_GATEWAY_SECRET_FILE=FILE",
        )
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES or len(text) != 2 * SECRET_BYTES:
        raise ConfigError("SEALSTREAM_GATEWAY_SECRET is not 64 hexadecimal digits", hint="sealstream keys secret")
    return secret


def _joined(*parts: bytes) -> bytes:
    """Return the parts behind one another, each after its length, so that no two lists of parts give the same bytes."""
    return b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in parts)
