"""``sealstream schemas register | check | show``: the schema of events in a registry, and its text in the chains."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sealstream.deploy.cli.output import (
    ExitCode,
    JsonOption,
    print_fields,
    print_items,
    print_json,
    print_line,
    print_table,
)
from sealstream.schemas.errors import ConfigError

if TYPE_CHECKING:
    from sealstream.producers.registry.declaring import Declaration
    from sealstream.producers.registry.registering import SubjectState
    from sealstream.producers.registry.subject import Subject
    from sealstream.schemas.control_body import SchemaText
    from sealstream.worker.settings import Settings

_PANEL: Final = "Set up"
_CHUNK: Final = 1_000
_group = typer.Typer(help="The schema of events: in a registry, and as text in the chains.", no_args_is_help=True)

_File = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FILE]",
        dir_okay=False,
        help="A later version of AuditEvent (Avro, JSON).",
        show_default="the one shipped",
    ),
]
_Tenants = Annotated[
    list[str] | None,
    typer.Option(
        "--tenant", metavar="TENANT", help="This chain; may be given again.", show_default="all chains of the store"
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_group, name="schemas", rich_help_panel=_PANEL)


@_group.command("register")
def register_(
    file: _File = None,
    *,
    tenant: _Tenants = None,
    chains: Annotated[
        bool, typer.Option("--chains/--no-chains", help="Put the text of every version into the chains.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Register a version of AuditEvent, and put the text of every version into the chains that lack it.

    A version begins with id, tenant, kind and salt for ever, and is compatible to all others both ways: FULL_TRANSITIVE
    is set. Safe to run again: for new tenants, and after a crash. Without SEALSTREAM_REGISTRY the text of the shipped
    schema is put into the chains, and nothing is registered. Exit code 1 if the schema is refused.
    """
    from sealstream.deploy.cli.settings import kafka_settings
    from sealstream.producers.registry.declaring import texts_of
    from sealstream.producers.registry.registering import inspect, register
    from sealstream.worker.settings import load_settings

    text = _text(file)
    settings = kafka_settings("schemas") if chains else load_settings()
    if chains:
        _require_chains(settings, tenant)
    if not settings.registry and (file is not None or not chains):
        raise ConfigError("no registry is configured", hint="set SEALSTREAM_REGISTRY")
    registered, texts = None, [_shipped()]
    if settings.registry:
        with _subject(settings) as subject:
            registered = register(subject, text)
            texts = texts_of(inspect(subject).versions)
    # If we die here, a version is registered and its text is not in the chains: check says so, the next run mends it.
    declared = _declare(settings, tenant, texts) if chains else 0
    if as_json:
        print_json({"registered": registered, "declared": declared, "texts": len(texts)})
        return
    if registered is not None:
        verb = "is registered" if registered.is_new else "was registered before"
        print_line(f"{registered.fingerprint} {verb} as {registered.subject}, with the id {registered.schema_id}")
    if chains:
        print_line(f"{declared:,} control events with a schema's text were put into chains that did not have it")


@_group.command()
def check(file: _File = None, *, tenant: _Tenants = None, as_json: JsonOption = False) -> None:
    """Say whether a version may be registered or, without FILE, whether what is registered and in the chains is sound.

    Nothing is changed. Exit code 0 if all is well, 1 if not, 2 if it could not be checked.
    """
    from sealstream.producers.registry.registering import inspect
    from sealstream.worker.settings import load_settings

    settings = load_settings()
    if file is not None:
        _check_file(settings, _text(file), as_json=as_json)
        return
    state, texts, problems = None, [_shipped()], list[str]()
    if settings.registry:
        from sealstream.producers.registry.declaring import texts_of

        with _subject(settings) as subject:
            state = inspect(subject)
        texts, problems = texts_of(state.versions), state.problems
    elif not settings.database.get_secret_value():
        raise ConfigError(
            "there is nothing to check", hint="give FILE, or set SEALSTREAM_REGISTRY or SEALSTREAM_DATABASE"
        )
    lacking = 0
    if settings.database.get_secret_value():
        missing = list(islice(_missing(settings, tenant, texts), _CHUNK))
        lacking = len(missing)
        problems += [f"chain {one.tenant} lacks the text of {_words(one.registry_id)}" for one in missing]
    if as_json:
        print_json({"subject": None if state is None else _plain(state), "lacking": lacking, "problems": problems})
    else:
        print_items(problems)
        print_line("nothing is wrong" if not problems else "sealstream schemas register mends what can be mended")
    raise typer.Exit(ExitCode.FOUND if problems else ExitCode.OK)


@_group.command()
def show(
    *,
    schema_id: Annotated[
        int | None, typer.Option("--id", metavar="ID", help="Print the text of this version.", min=0)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the schema that this release writes; with a registry configured, the versions that are registered."""
    from sealstream.producers.registry.registering import inspect
    from sealstream.schemas.codec import schema_fingerprint, schema_text
    from sealstream.worker.settings import load_settings

    settings = load_settings()
    if not settings.registry:
        if schema_id is not None:
            raise ConfigError("no registry is configured, and so no id", hint="set SEALSTREAM_REGISTRY")
        text, fingerprint = schema_text("AuditEvent"), schema_fingerprint("AuditEvent").hex()
        typer.echo(text, nl=False) if not as_json else print_json({"fingerprint": fingerprint, "text": text})
        return
    with _subject(settings) as subject:
        state = inspect(subject)
    if schema_id is not None:
        _print_version(state, schema_id, as_json=as_json)
        return
    if as_json:
        print_json(_plain(state))
        return
    print_fields([("subject", state.subject), ("compatibility", str(state.compatibility))])
    rows = [
        (one.version, one.schema_id, one.fingerprint, "yes" if one.is_shipped else "", one.problem)
        for one in state.versions
    ]
    print_table(("version", "id", "fingerprint", "this release's", "problem"), rows)


def _check_file(settings: Settings, text: str, *, as_json: bool) -> None:
    """Check a version that may be registered; raises ``SchemaRefused`` if it may not."""
    from sealstream.producers.registry.registering import fingerprint_of_text
    from sealstream.schemas.errors import SchemaRefused

    fingerprint, schema_id = fingerprint_of_text(text), None
    if settings.registry:
        with _subject(settings) as subject:
            schema_id = subject.find(text)
            if schema_id is None and subject.versions() and not subject.is_compatible(text):
                raise SchemaRefused(
                    f"the schema is not compatible to every version of {subject.name}",
                    hint="add fields at the end, each with a default",
                )
    if as_json:
        print_json({"fingerprint": fingerprint, "schema_id": schema_id, "problems": []})
        return
    registered = "" if schema_id is None else f"; it is registered with the id {schema_id}"
    asked = "" if settings.registry else "; no registry was asked"
    print_line(f"{fingerprint} may be a version of AuditEvent{registered}{asked}")


def _print_version(state: SubjectState, schema_id: int, *, as_json: bool) -> None:
    found = next((one for one in state.versions if one.schema_id == schema_id), None)
    if found is None:
        raise ConfigError(f"{state.subject} has no version with the id {schema_id}", hint="sealstream schemas show")
    print_json(found) if as_json else typer.echo(found.text)


def _plain(state: SubjectState) -> dict[str, object]:
    versions = [
        {
            "version": one.version,
            "schema_id": one.schema_id,
            "fingerprint": one.fingerprint,
            "is_shipped": one.is_shipped,
            "problem": one.problem or None,
        }
        for one in state.versions
    ]
    return {"name": state.subject, "compatibility": state.compatibility, "versions": versions}


def _words(registry_id: int | None) -> str:
    return "the shipped schema" if registry_id is None else f"schema {registry_id}"


def _text(file: Path | None) -> str:
    from sealstream.schemas.codec import schema_text

    if file is None:
        return schema_text("AuditEvent")
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"schema {file} cannot be read: {type(error).__name__}") from error


def _shipped() -> SchemaText:
    from sealstream.producers.registry.rules import compact
    from sealstream.schemas.codec import schema_text
    from sealstream.schemas.control_body import SchemaText

    return SchemaText(compact(schema_text("AuditEvent")))


@contextmanager
def _subject(settings: Settings) -> Generator[Subject]:
    from sealstream.kafka.registry import RETRIES_MAX
    from sealstream.producers.registry.configured import configured_subject
    from sealstream.worker.registry import configured_registry

    with closing(configured_registry(settings, retries_max=RETRIES_MAX)) as client:
        yield configured_subject(settings, client)


def _require_chains(settings: Settings, tenants: list[str] | None) -> None:
    """Refuse what would only fail after the registry was changed."""
    from sealstream.schemas.entry import is_tenant

    if settings.operators != "none":
        raise ConfigError(
            "the instance has operators, who must sign a schema's text, and this command signs nothing",
            hint="register it alone with --no-chains",
        )
    if not tenants and not settings.database.get_secret_value():
        raise ConfigError(
            "which chains there are is not known", hint="set SEALSTREAM_DATABASE, give --tenant, or --no-chains"
        )
    wrong = [tenant for tenant in tenants or () if not is_tenant(tenant)]
    if wrong:
        raise ConfigError(f"{wrong[0]!r} is no tenant", hint="use 1 to 64 of A-Za-z0-9_.-")


def _declare(settings: Settings, tenants: list[str] | None, texts: list[SchemaText]) -> int:
    from sealstream.producers.registry.declaring import publish

    missing = _missing(settings, tenants, texts)
    return publish(missing, kafka=settings.connection(), instance=settings.instance, topics=settings.topics())


def _missing(settings: Settings, tenants: list[str] | None, texts: list[SchemaText]) -> Iterator[Declaration]:
    """Return what the chains lack, as far as the store knows; without a store, all of it."""
    from sealstream.producers.registry.declaring import declarations

    if not settings.database.get_secret_value():
        yield from declarations(settings.instance, tenants or (), texts)
        return
    from sealstream.sinks.store.imports import ImportStore

    with ImportStore(settings.database_url(), timeout_seconds=settings.request_timeout_seconds) as store:
        wanted = declarations(settings.instance, tenants or _known_tenants(settings), texts)
        while chunk := list(islice(wanted, _CHUNK)):
            found = store.records_of([(one.tenant, one.event_id) for one in chunk])
            # By the digest: whoever may publish could have put other bytes under the id.
            there = {(tenant, event_id, digest) for tenant, event_id, _, _, digest in found}
            yield from (one for one in chunk if (one.tenant, one.event_id, one.digest) not in there)


def _known_tenants(settings: Settings) -> Iterable[str]:
    """Return the chains of the store, but those of no tenant."""
    from sealstream.schemas.entry import is_tenant
    from sealstream.sinks.store.reader import AuditStore

    with AuditStore(settings.database_url(), timeout_seconds=settings.request_timeout_seconds) as store:
        after = ""
        while heads := store.tenants(after=after):
            yield from (head.tenant for head in heads if is_tenant(head.tenant))
            after = heads[-1].tenant
