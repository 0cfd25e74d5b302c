"""What a proof file shows, and to whom: who is believed, what is refused, and what is said of what it does not show."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest

from sealstream.schemas.codec import SINGLE_OBJECT_MAGIC, fingerprint_of, schema_text
from sealstream.schemas.entry import Genesis, Kind, epoch_payload, gap_payload, pack, payload_digest
from sealstream.schemas.errors import (
    EvidenceInvalid,
    KeyUntimely,
    OriginDiffers,
    ProofFileInvalid,
    ProofInvalid,
    QuorumMissing,
    SignatureInvalid,
    SignatureMissing,
)
from sealstream.schemas.event import EventKind
from sealstream.schemas.evidence import (
    SCHEMA_NESTING_MAX,
    Evidence,
    PayloadStatus,
    ProofLevel,
    SchemaSource,
    verify_proof,
    verify_rooted,
)
from sealstream.schemas.proof_file import EarlierState, ProofFile
from sealstream.schemas.tenant_map import map_key
from sealstream.schemas.writer_schema import parse_writer_schema
from support.notes import NOW_SECONDS, ORIGIN, policy, reader, signer
from support.publish import event_value
from support.sealproofs import (
    INSTANCE,
    ROUND_SECONDS,
    SCHEMA,
    SIGNED_SECONDS,
    TENANT,
    TOPIC_ID,
    Chain,
    Instance,
    chain,
    nonce,
    with_earlier,
)

EARLIER: Final = with_earlier()
STATE: Final = EARLIER.earlier or pytest.fail("there is an earlier state")


def one_entry(kind: Kind, payload: bytes, *, name: str = TENANT, event_id: str = "", reason: int = 0) -> ProofFile:
    """Return the proof of an entry of a kind with a payload, which is the last of a chain; everything else holds."""
    before = () if kind is Kind.GENESIS else chain(name, 1 if name.startswith("!") else 3)
    fields = replace(INSTANCE.proof(0).parsed_entry(), tenant=name)
    if isinstance(before, Chain):
        seq, ref = len(before.entries), 1 if kind is Kind.CONFLICT else 0
        fields = replace(fields, kind=kind, seq=seq, prev=before.hashes[-1], offset=7, event_id=event_id, ref=ref)
    first = before.entries if isinstance(before, Chain) else ()
    data = pack(replace(fields, reason=reason, length=len(payload), payload=payload_digest(payload)))
    whole = Chain(name, (*first, data), (*(b"" for _ in first), payload))
    proof = Instance((whole,), ((len(first) + 1,),)).proof(len(first), name=name, with_payload=False)
    return replace(proof, payload=payload)


class TestWhatHolds:
    """A proof that holds says what it shows."""

    @pytest.mark.parametrize("seq", range(21))
    def test_every_entry(self, seq: int) -> None:
        """Each entry of a chain is proven, whatever its kind, in the first round that has it and in later ones."""
        for round_number in range(1, 6):
            if INSTANCE.sizes[round_number][0] <= seq:
                continue
            for size in range(round_number + 1, 7):
                proof = INSTANCE.proof(seq, round_number=round_number, size=size)
                evidence = verify_proof(proof, reader())
                assert (evidence.entry.seq, evidence.entry_hash) == (seq, INSTANCE.chains[0].hashes[seq])
                assert (evidence.round, evidence.trusted.checkpoint.size) == (round_number, size)

    @pytest.mark.parametrize("name", ["acme", "globex", "initech", "!partition-0"])
    def test_every_chain(self, name: str) -> None:
        """A proof holds for whichever place its chain has in the map."""
        evidence = verify_proof(INSTANCE.proof(0, name=name), reader())
        assert (evidence.entry.tenant, evidence.origin) == (name, ORIGIN)

    def test_who_and_when(self) -> None:
        """It says who cosigned when: a quorum by when it was there, witnesses of the earlier log until when not."""
        evidence = verify_proof(EARLIER, reader(), origin=ORIGIN)
        by = SIGNED_SECONDS + 5 * ROUND_SECONDS
        assert [(one.by, one.time_seconds, one.timestamp) for one in evidence.existed_by] == [("W1", by + 2, False)]
        assert [(one.by, one.time_seconds) for one in evidence.absent_at] == [
            ("W2", by - ROUND_SECONDS + 1),
            ("W1", by - ROUND_SECONDS + 2),
        ]
        assert (evidence.level, evidence.level.word) == (ProofLevel.WITNESSED, "witnessed")
        assert (evidence.chain_size, evidence.earlier_size, evidence.remarks) == (18, 13, ())
        assert any("kept back" in words for words in evidence.not_proven)

    def test_without_an_earlier_state(self) -> None:
        """Without one the time has no begin, and that is said."""
        evidence = verify_proof(INSTANCE.proof(15), reader())
        assert (evidence.absent_at, evidence.earlier_size) == ((), None)
        assert any("at the earliest" in words for words in evidence.not_proven)

    def test_nobody_witnesses(self) -> None:
        """Where the policy asks for no witness, only the log's word stands behind it, and there is no time."""
        evidence = verify_proof(EARLIER, reader(policy(0)))
        assert (evidence.level, evidence.existed_by, evidence.absent_at) == (ProofLevel.CHECKPOINT, (), ())
        assert any("no witness" in words for words in evidence.not_proven)

    def test_event(self) -> None:
        """What the event says is decoded, by the schema that this version ships."""
        evidence = verify_proof(INSTANCE.proof(8), reader())
        assert evidence.event is not None
        assert (evidence.event["id"], evidence.event_schema) == ("ev-8", SchemaSource.SHIPPED)
        assert evidence.payload is PayloadStatus.MATCHES

    @pytest.mark.parametrize(("seq", "status"), [(8, PayloadStatus.ABSENT), (3, PayloadStatus.NOT_CARRIED)])
    def test_no_payload(self, seq: int, status: PayloadStatus) -> None:
        """Without its payload an entry is proven all the same; whether it ever is carried is told apart, and said."""
        evidence = verify_proof(INSTANCE.proof(seq, with_payload=False), reader())
        assert (evidence.payload, evidence.event) == (status, None)
        assert any("bytes" in words for words in evidence.not_proven)

    @pytest.mark.parametrize("seq", [3, 4, 8])
    def test_payload_from_elsewhere(self, seq: int) -> None:
        """A payload can be given apart, also for an entry whose payload no log carries."""
        payload = INSTANCE.chains[0].payloads[seq]
        evidence = verify_proof(INSTANCE.proof(seq, with_payload=False), reader(), payload=payload)
        assert evidence.payload is PayloadStatus.MATCHES
        with pytest.raises(EvidenceInvalid, match="not the one"):
            verify_proof(INSTANCE.proof(seq), reader(), payload=payload + b"!")

    def test_what_did_not_count(self) -> None:
        """A cosignature that did not count is mentioned, with the reason."""
        at = SIGNED_SECONDS
        note = INSTANCE.note(3, {1: at, 2: at, 3: NOW_SECONDS + 10_000})
        evidence = verify_proof(INSTANCE.proof(8, note=note), reader())
        assert any("W3" in words and "future" in words for words in evidence.remarks)

    def test_a_broker_whose_clock_was_ahead(self) -> None:
        """A broker that says it received the record after it was in the log is mentioned: the rest holds."""
        late = Instance((chain(TENANT, 3, received_seconds=NOW_SECONDS),), ((3,),))
        evidence = verify_proof(late.proof(2), reader())
        assert any("clock" in words for words in evidence.remarks)
        assert verify_proof(INSTANCE.proof(8), reader()).remarks == ()


def test_way_alone() -> None:
    """The way up from a chain can be verified for a root that was computed otherwise, as of a part of the chain."""
    leaf = next(one for one in INSTANCE.leaves(4) if one.key == map_key(nonce(TENANT), TENANT))
    found = verify_rooted(EARLIER.rooted, leaf, reader(), origin=ORIGIN)
    assert (found.level, found.existed_by) == (ProofLevel.WITNESSED, verify_proof(EARLIER, reader()).existed_by)
    with pytest.raises(ProofInvalid):
        verify_rooted(EARLIER.rooted, replace(leaf, size=17), reader())


class TestOtherKinds:
    """Payloads that are no events."""

    GENESIS = Genesis(ORIGIN, 4)

    @pytest.mark.parametrize(
        "proof",
        [
            one_entry(Kind.GENESIS, GENESIS.payload()),
            one_entry(Kind.EPOCH, epoch_payload(GENESIS, TOPIC_ID)),
            one_entry(Kind.GAP, gap_payload(7, 9), name="!partition-0", reason=1),
            one_entry(Kind.CONTROL, event_value(TENANT, "c-1", kind=EventKind.CONTROL), event_id="c-1"),
            one_entry(Kind.CONFLICT, event_value(TENANT, "c-1", kind=EventKind.IMPORTED), event_id="c-1"),
        ],
        ids=["genesis", "epoch", "gap", "control", "conflict"],
    )
    def test_holds(self, proof: ProofFile) -> None:
        """An entry of each kind is proven with its payload."""
        assert verify_proof(proof, reader()).payload is PayloadStatus.MATCHES

    @pytest.mark.parametrize(
        ("proof", "words"),
        [
            (one_entry(Kind.GENESIS, Genesis("other.example", 4).payload()), "instance other.example"),
            (one_entry(Kind.GENESIS, b"instance"), "malformed"),
            (one_entry(Kind.EPOCH, epoch_payload(Genesis("other.example", 4), TOPIC_ID)), "instance other.example"),
            (one_entry(Kind.GAP, gap_payload(6, 9), name="!partition-0", reason=1), "another offset"),
            (one_entry(Kind.GAP, b"first", name="!partition-0", reason=1), "malformed"),
            (one_entry(Kind.EVENT, b"no event", event_id="e-1"), "is no event"),
            (one_entry(Kind.EVENT, event_value("globex", "e-1"), event_id="e-1"), "another tenant or event"),
            (one_entry(Kind.EVENT, event_value(TENANT, "e-2"), event_id="e-1"), "another tenant or event"),
            (one_entry(Kind.CONTROL, event_value(TENANT, "e-1"), event_id="e-1"), "another kind"),
        ],
    )
    def test_contradicts(self, proof: ProofFile, words: str) -> None:
        """A signed log whose entry says something else than its payload shows a broken processor: refused."""
        with pytest.raises(EvidenceInvalid, match=words):
            verify_proof(proof, reader())


class TestSchema:
    """The schema in the file is read if the payload's is unknown, and never believed."""

    def confluent(self, *, schema: bytes | None) -> Evidence:
        """Return what a proof shows whose payload names a schema of a registry."""
        value = b"\0\0\0\0\7" + event_value(TENANT, "e-1")[10:]
        return verify_proof(replace(one_entry(Kind.EVENT, value, event_id="e-1"), schema=schema), reader())

    def test_from_the_file(self) -> None:
        """A payload in a registry's framing is decoded by the schema in the file: nothing proves it, and it says so."""
        evidence = self.confluent(schema=SCHEMA)
        assert evidence.event is not None
        assert (evidence.event["id"], evidence.event_schema) == ("e-1", SchemaSource.FILE)
        assert any("vouches" in words for words in evidence.not_proven)

    def test_a_later_version(self) -> None:
        """A payload by a later version's schema, which it names by fingerprint, is decoded if the file has that one."""
        later = schema_text("AuditEvent").replace('"fields": [', '"doc": "later", "fields": [', 1)
        later = later.replace('"name": "AuditEvent"', '"name": "AuditEvent", "aliases": ["Earlier"]', 1)
        parsed = parse_writer_schema(json.loads(later) | {"namespace": "later"})
        value = SINGLE_OBJECT_MAGIC + fingerprint_of(parsed) + event_value(TENANT, "e-1")[10:]
        text = json.dumps(json.loads(later) | {"namespace": "later"}).encode()
        assert value[:10] != event_value(TENANT, "e-1")[:10]
        for schema, source in ((text, SchemaSource.FILE), (SCHEMA, None)):
            proof = replace(one_entry(Kind.EVENT, value, event_id="e-1"), schema=schema)
            assert verify_proof(proof, reader()).event_schema is source

    @pytest.mark.parametrize(
        ("schema", "words"),
        [
            (None, "not in the file"),
            (b"{", "no JSON"),
            (b'"null"', "null outside"),
            (b'"string"', "does not decode|not begin"),
            (b'{"type":"array","items":' * (SCHEMA_NESTING_MAX + 1), "nested deeper"),
            (b"[" * 100_000, "nested deeper"),
        ],
    )
    def test_none_that_reads(self, schema: bytes | None, words: str) -> None:
        """Where the payload cannot be read its bytes are proven all the same, and the reason is mentioned."""
        evidence = self.confluent(schema=schema)
        assert (evidence.payload, evidence.event, evidence.event_schema) == (PayloadStatus.MATCHES, None, None)
        (remark,) = evidence.remarks
        assert re.search(f"not decoded: .*({words})", remark)


def swapped(**fields: object) -> ProofFile:
    """Return a proof with parts of another entry's."""
    changed: ProofFile = replace(EARLIER, **fields)  # type: ignore[arg-type]  # the fields are the test's
    return changed


def earlier(**fields: object) -> ProofFile:
    """Return a proof with another earlier state."""
    changed: EarlierState = replace(STATE, **fields)  # type: ignore[arg-type]
    return replace(EARLIER, earlier=changed)


OTHER: Final = INSTANCE.proof(16)
ANOTHER_LOG: Final = Instance(INSTANCE.chains, INSTANCE.sizes, origin="other.example", log=signer("other.example"))


class TestForged:
    """Parts that do not belong together are refused as what they are."""

    @pytest.mark.parametrize(
        "proof",
        [
            swapped(entry=OTHER.entry, payload=OTHER.payload),
            swapped(payload=None, entry=INSTANCE.proof(15, name=TENANT).entry[:-1] + b"\0"),
            swapped(nonce=nonce("globex")),
            swapped(size=17),
            swapped(path=EARLIER.path[:-1]),
            swapped(path=(*EARLIER.path, bytes(32))),
            swapped(rooted=replace(EARLIER.rooted, index=0)),
            swapped(rooted=replace(EARLIER.rooted, chains=5)),
            swapped(rooted=replace(EARLIER.rooted, coverage=bytes(32))),
            swapped(rooted=INSTANCE.proof(15, round_number=5).rooted),
            swapped(rooted=INSTANCE.proof(0, name="globex", round_number=4).rooted),
            earlier(size=12),
            earlier(root=bytes(32)),
            earlier(consistency=()),
            earlier(consistency=STATE.consistency[:-1]),
            earlier(consistency=(bytes(32), *STATE.consistency[1:])),
        ],
    )
    def test_parts_of_others(self, proof: ProofFile) -> None:
        """Who puts another entry, nonce, size, path, round or earlier state in is refused."""
        assert ProofFile.parse(proof.pack()) == proof
        with pytest.raises(ProofInvalid):
            verify_proof(proof, reader())

    def test_payload(self) -> None:
        """Another payload than the one that was logged is refused, whether or not it has the same size."""
        for payload in (OTHER.payload, b"x", (EARLIER.payload or b"")[:-1] + b"\x07"):
            with pytest.raises(EvidenceInvalid, match="not the one that the entry commits to"):
                verify_proof(swapped(payload=payload), reader())

    def test_another_tenants_proof(self) -> None:
        """A tenant's proof says whose it is: an entry cannot be shown as another tenant's."""
        assert verify_proof(INSTANCE.proof(8, name="globex"), reader()).entry.tenant == "globex"

    def test_another_instance(self) -> None:
        """A proof of an instance that the reader does not know cannot be judged, and is none of the one asked for."""
        proof = ANOTHER_LOG.proof(8)
        with pytest.raises(SignatureMissing):
            verify_proof(proof, reader())
        both = replace(policy(), logs=(*policy().logs, *policy(log=ANOTHER_LOG.log).logs))
        with pytest.raises(OriginDiffers):
            verify_proof(proof, reader(both), origin=ORIGIN)
        assert verify_proof(proof, reader(both)).origin == "other.example"

    def test_earlier_state_of_another_log(self) -> None:
        """An earlier checkpoint of another log bounds nothing."""
        state = ANOTHER_LOG.earlier(5, 4)
        with pytest.raises(EvidenceInvalid, match="another log"):
            verify_proof(replace(EARLIER, earlier=state), reader())

    def test_a_chain_that_shrinks(self) -> None:
        """An earlier state from behind the proof's round shows a chain that shrank: the log is refused."""
        shrinking = Instance(INSTANCE.chains[:1], ((18,), (13,), (18,)))
        proof = replace(shrinking.proof(15, round_number=0, size=3), earlier=shrinking.earlier(3, 2))
        with pytest.raises(EvidenceInvalid, match="behind the one"):
            verify_proof(proof, reader())

    def test_another_history(self) -> None:
        """An earlier checkpoint of a forked history is refused, though log and witnesses have signed both."""
        forked = Instance(INSTANCE.chains, (*INSTANCE.sizes[:3], (13, 3, 2, 1)))
        with pytest.raises(ProofInvalid):
            verify_proof(replace(EARLIER, earlier=forked.earlier(4, 4)), reader())

    @pytest.mark.parametrize(
        ("note", "error"),
        [
            (lambda: INSTANCE.note(5, {1: SIGNED_SECONDS}), QuorumMissing),
            (lambda: INSTANCE.note(5, {}), QuorumMissing),
            (lambda: INSTANCE.note(5, {1: NOW_SECONDS + 301, 2: SIGNED_SECONDS}), QuorumMissing),
            (lambda: INSTANCE.note(5).replace(INSTANCE.note(5)[-90:-80], b"A" * 10), SignatureInvalid),
            (lambda: replace(INSTANCE, log=signer(ORIGIN, number=7)).note(5), SignatureMissing),
        ],
    )  # fmt: skip
    def test_signatures(self, note: Callable[[], bytes], error: type[Exception]) -> None:
        """Too few witnesses, a signature that was changed, or a key that nobody knows: each is told from the others."""
        proof = swapped(rooted=replace(EARLIER.rooted, note=note()), earlier=None)
        with pytest.raises(error):
            verify_proof(proof, reader())

    def test_earlier_signatures(self) -> None:
        """The earlier checkpoint needs its quorum like the later one."""
        with pytest.raises(QuorumMissing):
            verify_proof(earlier(rooted=replace(STATE.rooted, note=INSTANCE.note(4, {1: SIGNED_SECONDS}))), reader())

    def test_not_the_last_round(self) -> None:
        """An earlier round that is not the last under its checkpoint is refused: the entry may stand in a later one."""
        state = replace(STATE, rooted=INSTANCE.rooted(TENANT, 2, INSTANCE.note(4), 4))
        with pytest.raises(ProofFileInvalid, match="not the last"):
            replace(EARLIER, earlier=state).pack()
        with pytest.raises(ProofFileInvalid, match="not the last"):
            verify_proof(replace(EARLIER, earlier=state), reader())


def test_a_thief_of_the_log_key_alone() -> None:
    """With the log's key alone, a thief proves nothing to who asks for witnesses."""
    forged = Instance((chain(TENANT, 5, received_seconds=1_000),), ((5,),))
    with pytest.raises(QuorumMissing):
        verify_proof(forged.proof(2, note=forged.note(1, {})), reader())
    with pytest.raises((QuorumMissing, KeyUntimely)):
        verify_proof(forged.proof(2, note=forged.note(1, {1: SIGNED_SECONDS})), reader())
