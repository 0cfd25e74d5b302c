"""Proofs are made out of store, storage and the notary's maps; what does not hold is named, and not given out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest

from sealstream.schemas.entry import Kind, entry_hash
from sealstream.schemas.errors import EvidenceDamaged, NotYetProvable, QuorumMissing, StoreError, Unreachable
from sealstream.schemas.evidence import ProofLevel, verify_proof
from sealstream.schemas.key_history import KeyHistory, sign_rotation
from sealstream.schemas.log_layout import root_checkpoint_path
from sealstream.schemas.note_key import KeyType, VerifierKey
from sealstream.schemas.proof_file import ProofFile
from sealstream.sinks.proofs.archive import Archive
from sealstream.sinks.proofs.notary_reader import NotaryReader
from sealstream.sinks.proofs.proving import AsyncProver, Prover, Strength
from sealstream.sinks.store.reader import AuditStore
from support.memory_notary import FIRST_ROUND_SECONDS, MAP_SECRET, ROUND_SECONDS, WITNESS_KEYS, policy, reader
from support.notes import signer
from support.provable import Provable, provable


@pytest.fixture
def instance() -> Provable:
    """Three rounds: two tenants, one more, and more of the first one."""
    return provable()


def test_proof_of_each_record_holds_by_its_readers_policy(instance: Provable) -> None:
    """Whichever entry is proven, its file, read back, is believed by who knows the policy and nothing else."""
    for tenant, seq in (("acme", 0), ("acme", 2), ("acme", 3), ("acme", 599), ("globex", 1), ("initech", 255)):
        made = instance.prover.get_record_proof(tenant, seq)
        shown = verify_proof(ProofFile.parse(made.proof.pack()), reader())
        assert (shown.entry.tenant, shown.entry.seq, shown.level) == (tenant, seq, ProofLevel.WITNESSED)
        assert shown.entry_hash == instance.store.get_record(tenant, seq).chain_hash


def test_earliest_round_that_has_the_entry_is_taken(instance: Provable) -> None:
    """An entry of the first round is proven by its checkpoint, so that the time shown is the earliest one."""
    rounds = [instance.prover.get_record_proof("acme", seq).proof.rooted.round for seq in (0, 2, 3, 599)]
    assert rounds == [0, 0, 2, 2]


def test_time_is_bounded_from_both_sides(instance: Provable) -> None:
    """The round before shows the chain without the entry, so that who reads the proof knows since when it was there."""
    made = instance.prover.get_record_proof("acme", 3)
    assert made.evidence is not None
    end = FIRST_ROUND_SECONDS + 2 * ROUND_SECONDS + 1
    assert made.evidence.existed_by[0].time_seconds == end
    assert {one.time_seconds for one in made.evidence.absent_at} == {end - ROUND_SECONDS}
    assert made.evidence.earlier_size == 3
    assert instance.prover.get_record_proof("acme", 3, earlier=False).proof.earlier is None


def test_every_record_of_an_id_is_proven(instance: Provable) -> None:
    """An id alone is not unique: each of its records gets a proof, a duplicate included, which carries no payload."""
    instance.duplicate("acme", "ev-1", ref=1)
    instance.notary.round()
    found = instance.prover.get_event_proof("acme", "ev-1")
    assert [(one.record.seq, one.record.kind) for one in found] == [(1, Kind.EVENT), (600, Kind.DUPLICATE)]
    assert [one.proof.schema is None for one in found] == [False, True]


def test_next_checkpoint_with_a_quorum_is_taken(instance: Provable) -> None:
    """Where a round's own checkpoint did not reach its quorum, a later one that did covers it."""
    instance.events("acme", "late")
    instance.notary.round(witnesses=1)
    with pytest.raises(NotYetProvable, match="cosigned by its quorum"):
        instance.prover.get_event_proof("acme", "late")
    instance.notary.round()
    (made,) = instance.prover.get_event_proof("acme", "late")
    assert (made.proof.rooted.round, made.proof.rooted.checkpoint().size) == (3, 5)


def test_what_no_round_has_is_not_yet_provable(instance: Provable) -> None:
    """A fresh event is no error of the store: it is said since when it is there, and how long it normally takes."""
    instance.events("acme", "fresh")
    with pytest.raises(NotYetProvable, match=r"tenant acme seq 600 .*received 2023-11-14.*no round") as raised:
        instance.prover.get_event_proof("acme", "fresh")
    assert "120 s" in raised.value.hint
    instance.notary.round()
    assert instance.prover.get_event_proof("acme", "fresh")[0].proof.rooted.round == 3


def test_anchored_proof_waits_for_a_timestamp(instance: Provable) -> None:
    """Asked for an anchored proof, the first timestamped checkpoint from the round on is taken, with its timestamp."""
    with pytest.raises(NotYetProvable, match="timestamped"):
        instance.prover.get_record_proof("acme", 1, strength=Strength.ANCHORED)
    instance.notary.stamp(1, b"a timestamp")
    instance.notary.stamp(2, b"another timestamp")
    made = instance.prover.get_record_proof("acme", 1, strength=Strength.ANCHORED)
    assert (made.proof.rooted.round, made.proof.rooted.checkpoint().size) == (0, 2)
    assert made.proof.rooted.timestamps == (b"a timestamp",)


def test_map_that_was_pruned_is_done_without(instance: Provable) -> None:
    """Maps go after an hour: the next one that is kept is taken, also by who knew the one that has gone."""
    assert instance.prover.get_record_proof("globex", 1).proof.rooted.round == 0
    instance.notary.prune(0)
    assert instance.fresh().get_record_proof("globex", 1).proof.rooted.round == 1
    instance.notary.prune(1)
    assert instance.prover.get_record_proof("globex", 1).proof.rooted.round in (1, 2)
    assert instance.fresh().get_record_proof("globex", 1).proof.rooted.round == 2


def test_fewer_files_are_read_once_they_are_known(instance: Provable) -> None:
    """A proof never reads the chain: some files for the first one, and none that were read for the next one."""
    instance.prover.get_record_proof("acme", 300)
    first = instance.notary.objects.gets
    assert first <= 12
    instance.prover.get_record_proof("acme", 301)
    assert instance.notary.objects.gets == first


def _edit_chain_tile(instance: Provable) -> None:
    _flip(instance, "chains/acme/tile/0/000")


def _edit_root_tile(instance: Provable) -> None:
    _flip(instance, "root/tile/0/000.p/3")


def _flip(instance: Provable, path: str) -> None:
    files = instance.notary.objects.files
    files[path] = bytes((files[path][0] ^ 1,)) + files[path][1:]


def _edit_map(instance: Provable) -> None:
    leaves = instance.notary.leaves
    data = leaves[2, 0]
    instance.notary.leaves = {place: data if place == (2, 0) else kept for place, kept in leaves.items()}
    instance.notary.leaves[2, 0] = b"".join(
        data[at : at + 56] + bytes((data[at + 56] ^ 1,)) + data[at + 57 : at + 88] for at in range(0, len(data), 88)
    )


def _edit_map_tile(instance: Provable) -> None:
    data = instance.notary.tiles[2, 0, 0]
    instance.notary.tiles[2, 0, 0] = bytes(byte ^ 1 for byte in data)


def _lose_tile(instance: Provable) -> None:
    del instance.notary.objects.files["chains/acme/tile/0/000"]


def _other_checkpoint(instance: Provable) -> None:
    files = instance.notary.objects.files
    files[root_checkpoint_path(3)] = files[root_checkpoint_path(2)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_edit_chain_tile, "do not lead to the root that round 2 has"),
        (_edit_map, "the map kept of round 2"),
        (_edit_map_tile, "the map kept of round 2"),
        (_edit_root_tile, "the root log's tiles at size 3"),
        (_lose_tile, "tile/0/000"),
        (_other_checkpoint, "published for size 3 is of size 2"),
    ],
)
def test_what_does_not_hold_is_named_and_not_given_out(
    instance: Provable, change: Callable[[Provable], None], words: str
) -> None:
    """Whatever was changed in storage or database: the error names tenant, seq and what differs."""
    change(instance)
    with pytest.raises(EvidenceDamaged, match=words) as raised:
        instance.prover.get_record_proof("acme", 10)
    assert (raised.value.tenant, raised.value.seq) == ("acme", 10)


def test_stored_entry_that_is_not_the_published_one_is_named(instance: Provable) -> None:
    """An entry that was exchanged in the store, whole and with its hash, does not stand in the published tree."""
    other = Provable()
    other.events("acme", "ev-x")
    instance.store.all = [other.store.get_record("acme", 1) if one.seq == 1 else one for one in instance.store.all]
    with pytest.raises(EvidenceDamaged, match=r"tenant acme seq 1: .*stored entry"):
        instance.prover.get_record_proof("acme", 1)


def test_what_is_an_events_own_is_verified_each_time(instance: Provable) -> None:
    """A round that was verified vouches for none of its entries: an altered payload or entry is found all the same."""
    true = instance.prover.get_record_proof("acme", 10).record
    entry = true.entry[:-1] + bytes((true.entry[-1] ^ 1,))
    for altered in (
        replace(true, payload=(true.payload or b"") + b"x"),
        replace(true, payload=instance.store.get_record("acme", 11).payload),
        replace(true, entry=entry),
        replace(true, entry=entry, chain_hash=entry_hash(entry)),
    ):
        instance.store.all = [altered if one.seq == 10 and one.tenant == "acme" else one for one in instance.store.all]
        with pytest.raises(EvidenceDamaged) as raised:
            instance.prover.get_record_proof("acme", 10)
        assert (raised.value.tenant, raised.value.seq) == ("acme", 10)


def test_key_that_goes_out_of_use_takes_its_cosignatures_along(
    instance: Provable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was verified is remembered, what it counts for is not: a prover notices that a witness has another key."""
    old, now_seconds = WITNESS_KEYS[0], int(time.time())
    new = signer(old.verifier.name, KeyType.COSIGNATURE, number=1)
    rotation, _ = sign_rotation(old, new, old_not_after_seconds=now_seconds + 60, new_not_before_seconds=now_seconds)
    archive = Archive(cast("NotaryReader", instance.notary), instance.notary.objects)
    store = cast("AuditStore", instance.store)
    with Prover(store, archive, map_secret=MAP_SECRET, policy=policy(), history=KeyHistory([rotation])) as prover:
        assert prover.get_record_proof("acme", 1).evidence is not None
        monkeypatch.setattr(time, "time", lambda: now_seconds + 61.0)
        with pytest.raises(QuorumMissing, match="no longer in use"):
            prover.get_record_proof("acme", 1)


def test_signatures_are_verified_once_for_all_proofs_of_a_round(
    instance: Provable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine tenths of the work on a checkpoint are its signatures: they are looked at once, not for every entry."""
    verified: list[bytes] = []

    def counted(key: VerifierKey, text: bytes, signature: bytes) -> bool:
        verified.append(signature)
        return plainly(key, text, signature)

    plainly = VerifierKey.verify
    monkeypatch.setattr(VerifierKey, "verify", counted)
    for seq in (10, 11, 599):
        instance.prover.get_record_proof("acme", seq)
    assert len(verified) == len(set(verified)) == 2 * 3  # the round and the one before it: a log and two witnesses


def test_checkpoint_that_the_policy_does_not_believe_is_not_given_out(instance: Provable) -> None:
    """A prover with a policy gives out no proof that its own policy would refuse; one without judges the trees."""
    path = root_checkpoint_path(1)
    note = instance.notary.objects.files[path]
    instance.notary.objects.files[path] = b"\n".join(note.split(b"\n")[:-2]) + b"\n"
    with pytest.raises(QuorumMissing):
        instance.prover.get_record_proof("acme", 1)
    assert instance.fresh(judged=False).get_record_proof("acme", 1).evidence is None


def test_what_is_not_there_is_said(instance: Provable) -> None:
    """An unknown event, a seq behind the end, and a database that is away are said as what they are."""
    with pytest.raises(StoreError, match="no event ev-x of tenant acme"):
        instance.prover.get_event_proof("acme", "ev-x")
    with pytest.raises(StoreError, match="no entry 6000"):
        instance.prover.get_record_proof("acme", 6000)
    away = Archive(NotaryReader("postgresql://nobody@127.0.0.1:1/none", timeout_seconds=2), instance.notary.objects)
    with (
        Prover(cast("AuditStore", instance.store), away, map_secret=MAP_SECRET) as prover,
        pytest.raises(Unreachable, match="SEALSTREAM_NOTARY_DATABASE"),
    ):
        prover.get_record_proof("acme", 1)


def test_both_fronts_give_the_same(instance: Provable) -> None:
    """From asyncio the same proofs come, byte for byte."""

    async def ask() -> tuple[bytes, bytes]:
        async with AsyncProver(instance.fresh()) as twin:
            (by_id,) = await twin.get_event_proof("globex", "ev-1")
            return by_id.proof.pack(), (await twin.get_record_proof("globex", 1)).proof.pack()

    (expected,) = instance.prover.get_event_proof("globex", "ev-1")
    assert asyncio.run(ask()) == (expected.proof.pack(), expected.proof.pack())
