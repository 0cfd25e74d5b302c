"""Rows of the attack table: servers that lie to somebody who has files alone, and witnesses that lie to a log."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.key_history import KeyHistory
from sealstream.schemas.note import sign_note
from sealstream.schemas.note_key import KeyType
from sealstream.schemas.policy import Log, Policy, Witness
from sealstream.schemas.proof_file import PROOF_BYTES_MAX, ProofFile
from sealstream.sinks.notary.asking import WitnessAsker
from sealstream.sinks.notary.round_files import RoundFiles
from sealstream.worker.objects import open_objects
from support.attacks.attack import Attack, Report
from support.attacks.auditor import Auditor
from support.attacks.witness import ask
from support.made_rounds import GrowingLogs
from support.malicious import proofs as given
from support.malicious.served import fetch, lying_server
from support.memory_notary import NOW_SECONDS as EXPORTED_SECONDS
from support.memory_notary import policy as exported_policy
from support.notes import LOG, NOW_SECONDS, ORIGIN, policy, signer, witness
from support.plain_witness import PlainWitness, Reply, served_witness
from support.provable import Provable
from support.sealproofs import INSTANCE, Instance, chain, nonce, with_earlier
from support.timestamping import Authority, expired_authority, make_authority
from support.witnessing import WitnessedLog, WitnessProcess, policy_of

ASKED: Final = ("--instance", ORIGIN, "--tenant", "acme", "--event", "ev-15")
PROOF: Final = with_earlier()


class DeskStage:
    """An auditor who saves what servers give him, and a witness and a log that are asked and ask over HTTP.

    Arguments:
        directory: Where files go.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.auditor = Auditor(directory / "auditor", policy(), NOW_SECONDS)
        self.importer = Auditor(directory / "importer", exported_policy(), EXPORTED_SECONDS)
        self._witnesses: list[WitnessProcess] = []

    @cached_property
    def authority(self) -> Authority:
        """A timestamp authority that the auditor believes."""
        made = make_authority(self.directory / "authority")
        self.auditor.write("roots.pem", made.roots_pem)
        return made

    @cached_property
    def provable(self) -> Provable:
        """An instance in which an event was published again, so late that it is chained as a second one."""
        made = Provable()
        made.events("acme", "ev-1", "ev-2", "ev-3", "ev-4")
        made.events("globex", "ev-1")
        made.notary.round()
        made.events("acme", "ev-1", "ev-5")
        made.notary.round()
        return made

    def proof(self, given_out: ProofFile | bytes, *options: str | Path, **more: Any) -> list[Report]:
        """Fetch a proof from a server that gives out this one, and judge it."""
        body = given_out if isinstance(given_out, bytes) else given_out.pack()
        with lying_server(lambda _path: (200, body)) as url:
            data = fetch(f"{url}/proof/acme/ev-15")
        return self.auditor.proof(data, *options, **more).reports

    def stamped(self, *tokens: bytes, note: bytes = b"") -> list[Report]:
        """Judge a proof with these timestamps over its checkpoint, for who believes the authority."""
        _ = self.authority
        proof = INSTANCE.proof(15, note=note or INSTANCE.note(5), timestamps=tokens)
        return self.proof(proof, "--timestamp-roots", self.directory / "auditor" / "roots.pem", alone=False)

    def open_witness(self) -> WitnessProcess:
        """Start a witness that begins with what it is shown first."""
        directory = self.directory / f"witness-{len(self._witnesses)}"
        directory.mkdir()
        opened = WitnessProcess(directory, "--trust-first-use", policy=policy_of(LOG))
        self._witnesses.append(opened)
        return opened

    def close(self) -> None:
        """End what was started."""
        for one in self._witnesses:
            one.close()


def _gives(
    given_out: Callable[[], ProofFile | bytes], *options: str, **more: Any
) -> Callable[[DeskStage], list[Report]]:
    def perform(stage: DeskStage) -> list[Report]:
        return stage.proof(given_out(), *options, **more)

    return perform


def _asked_for(given_out: Callable[[], ProofFile]) -> Callable[[DeskStage], list[Report]]:
    """It is believed by itself, and refused by who says what he asked for."""

    def perform(stage: DeskStage) -> list[Report]:
        assert stage.proof(given_out()) == []
        return stage.proof(given_out(), *ASKED, alone=False)

    return perform


def _other_instance() -> ProofFile:
    key = signer("other.example/audit")
    return Instance(INSTANCE.chains, INSTANCE.sizes, origin=key.verifier.name, log=key).proof(15)


def _known_instance(stage: DeskStage) -> list[Report]:
    """The reader knows the other instance as well: its proofs are true, and not what he asked for."""
    proof, known = _other_instance(), policy()
    both = Policy(
        (*known.logs, Log(signer("other.example/audit").verifier)), known.witnesses, known.groups, known.quorum
    )
    assert stage.proof(proof, policy=both) == []
    return stage.proof(proof, *ASKED, policy=both, alone=False)


def _foreign_genesis() -> ProofFile:
    return Instance((chain("acme", 5, instance="other.example/audit"),), ((5,),)).proof(0)


def _altered_cosignature() -> ProofFile:
    note = INSTANCE.note(5)
    return INSTANCE.proof(15, note=note[:-60] + b"A" * 10 + note[-50:])


def _hidden_record(stage: DeskStage) -> list[Report]:
    """The store's interface has two records of an id, and shows one: the bundle shows both."""
    first, second = stage.provable.prover.get_event_proof("acme", "ev-1")
    judged = stage.importer.proof(first.proof)
    assert any("only once" in words for words in judged.shown["not_proven"]), judged.shown["not_proven"]
    lines = given.lines_of(stage.provable.bundle("acme", 0, 6))
    del lines[given.index_of(lines, second.record.seq)]
    return judged.reports + stage.importer.bundle(given.sealed(lines)).reports


def _bundle(alter: Callable[[list[dict[str, Any]]], object]) -> Callable[[DeskStage], list[Report]]:
    def perform(stage: DeskStage) -> list[Report]:
        lines = given.lines_of(stage.provable.bundle("acme", 1, 5))
        alter(lines)
        return stage.importer.bundle(given.sealed(lines)).reports

    return perform


def _other_payload(lines: list[dict[str, Any]]) -> None:
    place = given.index_of(lines, 3)
    lines[place] = given.other_payload(lines[place], "acme")


def _swapped(lines: list[dict[str, Any]]) -> None:
    one, other = given.index_of(lines, 2), given.index_of(lines, 3)
    lines[one], lines[other] = lines[other], lines[one]


def _shortened(lines: list[dict[str, Any]]) -> None:
    """Say that the part ends earlier than it does, and leave what stands behind it as it was."""
    del lines[given.index_of(lines, 5)]
    lines[0]["last"] = 4


def _other_bundle(stage: DeskStage) -> list[Report]:
    """It holds for whoever asks for any; who says what he asked for is told."""
    bundle = stage.provable.bundle("globex", 0, 1)
    assert stage.importer.bundle(bundle).reports == []
    return stage.importer.bundle(bundle, "--tenant", "acme").reports


def _witness_answers(
    answering: Callable[[PlainWitness], Callable[[bytes], Reply]],
) -> Callable[[DeskStage], list[Report]]:
    """Of three witnesses, of whom two are asked for, two answer whatever they like: there is no quorum."""

    def perform(stage: DeskStage) -> list[Report]:
        place = stage.directory / f"log-{len(list(stage.directory.iterdir()))}"
        place.mkdir()
        objects, logs = open_objects(str(place)), GrowingLogs()
        made = logs.grow({})
        RoundFiles(objects).write(made)
        note = sign_note(Checkpoint(ORIGIN, made.size, made.root).pack(), [LOG])
        three = [PlainWitness(witness(n), LOG.verifier) for n in (1, 2, 3)]
        for one in three[:2]:
            one.answering = answering(one)
        with served_witness(three[0]), served_witness(three[1]), served_witness(three[2]):
            named = tuple(Witness(f"W{n}", one.key.verifier, one.url) for n, one in enumerate(three, 1))
            asking = replace(policy(), witnesses=named)
            asked = WitnessAsker(asking, KeyHistory(), objects, origin=ORIGIN).ask(note, patience_seconds=10.0)
        assert asked.trusted is not None or set(asked.missing) == {"W1", "W2"}, asked.missing
        return [] if asked.trusted is not None else [Report("notary", "QuorumMissing")]

    return perform


def _other_key(one: PlainWitness) -> Callable[[bytes], Reply]:
    other = PlainWitness(signer(one.key.verifier.name, KeyType.COSIGNATURE, number=4), LOG.verifier)
    return other.honest


def _of_another_note(one: PlainWitness) -> Callable[[bytes], Reply]:
    return lambda _body: (200, {}, one.lines(Checkpoint(ORIGIN, 7, bytes(32))))


def _of_the_future(one: PlainWitness) -> Callable[[bytes], Reply]:
    def answer(body: bytes) -> Reply:
        text = Checkpoint.parse(body.partition(b"\n\n")[2].partition(b"\n\n")[0] + b"\n")
        return 200, {}, one.lines(text, time_seconds=2**40)

    return answer


def _race(stage: DeskStage) -> list[Report]:
    """Two histories are shown to a witness at the same moment: it remembers one, and keeps the other as evidence."""
    opened, true = stage.open_witness(), WitnessedLog.of(9)
    assert ask(opened, true.body(0, 5)) == []
    both = [true, true.fork(5)]
    start, statuses = threading.Barrier(2), dict[int, int]()

    def show(number: int) -> None:
        start.wait(30)
        statuses[number] = opened.ask(both[number].body(5, 9)).status

    threads = [threading.Thread(target=show, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert min(statuses.values()) == 200, statuses
    assert max(statuses.values()) in (409, 422), statuses
    (loser,) = (number for number, status in statuses.items() if status != 200)
    return ask(opened, both[loser].body(9, 9)) + ask(opened, both[1 - loser].body(9, 9))


def _desk(
    name: str, perform: Callable[[DeskStage], list[Report]], *reports: Report, not_shown: str = ""
) -> Attack[DeskStage]:
    return Attack(name, "lying server", perform, reports, not_shown)


def _says(kind: str) -> Report:
    return Report("verify-proof", kind)


def _finds(kind: str, seq: int | None) -> Report:
    return Report("verify-bundle", kind, "acme", seq)


NO_QUORUM: Final = Report("notary", "QuorumMissing")

ROWS: Final[tuple[Attack[DeskStage], ...]] = (
    _desk(
        "proof of another tenant",
        _asked_for(lambda: INSTANCE.proof(1, name="globex")),
        _says("EventDiffers"),
        not_shown="who does not say what he asked for has to read whose proof it is",
    ),
    _desk("proof of another event", _asked_for(lambda: INSTANCE.proof(16)), _says("EventDiffers")),
    _desk(
        "proof with another tenant's nonce",
        _gives(lambda: replace(PROOF, nonce=nonce("globex"))),
        _says("ProofInvalid"),
    ),
    _desk("proof with an altered payload", _gives(lambda: given.with_payload(PROOF, "x")), _says("EvidenceInvalid")),
    _desk(
        "proof with an altered payload and entry",
        _gives(lambda: given.with_commitment(given.with_payload(PROOF, "x"))),
        _says("ProofInvalid"),
    ),
    _desk("proof with another suite", _gives(lambda: given.with_suite(PROOF, 2)), _says("ProofFileInvalid")),
    _desk("proof cut short", _gives(lambda: PROOF.pack()[:-1]), _says("ProofFileInvalid")),
    _desk("endless proof", _gives(lambda: bytes(PROOF_BYTES_MAX + 1), alone=False), _says("ConfigError")),
    _desk("page instead of a proof", _gives(lambda: b"<html>please log in</html>"), _says("ProofFileInvalid")),
    _desk("proof of another instance", _gives(_other_instance), _says("SignatureMissing")),
    _desk("proof of another instance that is known", _known_instance, _says("OriginDiffers")),
    _desk("proof with another instance's genesis", _gives(_foreign_genesis), _says("EvidenceInvalid")),
    _desk("proof with an altered cosignature", _gives(_altered_cosignature), _says("SignatureInvalid")),
    _desk(
        "proof without its witnesses",
        _gives(lambda: INSTANCE.proof(15, note=given.without_witnesses(INSTANCE.note(5)))),
        _says("QuorumMissing"),
    ),
    _desk(
        "proof with another chain's earlier state",
        _gives(lambda: replace(PROOF, earlier=INSTANCE.earlier(5, 4, name="globex"))),
        _says("ProofInvalid"),
    ),
    _desk(
        "proof without its earlier state",
        _gives(lambda: replace(PROOF, earlier=None)),
        not_shown="what is left out of a proof shows less: since when the event can be there is not known",
    ),
    _desk(
        "stale proof",
        _gives(lambda: INSTANCE.proof(1, round_number=1, size=2), "--tenant", "acme", alone=False),
        not_shown="an old proof stays true; that the log has gone on since is no part of what it shows",
    ),
    _desk(
        "proof with another schema",
        _gives(lambda: replace(PROOF, schema=b'{"type":"string"}')),
        not_shown="nothing vouches for a schema in the file; an event of our own schema is not read by it",
    ),
    _desk(
        "timestamp of an authority that is not known",
        lambda stage: stage.stamped(make_authority(stage.directory / "foreign", "Other TSA").stamp(INSTANCE.note(5))),
        _says("TimestampUntrusted"),
    ),
    _desk(
        "timestamp by an expired certificate",
        lambda stage: stage.stamped(expired_authority(stage.directory / "expired").stamp(INSTANCE.note(5))),
        _says("TimestampUntrusted"),
    ),
    _desk(
        "timestamp of another checkpoint",
        lambda stage: stage.stamped(stage.authority.stamp(INSTANCE.note(4))),
        _says("TimestampInvalid"),
    ),
    _desk("timestamp that is none", lambda stage: stage.stamped(b"0\x82"), _says("TimestampInvalid")),
    _desk(
        "store hides one of two records of an id",
        _hidden_record,
        _finds("gap", 5),
        not_shown="a proof of one record says nothing about another one of the same id: only a bundle is complete",
    ),
    _desk("bundle with an altered payload", _bundle(_other_payload), _finds("payload-altered", 3)),
    _desk("bundle cut off", _bundle(lambda lines: lines.pop()), _finds("truncated", 5)),
    _desk("bundle that says it ends earlier", _bundle(_shortened), Report("verify-bundle", "BundleInvalid")),
    _desk("bundle in another order", _bundle(_swapped), _finds("gap", 2), _finds("reordered", 2)),
    _desk(
        "bundle of another tenant",
        _other_bundle,
        Report("verify-bundle", "EventDiffers"),
        not_shown="who does not say what he asked for has to read whose bundle it is, and which part",
    ),
    _desk("witness answers with garbage", _witness_answers(lambda _one: lambda _body: (200, {}, b"ok\n")), NO_QUORUM),
    _desk("witness answers by another key", _witness_answers(_other_key), NO_QUORUM),
    _desk("witness cosigns another checkpoint", _witness_answers(_of_another_note), NO_QUORUM),
    _desk("witness cosigns in the future", _witness_answers(_of_the_future), NO_QUORUM),
    _desk(
        "witness answers without end",
        _witness_answers(lambda _one: lambda _body: (200, {}, b"\xe2\x80\x94 " + bytes(8_000_000))),
        NO_QUORUM,
    ),
    _desk("two histories race at a witness", _race, Report("witness", "fork")),
)
