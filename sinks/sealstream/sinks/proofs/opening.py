"""A prover from the settings."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from sealstream.schemas.codec import SchemaById
from sealstream.schemas.errors import ConfigError
from sealstream.sinks.proofs.archive import Archive
from sealstream.sinks.proofs.exporting import Exporter
from sealstream.sinks.proofs.notary_reader import NotaryReader
from sealstream.sinks.proofs.proving import Prover
from sealstream.sinks.proofs.writer_schemas import WriterSchemas
from sealstream.sinks.store.declared import DeclaredSchemas
from sealstream.sinks.store.reader import AuditStore
from sealstream.worker.evidence_settings import key_history_of, map_secret_of, policy_of
from sealstream.worker.objects import open_objects
from sealstream.worker.settings import Settings

_WHERE_FROM: Final = "proofs are made where the notary's settings are"


@dataclass(frozen=True, slots=True)
class Provers:
    """What makes proofs and bundles.

    Arguments:
        store: The store's reader.
        prover: What makes proof files.
        exporter: What writes bundles.
    """

    store: AuditStore
    prover: Prover
    exporter: Exporter


@contextmanager
def open_prover(settings: Settings, *, schema_by_id: SchemaById | None = None) -> Generator[Provers]:
    """Give what makes proofs of an instance, until the end of the block.

    Arguments:
        settings: Where store, storage and the notary's database are, the map's secret, and the policy, if there is one,
            by which each proof is verified before it is given out.
        schema_by_id: Finds writers' schemas in a registry.

    Raises:
        ConfigError: A setting is missing or malformed.
        PolicyInvalid: The policy does not parse.
        RotationInvalid: The records of keys do not parse.
    """
    secret = map_secret_of(settings)
    policy = policy_of(settings) if settings.policy else None
    history = key_history_of(settings)
    notary = settings.notary_database.get_secret_value()
    if not notary or not settings.log_storage:
        missing = "SEALSTREAM_LOG_STORAGE" if notary else "SEALSTREAM_NOTARY_DATABASE"
        raise ConfigError(f"{missing} is not set", hint=_WHERE_FROM)
    timeout = settings.request_timeout_seconds
    url = settings.database_url()
    with AuditStore(url, timeout_seconds=timeout) as store, DeclaredSchemas(url, timeout_seconds=timeout) as declared:
        objects = open_objects(settings.log_storage, timeout_seconds=timeout)
        archive = Archive(NotaryReader(notary, timeout_seconds=timeout), objects)
        with Prover(
            store,
            archive,
            map_secret=secret,
            policy=policy,
            history=history,
            schemas=WriterSchemas(schema_by_id, declared=declared),
            usual_seconds=settings.round_age_seconds_max,
        ) as prover:
            yield Provers(store, prover, Exporter(prover, store))
