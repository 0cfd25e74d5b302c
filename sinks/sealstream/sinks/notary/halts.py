"""When the notary must not go on: what is published, what it has committed to, and what the store has differ.

Each of these is an alarm. None of them is repaired by the notary: a person finds out which of the three is the right
one, and restores the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.entry import entry_hash
from sealstream.schemas.errors import ChainPlace, InstanceDiffers, RolledBack, StoreDamaged, TreeDiffers
from sealstream.schemas.key_history import KeyHistory
from sealstream.schemas.note_key import VerifierKey
from sealstream.schemas.violation import ROOT_LOG
from sealstream.sinks.notary.chain_check import ANOTHER_END, REWRITTEN_HINT
from sealstream.sinks.notary.chains import Chains
from sealstream.sinks.notary.database import NotaryDatabase
from sealstream.sinks.notary.steps import Memory
from sealstream.sinks.notary.stored import Snapshot

_RESTORE_HINT: Final = "restore the latest state of the notary's database; signing from an older one would fork the log"


def check_memory(memory: Memory, *, instance: str, keys: Iterable[VerifierKey]) -> None:
    """Refuse the database of another log.

    Arguments:
        memory: What the database says.
        instance: The instance that this notary is of.
        keys: All keys that have ever signed its log.

    Raises:
        InstanceDiffers: It is another instance's, or began with a key that this notary's key does not follow.
    """
    if memory.instance != instance:
        raise InstanceDiffers(
            f"the notary's database is of the instance {memory.instance}, and this is {instance}",
            hint="set SEALSTREAM_INSTANCE and SEALSTREAM_NOTARY_DATABASE to those of one instance",
        )
    known = {str(key) for key in keys}
    if memory.key not in known:
        raise InstanceDiffers(
            f"the log began with the key {memory.key}, which SEALSTREAM_LOG_KEY does not follow",
            hint="set the key of this log; after a rotation give its record in SEALSTREAM_ROTATIONS",
        )


def check_published(published: Checkpoint | None, memory: Memory | None, database: NotaryDatabase) -> None:
    """Refuse to go on from heads that what is published did not come from.

    Arguments:
        published: The largest root checkpoint that is known outside of the database; ``None`` if there is none.
        memory: What the notary has committed to; ``None`` if its database has begun no log.
        database: Its database.

    Raises:
        RolledBack: A larger checkpoint was published, or one is known while the database has begun no log.
        TreeDiffers: Another root of the same size was published.
        StoreError: The database refuses.
        Unreachable: It does not answer.
    """
    if published is None:
        return
    if memory is None:
        raise RolledBack(
            f"a checkpoint of {published.origin} at size {published.size} was published, and the notary's database has"
            " begun no log",
            places=[ChainPlace(ROOT_LOG, 0)],
            hint=_RESTORE_HINT,
        )
    if published.size > memory.head.size:
        raise RolledBack(
            f"a checkpoint of {published.origin} at size {published.size} was published, and the head is at"
            f" {memory.head.size}",
            places=[ChainPlace(ROOT_LOG, memory.head.size)],
            hint=_RESTORE_HINT,
        )
    row = database.round(published.size - 1) if published.size else None
    if row is not None and row.root != published.root:
        raise TreeDiffers(
            f"the checkpoint of {published.origin} that was published at size {published.size} has another root than"
            " the one committed to",
            places=[ChainPlace(ROOT_LOG, None)],
            hint="two notaries have signed two histories with one key: find out which database is the right one",
        )


def check_ends(chains: Chains, snapshot: Snapshot) -> None:
    """Refuse a store that lacks the last entry of a chain, or has another one in its place.

    Arguments:
        chains: All chains' heads.
        snapshot: The store, at a moment behind that of the heads.

    Raises:
        TreeDiffers: An entry that a head speaks of is missing.
        StoreDamaged: It is another one.
        StoreError: The store refuses.
        Unreachable: It does not answer.
    """
    places = ((head.chain, head.size - 1) for head in chains)
    for chain, digest, entry in snapshot.last_entries(places):
        size, last_hash = chains.end(chain)
        if entry is None:
            raise TreeDiffers(
                f"the store has no entry {size - 1} of chain {chain}, and a head of size {size} was committed to",
                places=[ChainPlace(chain, size - 1)],
                hint="the store was rolled back or lost its end; nothing smaller is ever signed",
            )
        if digest != last_hash or entry_hash(entry) != last_hash:
            raise StoreDamaged(
                chain,
                size - 1,
                ANOTHER_END,
                hint=REWRITTEN_HINT,
            )


def known_keys(keys: Iterable[VerifierKey], history: KeyHistory) -> tuple[VerifierKey, ...]:
    """Return all keys that have ever signed a log: those in use, and those that they follow.

    Raises:
        HistoryForked: The history does not say which.
    """
    return tuple(dict.fromkeys(dated.key for key in keys for dated in history.lineage(key)))
