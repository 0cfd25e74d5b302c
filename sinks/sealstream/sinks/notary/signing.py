"""Signs the checkpoints of an instance's logs: one key for all, under the name of each."""

from __future__ import annotations

from collections.abc import Sequence

from sealstream.schemas.checkpoint import Checkpoint, chain_origin, root_origin
from sealstream.schemas.errors import ConfigError
from sealstream.schemas.note import sign_note
from sealstream.schemas.note_key import COSIGNATURE_TYPES, SignerKey, VerifierKey
from sealstream.schemas.policy import LOG_TYPES


class LogSigner:
    """Signs in the name of an instance.

    Ed25519 is deterministic: a checkpoint that is signed again has the same bytes. ML-DSA-44 is not, and its
    cosignature has the time in it: keep such a note before it leaves.

    Arguments:
        instance: The instance's name.
        keys: The keys of its logs: one, or one of each type.

    Raises:
        ConfigError: There is none, or one is another log's or a witness's.
    """

    def __init__(self, instance: str, keys: Sequence[SignerKey]) -> None:
        self.origin = root_origin(instance)
        self._instance = instance
        self._keys = tuple(keys)
        if not self._keys:
            raise ConfigError(
                "no key is given to sign checkpoints with", hint="sealstream keys new, SEALSTREAM_LOG_KEY"
            )
        for key in self._keys:
            if key.verifier.name != self.origin or key.verifier.type not in LOG_TYPES:
                raise ConfigError(
                    f"the key {key!r} does not sign the logs of {self.origin}",
                    hint="the key of a log is named as its instance, and has type 0x01 or 0x06",
                )

    @property
    def verifiers(self) -> tuple[VerifierKey, ...]:
        """The public keys."""
        return tuple(key.verifier for key in self._keys)

    @property
    def is_timed(self) -> bool:
        """Whether a signature carries the time, and is another one each time."""
        return any(key.verifier.type in COSIGNATURE_TYPES for key in self._keys)

    def root(self, size: int, root: bytes, *, time_seconds: int) -> bytes:
        """Return the root log's checkpoint, signed.

        The heads that it speaks of must have been compared and swapped before.

        Arguments:
            size: The size of the root log.
            root: Its root.
            time_seconds: When it is signed, in seconds since the Unix epoch; only ML-DSA-44 carries it.

        Raises:
            CheckpointInvalid: They are no size and root.
        """
        return sign_note(Checkpoint(self.origin, size, root).pack(), self._keys, time_seconds=time_seconds)

    def chain(self, chain: str, size: int, root: bytes, *, time_seconds: int) -> bytes:
        """Return a chain's checkpoint, signed by the same keys under the chain's origin.

        Arguments:
            chain: A tenant, or ``!partition-<n>``.
            size: The number of its entries.
            root: The root of its tree.
            time_seconds: As for :meth:`root`.

        Raises:
            CheckpointInvalid: The name is none of a chain, or they are no size and root.
        """
        origin = chain_origin(self._instance, chain)
        keys = [key.renamed(origin) for key in self._keys]
        return sign_note(Checkpoint(origin, size, root).pack(), keys, time_seconds=time_seconds)
