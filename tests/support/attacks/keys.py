"""Rows of the attack table: a thief of one key, and what it is worth to him.

He has the key and can write whatever he likes with it; he has neither the log's witnesses nor its readers' files.
Where a row takes two keys, its name says so: it shows what the second one adds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from sealstream.schemas.checkpoint import Checkpoint, chain_origin
from sealstream.schemas.entry import entry_hash, pack, parse, payload_digest
from sealstream.schemas.key_history import sign_rotation
from sealstream.schemas.note import Note, Signature, sign_note
from sealstream.schemas.note_key import KeyType, SignerKey
from sealstream.schemas.policy import Log, Policy
from sealstream.schemas.proof_file import ProofFile
from sealstream.schemas.tenant_map import MapLeaf, map_key
from support import rfc_trees
from support.attacks.attack import Attack, Report
from support.attacks.auditor import Auditor
from support.attacks.witness import ask, witnessed_log
from support.notes import LOG, ORIGIN, cosignature_line, policy, signer, witness
from support.publish import event_value
from support.sealproofs import INSTANCE, TENANT, Chain, Instance, nonce
from support.timestamping import Authority, make_authority
from support.witnessing import WITNESS, WitnessProcess, policy_of, request_body

NOW_SECONDS: Final = int(time.time())
DAY_SECONDS: Final = 86_400
BEGUN_SIZE: Final = 5
FORGED_SEQ: Final = 8
FORGED_SIZE: Final = 3
"""The size of the first root checkpoint that the forged entry is under."""
GONE_SECONDS: Final = NOW_SECONDS - DAY_SECONDS
"""When rotated keys went out of use: a day ago."""
NEW_LOG: Final = signer(ORIGIN, number=1)
RECORD: Final = sign_rotation(LOG, NEW_LOG, old_not_after_seconds=GONE_SECONDS, new_not_before_seconds=GONE_SECONDS)[1]


def rewritten(one: Chain, seq: int) -> Chain:
    """Return a chain as it would be, had another event been written at a place: anew from there on."""
    payload = event_value(one.name, f"ev-{seq}", note="another amount")
    payloads = (*one.payloads[:seq], payload, *one.payloads[seq + 1 :])
    entries = list(one.entries[:seq])
    for data, value in zip(one.entries[seq:], payloads[seq:], strict=True):
        entry = replace(parse(data), prev=entry_hash(entries[-1]))
        entries.append(pack(replace(entry, length=len(value), payload=payload_digest(value))))
    return Chain(one.name, tuple(entries), payloads)


FORGED: Final = Instance((rewritten(INSTANCE.chains[0], FORGED_SEQ), *INSTANCE.chains[1:]), INSTANCE.sizes)
"""The history that the thief wants to be believed: one event of it never was."""


def forged_proof(note: bytes) -> ProofFile:
    """Return the proof of the forged entry under a checkpoint that somebody has signed."""
    return FORGED.proof(FORGED_SEQ, note=note, size=FORGED_SIZE)


def note_of(
    instance: Instance, size: int, *keys: SignerKey, witnesses: tuple[SignerKey, ...] = (), at: int = 0
) -> bytes:
    """Return a root checkpoint as these keys sign it, and witnesses at a time; now, if none is given."""
    checkpoint = instance.checkpoint(size)
    note = sign_note(checkpoint.pack(), list(keys))
    return note + b"".join(cosignature_line(checkpoint, key, at or NOW_SECONDS) for key in witnesses)


class ThiefStage:
    """An auditor, the log's witness, and what a thief gives them.

    Arguments:
        directory: Where files go.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.auditor = Auditor(directory / "auditor", policy(), NOW_SECONDS)
        self._opened: list[WitnessProcess] = []

    @cached_property
    def witness(self) -> WitnessProcess:
        """A witness that has seen the true log."""
        opened = self.open_witness("witness")
        assert ask(opened, witnessed_log(INSTANCE).body(0, BEGUN_SIZE)) == []
        return opened

    @cached_property
    def informed_witness(self) -> WitnessProcess:
        """A witness of the log's new key, that has the record of it, and has seen the true log."""
        opened = self.open_witness("informed", log=NEW_LOG, rotations=RECORD)
        assert ask(opened, witnessed_log(INSTANCE, NEW_LOG).body(0, BEGUN_SIZE)) == []
        return opened

    @cached_property
    def authority(self) -> Authority:
        """A timestamp authority that the auditor believes."""
        made = make_authority(self.directory / "authority")
        self.auditor.write("roots.pem", made.roots_pem)
        return made

    def open_witness(self, name: str, *, log: SignerKey = LOG, rotations: bytes = b"") -> WitnessProcess:
        """Start a witness that begins with what it is shown first."""
        directory = self.directory / name
        directory.mkdir()
        settings: dict[str, Any] = {"rotations": rotations.decode().rstrip("\n")} if rotations else {}
        opened = WitnessProcess(directory, "--trust-first-use", policy=policy_of(log), **settings)
        self._opened.append(opened)
        return opened

    def judge(self, note: bytes, *, at_level: str = "checkpoint", **options: object) -> list[Report]:
        """Return what the auditor says of the forged entry under a checkpoint."""
        given = {"alone": at_level == "checkpoint"} | options
        return self.auditor.proof(forged_proof(note), "--require", at_level, **given).reports  # type: ignore[arg-type]

    def close(self) -> None:
        """End what was started."""
        for one in self._opened:
            one.close()


def _fork(stage: ThiefStage) -> list[Report]:
    forged = witnessed_log(FORGED)
    reports = ask(stage.witness, forged.body(BEGUN_SIZE, BEGUN_SIZE))
    return reports + stage.judge(note_of(FORGED, FORGED_SIZE, LOG))


def _growth(stage: ThiefStage) -> list[Report]:
    """He grows the log out of his own past: no proof leads from what the witness has seen."""
    return ask(stage.witness, witnessed_log(FORGED).body(BEGUN_SIZE, BEGUN_SIZE + 1))


def _shrunk(stage: ThiefStage) -> list[Report]:
    return ask(stage.witness, witnessed_log(INSTANCE).body(BEGUN_SIZE - 1, BEGUN_SIZE - 1))


def _begun_anew(stage: ThiefStage) -> list[Report]:
    """He pretends that the witness has seen nothing yet, then goes by the size that it tells him."""
    forged = witnessed_log(FORGED)
    reports = ask(stage.witness, forged.body(0, BEGUN_SIZE + 1))
    return reports + ask(stage.witness, request_body(BEGUN_SIZE, [], forged.note(BEGUN_SIZE + 1)))


def _copied(stage: ThiefStage) -> list[Report]:
    """He pastes the cosignatures of the true checkpoint of that size below his own."""
    true = Note.parse(INSTANCE.note(FORGED_SIZE, {1: NOW_SECONDS, 2: NOW_SECONDS}))
    own = Note.parse(note_of(FORGED, FORGED_SIZE, LOG))
    return stage.judge(Note(own.text, (*own.signatures, *true.signatures[1:])).pack())


def _own_witnesses(stage: ThiefStage) -> list[Report]:
    """He makes keys of his own under the witnesses' names."""
    own = tuple(signer(f"w{n}.example/witness", KeyType.COSIGNATURE, number=7) for n in (1, 2, 3))
    return stage.judge(note_of(FORGED, FORGED_SIZE, LOG, witnesses=own))


def _nobody_asked(stage: ThiefStage) -> list[Report]:
    note, nobody = note_of(FORGED, FORGED_SIZE, LOG), policy(0)
    assert stage.judge(note, policy=nobody) == []
    return stage.judge(note, policy=nobody, at_level="witnessed")


def _backdated_chain(stage: ThiefStage) -> list[Report]:
    """He signs a checkpoint of a tenant's chain, which nobody cosigns, and shows it in place of the root's."""
    origin = chain_origin(ORIGIN, TENANT)
    chain = Checkpoint(origin, FORGED_SIZE, FORGED.checkpoint(FORGED_SIZE).root)
    key = LOG.renamed(origin)
    reports = stage.judge(sign_note(chain.pack(), [key]))
    reports += stage.judge(sign_note(FORGED.checkpoint(FORGED_SIZE).pack(), [key]))
    return reports + ask(stage.witness, request_body(0, [], sign_note(chain.pack(), [key])))


def _witness_alone(stage: ThiefStage) -> list[Report]:
    text = FORGED.checkpoint(FORGED_SIZE)
    note = Note.parse(text.pack() + b"\n" + cosignature_line(text, witness(1), NOW_SECONDS)).pack()
    return stage.judge(note) + stage.judge(note, policy=policy(1, 1))


def _witness_as_log(stage: ThiefStage) -> list[Report]:
    """A witness's key, which is of another type, signs in the log's name."""
    key = witness(1).renamed(ORIGIN)
    text = FORGED.checkpoint(FORGED_SIZE)
    return stage.judge(Note.parse(text.pack() + b"\n" + cosignature_line(text, key, NOW_SECONDS)).pack())


def _log_and_witness(stage: ThiefStage) -> list[Report]:
    return stage.judge(note_of(FORGED, FORGED_SIZE, LOG, witnesses=(witness(1),)))


def _one_witness_twice(stage: ThiefStage) -> list[Report]:
    """The stolen key cosigns once by itself and once by the key that follows it by a record of the thief's."""
    own = signer("w1.example/witness", KeyType.COSIGNATURE, number=8)
    record = sign_rotation(
        witness(1),
        own,
        old_not_after_seconds=NOW_SECONDS + DAY_SECONDS,
        new_not_before_seconds=NOW_SECONDS - DAY_SECONDS,
    )[1]
    return stage.judge(note_of(FORGED, FORGED_SIZE, LOG, witnesses=(witness(1), own)), rotations=record)


def _log_and_quorum(stage: ThiefStage) -> list[Report]:
    note = note_of(FORGED, FORGED_SIZE, LOG, witnesses=(witness(1), witness(2)))
    reports = stage.judge(note)
    later = FORGED.proof(15, earlier=INSTANCE.earlier(5, 4, note=_cosigned(INSTANCE, 4)), note=_cosigned(FORGED, 5))
    return reports + stage.auditor.proof(later).reports


def _cosigned(instance: Instance, size: int) -> bytes:
    return note_of(instance, size, LOG, witnesses=(witness(1), witness(2)))


def _old_log(stage: ThiefStage) -> list[Report]:
    """The log's old key, a day after it went out of use."""
    new, forged = policy(log=NEW_LOG), note_of(FORGED, FORGED_SIZE, LOG)
    reports = stage.judge(forged, policy=new, rotations=RECORD)
    reports += stage.judge(forged, policy=policy(0, log=NEW_LOG), rotations=RECORD)
    return reports + ask(stage.informed_witness, witnessed_log(FORGED).body(BEGUN_SIZE, BEGUN_SIZE))


def _old_log_stamped(stage: ThiefStage) -> list[Report]:
    """The log's old key, with a true timestamp of today: it shows that the signature is of today."""
    note, nobody = note_of(FORGED, FORGED_SIZE, LOG), policy(0, log=NEW_LOG)
    stamped = replace(
        forged_proof(note), rooted=replace(forged_proof(note).rooted, timestamps=(stage.authority.stamp(note),))
    )
    roots = ("--timestamp-roots", stage.directory / "auditor" / "roots.pem")
    return stage.auditor.proof(stamped, *roots, policy=nobody, rotations=RECORD, alone=False).reports


def _old_witnesses(at: int, *, stamped: bool = False) -> Callable[[ThiefStage], list[Report]]:
    """The log's key and the old ones of all witnesses, cosigning at a time before they went out of use."""
    following = [signer(f"w{n}.example/witness", KeyType.COSIGNATURE, number=1) for n in (1, 2, 3)]
    records = b"".join(
        sign_rotation(witness(n), new, old_not_after_seconds=GONE_SECONDS, new_not_before_seconds=GONE_SECONDS)[1]
        for n, new in enumerate(following, 1)
    )

    def perform(stage: ThiefStage) -> list[Report]:
        note = note_of(FORGED, FORGED_SIZE, LOG, witnesses=(witness(1), witness(2)), at=at)
        if not stamped:
            return stage.judge(note, rotations=records)
        proof = forged_proof(note)
        proof = replace(proof, rooted=replace(proof.rooted, timestamps=(stage.authority.stamp(note),)))
        roots = ("--timestamp-roots", stage.directory / "auditor" / "roots.pem")
        return stage.auditor.proof(proof, *roots, rotations=records, alone=False).reports

    return perform


def _other_record(stage: ThiefStage) -> list[Report]:
    """The old key names a key of the thief's as the one that follows it."""
    own = signer(ORIGIN, number=9)
    record = sign_rotation(
        LOG, own, old_not_after_seconds=GONE_SECONDS - DAY_SECONDS, new_not_before_seconds=GONE_SECONDS - DAY_SECONDS
    )[1]
    forged = note_of(FORGED, FORGED_SIZE, own)
    new = policy(log=NEW_LOG)
    reports = stage.judge(forged, policy=new, rotations=RECORD)
    reports += stage.judge(forged, policy=new, rotations=RECORD + record)
    reports += ask(stage.informed_witness, witnessed_log(FORGED, own).body(BEGUN_SIZE, BEGUN_SIZE))
    opened = stage.open_witness("misled", log=NEW_LOG, rotations=RECORD + record)
    with closing(opened):
        assert opened.wait(timeout_seconds=60) in (1, 2), opened.report()
        return reports + [Report("witness", str(event["error"])) for event in opened.events() if "error" in event]


def _record_as_signature(stage: ThiefStage) -> list[Report]:
    """What the keys have signed of themselves is shown as their signature of a checkpoint, and the other way round."""
    text = FORGED.checkpoint(FORGED_SIZE).pack()
    statement = Signature(ORIGIN, LOG.verifier.key_id, LOG.sign_statement(text))
    reports = stage.judge(Note(text, (statement,)).pack())
    record = Note.parse(RECORD)
    lines = tuple(Signature(ORIGIN, key.verifier.statement_id, key.sign(record.text)) for key in (LOG, NEW_LOG))
    note = note_of(FORGED, FORGED_SIZE, NEW_LOG)
    return reports + stage.judge(note, rotations=Note(record.text, lines).pack())


def _map_secret(stage: ThiefStage) -> list[Report]:
    """He knows every chain's nonce, and puts another root of it into the map of a round that was witnessed."""
    note = _cosigned(INSTANCE, FORGED_SIZE)
    true = INSTANCE.proof(FORGED_SEQ, note=note, size=FORGED_SIZE)
    forged = FORGED.proof(FORGED_SEQ, note=note, size=FORGED_SIZE)
    leaf = MapLeaf(map_key(nonce(TENANT), TENANT), true.size, rfc_trees.mth(FORGED.chains[0].hashes[: true.size]))
    assert leaf in FORGED.leaves(2)
    return stage.auditor.proof(replace(forged, rooted=true.rooted)).reports


def _authority(stage: ThiefStage) -> list[Report]:
    """The authority's key says that a checkpoint which nobody cosigned is years old."""
    note = note_of(FORGED, FORGED_SIZE, LOG)
    proof = forged_proof(note)
    proof = replace(proof, rooted=replace(proof.rooted, timestamps=(stage.authority.stamp(note),)))
    roots = ("--timestamp-roots", stage.directory / "auditor" / "roots.pem")
    return stage.auditor.proof(proof, *roots, alone=False).reports


def _weaker_key(stage: ThiefStage) -> list[Report]:
    """The reader believes an ML-DSA key; the thief has an Ed25519 key of the log's name, as of the days before."""
    strong = signer(ORIGIN, KeyType.COSIGNATURE_ML_DSA_44)
    only = Policy((Log(strong.verifier),), policy().witnesses, policy().groups, policy().quorum)
    return stage.judge(note_of(FORGED, FORGED_SIZE, LOG), policy=only, alone=False)


def _witness_begins_anew(stage: ThiefStage) -> list[Report]:
    """With the witness's key alone the thief starts one that remembers nothing: the log's word is still missing."""
    text = FORGED.checkpoint(BEGUN_SIZE)
    unsigned = text.pack() + b"\n" + cosignature_line(text, WITNESS, NOW_SECONDS)
    return ask(stage.witness, request_body(BEGUN_SIZE, [], unsigned))


def _row(
    name: str, perform: Callable[[ThiefStage], list[Report]], *reports: Report, not_shown: str = ""
) -> Attack[ThiefStage]:
    return Attack(name, "thief", perform, reports, not_shown)


def _says(*types: str) -> tuple[Report, ...]:
    return tuple(Report("verify-proof", one) for one in types)


def _refuses(*reasons: str) -> tuple[Report, ...]:
    return tuple(Report("witness", one) for one in reasons)


ROWS: Final[tuple[Attack[ThiefStage], ...]] = (
    _row("log key signs a fork", _fork, *_refuses("fork"), *_says("QuorumMissing")),
    _row("log key grows its own past", _growth, *_refuses("proof")),
    _row("log key signs a smaller log", _shrunk, *_refuses("old-size")),
    _row("log key pretends a first time", _begun_anew, *_refuses("old-size", "proof")),
    _row("log key with cosignatures of another checkpoint", _copied, *_says("SignatureInvalid")),
    _row("log key with witnesses of its own", _own_witnesses, *_says("QuorumMissing")),
    _row(
        "log key and a reader who asks no witness",
        _nobody_asked,
        *_says("QuorumMissing"),
        not_shown="a reader whose policy says `quorum none` and who asks for no level believes the thief",
    ),
    _row(
        "log key signs a chain's checkpoint for the root's",
        _backdated_chain,
        *_says("SignatureMissing", "SignatureMissing"),
        *_refuses("unknown-log"),
    ),
    _row("witness key alone", _witness_alone, *_says("SignatureMissing", "SignatureMissing")),
    _row("witness key in the log's name", _witness_as_log, *_says("SignatureMissing")),
    _row("witness key at another witness", _witness_begins_anew, *_refuses("unsigned")),
    _row("log key and one witness key", _log_and_witness, *_says("QuorumMissing")),
    _row("log key and one witness key, rotated to count twice", _one_witness_twice, *_says("QuorumMissing")),
    _row(
        "log key and a quorum's keys",
        _log_and_quorum,
        *_says("ProofInvalid"),
        not_shown="who has all these keys while they are in use is believed by whoever kept no checkpoint; a proof file"
        " with an earlier state, or a kept checkpoint, contradicts him",
    ),
    _row("old log key after its time", _old_log, *_says("KeyUntimely", "KeyUntimely"), *_refuses("unsigned")),
    _row("old log key with a timestamp of today", _old_log_stamped, *_says("KeyUntimely")),
    _row(
        "log key and old witness keys, backdated", _old_witnesses(GONE_SECONDS - DAY_SECONDS), *_says("QuorumMissing")
    ),
    _row(
        "log key and old witness keys, backdated, with a timestamp of today",
        _old_witnesses(GONE_SECONDS - DAY_SECONDS, stamped=True),
        *_says("QuorumMissing"),
    ),
    _row("log key and old witness keys, of today", _old_witnesses(NOW_SECONDS), *_says("QuorumMissing")),
    _row(
        "old log key names a follower of its own",
        _other_record,
        *_says("SignatureMissing", "HistoryForked"),
        *_refuses("unsigned", "HistoryForked"),
    ),
    _row(
        "signatures of one kind shown as another", _record_as_signature, *_says("SignatureInvalid", "RotationInvalid")
    ),
    _row(
        "map secret alone",
        _map_secret,
        *_says("ProofInvalid"),
        not_shown="that he finds every tenant's name and volume in the map is noticed by nobody",
    ),
    _row("timestamp authority's key and log key", _authority, *_says("QuorumMissing")),
    _row("log key of a weaker type than is believed", _weaker_key, *_says("SignatureMissing")),
)
