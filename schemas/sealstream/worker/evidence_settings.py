"""What settings say of evidence: whom to believe, which key followed which, and the secret of the tenant map."""

from __future__ import annotations

from sealstream.schemas.errors import ConfigError
from sealstream.schemas.key_history import KeyHistory, parse_rotations
from sealstream.schemas.policy import Policy
from sealstream.schemas.tenant_map import MAP_SECRET_BYTES
from sealstream.worker.settings import Settings


def policy_of(settings: Settings) -> Policy:
    """Return the policy that is set.

    Raises:
        ConfigError: None is set.
        PolicyInvalid: It does not parse, or contradicts itself.
    """
    if not settings.policy:
        raise ConfigError(
            "SEALSTREAM_POLICY is not set", hint="`log VKEY` and `quorum none` are the least; a file: _POLICY_FILE"
        )
    return Policy.parse(whole(settings.policy))


def key_history_of(settings: Settings) -> KeyHistory:
    """Return which key followed which, by the records that are set.

    Raises:
        RotationInvalid: A record does not parse, or is not signed by both keys.
        HistoryForked: Two records contradict each other.
    """
    return KeyHistory(parse_rotations(whole(settings.rotations)) if settings.rotations else ())


def map_secret_of(settings: Settings) -> bytes:
    """Return what the nonces of the tenant map are made from, 32 bytes.

    Raises:
        ConfigError: It is not set, or malformed. The message does not repeat it.
    """
    text = settings.map_secret.get_secret_value().strip()
    if not text:
        raise ConfigError("SEALSTREAM_MAP_SECRET is not set", hint="sealstream keys secret --file FILE makes one")
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != MAP_SECRET_BYTES or len(text) != 2 * MAP_SECRET_BYTES:
        raise ConfigError(
            "SEALSTREAM_MAP_SECRET is not 64 hex digits", hint="all parts of an instance have the same one"
        )
    return secret


def whole(document: str) -> bytes:
    """Return a document's bytes; a shell that put it into the environment has taken its last newline.

    Arguments:
        document: The setting: the text of a file.
    """
    return (document if document.endswith("\n") else f"{document}\n").encode(errors="surrogateescape")
