"""One run of an import, from its files to its servers: what the command line calls, and a program may."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import TopicNames
from sealstream.producers.importer.check import ChainReader, CheckResult, ImportCheck
from sealstream.producers.importer.events import EventMaker, JobKey
from sealstream.producers.importer.job import Identity, Job, Stage
from sealstream.producers.importer.landed import Landed, end_offsets, landed
from sealstream.producers.importer.mapping import Mapping, parse_mapping
from sealstream.producers.importer.opening import open_source
from sealstream.producers.importer.quarantine import Quarantine
from sealstream.producers.importer.record_log import SentRecords
from sealstream.producers.importer.records import RecordMaker
from sealstream.producers.importer.rows import Source
from sealstream.producers.importer.run import PUBLISH_SECONDS, Importer, OnBadRow, OnProgress, RunResult
from sealstream.producers.options import ProducerOptions
from sealstream.worker.failpoints import OFF, Failpoints

_LINGER_SECONDS: Final = 0.05
"""Nobody waits for a single row, and fewer requests cost less."""
_QUEUE_EVENTS: Final = 100_000
_QUEUE_BYTES: Final = 64 * 1024 * 1024
_DELIVERY_SECONDS: Final = 120.0
_CLOSE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where events go.

    Arguments:
        kafka: How to reach Kafka.
        instance: The instance's name.
        topics: Its topics.
        schema_id: The id of the events' schema in a registry, for a job that begins; one that is there goes on with its
            own. ``None`` for single-object encoding.
    """

    kafka: KafkaConnection
    instance: str
    topics: TopicNames
    schema_id: int | None = None


def quarantine_path(job: Path) -> Path:
    """Return where the bad rows of a job go: beside its file."""
    return job.with_name(f"{job.name}.quarantine.ndjson")


def mapping_of(job: Path) -> Mapping:
    """Return the mapping that a job was begun with: its file keeps the text.

    Raises:
        ConfigError: There is no such job, or another process has it open.
    """
    with Job(job) as opened:
        return parse_mapping(opened.mapping)


def run_import(
    *,
    source: str,
    mapping: Mapping,
    job: Path,
    destination: Destination,
    on_bad_row: OnBadRow = "stop",
    on_progress: OnProgress | None = None,
    failpoints: Failpoints = OFF,
) -> RunResult:
    """Begin an import, or go on with it where it was, and return what has come of it.

    Arguments:
        source: A PostgreSQL URL, or a file's path.
        mapping: How rows become events.
        job: The job's file; made if it is not there.
        destination: Where the events go.
        on_bad_row: ``stop`` at a row that is no valid event, or put it into ``quarantine`` and go on.
        on_progress: Is told how far it is.
        failpoints: Where a test makes it fail.

    Raises:
        ConfigError: The job began with another source, mapping or instance, or one of them is wrong.
        RowRefused: A row is bad, and the policy is to stop there.
        SourceUnreadable: The source cannot be read, or the log no longer says what a run before has written.
        DeliveryError: Kafka did not take an event in time; run again.
        Unreachable: Kafka or the source does not answer; run again.
        UnsafeState: A row was changed while the import was interrupted.
    """
    topic = destination.topics.events
    with ExitStack() as stack:
        rows: Source = stack.enter_context(open_source(source, mapping))
        ends = partial(end_offsets, destination.kafka, topic)
        found: Landed = {}
        if job.exists():
            opened = stack.enter_context(Job(job))
            opened.check(_identity(rows, mapping, destination, opened.identity.schema_id))
            if opened.progress.stage is not Stage.DONE:
                found = landed(
                    destination.kafka, topic, opened.progress.floors, JobKey(opened.name, opened.secret).prefix
                )
        else:
            EventMaker(mapping, rows, JobKey("none", b""))  # what is wrong with the mapping leaves no job behind
            identity = _identity(rows, mapping, destination, destination.schema_id)
            opened = stack.enter_context(Job.create(job, identity, mapping.text, dict(ends())))
        quarantine = stack.enter_context(Quarantine(quarantine_path(job), opened.progress.quarantine_bytes))
        maker = RecordMaker(
            mapping,
            rows,
            JobKey(opened.name, opened.secret),
            instance=destination.instance,
            schema_id=opened.identity.schema_id,
        )
        audit = stack.enter_context(SentRecords(_options(destination)))
        return Importer(
            job=opened,
            source=rows,
            maker=maker,
            audit=audit,
            found=found,
            quarantine=quarantine,
            on_bad_row=on_bad_row,
            mapping_digest=mapping.digest,
            end_offsets=ends,
            on_progress=on_progress,
            failpoints=failpoints,
        ).run()


def check_import(
    *,
    source: str,
    mapping: Mapping,
    job: Path,
    destination: Destination,
    reader: ChainReader,
    on_progress: OnProgress | None = None,
) -> CheckResult:
    """Read the source of a job that is done once more, and hold it against the chains.

    Arguments:
        source: As for :func:`run_import`.
        mapping: The very mapping that the job was run with.
        job: The job's file.
        destination: Instance and topics; Kafka is not asked.
        reader: The store.
        on_progress: Is told how far it is.

    Raises:
        ConfigError: The job is not done, or is one of another source, mapping or instance.
        SourceUnreadable, Unreachable, StoreError: The source or the store cannot be read.
    """
    with ExitStack() as stack:
        opened = stack.enter_context(Job(job))
        rows: Source = stack.enter_context(open_source(source, mapping))
        opened.check(_identity(rows, mapping, destination, opened.identity.schema_id))
        maker = EventMaker(mapping, rows, JobKey(opened.name, opened.secret))
        return ImportCheck(job=opened, source=rows, maker=maker, reader=reader, on_progress=on_progress).run()


def _identity(rows: Source, mapping: Mapping, destination: Destination, schema_id: int | None) -> Identity:
    """Return what a job is, with the schema's id that it began with: its rows make the same bytes throughout."""
    return Identity(
        destination.instance,
        destination.topics.events,
        rows.description,
        mapping.digest.hex(),
        schema_id=schema_id,
    )


def _options(destination: Destination) -> ProducerOptions:
    return ProducerOptions(
        kafka=destination.kafka,
        instance=destination.instance,
        topics=destination.topics,
        producer_id=None,
        schema_id=None,  # the records' bytes are final
        when_full="block",
        timeout_seconds=PUBLISH_SECONDS,
        queue_events_max=_QUEUE_EVENTS,
        queue_bytes_max=_QUEUE_BYTES,
        linger_seconds=_LINGER_SECONDS,
        compression="lz4",
        delivery_timeout_seconds=_DELIVERY_SECONDS,
        close_timeout_seconds=_CLOSE_SECONDS,
    )
