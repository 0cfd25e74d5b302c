"""What a record that is not the demanded one is: each kind of wrong has one name, and an exact place."""

from __future__ import annotations

from typing import Final, NamedTuple

from sealstream.schemas.entry import Entry, Genesis, Kind, parse, parse_epoch_payload
from sealstream.schemas.errors import EntryInvalid
from sealstream.schemas.violation import ViolationType
from sealstream.sinks.verifier.records import ChainedRecord, Demand

TEXT_CHARACTERS_MAX: Final = 512
_FIELDS: Final = (
    "kind",
    "reason",
    "tenant",
    "seq",
    "prev",
    "received",
    "topic_id",
    "partition",
    "offset",
    "ref",
    "event_id",
    "length",
    "payload",
)
_PLACE: Final = frozenset({"seq", "prev"})


class Finding(NamedTuple):
    """What is wrong with one record.

    Arguments:
        type: What kind of wrong.
        tenant: The chain at fault.
        seq: The entry at fault, where one can be named.
        offset: The source offset at fault, where one can be named.
        message: What is wrong, for a person.
        expected: What should have been there.
        found: What was there.
    """

    type: ViolationType
    tenant: str
    seq: int | None
    offset: int | None
    message: str
    expected: str = ""
    found: str = ""


def claim_of(record: ChainedRecord) -> Entry | None:
    """Return what a record's entry says, or ``None`` if it has none that parses."""
    try:
        return None if record.entry is None else parse(record.entry)
    except EntryInvalid:
        return None


def instead(  # noqa: PLR0911  # one return a kind of wrong
    record: ChainedRecord, claim: Entry | None, demand: Demand
) -> Finding:
    """Return what is wrong with a record that stands in the place of the demanded one."""
    tenant, offset = demand.chain.name.decode(), demand.verdict.offset

    def finding(kind: ViolationType, seq: int, message: str, expected: str = "", found: str = "") -> Finding:
        return Finding(kind, tenant, seq, offset, message, expected, found)

    if claim is None:
        what = "the record has no entry" if record.entry is None else "the entry does not parse"
        return finding(ViolationType.EDITED, demand.seq, what, found=_short((record.entry or b"").hex()))
    wanted = parse(demand.entry)
    differ = [name for name in _FIELDS if getattr(claim, name) != getattr(wanted, name)]
    expected, found = (_short(", ".join(f"{n}={_text(getattr(e, n))}" for n in differ)) for e in (wanted, claim))
    if not differ:
        return _carried_wrong(record, demand)
    if (claim.topic_id, claim.partition) != (wanted.topic_id, wanted.partition):
        message = "the entry belongs to another topic or partition"
        return finding(ViolationType.FOREIGN, demand.seq, message, expected, found)
    if claim.tenant != tenant or record.key != demand.chain.name:
        message = "an entry of another chain stands in the place of this one"
        return finding(ViolationType.FOREIGN, demand.seq, message, expected, found)
    if demand.leads and _other_instance(record, demand):
        message = f"the {demand.kind.name.lower()} is another instance's"
        return finding(ViolationType.FOREIGN, demand.seq, message, expected, found)
    if _PLACE.issuperset(differ) and "prev" in differ and claim.seq > wanted.seq:
        message = f"seq {wanted.seq} to {claim.seq - 1} are missing: the entry of this source record has {claim.seq}"
        return finding(ViolationType.GAP, wanted.seq, message, expected, found)
    if _PLACE.issuperset(differ) and "prev" in differ and claim.seq < wanted.seq:
        return finding(ViolationType.FORK, claim.seq, "an entry has this seq already", expected, found)
    message = f"the entry is not what the rules demand of its source record: {', '.join(differ)}"
    return finding(ViolationType.EDITED, demand.seq, message, expected, found)


def extra(
    record: ChainedRecord,
    claim: Entry | None,
    *,
    tenant: str,
    topic_id: bytes,
    partition: int,
    belongs: bool,
    next_seq: int,
) -> Finding:
    """Return what is wrong with a record that no source record demands here.

    Arguments:
        record: The record.
        claim: What its entry says, if it parses.
        tenant: The chain that the record seems to belong to.
        topic_id: UUID of the source topic.
        partition: The source partition.
        belongs: Whether the entry's chain is one of this partition.
        next_seq: The next seq of that chain.
    """
    if claim is None:
        return Finding(
            ViolationType.EDITED,
            tenant,
            None,
            None,
            f"the record at offset {record.offset} of audit.chained has no entry that parses",
            found=_short((record.entry or b"").hex()),
        )

    def finding(kind: ViolationType, message: str) -> Finding:
        return Finding(kind, tenant, claim.seq, claim.offset, message, found=_text(claim.payload))

    if (claim.topic_id, claim.partition) != (topic_id, partition):
        return finding(ViolationType.FOREIGN, "the entry belongs to another topic or partition")
    if not belongs or record.key != claim.tenant.encode():
        return finding(ViolationType.FOREIGN, "the entry belongs to a chain that does not stand here")
    if claim.kind is Kind.GAP:
        return finding(ViolationType.GAP, "a source range is declared lost, and that is not what the source has lost")
    if claim.seq < next_seq:
        return finding(ViolationType.FORK, "an entry has this seq already")
    return finding(ViolationType.EDITED, "no source record demands this entry")


def _carried_wrong(record: ChainedRecord, demand: Demand) -> Finding:
    """The entry is right, but the record around it is not."""
    tenant, offset = demand.chain.name.decode(), demand.verdict.offset
    if record.key != demand.chain.name:
        key = "none" if record.key is None else _short(record.key.decode("ascii", "backslashreplace"))
        message = "the record's key is not its chain"
        return Finding(ViolationType.FOREIGN, tenant, demand.seq, offset, message, tenant, key)
    message = "the value is not the source record's"
    sizes = (f"{len(demand.value)} bytes", "null" if record.value is None else f"{len(record.value)} bytes")
    return Finding(ViolationType.PAYLOAD_ALTERED, tenant, demand.seq, offset, message, *sizes)


def _other_instance(record: ChainedRecord, demand: Demand) -> bool:
    try:
        found, wanted = (_pinned(value, epoch=demand.seq > 0) for value in (record.value or b"", demand.value))
    except EntryInvalid:
        return False
    return found.instance != wanted.instance


def _pinned(value: bytes, *, epoch: bool) -> Genesis:
    return parse_epoch_payload(value)[0] if epoch else Genesis.parse(value)


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _short(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS_MAX else text[:TEXT_CHARACTERS_MAX] + "..."
