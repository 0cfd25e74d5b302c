"""Whom a worker or a command believes, out of its settings: a policy, and the records of rotated keys."""

from __future__ import annotations

from sealstream.schemas.errors import ConfigError
from sealstream.schemas.key_history import KeyHistory, parse_rotations
from sealstream.schemas.policy import Policy
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
    return Policy.parse(_whole(settings.policy))


def key_history_of(settings: Settings) -> KeyHistory:
    """Return which key followed which, by the records that are set.

    Raises:
        RotationInvalid: A record does not parse, or is not signed by both keys.
        HistoryForked: Two records contradict each other.
    """
    return KeyHistory(parse_rotations(_whole(settings.rotations)) if settings.rotations else ())


def _whole(text: str) -> bytes:
    """Return a document's bytes; a shell that put it into the environment has taken its last newline."""
    return (text if text.endswith("\n") else f"{text}\n").encode(errors="surrogateescape")
