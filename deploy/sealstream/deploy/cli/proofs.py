"""``sealstream proof | export``: what an auditor is given, made where the notary's settings are."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from sealstream.deploy.cli.output import JsonOption, print_fields, print_json, print_line
from sealstream.deploy.cli.progress import progress_bar
from sealstream.deploy.cli.times import time_or_seq_option
from sealstream.schemas.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from sealstream.sinks.proofs.exporting import Exported
    from sealstream.sinks.proofs.opening import Provers
    from sealstream.sinks.proofs.proving import Proven, Prover, Strength

_PANEL = "Look and check"
_StrengthName: TypeAlias = Literal["witnessed", "anchored"]
_LevelOption: TypeAlias = Annotated[
    _StrengthName,
    typer.Option("--level", metavar="LEVEL", help="What the checkpoint must have: a quorum, or a timestamp, too."),
]
_ForceOption: TypeAlias = Annotated[bool, typer.Option("--force", help="Replace files that are there.")]
_UNJUDGED = "not judged: SEALSTREAM_POLICY is not set; the trees were verified, and no signature"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (proof, export):
        app.command(rich_help_panel=_PANEL)(command)


def proof(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whose event.")],
    event_id: Annotated[str | None, typer.Argument(metavar="EVENT_ID", help="The event's id.")] = None,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", dir_okay=False, metavar="FILE", help="Where to.", show_default="TENANT-SEQ.sealproof"
        ),
    ] = None,
    seq: Annotated[int | None, typer.Option(min=0, metavar="N", help="Only the record at this place.")] = None,
    level: _LevelOption = "witnessed",
    earlier: Annotated[
        bool, typer.Option(help="Show the chain without the entry, too: since when it can have been there.")
    ] = True,
    force: _ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a proof file of an event, which anybody checks with `sealstream verify-proof`, offline.

    An id alone is not unique: each of its records gets a file, with the record's seq in its name if there are several.
    Each proof is verified before it is written. Exit code 1 if what is kept does not hold together, 2 if there is
    nothing to prove yet.
    """
    from sealstream.sinks.proofs.new_file import new_file, refuse_existing
    from sealstream.sinks.proofs.proving import Strength

    if event_id is None and seq is None:
        raise ConfigError("neither an event's id nor --seq is given", hint="sealstream proof TENANT EVENT_ID")
    with _provers() as provers:
        found = _records(provers.prover, tenant, event_id, seq, Strength(level), earlier)
    paths = [_path(output, one, several=len(found) > 1) for one in found]
    for path in paths:
        refuse_existing(path, replace=force)
    written: list[tuple[Proven, Path, int]] = []
    for one, path in zip(found, paths, strict=True):
        data = one.proof.pack()
        with new_file(path, replace=force) as file:
            file.write(data)
        written.append((one, path, len(data)))
    if as_json:
        print_json({"proofs": [_to_dict(*one) for one in written]})
        return
    for number, (one, path, size_bytes) in enumerate(written):
        if number:
            print_line()
        print_fields(_in_words(one, path, size_bytes))
    print_line()
    print_line(f"check offline: sealstream verify-proof {paths[0]} --policy POLICY_FILE")


def export(
    *,
    tenant: Annotated[str, typer.Option(metavar="TENANT", help="Whose chain.")],
    output: Annotated[Path, typer.Option("-o", "--output", dir_okay=False, metavar="FILE", help="Where to.")],
    since: Annotated[
        Any, time_or_seq_option("--from", "From this entry on, or received then or later.", "the beginning")
    ] = None,
    until: Annotated[
        Any, time_or_seq_option("--to", "Up to this entry, or received before.", "all that can be proven")
    ] = None,
    level: _LevelOption = "witnessed",
    force: _ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a part of a tenant's chain with what proves it as a whole, as lines of JSON.

    Anybody checks it with `sealstream verify FILE --policy POLICY_FILE`, offline. It holds data only, no keys and no
    policy. It is verified while it is written, and the file appears only when all of it holds. Exit code 1 if what is
    kept does not hold together, 2 if there is nothing to prove yet.
    """
    from sealstream.sinks.proofs.new_file import new_file
    from sealstream.sinks.proofs.proving import Strength

    strength = Strength(level)
    with _provers() as provers, new_file(output, replace=force) as file, progress_bar("exporting") as on_progress:
        first, last = provers.exporter.range_of(tenant, since=since, until=until, strength=strength)
        made = provers.exporter.write(file, tenant, first, last, strength=strength, on_progress=on_progress)
    if as_json:
        print_json(_exported_to_dict(made, output))
        return
    print_fields(_exported_in_words(made, output))
    print_line()
    print_line(f"check offline: sealstream verify {output} --policy POLICY_FILE")


@contextmanager
def _provers() -> Generator[Provers]:
    from sealstream.worker.settings import load_settings

    settings = load_settings()
    settings.database_url()
    from sealstream.sinks.proofs.opening import open_prover
    from sealstream.worker.registry import connect_registry

    with open_prover(settings, schema_by_id=connect_registry(settings) if settings.registry else None) as provers:
        yield provers


def _records(
    prover: Prover, tenant: str, event_id: str | None, seq: int | None, strength: Strength, earlier: bool
) -> tuple[Proven, ...]:
    """Return the proofs that were asked for."""
    if seq is None:
        assert event_id is not None
        return prover.get_event_proof(tenant, event_id, strength=strength, earlier=earlier)
    made = prover.get_record_proof(tenant, seq, strength=strength, earlier=earlier)
    if event_id is not None and made.record.event_id != event_id:
        raise StoreError(
            f"entry {seq} of tenant {tenant} is not of event {event_id}",
            hint=f"it is of {made.record.event_id}" if made.record.event_id else "it is of no event",
        )
    return (made,)


def _path(output: Path | None, proven: Proven, *, several: bool) -> Path:
    from sealstream.schemas.proof_file import PROOF_SUFFIX
    from sealstream.schemas.tenant_name import encode_tenant

    record = proven.record
    if output is None:
        return Path(f"{encode_tenant(record.tenant)}-{record.seq}{PROOF_SUFFIX}")
    return output.with_name(f"{output.stem}-{record.seq}{output.suffix}") if several else output


def _in_words(proven: Proven, path: Path, size_bytes: int) -> list[tuple[str, str]]:
    record, evidence = proven.record, proven.evidence
    checkpoint = proven.proof.rooted.checkpoint()
    rows = [
        ("proof", f"{path} ({size_bytes:,} bytes)"),
        ("tenant", record.tenant),
        ("seq", str(record.seq)),
        ("event", record.event_id or "none"),
        ("kind", record.kind.name.lower()),
        ("received", f"{record.received.isoformat()} (the broker's word)"),
        ("round", f"{proven.proof.rooted.round} of {checkpoint.origin}, checkpoint of size {checkpoint.size}"),
    ]
    if evidence is None:
        return [*rows, ("level", _UNJUDGED)]
    rows.append(("level", evidence.level.word))
    rows += [("in the log after", f"{_time(one.time_seconds)} ({one.by})") for one in evidence.absent_at[:1]]
    rows += [("in the log by", f"{_time(one.time_seconds)} ({one.by})") for one in evidence.existed_by[:1]]
    return rows


def _to_dict(proven: Proven, path: Path, size_bytes: int) -> dict[str, object]:
    record, evidence = proven.record, proven.evidence
    checkpoint = proven.proof.rooted.checkpoint()
    return {
        "file": str(path),
        "size_bytes": size_bytes,
        "tenant": record.tenant,
        "seq": record.seq,
        "event_id": record.event_id or None,
        "kind": record.kind.name.lower(),
        "hash": record.chain_hash,
        "round": proven.proof.rooted.round,
        "checkpoint": {"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root},
        "timestamps": len(proven.proof.rooted.timestamps),
        "level": None if evidence is None else evidence.level.word,
        "in_log_after": None if evidence is None else [_time(one.time_seconds) for one in evidence.absent_at],
        "in_log_by": None if evidence is None else [_time(one.time_seconds) for one in evidence.existed_by],
    }


def _exported_in_words(made: Exported, path: Path) -> list[tuple[str, str]]:
    head = made.head
    checkpoint = head.rooted.checkpoint()
    return [
        ("bundle", f"{path} ({made.size_bytes:,} bytes)"),
        ("tenant", head.tenant),
        ("entries", f"{made.entries:,}: complete from seq {head.first} to {head.last}"),
        ("payloads", f"{made.payloads:,}"),
        ("round", f"{head.rooted.round} of {checkpoint.origin}, checkpoint of size {checkpoint.size}"),
        ("level", _UNJUDGED if made.evidence is None else made.evidence.level.word),
    ]


def _exported_to_dict(made: Exported, path: Path) -> dict[str, object]:
    head = made.head
    checkpoint = head.rooted.checkpoint()
    return {
        "file": str(path),
        "size_bytes": made.size_bytes,
        "tenant": head.tenant,
        "first": head.first,
        "last": head.last,
        "entries": made.entries,
        "payloads": made.payloads,
        "round": head.rooted.round,
        "checkpoint": {"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root},
        "timestamps": len(head.rooted.timestamps),
        "level": None if made.evidence is None else made.evidence.level.word,
    }


def _time(time_seconds: int) -> str:
    return datetime.fromtimestamp(time_seconds, UTC).isoformat()
