"""A notary that lies: it has the log's key, and makes of what is chained whatever rounds it likes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psycopg

from sealstream.schemas.checkpoint import Checkpoint, chain_origin
from sealstream.schemas.coverage import OffsetRange, PartitionCoverage, pack_coverage
from sealstream.schemas.entry import ZERO_HASH, Kind, pack
from sealstream.schemas.log_layout import (
    ROOT_CHECKPOINT,
    ROOT_UNWITNESSED,
    chain_prefix,
    coverage_path,
    root_checkpoint_path,
)
from sealstream.schemas.merkle import root as tree_root
from sealstream.schemas.note import sign_note
from sealstream.schemas.note_key import SignerKey
from sealstream.schemas.tenant_map import MapLeaf, derive_nonce, map_key
from sealstream.worker.objects import open_objects
from support.rounds import (
    PlainRound,
    Sealed,
    chains_of,
    coverage_of,
    heads_of,
    last_ends,
    make_round,
    publish_chains,
    publish_rounds,
    root_checkpoint,
    seal_round,
)
from support.witnessing import WitnessedLog

LEAVES_KEPT: Final = 256
"""Map leaves that stand in one row of the notary's table."""

Entries = dict[int, list[Sealed]]


@dataclass(frozen=True)
class Truth:
    """What is chained, and what of it is in the rounds that were witnessed.

    Arguments:
        entries: All of audit.chained.
        topic_id: The source topic.
        before: The rounds that were witnessed.
        secret: What the map's nonces are made from.
    """

    entries: Entries
    topic_id: bytes
    before: Sequence[PlainRound]
    secret: bytes

    @property
    def number(self) -> int:
        """The number of the round that comes next."""
        return len(self.before)

    @property
    def ends(self) -> dict[int, int]:
        """Where the next round ends."""
        return last_ends(self.entries)

    def of(self, tenant: str) -> list[Sealed]:
        """Return a chain's entries."""
        return [one for records in self.entries.values() for one in records if one.parsed.tenant == tenant]

    def last(self, tenant: str) -> Sealed:
        """Return a chain's last entry."""
        return self.of(tenant)[-1]

    def round(self, entries: Entries | None = None, *, secret: bytes = b"") -> PlainRound:
        """Return the next round, of these entries or the true ones."""
        return make_round(
            entries or self.entries,
            self.ends,
            topic_id=self.topic_id,
            before=self.before,
            secret=secret or self.secret,
        )

    def part(self, partition: int) -> PartitionCoverage:
        """Return what the next round truly says of a partition."""
        return next(part for part in self.round().parts if part.partition == partition)

    def with_part(self, changed: PartitionCoverage) -> PlainRound:
        """Return the next round with another part in the place of the one of the same partition."""
        true = self.round()
        parts = [changed if part.partition == changed.partition else part for part in true.parts]
        return self.seal(parts, heads_of(self.entries, self.ends))

    def seal(self, parts: Iterable[PartitionCoverage], heads: dict[str, object] | Mapping[str, object]) -> PlainRound:
        """Return the next round with these parts and chains."""
        return seal_round(self.before[-1] if self.before else None, parts, dict(heads), secret=self.secret)  # type: ignore[arg-type]

    def without(self, *left_out: Sealed) -> Entries:
        """Return the entries but these."""
        return {number: [one for one in records if one not in left_out] for number, records in self.entries.items()}


# -- lies --------------------------------------------------------------------------------------------------------------


def entry_left_out(truth: Truth, tenant: str) -> PlainRound:
    """Leave a chain's last entry out, and call its offset invisible."""
    return truth.round(truth.without(truth.last(tenant)))


def offset_hidden(truth: Truth, tenant: str) -> PlainRound:
    """Call the offset of a chain's last entry invisible, and leave the entry in the chain."""
    last = truth.last(tenant).parsed
    part = truth.part(last.partition)
    counts = list(part.counts)
    counts[last.kind] -= 1
    offset = OffsetRange(last.offset, last.offset)
    return truth.with_part(replace(part, counts=tuple(counts), invisible=_joined((*part.invisible, offset))))


def chain_not_grown(truth: Truth, tenant: str) -> PlainRound:
    """Leave a chain as it was in the round before."""
    true = truth.round()
    return truth.seal(true.parts, true.heads | {tenant: truth.before[-1].heads[tenant]})


def chain_shrunk(truth: Truth, tenant: str) -> PlainRound:
    """Let a chain have fewer entries than it had in the round before."""
    true = truth.round()
    first = truth.of(tenant)[:1]
    return truth.seal(true.parts, true.heads | heads_of({0: first}, {0: first[0].parsed.offset + 1}))


def chain_dropped(truth: Truth, tenant: str) -> PlainRound:
    """Leave a chain out of the map."""
    true = truth.round()
    return truth.seal(true.parts, {name: head for name, head in true.heads.items() if name != tenant})


def chain_invented(truth: Truth, tenant: str) -> PlainRound:
    """Put a chain into the map that nobody has."""
    true = truth.round()
    return truth.seal(true.parts, true.heads | {f"{tenant}-ghost": true.heads[tenant]})


def round_skipped(truth: Truth, tenant: str) -> PlainRound:
    """Sign a round with the number of the one behind it."""
    del tenant
    true = truth.round()
    return replace(true, leaf=replace(true.leaf, round=truth.number + 1, previous=b"p" * 32))


def round_of_another_past(truth: Truth, tenant: str) -> PlainRound:
    """Name another round as the one before than the one that stands there."""
    del tenant
    true = truth.round()
    return replace(true, leaf=replace(true.leaf, previous=b"p" * 32))


def loss_hidden(truth: Truth, tenant: str) -> PlainRound:
    """Call invisible what is lost, and was declared so."""
    part = truth.part(truth.last(tenant).parsed.partition)
    counts = list(part.counts)
    counts[Kind.GAP] = 0
    return truth.with_part(
        replace(part, counts=tuple(counts), invisible=_joined((*part.invisible, *part.lost)), lost=())
    )


def loss_invented(truth: Truth, tenant: str) -> PlainRound:
    """Call lost what nobody sees, though nobody has declared that."""
    part = truth.part(truth.last(tenant).parsed.partition)
    counts = list(part.counts)
    counts[Kind.GAP] += len(part.invisible)
    lost = tuple(sorted((*part.invisible, *part.lost), key=lambda one: one.first))
    return truth.with_part(replace(part, counts=tuple(counts), invisible=(), lost=lost))


def miscounted(truth: Truth, tenant: str) -> PlainRound:
    """Count an event as one that was imported."""
    part = truth.part(truth.last(tenant).parsed.partition)
    counts = list(part.counts)
    counts[Kind.EVENT], counts[Kind.IMPORTED] = counts[Kind.EVENT] - 1, counts[Kind.IMPORTED] + 1
    return truth.with_part(replace(part, counts=tuple(counts)))


def offsets_left_out(truth: Truth, tenant: str) -> PlainRound:
    """Begin behind the offset with which the round had to begin."""
    last = truth.last(tenant).parsed
    part = truth.part(last.partition)
    begin = part.begin + 1
    changed = coverage_of(truth.entries[last.partition], truth.topic_id, last.partition, begin, part.end)
    return truth.with_part(changed)


def offsets_twice(truth: Truth, tenant: str) -> PlainRound:
    """Begin before the offset with which the round had to begin."""
    last = truth.last(tenant).parsed
    part = truth.part(last.partition)
    begin = part.begin - 1
    changed = coverage_of(truth.entries[last.partition], truth.topic_id, last.partition, begin, part.end)
    return truth.with_part(changed)


def other_names(truth: Truth, tenant: str) -> PlainRound:
    """Make the map with nonces of another secret, so that no tenant finds himself."""
    del tenant
    return truth.round(secret=b"s" * 32)


def edited(truth: Truth, tenant: str) -> tuple[PlainRound, Entries]:
    """Take in another entry than the last one of a chain, and publish its hash; return what it is made of, too."""
    last = truth.last(tenant)
    forged = last._replace(entry=pack(replace(last.parsed, received=1)))
    entries = {n: [forged if one == last else one for one in records] for n, records in truth.entries.items()}
    return truth.round(entries), entries


def _joined(ranges: Iterable[OffsetRange]) -> tuple[OffsetRange, ...]:
    """Return ranges in their order, those that touch made one."""
    made: list[OffsetRange] = []
    for one in sorted(ranges, key=lambda each: each.first):
        if made and made[-1].last + 1 == one.first:
            made[-1] = OffsetRange(made[-1].first, one.last)
        else:
            made.append(one)
    return tuple(made)


# -- what is published -------------------------------------------------------------------------------------------------


class LyingNotary:
    """Signs and publishes rounds, whether they are true or not.

    Arguments:
        key: The log's.
        directory: Where it publishes.
        url: The notary's database, for those who ask it.
        secret: What the map's nonces are made from.
    """

    def __init__(self, key: SignerKey, directory: Path, url: str, secret: bytes) -> None:
        self.key = key
        self.directory = directory
        self.url = url
        self.secret = secret

    def checkpoint(self, rounds: Sequence[PlainRound]) -> Checkpoint:
        """Return the root checkpoint behind rounds."""
        return root_checkpoint(self.key.verifier.name, rounds)

    def request(self, rounds: Sequence[PlainRound], old_size: int) -> bytes:
        """Return what a witness is asked."""
        log = WitnessedLog((), self.key)
        log.leaves = [one.leaf.hash() for one in rounds]
        return log.body(old_size, len(rounds))

    def publish(self, rounds: Sequence[PlainRound], entries: Entries, *, cosignatures: bytes = b"") -> bytes:
        """Publish rounds in place of whatever there was, and return their checkpoint.

        Arguments:
            rounds: The rounds.
            entries: What the chains' logs are made of.
            cosignatures: The lines of witnesses who have believed it.
        """
        shutil.rmtree(self.directory)
        self.directory.mkdir()
        objects = open_objects(str(self.directory))
        publish_rounds(objects, rounds)
        ends = last_ends(entries)
        publish_chains(objects, entries, ends)
        for name, hashes in chains_of(entries, ends).items():
            origin = chain_origin(self.key.verifier.name, name)
            text = Checkpoint(origin, len(hashes), tree_root(hashes)).pack()
            objects.put(f"{chain_prefix(name)}checkpoint", sign_note(text, [self.key.renamed(origin)]))
        unwitnessed = sign_note(self.checkpoint(rounds).pack(), [self.key])
        note = unwitnessed + cosignatures
        objects.put_many(
            [(ROOT_UNWITNESSED, unwitnessed), (ROOT_CHECKPOINT, note), (root_checkpoint_path(len(rounds)), note)]
        )
        self._remember(rounds)
        return note

    def put_coverage(self, number: int, parts: Sequence[PartitionCoverage]) -> None:
        """Publish another coverage than the one that a round commits to."""
        open_objects(str(self.directory)).put(coverage_path(number), pack_coverage(parts))

    def _remember(self, rounds: Sequence[PlainRound]) -> None:
        """Tell those who ask its database the same."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                "TRUNCATE sealstream_notary.rounds, sealstream_notary.map_leaves, sealstream_notary.chains"
            )
            for one in rounds:
                number = one.leaf.round
                connection.execute(
                    "INSERT INTO sealstream_notary.rounds (round, leaf, coverage, root) VALUES (%s, %s, %s, %s)",
                    (number, one.leaf.pack(), pack_coverage(one.parts), one.leaf.hash()),
                )
                leaves = sorted(
                    (
                        MapLeaf(map_key(derive_nonce(self.secret, name), name), *head)
                        for name, head in one.heads.items()
                    ),
                    key=lambda leaf: leaf.key,
                )
                assert len(leaves) <= LEAVES_KEPT
                connection.execute(
                    "INSERT INTO sealstream_notary.map_leaves VALUES (%s, 0, %s)",
                    (number, b"".join(leaf.pack() for leaf in leaves)),
                )
            for name, head in rounds[-1].heads.items():
                connection.execute(
                    "INSERT INTO sealstream_notary.chains VALUES (%s, 0, %s, %s, %s, ''::bytea, 0, 0)",
                    (name, head.size, head.root, ZERO_HASH),
                )
