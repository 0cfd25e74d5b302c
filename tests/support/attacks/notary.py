"""Rows of the attack table: a notary that lies, to everybody at once.

The witness knows Kafka, and what it refuses becomes evidence for nobody. `sealstream verify` knows the store; it is
asked about the same checkpoints, which have the log's signature only, by somebody who believes that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from support.attacks.attack import Attack, Report
from support.attacks.notary_stage import OTHERS, TENANT, NotaryStage
from support.attacks.witness import ask
from support.malicious import notary as lies
from support.malicious.notary import Truth
from support.notes import signer
from support.rounds import PlainRound, make_round
from support.witnessing import WitnessedLog

GLOBEX: Final = OTHERS[0]
Lie = Callable[[Truth, str], PlainRound]


def _told(lie: Lie, tenant: str = TENANT) -> Callable[[NotaryStage], list[Report]]:
    def perform(stage: NotaryStage) -> list[Report]:
        return stage.tell(lie(stage.truth, tenant))

    return perform


def _edited(stage: NotaryStage) -> list[Report]:
    lie, entries = lies.edited(stage.truth, TENANT)
    return stage.tell(lie, entries=entries)


def _other_first_round(stage: NotaryStage) -> PlainRound:
    truth = stage.truth
    ends = {part.partition: part.end for part in truth.before[0].parts}
    return make_round(truth.entries, ends, topic_id=truth.topic_id, secret=b"o" * 32)


def _two_histories(stage: NotaryStage) -> list[Report]:
    """It shows one reader what was witnessed, and the other a log of the same size."""
    other = [_other_first_round(stage)]
    stage.notary.publish(other, stage.truth.entries)
    return stage.ask(other, 1) + stage.verify("--checkpoint", str(stage.kept))


def _grown_apart(stage: NotaryStage) -> list[Report]:
    other = [_other_first_round(stage)]
    other.append(replace(stage.truth, before=other).round())
    stage.notary.publish(other, stage.truth.entries)
    return stage.ask(other, 1) + stage.verify("--checkpoint", str(stage.kept))


def _another_coverage(stage: NotaryStage) -> list[Report]:
    """It publishes another coverage than its round commits to."""
    rounds = [*stage.truth.before, stage.truth.round()]
    stage.notary.publish(rounds, stage.truth.entries)
    lie = lies.miscounted(stage.truth, TENANT)
    stage.notary.put_coverage(stage.truth.number, lie.parts)
    return stage.ask(rounds, 1) + stage.verify()


def _another_root(stage: NotaryStage) -> list[Report]:
    """It publishes true rounds, and has another root witnessed."""
    before = stage.truth.before
    stage.notary.publish([*before, stage.truth.round()], stage.truth.entries)
    return stage.ask([*before, lies.round_of_another_past(stage.truth, TENANT)], 1)


def _another_instance(stage: NotaryStage) -> list[Report]:
    """It signs in another instance's name, and in its own with another instance's key."""
    rounds = [*stage.truth.before, stage.truth.round()]
    log = WitnessedLog((), signer("other.example/audit"))
    log.leaves = [one.leaf.hash() for one in rounds]
    reports = ask(stage.witness, log.body(1, 2))
    log.key = signer(stage.notary.key.verifier.name, number=5)
    return reports + ask(stage.witness, log.body(1, 2))


def _row(
    name: str, perform: Callable[[NotaryStage], list[Report]], *reports: Report, not_shown: str = ""
) -> Attack[NotaryStage]:
    return Attack(name, "lying server", perform, reports, not_shown)


def _witness(kind: str, tenant: str = "", seq: int | None = None) -> Report:
    return Report("witness", kind, tenant, seq)


def _verify(kind: str, tenant: str = "", seq: int | None = None) -> Report:
    return Report("verify", kind, tenant, seq)


ROOT: Final = "!root"
PLACE: Final = "!partition-0"
"""The chain of the tenant's partition."""

ROWS: Final[tuple[Attack[NotaryStage], ...]] = (
    _row(
        "notary leaves an entry out",
        _told(lies.entry_left_out),
        _witness("gap", TENANT, 10),
        _verify("foreign", TENANT, 10),
    ),
    _row(
        "notary calls an entry's offset invisible",
        _told(lies.offset_hidden, GLOBEX),
        _witness("gap", GLOBEX, 9),
        _verify("gap", ROOT, 1),
    ),
    _row(
        "notary leaves a chain as it was",
        _told(lies.chain_not_grown),
        _witness("truncated", TENANT, 6),
        _verify("gap", ROOT, 1),
    ),
    _row(
        "notary shrinks a chain",
        _told(lies.chain_shrunk),
        _witness("fork", ROOT, 1),
        _verify("gap", ROOT, 1),
        not_shown="which chain it is: the map hides names, and its root alone tells no place",
    ),
    _row(
        "notary drops a chain from the map",
        _told(lies.chain_dropped),
        _witness("truncated", TENANT, 0),
        _verify("edited", ROOT, 1),
    ),
    _row(
        "notary invents a chain",
        _told(lies.chain_invented),
        _witness("foreign", ROOT, 1),
        _verify("edited", ROOT, 1),
        not_shown="the name of a chain that nobody else has: the map has its key only",
    ),
    _row("notary skips a round", _told(lies.round_skipped), _witness("gap", ROOT, 1), _verify("gap", ROOT, 1)),
    _row(
        "notary names another round before",
        _told(lies.round_of_another_past),
        _witness("fork", ROOT, 1),
        _verify("fork", ROOT, 1),
    ),
    _row(
        "notary hides a lost range as invisible",
        _told(lies.loss_hidden),
        _witness("gap", PLACE, 1),
        _verify("gap", ROOT, 1),
    ),
    _row("notary invents a loss", _told(lies.loss_invented), _witness("edited", PLACE), _verify("gap", ROOT, 1)),
    _row(
        "notary counts an event as imported",
        _told(lies.miscounted),
        _witness("edited", PLACE),
        _verify("edited", PLACE),
    ),
    _row("notary leaves offsets out", _told(lies.offsets_left_out), _witness("gap", PLACE), _verify("gap", PLACE)),
    _row(
        "notary accounts for offsets twice", _told(lies.offsets_twice), _witness("fork", PLACE), _verify("fork", PLACE)
    ),
    _row(
        "notary makes the map with other nonces",
        _told(lies.other_names),
        _witness("fork", ROOT, 1),
        _verify("StoreError"),
    ),
    _row(
        "notary takes in another entry than was chained",
        _edited,
        _witness("edited", TENANT, 10),
        _verify("fork", TENANT, 10),
    ),
    _row("notary tells two histories", _two_histories, _witness("fork"), _verify("fork", ROOT)),
    _row("notary tells two histories that grow", _grown_apart, _witness("proof"), _verify("fork", ROOT)),
    _row(
        "notary publishes another coverage",
        _another_coverage,
        _witness("edited", ROOT, 1),
        not_shown="verify takes the true one from the notary's database, where both agree with what was signed",
    ),
    _row("notary has another root witnessed", _another_root, _witness("edited", ROOT)),
    _row("notary signs for another instance", _another_instance, _witness("unknown-log"), _witness("unsigned")),
)
