"""``sealstream import run | verify | status | presets``: an older trail, brought in completely and provably."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

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
from sealstream.deploy.cli.progress import progress_bar
from sealstream.schemas.errors import ConfigError

if TYPE_CHECKING:
    from sealstream.producers.importer.check import CheckResult, StoredEvent
    from sealstream.producers.importer.importing import Destination
    from sealstream.producers.importer.mapping import Mapping
    from sealstream.producers.importer.sample import Sample
    from sealstream.schemas.event import Control
    from sealstream.sinks.store.imports import ImportStore
    from sealstream.worker.settings import Settings

_PANEL: Final = "Bring in"
_group = typer.Typer(help="Bring an older audit trail in, and prove that all of it is there.", no_args_is_help=True)

_Job = Annotated[Path, typer.Argument(metavar="JOB", dir_okay=False, help="The job's file; made if it is not there.")]
_Source = Annotated[
    str | None,
    typer.Option(
        metavar="URL|FILE",
        help="A PostgreSQL URL, or a CSV or NDJSON file.",
        show_default="SEALSTREAM_IMPORT_SOURCE, which keeps a password out of sight",
    ),
]
_MappingFile = Annotated[
    Path | None, typer.Option("--mapping", metavar="FILE", dir_okay=False, help="How rows become events: TOML.")
]
_Preset = Annotated[str | None, typer.Option(metavar="NAME", help="A mapping that ships: sealstream import presets.")]
_Tenant = Annotated[
    str | None, typer.Option(metavar="TENANT", help='With --preset: whose rows they are; or a template, "{org_id}".')
]
_OnError = Annotated[
    Literal["stop", "quarantine"],
    typer.Option(help="At a row that is no valid event: stop before it, or put it into JOB.quarantine.ndjson."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_group, name="import", rich_help_panel=_PANEL)


@_group.command()
def run(
    job: _Job,
    *,
    source: _Source = None,
    mapping: _MappingFile = None,
    preset: _Preset = None,
    tenant: _Tenant = None,
    on_error: _OnError = "stop",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check every row, show some events, publish none.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Publish the rows of an older trail as events of the kind imported, between a beginning and an end in each chain.

    The same command again goes on where the last one ended, however it ended, with no row twice; the mapping need not
    be given again. Exit code 0 if all rows are in, 1 if a row was refused or quarantined, 2 if it could not be done.
    """
    from sealstream.deploy.cli.settings import kafka_settings
    from sealstream.producers.importer.importing import run_import
    from sealstream.producers.importer.points import Point
    from sealstream.producers.registry.configured import configured_schema_id
    from sealstream.worker.failpoints import Failpoints

    how = _mapping(job, mapping, preset, tenant)
    if dry_run:
        raise typer.Exit(_dry_run(_source_name(source), how, as_json=as_json))
    settings = kafka_settings("import")
    schema_id = (
        None if job.exists() else configured_schema_id(settings)
    )  # a job goes on with the one that it began with
    gc.set_threshold(100_000)  # rows make no cycles, and looking for some takes a tenth of the time
    with progress_bar("importing", "read") as on_progress:
        result = run_import(
            source=_source_name(source, settings),
            mapping=how,
            job=job,
            destination=_destination(settings, schema_id),
            on_bad_row=on_error,
            on_progress=on_progress,
            failpoints=Failpoints.from_environment(Point),
        )
    if as_json:
        print_json(result)
    else:
        print_line(
            f"{result.imported:,} of {result.rows:,} rows are in {result.chains:,} chains, as job {result.job}; "
            f"{result.seconds:.1f} s"
        )
        if result.found:
            print_line(f"{result.found:,} events were there already, from a run before")
        if result.quarantined:
            print_line(f"{result.quarantined:,} rows are in {job}.quarantine.ndjson", error=True)
        print_line(f"sealstream import verify {job} proves it, once the store has them")
    raise typer.Exit(ExitCode.FOUND if result.quarantined else ExitCode.OK)


@_group.command()
def verify(
    job: _Job,
    *,
    source: _Source = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Write what was found as JSON.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read the source once more, and hold every row against the store: it is there once, as it is now, and no other is.

    Count and root of the rows are compared with what the ends in the chains say. Exit code 0 if all of it holds, 1 if
    not, 2 if it could not be checked. That the store itself was not changed is what sealstream verify shows.
    """
    from sealstream.producers.importer.importing import check_import, mapping_of
    from sealstream.sinks.store.imports import ImportStore
    from sealstream.worker.settings import load_settings

    settings = load_settings()
    name, how = _source_name(source, settings), mapping_of(job)
    with ImportStore(settings.database_url()) as store, progress_bar("verifying", "read") as on_progress:
        result = check_import(
            source=name,
            mapping=how,
            job=job,
            destination=_destination(settings),
            reader=_Reader(store),
            on_progress=on_progress,
        )
    if report is not None:
        _write(report, result.to_dict())
    if as_json:
        print_json(result.to_dict())
    else:
        _print_check(result)
    raise typer.Exit(ExitCode.OK if result.is_complete else ExitCode.FOUND)


@_group.command()
def status(job: _Job, *, as_json: JsonOption = False) -> None:
    """Show how far a job is."""
    from sealstream.producers.importer.job import Job

    with Job(job) as opened:
        progress = opened.progress
        fields: dict[str, Any] = {
            "job": opened.name,
            "stage": progress.stage.value,
            "instance": opened.identity.instance,
            "source": opened.identity.source,
            "started": opened.started_at.isoformat(timespec="seconds"),
            "rows": progress.rows,
            "imported": progress.imported,
            "quarantined": progress.quarantined,
            "chains": opened.chain_count(),
        }
    if as_json:
        print_json(fields)
    else:
        print_fields((name, str(value)) for name, value in fields.items())


@_group.command()
def presets(
    *,
    show: Annotated[str | None, typer.Option(metavar="NAME", help="Print this one, to be changed and used.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the mappings that ship, or print one."""
    from sealstream.producers.importer.mapping import preset_names, preset_text

    if show is not None:
        typer.echo(json.dumps({"name": show, "text": preset_text(show)}) if as_json else preset_text(show), nl=as_json)
        return
    found = [(name, preset_text(name).partition("\n")[0].removeprefix("# ")) for name in preset_names()]
    if as_json:
        print_json([{"name": name, "for": what} for name, what in found])
    else:
        print_table(("preset", "for"), found)


class _Reader:
    """The store, as the check of an import asks it."""

    def __init__(self, store: ImportStore) -> None:
        from sealstream.producers.importer.check import StoredEvent
        from sealstream.schemas.codec import EventReader, schema

        self._store = store
        self._event = StoredEvent
        self._reader = EventReader(schema_by_id=lambda _: schema("AuditEvent"))  # what we wrote, whatever its id

    def records_of(self, events: Sequence[tuple[str, str]]) -> Iterable[StoredEvent]:
        """Return all records of events."""
        return (self._event(*record) for record in self._store.records_of(events))

    def control_of(self, tenant: str, event_id: str) -> tuple[int, Control] | None:
        """Return the one control event of an id."""
        found = self._store.controls_of(tenant, event_id)
        if len(found) != 1:
            return None
        seq, payload = found[0]
        control = self._reader.read(payload).control
        return None if control is None else (seq, control)

    def imported_ids(self, tenant: str, prefix: str, after: str, limit: int) -> Sequence[str]:
        """Return the ids of a chain's imported events."""
        return self._store.imported_ids(tenant, prefix, after, limit)


def _mapping(job: Path, file: Path | None, preset: str | None, tenant: str | None) -> Mapping:
    """Return the mapping that is given, or that the job began with."""
    from sealstream.producers.importer.importing import mapping_of
    from sealstream.producers.importer.mapping import needs_tenant, parse_mapping, preset_text

    if file is not None and preset is not None:
        raise ConfigError("a mapping and a preset are given", hint="give one of the two")
    if tenant is not None and preset is None:
        raise ConfigError("a tenant is given without a preset", hint="write it into the mapping: event.tenant")
    if preset is not None:
        text = preset_text(preset, tenant or "")
        if needs_tenant(text):
            raise ConfigError(f"the rows of {preset} do not say whose they are", hint="give --tenant")
        return parse_mapping(text)
    if file is None:
        if job.exists():
            return mapping_of(job)
        raise ConfigError("neither a mapping nor a preset is given", hint="sealstream inventory URL proposes one")
    try:
        return parse_mapping(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"mapping {file} cannot be read: {type(error).__name__}") from error


def _source_name(given: str | None, settings: Settings | None = None) -> str:
    from sealstream.worker.settings import load_settings

    name = given or (settings or load_settings()).import_source.get_secret_value()
    if not name:
        raise ConfigError("no source is given", hint="give --source, or SEALSTREAM_IMPORT_SOURCE")
    return name


def _destination(settings: Settings, schema_id: int | None = None) -> Destination:
    from sealstream.kafka.client import KafkaConnection
    from sealstream.producers.importer.importing import Destination

    kafka = settings.connection() if settings.kafka else KafkaConnection("")  # which verify does not ask
    return Destination(kafka=kafka, instance=settings.instance, topics=settings.topics(), schema_id=schema_id)


def _dry_run(name: str, how: Mapping, *, as_json: bool) -> ExitCode:
    from sealstream.producers.importer.opening import open_source
    from sealstream.producers.importer.sample import dry_run
    from sealstream.worker.settings import load_settings

    with open_source(name, how) as source, progress_bar("checking", "read") as on_progress:
        sample = dry_run(source, how, instance=load_settings().instance, on_progress=on_progress)
    if as_json:
        print_json(sample.to_dict())
    else:
        _print_sample(sample)
    return ExitCode.FOUND if sample.bad else ExitCode.OK


def _print_sample(sample: Sample) -> None:
    for event in sample.events:
        print_line(json.dumps(event, ensure_ascii=False, indent=2))
    if sample.bad_rows:
        print_table(("row", "field", "reason"), [(bad["key"], bad["field"], bad["reason"]) for bad in sample.bad_rows])
    bad = sample.bad.total()
    print_line(f"{sample.rows:,} rows of {sample.tenants:,} tenants; {bad:,} of them are no valid events")
    print_items(f"{count:,} times: {reason}" for reason, count in sample.bad.most_common())


def _print_check(result: CheckResult) -> None:
    if result.findings:
        rows = [(one.type, one.key, one.tenant, one.message) for one in result.findings]
        print_table(("finding", "row", "tenant", "what"), rows)
        if (more := result.counts.total() - len(result.findings)) > 0:
            print_line(f"and {more:,} more", error=True)
    print_line(
        f"job {result.job}: {result.imported:,} of {result.rows:,} rows of {result.source} are in "
        f"{result.chains:,} chains of {result.instance}"
        + ("" if result.is_complete else f", with {result.counts.total():,} findings")
    )
    if result.quarantined:
        print_line(f"{result.quarantined:,} rows are no valid events, and were left out")
    if result.behind:
        print_line(f"{result.behind:,} rows (of a file: bytes) came later, and are no part of the job")


def _write(path: Path, document: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
