"""Records of audit.chained, checked before anything of them is stored. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from sealstream.kafka.topics import SEAL_ENTRY_HEADER
from sealstream.schemas.entry import (
    CARRIED_KINDS,
    Entry,
    Genesis,
    Kind,
    entry_hash,
    parse,
    parse_epoch_payload,
    payload_digest,
)
from sealstream.schemas.errors import EntryInvalid, InstanceDiffers, SealInvalid

_HINT: Final = "only the processor may write this topic: find out who else did; nothing of the record was stored"


class ChainedRecord(NamedTuple):
    """A record whose seal holds: what every batch needs of it. The rest is in :attr:`entry`.

    Arguments:
        offset: Its offset on audit.chained.
        kind: The entry's kind.
        tenant: The entry's chain.
        seq: Its place there.
        prev: The hash that it goes on from.
        data: The entry's bytes.
        hash: The entry's hash.
        payload: What the entry commits to; ``None`` for the kinds that do not carry it.
    """

    offset: int
    kind: int
    tenant: str
    seq: int
    prev: bytes
    data: bytes
    hash: bytes
    payload: bytes | None

    @property
    def entry(self) -> Entry:
        """The entry, unpacked each time: it costs more than all else that is done with an ordinary record."""
        return parse(self.data)


def chained_record(offset: int, entry: Entry, data: bytes, payload: bytes | None) -> ChainedRecord:
    """Return the record of an entry that was unpacked, and found to hold, already."""
    return ChainedRecord(offset, int(entry.kind), entry.tenant, entry.seq, entry.prev, data, entry_hash(data), payload)


def read_record(
    topic: str,
    partition: int,
    offset: int,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
    *,
    instance: str,
) -> ChainedRecord:
    """Return a record of audit.chained, checked against its own seal.

    Only the processor may write the topic, so a record that fails is no bad input to be set aside: the worker stops.

    Raises:
        SealInvalid: The record is not what its seal says, or has none; says where it stands.
        InstanceDiffers: The chain belongs to another instance.
    """
    where = f"{topic} partition {partition} offset {offset}"
    seals = [content for name, content in headers if name == SEAL_ENTRY_HEADER]
    if len(seals) != 1 or seals[0] is None:
        raise SealInvalid(f"{where}: the record has {len(seals)} seals", hint=_HINT)
    try:
        entry = parse(seals[0])
    except EntryInvalid as error:
        raise SealInvalid(f"{where}: the seal is no entry: {error.message}", hint=_HINT) from error
    if entry.tenant.encode() != key:
        raise SealInvalid(f"{where}: the seal is that of chain {entry.tenant}, and the key is another", hint=_HINT)
    if entry.partition != partition:
        raise SealInvalid(f"{where}: the seal is that of partition {entry.partition}", hint=_HINT)
    payload = _payload(where, entry, value)
    if entry.kind in (Kind.GENESIS, Kind.EPOCH) and payload is not None:
        _check_genesis(where, payload, instance, epoch=entry.kind is Kind.EPOCH)
    return chained_record(offset, entry, seals[0], payload)


def _payload(where: str, entry: Entry, value: bytes | None) -> bytes | None:
    """Return the payload that the record carries, or ``None`` if its kind carries none.

    Raises:
        SealInvalid: It is not the one that the entry commits to.
    """
    if value is None:
        raise SealInvalid(f"{where}: the record has no value", hint=_HINT)
    if entry.kind not in CARRIED_KINDS:
        if value:
            raise SealInvalid(f"{where}: an entry of kind {entry.kind.name} carries a payload", hint=_HINT)
        return None
    if len(value) != entry.length or payload_digest(value) != entry.payload:
        raise SealInvalid(f"{where}: the value is not the one that the entry commits to", hint=_HINT)
    return value


def _check_genesis(where: str, payload: bytes, instance: str, *, epoch: bool) -> None:
    try:
        genesis = parse_epoch_payload(payload)[0] if epoch else Genesis.parse(payload)
    except EntryInvalid as error:
        raise SealInvalid(f"{where}: {error.message}", hint=_HINT) from error
    if genesis.instance != instance:
        raise InstanceDiffers(
            f"{where}: the chain belongs to instance {genesis.instance}, and this worker to {instance}",
            hint="set SEALSTREAM_INSTANCE, or give each instance a store of its own",
        )
