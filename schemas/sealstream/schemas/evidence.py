"""What a proof file shows to its reader: verified from the entry up to a root checkpoint that he has reason to believe.

Pure: no network and no clock but the reader's. Keys, policy, rotations, the time and the timestamp authorities come
from the reader, and from the file comes data alone. Whatever does not hold is a typed error; a result says what is
shown, who says so, and in words what is not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Final

from sealstream.schemas.codec import SINGLE_OBJECT_MAGIC, EventReader, read_prefix, schema_fingerprint
from sealstream.schemas.entry import (
    CARRIED_KINDS,
    WINDOW_KINDS,
    Entry,
    Genesis,
    Kind,
    entry_hash,
    parse_epoch_payload,
    parse_gap_payload,
    payload_digest,
)
from sealstream.schemas.errors import (
    EntryInvalid,
    EventDiffers,
    EvidenceInvalid,
    FrameInvalid,
    SchemaUnknown,
    TimestampUntrusted,
)
from sealstream.schemas.policy import NO_QUORUM
from sealstream.schemas.proof_file import ProofFile, RootedMap
from sealstream.schemas.proofs import root_from_inclusion, verify_consistency, verify_inclusion
from sealstream.schemas.tenant_map import MapLeaf, map_key
from sealstream.schemas.timestamp import verify_timestamp
from sealstream.schemas.trust import CLOCK_SKEW_SECONDS, Cosignature, Reader, TrustedCheckpoint, verify_checkpoint
from sealstream.schemas.writer_schema import Schema, parse_writer_schema

SCHEMA_NESTING_MAX: Final = 200
"""How deep the brackets of a schema's text may be nested."""

_PREFIX_KINDS: Final = {Kind.EVENT: 0, Kind.IMPORTED: 1, Kind.CONTROL: 2}
"""The kind that the prefix of a payload must say; one of a conflict may say any."""


class ProofLevel(IntEnum):
    """How much stands behind a proof, each level more than the one before."""

    CHECKPOINT = 1
    """The log has signed it: whoever has the log's key could have made it."""
    WITNESSED = 2
    """A quorum of witnesses has cosigned it: they have seen one history."""
    ANCHORED = 3
    """It is witnessed, and a timestamp authority of the reader's says by when it was there."""

    @property
    def word(self) -> str:
        """The level as it is written."""
        return self.name.lower()


class PayloadStatus(StrEnum):
    """What is known of the bytes that the entry commits to."""

    MATCHES = "matches"
    """They are at hand, and are the ones."""
    ABSENT = "absent"
    """They are not at hand: kept elsewhere, or erased."""
    NOT_CARRIED = "not carried"
    """They are not at hand, and the log never carries them for an entry of this kind."""


class SchemaSource(StrEnum):
    """By which schema a payload was decoded."""

    SHIPPED = "shipped"
    """By this version's own, which the payload names by fingerprint."""
    FILE = "file"
    """By the one in the file, which nothing vouches for."""


@dataclass(frozen=True, slots=True)
class TimeBound:
    """Somebody's word on a time.

    Arguments:
        time_seconds: The time, in seconds since the Unix epoch.
        by: Who says so: the policy's name of a witness, or the name of a timestamp authority.
        timestamp: Whether it is a timestamp of RFC 3161; else it is a witness's cosignature.
    """

    time_seconds: int
    by: str
    timestamp: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a proof file shows.

    Arguments:
        entry: The entry that is proven.
        entry_hash: Its hash.
        chain_size: The number of entries of the chain in the round.
        round: The number of the round.
        trusted: The root checkpoint, and who signed it.
        level: How much stands behind it.
        payload: What is known of the payload.
        event: What the payload says, as the dictionary of the shipped schema; ``None`` where it was not decoded.
        event_schema: By which schema it was decoded; ``None`` where it was not.
        existed_by: Who says that the entry was in the log at a time, the earliest first; the first is the end of the
            interval. Witnesses come with the time by which a quorum had cosigned.
        absent_at: Who says that the published log was without the entry at a time, the earliest first; the first is
            the begin of the interval. Witnesses only: a timestamp says of nothing that it was not there before.
        earlier_size: The number of entries of the chain in the earlier state; ``None`` without one.
        not_proven: What is not shown, in words.
        remarks: What is unusual, or did not count and why, in words.
    """

    entry: Entry
    entry_hash: bytes
    chain_size: int
    round: int
    trusted: TrustedCheckpoint
    level: ProofLevel
    payload: PayloadStatus
    event: Mapping[str, Any] | None
    event_schema: SchemaSource | None
    existed_by: tuple[TimeBound, ...]
    absent_at: tuple[TimeBound, ...]
    earlier_size: int | None
    not_proven: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def origin(self) -> str:
        """The origin of the root log, which is the name of the instance."""
        return self.trusted.checkpoint.origin


@dataclass(frozen=True, slots=True)
class _Rooted:
    """A way up that was verified: the checkpoint at its end, and the timestamps over it."""

    trusted: TrustedCheckpoint
    timestamps: tuple[TimeBound, ...]


def verify_proof(
    proof: ProofFile,
    reader: Reader,
    *,
    timestamp_roots: bytes | None = None,
    payload: bytes | None = None,
    origin: str | None = None,
    tenant: str | None = None,
    event_id: str | None = None,
) -> Evidence:
    """Return what a proof file shows, if all of it holds.

    Arguments:
        proof: The file.
        reader: Whom its reader believes, by which rotations, and what time it is.
        timestamp_roots: The certificates of the timestamp authorities that he believes, in PEM; ``None`` if he judges
            no timestamps: they then count for nothing, and the result says so.
        payload: The payload, where it does not come with the file.
        origin: The instance that was asked for; ``None`` for any whose root log the policy knows.
        tenant: The chain that was asked for; ``None`` for any.
        event_id: The event that was asked for; ``None`` for any.

    Raises:
        EventDiffers: It is of another chain or event.
        ProofFileInvalid: It was not parsed, and a field of it is out of range.
        ProofInvalid: An inclusion or consistency proof does not lead where it must.
        EvidenceInvalid: The parts contradict one another: the payload is not the entry's or says something else than
            it, or the earlier state is none of the same log.
        TimestampInvalid: A timestamp is malformed, or is not one over its checkpoint.
        TimestampUntrusted: A timestamp is by an authority that the reader does not know, or is in the future.
        SealstreamError: What :func:`~sealstream.schemas.trust.verify_checkpoint` raises.
    """
    proof.check()
    entry = proof.parsed_entry()
    refuse_other("proof", "tenant", tenant, entry.tenant)
    refuse_other("proof", "event", event_id, entry.event_id)
    at_hand = tuple(one for one in (payload, proof.payload) if one is not None)
    for one in at_hand:
        verify_payload(entry, one)
        _verify_instance(entry, one, proof.rooted.checkpoint().origin)
    key = map_key(proof.nonce, entry.tenant)
    leaf_hash = entry_hash(proof.entry)
    root = root_from_inclusion(proof.path, leaf=leaf_hash, index=entry.seq, size=proof.size)
    _verify_way(proof.rooted, MapLeaf(key, proof.size, root))
    if proof.earlier is not None:
        _verify_earlier_way(proof, key)
    now = _believe(proof.rooted, reader, timestamp_roots, origin)
    earlier = _believe_earlier(proof, reader, timestamp_roots, now)
    remarks: list[str] = [*now.trusted.left_out]
    event, source = _decode(entry, at_hand[0], proof.schema, remarks) if at_hand else (None, None)
    status = PayloadStatus.MATCHES if at_hand else _absence(entry)
    existed_by, absent_at = _existed_by(now), _absent_at(earlier)
    _remark_on_received(entry, existed_by, remarks)
    return Evidence(
        entry=entry,
        entry_hash=leaf_hash,
        chain_size=proof.size,
        round=proof.rooted.round,
        trusted=now.trusted,
        level=_level(now),
        payload=status,
        event=event,
        event_schema=source,
        existed_by=existed_by,
        absent_at=absent_at,
        earlier_size=proof.earlier.size if proof.earlier is not None else None,
        not_proven=tuple(_not_proven(proof, reader, timestamp_roots, now, absent_at, status, source)),
        remarks=tuple(remarks),
    )


@dataclass(frozen=True, slots=True)
class RootedEvidence:
    """What the way from a chain's state up to a root checkpoint shows.

    Arguments:
        trusted: The root checkpoint, and who signed it.
        level: How much stands behind it.
        existed_by: As in :class:`Evidence`.
    """

    trusted: TrustedCheckpoint
    level: ProofLevel
    existed_by: tuple[TimeBound, ...]


def verify_rooted(
    rooted: RootedMap, leaf: MapLeaf, reader: Reader, *, timestamp_roots: bytes | None = None, origin: str | None = None
) -> RootedEvidence:
    """Return what a way shows, if it leads from a chain's leaf in the map to a root checkpoint that is believed.

    Arguments:
        rooted: The way.
        leaf: The chain's leaf: its size and the root that was computed for it.
        reader: As for :func:`verify_proof`.
        timestamp_roots: As there.
        origin: As there.

    Raises:
        SealstreamError: As :func:`verify_proof`.
    """
    _verify_way(rooted, leaf)
    now = _believe(rooted, reader, timestamp_roots, origin)
    return RootedEvidence(now.trusted, _level(now), _existed_by(now))


def refuse_other(file: str, what: str, asked: str | None, found: str) -> None:
    """Refuse what is not the one that was asked for: a true proof of something else proves nothing of that.

    Arguments:
        file: What it is, a proof or a bundle.
        what: What was asked for by name.
        asked: The name that was asked for; ``None`` for any.
        found: The name that it has; empty if it has none.

    Raises:
        EventDiffers: The names differ.
    """
    if asked is not None and asked != found:
        raise EventDiffers(
            f"the {file} is of {what} {found or 'none'}, and {asked} was asked for",
            hint="whoever gave it out was asked for another one, or has given another one out",
        )


def verify_payload(entry: Entry, payload: bytes) -> None:
    """Refuse a payload that the entry does not commit to, or that says something else than the entry.

    Raises:
        EvidenceInvalid: It is such a payload.
    """
    name = f"the payload of {entry.tenant} seq {entry.seq}"
    if len(payload) != entry.length or payload_digest(payload) != entry.payload:
        raise EvidenceInvalid(
            f"{name} is not the one that the entry commits to", hint="it was altered, or is that of another entry"
        )
    if entry.kind in WINDOW_KINDS:
        try:
            event_id, tenant, kind = read_prefix(payload)
        except FrameInvalid as error:
            raise EvidenceInvalid(f"{name} is no event, and its entry says it is: {error.message}") from error
        if (event_id, tenant) != (entry.event_id.encode(), entry.tenant.encode()):
            raise EvidenceInvalid(f"{name} names another tenant or event than its entry")
        if kind != _PREFIX_KINDS.get(entry.kind, kind):
            raise EvidenceInvalid(f"{name} is of another kind than its entry")


def _verify_instance(entry: Entry, payload: bytes, instance: str) -> None:
    """Refuse the payload of a genesis, epoch or gap that has not its form, or is another instance's."""
    try:
        if entry.kind is Kind.GENESIS:
            named = Genesis.parse(payload).instance
        elif entry.kind is Kind.EPOCH:
            named = parse_epoch_payload(payload)[0].instance
        else:
            named = instance
            if entry.kind is Kind.GAP and parse_gap_payload(payload)[0] != entry.offset:
                raise EvidenceInvalid(f"the gap at {entry.tenant} seq {entry.seq} begins at another offset")
    except EntryInvalid as error:
        raise EvidenceInvalid(f"the payload of {entry.tenant} seq {entry.seq}: {error.message}") from error
    if named != instance:
        raise EvidenceInvalid(f"{entry.tenant} seq {entry.seq} is of instance {named}, and the log of {instance[:200]}")


def _verify_way(rooted: RootedMap, leaf: MapLeaf) -> None:
    """Refuse a way that does not lead from a chain's leaf in the map to the root that the checkpoint says."""
    map_root = root_from_inclusion(rooted.map_path, leaf=leaf.hash(), index=rooted.index, size=rooted.chains)
    checkpoint = rooted.checkpoint()
    verify_inclusion(
        rooted.root_path,
        leaf=rooted.leaf(map_root).hash(),
        index=rooted.round,
        size=checkpoint.size,
        root=checkpoint.root,
    )


def _verify_earlier_way(proof: ProofFile, key: bytes) -> None:
    """Refuse an earlier state that is not one of the same chain in the same log, before the round of the proof."""
    earlier = proof.earlier
    assert earlier is not None
    _verify_way(earlier.rooted, MapLeaf(key, earlier.size, earlier.root))
    first, second = earlier.rooted.checkpoint(), proof.rooted.checkpoint()
    if first.origin != second.origin:
        raise EvidenceInvalid(f"the earlier checkpoint is of {first.origin[:200]}, and the later of another log")
    if proof.rooted.round < first.size:
        raise EvidenceInvalid(f"the chain had {earlier.size} entries in a round behind the one in which it had more")
    verify_consistency(
        earlier.consistency,
        first_size=first.size,
        first_root=first.root,
        second_size=second.size,
        second_root=second.root,
    )


def _believe(rooted: RootedMap, reader: Reader, roots: bytes | None, origin: str | None) -> _Rooted:
    """Return a way's checkpoint if the reader believes it, with the timestamps that he judges."""
    timestamps = _timestamps(rooted, reader, roots)
    existed_by = timestamps[0].time_seconds if timestamps else None
    trusted = verify_checkpoint(rooted.note, reader, origin=origin, existed_by_seconds=existed_by)
    return _Rooted(trusted, timestamps)


def _believe_earlier(proof: ProofFile, reader: Reader, roots: bytes | None, now: _Rooted) -> _Rooted | None:
    if proof.earlier is None:
        return None
    return _believe(proof.earlier.rooted, reader, roots, now.trusted.checkpoint.origin)


def _timestamps(rooted: RootedMap, reader: Reader, roots: bytes | None) -> tuple[TimeBound, ...]:
    """Return the timestamps over a way's note, the earliest first; none if the reader judges none."""
    if roots is None or not rooted.timestamps:
        return ()
    found: list[TimeBound] = []
    for token in rooted.timestamps:
        timestamp = verify_timestamp(token, rooted.note, roots)
        latest_seconds = timestamp.existed_by_seconds
        if latest_seconds > reader.now_seconds + reader.clock_skew_seconds:
            raise TimestampUntrusted(
                f"timestamp of {timestamp.authority} is from {latest_seconds}, which is in the future",
                hint="check the clock, or the time that was given",
            )
        found.append(TimeBound(latest_seconds, timestamp.authority, timestamp=True))
    return tuple(sorted(found, key=lambda one: one.time_seconds))


def _absence(entry: Entry) -> PayloadStatus:
    return PayloadStatus.ABSENT if entry.kind in CARRIED_KINDS else PayloadStatus.NOT_CARRIED


def _level(now: _Rooted) -> ProofLevel:
    if now.trusted.quorum_time_seconds is None:
        return ProofLevel.CHECKPOINT
    return ProofLevel.ANCHORED if now.timestamps else ProofLevel.WITNESSED


def _existed_by(now: _Rooted) -> tuple[TimeBound, ...]:
    """Return who says by when the entry was in the log: a quorum's last witness, and each timestamp."""
    bounds = list(now.timestamps)
    quorum_seconds = now.trusted.quorum_time_seconds
    if quorum_seconds is not None:
        bounds += [_said(one) for one in now.trusted.cosignatures if one.time_seconds == quorum_seconds][:1]
    return tuple(sorted(bounds, key=lambda one: one.time_seconds))


def _absent_at(earlier: _Rooted | None) -> tuple[TimeBound, ...]:
    """Return who says until when the published log was without the entry.

    A witness cosigns no smaller log than it has seen, so one that cosigned the earlier checkpoint at a time had seen no
    later one by then. A timestamp over it shows the contrary of what is wanted: that it was not made later.
    """
    return tuple(_said(one) for one in earlier.trusted.cosignatures) if earlier is not None else ()


def _said(cosignature: Cosignature) -> TimeBound:
    return TimeBound(cosignature.time_seconds, cosignature.witness, timestamp=False)


def _remark_on_received(entry: Entry, existed_by: tuple[TimeBound, ...], remarks: list[str]) -> None:
    if existed_by and entry.received > (existed_by[0].time_seconds + CLOCK_SKEW_SECONDS) * 1_000_000:
        remarks.append("the broker says that it received the record after it was in the log: its clock was wrong")


def _decode(
    entry: Entry, payload: bytes, schema: bytes | None, remarks: list[str]
) -> tuple[Mapping[str, Any] | None, SchemaSource | None]:
    """Return what an event's payload says, and by which schema; nothing where it cannot be read.

    Whether it can be read decides nothing: it is the bytes that are proven.
    """
    if entry.kind not in WINDOW_KINDS:
        return None, None
    shipped = payload.startswith(SINGLE_OBJECT_MAGIC + schema_fingerprint("AuditEvent"))
    if not shipped and schema is None:
        remarks.append("the payload is not decoded: its writer's schema is not in the file")
        return None, None
    try:
        if shipped:
            return EventReader().read_datum(payload), SchemaSource.SHIPPED
        parsed = _parse_schema(schema or b"")
        return EventReader(schema_by_id=lambda _: parsed, others=(parsed,)).read_datum(payload), SchemaSource.FILE
    except (SchemaUnknown, FrameInvalid) as error:
        remarks.append(f"the payload is not decoded: {error.message}")
        return None, None


def _parse_schema(text: bytes) -> Schema:
    """Return a schema out of a file.

    Raises:
        SchemaUnknown: It is none that is safe to use.
    """
    if _nesting(text) > SCHEMA_NESTING_MAX:  # before anything recurses into it
        raise SchemaUnknown(f"the schema in the file is nested deeper than {SCHEMA_NESTING_MAX}")
    try:
        return parse_writer_schema(json.loads(text))
    except ValueError as error:
        raise SchemaUnknown("the schema in the file is no JSON") from error


def _nesting(text: bytes) -> int:
    """Return how deep brackets are nested in a text; those in its strings count, too."""
    depth = deepest = 0
    for byte in text:
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _not_proven(
    proof: ProofFile,
    reader: Reader,
    roots: bytes | None,
    now: _Rooted,
    absent_at: tuple[TimeBound, ...],
    status: PayloadStatus,
    source: SchemaSource | None,
) -> Iterator[str]:
    """Yield what a proof that holds does not show, in words."""
    yield "that what the event says is true, the time it names included: that is the application's word"
    yield "that the broker's clock was right when it received the event"
    yield "that nothing was left out before it came to the log, and that the event stands in the chain only once"
    if status is PayloadStatus.ABSENT:
        yield "what the event says: its bytes are not at hand, and the entry only commits to them"
    if status is PayloadStatus.NOT_CARRIED:
        yield "what the source record says: the log does not carry the bytes of such an entry, and only commits to them"
    if source is SchemaSource.FILE:
        yield "that the event's fields have the names shown: nothing vouches for the schema in the file"
    if reader.policy.quorum == NO_QUORUM:
        yield "that the log shows everybody the same history: the policy asks for no witness"
        yield "that the signature is not by a thief of the log's key"
    else:
        yield (
            "that the entry is what the rules make of its source record, unless a witness of the quorum recomputes it, "
            "and that the log's key and the keys of a quorum were not in one hand"
        )
    if now.timestamps:
        yield "that no key of the timestamp authority was stolen"
    elif proof.rooted.timestamps and roots is None:
        yield (
            f"by when it was there, by somebody else's word: timestamps in the file: {len(proof.rooted.timestamps)}, "
            "not judged, since no roots of authorities were given"
        )
    else:
        yield "by when it was there, by somebody else's word than the witnesses': no timestamp is in the file"
    if not absent_at:
        yield "since when at the earliest it was there: no witness has cosigned a log without it that is in the file"
    else:
        yield "that it was not there earlier and kept back: the witnesses say until when nobody had shown it to them"
