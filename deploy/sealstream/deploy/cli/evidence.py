"""``sealstream verify-proof``: what a proof file shows, judged with nothing but files."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

import typer

from sealstream.deploy.cli.output import (
    ExitCode,
    JsonOption,
    print_error,
    print_fields,
    print_items,
    print_json,
    print_line,
)
from sealstream.deploy.cli.reading import read_file, reader_of
from sealstream.deploy.cli.times import time_option
from sealstream.schemas.errors import (
    EvidenceInvalid,
    ProofInvalid,
    QuorumMissing,
    SealstreamError,
    SignatureInvalid,
    TimestampInvalid,
)

if TYPE_CHECKING:
    from sealstream.schemas.evidence import Evidence, ProofLevel, TimeBound

_PANEL = "Look and check"
_LevelName: TypeAlias = Literal["checkpoint", "witnessed", "anchored"]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECONDS: Final = 1_000_000

DOES_NOT_HOLD: Final = (EvidenceInvalid, ProofInvalid, SignatureInvalid, TimestampInvalid)
"""What says that a proof contradicts itself or is signed wrongly, whoever judges; all else could not be judged."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("verify-proof", rich_help_panel=_PANEL)(verify_proof)


def verify_proof(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The proof file.")],
    *,
    policy: Annotated[Path, typer.Option(metavar="FILE", help="Whom you believe: logs, witnesses, quorum.")],
    rotations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Records by which keys followed one another.")
    ] = None,
    timestamp_roots: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Certificates (PEM) of the timestamp authorities that you believe."),
    ] = None,
    payload: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The payload, where it does not come with the proof.")
    ] = None,
    instance: Annotated[
        str | None, typer.Option(help="Refuse a proof of another instance.", show_default="any")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Refuse one of another tenant.", show_default="any")] = None,
    event: Annotated[
        str | None, typer.Option(metavar="EVENT_ID", help="Refuse one of another event.", show_default="any")
    ] = None,
    at: Annotated[datetime | None, time_option("Judge as of then; ISO 8601, UTC if it says no zone; now.")] = None,
    require: Annotated[_LevelName, typer.Option(metavar="LEVEL", help="The level that is needed.")] = "checkpoint",
    as_json: JsonOption = False,
) -> None:
    """Check a proof file: needs no Kafka, no database and no network, and takes whom to believe from you only.

    Exit code 0 if the event is proven at the level asked for, 1 if the proof contradicts itself or is signed wrongly, 2
    if it could not be judged: a damaged file, an unknown key, too few witnesses, another event than you asked for.
    Levels: "checkpoint" (the log has signed), "witnessed" (so has the policy's quorum), "anchored" (and a timestamp
    authority says by when).
    """
    from sealstream.schemas.evidence import ProofLevel
    from sealstream.schemas.evidence import verify_proof as verify
    from sealstream.schemas.proof_file import PROOF_BYTES_MAX, ProofFile

    reader = reader_of(policy, rotations, at)
    roots = read_file(timestamp_roots, _ROOTS_BYTES_MAX) if timestamp_roots is not None else None
    given = read_file(payload, _PAYLOAD_BYTES_MAX) if payload is not None else None
    try:
        proof = ProofFile.parse(read_file(file, PROOF_BYTES_MAX))
        asked = {"origin": instance, "tenant": tenant, "event_id": event}
        evidence = verify(proof, reader, timestamp_roots=roots, payload=given, **asked)
    except DOES_NOT_HOLD as error:
        print_error(error, as_json=as_json)
        raise typer.Exit(ExitCode.FOUND) from error
    failure = _shortfall(evidence, ProofLevel[require.upper()])
    if as_json:
        print_json(_document(evidence, failure))
    else:
        _print(evidence)
        if failure is not None:
            print_error(failure, as_json=False)
    raise typer.Exit(ExitCode.OK if failure is None else ExitCode.FAILED)


_ROOTS_BYTES_MAX: Final = 1_000_000
_PAYLOAD_BYTES_MAX: Final = 1_000_000


def _shortfall(evidence: Evidence, required: ProofLevel) -> SealstreamError | None:
    if evidence.level >= required:
        return None
    return QuorumMissing(
        f"the proof holds at the level {evidence.level.word}, and {required.word} is asked for",
        hint="a quorum in the policy makes it witnessed; a timestamp in the file and --timestamp-roots, anchored",
    )


def _print(evidence: Evidence) -> None:
    print_line(f"holds at the level {evidence.level.word}")
    print_fields(list(_rows(evidence)))
    if evidence.remarks:
        print_line("note:")
        print_items(evidence.remarks)
    print_line("not proven:")
    print_items(evidence.not_proven)


def _rows(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Yield the statement: who, what, when, where in its chain."""
    entry, trusted = evidence.entry, evidence.trusted
    yield "tenant", entry.tenant
    yield "event", entry.event_id or "none"
    yield "kind", entry.kind.name.lower()
    if evidence.event is not None:
        event = evidence.event
        yield "who", _party(event["actor"])
        targets = ", ".join(_party(one) for one in event["targets"])
        yield "what", f"{event['action']}{f' on {targets}' if targets else ''}, outcome {event['outcome']}"
        yield "occurred", f"{_moment(event['occurred_at'])} (the application's word)"
    if entry.received:
        yield "received", f"{_time(entry.received / _MICROSECONDS)} (the broker's word)"
    for bound in evidence.absent_at[:1]:
        yield "in the log after", f"{_time(bound.time_seconds)} ({_word(bound)} had seen no log with it by then)"
    for bound in evidence.existed_by:
        yield "in the log by", f"{_time(bound.time_seconds)} ({_word(bound)})"
    yield "place", f"seq {entry.seq} of {evidence.chain_size} entries, in round {evidence.round} of {evidence.origin}"
    yield "hash", evidence.entry_hash.hex()
    yield "payload", evidence.payload.value
    yield "checkpoint", f"size {trusted.checkpoint.size}, root {trusted.checkpoint.root.hex()}"
    yield "signed by", f"{trusted.log_key.name}+{trusted.log_key.key_id.hex()}"
    for one in trusted.cosignatures:
        key = f"{one.key.name}+{one.key.key_id.hex()}"
        yield "cosigned by", f"{one.witness} ({key}) at {_time(one.time_seconds)}"


def _party(party: dict[str, str | None]) -> str:
    name = f" ({party['name']})" if party["name"] else ""
    return f"{party['type']} {party['id']}{name}"


def _word(bound: TimeBound) -> str:
    return f"timestamp of {bound.by}" if bound.timestamp else f"witness {bound.by}"


def _time(time_seconds: float) -> str:
    try:
        return _moment(_EPOCH + timedelta(seconds=time_seconds))
    except OverflowError:
        return f"{time_seconds:.0f} s since 1970"  # beyond the calendar


def _moment(moment: datetime) -> str:
    return moment.isoformat()


def _document(evidence: Evidence, failure: SealstreamError | None) -> dict[str, object]:
    entry, trusted = evidence.entry, evidence.trusted
    document: dict[str, object] = {
        "level": evidence.level.word,
        "tenant": entry.tenant,
        "event_id": entry.event_id or None,
        "kind": entry.kind.name.lower(),
        "seq": entry.seq,
        "hash": evidence.entry_hash,
        "chain_size": evidence.chain_size,
        "round": evidence.round,
        "instance": evidence.origin,
        "payload": evidence.payload.value,
        "event": evidence.event,
        "event_schema": evidence.event_schema.value if evidence.event_schema is not None else None,
        "occurred": evidence.event["occurred_at"] if evidence.event is not None else None,
        "received": _time(entry.received / _MICROSECONDS) if entry.received else None,
        "in_log_after": [_bound(one) for one in evidence.absent_at],
        "in_log_by": [_bound(one) for one in evidence.existed_by],
        "checkpoint": {"size": trusted.checkpoint.size, "root": trusted.checkpoint.root},
        "signed_by": str(trusted.log_key),
        "cosigned_by": [
            {"witness": one.witness, "key": str(one.key), "time": _time(one.time_seconds)}
            for one in trusted.cosignatures
        ],
        "not_proven": evidence.not_proven,
        "remarks": evidence.remarks,
    }
    if failure is not None:
        document |= {"error": failure.message, "hint": failure.hint, "type": type(failure).__name__}
    return document


def _bound(bound: TimeBound) -> dict[str, object]:
    return {"time": _time(bound.time_seconds), "by": bound.by, "how": "timestamp" if bound.timestamp else "witness"}
