"""Proof files as a second verifier sees them: a program in Go that was written from SPEC.md alone.

The program is in ``tests/oracles/proof`` and uses nothing but Go's standard library. What holds for it holds for us,
with the same words on place, root and time; and both refuse the same.
"""

from __future__ import annotations

import base64
import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from sealstream.schemas.entry import (
    Entry,
    Genesis,
    Kind,
    entry_hash,
    epoch_payload,
    gap_payload,
    pack,
    parse,
    payload_digest,
)
from sealstream.schemas.errors import SealstreamError
from sealstream.schemas.event import EventKind
from sealstream.schemas.evidence import Evidence, verify_proof
from sealstream.schemas.key_history import KeyHistory, parse_rotations, sign_rotation
from sealstream.schemas.note import sign_note
from sealstream.schemas.note_key import KeyType
from sealstream.schemas.policy import Policy
from sealstream.schemas.proof_file import CHECK_BYTES, ProofFile
from sealstream.schemas.trust import Reader
from support import spec
from support.go import ORACLES, Oracle, go_program
from support.mutation import changed_bytes, cuts
from support.notes import LOG, NOW_SECONDS, ORIGIN, policy, signer, witness
from support.publish import event_value
from support.sealproofs import (
    INSTANCE,
    SCHEMA,
    SIGNED_SECONDS,
    TENANT,
    Chain,
    Instance,
    chain,
    other_forms,
    with_earlier,
)

SEED: Final = 22
RANDOM_EDITS: Final = 3_000
POLICY: Final = policy(2, 2).pack()
HOLDS: Final = "holds"
REFUSED: Final = "refused"
NO_EARLIER: Final = -2
NO_QUORUM: Final = -1


@dataclass(frozen=True)
class Case:
    """A proof file and what its reader brings along."""

    file: bytes
    policy: bytes = POLICY
    rotations: bytes = b""
    now_seconds: int = NOW_SECONDS
    origin: str = ORIGIN


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    """The Go program, running."""
    with Oracle(go_program(ORACLES / "proof", tmp_path_factory.mktemp("go"))) as running:
        yield running


def theirs(oracle: Oracle, case: Case) -> dict[str, Any]:
    """Return the program's verdict."""
    encoded = {
        name: base64.b64encode(data).decode()
        for name, data in (("file", case.file), ("policy", case.policy), ("rotations", case.rotations))
    }
    return oracle.ask("verify", **encoded, now=case.now_seconds, origin=case.origin)


def ours(case: Case) -> Evidence | SealstreamError:
    """Return our verdict: what is shown, or why it is refused."""
    try:
        rotations = parse_rotations(case.rotations) if case.rotations else ()
        reader = Reader(Policy.parse(case.policy), case.now_seconds, KeyHistory(rotations))
        return verify_proof(ProofFile.parse(case.file), reader, origin=case.origin)
    except SealstreamError as error:
        return error


def compare(oracle: Oracle, case: Case) -> str:
    """Hold both verdicts against each other, and return the one that they share."""
    their, our = theirs(oracle, case), ours(case)
    if isinstance(our, SealstreamError):
        assert their["verdict"] == REFUSED, (str(our), their, case)
        return REFUSED
    assert their["verdict"] == HOLDS, (their, case)
    checkpoint, quorum = our.trusted.checkpoint, our.trusted.quorum_time_seconds
    assert (their["tenant"], their["seq"], their["kind"]) == (our.entry.tenant, our.entry.seq, int(our.entry.kind))
    assert (their["received"], their["round"]) == (our.entry.received, our.round)
    assert (their["size"], their["root"]) == (checkpoint.size, checkpoint.root.hex())
    assert their["quorum_time"] == (NO_QUORUM if quorum is None else quorum)
    if our.earlier_size is None:
        assert their["earlier_time"] == NO_EARLIER
    elif quorum is not None:
        assert their["earlier_time"] == our.absent_at[-1].time_seconds  # all of the policy's witnesses are its quorum
    return HOLDS


def compare_all(oracle: Oracle, cases: Iterable[Case]) -> Counter[str]:
    """Compare the verdicts of many cases, and return how often there was which."""
    return Counter(compare(oracle, case) for case in cases)


def checked(body: bytes) -> bytes:
    """Return what may be a proof file, with the check that fits it: else nothing behind the check is reached."""
    return body + hashlib.sha256(body).digest()[:CHECK_BYTES]


def body_of(proof: ProofFile) -> bytes:
    """Return a proof file without its check."""
    return proof.pack()[:-CHECK_BYTES]


@pytest.mark.parametrize("with_payload", [True, False], ids=["payload", "no payload"])
def test_every_entry_of_an_instance(oracle: Oracle, with_payload: bool) -> None:
    """The proof of each entry of each chain holds for both, in whatever round, under whatever checkpoint."""
    places = [
        (one.name, number, size)
        for place, one in enumerate(INSTANCE.chains)
        for number in range(6)
        for size in range(number + 1, 7)
        if INSTANCE.sizes[number][place]
    ]
    cases = (
        Case(
            INSTANCE.proof(
                seq, name=name, round_number=number, size=size, with_payload=with_payload, with_schema=seq == 1
            ).pack()
        )
        for name, number, size in places
        for seq in {0, 1, 2, 3, 4, 5, INSTANCE.sizes[number][[one.name for one in INSTANCE.chains].index(name)] - 1}
        if seq < INSTANCE.sizes[number][[one.name for one in INSTANCE.chains].index(name)]
    )
    found = compare_all(oracle, cases)

    assert found[REFUSED] == 0
    assert found[HOLDS] > 100


def test_the_vectors(oracle: Oracle) -> None:
    """The files of SPEC.md hold for both under its policy, and not before their cosignatures were made."""
    text = spec.blocks("proof_policy")[0].encode()
    files = [bytes.fromhex(block.replace("\n", "")) for block in spec.blocks("proof_files")[0].split("\n\n")]

    assert [compare(oracle, Case(file, text, now_seconds=1_700_000_200)) for file in files] == [HOLDS, HOLDS]
    assert [compare(oracle, Case(file, text, now_seconds=1_600_000_000)) for file in files] == [REFUSED, REFUSED]


def test_parts_that_may_be_missing(oracle: Oracle) -> None:
    """Who takes payload, schema, timestamps or the earlier state out of a file leaves one that holds for both."""
    proof = replace(EARLIER, schema=SCHEMA, rooted=replace(EARLIER.rooted, timestamps=(b"not judged",)))
    less = (
        proof,
        replace(proof, payload=None),
        replace(proof, schema=None),
        replace(proof, earlier=None),
        replace(proof, rooted=EARLIER.rooted),
    )

    assert [compare(oracle, Case(one.pack())) for one in less] == [HOLDS] * len(less)


def test_every_changed_byte(oracle: Oracle) -> None:
    """Each byte changed and each cut, with the check made anew or not, gets the same verdict from both."""
    proof = with_earlier()
    plain = compare_all(oracle, map(Case, [*changed_bytes(proof.pack()), *cuts(proof.pack())]))
    remade = compare_all(
        oracle, (Case(checked(one)) for one in [*changed_bytes(body_of(proof)), *cuts(body_of(proof))])
    )

    assert plain.keys() == {REFUSED}
    assert remade[HOLDS] == 0  # without a schema in the file there is nothing in it that nobody vouches for


@pytest.mark.parametrize("data", other_forms().values(), ids=other_forms())
def test_one_form(oracle: Oracle, data: bytes) -> None:
    """A file that says the same in another form is refused by both."""
    assert compare(oracle, Case(data)) == REFUSED


def edits(data: bytes, count: int) -> Iterator[bytes]:
    """Yield bytes with pieces put in, taken out, doubled or swapped at places that chance chooses."""
    chance = random.Random(SEED)
    for _ in range(count):
        begin = chance.randrange(len(data))
        end = min(len(data), begin + chance.choice((0, 1, 2, 4, 8, 32, 33, 100)))
        other = chance.randrange(len(data))
        piece = chance.choice((b"", data[begin:end] * 2, data[other : other + end - begin], bytes(end - begin)))
        yield data[:begin] + piece + data[end:]


def test_random_edits(oracle: Oracle) -> None:
    """Larger edits, with the check made anew, get the same verdict from both."""
    found = compare_all(oracle, (Case(checked(one)) for one in edits(body_of(with_earlier()), RANDOM_EDITS)))

    assert found[REFUSED] > RANDOM_EDITS // 2


PROOF: Final = INSTANCE.proof(10)
EARLIER: Final = with_earlier()


def rooted(**changes: Any) -> ProofFile:
    """Return the proof with changes to its way up."""
    return replace(PROOF, rooted=replace(PROOF.rooted, **changes))


def not_together() -> dict[str, ProofFile]:
    """Return proofs with a field of another value, or a part of another proof."""
    other = INSTANCE.chains[0]
    assert EARLIER.earlier is not None
    return {
        "larger chain": replace(PROOF, size=PROOF.size + 1),
        "smaller chain": replace(PROOF, size=PROOF.size - 1),
        "hash missing": replace(PROOF, path=PROOF.path[:-1]),
        "hash more": replace(PROOF, path=(*PROOF.path, PROOF.path[0])),
        "nonce": replace(PROOF, nonce=PROOF.nonce[::-1]),
        "payload": replace(PROOF, payload=other.payloads[11]),
        "entry": replace(PROOF, entry=other.entries[11], payload=None),
        "index": rooted(index=(PROOF.rooted.index + 1) % 4),
        "chains": rooted(chains=PROOF.rooted.chains + 1),
        "round": rooted(round=PROOF.rooted.round - 1),
        "length": rooted(length=26),
        "coverage": rooted(coverage=bytes(32)),
        "checkpoint": rooted(note=INSTANCE.note(5)),
        "one witness": rooted(note=INSTANCE.note(3, {1: SIGNED_SECONDS})),
        "earlier of another": replace(PROOF, earlier=INSTANCE.earlier(5, 2)),
        "earlier size": replace(EARLIER, earlier=replace(EARLIER.earlier, size=1)),
    }


NOT_TOGETHER: Final = not_together()


@pytest.mark.parametrize("proof", NOT_TOGETHER.values(), ids=NOT_TOGETHER)
def test_parts_that_do_not_go_together(oracle: Oracle, proof: ProofFile) -> None:
    """A field of another value, or a part of another proof, is refused by both."""
    assert compare(oracle, Case(proof.pack())) == REFUSED


def test_earlier_states(oracle: Oracle) -> None:
    """Any pair of an earlier and a later checkpoint is judged alike, those that fit and those that do not."""
    cases = [
        Case(INSTANCE.proof(seq, round_number=number, size=size, earlier=INSTANCE.earlier(later, first)).pack())
        for seq in (13, 18)
        for number in range(4, 6)
        for size in range(number + 1, 7)
        for later in (size, 6)
        for first in range(2, 6)
        if INSTANCE.sizes[number][0] > seq and INSTANCE.sizes[first - 1][0] <= seq and first <= later
    ]
    found = compare_all(oracle, cases)

    assert min(found[HOLDS], found[REFUSED]) > 0


def test_an_earlier_state_behind_the_proof(oracle: Oracle) -> None:
    """An earlier state of a round that is not before the proof's is refused by both."""
    shrinking = replace(INSTANCE, sizes=(*INSTANCE.sizes[:5], (13, 9, 2, 1)))
    proof = shrinking.proof(15, round_number=4, size=6, earlier=shrinking.earlier(6, 6))
    assert compare(oracle, Case(proof.pack())) == REFUSED


@pytest.mark.parametrize(
    ("policy_text", "verdict"),
    [
        (policy(2, 2).pack(), HOLDS),
        (policy(2, 1).pack(), HOLDS),
        (policy(3, 2).pack(), HOLDS),
        (policy(3, 3).pack(), REFUSED),
        (policy(0).pack(), HOLDS),
        (policy(2, 2, log=signer(ORIGIN, number=1)).pack(), REFUSED),
        (policy(2, 2).pack() + b"quorum none\n", REFUSED),
        (policy(2, 2).pack()[:-1], REFUSED),
        (b"# nothing\n", REFUSED),
    ],
)
def test_policies(oracle: Oracle, policy_text: bytes, verdict: str) -> None:
    """Whom the reader believes decides alike for both."""
    assert compare(oracle, Case(PROOF.pack(), policy=policy_text)) == verdict


def test_edited_policies(oracle: Oracle) -> None:
    """Policies with edits of any kind are read alike, or refused by both."""
    text = policy(3, 2).pack() + b"# a comment\n\ngroup outer any all-of-them\n"
    found = compare_all(oracle, (Case(PROOF.pack(), policy=one) for one in [*edits(text, 1_000), *cuts(text)]))

    assert min(found[HOLDS], found[REFUSED]) > 20


def test_edited_rotations(oracle: Oracle) -> None:
    """Files of records with edits of any kind are refused by both, or read alike."""
    text = rotated(NOW_SECONDS, 5) + rotated(NOW_SECONDS + 1, 5, number=1)
    found = compare_all(oracle, (Case(PROOF.pack(), rotations=one) for one in [*edits(text, 500), *cuts(text)]))

    assert min(found[HOLDS], found[REFUSED]) > 0


def test_any_time(oracle: Oracle) -> None:
    """At whatever time the reader looks, both say the same: a cosignature from the future does not count."""
    quorum = SIGNED_SECONDS + 3 * 60 + 2
    found = compare_all(oracle, (Case(PROOF.pack(), now_seconds=quorum + seconds) for seconds in range(-310, 20)))

    assert (found[REFUSED], found[HOLDS]) == (10, 320)


def rotated(not_after: int, not_before: int, *, number: int = 0, name: str = ORIGIN) -> bytes:
    """Return the record by which the log's key is followed by another one."""
    keys = [LOG if not which and name == ORIGIN else signer(name, number=which) for which in (number, number + 1)]
    return sign_rotation(*keys, old_not_after_seconds=not_after, new_not_before_seconds=not_before)[1]


def test_rotations(oracle: Oracle) -> None:
    """A log's key that has gone counts for both while a quorum shows that it signed before, and for neither after."""
    quorum = SIGNED_SECONDS + 3 * 60 + 2
    cases = [
        Case(PROOF.pack(), rotations=rotated(not_after, not_before), now_seconds=now, policy=text)
        for not_after in (0, quorum - 2, quorum - 1, quorum, quorum + 1, NOW_SECONDS, NOW_SECONDS + 1)
        for not_before in (0, NOW_SECONDS)
        for now in (quorum, NOW_SECONDS, NOW_SECONDS + 10**9)
        for text in (POLICY, policy(0).pack(), policy(2, 1).pack(), policy(2, 2, log=signer(ORIGIN, number=1)).pack())
    ]
    found = compare_all(oracle, cases)

    assert min(found[HOLDS], found[REFUSED]) > 20


def test_a_key_that_is_not_yet_in_use(oracle: Oracle) -> None:
    """A proof by the second key counts from the time on that its record says."""
    new = signer(ORIGIN, number=1)
    proof = replace(INSTANCE, log=new).proof(10)
    record = rotated(NOW_SECONDS, NOW_SECONDS)
    cases = (Case(proof.pack(), rotations=record, now_seconds=NOW_SECONDS + seconds) for seconds in range(-310, 11, 10))
    found = compare_all(oracle, cases)

    assert min(found[HOLDS], found[REFUSED]) > 0


def test_witnesses_keys_that_go(oracle: Oracle) -> None:
    """A witness's key that has gone counts for neither, as no timestamp is judged; its new one counts in its time."""
    old, new = witness(1), witness(1, generation=1)
    quorum = SIGNED_SECONDS + 3 * 60 + 2
    cases = [
        Case(
            replace(
                PROOF, rooted=replace(PROOF.rooted, note=INSTANCE.note(3, {1: at, 2: at}, generation=generation))
            ).pack(),
            rotations=sign_rotation(old, new, old_not_after_seconds=end, new_not_before_seconds=begin)[1],
            policy=policy(2, 1).pack(),
            now_seconds=now,
        )
        for generation in (0, 1)
        for at in (quorum, quorum + 100)
        for end, begin in ((quorum, quorum + 1), (NOW_SECONDS, quorum + 50), (quorum + 100, 0))
        for now in (quorum + 100, NOW_SECONDS, NOW_SECONDS + 1)
    ]
    found = compare_all(oracle, cases)

    assert min(found[HOLDS], found[REFUSED]) > 0


@pytest.mark.parametrize(
    "records",
    [
        [rotated(5, 5), rotated(5, 5)],
        [rotated(5, 5), rotated(6, 5)],
        [rotated(5, 5), rotated(9, 9, number=1)],
        [rotated(5, 5)[:-20]],
        [rotated(5, 5), b"more\n"],
        [rotated(5, 5, name="demo.example")],
        [rotated(5, 5, name=f"{ORIGIN}/acme")],
    ],
    ids=["twice", "contradicting", "three keys", "cut", "more behind", "another name", "a chain's name"],
)  # fmt: skip
def test_files_of_rotations(oracle: Oracle, records: list[bytes]) -> None:
    """Files of records are taken and refused alike, and hold for the same keys."""
    for text in (POLICY, policy(0).pack(), policy(2, 2, log=signer(ORIGIN, number=2)).pack()):
        for now in (0, NOW_SECONDS):
            assert compare(oracle, Case(PROOF.pack(), text, b"".join(records), now)) in (HOLDS, REFUSED)


def test_one_key_of_two_witnesses(oracle: Oracle) -> None:
    """Records that give one key to two witnesses let neither verifier believe anything."""
    shared = signer("w1.example/witness", KeyType.COSIGNATURE, number=7)
    records = [
        sign_rotation(old, new, old_not_after_seconds=NOW_SECONDS, new_not_before_seconds=5)[1]
        for old, new in ((witness(1), shared), (witness(2), shared.renamed("w2.example/witness")))
    ]
    (alone, _), proof = records, PROOF.pack()

    assert compare(oracle, Case(proof, rotations=b"".join(records))) == REFUSED
    assert compare(oracle, Case(proof, rotations=alone)) == HOLDS


def made(payload: bytes, **changes: Any) -> Case:
    """Return the proof of an entry at seq 1 with another payload, chained and signed as if all of it were right."""
    one = chain(TENANT, 2)
    entry = replace(parse(one.entries[1]), length=len(payload), payload=payload_digest(payload), **changes)
    forged = Chain(TENANT, (one.entries[0], pack(entry)), (one.payloads[0], payload))
    assert entry_hash(forged.entries[1]) == forged.hashes[1]
    return Case(Instance((forged,), ((2,),)).proof(1).pack())


@pytest.mark.parametrize(
    ("payload", "verdict"),
    [
        (event_value(TENANT, "ev-1"), HOLDS),
        (event_value(TENANT, "ev-2"), REFUSED),
        (event_value("other", "ev-1"), REFUSED),
        (event_value(TENANT, "ev-1", kind=EventKind.IMPORTED), REFUSED),
        (b"no event", REFUSED),
        (event_value(TENANT, "ev-1")[:-20], HOLDS),  # what stands behind the prefix is decoded, and decides nothing
    ],
    ids=["right", "id", "tenant", "kind", "no event", "cut"],
)
def test_payloads_that_say_something_else(oracle: Oracle, payload: bytes, verdict: str) -> None:
    """A payload that the entry commits to, and that contradicts it, is refused by both."""
    assert compare(oracle, made(payload)) == verdict


@pytest.mark.parametrize(
    ("payload", "verdict"),
    [
        (Genesis(ORIGIN, 4).payload(), HOLDS),
        (Genesis("other.example/audit", 4).payload(), REFUSED),
        (Genesis(ORIGIN, 4).payload()[:-1], REFUSED),
        (Genesis(ORIGIN, 4).payload().replace(b"partitions 4", b"partitions 04"), REFUSED),
        (Genesis(ORIGIN, 4).payload().replace(b"partitions 4", b"partitions 0"), REFUSED),
    ],
    ids=["right", "instance", "cut", "leading zero", "none"],
)
def test_geneses_of_others(oracle: Oracle, payload: bytes, verdict: str) -> None:
    """A genesis of another instance or in another form is refused by both."""
    one = chain(TENANT, 1)
    entry = pack(replace(parse(one.entries[0]), length=len(payload), payload=payload_digest(payload)))
    proof = Instance((Chain(TENANT, (entry,), (payload,)),), ((1,),)).proof(0)
    assert compare(oracle, Case(proof.pack())) == verdict


GENESIS: Final = Genesis(ORIGIN, 4)
OTHER_GENESIS: Final = Genesis("other.example/audit", 4)


@pytest.mark.parametrize(
    ("kind", "payload", "verdict"),
    [
        (Kind.GAP, gap_payload(7, 9), HOLDS),
        (Kind.GAP, gap_payload(8, 9), REFUSED),
        (Kind.GAP, b"first 7\nlast 6\n", REFUSED),
        (Kind.GAP, b"first 07\nlast 9\n", REFUSED),
        (Kind.GAP, b"first 7\nlast 9223372036854775808\n", REFUSED),
        (Kind.EPOCH, epoch_payload(GENESIS, bytes(16)), HOLDS),
        (Kind.EPOCH, epoch_payload(OTHER_GENESIS, bytes(16)), REFUSED),
        (Kind.EPOCH, GENESIS.payload(), REFUSED),
        (Kind.EPOCH, epoch_payload(GENESIS, bytes(16)) + b"\n", REFUSED),
    ],
)
def test_payloads_of_the_chain_itself(oracle: Oracle, kind: Kind, payload: bytes, verdict: str) -> None:
    """The payload of a gap or an epoch in another form, or of another instance, is refused by both."""
    name = "!partition-0"
    one = chain(name, 1)
    data = Entry(
        kind=kind,
        tenant=name,
        seq=1,
        prev=one.hashes[0],
        received=0,
        topic_id=bytes(16),
        partition=0,
        offset=7,
        event_id="",
        length=len(payload),
        payload=payload_digest(payload),
        reason=1 if kind is Kind.GAP else 0,
    )
    forged = Chain(name, (one.entries[0], pack(data)), (one.payloads[0], payload))
    proof = Instance((forged,), ((2,),)).proof(1, name=name)
    assert compare(oracle, Case(proof.pack())) == verdict


def test_ml_dsa_is_named_as_what_it_is(oracle: Oracle) -> None:
    """Where a key of ML-DSA-44 would decide, the program says that it cannot, and takes nothing for right."""
    log = signer(ORIGIN, KeyType.COSIGNATURE_ML_DSA_44)
    text = f"log {log.verifier}\nquorum none\n".encode()
    at = SIGNED_SECONDS
    text_of = INSTANCE.checkpoint(3).pack()
    note = sign_note(text_of, [log], time_seconds=at)
    case = Case(replace(PROOF, rooted=replace(PROOF.rooted, note=note)).pack(), policy=text)

    assert theirs(oracle, case)["verdict"] == "unsupported"
    assert isinstance(ours(case), Evidence)
