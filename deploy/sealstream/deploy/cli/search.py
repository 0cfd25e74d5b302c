"""``sealstream search | show``: the store, as a reader sees it."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sealstream.deploy.cli.output import JsonOption, print_fields, print_json, print_line, print_table
from sealstream.deploy.cli.times import time_option
from sealstream.schemas.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from sealstream.sinks.store.reader import AuditStore
    from sealstream.sinks.store.results import FoundEvent

_PANEL = "Look and check"
_TENANTS_NAMED = 10


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (search, show):
        app.command(rich_help_panel=_PANEL)(command)


def search(
    *,
    tenant: Annotated[str | None, typer.Option(help="Whose events; needed.")] = None,
    actor: Annotated[str | None, typer.Option(help="The actor's id.")] = None,
    action: Annotated[str | None, typer.Option(help='The action; "document.*" for all that begin so.')] = None,
    target: Annotated[str | None, typer.Option(help="The id of one of the targets.")] = None,
    outcome: Annotated[str | None, typer.Option(help="success, failure, denied or unknown.")] = None,
    request_id: Annotated[str | None, typer.Option(help="The request's id.")] = None,
    text: Annotated[str | None, typer.Option(help="Words in the actor's name, action, targets or metadata.")] = None,
    since: Annotated[datetime | None, time_option("Received then or later; ISO 8601, UTC if it says no zone.")] = None,
    until: Annotated[datetime | None, time_option("Received before.")] = None,
    occurred_since: Annotated[datetime | None, time_option("Occurred, as the application says, then or later.")] = None,
    occurred_until: Annotated[datetime | None, time_option("Occurred before.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many events at most.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on behind an earlier page of the same search.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Find a tenant's events in the store, newest first.

    What is found is derived for search and is no evidence; `sealstream show` gives an event's record in its chain.
    """
    with _open_store() as store:
        page = store.search(
            tenant=tenant or _tenant_needed(store),
            actor=actor,
            action=action,
            target=target,
            outcome=outcome,
            request_id=request_id,
            text=text,
            since=since,
            until=until,
            occurred_since=occurred_since,
            occurred_until=occurred_until,
            limit=limit,
            cursor=cursor,
        )
    if as_json:
        events = [_found_to_dict(event) for event in page.events]
        print_json({"events": events, "cursor": page.cursor, "as_of": page.as_of})
        return
    _print_found(page.events)
    if page.as_of is not None:
        moment = page.as_of.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        print_line(f"what was received after {moment} UTC is stored, but not all of it can be searched yet", error=True)
    if page.cursor is not None:
        print_line(f"there are more: --cursor {page.cursor}", error=True)


def show(
    event_id: Annotated[str, typer.Argument(metavar="EVENT_ID", help="The event's id.")],
    *,
    tenant: Annotated[str | None, typer.Option(show_default="every tenant that has it", help="Whose event.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show every record of an event: what it says, its place in the chain, and its hashes.

    An id alone is not unique: the same one may stand in several tenants, and more than once in one of them. Each record
    is checked before it is shown; exit code 1 if one does not hold together.
    """
    from sealstream.deploy.records import event_reader, record_in_words, record_to_dict
    from sealstream.worker.settings import load_settings

    with _open_store() as store:
        tenants = (tenant,) if tenant is not None else store.tenants_of_event(event_id)
        found = [store.get_event_proof(name, event_id) for name in tenants]
    records = [proof for proofs in found for proof in proofs]
    if not records:
        where = f"of tenant {tenant}" if tenant else "of any tenant that this login may see"
        raise StoreError(
            f"the store has no event {event_id} {where}",
            hint="it may not be stored yet; `sealstream search` finds ids",
        )
    reader = event_reader(load_settings())
    if as_json:
        matches = [record_to_dict(proof, reader) for proof in records]
        print_json({"matches": matches, "complete": all(proofs.complete for proofs in found)})
        return
    for number, proof in enumerate(records):
        if number:
            print_line()
        print_fields(record_in_words(proof, reader))
    if not all(proofs.complete for proofs in found):
        print_line("there are more records than are shown", error=True)


def _open_store() -> AuditStore:
    from sealstream.worker.settings import load_settings

    settings = load_settings()
    url = settings.database_url()
    from sealstream.sinks.store.reader import AuditStore

    return AuditStore(url, timeout_seconds=settings.request_timeout_seconds)


def _tenant_needed(store: AuditStore) -> str:
    """Refuse a search without a tenant, and say which there are.

    Raises:
        ConfigError: Always.
    """
    names = [head.tenant for head in store.tenants(limit=_TENANTS_NAMED + 1)]
    shown = ", ".join(names[:_TENANTS_NAMED]) + (", ..." if len(names) > _TENANTS_NAMED else "")
    raise ConfigError("--tenant is not given", hint=f"the store has {shown}" if names else "the store is empty")


def _print_found(events: Sequence[FoundEvent]) -> None:
    """Print events: in a pipe with a column for each property, at a terminal with what fits beside the id."""
    rows = [_row(event) for event in events]
    if not sys.stdout.isatty():
        print_table(("seq", "occurred (UTC)", "action", "outcome", "actor", "targets", "id"), rows)
        return
    short = [
        (seq, occurred, f"{action} ({outcome}) by {actor}" + (f": {targets}" if targets else ""), event_id)
        for seq, occurred, action, outcome, actor, targets, event_id in rows
    ]
    print_table(("seq", "occurred (UTC)", "what", "id"), short, whole=("occurred (UTC)", "id"))


def _row(event: FoundEvent) -> tuple[object, ...]:
    occurred = event.occurred_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if event.occurred_at else None
    targets = ", ".join(f"{target['type']} {target['id']}" for target in event.targets)
    actor = event.actor_name or event.actor_id
    return event.seq, occurred, event.action or event.undecoded, event.outcome, actor, targets, event.event_id


def _found_to_dict(event: FoundEvent) -> dict[str, Any]:
    return asdict(event) | {"kind": event.kind.name.lower()}
